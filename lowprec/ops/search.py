"""Scales found by trying: those with the least squared error, decided exactly.

Which of two candidates is better is the sign of an integer: squared errors in units so small that all are
whole. Its windows of bits are added apart, so no order of additions shows, on no device, and nothing is
looked at on the way.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.formats import Codebook, Scaled, resolve
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.formats.format import floor_log2
from lowprec.kernels import dispatch
from lowprec.kernels.layout import row_major
from lowprec.modes import ScaleRule
from lowprec.ops.statistics import rows_of

_HALF = 26
"""Bits of the lower half of a significand; the upper has one more."""
_ROOM = 57
"""Bits of a sum of 16 terms, each a bit longer than the window that it is shifted into, in 64 bits."""
_ON_CPU, _ELSEWHERE = 14, 24
"""How many elements are compared at a time, as powers of two: they stay in a cache; or fill a device."""


def is_by_trying(format: object) -> bool:
    """Whether no formula gives the scales of a format."""
    return isinstance(format, Scaled) and format.scale_rule is ScaleRule.MSE


def found_by_trying(x: Tensor, carrier: str, format: str) -> tuple[npt.NDArray[Any], ...] | None:
    """The scales of a tensor on the CPU that no formula gives, as codes; None where a formula does."""
    parsed: Any = resolve(format)
    if not is_by_trying(parsed) or x.numel() == 0:
        return None
    shape = tuple(x.shape)
    values = _widened(x.contiguous(), carrier)
    steps = row_major(shape)

    def rounded(exponents: Tensor) -> Tensor:
        """The numbers over such scales."""
        out = torch.empty_like(values)
        dispatch.quantize(
            values.data_ptr(), out.data_ptr(), "float64", shape, steps, steps, format, "nearest_even",
            threads=torch.get_num_threads(), scales=(_codes(exponents, parsed),),
        )  # fmt: skip
        return out

    return (_codes(least_squared_error(values, parsed, carrier, rounded), parsed),)


def least_squared_error(
    x: Tensor, format: Scaled, carrier: str, rounded: Callable[[Tensor], Tensor]
) -> Tensor:
    """The exponents of the scales of each group under the rule ``mse``.

    Args:
        x: Numbers of a carrier in float64, not none.
        format: The format.
        carrier: The carrier.
        rounded: What gives x rounded to nearest even over scales with such exponents.
    """
    tiles = format.granularity.tiles(tuple(x.shape))
    members = rows_of(x, tiles, 0.0)
    finite = members.isfinite()
    kept = members.where(finite, 0.0)
    largest = kept.abs().amax(1)
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    floor = torch.frexp(largest).exponent.long() - (1 + format.element_exponent)
    floor = floor.where(largest > 0, lowest - 1)
    # From the largest to the smallest: of equally good candidates the first one stays.
    candidates = [(floor + step).clamp(lowest, highest) for step in (1, 0, -1)]
    tried = [rows_of(rounded(candidate), tiles, 0.0).where(finite, 0.0) for candidate in candidates]
    chosen, best = candidates[0], tried[0]
    for candidate, other in zip(candidates[1:], tried[1:], strict=True):
        closer = _is_closer(kept, other, best, candidate, format, carrier)
        chosen, best = candidate.where(closer, chosen), other.where(closer[:, None], best)
    return chosen


def _is_closer(
    x: Tensor, other: Tensor, best: Tensor, exponent: Tensor, format: Scaled, carrier: str
) -> Tensor:
    """In which rows ``other`` has a smaller squared error than ``best``, over scales that are no smaller.

    The error of what did not stay finite is infinite. ``exponent`` is that of the scales of ``other``.
    """
    ends = [rounded.isfinite().all(1) for rounded in (other, best)]
    low, high = _span(format, carrier)
    place, size = 2 * exponent + low, x.shape[1]
    window = min(_ROOM - size.bit_length(), high - low)
    places = range(0, high - low, window)
    many = 1 << (_ON_CPU if x.is_cpu else _ELSEWHERE)
    less = []
    for *rows, base in zip(*(t.split(max(many // size, 1)) for t in (x, other, best, place)), strict=True):
        sums: Any = 0
        for one, two, three in zip(*(t.split(many, 1) for t in rows), strict=True):
            sums = sums + _sums(_terms(one, two, three, format, carrier), base[:, None], places)
        less.append(_is_negative(sums, window))
    return ends[0] & (torch.cat(less) | ~ends[1])


def _terms(
    x: Tensor, other: Tensor, best: Tensor, format: Scaled, carrier: str
) -> list[tuple[Tensor, Tensor]]:
    """Of other^2 - best^2 - 2 x other + 2 x best, in integers and exponents."""
    differ = other != best
    of_x = _parts(x, RANGES[carrier].precision)
    terms = []
    for rounded, sign in ((other, 1), (best, -1)):
        own = _parts(rounded.where(differ, 0.0), format.precision)
        terms += [(sign * a * b, i + j) for a, i in own for b, j in own]
        terms += [(-2 * sign * a * b, i + j) for a, i in of_x for b, j in own]
    return terms


@lru_cache(maxsize=256)
def _span(format: Scaled, carrier: str) -> tuple[int, int]:
    """Of which power of two all terms are multiples, and below which one they lie, over the scale squared.

    Only of elements that two candidates round differently: from half the least magnitude on if there is a
    zero. The scale is the smaller one of two, of which the larger is at most four times as large; where both
    are not the same, the largest element lies below twice the largest value over twice the scale.
    """
    element, of_carrier = format.element, RANGES[carrier]
    values = [Fraction(0), Fraction(element.smallest_subnormal)]
    if isinstance(element, Codebook):
        values = list(element.table.exact)
    others = [abs(value) for value in values if value]
    unit = min(1 - value.denominator.bit_length() for value in others)
    if 0 in values:
        least = floor_log2(min(others)) - of_carrier.precision
    else:
        least = of_carrier.lowest_exponent - format.highest_group_exponent
    return min(unit, least) + unit, 2 * format.element_exponent + 7


def _parts(x: Tensor, digits: int) -> list[tuple[Tensor, Tensor]]:
    """Integers of at most 27 bits, and exponents, whose sum is a number of so many significant bits."""
    bits = x.view(torch.int64)
    field = bits >> 52 & 0x7FF
    significand = bits & (1 << 52) - 1 | (field > 0).long() << 52
    signed = torch.where(bits < 0, -significand, significand)
    exponent = field.clamp(min=1) - 1075
    upper = signed >> _HALF, exponent + _HALF
    return [upper] if digits <= 53 - _HALF else [upper, (signed & (1 << _HALF) - 1, exponent)]


def _sums(terms: list[tuple[Tensor, Tensor]], base: Tensor, places: range) -> Tensor:
    """The sums of each row in windows of bits, the lowest first, which begin so many places above 2^base.

    All terms are multiples of that, and go no further than the last window, which alone has a sign.
    """
    sums = []
    for low in places:
        digits: Any = 0
        for integer, exponent in terms:
            shift = exponent - (base + low)
            digit = integer << shift.clamp(0, places.step) >> (-shift).clamp(0, 63)
            digits = digits + (digit if low == places[-1] else digit & (1 << places.step) - 1)
        sums.append(digits.sum(1))
    return torch.stack(sums)


def _is_negative(sums: Tensor, window: int) -> Tensor:
    """Whether all windows of a row together lie below zero."""
    total = sums[0]
    for higher in sums[1:]:
        total = higher + (total >> window)
    return total < 0


def _widened(x: Tensor, carrier: str) -> Tensor:
    """The numbers in float64, by integers: hardware may take subnormals for zeros."""
    if carrier == "float64":
        return x.clone()
    patterns = x.view({2: torch.uint16, 4: torch.uint32}[x.element_size()]).numpy()
    out = torch.empty(x.shape, dtype=torch.float64)
    name = {"float32": "binary32", "float16": "binary16"}.get(carrier, carrier)
    dispatch.encode(
        patterns.ctypes.data, out.data_ptr(), "float64", str(patterns.dtype), x.numel(), name, decode=True
    )
    return out


def _codes(exponents: Tensor, format: Scaled) -> npt.NDArray[Any]:
    """The codes of scales that are powers of two."""
    if not format.levels:
        return (exponents + 127).numpy().astype(np.uint8)
    powers = np.ldexp(1.0, exponents.numpy())
    level = format.levels[0]
    codes = np.empty(powers.size, f"uint{next(width for width in (8, 16, 32) if level.bits <= width)}")
    dispatch.encode(powers.ctypes.data, codes.ctypes.data, "float64", str(codes.dtype), powers.size, level)
    return codes
