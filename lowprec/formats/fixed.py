"""Fixed point: an integer times a power of two."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import type_error, value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import check_integer, power_of_two
from lowprec.formats.uniform import UniformFormat
from lowprec.modes import Overflow


@dataclass(frozen=True)
class FixedPoint(UniformFormat):
    """Two's complement integers of ``word_bits`` times ``2**-fraction_bits``, saturating.

    NaN stays NaN. Values and infinities past either end become the largest or the most negative
    value. There is no -0: it, and a negative value that rounds to zero, give +0.

    Args:
        word_bits: Width of a word, the sign included, 2 to 32.
        fraction_bits: How many bits of it lie behind the binary point; may be negative or exceed
            ``word_bits``.
        symmetric: Leave out the most negative value.
        overflow: ``"saturate"``.

    Raises:
        TypeError: If a width is not an integer or ``symmetric`` not a bool.
        ValueError: If a width is out of range or ``overflow`` is another rule.

    Example:
        >>> FixedPoint(8, 7).max, FixedPoint(8, 7).min
        (0.9921875, -1.0)
        >>> str(FixedPoint(8, 4))
        'fixed8f4'
    """

    word_bits: int
    fraction_bits: int
    symmetric: bool = False
    overflow: Overflow | str = Overflow.SATURATE

    def __init__(
        self,
        word_bits: int,
        fraction_bits: int,
        *,
        symmetric: bool = False,
        overflow: Overflow | str = Overflow.SATURATE,
    ) -> None:
        check_integer("word_bits", word_bits, 2, 32)
        check_integer("fraction_bits", fraction_bits, -960, 1074)
        if not isinstance(symmetric, bool):
            raise type_error("symmetric", "be True or False", symmetric)
        overflow = Overflow.parse(overflow, "overflow")
        if overflow is not Overflow.SATURATE:
            raise value_error("overflow", "be 'saturate' in fixed point", str(overflow))
        for name, value in (
            ("word_bits", word_bits),
            ("fraction_bits", fraction_bits),
            ("symmetric", symmetric),
            ("overflow", overflow),
        ):
            object.__setattr__(self, name, value)

    @property
    def lowest_integer(self) -> int:
        """The most negative value in units of the step."""
        return -self.largest_integer - (not self.symmetric)

    @property
    def step(self) -> Fraction:
        """The distance between neighbours."""
        return power_of_two(-self.fraction_bits)

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value exactly."""
        if self.word_bits - 1 > carrier.precision:
            return f"{self.word_bits - 1} significant bits, it has {carrier.precision}"
        if -self.fraction_bits < carrier.lowest_exponent:
            return f"its smallest value 2^{carrier.lowest_exponent} is too large"
        if -self.lowest_integer * self.step >= power_of_two(carrier.highest_exponent + 1):
            return "its largest value is too small"
        return None

    def shifted(self, exponent: int) -> "FixedPoint":
        """The format whose values are these times 2 to ``-exponent``: the point moves."""
        return FixedPoint(
            self.word_bits,
            self.fraction_bits + exponent,
            symmetric=self.symmetric,
            overflow=self.overflow,
        )

    def __str__(self) -> str:
        """The name that parse reads back."""
        name = f"fixed{self.word_bits}f{self.fraction_bits}"
        return f"{name}<symmetric>" if self.symmetric else name
