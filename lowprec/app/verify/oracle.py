"""An independent definition of quantize, over whole arrays: a sorted table and one comparison a mode.

It shares no method with the kernels, which work on bit patterns, nor with ``lowprec.reference``, which
is rational arithmetic one element at a time. The neighbors of a magnitude come from the sorted list of
a floating-point format's values, continued one past the largest, or from ``floor`` where the values are
the multiples of a step; all else is float64 arithmetic that is exact:

- inputs have at most 24 significant bits and lie within float32's range;
- the distance of two neighbors is a power of two, so the fraction of the way between them is exact;
- a fraction times ``2**random_bits`` is a scaling, and is compared with an integer or a half;
- quotients by scales that are no powers of two decide as they are: scaling.py.

Hence float64 inputs of more bits are refused: those are held against the reference.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.app.verify import lists, scaling
from lowprec.errors import type_error, value_error
from lowprec.formats import (
    BlockFloatingPoint,
    Codebook,
    FixedPoint,
    FloatingPoint,
    Format,
    GroupedFormat,
    Posit,
    Scaled,
    TabledFormat,
)
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Overflow, Rounding, ScaleRule

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = int | npt.NDArray[np.uint32]

LARGEST_TABLE = 1 << 18
"""Floating-point formats of more magnitudes than this are refused."""

_R = Rounding


class _Neighbors(NamedTuple):
    """For every element: both neighbors of its magnitude, and where it lies between them."""

    lower: Float64
    upper: Float64
    fraction: Float64
    lower_is_odd: Bools


def quantize(
    x: Float64,
    format: Format,
    rounding: Rounding,
    *,
    random_bits: int = 32,
    words: Words = 0,
    carrier: str = "float32",
) -> Float64:
    """Round every element of ``x`` to a value of ``format``, by table.

    NaN stays NaN; infinities and finite values past the ends follow the format's overflow rule; -0, and
    a negative value that rounds to zero, give -0 where the format has a signed zero, else +0.

    Args:
        x: Values that float32 holds.
        format: A floating-point format of at most 2**18 magnitudes; any fixed, block or scaled one;
            one that lists its values; a posit of few bits.
        rounding: The mode.
        random_bits: Bits of a word that a stochastic mode looks at.
        words: One random word for all elements, or one for each.
        carrier: Whose smallest positive value is the least step of a block format, and which numbers
            logarithmic ones are.

    Returns:
        Values of the format, infinities and NaN, in the shape of ``x``.

    Raises:
        TypeError: If the format is of another kind.
        ValueError: If float32 does not hold ``x``, or the format has too many values.

    Example:
        >>> from lowprec.formats import parse
        >>> quantize(np.array([0.296875, -1e9]), parse("e4m3fn"), Rounding.NEAREST_EVEN).tolist()
        [0.3125, -448.0]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.array_equal(x.astype(np.float32).astype(np.float64), x, equal_nan=True):
            raise value_error("x", "be exact in float32", "values that are not", "Round them to float32.")
    if isinstance(format, GroupedFormat):
        return _by_groups(x, format, rounding, random_bits, words, carrier)
    if isinstance(format, TabledFormat | Posit):
        return lists.quantize(x, format, rounding, random_bits=random_bits, words=words, carrier=carrier)
    if not isinstance(format, FloatingPoint | FixedPoint):
        raise type_error("format", "be a FloatingPoint, FixedPoint or another that is known here", format)
    return _by_elements(x, format, rounding, random_bits, words)


def _by_elements(
    x: Float64, format: FloatingPoint | FixedPoint | Codebook, rounding: Rounding, random_bits: int,
    words: Words,
) -> Float64:  # fmt: skip
    """The order of the definition: neighbors, the choice between them, overflow, specials."""
    if isinstance(format, Codebook):  # whose boundaries have no more bits than a quotient shows
        return lists.quantize(x, format, rounding)
    magnitude = np.where(np.isfinite(x), np.abs(x), 0.0)
    if isinstance(format, FloatingPoint):
        near = _from_table(magnitude, format)
    else:
        near = _from_step(magnitude, float(format.step))
    negative = np.signbit(x)
    up = _goes_up(near, rounding, negative, random_bits, words)
    signed = np.where(negative, -1.0, 1.0) * np.where(up, near.upper, near.lower)
    result = _within_range(signed, negative, format, rounding)
    for infinity in (np.inf, -np.inf):
        result[x == infinity] = _of_infinity(infinity, format)
    result[np.isnan(x)] = np.nan
    return result if format.has_signed_zero else result + 0.0


@lru_cache(maxsize=4)
def _table(format: FloatingPoint) -> tuple[Float64, Bools]:
    """The magnitudes continued one past the largest, and which of their codes are odd."""
    if format.largest_code >= LARGEST_TABLE:
        raise value_error("format", f"have at most {LARGEST_TABLE} magnitudes", str(format))
    listed = [float(magnitude) for magnitude in format.magnitudes()]
    codes = np.arange(format.largest_code + 2)
    if not format.subnormals:  # the codes between zero and the smallest normal are left out
        codes = np.concatenate([codes[:1], codes[1 << format.mantissa_bits :]])
    beyond = format.magnitude(format.largest_code + 1)
    table = np.array([*listed, float(beyond) if beyond < 2**1024 else np.inf])
    return table, codes % 2 == 1


def _from_table(magnitude: Float64, format: FloatingPoint) -> _Neighbors:
    """Neighbors by search; all that is past the table's end counts as its last entry."""
    table, odd = _table(format)
    clipped = np.minimum(magnitude, table[-1])
    at = np.searchsorted(table, clipped, side="right") - 1
    lower = table[at]
    upper = table[np.minimum(at + 1, table.size - 1)]
    gap = np.where(upper > lower, upper - lower, 1.0)
    return _Neighbors(lower, upper, (clipped - lower) / gap, odd[at])


def _from_step(magnitude: Float64, step: float) -> _Neighbors:
    """Neighbors among the multiples of a step, without end."""
    steps = magnitude / step
    lower = np.floor(steps)
    return _Neighbors(lower * step, (lower + 1) * step, steps - lower, np.fmod(lower, 2) == 1)


def _goes_up(near: _Neighbors, rounding: Rounding, negative: Bools, random_bits: int, words: Words) -> Bools:
    """Whether each magnitude goes to its upper neighbor."""
    between = near.fraction > 0
    above, tie = near.fraction > 0.5, near.fraction == 0.5
    outcomes = float(1 << random_bits)
    drawn = np.floor(np.asarray(words, np.float64) / 2.0 ** (32 - random_bits))
    missing, covered = outcomes - drawn, near.fraction * outcomes
    decided: dict[Rounding, Callable[[], Any]] = {
        _R.NEAREST_EVEN: lambda: above | (tie & near.lower_is_odd),
        _R.NEAREST_AWAY: lambda: above | tie,
        _R.NEAREST_ZERO: lambda: above,
        _R.NEAREST_ODD: lambda: above | (tie & ~near.lower_is_odd),
        _R.NEAREST_UP: lambda: above | (tie & ~negative),
        _R.NEAREST_DOWN: lambda: above | (tie & negative),
        _R.TOWARD_ZERO: lambda: ~between,
        _R.AWAY: lambda: between,
        _R.UP: lambda: ~negative,
        _R.DOWN: lambda: negative,
        _R.TO_ODD: lambda: ~near.lower_is_odd,
        _R.STOCHASTIC: lambda: np.floor(covered) >= missing,
        _R.STOCHASTIC_MIDPOINT: lambda: covered >= missing - 0.5,
        _R.STOCHASTIC_NEAREST: lambda: np.rint(covered) >= missing,
        _R.STOCHASTIC_EQUAL: lambda: np.asarray(words, np.float64) >= 2.0**31,
    }
    return between & decided[rounding]()


def _within_range(
    signed: Float64, negative: Bools, format: FloatingPoint | FixedPoint,
    rounding: Rounding,
) -> Float64:  # fmt: skip
    """What becomes of rounded values past the ends."""
    if format.overflow is Overflow.UNBOUNDED:
        return signed
    if isinstance(format, FixedPoint) and format.overflow is Overflow.WRAP:
        return _wrapped(signed, format)
    inside = np.clip(signed, format.min, format.max)
    inside = np.where(signed == 0, signed, inside)  # clip may lose the sign of zero
    if format.overflow is not Overflow.INFINITY:
        return inside
    everywhere = np.ones_like(negative)
    turned_back = {
        _R.TOWARD_ZERO: everywhere,
        _R.TO_ODD: everywhere,
        _R.UP: negative,
        _R.DOWN: ~negative,
    }
    past = (signed != inside) & ~turned_back.get(rounding, ~everywhere)
    past &= inside != 0  # an unsigned format ends at zero
    return np.where(past, np.copysign(np.inf if format.has_infinity else np.nan, signed), inside)


def _wrapped(signed: Float64, format: FixedPoint) -> Float64:
    """Values modulo the number of words; ``fmod`` is exact at any size."""
    step = float(format.step)
    span = (format.max - format.min) + step
    rest = np.fmod(signed, span)
    rest = np.where(rest > format.max, rest - span, rest)
    return np.where(rest < format.min, rest + span, rest)


def _of_infinity(infinity: float, format: FloatingPoint | FixedPoint) -> float:
    """What an infinite input becomes."""
    end = format.max if infinity > 0 else format.min
    kept = format.has_infinity and end != 0
    if format.overflow is Overflow.WRAP:
        return np.nan
    if format.overflow is Overflow.UNBOUNDED:
        return infinity
    if format.overflow is Overflow.INFINITY:
        return infinity if kept else np.nan
    return infinity if format.overflow is Overflow.SATURATE and kept else end


def _by_groups(
    x: Float64, format: GroupedFormat, rounding: Rounding, random_bits: int, words: Words, carrier: str
) -> Float64:
    """Each group over its scale, as its element is rounded, and back."""
    if isinstance(format, Scaled) and format.scale_rule is ScaleRule.AMAX:
        return _by_quotients(x, format, rounding, random_bits, words, carrier)
    tiles = format.granularity.tiles(x.shape)
    largest = scaling.reduced(np.where(np.isfinite(x), np.abs(x), 0.0), tiles, np.maximum)
    exponent = scaling.spread(_exponents(largest, format, carrier), tiles, x.shape).astype(np.int64)
    scaled = np.ldexp(x, -exponent)
    rounded = np.ldexp(_by_elements(scaled, format.in_group(0), rounding, random_bits, words), exponent)
    if isinstance(format, BlockFloatingPoint):
        return rounded
    held = scaling.in_carrier(rounded, carrier)
    return held if format.has_signed_zero else held + 0.0


def _by_quotients(
    x: Float64, format: Scaled, rounding: Rounding, random_bits: int, words: Words, carrier: str
) -> Float64:
    """The quotients, rounded as the element is; all bits that this looks at are theirs."""
    scale, zero = scaling.scales(x, format)
    finite = np.isfinite(x)
    quotient = np.copysign(scaling.divided(np.where(finite, np.abs(x), 0.0), scale), x)
    quotient = np.where(finite, quotient, x)
    if format.zero_point:
        near = _from_step(np.where(finite, np.abs(quotient), 0.0), 1.0)
        negative = np.signbit(x)
        up = _goes_up(near, rounding, negative, random_bits, words)
        signed = np.where(negative, -1.0, 1.0) * np.where(up, near.upper, near.lower)
        signed = np.where(finite, signed, quotient)
        element = np.clip(signed, -zero, format.element.max - zero)  # a NaN stays
    else:
        element = _by_elements(quotient, format.element, rounding, random_bits, words)
    result = scaling.in_carrier(element * scale, carrier)
    return result if format.has_signed_zero else result + 0.0


def _exponents(largest: Float64, format: GroupedFormat, carrier: str) -> npt.NDArray[np.int64]:
    """The exponent of every group."""
    fraction, exponent = np.frexp(largest)  # 0.5 <= fraction < 1
    exponent = exponent.astype(np.int64) - 1
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    least = lowest if lowest is not None else -(1 << 20)
    if isinstance(format, BlockFloatingPoint):
        least = max(least, CARRIERS[carrier].lowest_exponent - 2 + format.word_bits)
    if isinstance(format, Scaled):
        top, emax = np.frexp(format.element.max)
        width = format.element.mantissa_bits if isinstance(format.element, FloatingPoint) else format.bits - 2
        doubled = {
            ScaleRule.FLOOR: np.zeros_like(largest, np.bool_),
            ScaleRule.CEIL: fraction > 0.5,
            ScaleRule.RCEIL: fraction > top,
            ScaleRule.EVEN: np.floor(fraction * 2.0 ** (width + 1) + 0.5) >= 2.0 ** (width + 1),
        }
        exponent = exponent - (int(emax) - 1) + doubled[ScaleRule(format.scale_rule)]
    exponent = np.where(largest > 0, exponent, least)
    return np.clip(exponent, least, highest if highest is not None else 1 << 20)
