"""One element: the choice between its neighbors, then what lies past the ends of the format."""

import math
from abc import ABC, abstractmethod
from fractions import Fraction
from functools import cache, lru_cache

from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint
from lowprec.formats.format import check_integer
from lowprec.modes import Overflow, Rounding
from lowprec.reference.grid import ElementFormat, Neighbors, SingleFormat, neighbors
from lowprec.reference.rounding import rounds_up


def checked_rounding(
    rounding: Rounding | str, random_bits: int | None, name: str, words: object
) -> tuple[Rounding, int]:
    """The mode and the number of random bits; words are given if and only if they are needed."""
    rounding = Rounding.parse(rounding, "rounding")
    if rounding.is_stochastic and words is None:
        remedy = "Pass a random word for each element."
        raise value_error(name, f"be given for {rounding} rounding", words, remedy)
    if words is not None and not rounding.is_stochastic:
        raise value_error(name, f"be None for {rounding} rounding", words)
    if random_bits is None:
        return rounding, 32
    if not rounding.takes_random_bits:
        raise value_error("random_bits", f"be None for {rounding} rounding", random_bits)
    check_integer("random_bits", random_bits, 1, 32)
    return rounding, random_bits


class Element(ABC):
    """A format that rounds one element at a time; over a scale it rounds the exact quotient."""

    def __init__(self, format: SingleFormat, scale: Fraction, zero: int) -> None:
        self.format = format
        self.scale = scale
        self.zero = zero
        """The integer that stands for zero: both ends lie that many steps of 1 lower."""

    @abstractmethod
    def quantized(self, x: float, rounding: Rounding, random_bits: int, word: int) -> tuple[float, bool]:
        """The value that ``x`` over the scale becomes, and whether overflow fired."""

    def rescaled(self, value: float, carrier: ElementFormat) -> float:
        """A value times the scale, rounded once to nearest even in a carrier."""
        if not math.isfinite(value):
            return value
        near = neighbors(Fraction(abs(value)) * self.scale, carrier)
        magnitude = near.upper if rounds_up(near, Rounding.NEAREST_EVEN) else near.lower
        return self._unsigned(_end_of(carrier).held(magnitude, math.copysign(1.0, value) < 0))

    def _unsigned(self, value: float) -> float:
        """The value; a zero without its sign where the format has none."""
        return value if value != 0 or self.format.has_signed_zero else 0.0


class Stepped(Element):
    """A floating-point or fixed-point format, which goes on past its largest value."""

    format: ElementFormat

    def __init__(self, format: ElementFormat, scale: Fraction = Fraction(1), zero: int = 0) -> None:
        super().__init__(format, scale, zero)
        # The magnitudes of the largest and of the most negative finite value.
        self._ends: tuple[Fraction, Fraction] | None = None
        if format.overflow is not Overflow.UNBOUNDED:
            self._ends = Fraction(format.max) - zero, zero - Fraction(format.min)

    def quantized(self, x: float, rounding: Rounding, random_bits: int, word: int) -> tuple[float, bool]:
        """The value that ``x`` over the scale becomes, and whether overflow fired."""
        if math.isnan(x):
            return math.nan, False
        negative = math.copysign(1.0, x) < 0
        if math.isinf(x):
            magnitude = self._infinite(negative)
            value, fired = (-magnitude if negative else magnitude), not math.isinf(magnitude)
        else:
            value, fired = self._chosen(_remembered(abs(x), self), negative, rounding, random_bits, word)
        return self._unsigned(value), fired

    def exactly(self, x: Fraction, rounding: Rounding, random_bits: int, word: int) -> float:
        """The value that a number over the scale becomes which need not be a float; not zero."""
        return self.decided(x, rounding, random_bits, word)[0]

    def decided(self, x: Fraction, rounding: Rounding, random_bits: int, word: int) -> tuple[float, bool]:
        """The same, and whether overflow fired."""
        near = neighbors(abs(x) / self.scale, self.format)
        value, fired = self._chosen(near, x < 0, rounding, random_bits, word)
        return self._unsigned(value), fired

    def _chosen(
        self, near: Neighbors, negative: bool, rounding: Rounding, random_bits: int, word: int
    ) -> tuple[float, bool]:
        """One of two neighbors, or what lies past the ends in its place; and whether overflow fired."""
        up = rounds_up(near, rounding, negative=negative, random_bits=random_bits, word=word)
        return self._held(near.upper if up else near.lower, negative, rounding)

    def held(self, magnitude: Fraction, negative: bool) -> float:
        """What a magnitude that was rounded to nearest becomes, with its sign."""
        return self._held(magnitude, negative, Rounding.NEAREST_EVEN)[0]

    def _held(self, magnitude: Fraction, negative: bool, rounding: Rounding) -> tuple[float, bool]:
        """The value of a rounded magnitude, and whether it lay past an end."""
        sign = -1.0 if negative else 1.0
        if self._ends is None or magnitude <= self._ends[negative]:
            return sign * float(magnitude), False
        end = self._ends[negative]
        if isinstance(self.format, FixedPoint) and self.format.overflow is Overflow.WRAP:
            return _wrapped(-magnitude if negative else magnitude, self.format), True
        if stays_finite(rounding, negative):
            return sign * float(end), False
        if self.format.overflow is Overflow.INFINITY and end > 0:  # an unsigned format ends at zero
            return sign * self._infinite(negative), True
        return sign * float(end), True

    def _infinite(self, negative: bool) -> float:
        """The magnitude that an infinity becomes."""
        overflow = self.format.overflow
        has_infinity = isinstance(self.format, FloatingPoint) and self.format.has_infinity
        has_infinity = has_infinity and not (negative and self.format.min == 0)
        if overflow is Overflow.UNBOUNDED or (has_infinity and overflow is not Overflow.SATURATE_ALL):
            return math.inf
        if self._ends is None or overflow in (Overflow.WRAP, Overflow.INFINITY):
            return math.nan
        return float(self._ends[negative])


@cache
def _end_of(carrier: ElementFormat) -> Stepped:
    """The numbers of a carrier, past whose largest one lies infinity."""
    return Stepped(carrier)


@lru_cache(maxsize=2**17)
def _remembered(magnitude: float, element: Stepped) -> Neighbors:
    """The neighbors of a float over the scale: the same in every mode, for both signs and each word."""
    return neighbors(Fraction(magnitude) / element.scale, element.format)


def _wrapped(value: Fraction, format: FixedPoint) -> float:
    """A rounded value modulo 2 to the word_bits steps, in the range of the format."""
    lowest = Fraction(format.min)
    return float((value - lowest) % (2**format.bits * format.step) + lowest)


def stays_finite(rounding: Rounding, negative: bool) -> bool:
    """Whether a mode gives the largest finite value for whatever lies past it on that side."""
    if rounding is Rounding.UP:
        return negative
    if rounding is Rounding.DOWN:
        return not negative
    return rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
