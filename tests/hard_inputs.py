"""Inputs that rounding code gets wrong: values, ties, their neighbors, the ends of every range."""

from bisect import bisect_left
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import posit_strings

from lowprec import reference
from lowprec.formats import FixedPoint, FloatingPoint, GroupedFormat, Posit, Scaled, TabledFormat
from lowprec.formats.format import power_of_two
from lowprec.modes import Rounding

AnyFormat = FloatingPoint | FixedPoint
Ended = TabledFormat | Posit
Floats = npt.NDArray[np.floating]
Float32 = npt.NDArray[np.float32]

_ALL_CODES = 1 << 12
"""Formats with this many non-negative codes or fewer are covered completely."""
_SAMPLED = 400
"""About how many codes of a wider format are covered besides its ends and powers of two."""
_UNBOUNDED_BITS = 25
"""How far the multiples of an unbounded format's step are covered."""
_DTYPES = {"bfloat16": np.float32, "float16": np.float16, "float32": np.float32, "float64": np.float64}


def all_bfloat16() -> Float32:
    """All 65,536 bit patterns of bfloat16 in the order of their codes, widened to float32."""
    return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)


def all_float16() -> npt.NDArray[np.float16]:
    """All 65,536 bit patterns of float16 in the order of their codes."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def anchor(format: GroupedFormat) -> float:
    """The magnitude that, with all below its double, gives a group the exponent 0.

    It does so in block floating point, and by the scale rule floor.
    """
    return 2.0**format.element_exponent if isinstance(format, Scaled) else 1.0


def hard_values(format: AnyFormat | Ended | GroupedFormat, carrier: str = "float32") -> Floats:
    """Values of a format, midpoints, their neighbors in the carrier, range ends, specials; both signs.

    Formats of up to 4,096 non-negative values are covered completely, wider ones at their ends,
    around powers of two, and at regular strides. For a format with groups all finite inputs lie below
    the double of its anchor, so that the exponent of a group that holds them all is 0. Those of bfloat16
    are float32.
    """
    if isinstance(format, GroupedFormat):
        x = hard_values(format.in_group(0), carrier)
        with np.errstate(invalid="ignore"):  # by a signaling NaN
            return x[~np.isfinite(x) | (np.abs(x) / 2 < anchor(format))]
    if isinstance(format, Ended):
        return _all_around(_of_list(format), carrier)
    codes = _codes(format)
    values = [_magnitude(format, code) for code in codes]
    above = [_magnitude(format, code + 1) for code in codes]
    midpoints = [(low + high) / 2 for low, high in zip(values, above, strict=True)]
    tiny = _magnitude(format, 1)
    targets = [*values, *above, *midpoints, tiny / 4, 3 * tiny / 4, *_past_the_ends(format)]
    return _all_around(targets, carrier)


def tipping_number(x: float, format: FloatingPoint | FixedPoint, rounding: Rounding, random_bits: int) -> int:
    """The least number of random bits with which a magnitude goes to its upper neighbor, by bisection.

    It is 2 to ``random_bits`` where none does.
    """
    near = reference.neighbors(Fraction(abs(x)), format)

    def goes_up(number: int) -> bool:
        """Whether it does with that number."""
        word = number << (32 - random_bits)
        return reference.rounds_up(near, rounding, random_bits=random_bits, word=word)

    return bisect_left(range(1 << random_bits), True, key=goes_up)


def _all_around(targets: list[Fraction], carrier: str) -> Floats:
    """The numbers of a carrier at and next to each target, and its ends; of either sign, each once."""
    with np.errstate(over="ignore", under="ignore"):
        positive = np.concatenate([_around(targets, carrier), _ends(carrier)])
    both = np.concatenate([positive, -positive])
    return np.unique(both.view(f"u{both.itemsize}")).view(both.dtype)


def _around(targets: list[Fraction], carrier: str) -> Floats:
    """The numbers of a carrier at and next to each target."""
    nearest = np.array([_float(target) for target in targets]).astype(_DTYPES[carrier])
    nearest = nearest[np.isfinite(nearest)]
    if carrier == "bfloat16":
        upper_half = nearest.view(np.uint32) >> 16
        patterns = np.concatenate(
            [upper_half + step for step in (0, 1, 2)] + [upper_half[upper_half > 0] - 1]
        )
        return (patterns.astype(np.uint32) << 16).view(np.float32)
    ends = nearest.dtype.type(0), nearest.dtype.type(np.inf)
    return np.concatenate([nearest, *(np.nextafter(nearest, end) for end in ends)])


def _ends(carrier: str) -> Floats:
    """Zero, the ends of the carrier's subnormal and normal range, infinity and NaN."""
    if carrier == "bfloat16":
        patterns = np.uint32([0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7F81, 0x7FC0])
        return (patterns << 16).view(np.float32)
    limits = np.finfo(_DTYPES[carrier])
    below_normal = np.nextafter(limits.smallest_normal, limits.dtype.type(0))
    ends = [0, limits.smallest_subnormal, below_normal, limits.smallest_normal, limits.max, np.inf, np.nan]
    return np.array(ends, limits.dtype)


def _float(x: Fraction) -> float:
    """The nearest float64, infinite past the largest."""
    try:
        return float(x)
    except OverflowError:
        return np.inf


def _codes(format: AnyFormat) -> list[int]:
    """The non-negative codes to cover, and a few past the largest."""
    if isinstance(format, FloatingPoint):
        largest = format.largest_code
        turns = [field << format.mantissa_bits for field in range(1 << format.exponent_bits)]
    else:
        bits = format.word_bits or _UNBOUNDED_BITS
        largest = format.largest_integer if format.word_bits else 1 << bits
        turns = [1 << bit for bit in range(bits)]
    if largest < _ALL_CODES:
        return list(range(largest + 4))
    stride = (largest // _SAMPLED) | 1  # odd, so that it meets even and odd codes
    codes = {*range(40), *range(0, largest, stride), *range(largest - 40, largest + 4)}
    turns = turns[:: len(turns) // 256 + 1]
    codes.update(turn + step for turn in turns for step in (-2, -1, 0, 1))
    return sorted(code for code in codes if 0 <= code <= largest + 3)


def _of_list(format: Ended) -> list[Fraction]:
    """Magnitudes of values and boundaries, the middles of either, and what lies past the ends."""
    if isinstance(format, Posit):
        width, es = format.bits + 1, format.exponent_bits
        codes = _sampled(2**format.bits, [1 << place for place in range(width)])
        turns = [posit_strings.value(code, width, es) for code in codes if code < 2**format.bits]
    else:
        turns = [*map(Fraction, format.values().tolist()), *format.boundaries()]
        turns = [turns[place] for place in _sampled(len(turns), [])]
    found = sorted({abs(turn) for turn in turns})
    middles = [(low + high) / 2 for low, high in pairwise([Fraction(0), *found])]
    return [*found, *middles, *(Fraction(format.max) * factor for factor in (Fraction(5, 4), 2, 1000))]


def _sampled(count: int, turns: list[int]) -> list[int]:
    """All numbers below a count, or those at the ends, at the turns and at regular distances."""
    if count <= 2 * _ALL_CODES:
        return list(range(count))
    near = {turn + step for turn in (0, count // 2, count, *turns) for step in range(-9, 9)}
    near.update(range(0, count, (count // _SAMPLED) | 1))
    return sorted(number for number in near if 0 <= number < count)


def _past_the_ends(format: AnyFormat) -> list[Fraction]:
    """Magnitudes up to far past the largest value, around whole turns of a word."""
    if isinstance(format, FloatingPoint):
        return [format.magnitude(format.largest_code) * factor for factor in (Fraction(5, 4), 2, 3, 1000)]
    turn = 2 ** (format.word_bits or _UNBOUNDED_BITS)
    wholes = [turn * times // 2 for times in (1, 2, 3, 4, 5, 7, 2**9 + 1, 2**22)]
    near = [whole + Fraction(quarters, 4) for whole in wholes for quarters in range(-8, 9)]
    return [format.step * steps for steps in near if steps > 0]


def _magnitude(format: AnyFormat, code: int) -> Fraction:
    """The value of a code, also past the largest, and of a subnormal also where there are none."""
    if not isinstance(format, FloatingPoint):
        return code * format.step
    field, mantissa = divmod(code, 1 << format.mantissa_bits)
    significand = mantissa + (1 << format.mantissa_bits if field else 0)
    return significand * power_of_two(max(field, 1) - 1 + format.lowest_exponent - format.mantissa_bits)
