"""The inputs on which a kernel is most likely to be wrong: both sides of everything.

A *threshold* is a magnitude where the result of some mode changes. It is a value of the format, or lies
between two adjacent ones at the same part of the way for each pair. Thresholds are float64 numbers; where
that rounds one, its neighbors in a carrier still lie on both sides, because a carrier's numbers next to
the rounded threshold are taken with it.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.app.verify.anchors import over_scales
from lowprec.app.verify.lists import posit_boundaries
from lowprec.app.verify.setting import Setting
from lowprec.errors import type_error
from lowprec.formats import FixedPoint, FloatingPoint, Format, GroupedFormat, Posit, Scaled, TabledFormat
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding, ScaleRule

Float64 = npt.NDArray[np.float64]

FEW_CODES = 1 << 10
"""Formats of more magnitudes are covered in part where the reference is the oracle."""

_ENDS = 40
_STRIDES = 150
_SPREAD = 8
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_NEAREST = ("nearest_even", "nearest_away", "nearest_zero", "nearest_odd", "nearest_up", "nearest_down")


def holders(format: Format) -> list[torch.dtype]:
    """The carriers that hold a format, narrow ones first.

    Args:
        format: Any format.

    Returns:
        Torch dtypes.

    Example:
        >>> from lowprec.formats import parse
        >>> holders(parse("binary16"))
        [torch.float16, torch.float32, torch.float64]
    """
    return [getattr(torch, name) for name, c in CARRIERS.items() if format.missing_in(c) is None]


def patterns(carrier: torch.dtype) -> Tensor:
    """All 65,536 bit patterns of a 16-bit carrier, in the order of their codes.

    Args:
        carrier: ``torch.bfloat16`` or ``torch.float16``.

    Returns:
        A tensor of that dtype.

    Example:
        >>> patterns(torch.float16)[0x3C00]
        tensor(1., dtype=torch.float16)
    """
    return torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(carrier)


def position(setting: Setting) -> float:
    """How far on the way between two adjacent values the mode begins to choose the farther one.

    Args:
        setting: A mode and its word.

    Returns:
        Between 0, which also stands for the values themselves, and 1.

    Example:
        >>> position(Setting(Rounding.STOCHASTIC, 8, 0x40000000))
        0.75
    """
    if setting.rounding in _NEAREST:
        return 0.5
    if setting.word is None:
        return 0.0
    if setting.rounding is Rounding.STOCHASTIC_EQUAL:
        return float(setting.word < 1 << 31)
    bits = setting.random_bits or 32
    outcomes, drawn = 1 << bits, setting.word >> (32 - bits)
    early = 0.0 if setting.rounding is Rounding.STOCHASTIC else 0.5
    return (outcomes - drawn - early) / outcomes


def thresholds(format: Format, setting: Setting) -> Float64:
    """Every magnitude where the result of a mode changes, between zero and past the largest value.

    Args:
        format: A format of few enough values to list.
        setting: A mode and its word.

    Returns:
        Ascending; the last one lies past the largest value.

    Example:
        >>> thresholds(FloatingPoint(2, 1), Setting(Rounding.NEAREST_EVEN))[-3:]
        array([2.5, 3.5, 5. ])
    """
    lower, upper = ladder(format, every_code=True)
    return np.unique(lower + (upper - lower) * position(setting))


def hard_inputs(
    format: Format, setting: Setting, carrier: torch.dtype, *, every_code: bool = False
) -> Tensor:
    """Values, midpoints, the mode's thresholds, their neighbors in the carrier, range ends, specials.

    For a stochastic mode no midpoints, and no neighbors of values: its thresholds are elsewhere.

    Args:
        format: Floating, fixed or block floating point.
        setting: A mode and its word.
        carrier: The dtype of the inputs.
        every_code: Whether to cover a format of many values completely; else its ends, the powers of
            two and every so many codes.

    Returns:
        Both signs, each number once; for a block format in groups whose largest magnitude has
        exponent 0, or the ends of the carrier's exponents. Over scales that are no powers of two all
        of that times the scales of the groups that it stands in.

    Example:
        >>> from lowprec.formats import parse
        >>> hard_inputs(parse("e2m1"), Setting(Rounding.UP), torch.float32).isnan().any()
        tensor(True)
    """
    if isinstance(format, Scaled) and format.scale_rule is ScaleRule.AMAX:
        lower, upper = ladder(format.element, every_code=False)
        own = lower + (upper - lower) * position(setting)
        return over_scales(np.concatenate([lower, (lower + upper) / 2, own]), format, carrier, setting)
    if isinstance(format, GroupedFormat):
        one_group = hard_inputs(format.in_group(0), setting, carrier)
        return in_groups(one_group, format)
    lower, upper = ladder(format, every_code=every_code)
    gap = upper - lower
    if isinstance(format, TabledFormat | Posit):
        turns = [lower, upper, _boundaries(format, lower, upper), lower + gap / 2, upper[-1:] * 2]
        return both_sides(np.abs(np.concatenate([*turns, lower + gap * position(setting)])), carrier)
    own = lower + gap * position(setting)
    if setting.word is not None:
        return torch.cat([both_sides(own, carrier), torch.from_numpy(lower).to(carrier)])
    tiny = upper[:1]
    return both_sides(np.concatenate([lower, upper, lower + gap / 2, own, tiny / 4, tiny * 0.75]), carrier)


def both_sides(magnitudes: Float64, carrier: torch.dtype) -> Tensor:
    """Magnitudes in a carrier, the numbers next to them, the carrier's ends and specials; both signs.

    Args:
        magnitudes: Not negative; those past the carrier's range stand for infinity.
        carrier: A floating-point dtype.

    Returns:
        In ascending order of the bit patterns.

    Example:
        >>> both_sides(np.array([1.0]), torch.bfloat16)[3:6]
        tensor([0.9961, 1.0000, 1.0078], dtype=torch.bfloat16)
    """
    integers = _INTEGERS[carrier.itemsize]
    limits = torch.finfo(carrier)
    ends = torch.tensor([0.0, limits.tiny, limits.max, math.inf], dtype=carrier).view(integers)
    infinity = int(ends[-1])
    bits = torch.from_numpy(magnitudes).to(carrier).view(integers)
    around = torch.cat([bits - 1, bits, bits + 1, ends, ends[:1] + 1]).clamp(0, infinity)
    largest = torch.iinfo(integers).max
    nan = torch.tensor([infinity + 1, largest], dtype=integers)
    positive = torch.unique(torch.cat([around, nan]))
    return torch.cat([positive, positive | torch.iinfo(integers).min]).view(carrier)


def in_groups(x: Tensor, format: GroupedFormat) -> Tensor:
    """Numbers in groups that an anchor leads, so that the numbers below twice the anchor share exponent 0.

    The same follows with every exponent moved to either end of the carrier's.

    Args:
        x: Numbers; the finite ones from twice the anchor on are left out.
        format: Its granularity makes the groups.

    Returns:
        A tensor of three dimensions.

    Example:
        >>> from lowprec.formats import parse
        >>> in_groups(torch.tensor([0.5, 8.0, 0.25]), parse("bfp8<group2>"))[0, 0, :4]
        tensor([1.0000, 0.5000, 1.0000, 0.2500])
    """
    highest = format.element_exponent if isinstance(format, Scaled) else 0
    x = x[(x.abs() < 2.0 ** (highest + 1)) | ~x.isfinite()]
    x = torch.cat([x[first::_SPREAD] for first in range(_SPREAD)])  # every part holds all magnitudes
    depth = 1
    while (~(anchored := _anchors((depth, 4, 48), format))).sum() < x.numel():
        depth += 1
    blank = torch.full(anchored.shape, 2.0**highest, dtype=x.dtype)
    room = int((~anchored).sum())
    blank[~anchored] = x.repeat(-(-room // x.numel()))[:room]
    carrier = CARRIERS[str(x.dtype).removeprefix("torch.")]
    ends = carrier.highest_exponent - highest, carrier.lowest_exponent + 3 - highest
    moved = [blank[:1].double() * 2.0**e for e in ends]
    return torch.cat([blank, *(part.to(x.dtype) for part in moved)])


def _anchors(shape: tuple[int, ...], format: GroupedFormat) -> Tensor:
    """The first element of every group; none where a group is one element."""
    tiles = format.granularity.tiles(shape)
    firsts = [index % tile == 0 for index, tile in zip(np.indices(shape), tiles, strict=True)]
    return torch.from_numpy(np.logical_and.reduce(firsts)) & (math.prod(tiles) > 1)


def shuffled(x: Tensor) -> Tensor:
    """Numbers in another order, in which neighbors differ in every bit field.

    Args:
        x: 65,536 numbers.

    Returns:
        The same numbers in the shape (128, 8, 64).

    Example:
        >>> shuffled(patterns(torch.bfloat16)).shape
        torch.Size([128, 8, 64])
    """
    order = torch.arange(x.numel()) * 40503 % x.numel()  # an odd number near the golden ratio's part
    return x[order].view(128, 8, 64)


@lru_cache(maxsize=8)
def ladder(format: Format, *, every_code: bool) -> tuple[Float64, Float64]:
    """Pairs of adjacent magnitudes, ascending, continued past the largest value.

    Formats that list their values are not continued; of a pair next to or across zero the lower one is
    zero or negative, and pairs of negative values follow those of positive ones.

    Args:
        format: Floating or fixed point, a posit, or one that lists its values.
        every_code: Whether to list all pairs, also of a format that has many.

    Returns:
        The lower and the upper value of every pair.

    Raises:
        TypeError: If the format is none of these.

    Example:
        >>> ladder(FloatingPoint(2, 1), every_code=True)[0]
        array([0. , 0.5, 1. , 1.5, 2. , 3. , 4. ])
    """
    if isinstance(format, Posit):
        turns = [1 << bit for bit in range(format.bits - 1)]
        chosen = _chosen((1 << (format.bits - 1)) - 2, turns, every_code=every_code)
        pairs = [(float(format.magnitude(code)), float(format.magnitude(code + 1))) for code in chosen]
        return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    if isinstance(format, TabledFormat):
        return _listed_pairs(format, every_code=every_code)
    if not isinstance(format, FloatingPoint | FixedPoint):
        raise type_error("format", "be floating or fixed point, a posit or a list", format)
    if isinstance(format, FixedPoint):
        lower = np.array(_fixed_codes(format, every_code=every_code), np.float64)
        step = float(format.step)
        return lower * step, (lower + 1) * step
    codes = _floating_codes(format, every_code=every_code)
    lowest = 0 if format.subnormals else 1 << format.mantissa_bits
    first = [_float(format, max(lowest, 1))]
    pairs = [(_float(format, code), _float(format, code + 1)) for code in codes if code >= max(lowest, 1)]
    lower = np.array([0.0, *(a for a, _ in pairs)])
    upper = np.array([*first, *(b for _, b in pairs)])
    finite = np.isfinite(upper)
    return lower[finite], upper[finite]


def _listed_pairs(format: TabledFormat, *, every_code: bool) -> tuple[Float64, Float64]:
    """Adjacent values in the direction in which magnitudes grow, for either sign."""
    values = format.values()
    chosen = np.array(_chosen(values.size - 2, [int(np.searchsorted(values, 0.0))], every_code=every_code))
    low, high = values[chosen], values[chosen + 1]
    up, down = high > 0, low < 0
    return np.concatenate([low[up], -high[down]]), np.concatenate([high[up], -low[down]])


def _boundaries(format: TabledFormat | Posit, lower: Float64, upper: Float64) -> Float64:
    """Where the nearest modes turn, as far as that is not halfway."""
    if isinstance(format, Posit):
        return posit_boundaries(lower, upper)
    found = [float(boundary) for boundary in format.boundaries()]
    return np.array(found[:: 1 + len(found) // (2 * FEW_CODES)])


def _float(format: FloatingPoint, code: int) -> float:
    """The value of a code, also past the largest; infinity past float64."""
    try:
        return float(format.magnitude(code))
    except OverflowError:
        return math.inf


def _floating_codes(format: FloatingPoint, *, every_code: bool) -> list[int]:
    """The codes to cover, the first one past the largest included."""
    largest = format.largest_code
    turns = [field << format.mantissa_bits for field in range(1 << format.exponent_bits)]
    return _chosen(largest + 1, turns[:: max(len(turns) // _STRIDES, 1)], every_code=every_code)


def _fixed_codes(format: FixedPoint, *, every_code: bool) -> list[int]:
    """The integers to cover: past both ends of the range, and where a carry runs through."""
    word_bits = format.word_bits or 40
    turns = [1 << bit for bit in range(word_bits + 4)]
    far = [turn + step for turn in turns[word_bits:] for step in (-2, -1, 0, 1)]
    inside = _chosen((1 << word_bits) - 1 if format.word_bits else far[-1], turns, every_code=every_code)
    return sorted({*inside, *far})


def _chosen(largest: int, turns: list[int], *, every_code: bool) -> list[int]:
    """All codes up to the largest, or its ends, the turns and every so many."""
    if every_code or largest <= FEW_CODES:
        return list(range(largest + 1))
    stride = (largest // _STRIDES) | 1  # odd, so that it meets even and odd codes
    codes = {*range(_ENDS), *range(0, largest, stride), *range(largest - _ENDS, largest + 1)}
    codes.update(turn + step for turn in turns for step in (-1, 0, 1))
    return sorted(code for code in codes if 0 <= code <= largest)
