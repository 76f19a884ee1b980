"""The groups of a block format: which elements share an exponent, and which exponent it is."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import BlockFloatingPoint, FixedPoint
from lowprec.formats.carriers import Carrier
from lowprec.reference.grid import floor_log2


class Partition(NamedTuple):
    """Which elements of a shape form a group; groups are numbered in row-major order."""

    shape: tuple[int, ...]
    """How many groups there are along each dimension."""
    of_elements: list[int]
    """The group of every element, in row-major order."""


def partition(shape: tuple[int, ...], format: BlockFloatingPoint) -> Partition:
    """The groups of an array of that shape."""
    tiles = format.granularity.tiles(shape)
    counts = tuple(math.ceil(size / tile) if size else 0 for size, tile in zip(shape, tiles, strict=True))
    numbers = np.arange(math.prod(counts)).reshape(counts)
    of_elements = [
        int(numbers[tuple(i // tile for i, tile in zip(index, tiles, strict=True))])
        for index in np.ndindex(shape)
    ]
    return Partition(counts, of_elements)


def exponents(
    x: npt.NDArray[np.floating[Any]], groups: Partition, format: BlockFloatingPoint, carrier: Carrier
) -> list[int]:
    """The exponent of every group, from the largest of its finite magnitudes."""
    largest = [0.0] * math.prod(groups.shape)
    for group, value in zip(groups.of_elements, x.ravel().tolist(), strict=True):
        if math.isfinite(value):
            largest[group] = max(largest[group], abs(value))
    return [_exponent(magnitude, format, carrier) for magnitude in largest]


def format_of_group(format: BlockFloatingPoint, exponent: int) -> FixedPoint:
    """The fixed-point format that a group with that exponent amounts to."""
    return FixedPoint(format.word_bits, format.word_bits - 2 - exponent, symmetric=True)


def _exponent(magnitude: float, format: BlockFloatingPoint, carrier: Carrier) -> int:
    """The exponent of a group with that largest magnitude, 0 if it has no finite non-zero element."""
    lowest, highest = format.lowest_block_exponent, format.highest_block_exponent
    # The step is at least the smallest positive value of the carrier.
    least = carrier.lowest_exponent + format.word_bits - 2
    if lowest is not None:
        least = max(least, lowest)
    if magnitude == 0:
        return least
    exponent = floor_log2(Fraction(magnitude))
    return max(exponent if highest is None else min(exponent, highest), least)
