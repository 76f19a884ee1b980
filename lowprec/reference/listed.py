"""Formats that stop at their last values, wherever these lie: which neighbor a number becomes.

A number is looked at in the direction of its own sign, so that the rules are those of magnitudes: its
``far`` neighbor lies farther in that direction; its ``near`` one lies toward zero, or beyond it, where it is
negative.
"""

import math
from abc import abstractmethod
from bisect import bisect_left
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lowprec.formats import TabledFormat
from lowprec.formats.carriers import Carrier
from lowprec.modes import Overflow, Rounding
from lowprec.reference.elements import Element, stays_finite
from lowprec.reference.grid import Neighbors
from lowprec.reference.rounding import rounds_up


class Gap(NamedTuple):
    """What a magnitude that is no value lies between."""

    near: Fraction
    """The neighbor below; past zero it is negative."""
    far: Fraction
    """The neighbor above."""
    boundary: Fraction
    """Where the nearest modes turn from one to the other."""
    near_is_even: bool
    """Whether ``near`` is the one of the two that ties-to-even go to."""


def goes_far(
    magnitude: Fraction,
    gap: Gap,
    rounding: Rounding,
    *,
    negative: bool = False,
    random_bits: int = 32,
    word: int = 0,
) -> bool:
    """Whether a magnitude becomes the value above it.

    Args:
        magnitude: A non-negative rational number.
        gap: What it lies between.
        rounding: The mode.
        negative: Whether the number is below zero, which turns up and down around.
        random_bits: Bits of the word that a stochastic rounding looks at.
        word: The random word of 32 bits, for a stochastic rounding.

    Returns:
        True for ``gap.far``, False for ``gap.near``.

    Example:
        >>> across_zero = Gap(Fraction(-1), Fraction(3), Fraction(1), near_is_even=True)
        >>> [goes_far(Fraction(1), across_zero, Rounding(f"nearest_{tie}")) for tie in ("even", "away")]
        [False, True]
    """
    near, far, boundary, near_is_even = gap
    nearest = rounding.startswith("nearest")
    if nearest and magnitude != boundary:
        return magnitude > boundary
    if nearest and magnitude == 0:
        return rounding is not Rounding.NEAREST_DOWN
    if rounding.is_stochastic:
        part = (magnitude - near) / (far - near)
        neighbors = Neighbors(near, far, part, near_is_even)
        return rounds_up(neighbors, rounding, random_bits=random_bits, word=word)
    match rounding:
        case Rounding.NEAREST_EVEN:
            return not near_is_even
        case Rounding.NEAREST_ODD | Rounding.TO_ODD:
            return near_is_even
        case Rounding.NEAREST_UP | Rounding.UP:
            return not negative
        case Rounding.NEAREST_DOWN | Rounding.DOWN:
            return negative
        case Rounding.NEAREST_AWAY | Rounding.AWAY:
            return far >= -near  # of equal magnitudes both go to that of the number's own sign
        case _:  # nearest_zero and toward_zero
            return far <= -near


class Ended(Element):
    """A format that stops: past its last value, on either side, every mode gives that value."""

    def quantized(self, x: float, rounding: Rounding, random_bits: int, word: int) -> tuple[float, bool]:
        """The value that ``x`` over the scale becomes, and whether overflow fired."""
        if math.isnan(x):
            return math.nan, False
        if math.isinf(x):
            value = self.of_infinity(x)
            return self._signed(value, x), not math.isinf(value)
        number = Fraction(x) / self.scale
        low, high = self.ends
        if not low <= number <= high:
            below = number < low
            return self._signed(low if below else high, x), not stays_finite(rounding, below)
        gap = _remembered(self, x)
        if gap is None:
            return self._signed(number, x), False
        negative = number < 0
        far = goes_far(abs(number), gap, rounding, negative=negative, random_bits=random_bits, word=word)
        magnitude = gap.far if far else gap.near
        return self._signed(-magnitude if negative else magnitude, x), False

    @property
    @abstractmethod
    def ends(self) -> tuple[Fraction, Fraction]:
        """The least and the largest finite value."""

    @abstractmethod
    def gap(self, number: Fraction) -> Gap | None:
        """What a number that is not past the ends lies between; None if it is a value."""

    @abstractmethod
    def of_infinity(self, infinity: float) -> float:
        """What an infinity becomes."""

    @abstractmethod
    def code(self, value: float) -> int | None:
        """The code of a number, if it is a value."""

    @abstractmethod
    def value(self, code: int) -> float:
        """The value of a code that there is."""

    def _signed(self, value: Fraction | float, x: float) -> float:
        """The value; a zero has the sign of ``x``."""
        return self._unsigned(float(value) if value != 0 else math.copysign(0.0, x))


@lru_cache(maxsize=2**17)
def _remembered(element: Ended, x: float) -> Gap | None:
    """What a float over the scale lies between: the same in every mode, and for each word."""
    return element.gap(Fraction(x) / element.scale)


class Listed(Ended):
    """A format that lists its values, those of a carrier."""

    format: TabledFormat

    def __init__(self, format: TabledFormat, carrier: Carrier, scale: Fraction = Fraction(1)) -> None:
        super().__init__(format, scale, zero=0)
        self._values = tuple(format.values_in(carrier))
        self._boundaries = tuple(format.boundaries())
        self._codes = dict(zip(self._values, format.table.codes, strict=True))
        self._of_codes = {code: value for value, code in self._codes.items()}

    @property
    def ends(self) -> tuple[Fraction, Fraction]:
        """The first and the last value."""
        return self._values[0], self._values[-1]

    def gap(self, number: Fraction) -> Gap | None:
        """The two values around a number, the boundary there, and which of them is even."""
        above = bisect_left(self._values, number)
        if self._values[above] == number:
            return None
        low, high = self._values[above - 1 : above + 1]
        boundary = self._boundaries[above - 1]
        if number < 0:
            return Gap(-high, -low, -boundary, self.format.is_even(above))
        return Gap(low, high, boundary, self.format.is_even(above - 1))

    def of_infinity(self, infinity: float) -> float:
        """NaN, itself, or the nearer end."""
        table = self.format.table
        code = table.infinity if infinity > 0 else table.negative_infinity
        if self.format.infinity_is_nan:
            return math.nan
        if code is not None and self.format.overflow != Overflow.SATURATE_ALL:
            return infinity
        return float(self._values[-1] if infinity > 0 else self._values[0])

    def code(self, value: float) -> int | None:
        """The position of a value in the list."""
        table = self.format.table
        if math.isnan(value):
            return table.nan
        if math.isinf(value):
            return table.infinity if value > 0 else table.negative_infinity
        if value == 0 and math.copysign(1.0, value) < 0:
            return table.negative_zero
        return self._codes.get(Fraction(value))

    def value(self, code: int) -> float:
        """What the list has at a position, as a number of the carrier."""
        if code in self._of_codes:
            return float(self._of_codes[code])
        table = self.format.table
        special: dict[int | None, float] = {
            table.infinity: math.inf,
            table.negative_infinity: -math.inf,
            table.negative_zero: -0.0,
        }
        return special.get(code, math.nan)
