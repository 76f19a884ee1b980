"""The torch operators of scales, in the namespace ``torch.ops.lowprec``; see library.py for the others.

``scales(x, format)``
    what a scaled format takes for scales, level by level.
``quantize_with(x, scales, seed, format, rounding, random_bits, stream, index_offset, index_strides)``
    quantize with scales that are given; its gradient is the identity.
``overflowed_with(…)``
    True where overflow fires in quantize_with with the same arguments.
"""

from typing import Any

import torch
from torch import Tensor

from lowprec.formats import resolve
from lowprec.kernels import dispatch
from lowprec.kernels.cpu import FLAGS, VALUES
from lowprec.ops import scaling
from lowprec.ops.carriers import CARRIERS, Strides
from lowprec.ops.search import found_by_trying

_ARGUMENTS = (
    "Tensor x, Tensor?[] scales, Tensor? seed, str format, str rounding, int random_bits, int stream=0,"
    " int index_offset=0, int[]? index_strides=None"
)
_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define("scales(Tensor x, str format) -> Tensor[]")
_library.define(f"quantize_with({_ARGUMENTS}) -> Tensor")
_library.define(f"overflowed_with({_ARGUMENTS}) -> Tensor")


def _scales(x: Tensor, format: str) -> list[Tensor]:
    """The kernel of scales."""
    parsed: Any = resolve(format)
    levels = scaling.room_for(x, parsed)
    if x.is_cuda and x.numel():
        from lowprec.ops.cuda.groups import make_scales

        make_scales(x, parsed, levels)
    elif x.numel():
        codes: Any = found_by_trying(x, CARRIERS[x.dtype], format) or dispatch.make_scales(
            x.data_ptr(),
            CARRIERS[x.dtype],
            tuple(x.shape),
            x.stride(),
            parsed,
            threads=torch.get_num_threads(),
        )
        scaling.fill(levels, codes)
    return levels


def _run(
    kind: int, x: Tensor, out: Tensor, scales: list[Tensor | None], seed: Tensor | None, format: str,
    rounding: str, random_bits: int, stream: int = 0, index_offset: int = 0, index_strides: Strides = None,
) -> Tensor:  # fmt: skip
    """Call the kernel of the tensor's device."""
    if x.is_cuda:
        from lowprec.ops.cuda.groups import quantize

        arguments = format, rounding, random_bits, stream, index_offset, index_strides, kind, scales
        quantize(x, out, seed, *arguments)
        return out
    parsed: Any = resolve(format)
    dispatch.quantize(
        x.data_ptr(), out.data_ptr(), CARRIERS[x.dtype], tuple(x.shape), x.stride(), out.stride(), format,
        rounding,
        random_bits=random_bits,
        seed=0 if seed is None else seed.item(),  # type: ignore[arg-type]  # int64
        stream=stream,
        index_offset=index_offset,
        index_strides=None if index_strides is None else tuple(index_strides),
        threads=torch.get_num_threads(),
        kind=kind,
        scales=scaling.codes_of("scale", scales, parsed, x.shape, nan=False),
    )  # fmt: skip
    return out


def _quantize_with(x: Tensor, *arguments: Any) -> Tensor:
    """The kernel of quantize_with."""
    return _run(VALUES, x, torch.empty_like(x), *arguments)


def _overflowed_with(x: Tensor, *arguments: Any) -> Tensor:
    """The kernel of overflowed_with."""
    return _run(FLAGS, x, torch.empty_like(x, dtype=torch.bool), *arguments)


for _device in ("CPU", "CUDA"):
    _library.impl("scales", _scales, _device)
    _library.impl("quantize_with", _quantize_with, _device)
    _library.impl("overflowed_with", _overflowed_with, _device)


@torch.library.register_fake("lowprec::scales", lib=_library)
def _(x: Tensor, format: str) -> list[Tensor]:
    parsed: Any = resolve(format)
    return scaling.room_for(x, parsed)


@torch.library.register_fake("lowprec::quantize_with", lib=_library)
def _(x: Tensor, scales: list[Tensor | None], seed: Tensor | None, format: str, *_: Any) -> Tensor:
    parsed: Any = resolve(format)
    scaling.check_levels("scale", scales, parsed, x.shape, partial=True)
    return torch.empty_like(x)


@torch.library.register_fake("lowprec::overflowed_with", lib=_library)
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, dtype=torch.bool)


def _note_structure(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Remember what the gradient must be nested like: the arguments, without what the dispatcher drops.

    That is from the end what equals its default: strides, offset and stream.
    """
    scales, *rest = inputs[1:]
    for default in (None, 0, 0):
        if rest[-1] != default:
            break
        rest.pop()
    of_scales = None if any(level is None for level in scales) else [None] * len(scales)
    ctx.others = of_scales, *[None] * len(rest)


def _straight_through(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """The gradient of quantize_with: the identity."""
    return gradient, *ctx.others


torch.library.register_autograd(
    "lowprec::quantize_with", _straight_through, setup_context=_note_structure, lib=_library
)
