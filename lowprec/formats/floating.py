"""Floating point: sign, biased exponent, mantissa."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import Format, check_bool, check_integer, exact_float, power_of_two
from lowprec.modes import Overflow, Specials


@dataclass(frozen=True)
class FloatingPoint(Format):
    """A binary floating-point format.

    NaN stays NaN, also where no code stands for it. A finite value past the largest one and an
    infinite input follow ``overflow``. -0, and a negative value that rounds to zero, give -0, but +0
    where specials is ``"fnuz"``.

    Two formats that mean the same are equal: a ``bias`` or ``overflow`` of None becomes its default,
    ``subnormals`` True where there are no mantissa bits, and ``"saturate_all"`` becomes
    ``"saturate"`` where there are no infinities.

    Args:
        exponent_bits: Width of the exponent field, 1 to 11.
        mantissa_bits: Width of the stored mantissa field, 0 to 52; the precision is one more.
        bias: Subtracted from the exponent field; None for ``2**(exponent_bits - 1) - 1``, one more
            where specials is ``"fnuz"``.
        subnormals: Whether the lowest exponent field holds subnormals; without them its codes are
            zeros of their sign, and zero is the neighbor of the smallest normal value.
        specials: ``"ieee"`` (the top exponent holds infinities and, given mantissa bits, NaN),
            ``"fn"`` (no infinities, the all-ones code is NaN), ``"fnuz"`` (no infinities, the code of
            -0 is NaN) or ``"finite"`` (every code is a finite number).
        overflow: ``"saturate"``, ``"saturate_all"`` or ``"infinity"``; None for ``"infinity"`` where
            specials is ``"ieee"``, else ``"saturate"``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is out of range, a name is unknown, overflow would give what the
            format cannot say, no normal value or none but zero is left, or one lies outside float64.

    Example:
        >>> FloatingPoint(4, 3, specials="fn").max
        448.0
        >>> str(FloatingPoint(4, 3, bias=8, subnormals=False))
        'e4m3ieee<nosubnormals,bias8>'

    Reference:
        IEEE 754-2019, 3.3; OCP 8-bit Floating Point Specification (OFP8) 1.0; OCP Microscaling
        Formats (MX) 1.0, 5.3.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int | None = None
    subnormals: bool = True
    specials: Specials | str = Specials.IEEE
    overflow: Overflow | str | None = None

    def __init__(
        self,
        exponent_bits: int,
        mantissa_bits: int,
        *,
        bias: int | None = None,
        subnormals: bool = True,
        specials: Specials | str = Specials.IEEE,
        overflow: Overflow | str | None = None,
    ) -> None:
        check_integer("exponent_bits", exponent_bits, 1, 11)
        check_integer("mantissa_bits", mantissa_bits, 0, 52)
        check_bool("subnormals", subnormals)
        specials = Specials.parse(specials, "specials")
        bias = _default_bias(exponent_bits, specials) if bias is None else bias
        check_integer("bias", bias, -1023, 2047)
        for name, value in (
            ("exponent_bits", exponent_bits),
            ("mantissa_bits", mantissa_bits),
            ("bias", bias),
            ("subnormals", subnormals or mantissa_bits == 0),
            ("specials", specials),
        ):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "overflow", self._checked_overflow(overflow))
        self._check_values()

    def _checked_overflow(self, overflow: Overflow | str | None) -> Overflow:
        """The overflow rule, of two that mean the same the plainer."""
        if overflow is None:
            return _default_overflow(self.specials)
        overflow = Overflow.parse(overflow, "overflow")
        if overflow not in _OVERFLOWS:
            must = "be 'saturate', 'saturate_all' or 'infinity' in floating point"
            raise value_error("overflow", must, str(overflow))
        if overflow is Overflow.INFINITY and not (self.has_infinity or self.has_nan):
            must = "be 'saturate' where every code is a finite number"
            raise value_error("overflow", must, str(overflow), "There is no infinity and no NaN to give.")
        if overflow is Overflow.SATURATE_ALL and not self.has_infinity:
            return Overflow.SATURATE
        return overflow

    def _check_values(self) -> None:
        """Refuse fields that leave no value but zero, and values that float64 does not hold."""
        if self.largest_code < 1:
            must = "leave a finite value besides zero"
            raise value_error("exponent_bits", must, self.exponent_bits, "Widen a field.")
        if self.largest_code < self._smallest_code:
            must = "be True where every finite value is subnormal"
            raise value_error("subnormals", must, self.subnormals, "Widen the exponent field.")
        try:
            _ = self.max, exact_float(power_of_two(self.lowest_exponent - self.mantissa_bits))
        except OverflowError:
            must, remedy = "keep every value within float64", "Choose a smaller magnitude."
            raise value_error("bias", must, self.bias, remedy) from None

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
        if self.specials is Specials.IEEE:
            return self.mantissa_bits > 0
        return self.specials is not Specials.FINITE

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value; its code is NaN where specials is fnuz."""
        return self.specials is not Specials.FNUZ

    @property
    def largest_code(self) -> int:
        """The code of the largest finite value: below infinity, below NaN, or all ones."""
        if self.specials is Specials.IEEE:
            return ((2**self.exponent_bits - 1) << self.mantissa_bits) - 1
        all_ones = (2**self.exponent_bits << self.mantissa_bits) - 1
        return all_ones - 1 if self.specials is Specials.FN else all_ones

    @property
    def _smallest_code(self) -> int:
        """The code of the smallest positive value."""
        return 1 if self.subnormals else 1 << self.mantissa_bits

    @property
    def lowest_exponent(self) -> int:
        """The exponent of the smallest normal value, which subnormals share."""
        return 1 - self._bias

    @property
    def _bias(self) -> int:
        """The bias as the integer that it always is after construction."""
        return self.bias if self.bias is not None else 0

    def magnitude(self, code: int) -> Fraction:
        """The value of a finite code without its sign; 0 for a subnormal one where there are none."""
        field, mantissa = divmod(code, 1 << self.mantissa_bits)
        if field == 0 and not self.subnormals:
            return Fraction(0)
        significand = mantissa + (1 << self.mantissa_bits if field else 0)
        return significand * power_of_two(max(field, 1) - self._bias - self.mantissa_bits)

    def magnitudes(self) -> list[Fraction]:
        """The non-negative finite values, ascending, exact."""
        codes = range(self._smallest_code, self.largest_code + 1)
        return [Fraction(0), *(self.magnitude(code) for code in codes)]

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
        """Smallest positive value; the smallest normal one where there are no subnormals."""
        return exact_float(self.magnitude(self._smallest_code))

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger number at the format's precision."""
        return exact_float(power_of_two(-self.mantissa_bits))

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every finite value exactly."""
        if self.mantissa_bits + 1 > carrier.precision:
            return f"{self.mantissa_bits + 1} significant bits, it has {carrier.precision}"
        # Without subnormals the lowest normal values have a last place as small as theirs.
        if self.lowest_exponent - self.mantissa_bits < carrier.lowest_exponent:
            return f"its smallest value 2^{carrier.lowest_exponent} is too large"
        if self.magnitude(self.largest_code) >= power_of_two(carrier.highest_exponent + 1):
            return "its largest value is too small"
        return None

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a multiple of its unit in the last place, and not subnormal where none is."""
        x = abs(x)
        exponent = x.numerator.bit_length() - x.denominator.bit_length()
        exponent -= power_of_two(exponent) > x
        if exponent < self.lowest_exponent and not self.subnormals:
            return False
        unit = power_of_two(max(exponent, self.lowest_exponent) - self.mantissa_bits)
        return (x / unit).denominator == 1

    def shifted(self, exponent: int) -> "FloatingPoint":
        """The format whose values are these times 2 to ``-exponent``: the bias moves."""
        return FloatingPoint(
            self.exponent_bits,
            self.mantissa_bits,
            bias=self._bias + exponent,
            subnormals=self.subnormals,
            specials=self.specials,
            overflow=self.overflow,
        )

    def __str__(self) -> str:
        """The name that parse reads back; options that are not the default stand in brackets."""
        widths = f"e{self.exponent_bits}m{self.mantissa_bits}"
        name = NAMES.get(f"{widths}{self.specials}", f"{widths}{self.specials}")
        options = []
        if widths in FINITE_ELSEWHERE and self.specials is Specials.FN:
            name, options = widths, ["fn"]
        if not self.subnormals:
            options.append("nosubnormals")
        if self.overflow != _default_overflow(self.specials):
            options.append(str(self.overflow))
        if self.bias != _default_bias(self.exponent_bits, self.specials):
            options.append(f"bias{self.bias}")
        return f"{name}<{','.join(options)}>" if options else name


def PowerOfTwo(exponent_bits: int) -> FloatingPoint:
    """The floating-point format without mantissa bits: zero, powers of two and infinities.

    Args:
        exponent_bits: Width of the exponent field, 1 to 11.

    Returns:
        ``FloatingPoint(exponent_bits, 0)``.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is out of range or leaves no value but zero.

    Example:
        >>> PowerOfTwo(3).values()[-6:]
        array([0.25, 0.5 , 1.  , 2.  , 4.  , 8.  ])
    """
    return FloatingPoint(exponent_bits, 0)


def _default_bias(exponent_bits: int, specials: Specials | str) -> int:
    """The bias of IEEE 754, which puts 1.0 in the middle of the exponents; one more for fnuz."""
    return (1 << (exponent_bits - 1)) - (specials is not Specials.FNUZ)


def _default_overflow(specials: Specials | str) -> Overflow:
    """Infinity where the format has infinities."""
    return Overflow.INFINITY if specials is Specials.IEEE else Overflow.SATURATE


_OVERFLOWS = (Overflow.SATURATE, Overflow.SATURATE_ALL, Overflow.INFINITY)

FINITE_ELSEWHERE = ("e2m1", "e2m3", "e3m2")
"""OCP's formats in which every code is a finite number, though ml_dtypes writes them with fn."""

NAMES = {
    **{f"{name}finite": name for name in FINITE_ELSEWHERE},
    "e3m4ieee": "e3m4",
    "e5m2ieee": "e5m2",
    "e5m10ieee": "binary16",
    "e8m7ieee": "bfloat16",
    "e8m10ieee": "tf32",
    "e8m23ieee": "binary32",
    "e11m52ieee": "binary64",
}
"""The formats that have a name shorter than their widths and specials."""
