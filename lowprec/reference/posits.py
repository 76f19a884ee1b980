"""Posits, as their inventors construct them: with each bit a new value between every two there are.

Without a bit there are zero and infinity. Between these comes 1; between a value and infinity the value times
2^(2^es); between zero and a value the value divided by that; between two powers of two that are not
neighbors the power halfway; else the mean. A code is the way to a value: 0 toward zero at each bit, or 1.
"""

import math
from fractions import Fraction

from lowprec.formats import Posit
from lowprec.formats.format import power_of_two
from lowprec.reference.grid import floor_log2
from lowprec.reference.listed import Ended, Gap

_Ends = tuple[Fraction, Fraction | None]
"""A value and the next one; None for infinity."""


class Tapered(Ended):
    """A posit: the boundary between two values is the one that the next bit would put there."""

    format: Posit

    def __init__(self, format: Posit) -> None:
        super().__init__(format, Fraction(1), zero=0)

    @property
    def ends(self) -> tuple[Fraction, Fraction]:
        """The largest value is that of all ones."""
        largest = self._magnitude(2 ** (self.format.bits - 1) - 1)
        return -largest, largest

    def gap(self, number: Fraction) -> Gap | None:
        """The way down to the two values around a number."""
        ends, code = self._way(abs(number))
        low, high = ends
        if low == abs(number) or high is None:
            return None
        # No number but zero becomes zero.
        boundary = _between(ends, self.format.exponent_bits) if low else Fraction(0)
        return Gap(low, high, boundary, code % 2 == 0)

    def of_infinity(self, infinity: float) -> float:
        """Not a real."""
        return math.nan

    def code(self, value: float) -> int | None:
        """The two's complement of the magnitude's code where the value is negative."""
        if math.isnan(value):
            return int(2 ** (self.format.bits - 1))
        if math.isinf(value) or (value == 0 and math.copysign(1.0, value) < 0):
            return None
        (low, _), code = self._way(abs(Fraction(value)))
        if low != abs(Fraction(value)):
            return None
        return code if value >= 0 else 2**self.format.bits - code

    def value(self, code: int) -> float:
        """By the way that the digits of the code go."""
        middle = 2 ** (self.format.bits - 1)
        if code == middle:
            return math.nan
        return float(self._magnitude(code)) if code < middle else -float(self._magnitude(2 * middle - code))

    def _magnitude(self, code: int) -> Fraction:
        """The value of a code without a sign."""
        ends: _Ends = (Fraction(0), None)
        for place in reversed(range(self.format.bits - 1)):
            between = _between(ends, self.format.exponent_bits)
            ends = (between, ends[1]) if code >> place & 1 else (ends[0], between)
        return ends[0]

    def _way(self, magnitude: Fraction) -> tuple[_Ends, int]:
        """The largest value that is at most the magnitude, the next one, and the code of the former."""
        ends: _Ends = (Fraction(0), None)
        code = 0
        for _ in range(self.format.bits - 1):
            between = _between(ends, self.format.exponent_bits)
            above = magnitude >= between
            ends = (between, ends[1]) if above else (ends[0], between)
            code = 2 * code + above
        return ends, code


def _between(ends: _Ends, exponent_bits: int) -> Fraction:
    """The value that one more bit puts between two."""
    low, high = ends
    times = power_of_two(2**exponent_bits)
    if high is None:
        return low * times if low else Fraction(1)
    if low == 0:
        return high / times
    if high > 2 * low:
        return power_of_two((floor_log2(low) + floor_log2(high)) // 2)
    return (low + high) / 2
