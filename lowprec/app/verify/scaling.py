"""The scales of scaled formats, and quotients by them, for the table oracle: whole arrays in float64.

Neither is decided by a rounded division. A float64 quotient is rounded *to odd*: an inexact one is the
neighbor whose last bit is 1. Whatever looks at no more than 51 of its bits sees the quotient itself. Its
remainder is exact: the quotient is cut into parts so short that a product with the divisor is a float64
number, and each difference has few bits, because its leading ones cancel.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import FloatingPoint, Scaled
from lowprec.formats.carriers import CARRIERS

Float64 = npt.NDArray[np.float64]

_PART_BITS = 11
"""Of a quotient's significand; divisors have at most 41 bits."""


class Scales(NamedTuple):
    """What belongs to each element."""

    scale: Float64
    """The product of all levels."""
    zero: Float64
    """The integer that stands for zero, 0 in formats that have none."""


def reduced(x: Float64, tiles: tuple[int, ...], function: np.ufunc) -> Float64:
    """One number for each group.

    Args:
        x: Numbers of any shape.
        tiles: The size of a group along each dimension.
        function: Such as ``np.maximum``.

    Returns:
        As many dimensions as x.

    Example:
        >>> reduced(np.array([1.0, 5, 2, 3, 7]), (2,), np.maximum)
        array([5., 3., 7.])
    """
    for axis, tile in enumerate(tiles):
        x = function.reduceat(x, np.arange(0, x.shape[axis], tile), axis=axis)
    return x


def spread(of_groups: npt.NDArray[np.generic], tiles: tuple[int, ...], shape: tuple[int, ...]) -> Float64:
    """The number of its group for each element.

    Args:
        of_groups: One number for each group.
        tiles: The size of a group along each dimension.
        shape: Of the result.

    Returns:
        An array of that shape.

    Example:
        >>> spread(np.array([5.0, 3, 7]), (2,), (5,))
        array([5., 5., 3., 3., 7.])
    """
    for axis, (tile, size) in enumerate(zip(tiles, shape, strict=True)):
        of_groups = np.repeat(of_groups, tile, axis=axis).take(np.arange(size), axis=axis)
    return of_groups  # type: ignore[return-value]


def divided(x: Float64, divisor: Float64) -> Float64:
    """Quotients of magnitudes, rounded to odd.

    Args:
        x: Not negative, at most 24 significant bits.
        divisor: Positive, at most 41 significant bits.

    Returns:
        In the shape of both.

    Example:
        >>> divided(np.array([1.0, 1.0]), np.array([2.0, 3.0])) * 2.0**54
        array([9.00719925e+15, 6.00479950e+15])
    """
    quotient = x / divisor
    rest, remainder = quotient, x
    while rest.any():
        part = (rest.view(np.int64) >> (53 - _PART_BITS) << (53 - _PART_BITS)).view(np.float64)
        remainder = remainder - part * divisor
        rest = rest - part
    bits = quotient.view(np.int64) - (remainder < 0)
    return np.where(remainder != 0, bits | 1, bits).view(np.float64)


def nearest(x: Float64, precision: int, lowest_exponent: int) -> Float64:
    """Numbers rounded to nearest even, as if exponents had no upper end.

    Args:
        x: Finite numbers.
        precision: How many significant bits are kept.
        lowest_exponent: The smallest positive result is 2 to this.

    Returns:
        Numbers of at most so many bits.

    Example:
        >>> nearest(np.array([1.0625, 1.1875, 0.01]), 4, -9)
        array([1.        , 1.25      , 0.00976562])
    """
    _, exponent = np.frexp(x)
    unit = np.ldexp(1.0, np.maximum(exponent - precision, lowest_exponent))
    return np.rint(x / unit) * unit


def in_carrier(x: Float64, carrier: str) -> Float64:
    """Numbers rounded once to a carrier; infinite past its range.

    Args:
        x: Numbers, infinities and NaN.
        carrier: Its name.

    Returns:
        Numbers that the carrier holds.

    Example:
        >>> in_carrier(np.array([1 / 3, 1e5, -1e-9]), "float16")
        array([ 0.33325195,         inf, -0.        ])
    """
    if carrier == "float64":
        return x
    finite, held = np.isfinite(x), CARRIERS[carrier]
    rounded = nearest(np.where(finite, x, 0.0), held.precision, held.lowest_exponent)
    past = np.abs(rounded) >= 2.0 ** (held.highest_exponent + 1)
    return np.where(finite, np.where(past, np.copysign(np.inf, rounded), rounded), x)


def scales(x: Float64, format: Scaled) -> Scales:
    """The scales of the rule amax for every element.

    Args:
        x: Values that float32 holds.
        format: A scaled format with that rule.

    Returns:
        Two arrays in the shape of x.

    Example:
        >>> from lowprec.formats import parse
        >>> scales(np.array([1.0, -254.0]), parse("int8")).scale
        array([2., 2.])
    """
    tiles = format.granularity.tiles(x.shape)
    finite = np.where(np.isfinite(x), x, 0.0)
    if format.zero_point:
        low = reduced(np.minimum(finite, 0.0), tiles, np.minimum)
        high = reduced(np.maximum(finite, 0.0), tiles, np.maximum)
        pairs = [_affine(*ends, format) for ends in zip(low.flat, high.flat, strict=True)]
        scale, zero = np.array(pairs, np.float64).reshape(-1, 2).T.reshape(2, *low.shape)
        return Scales(spread(scale, tiles, x.shape), spread(zero, tiles, x.shape))
    largest = reduced(np.abs(finite), tiles, np.maximum)
    divisor = np.full(largest.shape, format.element.max)
    product = np.ones(largest.shape)
    if isinstance(format.scale, Scaled):
        outer_tiles = format.scale.granularity.tiles(largest.shape)
        most = reduced(largest, outer_tiles, np.maximum)
        inner, outer_level = format.levels
        outer = _as_scale(divided(most, np.full(most.shape, format.element.max * inner.max)), outer_level)
        product = spread(outer, outer_tiles, largest.shape)
        divisor = divisor * product
    product = product * _as_scale(divided(largest, divisor), format.levels[0])
    return Scales(spread(product, tiles, x.shape), np.zeros(x.shape))


def _as_scale(quotient: Float64, level: FloatingPoint) -> Float64:
    """Quotients, rounded to odd, as positive values of a scale format."""
    least = level.lowest_exponent - level.mantissa_bits
    return np.clip(nearest(quotient, level.mantissa_bits + 1, least), 2.0**least, level.max)


def _affine(low: float, high: float, format: Scaled) -> tuple[float, float]:
    """The scale and the zero point of a range, whose width may have more bits than a float64 number."""
    largest = int(format.element.max)
    exact = (Fraction(high) - Fraction(low)) / largest
    quotient = np.array([float(exact)])
    bits = quotient.view(np.int64) - (exact < Fraction(float(quotient[0])))
    odd = (bits | (exact != Fraction(float(quotient[0])))).view(np.float64)
    scale = float(_as_scale(odd, format.levels[0])[0])
    below = -Fraction(low) / Fraction(scale)
    whole, part = divmod(below, 1)
    up = part > Fraction(1, 2) or (part == Fraction(1, 2) and whole % 2 == 1)
    return scale, float(min(int(whole) + up, largest))
