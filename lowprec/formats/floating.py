"""Floating point: sign, biased exponent, mantissa."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import Format, check_integer, exact_float, power_of_two
from lowprec.modes import Overflow, Specials


@dataclass(frozen=True)
class FloatingPoint(Format):
    """A binary floating-point format with subnormals and a signed zero.

    NaN stays NaN. A finite value past the largest one and an infinite input follow ``overflow``.
    -0, and a negative value that rounds to zero, give -0.

    Args:
        exponent_bits: Width of the exponent field, 1 to 11.
        mantissa_bits: Width of the stored mantissa field, 0 to 52; the precision is one more.
        bias: Subtracted from the exponent field; None for ``2**(exponent_bits - 1) - 1``.
        specials: ``"ieee"`` (the top exponent holds infinities and NaN) or ``"fn"`` (no infinities,
            NaN is the all-ones code).
        overflow: ``"saturate"``, ``"saturate_all"`` or ``"infinity"``; None for ``"infinity"`` where
            specials is ``"ieee"``, else ``"saturate"``.

    Raises:
        TypeError: If a width is not an integer.
        ValueError: If a width is out of range, a name is unknown, or no finite value but zero is left.

    Example:
        >>> FloatingPoint(4, 3, specials="fn").max
        448.0
        >>> str(FloatingPoint(5, 2))
        'e5m2'

    Reference:
        IEEE 754-2019, 3.3; OCP 8-bit Floating Point Specification (OFP8) 1.0.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int | None = None
    specials: Specials | str = Specials.IEEE
    overflow: Overflow | str | None = None

    def __init__(
        self,
        exponent_bits: int,
        mantissa_bits: int,
        *,
        bias: int | None = None,
        specials: Specials | str = Specials.IEEE,
        overflow: Overflow | str | None = None,
    ) -> None:
        check_integer("exponent_bits", exponent_bits, 1, 11)
        check_integer("mantissa_bits", mantissa_bits, 0, 52)
        specials = Specials.parse(specials, "specials")
        if overflow is None:
            overflow = _default_overflow(specials)
        if bias is None:
            bias = _default_bias(exponent_bits)
        check_integer("bias", bias, -1023, 2047)
        for name, value in (
            ("exponent_bits", exponent_bits),
            ("mantissa_bits", mantissa_bits),
            ("bias", bias),
            ("specials", specials),
            ("overflow", Overflow.parse(overflow, "overflow")),
        ):
            object.__setattr__(self, name, value)
        if self.largest_code < 1:
            raise value_error(
                "exponent_bits",
                "leave a finite value besides zero",
                exponent_bits,
                "Widen a field.",
            )
        try:
            _ = self.max, self.smallest_subnormal
        except OverflowError:
            raise value_error("bias", "keep every value within float64", bias) from None

    @property
    def bits(self) -> int:
        """Width of a code, the sign included."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values."""
        return self.specials is Specials.IEEE

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN; an ieee format without mantissa bits has none."""
        return self.specials is Specials.FN or self.mantissa_bits > 0

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value: always."""
        return True

    @property
    def largest_code(self) -> int:
        """The code of the largest finite value: below infinity, or below the all-ones NaN."""
        if self.specials is Specials.IEEE:
            return ((2**self.exponent_bits - 1) << self.mantissa_bits) - 1
        return (2**self.exponent_bits << self.mantissa_bits) - 2

    @property
    def lowest_exponent(self) -> int:
        """The exponent of the smallest normal value, which subnormals share."""
        return 1 - self._bias

    @property
    def _bias(self) -> int:
        """The bias as the integer that it always is after construction."""
        return self.bias if self.bias is not None else 0

    def magnitude(self, code: int) -> Fraction:
        """The value of a finite code without its sign."""
        field, mantissa = divmod(code, 1 << self.mantissa_bits)
        significand = mantissa + (1 << self.mantissa_bits if field else 0)
        return significand * power_of_two(max(field, 1) - self._bias - self.mantissa_bits)

    def magnitudes(self) -> list[Fraction]:
        """The non-negative finite values, ascending, exact."""
        return [self.magnitude(code) for code in range(self.largest_code + 1)]

    @property
    def max(self) -> float:
        """Largest finite value."""
        return exact_float(self.magnitude(self.largest_code))

    @property
    def min(self) -> float:
        """Most negative finite value."""
        return -self.max

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value of full precision."""
        return exact_float(power_of_two(self.lowest_exponent))

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value; the smallest normal one where there are no mantissa bits."""
        return exact_float(self.magnitude(1))

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger number at the format's precision."""
        return exact_float(power_of_two(-self.mantissa_bits))

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every finite value exactly."""
        if self.mantissa_bits + 1 > carrier.precision:
            return f"{self.mantissa_bits + 1} significant bits, it has {carrier.precision}"
        if self.magnitude(1) < power_of_two(carrier.lowest_exponent):
            return f"its smallest value 2^{carrier.lowest_exponent} is too large"
        if self.magnitude(self.largest_code) >= power_of_two(carrier.highest_exponent + 1):
            return "its largest value is too small"
        return None

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a multiple of its unit in the last place."""
        x = abs(x)
        exponent = x.numerator.bit_length() - x.denominator.bit_length()
        exponent -= power_of_two(exponent) > x
        unit = power_of_two(max(exponent, self.lowest_exponent) - self.mantissa_bits)
        return (x / unit).denominator == 1

    def shifted(self, exponent: int) -> "FloatingPoint":
        """The format whose values are these times 2 to ``-exponent``: the bias moves."""
        return FloatingPoint(
            self.exponent_bits,
            self.mantissa_bits,
            bias=self._bias + exponent,
            specials=self.specials,
            overflow=self.overflow,
        )

    def __str__(self) -> str:
        """The name that parse reads back; options that are not the default stand in brackets."""
        plain = f"e{self.exponent_bits}m{self.mantissa_bits}{self.specials}"
        name = _NAMES.get(plain, plain)
        fn = ["fn"] if name in FINITE_ELSEWHERE else []
        options = fn if self.overflow == _default_overflow(self.specials) else [*fn, str(self.overflow)]
        if self.bias != _default_bias(self.exponent_bits):
            options.append(f"bias{self.bias}")
        return f"{name}<{','.join(options)}>" if options else name


def _default_bias(exponent_bits: int) -> int:
    """The bias of IEEE 754, which puts 1.0 in the middle of the exponents."""
    return (1 << (exponent_bits - 1)) - 1


def _default_overflow(specials: Specials | str) -> Overflow:
    """Infinity where the format has infinities."""
    return Overflow.INFINITY if specials is Specials.IEEE else Overflow.SATURATE


FINITE_ELSEWHERE = ("e2m1", "e2m3", "e3m2")
"""OCP's formats in which every code is a finite number, though ml_dtypes writes them with fn."""

_NAMES = {
    **{f"{name}fn": name for name in FINITE_ELSEWHERE},
    "e5m2ieee": "e5m2",
    "e5m10ieee": "binary16",
    "e8m7ieee": "bfloat16",
    "e8m23ieee": "binary32",
}
