"""Where a number lies between the values of a format continued past its largest one.

Every number is a ``fractions.Fraction`` or a Python integer; no float operation rounds, no bit
pattern is taken apart.
"""

import math
from fractions import Fraction
from typing import NamedTuple

from lowprec.formats import FixedPoint, FloatingPoint, Posit, TabledFormat
from lowprec.formats.format import power_of_two

ElementFormat = FloatingPoint | FixedPoint
"""The formats that go on past their largest value; a block format is one of them in each group."""

SingleFormat = FloatingPoint | FixedPoint | TabledFormat | Posit
"""The formats that round one element at a time."""


class Neighbors(NamedTuple):
    """Where a magnitude lies in a format continued past its largest value."""

    lower: Fraction
    """The largest value that is at most the magnitude."""
    upper: Fraction
    """The smallest value above it."""
    fraction: Fraction
    """The part of the way from lower to upper that the magnitude has covered, 0 if it is lower."""
    lower_is_even: bool
    """Whether the code of lower is even. That of upper is odd then, and the other way round; but zero
    and the smallest normal value, neighbors where there are no subnormals, are even both."""


def neighbors(magnitude: Fraction, format: ElementFormat) -> Neighbors:
    """The two neighbors of a magnitude in the format continued past its largest value.

    Args:
        magnitude: A non-negative rational number.
        format: A floating-point or fixed-point format; a floating-point one continues as if its
            exponent were unbounded, a fixed-point one with its step.

    Returns:
        The neighbors, and where the magnitude lies between them.

    Example:
        >>> lower, upper, fraction, lower_is_even = neighbors(Fraction(5, 4), FloatingPoint(2, 1))
        >>> float(lower), float(upper), float(fraction), lower_is_even
        (1.0, 1.5, 0.5, True)
    """
    if isinstance(format, FixedPoint):
        return _multiples(magnitude, power_of_two(-format.fraction_bits), 0)
    exponent = format.lowest_exponent
    if magnitude >= power_of_two(exponent):
        exponent = floor_log2(magnitude)
    elif not format.subnormals and format.mantissa_bits > 0:
        smallest = power_of_two(exponent)
        return Neighbors(Fraction(0), smallest, magnitude / smallest, True)
    # Each binade above the lowest one, which subnormals share, shifts the codes by all mantissas.
    first_code = (exponent - format.lowest_exponent) * 2**format.mantissa_bits
    return _multiples(magnitude, power_of_two(exponent - format.mantissa_bits), first_code)


def floor_log2(magnitude: Fraction) -> int:
    """The exponent of the largest power of two that a positive number reaches, exactly.

    Args:
        magnitude: A positive rational number.

    Returns:
        floor(log2(magnitude)).

    Example:
        >>> floor_log2(Fraction(8)), floor_log2(Fraction(7, 16))
        (3, -2)
    """
    # The lengths of numerator and denominator leave two candidates.
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if power_of_two(guess) <= magnitude else guess - 1


def _multiples(magnitude: Fraction, step: Fraction, first_code: int) -> Neighbors:
    """The neighbors among the multiples of a step, whose codes differ from them by ``first_code``."""
    steps = magnitude / step
    whole = math.floor(steps)
    return Neighbors(whole * step, (whole + 1) * step, steps - whole, (first_code + whole) % 2 == 0)
