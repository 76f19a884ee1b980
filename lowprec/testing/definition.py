"""What a format must do, worked out again from what it declares: its fields, or the values of its codes.

A definition shares no code with the formats' own methods, the reference or the kernels, so that it can
judge all three. It says which neighbors a number lies between; ``decide.py`` chooses between them.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from lowprec.formats import FixedPoint, FloatingPoint, Format
from lowprec.modes import Overflow, Specials

ZERO = Fraction(0)


class Place(NamedTuple):
    """Where a number lies, looked at in the direction of its own sign; zero counts as positive."""

    near: Fraction
    """The neighbor toward zero; across zero it is negative. The number itself, if it is a value."""
    far: Fraction
    """The neighbor in the direction of the sign; equal to ``near`` for a value."""
    side: int
    """Of the boundary between them, where the nearest modes turn: -1 before it, 0 at it, 1 beyond it."""
    near_is_even: bool
    """Whether ties to even go to ``near``."""


class Definition(ABC):
    """The values and codes of a format that rounds one element at a time."""

    format: Format
    signed_zero: bool
    ends: tuple[Fraction, Fraction] | None
    """The least and the largest value; None without ends."""

    @abstractmethod
    def place(self, magnitude: Fraction, *, negative: bool) -> Place:
        """Where the number of that magnitude and sign lies; past an end in the format continued beyond it."""

    @abstractmethod
    def value_of(self, code: int) -> float:
        """The value of a code: a number, -0.0, an infinity or NaN."""

    @abstractmethod
    def of_infinity(self, *, negative: bool) -> float:
        """What an infinite input becomes."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """The width of a code."""

    def some_codes(self, most: int = 1 << 12) -> range:
        """All codes, or, where there are more than so many, some at a regular distance, an odd one."""
        count = self.code_count
        return range(0, count, 1 if count <= most else (count // most) | 1)

    @property
    def code_count(self) -> int:
        """How many codes there are."""
        return 1 << self.bits

    def code_of(self, value: float) -> int | None:
        """The code that a value is encoded as, of a format of at most 16 bits."""
        return self.canonical.get(key(value))

    def past_end(self, value: Fraction, *, below: bool) -> float:
        """What a number past an end becomes in a mode that overflows: if not said otherwise, the end."""
        return self.end(below=below)

    def end(self, *, below: bool) -> float:
        """The least or the largest value."""
        low, high = self.ends or (Fraction(-1), Fraction(1))
        return float(low if below else high)

    def is_value(self, x: Fraction) -> bool:
        """Whether a number is a finite value."""
        if self.ends is None or self.ends[0] <= x <= self.ends[1]:
            place = self.place(abs(x), negative=x < 0)
            return place.near == place.far
        return False

    @cached_property
    def canonical(self) -> dict[float | str, int]:
        """The code that each value is encoded as: the first of those that mean it. NaN is ``"nan"``.

        Of wide formats it holds only values that have several codes.
        """
        found: dict[float | str, int] = {}
        for code in range(self.code_count if self.bits <= 16 else 0):
            found.setdefault(key(self.value_of(code)), code)
        return found

    def is_mirrored(self, *, parity: bool) -> bool:
        """Whether the negative of a value is one, boundaries too; with ``parity`` as even as it."""
        return self.ends is None or self.ends[0] == -self.ends[1]

    @cached_property
    def listed(self) -> list[Fraction]:
        """The finite values of a format of at most 16 bits, ascending, with one zero."""
        values = {Fraction(v) for v in map(self.value_of, range(self.code_count)) if math.isfinite(v)}
        low, high = self.ends or (min(values), max(values))
        return sorted(value for value in values if low <= value <= high)


def key(value: float) -> float | str:
    """A value as a dictionary's key: NaN equals itself there, -0.0 differs from 0.0."""
    if math.isnan(value):
        return "nan"
    return "-0" if value == 0 and math.copysign(1.0, value) < 0 else value


class Ladder(Definition):
    """Sign and magnitude, the magnitudes ascending with their codes, which go on past the largest."""

    first_code: int
    """The code of the smallest positive value."""
    largest_code: int

    @abstractmethod
    def magnitude(self, code: int) -> Fraction:
        """The value of a code without its sign, also past the largest."""

    @cached_property
    def _rungs(self) -> Sequence[Fraction] | None:
        """The magnitudes from ``first_code`` on, two past the largest, if these are not too many to list."""
        if self.largest_code > 1 << 16:
            return None
        return [self.magnitude(code) for code in range(self.first_code, self.largest_code + 3)]

    def code_below(self, magnitude: Fraction) -> int:
        """The code of the largest value that is at most the magnitude, or one past the largest code."""
        if self._rungs is not None:
            rung = bisect_right(self._rungs, magnitude) - 1
        else:
            codes = range(self.first_code, self.largest_code + 3)
            rung = bisect_right(codes, magnitude, key=self.magnitude) - 1
        return 0 if rung < 0 else min(rung + self.first_code, self.largest_code + 1)

    def place(self, magnitude: Fraction, *, negative: bool) -> Place:
        """Between two magnitudes, the boundary in the middle."""
        code = self.code_below(magnitude)
        near = self.magnitude(code) if code else ZERO
        even = code % 2 == 0
        if magnitude == near or code > self.largest_code:
            return Place(near, near, 0, even)
        far = self.magnitude(code + 1 if code else self.first_code)
        return Place(near, far, _sign(2 * magnitude - near - far), even)


class Floating(Ladder):
    """A FloatingPoint by its fields."""

    def __init__(self, format: FloatingPoint) -> None:
        self.format = format
        self.width, self.field = format.mantissa_bits, format.exponent_bits
        self.specials, self.rule = Specials(format.specials), format.overflow
        default = 2 ** (self.field - 1) - (0 if self.specials is Specials.FNUZ else 1)
        self.bias = default if format.bias is None else format.bias
        self.flushed = not format.subnormals and self.width > 0
        self.signed_zero = self.specials is not Specials.FNUZ
        fields = 2**self.field - (self.specials is Specials.IEEE)
        self.largest_code = fields * 2**self.width - 1 - (self.specials is Specials.FN)
        self.first_code = 2**self.width if self.flushed else 1
        largest = self.magnitude(self.largest_code)
        self.ends = -largest, largest

    @property
    def bits(self) -> int:
        """Sign, exponent, mantissa."""
        return 1 + self.field + self.width

    def magnitude(self, code: int) -> Fraction:
        """By exponent field and mantissa."""
        field, mantissa = divmod(code, 2**self.width)
        if field == 0:
            digits, exponent = (0 if self.flushed else mantissa), 1
        else:
            digits, exponent = 2**self.width + mantissa, field
        return digits * Fraction(2) ** (exponent - self.bias - self.width)

    def value_of(self, code: int) -> float:
        """By the table of specials."""
        negative, rest = divmod(code, 2 ** (self.bits - 1))
        if rest > self.largest_code:
            infinite = self.specials is Specials.IEEE and rest == self.largest_code + 1
            value = math.inf if infinite else math.nan
        elif self.specials is Specials.FNUZ and negative and rest == 0:
            value = math.nan
        else:
            value = float(self.magnitude(rest))
        return -value if negative else value

    @cached_property
    def canonical(self) -> dict[float | str, int]:
        """As for all, but that the NaN of an ieee format is the quiet one without a payload."""
        top, ieee = 2 ** (self.bits - 1), self.specials is Specials.IEEE
        nan = top if self.specials is Specials.FNUZ else self.largest_code + 1
        quiet = nan + 2 ** (self.width - 1) if ieee and self.width else nan
        return {**super().canonical, "nan": quiet, 0.0: 0, "-0": top}

    def of_infinity(self, *, negative: bool) -> float:
        """By the overflow rule."""
        if self.specials is Specials.IEEE and self.rule is not Overflow.SATURATE_ALL:
            return -math.inf if negative else math.inf
        return math.nan if self.rule is Overflow.INFINITY else self.end(below=negative)

    def past_end(self, value: Fraction, *, below: bool) -> float:
        """By the overflow rule."""
        return self.of_infinity(negative=below) if self.rule is Overflow.INFINITY else self.end(below=below)


class Uniform(Definition):
    """Integers from ``least`` to ``most`` times a step; None for no ends."""

    signed_zero = False

    def __init__(
        self,
        format: Format,
        step: Fraction,
        least: int | None,
        most: int | None,
        *,
        word: int = 0,
        zero: int = 0,
    ) -> None:
        self.format, self.step, self.least, self.most, self.word = format, step, least, most, word
        self.zero = zero
        """The code of zero, where that is not 0."""
        self.rule = format.overflow if isinstance(format, FixedPoint) else Overflow.SATURATE
        self.ends = None if least is None or most is None else (least * step, most * step)

    @property
    def bits(self) -> int:
        """The width of a word."""
        return self.word

    def place(self, magnitude: Fraction, *, negative: bool) -> Place:
        """Between two multiples of the step."""
        steps = magnitude / self.step
        whole = math.floor(steps)
        near = whole * self.step
        even = whole % 2 == 0
        if steps == whole:
            return Place(near, near, 0, even)
        return Place(near, near + self.step, _sign(2 * (steps - whole) - 1), even)

    def value_of(self, code: int) -> float:
        """Two's complement, or the integer itself where there is no negative one."""
        signed = self.zero == 0 and (self.least is None or self.least < 0)
        turned = signed and code >= 2 ** (self.bits - 1)
        return float((code - self.zero - (2**self.bits if turned else 0)) * self.step)

    def code_of(self, value: float) -> int:
        """The multiple of the step, in two's complement."""
        return (int(Fraction(value) / self.step) + self.zero) % 2**self.bits

    def of_infinity(self, *, negative: bool) -> float:
        """By the overflow rule."""
        if self.ends is None:
            return -math.inf if negative else math.inf
        return math.nan if self.rule is Overflow.WRAP else self.end(below=negative)

    def past_end(self, value: Fraction, *, below: bool) -> float:
        """The end, or what is left modulo all words."""
        if self.rule is not Overflow.WRAP or self.least is None:
            return self.end(below=below)
        count = int(value / self.step) - self.least
        return float((count % 2**self.bits + self.least) * self.step)


def fixed(format: FixedPoint) -> Uniform:
    """A FixedPoint by its fields."""
    step = Fraction(2) ** -format.fraction_bits
    if format.word_bits is None:
        return Uniform(format, step, None, None)
    half = 2 ** (format.word_bits - 1)
    least, most = (-half + format.symmetric, half - 1) if format.signed else (0, 2 * half - 1)
    return Uniform(format, step, least, most, word=format.word_bits)


def _sign(x: Fraction | int) -> int:
    """-1, 0 or 1."""
    return (x > 0) - (x < 0)
