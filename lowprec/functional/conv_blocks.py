"""The factors of a convolution's three products, with groups of channels or examples side by side.

Each function is called with values and with the scales of their groups, which have fewer channels or
examples. What a convolution pads with, or a stride leaves out, is filled: with 0 among values, among scales
with 1.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.functional.bilinear import ConvProduct, _windows

Factors = tuple[Tensor, Tensor]


def of_forward(conv: ConvProduct, x: Tensor, weight: Tensor, places: Sequence[int], fill: float) -> Factors:
    """Kernels and windows: (example and group, channel, window and input channel), (…, place)."""
    windows = _windows(
        _padded(x, conv.padding, conv.padding, fill), weight.shape[2:], places, conv.stride, conv.dilation
    )
    channels = weight.reshape(conv.groups, weight.shape[0] // conv.groups, *weight.shape[1:]).flatten(3)
    return _side_by_side(channels, windows, x.shape[0], x.shape[1], conv.groups)


def of_input(conv: ConvProduct, error: Tensor, weight: Tensor, sizes: Sequence[int], fill: float) -> Factors:
    """Flipped kernels, and windows of the errors that a stride has spread: the same, by output channel."""
    reach = [d * (k - 1) for d, k in zip(conv.dilation, weight.shape[2:], strict=True)]
    spread = _spread(error, conv.stride, fill)
    before = [r - pad for r, pad in zip(reach, conv.padding, strict=True)]
    after = [
        size + r - have - first
        for size, r, have, first in zip(sizes, reach, spread.shape[2:], before, strict=True)
    ]
    ones = [1] * len(reach)
    windows = _windows(_padded(spread, before, after, fill), weight.shape[2:], sizes, ones, conv.dilation)
    outputs = _at_least(weight, 0, conv.groups)
    grouped = outputs.reshape(conv.groups, outputs.shape[0] // conv.groups, *weight.shape[1:])
    flipped = grouped.transpose(1, 2).flip(tuple(range(3, grouped.dim()))).flatten(3)
    return _side_by_side(flipped, windows, error.shape[0], error.shape[1], conv.groups)


def _side_by_side(kernels: Tensor, windows: Tensor, batch: int, channels: int, groups: int) -> Factors:
    """Both with places of the window outside, channels inside."""
    places = windows.shape[-1]
    split = _at_least(windows.reshape(batch, channels, -1, places), 1, groups)
    split = split.reshape(batch, groups, split.shape[1] // groups, *split.shape[2:])
    right = split.transpose(2, 3).reshape(batch * groups, -1, places)
    left = kernels.transpose(2, 3).flatten(2)
    return left.expand(batch, *left.shape).reshape(batch * groups, *left.shape[1:]), right


def of_weight(conv: ConvProduct, error: Tensor, x: Tensor, window: Sequence[int], fill: float) -> Factors:
    """Errors and windows: (group, channel, place and example), (group, …, channel and window)."""
    windows = _windows(
        _padded(x, conv.padding, conv.padding, fill), window, error.shape[2:], conv.stride, conv.dilation
    )
    batch, places = x.shape[0], prod(error.shape[2:])
    left = error.reshape(batch, conv.groups, -1, places).permute(1, 2, 3, 0).flatten(2)
    right = windows.reshape(batch, conv.groups, -1, places).permute(1, 3, 0, 2).flatten(1, 2)
    return left, right


def size_of_channels(conv: ConvProduct, channels: int, size: int) -> int:
    """The size of blocks of channels; refused if those do not fit into what the convolution keeps apart."""
    if conv.groups > 1 and size and channels // conv.groups % size:
        must = f"be 1, or leave a multiple of {size} channels to each, where chunk is 'block'"
        raise value_error("groups", must, f"{conv.groups} of {channels} channels")
    return shortened(size, channels // conv.groups)


def shortened(size: int, count: int) -> int:
    """The size of blocks of so many elements, of which there may be one only."""
    return size if size and count > size else count


def completed(x: Tensor, axis: int, size: int) -> Tensor:
    """Zeros behind the last along an axis, up to whole groups."""
    missing = -x.shape[axis] % size if size else 0
    if not missing:
        return x
    return torch.nn.functional.pad(x, [*[0, 0] * (x.dim() - 1 - axis), 0, missing])


def _at_least(x: Tensor, axis: int, groups: int) -> Tensor:
    """One index of an axis, if there is only one, for each of the groups."""
    if x.shape[axis] > 1 or groups == 1:
        return x
    return x.repeat_interleave(groups, axis)


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], fill: float) -> Tensor:
    """The ends of the spatial dimensions filled; what is less than none is cut."""
    ends = [end for pair in zip(reversed(before), reversed(after), strict=True) for end in pair]
    return torch.nn.functional.pad(x, ends, value=fill) if any(ends) else x


def _spread(x: Tensor, stride: Sequence[int], fill: float) -> Tensor:
    """Neighbors so far apart, filled between."""
    if all(step == 1 for step in stride):
        return x
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], stride, strict=True)]
    out = x.new_full((*x.shape[:2], *sizes), fill)
    out[(slice(None), slice(None), *(slice(None, None, step) for step in stride))] = x
    return out
