"""The groups of a format that has some, and the exponents of block floating point."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import BlockFloatingPoint
from lowprec.formats.carriers import Carrier
from lowprec.formats.granularity import Granularity
from lowprec.reference.grid import floor_log2

FloatArray = npt.NDArray[np.floating[Any]]


class Partition(NamedTuple):
    """Which elements of a shape form a group; groups are numbered in row-major order."""

    shape: tuple[int, ...]
    """How many groups there are along each dimension."""
    of_elements: list[int]
    """The group of every element, in row-major order."""


def partition(shape: tuple[int, ...], granularity: Granularity) -> Partition:
    """The groups of an array of that shape."""
    tiles = granularity.tiles(shape)
    counts = tuple(math.ceil(size / tile) if size else 0 for size, tile in zip(shape, tiles, strict=True))
    numbers = np.arange(math.prod(counts)).reshape(counts)
    of_elements = [
        int(numbers[tuple(i // tile for i, tile in zip(index, tiles, strict=True))])
        for index in np.ndindex(shape)
    ]
    return Partition(counts, of_elements)


def exponents(x: FloatArray, groups: Partition, format: BlockFloatingPoint, carrier: Carrier) -> list[int]:
    """The exponent of every group, from the largest of its finite magnitudes."""
    return [_exponent(magnitude, format, carrier) for magnitude in largest_magnitudes(x, groups)]


def largest_magnitudes(x: FloatArray, groups: Partition) -> list[float]:
    """The largest finite magnitude of every group, 0 if it has no finite non-zero element."""
    largest = [0.0] * math.prod(groups.shape)
    for group, value in zip(groups.of_elements, x.ravel().tolist(), strict=True):
        if math.isfinite(value):
            largest[group] = max(largest[group], abs(value))
    return largest


def _exponent(magnitude: float, format: BlockFloatingPoint, carrier: Carrier) -> int:
    """The exponent of a group with that largest magnitude."""
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    # The step is at least the carrier's smallest value.
    least = max(-math.inf if lowest is None else lowest, carrier.lowest_exponent + format.word_bits - 2)
    if magnitude == 0:
        return int(least)
    exponent = floor_log2(Fraction(magnitude))
    return int(max(exponent if highest is None else min(exponent, highest), least))
