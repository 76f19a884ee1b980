"""What a group shares: which elements form one, and its step or scale by the rule of the format."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec import reference
from lowprec.formats import (
    BlockFloatingPoint,
    FloatingPoint,
    PerBlock,
    PerChannel,
    PerGroup,
    Scaled,
)
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding, ScaleRule
from lowprec.testing.decide import Noise, goes_far
from lowprec.testing.definition import ZERO, Definition, Floating, Uniform
from lowprec.testing.hard import Floats
from lowprec.testing.listed import definition_of, in_block

CARRIER_FORMATS = {
    "bfloat16": FloatingPoint(8, 7),
    "float16": FloatingPoint(5, 10),
    "float32": FloatingPoint(8, 23),
    "float64": FloatingPoint(11, 52),
}
"""The formats that have the numbers of the carriers as their values."""

_SCALE_FORMATS = {
    "float32": FloatingPoint(8, 23),
    "float16": FloatingPoint(5, 10),
    "bfloat16": FloatingPoint(8, 7),
    "e5m2": FloatingPoint(5, 2),
    "e4m3fn": FloatingPoint(4, 3, specials="fn"),
}


class Shared(NamedTuple):
    """What the elements of one group share."""

    definition: Definition
    """Of the quotient of an element by the scale."""
    scale: Fraction


def tiles(shape: tuple[int, ...], granularity: Any) -> tuple[int, ...]:
    """The size of a group along each dimension."""
    if isinstance(granularity, PerChannel):
        kept = granularity.axis if isinstance(granularity.axis, tuple) else (granularity.axis,)
        axes = {axis % len(shape) for axis in kept}
        return tuple(1 if d in axes else size for d, size in enumerate(shape))
    if isinstance(granularity, PerGroup):
        cut = int(granularity.axis) % len(shape)
        return tuple((granularity.size or size) if d == cut else 1 for d, size in enumerate(shape))
    if isinstance(granularity, PerBlock):
        return (*(1 for _ in shape[len(granularity.shape) :]), *granularity.shape)
    return shape


def groups_of(shape: tuple[int, ...], granularity: Any) -> npt.NDArray[np.int64]:
    """The number of the group of each element; groups are numbered in row-major order."""
    sizes = tiles(shape, granularity)
    grid = grid_of(shape, granularity)
    places = [index // size for index, size in zip(np.indices(shape), sizes, strict=True)]
    return np.ravel_multi_index(places, grid)


def grid_of(shape: tuple[int, ...], granularity: Any) -> tuple[int, ...]:
    """How many groups there are along each dimension."""
    pairs = zip(shape, tiles(shape, granularity), strict=True)
    return tuple(-(-size // tile) for size, tile in pairs)


def shared(x: Floats, format: BlockFloatingPoint | Scaled, carrier: str) -> list[Shared]:
    """What each group shares, by the rule."""
    groups = groups_of(x.shape, format.granularity)
    finite = np.where(np.isfinite(x), x, 0).astype(np.float64)
    members = [finite[groups == group] for group in range(int(groups.max()) + 1)]
    if isinstance(format, Scaled):
        return _scaled(x, format, members, carrier)
    return [_block(format, _largest(values), carrier) for values in members]


def _largest(values: npt.NDArray[np.float64]) -> Fraction:
    """The largest magnitude."""
    return Fraction(float(np.abs(values).max(initial=0)))


def _block(format: BlockFloatingPoint, largest: Fraction, carrier: str) -> Shared:
    """The integers over the exponent of the largest magnitude."""
    least = CARRIERS[carrier].lowest_exponent + format.word_bits - 2
    exponent = floor_log2(largest) if largest else least
    if format.exponent_bits is not None:
        top = 2 ** (format.exponent_bits - 1)
        exponent = max(min(exponent, top), 1 - top) if largest else 1 - top
    return Shared(in_block(format, max(exponent, least)), Fraction(1))


def _scaled(x: Floats, format: Scaled, members: list[Any], carrier: str) -> list[Shared]:
    """Elements over scales."""
    element = definition_of(format.element, carrier)
    _, top = element.ends or (ZERO, ZERO)
    if format.zero_point:
        return [_affine(format, values, top) for values in members]
    largest = [_largest(values) for values in members]
    if isinstance(format.scale, Scaled):
        outer = groups_of(grid_of(x.shape, format.granularity), format.scale.granularity).ravel().tolist()
        inner_definition, inner_top = _scale_format(format.scale.element)
        wanted = [magnitude / top for magnitude in largest]
        tops = [max(w for w, at in zip(wanted, outer, strict=True) if at == g) for g in range(max(outer) + 1)]
        over = [_rounded(w / inner_top, _scale_format(format.scale.scale)[0]) for w in tops]
        pairs = zip(wanted, outer, strict=True)
        return [Shared(element, _rounded(w / over[at], inner_definition) * over[at]) for w, at in pairs]
    if format.scale_rule is ScaleRule.MSE:
        found = np.asarray(reference.scales(x, format, carrier=carrier)).ravel().tolist()
        return [Shared(element, Fraction(scale)) for scale in found]
    return [Shared(element, scale_of(magnitude, format, top)) for magnitude in largest]


def scale_of(largest: Fraction, format: Scaled, top: Fraction) -> Fraction:
    """The scale of a group by the largest magnitude in it and the largest value of an element."""
    if format.scale_rule is ScaleRule.AMAX:
        return _rounded(largest / top, _scale_format(format.scale)[0])
    if format.scale == "e8m0":
        least, most = -127, 127
    else:
        definition, most_value = _scale_format(format.scale)
        least, most = floor_log2(definition.magnitude(1)), floor_log2(most_value)
    if not largest:
        return Fraction(2) ** least
    base = floor_log2(top)
    exponent = floor_log2(largest) - base
    if format.scale_rule is ScaleRule.CEIL:
        exponent = -floor_log2(1 / largest) - base
    elif format.scale_rule is ScaleRule.RCEIL:
        exponent = -floor_log2(top / largest)  # the least power of two at or above largest / top
    elif format.scale_rule is ScaleRule.EVEN:
        element = format.element
        digits = element.mantissa_bits if isinstance(element, FloatingPoint) else element.bits - 2
        unit = Fraction(2) ** (floor_log2(largest) - digits)
        exponent = floor_log2(math.floor(largest / unit + Fraction(1, 2)) * unit) - base
    return Fraction(2) ** min(max(exponent, least), most)


def _affine(format: Scaled, values: Any, top: Fraction) -> Shared:
    """The range, zero included, spread over all integers, one of which stands for zero."""
    low, high = (Fraction(float(end)) for end in (values.min(initial=0), values.max(initial=0)))
    scale = _rounded((high - low) / top, _scale_format(format.scale)[0])
    zero = min(round(-low / scale), int(top))
    definition = Uniform(format, Fraction(1), -zero, int(top) - zero, word=format.bits, zero=zero)
    return Shared(definition, scale)


def _scale_format(scale: Any) -> tuple[Floating, Fraction]:
    """The definition of a scale's format, and its largest value."""
    format = _SCALE_FORMATS[scale] if isinstance(scale, str) else scale
    definition = Floating(format)
    return definition, definition.magnitude(definition.largest_code)


def _rounded(wanted: Fraction, definition: Floating) -> Fraction:
    """A scale to nearest even; it saturates, and none is zero."""
    rounded = nearest_even(wanted, definition)
    return min(max(rounded, definition.magnitude(1)), definition.magnitude(definition.largest_code))


def nearest_even(magnitude: Fraction, definition: Definition) -> Fraction:
    """A magnitude rounded; past the largest value to one past it."""
    place = definition.place(magnitude, negative=False)
    if place.near == place.far:
        return place.near
    return place.far if goes_far(magnitude, place, Rounding.NEAREST_EVEN, Noise()) else place.near


def floor_log2(x: Fraction) -> int:
    """The exponent of the largest power of two that is at most a positive number."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length() + 1
    while Fraction(2) ** exponent > x:
        exponent -= 1
    return exponent
