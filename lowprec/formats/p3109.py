"""The formats of IEEE P3109: any width and precision, signed or not, with infinities or not."""

from dataclasses import dataclass, field, replace

from lowprec.errors import value_error
from lowprec.formats.floating import FloatingPoint
from lowprec.formats.format import check_bool, check_integer
from lowprec.modes import Overflow, Specials

_WIDEST_EXPONENT = 11
"""Bits of the exponent field whose values float64 holds."""


@dataclass(frozen=True, init=False)
class P3109(FloatingPoint):
    """A binary floating-point format of IEEE P3109: one zero, one NaN, subnormals, and a bias in the middle.

    Codes ascend with their values: zero is code 0, and the code of 1.0 has only the top bit of the
    exponent field set. The code of NaN is that of -0 elsewhere, or in an unsigned format all ones; an
    infinity is the last code of its sign, in an unsigned format the last but one.

    NaN stays NaN. -0, and a negative value that rounds to zero, give +0. A finite value past the
    largest one and an infinite input follow ``overflow``. In an unsigned format a finite negative value
    becomes 0; -infinity becomes 0 where the rule saturates, and NaN where it is ``"infinity"``. As in
    other formats to_odd never overflows, whereas OvfInf of the standard does where there is a sign.

    Args:
        bits: Width of a code, K in the standard: 3 to 16.
        precision: Significant bits, P in the standard, the hidden one included: 1 to ``bits - 1``,
            unsigned to ``bits``.
        signed: Whether there are negative values.
        extended: Whether there are infinities; the standard's finite domain has none.
        bias: Subtracted from the exponent field; None for the standard's, half of the field's values.
        overflow: ``"infinity"`` (the standard's OvfInf; NaN where there are no infinities),
            ``"saturate"`` (SatPropagate: infinities stay) or ``"saturate_all"`` (SatFinite); None for
            ``"infinity"`` where there are infinities, else ``"saturate"``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is out of range, the exponent field is wider than 11 bits, a value lies
            outside float64, or the rule is not one of the three.

    Example:
        >>> P3109(8, 4).max, P3109(8, 4).smallest_subnormal
        (224.0, 0.0009765625)
        >>> str(P3109(8, 3, signed=False, overflow="saturate"))
        'binary8p3ue<saturate>'

    Reference:
        IEEE P3109 working group, Interim report on binary floating-point formats for machine learning.
    """

    # What follows from the others takes no part in comparing, showing and replacing.
    exponent_bits: int = field(init=False, repr=False, compare=False)
    mantissa_bits: int = field(init=False, repr=False, compare=False)
    subnormals: bool = field(init=False, repr=False, compare=False)
    specials: Specials | str = field(init=False, repr=False, compare=False)
    bits: int = 0  # the default hides the property of that name
    precision: int = 0
    signed: bool = True
    extended: bool = True

    def __init__(
        self,
        bits: int,
        precision: int,
        *,
        signed: bool = True,
        extended: bool = True,
        bias: int | None = None,
        overflow: Overflow | str | None = None,
    ) -> None:
        check_integer("bits", bits, 3, 16)
        check_bool("signed", signed)
        check_bool("extended", extended)
        check_integer("precision", precision, 1, bits - signed)
        exponent_bits = bits - signed - (precision - 1)
        if exponent_bits > _WIDEST_EXPONENT:
            must = f"leave at most {_WIDEST_EXPONENT} bits to the exponent, for float64 to hold the values"
            least = precision + exponent_bits - _WIDEST_EXPONENT
            raise value_error("precision", must, precision, f"Choose {least} or more.")
        bias = 1 << (exponent_bits - 1) if bias is None else bias
        check_integer("bias", bias, -1023, 2047)
        for name, value in (
            ("bits", bits),
            ("precision", precision),
            ("signed", signed),
            ("extended", extended),
            ("exponent_bits", exponent_bits),
            ("mantissa_bits", precision - 1),
            ("bias", bias),
            ("subnormals", True),
            ("specials", Specials.FNUZ if signed else Specials.FN),  # where NaN lies
        ):
            object.__setattr__(self, name, value)
        overflow = _default(extended=extended) if overflow is None else overflow
        object.__setattr__(self, "overflow", self._checked_overflow(overflow))
        self._check_values()

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values."""
        return self.extended

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN: always one."""
        return True

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value: never."""
        return False

    @property
    def largest_code(self) -> int:
        """The code of the largest finite value: below infinity, below NaN, or the last without a sign."""
        last = (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 2
        return last - self.extended

    @property
    def min(self) -> float:
        """Most negative finite value, 0 in an unsigned format."""
        return -self.max if self.signed else 0.0

    def shifted(self, exponent: int) -> "P3109":
        """The format whose values are these times 2 to ``-exponent``: the bias moves."""
        return replace(self, bias=self._bias + exponent)

    def __str__(self) -> str:
        """The standard's own name, which parse reads back; options that are not the default follow."""
        kind = f"{'s' if self.signed else 'u'}{'e' if self.extended else 'f'}"
        name, options = f"binary{self.bits}p{self.precision}{kind}", []
        if self.overflow is not _default(extended=self.extended):
            options.append(str(self.overflow))
        if self.bias != 1 << (self.exponent_bits - 1):
            options.append(f"bias{self.bias}")
        return f"{name}<{','.join(options)}>" if options else name


def p3109(
    bits: int,
    precision: int,
    signed: bool = True,  # noqa: FBT002  # as the standard's names list them
    extended: bool = True,  # noqa: FBT002
    *,
    overflow: Overflow | str | None = None,
) -> P3109:
    """A format of IEEE P3109 by its width and precision.

    NaN, infinities, -0, negative values in an unsigned format and overflow are treated as P3109 says.

    Args:
        bits: Width of a code: 3 to 16.
        precision: Significant bits, the hidden one included: 1 to ``bits - 1``, unsigned to ``bits``.
        signed: Whether there are negative values.
        extended: Whether there are infinities.
        overflow: ``"infinity"``, ``"saturate"`` or ``"saturate_all"``; None for ``"infinity"`` where
            there are infinities, else ``"saturate"``.

    Returns:
        The format, whose name is the standard's.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is out of range, the exponent field is wider than 11 bits, or the rule is
            not one of the three.

    Example:
        >>> str(p3109(8, 4)), p3109(8, 4).max
        ('binary8p4se', 224.0)

    Reference:
        IEEE P3109 working group, Interim report on binary floating-point formats for machine learning.
    """
    return P3109(bits, precision, signed=signed, extended=extended, overflow=overflow)


def _default(*, extended: bool) -> Overflow:
    """Infinity where the format has infinities."""
    return Overflow.INFINITY if extended else Overflow.SATURATE
