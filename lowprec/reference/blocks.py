"""The groups of a format that has some: which elements share an exponent, and which exponent it is."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import BlockFloatingPoint, FloatingPoint, GroupedFormat, Scaled
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import power_of_two
from lowprec.modes import ScaleRule
from lowprec.reference.grid import floor_log2


class Partition(NamedTuple):
    """Which elements of a shape form a group; groups are numbered in row-major order."""

    shape: tuple[int, ...]
    """How many groups there are along each dimension."""
    of_elements: list[int]
    """The group of every element, in row-major order."""


def partition(shape: tuple[int, ...], format: GroupedFormat) -> Partition:
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
    x: npt.NDArray[np.floating[Any]], groups: Partition, format: GroupedFormat, carrier: Carrier
) -> list[int]:
    """The exponent of every group, from the largest of its finite magnitudes."""
    largest = [0.0] * math.prod(groups.shape)
    for group, value in zip(groups.of_elements, x.ravel().tolist(), strict=True):
        if math.isfinite(value):
            largest[group] = max(largest[group], abs(value))
    return [_exponent(magnitude, format, carrier) for magnitude in largest]


def _exponent(magnitude: float, format: GroupedFormat, carrier: Carrier) -> int:
    """The exponent of a group with that largest magnitude, 0 if it has no finite non-zero element."""
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    least = -math.inf if lowest is None else lowest
    if isinstance(format, BlockFloatingPoint):  # its step is at least the carrier's smallest value
        least = max(least, carrier.lowest_exponent + format.word_bits - 2)
    if magnitude == 0:
        return int(least)
    largest = Fraction(magnitude)
    exponent = _scale_exponent(largest, format) if isinstance(format, Scaled) else floor_log2(largest)
    return int(max(exponent if highest is None else min(exponent, highest), least))


def _scale_exponent(largest: Fraction, format: Scaled) -> int:
    """The exponent of the scale by the format's rule, in an unbounded scale format."""
    top = Fraction(format.element.max)
    emax = floor_log2(top)
    below = floor_log2(largest)
    if format.scale_rule is ScaleRule.CEIL:
        return (below if largest == power_of_two(below) else below + 1) - emax
    if format.scale_rule is ScaleRule.RCEIL:
        exponent = below - emax - 1
        while largest / power_of_two(exponent) > top:
            exponent += 1
        return exponent
    if format.scale_rule is ScaleRule.EVEN:
        element = format.element
        kept = element.mantissa_bits if isinstance(element, FloatingPoint) else element.bits - 2
        unit = power_of_two(below - kept)
        below = floor_log2(math.floor(largest / unit + Fraction(1, 2)) * unit)
    return below - emax
