"""Definitions of formats that end at their last values: posits, logarithmic numbers, and listed ones."""

import math
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from lowprec.errors import type_error
from lowprec.formats import (
    P3109,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Logarithmic,
    Posit,
    Scaled,
    TabledFormat,
)
from lowprec.formats.carriers import CARRIERS, Carrier
from lowprec.modes import Overflow
from lowprec.testing.definition import ZERO, Definition, Floating, Ladder, Place, Uniform, fixed


class Standard(Ladder):
    """A P3109 by its fields: one zero, one NaN, and codes that ascend with their values."""

    signed_zero = False
    first_code = 1

    def __init__(self, format: P3109) -> None:
        self.format, self.word, self.rule = format, format.bits, format.overflow
        self.signed, self.infinities = format.signed, format.extended
        self.width = format.precision - 1
        default = 2 ** (self.word - self.signed - self.width - 1)
        self.middle = default if format.bias is None else format.bias
        self.nan = 2 ** (self.word - 1) if self.signed else 2**self.word - 1
        self.largest_code = self.nan - 1 - self.infinities
        largest = self.magnitude(self.largest_code)
        self.ends = (-largest if self.signed else ZERO), largest

    @property
    def bits(self) -> int:
        """The width of a word."""
        return self.word

    def magnitude(self, code: int) -> Fraction:
        """By exponent field and mantissa, both in one number."""
        field, mantissa = divmod(code, 2**self.width)
        digits = mantissa + 2**self.width if field else mantissa
        return digits * Fraction(2) ** (max(field, 1) - self.middle - self.width)

    def value_of(self, code: int) -> float:
        """NaN stands in the middle of all codes, or, unsigned, at their end; infinities before it."""
        if code == self.nan:
            return math.nan
        rest = code - self.nan if code > self.nan else code
        value = float(self.magnitude(rest)) if rest <= self.largest_code else math.inf
        return -value if code > self.nan else value

    def of_infinity(self, *, negative: bool) -> float:
        """By the overflow rule; there is no -infinity without a sign."""
        if self.rule is not Overflow.SATURATE_ALL and self.infinities and (self.signed or not negative):
            return -math.inf if negative else math.inf
        return math.nan if self.rule is Overflow.INFINITY else self.end(below=negative)

    def past_end(self, value: Fraction, *, below: bool) -> float:
        """By the overflow rule; without a sign all that is negative becomes zero."""
        if self.rule is not Overflow.INFINITY or (below and not self.signed):
            return self.end(below=below)
        return self.of_infinity(negative=below)


class Posits(Ladder):
    """A Posit by the bits of its codes."""

    signed_zero = False
    first_code = 1

    def __init__(self, format: Posit) -> None:
        self.format, self.word, self.es = format, format.word_bits, format.exponent_bits
        self.largest_code = 2 ** (self.word - 1) - 1
        largest = _posit(self.largest_code, self.word, self.es)
        self.ends = -largest, largest

    @property
    def bits(self) -> int:
        """The width of a word."""
        return self.word

    def magnitude(self, code: int) -> Fraction:
        """By its bits; past the largest any larger number."""
        if code > self.largest_code:
            return Fraction(2) ** (((self.word - 2) << self.es) + code - self.largest_code)
        return _posit(code, self.word, self.es)

    def place(self, magnitude: Fraction, *, negative: bool) -> Place:
        """The boundary is the posit of one more bit between two codes; none keeps a number at zero."""
        code = self.code_below(magnitude)
        near = self.magnitude(code) if code else ZERO
        if magnitude == near:
            return Place(near, near, 0, code % 2 == 0)
        if code >= self.largest_code:
            return Place(magnitude, magnitude, 0, False)
        boundary = self.boundary(code)
        side = (magnitude > boundary) - (magnitude < boundary)
        return Place(near, self.magnitude(code + 1), side, code % 2 == 0)

    def boundary(self, code: int) -> Fraction:
        """Where the nearest modes turn from a code to the next."""
        return _posit(2 * code + 1, self.word + 1, self.es) if code else ZERO

    def value_of(self, code: int) -> float:
        """The negative ones are two's complements."""
        half = 2 ** (self.word - 1)
        if code == half:
            return math.nan
        return -float(self.magnitude(2 * half - code)) if code > half else float(self.magnitude(code))

    def of_infinity(self, *, negative: bool) -> float:
        """NaR."""
        return math.nan


def _posit(code: int, word: int, es: int) -> Fraction:
    """The value of a positive code, one bit after the other."""
    if code == 0:
        return ZERO
    bits = [code >> place & 1 for place in reversed(range(word - 1))]
    run = next((at for at, bit in enumerate(bits) if bit != bits[0]), len(bits))
    regime = run - 1 if bits[0] else -run
    rest = bits[run + 1 :]
    exponent = sum(bit << (es - 1 - at) for at, bit in enumerate(rest[:es]))
    fraction = sum((Fraction(bit, 2 ** (at + 1)) for at, bit in enumerate(rest[es:])), Fraction(1))
    return fraction * Fraction(2) ** ((regime << es) + exponent)


class Listed(Definition):
    """A TabledFormat by the values of its codes."""

    def __init__(self, format: TabledFormat, carrier: Carrier) -> None:
        self.format = format
        self.entries = [float(value) for value in format.code_values()]
        self.carrier = carrier
        finite = {value for value in self.entries if math.isfinite(value)}
        self.signed_zero = "-0" in map(_key, self.entries)
        self.values = sorted(map(Fraction, finite))
        self.ends = self.values[0], self.values[-1]
        own = type(format)
        even: Callable[[int], bool] = lambda index: index % 2 == 0  # noqa: E731
        self.is_even = even if own.is_even is TabledFormat.is_even else format.is_even
        self.boundaries = None if own.boundaries is TabledFormat.boundaries else list(format.boundaries())

    @property
    def bits(self) -> int:
        """As many as count the codes."""
        return max(1, (len(self.entries) - 1).bit_length())

    @property
    def code_count(self) -> int:
        """As many as are listed."""
        return len(self.entries)

    def value_of(self, code: int) -> float:
        """As listed."""
        return self.entries[code]

    def of_infinity(self, *, negative: bool) -> float:
        """Itself where it is listed, else the end; NaN if the format says so."""
        infinity = -math.inf if negative else math.inf
        if self.format.infinity_is_nan:  # type: ignore[attr-defined]
            return math.nan
        if infinity in self.entries and self.format.overflow != Overflow.SATURATE_ALL:  # type: ignore[attr-defined]
            return infinity
        return self.end(below=negative)

    def is_mirrored(self, *, parity: bool) -> bool:
        """By the list, the format's own boundaries, and its own parity."""
        count, bounds = len(self.values), self.boundaries or []
        return (
            self.values == [-value for value in reversed(self.values)]
            and bounds == [-bound for bound in reversed(bounds)]
            and not (parity and any(self.is_even(at) != self.is_even(count - 1 - at) for at in range(count)))
        )

    def place(self, magnitude: Fraction, *, negative: bool) -> Place:
        """Between two entries; past the ends a value that lies there."""
        x = -magnitude if negative else magnitude
        at = bisect_right(self.values, x) - 1
        if at < 0 or (at == len(self.values) - 1 and x != self.values[at]):
            return Place(magnitude, magnitude, 0, False)
        low = self.values[at]
        if x == low:
            return Place(magnitude, magnitude, 0, self.is_even(at))
        high, side = self.values[at + 1], self.side(x, at)
        if negative:
            return Place(-high, -low, -side, self.is_even(at + 1))
        return Place(low, high, side, self.is_even(at))

    def side(self, x: Fraction, at: int) -> int:
        """Of the boundary between two values, on which side a number lies."""
        middle = (self.values[at] + self.values[at + 1]) / 2
        boundary = middle if self.boundaries is None else self.boundaries[at]
        return (x > boundary) - (x < boundary)


class Logarithms(Listed):
    """A Logarithmic: its boundaries are powers of two with one more place, decided in integers."""

    def __init__(self, format: Logarithmic, carrier: Carrier) -> None:
        self.format, self.carrier, self.signed_zero = format, carrier, False
        self.steps = 2**format.fraction_bits
        self.largest = self.steps * 2 ** (format.integer_bits - 1) - 1
        self.logarithms = range(-self.largest, self.largest + 1)
        self.powers = [_power(k, self.steps, carrier.precision) for k in self.logarithms]
        self.values = [*(-value for value in reversed(self.powers)), ZERO, *self.powers]
        self.ends = self.values[0], self.values[-1]
        self.is_even = lambda index: index % 2 == 0
        middle = self.largest + 1
        half = [*self.powers[middle - 1 :], None, *self.powers[: middle - 1]]
        positive = [0.0 if value is None else float(value) for value in half]
        self.entries = [*positive, *(-value if value else math.nan for value in positive)]

    def is_mirrored(self, *, parity: bool) -> bool:
        """Every value has its negative."""
        return True

    def of_infinity(self, *, negative: bool) -> float:
        """The end."""
        return self.end(below=negative)

    def side(self, x: Fraction, at: int) -> int:
        """X to a whole power against a power of two: integers, no logarithm."""
        middle = len(self.powers)  # the index of zero
        if at in (middle - 1, middle):
            return 1 if x > 0 else -1
        k = at - middle - 1 if x > 0 else middle - 2 - at  # of the smaller magnitude of the two
        twice = 2 * self.logarithms[k] + 1
        past = abs(x) ** (2 * self.steps) > Fraction(2) ** twice
        return (1 if past else -1) * (1 if x > 0 else -1)


@lru_cache(maxsize=1 << 16)
def _power(k: int, steps: int, precision: int) -> Fraction:
    """2 to the k / steps, rounded to so many bits: the integer whose neighborhood the power lies in."""
    whole, part = divmod(k, steps)
    unit = Fraction(2) ** (whole + 1 - precision)
    if part == 0:
        return 2 ** (precision - 1) * unit
    # The largest n with (n - 1/2)^steps < 2^(part + steps (precision - 1)), by bisection.
    target = 2 ** (part + steps * precision)
    low, high = 2 ** (precision - 1), 2**precision
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if (2 * middle - 1) ** steps < target else (low, middle)
    return low * unit


@lru_cache(maxsize=64)
def definition_of(format: Any, carrier: str = "float64") -> Definition:
    """The definition of a format that rounds one element at a time, as tensors of a carrier hold it.

    Args:
        format: A FloatingPoint, FixedPoint, Posit or TabledFormat; of a format with groups that of a group
            whose scale or step is that of exponent 0.
        carrier: A carrier's name, which matters for logarithmic numbers only.

    Returns:
        A definition.

    Raises:
        TypeError: If the format is of no family that there is a definition of.

    Example:
        >>> from lowprec.formats import parse
        >>> float(definition_of(parse("e4m3fn")).ends[1])
        448.0
    """
    if isinstance(format, P3109):
        return Standard(format)
    if isinstance(format, FloatingPoint):
        return Floating(format)
    if isinstance(format, FixedPoint):
        return fixed(format)
    if isinstance(format, Posit):
        return Posits(format)
    if isinstance(format, Logarithmic):
        return Logarithms(format, CARRIERS[carrier])
    if isinstance(format, TabledFormat):
        return Listed(format, CARRIERS[carrier])
    if isinstance(format, BlockFloatingPoint):
        return in_block(format, 0)
    if isinstance(format, Scaled):
        return definition_of(format.element, carrier)
    raise type_error("format", "be a format of lowprec.formats or a TabledFormat", type(format))


def in_block(format: BlockFloatingPoint, exponent: int) -> Uniform:
    """The symmetric integers of a group with that exponent."""
    most = 2 ** (format.word_bits - 1) - 1
    step = Fraction(2) ** (exponent + 2 - format.word_bits)
    return Uniform(format, step, -most, most, word=format.word_bits)


def _key(value: float) -> str:
    """Tells -0.0 from 0.0."""
    return "-0" if value == 0 and math.copysign(1.0, value) < 0 else ""


Families = FloatingPoint | FixedPoint | Posit | TabledFormat | BlockFloatingPoint | Scaled
"""What there is a definition of."""
