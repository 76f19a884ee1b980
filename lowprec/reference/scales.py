"""The scales of scaled formats: what follows from the elements of a group, and what is given."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats import FloatingPoint, Scaled
from lowprec.formats.format import power_of_two
from lowprec.modes import Rounding, ScaleRule
from lowprec.reference.blocks import FloatArray, Partition, largest_magnitudes, partition
from lowprec.reference.grid import floor_log2, neighbors
from lowprec.reference.rounding import rounds_up
from lowprec.reference.scalar import element_of

Scales = npt.NDArray[Any] | tuple[npt.NDArray[Any] | None, npt.NDArray[Any]]
"""One array; two where scales have scales or there are zero points."""


class GroupScales(NamedTuple):
    """What the elements of each group are divided by."""

    stored: Scales
    """As users see it: float64 arrays, of zero points int64."""
    products: list[Fraction]
    """The effective scale of each group, the exact product of all levels; 0 stands for NaN."""
    zeros: list[int]
    """The zero point of each group, 0 where the format has none."""


def scales_for(x: FloatArray, format: Scaled, groups: Partition, scale: Scales | None = None) -> GroupScales:
    """The scales that are given, or else follow from the elements."""
    if scale is not None:
        return given_scales(scale, "scale", x, format, groups)
    if format.zero_point:
        return _affine_scales(x, format, groups)
    if format.scale_rule is ScaleRule.MSE:
        return _searched_scales(x, format, groups)
    largest = [Fraction(magnitude) for magnitude in largest_magnitudes(x, groups)]
    if isinstance(format.scale, Scaled):
        wanted = [magnitude / Fraction(format.element.max) for magnitude in largest]
        outer = _outer_scales(wanted, format.scale, groups.shape)
        return _nested_scales(wanted, outer, format, groups.shape)
    return _collected(groups.shape, [_scale(magnitude, format) for magnitude in largest])


def given_scales(
    scale: object, name: str, x: FloatArray | None, format: Scaled, groups: Partition
) -> GroupScales:
    """The scales that the argument ``name`` gives; with ``x`` the first level may be left to it."""
    allow_nan = x is None  # codes may come with scales that are NaN
    if not (format.zero_point or isinstance(format.scale, Scaled)):
        values = _checked(scale, name, _level(format, 0), groups.shape, allow_nan=allow_nan)
        return _collected(groups.shape, values)
    if not isinstance(scale, tuple) or len(scale) != 2:
        raise type_error(name, f"be a pair for {format}", scale)
    if format.zero_point:
        values = _checked(scale[0], name, _level(format, 0), groups.shape, allow_nan=allow_nan)
        zeros = _checked_zeros(scale[1], name, format, groups.shape)
        return _collected(groups.shape, values, zeros)
    outer_shape = partition(groups.shape, _outer(format).granularity).shape
    outer = _checked(scale[1], name, _level(format, 1), outer_shape, allow_nan=allow_nan)
    if scale[0] is None and x is not None:
        largest = largest_magnitudes(x, groups)
        wanted = [Fraction(magnitude) / Fraction(format.element.max) for magnitude in largest]
        return _nested_scales(wanted, outer, format, groups.shape)
    values = _checked(scale[0], name, _level(format, 0), groups.shape, allow_nan=allow_nan)
    return _collected_levels(format, groups.shape, values, outer)


def nearest_scale(wanted: Fraction, level: FloatingPoint) -> Fraction:
    """A quotient rounded to nearest even in the format of a scale.

    It saturates at the largest finite value, and what rounds to zero becomes the least positive value.

    Args:
        wanted: A non-negative rational number.
        level: A floating-point format.

    Returns:
        A positive value of the format.

    Example:
        >>> e4m3fn = FloatingPoint(4, 3, specials="fn")
        >>> [float(nearest_scale(Fraction(x), e4m3fn)) for x in (0, 1.0625, 1e9)]
        [0.001953125, 1.0, 448.0]
    """
    near = neighbors(wanted, level)
    rounded = near.upper if rounds_up(near, Rounding.NEAREST_EVEN) else near.lower
    return min(max(rounded, Fraction(level.smallest_subnormal)), Fraction(level.max))


def _scale(largest: Fraction, format: Scaled) -> Fraction:
    """The scale of a group with that largest magnitude, by the format's rule."""
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    if format.scale_rule is ScaleRule.AMAX:
        return nearest_scale(largest / Fraction(format.element.max), format.levels[0])
    if largest == 0:
        return power_of_two(lowest)
    return power_of_two(max(min(_exponent(largest, format), highest), lowest))


def _exponent(largest: Fraction, format: Scaled) -> int:
    """The exponent of the scale by a rule that gives powers of two, in an unbounded scale format."""
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


def _searched_scales(x: FloatArray, format: Scaled, groups: Partition) -> GroupScales:
    """The scales with the least squared error, of three candidates for each group."""
    members: list[list[float]] = [[] for _ in range(math.prod(groups.shape))]
    for group, value in zip(groups.of_elements, x.ravel().tolist(), strict=True):
        if math.isfinite(value):
            members[group].append(value)
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    scales = []
    for values in members:
        largest = max((abs(value) for value in values), default=0.0)
        floor = _exponent(Fraction(largest), format) if largest else lowest - 1
        candidates = [power_of_two(max(min(floor + step, highest), lowest)) for step in (1, 0, -1)]
        scales.append(min(candidates, key=lambda scale: _squared_error(values, format, scale)))
    return _collected(groups.shape, scales)


def _squared_error(values: Sequence[float], format: Scaled, scale: Fraction) -> Fraction | float:
    """What rounding to nearest even over a scale loses; infinite where a value does not stay finite."""
    error = Fraction(0)
    for value in values:
        rounded, _ = element_of(format.element, scale).quantized(value, Rounding.NEAREST_EVEN, 32, 0)
        if not math.isfinite(rounded):
            return math.inf
        error += (Fraction(value) - Fraction(rounded) * scale) ** 2
    return error


def _outer_scales(wanted: Sequence[Fraction], scale: Scaled, grid: tuple[int, ...]) -> list[Fraction]:
    """The scale of every group of groups, which wants the largest scale of its own to be representable."""
    groups = partition(grid, scale.granularity)
    largest = [Fraction(0)] * math.prod(groups.shape)
    for group, value in zip(groups.of_elements, wanted, strict=True):
        largest[group] = max(largest[group], value)
    return [nearest_scale(value / Fraction(scale.element.max), scale.levels[0]) for value in largest]


def _nested_scales(
    wanted: Sequence[Fraction], outer: Sequence[Fraction], format: Scaled, grid: tuple[int, ...]
) -> GroupScales:  # fmt: skip
    """The scales of groups over those of groups of groups."""
    outer_groups = partition(grid, _outer(format).granularity).of_elements
    pairs = zip(wanted, outer_groups, strict=True)
    inner = [nearest_scale(value / outer[group], format.levels[0]) for value, group in pairs]
    return _collected_levels(format, grid, inner, outer)


def _affine_scales(x: FloatArray, format: Scaled, groups: Partition) -> GroupScales:
    """Scales and zero points: the range of every group, zero included, spread over all integers."""
    count = math.prod(groups.shape)
    lows, highs = [Fraction(0)] * count, [Fraction(0)] * count
    for group, value in zip(groups.of_elements, x.ravel().tolist(), strict=True):
        if math.isfinite(value):
            lows[group] = min(lows[group], Fraction(value))
            highs[group] = max(highs[group], Fraction(value))
    largest = _largest_integer(format)
    scales, zeros = [], []
    for low, high in zip(lows, highs, strict=True):
        scale = nearest_scale((high - low) / largest, format.levels[0])
        scales.append(scale)
        zeros.append(min(round(-low / scale), largest))  # round takes a tie to the even number
    return _collected(groups.shape, scales, zeros)


def _collected(
    grid: tuple[int, ...],
    values: Sequence[Fraction],
    zeros: Sequence[int] | None = None,
) -> GroupScales:
    """The scales of a format with one level."""
    stored = _array(values, grid)
    if zeros is None:
        return GroupScales(stored, [*values], [0] * len(values))
    return GroupScales((stored, np.array(zeros, np.int64).reshape(grid)), [*values], [*zeros])


def _collected_levels(
    format: Scaled, grid: tuple[int, ...], inner: Sequence[Fraction], outer: Sequence[Fraction]
) -> GroupScales:  # fmt: skip
    """The scales of a format with two levels."""
    groups = partition(grid, _outer(format).granularity)
    products = [value * outer[group] for value, group in zip(inner, groups.of_elements, strict=True)]
    return GroupScales((_array(inner, grid), _array(outer, groups.shape)), products, [0] * len(inner))


def _array(values: Sequence[Fraction], grid: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Scales as users see them; each is a float64 number."""
    return np.array([float(value) for value in values], np.float64).reshape(grid)


def _largest_integer(format: Scaled) -> int:
    """The largest code of a format with zero points."""
    return int(format.element.max)


def _outer(format: Scaled) -> Scaled:
    """The format whose values are the scales, where these have scales."""
    return cast(Scaled, format.scale)


def _level(format: Scaled, level: int) -> FloatingPoint | None:
    """The format of a level's scales; None for e8m0."""
    return format.levels[level] if format.levels else None


def _checked(
    scale: object, name: str, level: FloatingPoint | None, grid: tuple[int, ...], *, allow_nan: bool
) -> list[Fraction]:
    """The scales of one level, each a positive value of its format."""
    if not isinstance(scale, np.ndarray) or scale.dtype != np.float64:
        raise type_error(name, "be a float64 array", getattr(scale, "dtype", scale))
    if scale.shape != grid:
        raise value_error(name, f"have the shape {grid}", scale.shape)
    for value in scale.ravel().tolist():
        if not ((math.isnan(value) and allow_nan) or _is_scale(value, level)):
            raise value_error(name, f"be positive values of {level or 'e8m0'}", value)
    return [Fraction(0 if math.isnan(value) else value) for value in scale.ravel().tolist()]


def _is_scale(value: float, level: FloatingPoint | None) -> bool:
    """Whether a scale format has that positive value."""
    if level is not None:
        return value > 0 and level.contains(value)
    fraction, exponent = math.frexp(value)
    return fraction == 0.5 and -127 <= exponent - 1 <= 127


def _checked_zeros(zeros: object, name: str, format: Scaled, grid: tuple[int, ...]) -> list[int]:
    """The zero points, each a code of the element."""
    if not isinstance(zeros, np.ndarray) or zeros.dtype.kind not in "iu":
        raise type_error(name, "hold zero points as an array of integers", getattr(zeros, "dtype", zeros))
    if zeros.shape != grid:
        raise value_error(name, f"have zero points of the shape {grid}", zeros.shape)
    for zero in zeros.ravel().tolist():
        if not 0 <= zero <= _largest_integer(format):
            raise value_error(name, f"have zero points from 0 to {_largest_integer(format)}", zero)
    return [int(zero) for zero in zeros.ravel().tolist()]
