"""Fixed point: an integer times a power of two."""

import math
from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import check_bool, check_integer, exact_float, power_of_two
from lowprec.formats.uniform import UniformFormat
from lowprec.modes import Overflow


@dataclass(frozen=True)
class FixedPoint(UniformFormat):
    """Integers of ``word_bits`` times ``2**-fraction_bits``, in two's complement or unsigned.

    NaN stays NaN. There is no -0: it, and a negative value that rounds to zero, give +0. A finite
    value past either end, and an infinity, follow ``overflow``: under ``"saturate"`` they become the
    largest or the most negative value, which is 0 in an unsigned format; under ``"wrap"`` the rounded
    value is taken modulo ``2**word_bits`` steps, and an infinity becomes NaN; under ``"unbounded"``
    there are no ends, and an infinity stays.

    An unbounded format has infinite ``max`` and ``min``, no codes, hence no ``bits`` and no
    ``values()``. A carrier holds it if it holds the step and its own largest value is a multiple of it.

    Args:
        word_bits: Width of a word, the sign included: 2 to 32, unsigned 1 to 32; None for an
            unbounded format.
        fraction_bits: How many bits of it lie behind the binary point; may be negative or exceed
            ``word_bits``.
        signed: Two's complement; False for integers from 0 to ``2**word_bits - 1``.
        symmetric: Leave out the most negative value.
        overflow: ``"saturate"``, ``"wrap"`` or ``"unbounded"``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is out of range, a value lies outside float64, ``overflow`` is another
            rule, or two arguments contradict each other: a width without bounds or bounds without a
            width, a symmetric or unsigned format without bounds, a symmetric one that is unsigned or
            wraps.

    Example:
        >>> FixedPoint(8, 7).max, FixedPoint(8, 7).min
        (0.9921875, -1.0)
        >>> str(FixedPoint(8, 4)), str(FixedPoint(8, 4, signed=False, overflow="wrap"))
        ('fixed8f4', 'ufixed8f4<wrap>')
        >>> FixedPoint(None, 4, overflow="unbounded").contains(2**100 + 1)
        True
    """

    word_bits: int | None
    fraction_bits: int
    signed: bool = True
    symmetric: bool = False
    overflow: Overflow | str = Overflow.SATURATE

    def __init__(
        self,
        word_bits: int | None,
        fraction_bits: int,
        *,
        signed: bool = True,
        symmetric: bool = False,
        overflow: Overflow | str = Overflow.SATURATE,
    ) -> None:
        check_bool("signed", signed)
        check_bool("symmetric", symmetric)
        overflow = Overflow.parse(overflow, "overflow")
        _check_overflow(overflow, word_bits, signed, symmetric)
        if overflow is not Overflow.UNBOUNDED:
            check_integer("word_bits", word_bits, 2 if signed else 1, 32)
        check_integer("fraction_bits", fraction_bits, -1023, 1074)
        for name, value in (
            ("word_bits", word_bits),
            ("fraction_bits", fraction_bits),
            ("signed", signed),
            ("symmetric", symmetric),
            ("overflow", overflow),
        ):
            object.__setattr__(self, name, value)
        try:
            _ = self.max, self.min, exact_float(self.step)
        except OverflowError:
            must, remedy = "keep every value within float64", "Choose a smaller magnitude."
            raise value_error("fraction_bits", must, fraction_bits, remedy) from None

    @property
    def is_bounded(self) -> bool:
        """Whether there is a largest value."""
        return self.overflow is not Overflow.UNBOUNDED

    @property
    def bits(self) -> int:
        """Width of a word, the sign included; an unbounded format has none and raises a ValueError."""
        if self.word_bits is None:
            raise value_error("format", "be bounded to have codes", str(self), "Choose a word_bits.")
        return self.word_bits

    @property
    def largest_integer(self) -> int:
        """The largest value in units of the step; an unbounded format raises a ValueError."""
        return int(2 ** (self.bits - self.signed)) - 1

    @property
    def lowest_integer(self) -> int:
        """The most negative value in units of the step, 0 in an unsigned format."""
        return -self.largest_integer - (not self.symmetric) if self.signed else 0

    @property
    def max(self) -> float:
        """Largest value; infinite in an unbounded format."""
        return super().max if self.is_bounded else math.inf

    @property
    def min(self) -> float:
        """Most negative value; infinite in an unbounded format."""
        return super().min if self.is_bounded else -math.inf

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values: in an unbounded format only."""
        return not self.is_bounded

    @property
    def step(self) -> Fraction:
        """The distance between neighbors."""
        return power_of_two(-self.fraction_bits)

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value exactly, or to be rounded to a value."""
        if -self.fraction_bits < carrier.lowest_exponent:
            return f"its smallest value 2^{carrier.lowest_exponent} is too large"
        if not self.is_bounded:
            # Past 2 to the precision steps every number of the carrier is a multiple of the step, so
            # that rounding stays within the carrier if the step is no larger than its last places.
            largest_step = carrier.highest_exponent + 1 - carrier.precision
            return None if -self.fraction_bits <= largest_step else "its largest value is too small"
        if self.largest_integer.bit_length() > carrier.precision:
            return f"{self.largest_integer.bit_length()} significant bits, it has {carrier.precision}"
        largest = max(self.largest_integer, -self.lowest_integer) * self.step
        if largest >= power_of_two(carrier.highest_exponent + 1):
            return "its largest value is too small"
        return None

    def shifted(self, exponent: int) -> "FixedPoint":
        """The format whose values are these times 2 to ``-exponent``: the point moves."""
        return FixedPoint(
            self.word_bits,
            self.fraction_bits + exponent,
            signed=self.signed,
            symmetric=self.symmetric,
            overflow=self.overflow,
        )

    def __str__(self) -> str:
        """The name that parse reads back; options that are not the default stand in brackets."""
        word = "" if self.word_bits is None else self.word_bits
        name = f"{'' if self.signed else 'u'}fixed{word}f{self.fraction_bits}"
        options = ["symmetric"] if self.symmetric else []
        if self.overflow is not Overflow.SATURATE:
            options.append(str(self.overflow))
        return f"{name}<{','.join(options)}>" if options else name


def _check_overflow(overflow: Overflow, word_bits: int | None, signed: bool, symmetric: bool) -> None:
    """Refuse rules that fixed point does not have, and arguments that contradict them."""
    if overflow not in (Overflow.SATURATE, Overflow.WRAP, Overflow.UNBOUNDED):
        must = "be 'saturate', 'wrap' or 'unbounded' in fixed point"
        raise value_error("overflow", must, str(overflow))
    if overflow is Overflow.UNBOUNDED and word_bits is not None:
        remedy = "Leave out the width or the rule."
        raise value_error("word_bits", "be None where overflow is 'unbounded'", word_bits, remedy)
    if overflow is not Overflow.UNBOUNDED and word_bits is None:
        raise value_error("overflow", "be 'unbounded' where word_bits is None", str(overflow))
    if overflow is Overflow.UNBOUNDED and not signed:
        raise value_error("signed", "be True where overflow is 'unbounded'", signed)
    if symmetric and not signed:
        remedy = "An unsigned format has no negative value to leave out."
        raise value_error("symmetric", "be False where signed is False", symmetric, remedy)
    if symmetric and overflow is not Overflow.SATURATE:
        remedy = "Only a format that saturates can leave out a value."
        raise value_error("symmetric", f"be False where overflow is {str(overflow)!r}", symmetric, remedy)
