"""The loops that make scales of what is known about groups; one number for each group, in row-major order."""

from functools import cache
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.blocks import BLOCK, INTEGERS, Family, decisions_of
from lowprec.kernels.cpu import jit
from lowprec.kernels.groups import BLOCK_COUNT, power_of_largest
from lowprec.kernels.memory import at
from lowprec.kernels.quotients import affine_scale, scale_of, widened
from lowprec.kernels.scalar import ABOVE, COUNT, GENERAL, NEAREST_EVEN
from lowprec.kernels.specialize import WIDTHS, specialized

power_of = power_of_largest
"""What makes the power of two of a group; a loop has its own."""


@cache
def powers(carrier: str, family: Family = BLOCK) -> Any:
    """From maxima to powers of two: in the carrier, as codes of e8m0, or, for quotients, in binary64."""
    wide = family.arithmetic != INTEGERS
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    result = np.uint64 if wide else np.uint8 if family.scaled else dtype

    def loop(maxima_address, out_address, block_address, count):
        maxima, out = at(maxima_address, U), at(out_address, result)
        block = to_fixed_tuple(at(block_address, np.int64), BLOCK_COUNT)
        for j in range(count):
            out[j] = power_of(maxima[j], block)

    family = family._replace(arithmetic=INTEGERS)
    decisions = decisions_of(carrier, NEAREST_EVEN, family)
    decisions["power_of"] = decisions[power_name(family, wide=wide)]
    return jit(4, loop, decisions, carrier, wide, *family)


def power_name(family: Family, *, wide: bool) -> str:
    """What makes the power of two of a group."""
    if wide:
        return "wide_of_largest"
    return "code_of_largest" if family.scaled else "power_of_largest"


@cache
def quotients(carrier: str, depth: int, ending: int) -> Any:
    """From maxima to what they give divided by divisors in binary64; its result is binary64, too."""
    U = WIDTHS[carrier].unsigned

    def loop(maxima_address, divisors_address, step, out_address, numbers_address, first, last):
        maxima, divisors = at(maxima_address, U)[first:last], at(divisors_address, np.uint64)
        out = at(out_address, np.uint64)[first:last]
        numbers = to_fixed_tuple(at(numbers_address, np.uint64), COUNT)
        if step == 0:
            divisor = divisors[0]
            for j in range(maxima.size):
                out[j] = scale_of(widened(np.uint64(maxima[j])), divisor, numbers)
        else:
            own = divisors[first:last]
            for j in range(maxima.size):
                out[j] = scale_of(widened(np.uint64(maxima[j])), own[j], numbers)

    decisions = specialized("float64", NEAREST_EVEN, depth, ending, source=carrier, exact=True)
    return jit(7, loop, decisions, carrier, depth, ending)


@cache
def affine(carrier: str) -> Any:
    """From the largest magnitudes of either sign to scales in binary64 with zero points in their low bits."""
    U = WIDTHS[carrier].unsigned

    def loop(positive_address, negative_address, out_address, numbers_address, integers_address, count):
        positive, negative = at(positive_address, U), at(negative_address, U)
        out = at(out_address, np.uint64)
        numbers = to_fixed_tuple(at(numbers_address, np.uint64), COUNT)
        integers = to_fixed_tuple(at(integers_address, np.uint64), COUNT)
        for j in range(count):
            out[j] = affine_scale(np.uint64(positive[j]), np.uint64(negative[j]), integers, numbers)

    decisions = specialized("float64", NEAREST_EVEN, ABOVE, GENERAL, source=carrier, exact=True)
    return jit(6, loop, decisions, carrier)
