"""Hard inputs over scales that are no powers of two: around every threshold times the scale of its group.

The scale of a group follows from its anchor, the largest of its numbers, so that comes first; the
others are then chosen for the scales that the anchors give.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.app.verify import scaling
from lowprec.app.verify.setting import Setting, settings
from lowprec.formats import Scaled
from lowprec.formats.carriers import CARRIERS

Float64 = npt.NDArray[np.float64]

_MOST = 700
"""Numbers of one call, above which they are chosen at regular distances."""
_FACTORS = (1.1, 1.37, 1.0, 1.71, 1.93)
_LOWER = (-0.4, -1.0, -3.3)
"""Where zero points begin: the lower end of a group over its upper one."""
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def over_scales(multiples: Float64, format: Scaled, carrier: torch.dtype, setting: Setting) -> Tensor:
    """The carrier's numbers at and next to multiples of the scales of their groups, and specials.

    Args:
        multiples: Magnitudes; those past the largest number of a group become that.
        format: A scaled format with the rule amax.
        carrier: The dtype of the inputs.
        setting: A mode; each has other scales, which matters where one is for all.

    Returns:
        A tensor of three dimensions.

    Example:
        >>> from lowprec.formats import parse
        >>> x = over_scales(np.array([0.5]), parse("int8"), torch.float32, settings()[0])
        >>> x.shape, round(float(x.flatten()[0]), 3)
        (torch.Size([1, 4, 48]), 139.7)
    """
    number = settings().index(setting)
    multiples = np.unique(multiples)
    multiples = multiples[number % 3 :: -(-6 * multiples.size // _MOST)]  # others in other modes
    signed = np.concatenate([np.repeat(multiples, 3), -np.repeat(multiples, 3)])
    depth = 1
    while (places := _places((depth, 4, 48), format))[2].sum() < signed.size:
        depth += 1
    first, second, others = places
    x = np.zeros(others.shape)
    largest = _anchors(int(first.sum()), number, format, carrier)
    x[first] = largest
    if format.zero_point:
        x[second] = np.resize(largest, second.sum()) * _LOWER[number % len(_LOWER)]
    x = _held(x, carrier)
    ends = _ends(x, format)
    scale, _ = scaling.scales(x, format)
    room = int(others.sum())
    target = np.resize(signed, room) * scale[others]
    steps = torch.from_numpy(np.resize([-1, 0, 1], room))
    bits = torch.from_numpy(target).to(carrier).abs().view(_INTEGERS[carrier.itemsize])
    moved = (bits + steps).clamp(min=0).to(bits.dtype).view(carrier).double().numpy()
    x[others] = np.clip(np.copysign(moved, target), *(end[others] for end in ends))
    specials = [math.nan, math.inf, -math.inf, -0.0]
    x[others] = np.where(np.arange(room) % 53 == 7, np.resize(specials, room), x[others])
    return torch.from_numpy(x).to(carrier)


def _places(shape: tuple[int, ...], format: Scaled) -> tuple[npt.NDArray[np.bool_], ...]:
    """The first element of every group, the second where both ends count, the others; small ones have few."""
    tiles = format.granularity.tiles(shape)
    within = [index % tile for index, tile in zip(np.indices(shape), tiles, strict=True)]
    order = np.zeros(shape, np.int64)
    for index, tile in zip(within, tiles, strict=True):
        order = order * tile + index
    size = math.prod(tiles)
    first = (order == 0) & (size > 1)
    second = (order == 1) & (size > 2 and format.zero_point)
    return first, second, ~(first | second)


def _anchors(count: int, number: int, format: Scaled, carrier: torch.dtype) -> Float64:
    """The largest number of each group: some at the ends of the carrier's exponents."""
    held = CARRIERS[str(carrier).removeprefix("torch.")]
    top = math.frexp(format.element.max)[1]
    lowest, highest = max(held.lowest_exponent, -149), min(held.highest_exponent, 127)
    exponents = (0, 0, 3, highest - top, 0, lowest + 4 - top, -7)
    each = np.arange(number, number + count)
    factors = np.take(_FACTORS, each % len(_FACTORS))
    return np.asarray(format.element.max * factors * 2.0 ** np.take(exponents, each % len(exponents)))


def _held(x: Float64, carrier: torch.dtype) -> Float64:
    """Numbers rounded to what both the carrier and float32 hold."""
    narrow = torch.from_numpy(x).to(torch.float32).to(carrier)
    return np.asarray(narrow.double().numpy())


def _ends(x: Float64, format: Scaled) -> tuple[Float64, Float64]:
    """Between which numbers others in the group of each do not change its scale."""
    tiles = format.granularity.tiles(x.shape)
    low = scaling.reduced(x, tiles, np.minimum)
    high = scaling.reduced(x, tiles, np.maximum)
    if not format.zero_point:
        low = -high
    return scaling.spread(low, tiles, x.shape), scaling.spread(high, tiles, x.shape)
