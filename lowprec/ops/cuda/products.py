"""product, and block_scales.

Kernels look at no number: where a dtype and formats do not say that all products are exact, operands are
checked here, and an error waits for the device.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor

from lowprec.arithmetic import Arithmetic
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, Scaled, resolve
from lowprec.kernels.cuda.multiply import Scales, multiplies_exactly, multiply
from lowprec.modes import Overflow
from lowprec.ops.blocks import LEAST, Blocks, is_scale, refuse_scale
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.cuda.given import refuse_where
from lowprec.ops.cuda.queue import address_of, queue_of
from lowprec.ops.library import quantized
from lowprec.ops.products import operand_of

_QUOTIENTS = "e9m23ieee"
"""What holds numbers of binary32 over powers of two that are scales, where those are no larger than 2^255."""
_FACTORS, _SUMMANDS = "e8m25ieee", "e10m52ieee"
"""What float64 operands and a bias may hold: two of the first have exact products, which overflow nowhere. Of
the second, all bits count where sums wrap, which are too many."""


def product(
    a: Tensor, b: Tensor, bias: Tensor | None, seed: Tensor | None, arithmetic: Arithmetic, stream: int,
    bias_step: int, formats: list[str] | None, blocks: Blocks | None = None,
) -> Tensor:  # fmt: skip
    """The products of two batches of matrices."""
    out, scales = a.new_empty(a.shape[0], a.shape[1], b.shape[2]), None
    if blocks is not None:
        a, b, of_blocks = _over_scales(a, b, blocks)
        size = blocks.size or max(a.shape[2], 1)
        scales = Scales(size, *(x.data_ptr() for x in of_blocks))
        formats = [element or _QUOTIENTS for element in blocks.elements]
    elif not multiplies_exactly(CARRIERS[a.dtype], CARRIERS[b.dtype], tuple(formats or ())):
        formats = [_FACTORS]
        for x in (a, b):
            _check_values("input", x, _FACTORS)
    summands: tuple[str, ...] = ()
    if bias is not None and bias.dtype == torch.float64:
        last = arithmetic.final
        wraps = isinstance(last, FixedPoint) and last.overflow is Overflow.WRAP
        summands = (_FACTORS if wraps else _SUMMANDS,)
        _check_values("bias", bias, *summands)
    multiply(
        queue_of(a), operand_of(a), operand_of(b), out.data_ptr(), CARRIERS[out.dtype], arithmetic,
        bias=None if bias is None else operand_of(bias.expand(1, 1, -1)),
        bias_step=bias_step,
        noise=(address_of(seed), stream),
        formats=tuple(formats or ()),
        summands=summands,
        scales=scales,
    )  # fmt: skip
    return out


def _check_values(name: str, x: Tensor, format: str) -> None:
    """Refuse numbers that are none of a format."""
    rounded = quantized(x, None, (format, "nearest_even", 32))

    def refuse(wrong: Tensor) -> NoReturn:
        """Name the first."""
        must = f"be values of {format} where products or sums of float64 could be inexact on a CUDA device"
        remedy = "Use x.cpu(), where all numbers are looked at, or name formats in the scheme."
        raise value_error(name, must, x[wrong][0].item(), remedy)

    refuse_where((rounded != x) & ~x.isnan(), refuse)


def _check_scales(scales: Tensor) -> None:
    """Refuse scales whose products with sums could be inexact."""
    refuse_where(~is_scale(scales), lambda wrong: refuse_scale(scales[wrong][0].item()))


def _over_scales(a: Tensor, b: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The elements of two operands, as ``blocks.over_scales`` has them, and their scales in memory."""
    if a.dtype == torch.float64:  # of others all are
        for scales in blocks.scales[:2]:
            _check_scales(scales)
    left, right, *tensors = of_blocks = [x.contiguous() for x in blocks.scales]
    index = torch.arange(a.shape[2], device=a.device) // (blocks.size or max(a.shape[2], 1))
    operands = (a, left[:, :, index], tensors[0]), (b, right[:, index], tensors[1])
    elements = []
    for (x, scales, tensor), element in zip(operands, blocks.elements, strict=True):
        quotients = x.double() / (scales * tensor)
        if a.dtype == torch.float64 and not element:
            _check_values("input", quotients, _QUOTIENTS)
        rounded = (element, "nearest_even", 32)
        elements.append(quantized(quotients.float(), None, rounded) if element else quotients)
    return elements[0], elements[1], of_blocks


def block_scales(x: Tensor, format: str, axis: int) -> tuple[Tensor, Tensor]:
    """The scales of groups and of the tensor in float64: of numbers of float32 they lie within its range."""
    parsed: Any = resolve(format)
    if isinstance(parsed, Scaled):
        levels = torch.ops.lowprec.scales(x, format)
    else:  # block floating point, whose exponents encode gives as powers of two
        levels = torch.ops.lowprec.encode_groups(x, [], None, format, "nearest_even", 32)[1:]
    groups, *outer = (level.double() for level in levels)
    if not isinstance(parsed, Scaled):  # of zeros, in float64
        groups = groups.clamp(min=LEAST)
    tiles = parsed.granularity.tiles(tuple(x.shape))
    for d, (tile, size) in enumerate(zip(tiles, x.shape, strict=True)):
        if d != axis % x.dim():
            groups = groups.repeat_interleave(min(tile, max(size, 1)), d).narrow(d, 0, size)
    tensor = outer[0].reshape(1) if outer else torch.ones(1, dtype=torch.float64, device=x.device)
    return groups.contiguous(), tensor
