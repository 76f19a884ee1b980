"""Scaled formats: elements of a narrow format over one power-of-two scale for each group."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lowprec.errors import type_error, value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.floating import FloatingPoint
from lowprec.formats.granularity import Granularity, PerBlock, PerChannel, PerGroup, PerTensor
from lowprec.formats.grouped import GroupedFormat
from lowprec.modes import Overflow, ScaleRule

E8M0 = "e8m0"
"""Powers of two from 2^-127 to 2^127, as OCP's scales are."""

_LOWEST, _HIGHEST = -127, 127


@dataclass(frozen=True)
class Scaled(GroupedFormat):
    """Elements of a format times one scale for each group, as in OCP's Microscaling (MX) formats.

    The scale follows from A, the largest magnitude of the group's finite elements, by the scale rule,
    and is clamped to what the scale format has; a group without a finite non-zero element has the
    least scale. An element becomes the value of ``element`` that its quotient by the scale rounds to,
    times the scale; a NaN stays NaN and no other element notices; an infinity, and what rounds past the
    largest value, follow the element's overflow rule. -0 is kept where the element has it. What the
    carrier does not hold (2^128 in float32) becomes an infinity, as the carrier rounds it.

    The properties (``max``, ``eps``, ``values()``, …) describe a group with the scale 1.

    Args:
        element: A FloatingPoint with subnormals that saturates or has infinities, or a FixedPoint that
            is symmetric.
        scale: ``"e8m0"``, the powers of two from 2^-127 to 2^127.
        granularity: Which elements share a scale: PerTensor, PerChannel, PerGroup or PerBlock.
        scale_rule: How the scale follows from A, by name; see ScaleRule.

    Raises:
        TypeError: If ``element`` is neither, or ``granularity`` not a granularity.
        ValueError: If ``element`` wraps, has no subnormals, no bounds or other ends, or the scale or the
            rule is unknown.

    Example:
        >>> str(Scaled("e2m1", "e8m0", PerGroup(32)))
        'mxfp4'
        >>> str(Scaled("e2m1", "e8m0", PerGroup(16), scale_rule="ceil"))
        'scaled<e2m1,e8m0,group16,ceil>'

    Reference:
        OCP Microscaling Formats (MX) 1.0.
    """

    element: FloatingPoint | FixedPoint
    scale: str = E8M0
    granularity: Granularity = PerTensor()
    scale_rule: ScaleRule | str = ScaleRule.FLOOR

    def __init__(
        self,
        element: Any,
        scale: str = E8M0,
        granularity: Granularity = PerTensor(),
        *,
        scale_rule: ScaleRule | str = ScaleRule.FLOOR,
    ) -> None:
        from lowprec.formats.names import resolve  # which needs this module

        element = resolve(element)
        _check_element(element)
        if not isinstance(granularity, PerTensor | PerChannel | PerGroup | PerBlock):
            must = "be a PerTensor, PerChannel, PerGroup or PerBlock"
            raise type_error("granularity", must, granularity)
        if scale != E8M0:
            raise value_error("scale", f"be {E8M0!r}", scale, "Scales are powers of two.")
        object.__setattr__(self, "element", element)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "granularity", granularity)
        object.__setattr__(self, "scale_rule", ScaleRule.parse(scale_rule, "scale_rule"))

    @property
    def bits(self) -> int:
        """Width of an element's code; the scale is not counted."""
        return self.element.bits

    @property
    def max(self) -> float:
        """Largest finite value over the scale 1."""
        return self.element.max

    @property
    def min(self) -> float:
        """Most negative finite value over the scale 1."""
        return self.element.min

    @property
    def smallest_normal(self) -> float:
        """The element's."""
        return self.element.smallest_normal

    @property
    def smallest_subnormal(self) -> float:
        """The element's."""
        return self.element.smallest_subnormal

    @property
    def eps(self) -> float:
        """The element's."""
        return self.element.eps

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values of the element."""
        return self.element.has_infinity

    @property
    def has_nan(self) -> bool:
        """Whether a code of the element is NaN."""
        return self.element.has_nan

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value of the element."""
        return self.element.has_signed_zero

    @property
    def lowest_group_exponent(self) -> int:
        """Of the least scale."""
        return _LOWEST

    @property
    def highest_group_exponent(self) -> int:
        """Of the largest scale."""
        return _HIGHEST

    @property
    def element_exponent(self) -> int:
        """floor(log2) of the element's largest value, which OCP calls emax."""
        largest = Fraction(self.element.max)
        return largest.numerator.bit_length() - largest.denominator.bit_length()

    def magnitudes(self) -> list[Fraction]:
        """The non-negative finite values over the scale 1, ascending, exact."""
        return self.element.magnitudes()

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value of some group."""
        if isinstance(self.element, FixedPoint):
            width = self.element.bits - 1
        else:
            width = self.element.mantissa_bits + 1
        if width > carrier.precision:
            return f"{width} significant bits, it has {carrier.precision}"
        return None

    def in_group(self, exponent: int) -> FloatingPoint | FixedPoint:
        """The element's values times 2 to an exponent."""
        if isinstance(self.element, FloatingPoint):
            return self.element.shifted(-exponent)
        return FixedPoint(self.element.word_bits, self.element.fraction_bits - exponent, symmetric=True)

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a value of the element."""
        return self.element._on_grid(x)

    def __str__(self) -> str:
        """The name that parse reads back."""
        name = _NAMES.get((str(self.element), str(self.granularity), str(self.scale_rule)))
        if name:
            return name
        parts = [str(self.element), self.scale]
        if self.granularity != PerTensor():
            parts.append(str(self.granularity))
        if self.scale_rule is not ScaleRule.FLOOR:
            parts.append(str(self.scale_rule))
        return f"scaled<{','.join(parts)}>"


def _check_element(element: object) -> None:
    """Refuse what cannot be scaled."""
    if not isinstance(element, FloatingPoint | FixedPoint):
        raise type_error("element", "be a FloatingPoint or FixedPoint", element)
    if isinstance(element, FloatingPoint):
        if not element.subnormals:
            raise value_error("element", "have subnormals", str(element))
        return
    if not (element.signed and element.symmetric and element.overflow is Overflow.SATURATE):
        remedy = "Pass symmetric=True."
        raise value_error("element", "be signed, symmetric and saturate", str(element), remedy)


MX = {
    "mxfp8_e5m2": "e5m2<saturate>",
    "mxfp8_e4m3": "e4m3fn",
    "mxfp6_e3m2": "e3m2",
    "mxfp6_e2m3": "e2m3",
    "mxfp4": "e2m1",
    "mxint8": "fixed8f6<symmetric>",
}
"""OCP's formats by the names of their elements: groups of 32 along the last axis, the rule floor."""

_NAMES = {(element, "group32", "floor"): name for name, element in MX.items()}
