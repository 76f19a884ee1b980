"""Inputs that rounding code gets wrong: values, ties, their neighbours, the ends of every range."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lowprec.formats import BlockFloatingPoint, FixedPoint, FloatingPoint
from lowprec.formats.format import power_of_two

Float32 = npt.NDArray[np.float32]

_ALL_CODES = 1 << 12
"""Formats with this many non-negative codes or fewer are covered completely."""
_SAMPLED = 400
"""About how many codes of a wider format are covered besides its ends and powers of two."""


def all_bfloat16() -> Float32:
    """All 65,536 bit patterns of bfloat16 in the order of their codes, widened to float32."""
    return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)


def hard_values(format: FloatingPoint | FixedPoint | BlockFloatingPoint) -> Float32:
    """Values of a format, midpoints, their float32 neighbours, range ends, specials; both signs.

    Formats of up to 4,096 non-negative values are covered completely, wider ones at their ends,
    around powers of two, and at regular strides. For a block format all finite inputs lie within
    (-2, 2), so that the exponent of a group that holds them all is 0.
    """
    codes = _codes(format)
    values = [_magnitude(format, code) for code in codes]
    above = [_magnitude(format, code + 1) for code in codes]
    midpoints = [(low + high) / 2 for low, high in zip(values, above, strict=True)]
    tiny = _magnitude(format, 1)
    exact = [*values, *above, *midpoints, tiny / 4, 3 * tiny / 4]
    with np.errstate(over="ignore", under="ignore"):
        finite = np.array([float(m) for m in exact]).astype(np.float32)
        finite = finite[np.isfinite(finite)]
        neighbors = [np.nextafter(finite, np.float32(end)) for end in (0, np.inf)]
    limits = np.finfo(np.float32)
    ends = [limits.smallest_subnormal, limits.smallest_normal, limits.max, np.inf, np.nan]
    positive = np.concatenate([np.float32([0, *ends]), finite, *neighbors])
    if isinstance(format, BlockFloatingPoint):
        positive = positive[~np.isfinite(positive) | (positive < 2)]
    both = np.concatenate([positive, -positive])
    return np.unique(both.view(np.uint32)).view(np.float32)


def _codes(format: FloatingPoint | FixedPoint | BlockFloatingPoint) -> list[int]:
    """The non-negative codes to cover, and a few past the largest."""
    if isinstance(format, FloatingPoint):
        largest = format.largest_code
        turns = [field << format.mantissa_bits for field in range(1 << format.exponent_bits)]
    else:
        largest = format.largest_integer
        turns = [1 << bit for bit in range(format.word_bits)]
    if largest < _ALL_CODES:
        return list(range(largest + 4))
    stride = (largest // _SAMPLED) | 1  # odd, so that it meets even and odd codes
    codes = {*range(40), *range(0, largest, stride), *range(largest - 40, largest + 4)}
    codes.update(turn + step for turn in turns for step in (-2, -1, 0, 1))
    return sorted(code for code in codes if 0 <= code <= largest + 3)


def _magnitude(format: FloatingPoint | FixedPoint | BlockFloatingPoint, code: int) -> Fraction:
    """The value of a code, also past the largest."""
    if isinstance(format, FloatingPoint):
        return format.magnitude(code)
    if isinstance(format, FixedPoint):
        return code * power_of_two(-format.fraction_bits)
    return code * power_of_two(2 - format.word_bits)
