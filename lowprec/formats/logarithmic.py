"""Logarithmic numbers: a sign and the logarithm of the magnitude, in fixed point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from lowprec.errors import value_error
from lowprec.formats.carriers import CARRIERS, Carrier
from lowprec.formats.format import check_integer, power_of_two
from lowprec.formats.tabled import TabledFormat

_PLACES = 240
"""Binary places of powers of two; what float64 could tell from them has 53 and an exponent."""


@dataclass(frozen=True)
class Logarithmic(TabledFormat):
    """A sign, and log2 of the magnitude as a two's complement fixed-point number.

    NaN stays NaN and has a code. Infinities and magnitudes past the largest become the largest; there is
    no -0. The nearest modes round log2|x|, whose boundaries are irrational, so there are no ties, and a
    non-zero never becomes zero under them; the directed and stochastic modes go by value, and zero is a
    neighbor of the smallest magnitude.

    A value is the number of the carrier nearest to ±2^(k / 2^fraction_bits), so it depends on the carrier;
    the properties (``max``, ``values()``, …) give those of float64. The code of zero is the lowest
    logarithm under a positive sign, that of NaN the same under a negative one.

    Args:
        integer_bits: Bits of the logarithm before the binary point, its sign included: 1 to 9.
        fraction_bits: Bits behind it, 0 to 11; with the sign of the number at most 16 bits in all.

    Raises:
        TypeError: If a width is no integer.
        ValueError: If one is out of range, or both together are.

    Example:
        >>> Logarithmic(3, 0).values()[7:]
        array([0.   , 0.125, 0.25 , 0.5  , 1.   , 2.   , 4.   , 8.   ])
        >>> str(Logarithmic(4, 3)), Logarithmic(4, 3).bits
        ('log4f3', 8)

    Reference:
        Swartzlander and Alexopoulos, The sign/logarithm number system, 1975; Miyashita, Lee and Murmann,
        Convolutional neural networks using logarithmic data representation, 2016.
    """

    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        check_integer("integer_bits", self.integer_bits, 1, 9)
        check_integer("fraction_bits", self.fraction_bits, 0, 11)
        if not 2 <= self.integer_bits + self.fraction_bits <= 15:
            width = 1 + self.integer_bits + self.fraction_bits
            raise value_error("fraction_bits", "make 3 to 16 bits with the others", width, "Change a width.")

    @property
    def _largest(self) -> int:
        """The largest logarithm, in units of its last place; the least is the same with a minus."""
        return int(2 ** (self.integer_bits + self.fraction_bits - 1)) - 1

    def code_values(self) -> Sequence[float]:
        """By sign, then by the logarithm in two's complement."""
        positive = [float(value) for value in _magnitudes(self, CARRIERS["float64"])]
        middle = self._largest + 1  # of the list, and half of all codes of one sign
        half = [*positive[middle - 1 :], 0.0, *positive[: middle - 1]]
        return [*half, *(-value if value else math.nan for value in half)]

    def values_in(self, carrier: Carrier) -> Sequence[Fraction]:
        """The carrier's numbers nearest to the powers."""
        positive = _magnitudes(self, carrier)
        return [*(-value for value in reversed(positive)), Fraction(0), *positive]

    def boundaries(self) -> Sequence[Fraction]:
        """Powers of two with one more place; around zero zero itself, which leaves it to zero alone."""
        between = _boundaries(self)
        return [*(-value for value in reversed(between)), Fraction(0), Fraction(0), *between]

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks: normal numbers that tell all values apart, with a place to spare."""
        if self.fraction_bits + 2 > carrier.precision - 1:
            return f"{self.fraction_bits + 2} places, it has {carrier.precision - 1}"
        exponent = Fraction(self._largest, 2**self.fraction_bits)
        if not 1 - carrier.highest_exponent <= -exponent or exponent >= carrier.highest_exponent:
            return "its normal numbers do not reach from the smallest value to the largest"
        return None

    def __str__(self) -> str:
        """The name that parse reads back."""
        return f"log{self.integer_bits}f{self.fraction_bits}"


@lru_cache(maxsize=64)
def _magnitudes(format: Logarithmic, carrier: Carrier) -> tuple[Fraction, ...]:
    """The positive values, ascending, each rounded to nearest in a carrier."""
    steps = 2**format.fraction_bits
    octave = _octave(format.fraction_bits)
    place = _PLACES + 1 - carrier.precision
    # A power that is not a whole one is irrational: never halfway between two numbers.
    rounded = [(value + (1 << place - 1)) >> place for value in octave]
    found = []
    for k in range(-format._largest, format._largest + 1):
        whole, part = divmod(k, steps)
        found.append(rounded[part] * power_of_two(whole + 1 - carrier.precision))
    return tuple(found)


@lru_cache(maxsize=64)
def _boundaries(format: Logarithmic) -> tuple[Fraction, ...]:
    """Rationals that no number of a carrier separates from 2 to the odd multiples of half a last place."""
    halves = 2 ** (format.fraction_bits + 1)
    octave = _octave(format.fraction_bits + 1)
    found = []
    for k in range(-2 * format._largest + 1, 2 * format._largest, 2):
        whole, part = divmod(k, halves)
        found.append((2 * octave[part] + 1) * power_of_two(whole - _PLACES - 1))
    return tuple(found)


@lru_cache(maxsize=16)
def _octave(places: int) -> tuple[int, ...]:
    """Floor of 2^(_PLACES + k / 2^places) for each k below 2^places; the last 40 bits are not exact."""
    spare = 64
    one = 1 << _PLACES + spare
    powers = [one]
    root = 2 * one
    for _ in range(places):
        root = math.isqrt(root * one)  # the next root of 2
        # Those of an even number of these steps are there: the odd ones lie between.
        powers = [p for power in powers for p in (power, power * root // one)]
    return tuple(power >> spare for power in powers)
