"""The twins of the loops that make scales of what is known about groups; see the CPU's scales.py."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.formats import FloatingPoint, GroupedFormat, Scaled
from lowprec.kernels.blocks import INTEGERS, QUOTIENTS, Family, decisions_of
from lowprec.kernels.cuda.memory import INSTRUCTIONS, load, store
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin, device, tuple_of
from lowprec.kernels.groups import BLOCK_COUNT, power_of_largest
from lowprec.kernels.numbers import describe_block, describe_quotients, describe_scale
from lowprec.kernels.quotients import affine_scale, scale_of, widened
from lowprec.kernels.scalar import ABOVE, COUNT, GENERAL, NEAREST_EVEN
from lowprec.kernels.scales import power_name
from lowprec.kernels.specialize import WIDTHS, specialized
from lowprec.modes import Rounding

power_of, quotient_of, wide_of, affine_of = power_of_largest, scale_of, widened, affine_scale
"""The decisions; a kernel has its own."""


@cache
def powers(carrier: str, family: Family) -> Twin:
    """From maxima to powers of two: in the carrier, as codes of e8m0, or, for quotients, in binary64."""
    wide = family.arithmetic != INTEGERS
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    result = np.uint64 if wide else np.uint8 if family.scaled else dtype

    def kernel(maxima, out, block, count):
        for j in range(cuda.grid(1), count, cuda.gridsize(1)):
            store(out, j, power_of(U(load(maxima, j, U)), block), result)

    family = family._replace(arithmetic=INTEGERS)
    decisions = decisions_of(carrier, NEAREST_EVEN, family, compiler=device, instructions=INSTRUCTIONS)
    parameters = types.int64, types.int64, tuple_of(np.int64, BLOCK_COUNT), types.int64
    own = {"power_of": decisions[power_name(family, wide=wide)]}
    return Twin(parameters, kernel, own, carrier, wide, *family)


@cache
def quotients(carrier: str, depth: int, ending: int) -> Twin:
    """From maxima to what they give divided by divisors in binary64; its result is binary64, too."""
    U = WIDTHS[carrier].unsigned

    def kernel(maxima, divisors, step, out, numbers, count):
        for j in range(cuda.grid(1), count, cuda.gridsize(1)):
            largest = wide_of(np.uint64(load(maxima, j, U)))
            divisor = np.uint64(load(divisors, j * step, np.uint64))
            store(out, j, quotient_of(largest, divisor, numbers), np.uint64)

    decisions = specialized(
        "float64", NEAREST_EVEN, depth, ending, source=carrier, exact=True, compiler=device,
        instructions=INSTRUCTIONS,
    )  # fmt: skip
    parameters = *(types.int64,) * 4, tuple_of(np.uint64, COUNT), types.int64
    own = {"wide_of": decisions["widened"], "quotient_of": decisions["scale_of"]}
    return Twin(parameters, kernel, own, carrier, depth, ending)


@cache
def affine(carrier: str) -> Twin:
    """From the largest magnitudes of either sign to scales in binary64 with zero points in their low bits."""
    U = WIDTHS[carrier].unsigned

    def kernel(positive, negative, out, numbers, integers, count):
        for j in range(cuda.grid(1), count, cuda.gridsize(1)):
            above, below = np.uint64(load(positive, j, U)), np.uint64(load(negative, j, U))
            store(out, j, affine_of(above, below, integers, numbers), np.uint64)

    decisions = specialized(
        "float64", NEAREST_EVEN, ABOVE, GENERAL, source=carrier, exact=True, compiler=device,
        instructions=INSTRUCTIONS,
    )  # fmt: skip
    numbers = tuple_of(np.uint64, COUNT)
    parameters = *(types.int64,) * 3, numbers, numbers, types.int64
    return Twin(parameters, kernel, {"affine_of": decisions["affine_scale"]}, carrier)


def _launch(twin: Twin, queue: Queue, count: int, *arguments: Any) -> None:
    """A thread for each group."""
    twin.launch(queue, -(-count // THREADS), (THREADS, 1), *arguments, count)


def make_powers(queue: Queue, maxima: int, out: int, carrier: str, format: GroupedFormat, count: int) -> None:
    """Powers of two from maxima: in the carrier, as codes of e8m0, or in binary64."""
    numbers, family = describe_block(format, Rounding.NEAREST_EVEN, 32, carrier)
    wide = isinstance(format, Scaled) and bool(format.levels)
    family = family._replace(arithmetic=QUOTIENTS if wide else INTEGERS)
    _launch(powers(carrier, family), queue, count, maxima, out, tuple(numbers))


def make_quotients(
    queue: Queue, maxima: int, divisors: int, step: int, out: int, carrier: str, format: FloatingPoint,
    count: int,
) -> None:  # fmt: skip
    """Maxima over one divisor, or with a step of 1 one for each, rounded to scales."""
    numbers, depth, ending = describe_scale(format)
    twin = quotients(carrier, depth, ending)
    _launch(twin, queue, count, maxima, divisors, step, out, tuple(numbers))


def make_affine(
    queue: Queue, positive: int, negative: int, out: int, carrier: str, format: Scaled, count: int
) -> None:
    """The scales and zero points of groups that reach from one maximum to the other."""
    numbers, _, _ = describe_scale(format.levels[0])
    integers, _ = describe_quotients(format, Rounding.NEAREST_EVEN, 32)
    _launch(affine(carrier), queue, count, positive, negative, out, tuple(numbers), tuple(integers))
