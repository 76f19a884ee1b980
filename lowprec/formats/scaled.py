"""Scaled formats: elements of a narrow format over one scale for each group."""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.codebook import Codebook
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.floating import FloatingPoint
from lowprec.formats.format import check_bool, floor_log2
from lowprec.formats.granularity import Granularity, PerBlock, PerChannel, PerGroup, PerTensor
from lowprec.formats.grouped import GroupedFormat
from lowprec.modes import Overflow, Rounding, ScaleRule, Specials

E8M0 = "e8m0"
"""Powers of two from 2^-127 to 2^127, as OCP's scales are."""

SCALES = {
    "float32": FloatingPoint(8, 23),
    "float16": FloatingPoint(5, 10),
    "bfloat16": FloatingPoint(8, 7),
    "e5m2": FloatingPoint(5, 2),
    "e4m3fn": FloatingPoint(4, 3, specials=Specials.FN),
}
"""The floating-point formats that scales can have, by the names in a format's own; all saturate."""

_DECIDED = 52
"""Significant bits of a boundary that a quotient of float64, rounded to odd, lies on the right side of."""
_WIDEST_ELEMENT = 16
"""Significant bits of an element over scales that are no powers of two: the product of an element and two
scales (11 and 24 bits at most) fits into float64, and so does a quotient with 32 random bits below it."""


@dataclass(frozen=True)
class Scaled(GroupedFormat):
    """Elements of a format times one scale for each group: MX, NVFP4, scaled FP8, affine integers.

    The scale follows from A, the largest magnitude of the group's finite elements, by the scale rule,
    and is clamped to what the scale format has; a group without a finite non-zero element has the
    least scale. An element becomes the value of ``element`` that its exact quotient by the scale rounds
    to, times the scale, which the carrier rounds to nearest even if it does not hold it; a NaN stays NaN
    and no other element notices; an infinity, and what rounds past the largest value, follow the
    element's overflow rule. -0 is kept where the element has it.

    Over power-of-two scales a value of the format is returned unchanged, if the carrier holds it; over
    other scales a second rounding may change what the first one gave.

    The properties (``max``, ``eps``, ``values()``, …) describe a group with the scale 1.

    Args:
        element: A signed FloatingPoint with subnormals, or a symmetric FixedPoint; over scales that are no
            powers of two at most 16 significant bits wide. Or, over those, a Codebook of numbers of at most
            24 significant bits (18 where scales have scales), its largest magnitude positive; the stochastic
            modes are not for it.
        scale: ``"e8m0"``, the powers of two from 2^-127 to 2^127; or ``"float32"``, ``"float16"``,
            ``"bfloat16"``, ``"e4m3fn"``, ``"e5m2"`` or their torch dtypes; or a Scaled whose elements are
            such scales: they have scales themselves, one for each of *its* groups of groups.
        granularity: Which elements share a scale: PerTensor, PerChannel, PerGroup or PerBlock.
        scale_rule: How the scale follows from A, by name; see ScaleRule. Not ``"amax"`` with e8m0; only
            ``"amax"`` where the scale is a Scaled.
        zero_point: For an unsigned integer element: the range of the group, widened to include zero, is
            spread over all integers, and an integer z of them stands for zero.

    Raises:
        TypeError: If ``element`` is none of these, ``granularity`` not a granularity, or ``scale`` no scale.
        ValueError: If ``element`` wraps, has no subnormals, no negative values, no bounds or other ends,
            or an argument is unknown, too wide or contradicts another.

    Example:
        >>> str(Scaled("e2m1", "e8m0", PerGroup(32)))
        'mxfp4'
        >>> str(Scaled("e2m1", "e8m0", PerGroup(16), scale_rule="ceil"))
        'scaled<e2m1,e8m0,group16,ceil>'
        >>> over_tensor = Scaled("e4m3fn", "float32", scale_rule="amax")
        >>> str(Scaled("e2m1", over_tensor, PerGroup(16), scale_rule="amax"))
        'nvfp4'

    Reference:
        OCP Microscaling Formats (MX) 1.0; Jacob et al., Quantization and training of neural networks for
        efficient integer-arithmetic-only inference, 2018 (zero points).
    """

    element: FloatingPoint | FixedPoint | Codebook
    scale: "str | Scaled" = E8M0
    granularity: Granularity = PerTensor()
    scale_rule: ScaleRule | str = ScaleRule.FLOOR
    zero_point: bool = False

    def __init__(
        self,
        element: Any,
        scale: Any = E8M0,
        granularity: Granularity = PerTensor(),
        *,
        scale_rule: ScaleRule | str = ScaleRule.FLOOR,
        zero_point: bool = False,
    ) -> None:
        from lowprec.formats.names import resolve  # which needs this module

        element, scale = resolve(element), _scale(scale)
        rule = ScaleRule.parse(scale_rule, "scale_rule")
        check_bool("zero_point", zero_point)
        _check_element(element, zero_point=zero_point)
        if not isinstance(granularity, PerTensor | PerChannel | PerGroup | PerBlock):
            must = "be a PerTensor, PerChannel, PerGroup or PerBlock"
            raise type_error("granularity", must, granularity)
        _check_rule(rule, scale, zero_point=zero_point)
        object.__setattr__(self, "element", element)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "granularity", granularity)
        object.__setattr__(self, "scale_rule", rule)
        object.__setattr__(self, "zero_point", zero_point)
        if isinstance(element, Codebook):
            _check_codebook(element, scale, rule)
        elif scale != E8M0 and self.precision > _WIDEST_ELEMENT:
            must = f"have at most {_WIDEST_ELEMENT} significant bits over scales that are no powers of two"
            raise value_error("element", must, self.precision)
        if scale != E8M0 and not (element.smallest_subnormal >= 2.0**-149 and element.max < 2.0**128):
            must = "have values that binary32 has over scales that are no powers of two"
            raise value_error("element", must, str(element))

    @property
    def levels(self) -> tuple[FloatingPoint, ...]:
        """The floating-point formats of scales, that of the groups first; none for e8m0."""
        if isinstance(self.scale, Scaled):
            return SCALES[_name(self.scale.element)], *self.scale.levels
        return () if self.scale == E8M0 else (SCALES[self.scale],)

    @property
    def precision(self) -> int:
        """Significant bits of an element."""
        if isinstance(self.element, FixedPoint):
            return self.element.largest_integer.bit_length()
        if isinstance(self.element, Codebook):
            return max(significant_bits(value) for value in self.element.table.exact)
        return self.element.mantissa_bits + 1

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
        return self.levels[0].lowest_exponent - self.levels[0].mantissa_bits if self.levels else -127

    @property
    def highest_group_exponent(self) -> int:
        """Of the largest scale that is a power of two."""
        return floor_log2(Fraction(self.levels[0].max)) if self.levels else 127

    @property
    def element_exponent(self) -> int:
        """floor(log2) of the element's largest value, which OCP calls emax."""
        return floor_log2(Fraction(self.element.max))

    def magnitudes(self) -> list[Fraction]:
        """The non-negative finite values over the scale 1, ascending, exact."""
        return self.element.magnitudes()

    def values(self) -> npt.NDArray[np.float64]:
        """All finite values over the scale 1: the element's."""
        return self.element.values()

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value of some group."""
        if self.precision > carrier.precision:
            return f"{self.precision} significant bits, it has {carrier.precision}"
        return None

    def undecided(self, rounding: Rounding, carrier: Carrier) -> str | None:
        """Noise over a codebook is not decided."""
        if isinstance(self.element, Codebook):
            return "Quantize with the codebook alone, or to floating-point elements."
        return None

    def in_group(self, exponent: int) -> FloatingPoint | FixedPoint | Codebook:
        """The element's values times 2 to an exponent."""
        return self.element.shifted(-exponent)

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a value of the element."""
        return self.element._on_grid(x)

    def __str__(self) -> str:
        """The name that parse reads back."""
        parts = [str(self.element), str(self.scale)]
        if self.granularity != PerTensor():
            parts.append(str(self.granularity))
        if self.scale_rule is not ScaleRule.FLOOR:
            parts.append(str(self.scale_rule))
        if self.zero_point:
            parts.append("zero_point")
        spelled = f"scaled<{','.join(parts)}>"
        return _SHORT.get(spelled, spelled)


def _scale(scale: Any) -> "str | Scaled":
    """What a scale is called in a format's name; or a Scaled, which must be over one float format."""
    if isinstance(scale, str) and (scale == E8M0 or scale in SCALES):
        return scale
    from lowprec.formats.names import resolve

    if type(scale).__name__ == "dtype" and str(scale) == "torch.float8_e8m0fnu":
        return E8M0
    format = resolve(scale)
    if name := _name(format):
        return name
    if not isinstance(format, Scaled):
        raise value_error("scale", f"be {E8M0}, {', '.join(SCALES)} or a Scaled of one of them", str(format))
    if not _name(format.element) or len(format.levels) != 1 or format.scale_rule is not ScaleRule.AMAX:
        must = f"have elements and a scale of {', '.join(SCALES)} and the rule amax where it is a Scaled"
        raise value_error("scale", must, str(format))
    return format


@lru_cache(maxsize=64)  # asked for by each call that scales
def _name(format: object) -> str:
    """The name of a floating-point format of scales, whatever its overflow; empty for others."""
    if not isinstance(format, FloatingPoint):
        return ""
    plain = replace(format, overflow=None)
    return next((name for name, known in SCALES.items() if known == plain), "")


def _check_element(element: object, *, zero_point: bool) -> None:
    """Refuse what cannot be scaled."""
    if not isinstance(element, FloatingPoint | FixedPoint | Codebook):
        raise type_error("element", "be a FloatingPoint, a FixedPoint or a Codebook", element)
    if zero_point:
        integer = isinstance(element, FixedPoint) and not element.signed and element.fraction_bits == 0
        if not integer or element.overflow is not Overflow.SATURATE:
            must = "be an unsigned integer that saturates where zero_point is True"
            raise value_error("element", must, str(element), "An example is 'ufixed8f0'.")
    elif isinstance(element, FloatingPoint):
        if element.min == 0:
            raise value_error("element", "have negative values", str(element), "Choose a signed format.")
        if not element.subnormals:
            raise value_error("element", "have subnormals", str(element))
    elif isinstance(element, FixedPoint) and not (
        element.signed and element.symmetric and element.overflow is Overflow.SATURATE
    ):
        remedy = "Pass symmetric=True."
        raise value_error("element", "be signed, symmetric and saturate", str(element), remedy)


def _check_codebook(element: Codebook, scale: "str | Scaled", rule: ScaleRule) -> None:
    """Refuse codebooks whose quotients or products float64 does not decide."""
    if scale == E8M0:
        must = "be floating or fixed point over scales of e8m0"
        raise value_error("element", must, str(element), "A codebook goes over float32 scales.")
    if rule is ScaleRule.EVEN:
        raise value_error("scale_rule", "not be 'even' for a codebook", str(rule), "It has no precision.")
    if element.max < -element.min:
        must = "have a largest magnitude that is positive"
        raise value_error("element", must, element.min, "Negate all entries, and what is quantized.")
    most = 24 if isinstance(scale, str) else 18
    for number, value in zip(element.table.finite, element.table.exact, strict=True):
        if significant_bits(value) > most:
            remedy = "Round the entries to float32 first." if most == 24 else "Round the entries."
            raise value_error("element", f"have at most {most} significant bits", number, remedy)
    for boundary in element.boundaries():
        if significant_bits(boundary) > _DECIDED:
            must = f"have midpoints of at most {_DECIDED} significant bits"
            raise value_error("element", must, float(boundary), "Its neighbors lie too far apart.")


def significant_bits(x: Fraction) -> int:
    """How many binary digits lie between the first and the last that is set."""
    digits = abs(x.numerator)
    return (digits // (digits & -digits)).bit_length() if digits else 0


def _check_rule(rule: ScaleRule, scale: "str | Scaled", *, zero_point: bool) -> None:
    """Refuse rules that do not go with the scale."""
    if rule is ScaleRule.AMAX and scale == E8M0:
        remedy = "Its quotients are no powers of two."
        raise value_error("scale_rule", "not be 'amax' where scales are powers of two", str(rule), remedy)
    if rule is not ScaleRule.AMAX and isinstance(scale, Scaled):
        raise value_error("scale_rule", "be 'amax' where scales have scales", str(rule))
    if zero_point and (rule is not ScaleRule.AMAX or isinstance(scale, Scaled)):
        must = "be 'amax', over one scale that is no power of two, where zero_point is True"
        raise value_error("scale_rule", must, str(rule))


NAMES = {
    "mxfp8_e5m2": "scaled<e5m2<saturate>,e8m0,group32>",
    "mxfp8_e4m3": "scaled<e4m3fn,e8m0,group32>",
    "mxfp6_e3m2": "scaled<e3m2,e8m0,group32>",
    "mxfp6_e2m3": "scaled<e2m3,e8m0,group32>",
    "mxfp4": "scaled<e2m1,e8m0,group32>",
    "mxint8": "scaled<fixed8f6<symmetric>,e8m0,group32>",
    "nvfp4": "scaled<e2m1,scaled<e4m3fn,float32,amax>,group16,amax>",
    "int8": "scaled<fixed8f0<symmetric>,float32,amax>",
    "int4": "scaled<fixed4f0<symmetric>,float32,amax>",
    "uint8": "scaled<ufixed8f0,float32,amax,zero_point>",
    "nf4": "scaled<normalfloat4,float32,group64,amax>",
    "fp4": "scaled<twelfths4,float32,group64,amax>",
}
"""The formats that have a name of their own, spelled out."""

_SHORT = {spelled: name for name, spelled in NAMES.items()}
