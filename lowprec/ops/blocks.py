"""What block-scaled products read: scales along a contraction, and elements, which are values over scales.

``torch.ops.lowprec.block_scales(x, format, axis)``
    the scales of the groups of x, in float64, for each index of the other axes; and one more, that of the
    tensor, which is 1 where scales have none.
"""

from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.formats import Scaled, resolve
from lowprec.kernels.multiply import BlockScales
from lowprec.kernels.operands import Operand, pack
from lowprec.ops import scaling
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.constant import constant
from lowprec.ops.library import quantized

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define("block_scales(Tensor x, str format, int axis) -> (Tensor, Tensor)")

Doubles = npt.NDArray[np.float64]


LEAST, _MOST = 2.0**-149, 2.0**128
"""Between which scales times sums are exact in float64; see ``Arithmetic``'s check of its formats."""


class Blocks(NamedTuple):
    """The groups of the two operands of a batch of matrix products."""

    size: int
    """Elements of a group along the contraction; 0 for all."""
    elements: list[str]
    """What element_of says of the formats of both."""
    scales: list[Tensor]
    """Of the left groups, (batch, i, groups), and of the right ones, (batch, groups, j); of both tensors."""


@constant
def element_of(format: str) -> str:
    """The format of a scaled format's elements; empty where quotients by scales, powers of two, are those."""
    parsed = resolve(format)
    return str(parsed.element) if isinstance(parsed, Scaled) and parsed.levels else ""


def _widened(x: Tensor) -> Doubles:
    """Numbers in float64, those that hardware would flush among them."""
    if x.dtype == torch.float8_e8m0fnu:
        codes = x.view(torch.uint8).numpy().astype(np.int64)
        return np.where(codes == 255, np.nan, np.ldexp(1.0, codes - 127))
    x = x if x.dtype in CARRIERS else x.float()
    rows = x.reshape(1, 1, -1)
    step = rows.stride(2)
    operand = Operand(rows.data_ptr(), CARRIERS[x.dtype], (1, 1, rows.shape[2]), (0, 0, step))
    return pack(operand, 1)[0].reshape(x.shape)


def is_scale(scales: Any) -> Any:
    """Which scales have exact products with sums."""
    return (scales >= LEAST) & (scales < _MOST)


def refuse_scale(scale: float) -> NoReturn:
    """Say which they are."""
    must = f"have groups whose scales lie between {LEAST:g} and {_MOST:g}"
    raise value_error("input", must, scale, "Scale it, or use another format.")


def over_scales(a: Operand, b: Operand, blocks: Blocks) -> tuple[tuple[Tensor, Tensor], BlockScales]:
    """The elements of two operands, and their scales as kernels take them."""
    threads, depth = torch.get_num_threads(), a.shape[2]
    size = blocks.size or max(depth, 1)
    left, right = (x.contiguous().numpy() for x in blocks.scales[:2])
    of_left, of_right = (x.item() for x in blocks.scales[2:])
    for scales in (left, right):
        outside = ~is_scale(scales)
        if outside.any():
            refuse_scale(scales[outside][0])
    index = np.arange(depth) // size
    elements = (
        _elements(pack(a, threads)[0], left[:, :, index], of_left, blocks.elements[0]),
        _elements(pack(b, threads)[0], right[:, index], of_right, blocks.elements[1]),
    )
    return elements, BlockScales(size, left, right, of_left * of_right)


def _elements(x: Doubles, scales: Doubles, tensor: float, element: str) -> Tensor:
    """The elements that give values when they are multiplied by scales.

    Over powers of two they are the quotients. Over other scales the carrier may have rounded the value, so
    they are what the quotients are nearest to.
    """
    with np.errstate(all="ignore"):  # of infinities and NaN
        quotients = torch.from_numpy(x / (scales * tensor))
    return quantized(quotients.float(), None, (element, "nearest_even", 32)) if element else quotients


def _block_scales(x: Tensor, format: str, axis: int) -> tuple[Tensor, Tensor]:
    """The kernel of block_scales."""
    if x.is_cuda:
        from lowprec.ops.cuda import products

        return products.block_scales(x, format, axis)
    parsed: Any = resolve(format)
    if isinstance(parsed, Scaled):
        levels = torch.ops.lowprec.scales(x, format)
    else:  # block floating point, whose exponents encode gives as powers of two
        levels = torch.ops.lowprec.encode_groups(x, [], None, format, "nearest_even", 32)[1:]
    groups, *outer = map(_widened, levels)
    if not isinstance(parsed, Scaled):  # of zeros, in float64
        groups = np.maximum(groups, LEAST)
    tiles = parsed.granularity.tiles(tuple(x.shape))
    for d, (tile, size) in enumerate(zip(tiles, x.shape, strict=True)):
        if d != axis % x.dim():
            groups = np.repeat(groups, min(tile, max(size, 1)), d).take(range(size), d)
    tensor = torch.ones(1, dtype=torch.float64)
    if outer:
        tensor[0] = outer[0].item()
    return torch.from_numpy(np.ascontiguousarray(groups)), tensor


for _device in ("CPU", "CUDA"):
    _library.impl("block_scales", _block_scales, _device)


@torch.library.register_fake("lowprec::block_scales", lib=_library)
def _(x: Tensor, format: str, axis: int) -> tuple[Tensor, Tensor]:
    parsed: Any = resolve(format)
    shape = list(x.shape)
    shape[axis] = scaling.grid_of(parsed, x.shape)[axis]
    return x.new_empty(shape, dtype=torch.float64), x.new_empty(1, dtype=torch.float64)
