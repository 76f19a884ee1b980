"""The loops that make scales of what is known about groups; one number for each group, in row-major order."""

from functools import cache
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.blocks import BLOCK, INTEGERS, Family, decisions_of
from lowprec.kernels.cpu import jit
from lowprec.kernels.groups import BLOCK_COUNT, OFFSET, scale_code, unit_field
from lowprec.kernels.memory import at
from lowprec.kernels.quotients import affine_scale, scale_of, widened
from lowprec.kernels.scalar import ABOVE, COUNT, GENERAL, NEAREST_EVEN, I, placed
from lowprec.kernels.specialize import WIDTHS, specialized


@cache
def powers(carrier: str, family: Family = BLOCK) -> Any:
    """From maxima to powers of two: in the carrier, as codes of e8m0, or, for quotients, in binary64."""
    wide = family.arithmetic != INTEGERS
    coded = family.scaled and not wide
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    result = np.uint64 if wide else np.uint8 if coded else dtype

    def loop(maxima_address, out_address, block_address, count):
        maxima, out = at(maxima_address, U), at(out_address, result)
        block = to_fixed_tuple(at(block_address, np.int64), BLOCK_COUNT)
        for j in range(count):
            field = unit_field(maxima[j], block)
            if wide:  # the code's bias is that of binary64
                out[j] = np.uint64(np.uint64(scale_code(field, block)) << np.uint64(52))
            elif coded:
                out[j] = scale_code(field, block)
            else:
                out[j] = placed(1, I(0), I(field - I(block[OFFSET])))

    family = family._replace(arithmetic=INTEGERS)
    return jit(4, loop, decisions_of(carrier, NEAREST_EVEN, family), carrier, wide, *family)


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
