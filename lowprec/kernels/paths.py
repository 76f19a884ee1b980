"""In which type the sums of a product may be computed, so that each is as if the exact one were rounded.

A step rounds the exact s = a + p, where a is a value of the accumulator's format and p a product. Let q be
the significant bits of the type that computes s, m those of the format, P those of p, and let RN(s) be the
sum as that type rounds it to nearest. Products are exact where P <= q. Then there are these ways.

EXACT. If all terms are multiples of 2^low below 2^top, and top + 1 - low <= q, every sum is a number of
the type. What the sums of products are multiples of, rounded sums are too: rounding goes to multiples of
a step, and one smaller than 2^low leaves a multiple of 2^low as it is. Only an overflow may give another
number, an end of the range; so low is no higher than the last place of the ends.

ODD. An addition in the type and what it loses, which is a number of the type, give the sum rounded to odd:
with a last bit that says whether anything was lost. Where a mode looks at g bits below the last place
of the format, the last of them only as to whether anything is there, q >= m + g makes that innocuous.
Where q is too small, which is so for long random words only, the sum and what it loses decide: PAIRED.

NEAREST, for the modes that round to nearest. Between s and RN(s) there is no number of fewer than q + 1
bits, so nothing is decided otherwise unless RN(s) = M is a value of the format or the middle of two of
them, while s is not: d = s - M, 0 < |d| <= 2^(e - q), where e is the exponent of M, which is a multiple
of 2^(e - m). Sums at most 2^m units of the format are exact, as p is a multiple of the unit; take others.
- If a's exponent is at least e - 1, then M - a is a multiple of 2^(e - m). If M = a, s rounds to a in
  either way. Else |p| > 2^(e - m - 1), so p is a multiple of 2^(e - m - P), and so is d: impossible if
  q > m + P.
- If a's exponent is below e - 1, then p's is at least e - 1. If M = p and p is a value of the format, s
  rounds to p in either way. If P <= m, then M - p is a multiple of 2^(e - m) like all values there; if it
  is not zero, |a| > 2^(e - m - 1), so a is a multiple of 2^(e - 2m), and so is d: impossible if q > 2m.
  If P > m, let the format have no values but multiples of its unit u below 2^E. Then d is a multiple of
  the smaller of u and 2^(e - P); beyond e = E all overflows. Impossible if q > P and u > 2^(E - q).
The types overflow and underflow nowhere: exponents are bounded as well.

DOUBT. A loop may take RN(s), find out where it could decide otherwise, and do those steps again in binary64.
To nearest even that is where RN(s) is the middle of two values. For a stochastic sum a word is added to the
pattern of RN(s), whose d low bits lie below the format's last place; what s and the word have below the
pattern's last place is less than two of it together, and more than minus one. So it decides only where the
d bits of that sum are all ones or all zeros.

How large sums become, K of them, where u is 2^-mantissa_bits and P bounds the terms and the smallest value:
- A rounding makes what is normal at most 1 + u times as large, and adds at most P to what is not; so sums
  stay below 2 K P (1 + u)^K in any mode and order.
- To nearest, a term of less than half of the last place of a sum adds nothing (_GROWTH).
- Kahan's: let E = sum - c. With roundings 1 + d, |d| <= u / 2, of y = p - c, t = sum + y, g = t - sum and
  c' = g - y, t - c' = E + p + d1 (p - c) - d3 (t - sum) - d4 (g - y), while |c'| <= u (|sum + y| + |t - sum|)
  and so |c| <= 2 u |E| + 4 P wherever u <= 1/8. All but E + p is at most 4 u^2 |E| + 4 P. So E stays below
  5 K P (1 + 4 u^2)^K, and so does c; sum, y and t stay below four times that.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lowprec.arithmetic import Accumulator, Arithmetic, digits, guard_bits
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint
from lowprec.formats.carriers import CARRIERS
from lowprec.formats.format import floor_log2
from lowprec.kernels.operands import Measure
from lowprec.kernels.sums import ADDED, BY_ADDITION, DRAWN, NORMAL, RAISED
from lowprec.kernels.wide import WIDE
from lowprec.modes import Overflow, Rounding

_PRECISION = {"float32": 24, "float64": 53}
_PAIRED = 120
"""Bits of a sum and what it loses that wide.py looks at, or less."""
_BOUNDS = {"float32": (-126, 125), "float64": (-1000, 1000)}
"""Exponents that sums and the last places of terms keep within: nothing is subnormal, nothing overflows."""
MIDDLE = {"float32": (-110, 99), "float64": (-900, 900)}
"""Exponents between which any format may be rounded to by an addition: numbers are finite, multiples of two
to the first and below two to the second."""
_SURE = {"float32": 13, "float64": 36}
"""Bits of a format's mantissa up to which few steps are in doubt."""
_DRAWN = {"float32": 13, "float64": 20}
"""The same of drawn sums; in binary64 a word is no longer than what is cut."""
_RARELY = 8
"""How many bits more than a format terms have where few of their sums lie in the middle of two values."""
_GROWTH = 3
"""How many binades above 2^m times the largest product a sum to nearest stays: at 2^(m + 1) times that
product, one is less than half of the last place."""


class Path(NamedTuple):
    """The type that computes sums, and whether they are rounded to odd."""

    carrier: str
    odd: bool
    middle: bool = False
    """Whether all numbers lie within MIDDLE."""
    reached: bool = True
    """Whether sums may overflow."""
    depth: int | None = None
    """One of the values of sums.py and wide.py, where it does not follow from the format."""
    rest_odd: bool = False
    """Whether the sums of a compensated step are rounded to odd, but for the first."""

    @property
    def is_doubtful(self) -> bool:
        """Whether steps that may be decided otherwise are done again in binary64."""
        return self.depth in BY_ADDITION


class _Extent(NamedTuple):
    """Of a format: exponents of its largest and smallest magnitude, and of last places.

    ``unit`` is the least of all last places, ``low`` that of the two ends.
    """

    top: int
    smallest: int
    unit: int
    low: int


@lru_cache(maxsize=1024)
def _extent(format: Accumulator) -> _Extent:
    """What terms that are values of a format have in common."""
    ends = [abs(Fraction(end)) for end in (format.max, format.min) if end != 0]
    if isinstance(format, FloatingPoint):
        unit = format.lowest_exponent - format.mantissa_bits
    else:
        unit = -format.fraction_bits
    smallest = floor_log2(Fraction(format.smallest_subnormal))
    return _Extent(max(map(floor_log2, ends)), smallest, unit, min(map(_last_place, ends)))


def _last_place(x: Fraction) -> int:
    """The exponent of the lowest bit that is set."""
    return floor_log2(Fraction(x.numerator & -x.numerator, x.denominator))


def path_of(arithmetic: Arithmetic, a: Measure, b: Measure, depth: int = 1 << 31) -> Path:
    """The quickest way that is exact for these operands, of which so many products are summed."""
    exact = exact_products(a, b)
    for carrier in ("float32", "float64"):
        way = _way(arithmetic, exact, min(a.low, b.low), carrier, depth)
        if way is not None:
            return way
    raise value_error(
        "accumulate", "wrap sums whose every bit is known", str(arithmetic.sum_format),
        "The operands are too large for it.",
    )  # fmt: skip


def products_of(a: Measure, b: Measure) -> Measure:
    """What exact products have in common."""
    top, low = a.top + b.top + 1, a.low + b.low
    both = a.digits + b.digits - (1 in (a.digits, b.digits))  # a power of two adds none
    return Measure(top, low, min(both, top + 1 - low), a.is_finite and b.is_finite)


def in_float64(a: Measure, b: Measure) -> bool:
    """Whether binary64 holds factors and products, none of them subnormal."""
    products, low = products_of(a, b), min(a.low, b.low)
    precise = products.digits <= _PRECISION["float64"] and low >= _BOUNDS["float64"][0]
    return precise and _bounded(products, "float64")


def exact_products(a: Measure, b: Measure) -> Measure:
    """The same of products that binary64 holds; others are refused."""
    if not in_float64(a, b):
        raise value_error(
            "input", "have exact products in float64",
            f"factors of {a.digits} and {b.digits} significant bits",
            "Round the operands: name their formats in the scheme.",
        )  # fmt: skip
    return products_of(a, b)


def sums_in_float64(arithmetic: Arithmetic, products: Measure, count: int) -> bool:
    """Whether binary64 holds all sums of so many products, rounded if an arithmetic rounds them."""
    terms = products if arithmetic.multiply is None else _rounded(products, arithmetic.multiply)
    top = terms.top + max(count - 1, 0).bit_length()
    return top + 1 - terms.low <= _PRECISION["float64"] and _bounded(Measure(top, terms.low, 1), "float64")


def span_of(format: Accumulator) -> tuple[int, int]:
    """Of which power of two all values are multiples, and below which one they lie."""
    extent = _extent(format)
    return extent.unit, extent.top + 1


def is_bounded(measure: Measure) -> bool:
    """Whether no number, and nothing that its sums lose, is subnormal in binary64 or overflows there."""
    return _bounded(measure, "float64")


def check_bias(arithmetic: Arithmetic, bias: Measure) -> None:
    """Refuse a bias whose sums cannot be rounded to odd in binary64."""
    format = arithmetic.chunk_accumulate or arithmetic.sum_format
    extent = _extent(format)
    top = max(bias.top, extent.top)
    kept = top + 2 - extent.unit + guard_bits(arithmetic.rounding, arithmetic.random_bits)
    wraps = format.overflow is Overflow.WRAP
    if not _bounded(bias, "float64") or (wraps and kept > _PRECISION["float64"]):
        raise value_error(
            "bias", f"have sums in {format} whose every bit is known", f"magnitudes up to 2^{bias.top + 1}",
            "Scale it down, or let the accumulator saturate.",
        )  # fmt: skip


def _way(arithmetic: Arithmetic, products: Measure, low: int, carrier: str, count: int) -> Path | None:
    """The path in a carrier, if there is one."""
    precision, format = _PRECISION[carrier], arithmetic.sum_format
    formats = [format] if arithmetic.multiply is None else [format, arithmetic.multiply]
    if (
        any(f.missing_in(CARRIERS[carrier]) is not None for f in formats)
        or products.digits > precision
        or not _bounded(products, carrier)
        or low < _BOUNDS[carrier][0]
    ):
        return None
    terms = products if arithmetic.multiply is None else _rounded(products, arithmetic.multiply)
    extent = _extent(format)
    reach = _reach(arithmetic, terms, count)
    top = min(max(terms.top, extent.top), reach)
    lowest = min(terms.low, max(extent.low, extent.unit))
    if not _bounded(Measure(top + 1, lowest, 1), carrier):
        return None
    middle = _is_middle(arithmetic, products, top + 2, lowest, carrier)
    reached = not middle or reach + 2 > extent.top
    depth = RAISED if carrier == "float64" and _is_raised(arithmetic, lowest) else None
    drawn = arithmetic.rounding is Rounding.STOCHASTIC
    rarely = drawn or terms.digits >= digits(format) + _RARELY  # sums of few bits are often ties
    doubted = middle and rarely and _may_doubt(arithmetic, carrier)
    if doubted and drawn:
        smallest = Fraction(format.smallest_normal)
        return Path(carrier, False, middle, reached, DRAWN if Fraction(2) ** lowest < smallest else NORMAL)
    if top + 2 - lowest <= precision or _is_nearest_enough(arithmetic, terms, extent, precision):
        return Path(carrier, False, middle, reached, depth)
    guard = guard_bits(arithmetic.rounding, arithmetic.random_bits)
    kept = digits(format) + guard
    if format.overflow is Overflow.WRAP:  # all bits above the unit count
        kept = top + 2 - extent.unit + guard
    if kept > precision:
        wide = carrier == "float64" and kept <= _PAIRED
        return Path(carrier, True, depth=WIDE, rest_odd=True) if wide else None
    if doubted:
        return Path(carrier, False, middle, reached, ADDED)
    values = Measure(extent.top, extent.unit, digits(format))
    rest = not _is_nearest_enough(arithmetic, values, extent, precision)
    return Path(carrier, True, middle, reached, depth, rest)


def fits_to_odd(arithmetic: Arithmetic, format: Accumulator) -> bool:
    """Whether a sum that was rounded to odd in binary64 tells how it is rounded to a format."""
    kept = digits(format) + guard_bits(arithmetic.rounding, arithmetic.random_bits)
    return kept <= _PRECISION["float64"]


def _may_doubt(arithmetic: Arithmetic, carrier: str) -> bool:
    """Whether steps may be decided by sums rounded to nearest where these can tell."""
    format = arithmetic.sum_format
    most = (_DRAWN if arithmetic.rounding is Rounding.STOCHASTIC else _SURE)[carrier]
    return (
        isinstance(format, FloatingPoint)
        and format.subnormals
        and 1 <= format.mantissa_bits <= most
        and fits_to_odd(arithmetic, format)
        and is_symmetric(format)
        and arithmetic.rounding in (Rounding.STOCHASTIC, Rounding.NEAREST_EVEN)
        and arithmetic.order == "sequential"
        and arithmetic.compensation is None
    )


def is_symmetric(format: Accumulator) -> bool:
    """Whether a number less than zero is rounded as its magnitude is, with its sign."""
    return isinstance(format, FloatingPoint) and format.has_signed_zero and format.max == -format.min


def _is_raised(arithmetic: Arithmetic, low: int) -> bool:
    """Whether binary64 holds multiples of 2^low when they are raised by the smallest normal value.

    And at least as many of its bits are dropped as a word has.
    """
    format = arithmetic.sum_format
    return (
        isinstance(format, FloatingPoint)
        and format.subnormals
        and format.mantissa_bits <= _PRECISION["float64"] - 1 - 32
        and arithmetic.rounding is Rounding.STOCHASTIC
        and low >= format.lowest_exponent - _PRECISION["float64"] + 1
    )


def _is_middle(arithmetic: Arithmetic, products: Measure, top: int, low: int, carrier: str) -> bool:
    """Whether all numbers are finite, multiples of 2^low below 2^top, and these within MIDDLE."""
    rounded = arithmetic.multiply
    if rounded is not None and products.top + 1 >= _extent(rounded).top:  # products may overflow
        return False
    lowest, highest = MIDDLE[carrier]
    inside = min(low, products.low) >= lowest and max(top, products.top + 1) <= highest
    return products.is_finite and inside


def _bounded(measure: Measure, carrier: str) -> bool:
    """Whether exponents lie within a carrier's."""
    low, high = _BOUNDS[carrier]
    return measure.low >= low and measure.top <= high


def _rounded(products: Measure, format: Accumulator) -> Measure:
    """What products that were rounded to a format have in common."""
    extent = _extent(format)
    top = max(products.top + 1, extent.smallest)
    if format.overflow is Overflow.WRAP:
        top = max(top, extent.top)
    low = max(min(products.low, extent.low), extent.unit)
    return Measure(min(top, extent.top), low, digits(format))


def _reach(arithmetic: Arithmetic, terms: Measure, depth: int) -> int:
    """An exponent that all sums of so many terms stay below."""
    format = arithmetic.sum_format
    extent = _extent(format)
    kahan, nearest = arithmetic.compensation is not None, arithmetic.rounding.startswith("nearest")
    if isinstance(format, FixedPoint):  # a wrapped sum keeps nothing of what it was before
        return max(extent.top, terms.top) if format.overflow is Overflow.WRAP else extent.top
    if nearest and not kahan:
        return max(terms.top + digits(format) + _GROWTH, extent.smallest + 1)
    if kahan and not (nearest and format.subnormals and format.mantissa_bits >= 3):
        return extent.top
    count = min(depth, arithmetic.chunk) if isinstance(arithmetic.chunk, int) else depth
    growth, step = 1 + count.bit_length(), 2.0**-format.mantissa_bits
    if kahan:
        growth, step = growth + 4, 4 * step**2
    largest = max(terms.top, extent.smallest) + 1
    return min(extent.top, largest + growth + math.ceil(count * math.log2(1 + step)))


def _is_nearest_enough(arithmetic: Arithmetic, terms: Measure, extent: _Extent, precision: int) -> bool:
    """Whether the conditions of NEAREST hold."""
    format = arithmetic.sum_format
    if (
        isinstance(format, FixedPoint)
        or not arithmetic.rounding.startswith("nearest")
        or arithmetic.order != "sequential"
        or not format.subnormals
    ):
        return False
    own = digits(format)
    if arithmetic.compensation is not None and not rounds_alike(
        precision, own, own, extent.unit, extent.unit, extent.top
    ):  # sums of two values of the format
        return False
    return rounds_alike(precision, own, terms.digits, terms.low, extent.unit, extent.top)


def rounds_alike(precision: int, own: int, other: int, low: int, unit: int, top: int) -> bool:
    """The conditions themselves.

    Args:
        precision: q, the significant bits of the type that computes sums.
        own: m, those of the format.
        other: P, those of products.
        low: Of what power of two products are multiples.
        unit: Of which one the format's values are.
        top: The exponent of its largest value.
    """
    if precision <= own + other:
        return False
    if other <= own and low >= unit:
        return precision > 2 * own
    return precision > other and unit > top + 1 - precision
