"""Posits: floating point with a precision that tapers toward both ends of the range."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.formats.carriers import Carrier
from lowprec.formats.format import Format, check_integer, exact_float, floor_log2, power_of_two
from lowprec.modes import Overflow


@dataclass(frozen=True)
class Posit(Format):
    """A sign, a regime of equal bits, an exponent and a fraction, whichever of them there is room for.

    NaN stays NaN; an infinity becomes NaN: both are NaR, the code of a one and zeros. There is no -0. A
    finite value past the largest becomes the largest. Under the nearest modes the boundary between two
    values is the posit of one more bit between their codes, and a non-zero never becomes zero; the
    directed and stochastic modes go by value, and zero is a neighbor of the smallest magnitude.

    Args:
        word_bits: Width of a code, 2 to 32.
        exponent_bits: Width of the exponent field (es), 0 to 5; the standard's is 2.

    Raises:
        TypeError: If a width is no integer.
        ValueError: If one is out of range.

    Example:
        >>> Posit(8).max, Posit(8).smallest_subnormal, Posit(8).eps
        (16777216.0, 5.960464477539063e-08, 0.125)
        >>> str(Posit(16)), str(Posit(8, 0))
        ('posit16', 'posit8es0')

    Reference:
        Standard for Posit Arithmetic (2022), where exponents have 2 bits; Gustafson and Yonemoto, Beating
        floating point at its own game, 2017.
    """

    word_bits: int
    exponent_bits: int = 2

    def __post_init__(self) -> None:
        check_integer("word_bits", self.word_bits, 2, 32)
        check_integer("exponent_bits", self.exponent_bits, 0, 5)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.word_bits

    @property
    def overflow(self) -> Overflow:
        """Finite values saturate."""
        return Overflow.SATURATE

    @property
    def highest_exponent(self) -> int:
        """Of the largest value, a power of two; that of the smallest is the same with a minus."""
        return (self.bits - 2) << self.exponent_bits

    def magnitude(self, code: int) -> Fraction:
        """The value of a code without a sign, 0 to 2^(bits - 1) - 1."""
        if code == 0:
            return Fraction(0)
        string = f"{code:0{self.bits - 1}b}"
        run = len(string) - len(string.lstrip(string[0]))
        rest = string[run + 1 :]
        regime = run - 1 if string[0] == "1" else -run
        exponent = int(rest[: self.exponent_bits].ljust(self.exponent_bits, "0") or "0", 2)
        fraction = rest[self.exponent_bits :]
        significand = Fraction(int("1" + fraction, 2), 1 << len(fraction))
        return significand * power_of_two((regime << self.exponent_bits) + exponent)

    def magnitudes(self) -> list[Fraction]:
        """The non-negative values, ascending, exact."""
        return [self.magnitude(code) for code in range(1 << (self.bits - 1))]

    @property
    def max(self) -> float:
        """Largest value."""
        return exact_float(power_of_two(self.highest_exponent))

    @property
    def min(self) -> float:
        """Most negative value."""
        return -self.max

    @property
    def smallest_normal(self) -> float:
        """Smallest value with as many fraction bits as 1 has."""
        return exact_float(power_of_two(-min(1 << self.exponent_bits, self.highest_exponent)))

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value."""
        return exact_float(power_of_two(-self.highest_exponent))

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger value; 1 where there is none."""
        if self.bits == 2:
            return 1.0
        return exact_float(self.magnitude((1 << (self.bits - 2)) + 1) - 1)

    @property
    def fraction_bits(self) -> int:
        """The most fraction bits that a value has."""
        return max(self.bits - 3 - self.exponent_bits, 0)

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values: never."""
        return False

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN: NaR."""
        return True

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value: never."""
        return False

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value exactly, as a normal number."""
        if self.fraction_bits + 1 > carrier.precision:
            return f"{self.fraction_bits + 1} significant bits, it has {carrier.precision}"
        if self.highest_exponent >= carrier.highest_exponent:
            return "its normal numbers do not reach from the smallest value to the largest"
        return None

    def _on_grid(self, x: Fraction) -> bool:
        """Whether a value within the range has a code: by the digits that its exponent leaves room for."""
        x = abs(x)
        exponent = floor_log2(x)
        if not -self.highest_exponent <= exponent <= self.highest_exponent:
            return False
        regime, low = divmod(exponent, 1 << self.exponent_bits)
        room = self.bits - 1 - (regime + 2 if regime >= 0 else 1 - regime)
        fraction = x / power_of_two(exponent) - 1
        # The exponent's bits and the fraction's, as one binary number behind the point.
        tail = (low + fraction) / (1 << self.exponent_bits)
        return (tail * power_of_two(max(room, 0))).denominator == 1

    def __str__(self) -> str:
        """The name that parse reads back."""
        return f"posit{self.bits}" + (f"es{self.exponent_bits}" if self.exponent_bits != 2 else "")
