"""The table oracle for formats that stop at their last value: lists of values, and posits of few bits.

Neighbors come from the sorted list of all values, signs included; a nearest mode compares with the
boundary between them, which stands as the least float64 number that is not below it. The part of the way
that a stochastic mode asks for is compared in float64 arithmetic, and in rational arithmetic where that
is too close to tell.
"""

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.errors import value_error
from lowprec.formats import Posit, TabledFormat
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Overflow, Rounding

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = int | npt.NDArray[np.uint32]

LARGEST_POSIT = 17
"""Posits of more bits are refused."""

_R = Rounding


class Lists(NamedTuple):
    """All that decides, in ascending order."""

    values: Float64
    boundaries: Float64
    """Between each value and the next, the least float64 number that is not below."""
    exact: Bools
    """Whether that number is the boundary itself."""
    even: Bools
    """Whether ties to even go to a value."""


class _Between(NamedTuple):
    """For every element: what it lies between, in the direction of its sign."""

    x: Float64
    near: Float64
    far: Float64
    near_is_even: Bools
    negative: Bools


@lru_cache(maxsize=8)
def lists(format: TabledFormat | Posit, carrier: str) -> Lists:
    """The values of a format in a carrier, and the boundaries between them.

    Args:
        format: One that lists its values, or a posit.
        carrier: The name of a dtype.

    Returns:
        Four arrays.

    Raises:
        ValueError: If a posit has too many values.

    Example:
        >>> lists(Posit(3), "float32").boundaries
        array([-4.  , -0.25,  0.  ,  0.  ,  0.25,  4.  ])
    """
    if isinstance(format, TabledFormat):
        values = np.array([float(value) for value in format.values_in(CARRIERS[carrier])])
        boundaries = [_least_float(boundary) for boundary in format.boundaries()]
        even = np.array([format.is_even(index) for index in range(values.size)])
        return Lists(values, np.array([b for b, _ in boundaries]), np.array([e for _, e in boundaries]), even)
    if format.bits > LARGEST_POSIT:
        raise value_error("format", f"have at most {LARGEST_POSIT} bits", str(format))
    magnitudes = np.array([float(magnitude) for magnitude in format.magnitudes()])
    between = posit_boundaries(magnitudes[:-1], magnitudes[1:])
    return Lists(
        np.concatenate([-magnitudes[:0:-1], magnitudes]),
        np.concatenate([0.0 - between[::-1], between]),
        np.ones(2 * between.size, np.bool_),
        np.abs(np.arange(1 - magnitudes.size, magnitudes.size)) % 2 == 0,
    )


def posit_boundaries(lower: Float64, upper: Float64) -> Float64:
    """What one more bit puts between two posits: a power halfway, or the mean; but zero next to zero.

    Args:
        lower: Magnitudes.
        upper: The next larger ones.

    Returns:
        Exact, where float64 has it.

    Example:
        >>> posit_boundaries(np.array([0.0, 1.0, 1.0]), np.array([1.0, 16.0, 1.5])).tolist()
        [0.0, 4.0, 1.25]
    """
    exponents = np.frexp(lower)[1] + np.frexp(upper)[1] - 2
    apart = np.where(upper > 2 * lower, np.ldexp(1.0, exponents // 2), lower + (upper - lower) / 2)
    return np.where(lower == 0, 0.0, apart)


def _least_float(x: Fraction) -> tuple[float, bool]:
    """The least float64 number that is not below a rational one, and whether it is that."""
    nearest = float(x)
    if Fraction(nearest) < x:
        nearest = float(np.nextafter(nearest, np.inf))
    return nearest, Fraction(nearest) == x


def quantize(
    x: Float64,
    format: TabledFormat | Posit,
    rounding: Rounding,
    *,
    random_bits: int = 32,
    words: Words = 0,
    carrier: str = "float32",
) -> Float64:
    """Round every element of ``x`` to a value of ``format``, by its list.

    NaN stays NaN; what lies past an end becomes that; infinities, and the sign of zero, are as the format
    has them.

    Args:
        x: Float64 numbers.
        format: One that lists its values, or a posit of few bits.
        rounding: The mode.
        random_bits: Bits of a word that a stochastic mode looks at.
        words: One random word for all elements, or one for each.
        carrier: Which numbers logarithmic ones are.

    Returns:
        Values of the format, infinities and NaN, in the shape of ``x``.

    Raises:
        ValueError: If a posit has too many values.

    Example:
        >>> from lowprec.formats import Ternary
        >>> quantize(np.array([0.4, -7.0]), Ternary(), Rounding.AWAY)
        array([ 1., -1.])
    """
    listed = lists(format, carrier)
    inside = np.clip(np.where(np.isfinite(x), x, 0.0), listed.values[0], listed.values[-1])
    at = np.minimum(np.searchsorted(listed.values, inside, side="right") - 1, listed.values.size - 2)
    low, high = listed.values[at], listed.values[at + 1]
    negative = inside < 0
    near_is_even = np.where(negative, listed.even[at + 1], listed.even[at])
    place = _Between(
        inside, np.where(negative, high, low), np.where(negative, low, high), near_is_even, negative
    )
    if rounding.is_stochastic:
        far = _drawn(place, rounding, random_bits, words)
    elif rounding.startswith("nearest"):
        boundary = listed.boundaries[at]
        tie = (inside == boundary) & listed.exact[at]
        above = (inside >= boundary) & ~tie
        far = np.where(tie, _tie_goes_far(place, rounding), above != negative)
    else:
        far = _turned(place, rounding)
    result = np.where(far, place.far, place.near)
    result = np.where(inside == low, low, np.where(inside == high, high, result))
    for infinity in (np.inf, -np.inf):
        result[x == infinity] = _of_infinity(infinity, format, listed.values)
    result[np.isnan(x)] = np.nan
    keeps_sign = (result == 0) & np.signbit(x) & format.has_signed_zero
    return np.where(keeps_sign, -0.0, result)


def _tie_goes_far(place: _Between, rounding: Rounding) -> Bools:
    """Whether an element on a boundary becomes the value farther on; zero on one, the positive value."""
    if rounding is _R.NEAREST_EVEN:
        far = ~place.near_is_even
    elif rounding is _R.NEAREST_ODD:
        far = place.near_is_even
    else:
        same = {
            _R.NEAREST_AWAY: _R.AWAY,
            _R.NEAREST_ZERO: _R.TOWARD_ZERO,
            _R.NEAREST_UP: _R.UP,
            _R.NEAREST_DOWN: _R.DOWN,
        }
        far = _turned(place, same[rounding])
    return np.where(place.x == 0, rounding is not _R.NEAREST_DOWN, far)


def _turned(place: _Between, rounding: Rounding) -> Bools:
    """Whether a directed mode goes to the value farther on."""
    near, far = np.abs(place.near), np.abs(place.far)
    if rounding is _R.TOWARD_ZERO:
        return far <= near
    if rounding is _R.AWAY:
        return far >= near
    if rounding is _R.TO_ODD:
        return place.near_is_even
    return ~place.negative if rounding is _R.UP else place.negative


def _drawn(place: _Between, rounding: Rounding, random_bits: int, words: Words) -> Bools:
    """Whether the part of the way that an element has covered is what its word asks for."""
    each = np.broadcast_to(np.asarray(words, np.float64), place.x.shape)
    if rounding is _R.STOCHASTIC_EQUAL:
        return each >= 2.0**31
    count = 2.0**random_bits - np.floor(each / 2.0 ** (32 - random_bits))
    asked = (count - (0.0 if rounding is _R.STOCHASTIC else 0.5)) / 2.0**random_bits  # exact
    tie = np.fmod(count, 2) == 0 if rounding is _R.STOCHASTIC_NEAREST else np.ones(count.shape, np.bool_)
    way, gap = np.abs(place.x - place.near), np.abs(place.far - place.near)
    over = way - asked * gap
    sure = np.abs(over) > 2.0**-49 * (np.abs(place.x) + np.abs(place.near) + np.abs(place.far))
    goes: Bools = np.where(sure, over > 0, False)
    for index in zip(*np.nonzero(~sure), strict=True):
        x, near, far, part = (Fraction(float(of[index])) for of in (place.x, place.near, place.far, asked))
        exact = abs(x - near) - part * abs(far - near)
        goes[index] = exact > 0 or (exact == 0 and bool(tie[index]))
    return goes


def _of_infinity(infinity: float, format: TabledFormat | Posit, values: Float64) -> float:
    """What an infinite input becomes."""
    if isinstance(format, Posit) or format.infinity_is_nan:
        return np.nan
    if infinity in format.code_values() and format.overflow != Overflow.SATURATE_ALL:
        return infinity
    return float(values[-1] if infinity > 0 else values[0])
