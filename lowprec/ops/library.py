"""The torch operators, in the namespace ``torch.ops.lowprec``.

Formats and modes travel as strings, so that a compiled graph holds them as constants:

``quantize(x, seed, format, rounding, random_bits, stream, index_offset, index_strides)``
    deterministic in its arguments; its gradient is the identity.
``quantize_plain(…)``
    the same without a gradient, at a fraction of the cost of a call.
``quantize_out(…, out)``
    the same into existing memory.
``overflowed(…)``
    True where overflow fires in quantize with the same arguments.
``draw_seed(like, call)``
    a one-element int64 tensor on the device of ``like`` from that device's default generator. Tagged
    nondeterministic_seeded: compilers and checkpointing must not run it twice. ``call`` has no effect;
    it tells the calls of a graph apart, which AOTAutograd would otherwise merge in spite of the tag.

Arguments are checked where users call, not here.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad as _forward_ad

from lowprec.errors import value_error
from lowprec.formats import GroupedFormat, parse
from lowprec.kernels import dispatch
from lowprec.kernels.cpu import FLAGS, VALUES
from lowprec.kernels.threads import use_openmp_of
from lowprec.modes import Rounding
from lowprec.ops.carriers import CARRIERS, Strides
from lowprec.ops.search import found_by_trying
from lowprec.ops.torch_arithmetic import LIBRARY

_NUMBERS = (
    "str format, str rounding, int random_bits, int stream=0, int index_offset=0, int[]? index_strides=None"
)
_library = torch.library.Library("lowprec", "DEF")
_library.define(f"quantize(Tensor x, Tensor? seed, {_NUMBERS}) -> Tensor")
_library.define(f"quantize_plain(Tensor x, Tensor? seed, {_NUMBERS}) -> Tensor")
_library.define(f"quantize_out(Tensor x, Tensor? seed, {_NUMBERS}, *, Tensor(a!) out) -> ()")
_library.define(f"overflowed(Tensor x, Tensor? seed, {_NUMBERS}) -> Tensor")
_library.define("draw_seed(Tensor like, int call=0) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))

if LIBRARY is not None:  # on Windows the compiler's own runtime, which has no such function
    use_openmp_of(LIBRARY)


def _run(
    x: Tensor, out: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int,
    stream: int, index_offset: int, index_strides: Strides, kind: int,
) -> None:  # fmt: skip
    """Call the kernel of the tensor's device."""
    if x.is_cuda:
        from lowprec.ops.cuda.values import quantize

        quantize(x, out, seed, format, rounding, random_bits, stream, index_offset, index_strides, kind)
        return
    dispatch.quantize(
        x.data_ptr(), out.data_ptr(), CARRIERS[x.dtype], x.shape, x.stride(), out.stride(), format, rounding,
        random_bits=random_bits,
        seed=0 if seed is None else seed.item(),  # type: ignore[arg-type]  # int64
        stream=stream,
        index_offset=index_offset,
        index_strides=None if index_strides is None else tuple(index_strides),
        threads=torch.get_num_threads(),
        kind=kind,
        scales=found_by_trying(x, CARRIERS[x.dtype], format) if "mse" in format else None,
    )  # fmt: skip


def _quantize(
    x: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int, stream: int = 0,
    index_offset: int = 0, index_strides: Strides = None,
) -> Tensor:  # fmt: skip
    """The kernel of quantize."""
    out = torch.empty_like(x)
    _run(x, out, seed, format, rounding, random_bits, stream, index_offset, index_strides, VALUES)
    return out


def _quantize_out(
    x: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int, stream: int = 0,
    index_offset: int = 0, index_strides: Strides = None, *, out: Tensor,
) -> None:  # fmt: skip
    """The kernel of quantize_out."""
    _run(x, out, seed, format, rounding, random_bits, stream, index_offset, index_strides, VALUES)


def _overflowed(
    x: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int, stream: int = 0,
    index_offset: int = 0, index_strides: Strides = None,
) -> Tensor:  # fmt: skip
    """The kernel of overflowed."""
    out = torch.empty_like(x, dtype=torch.bool)
    _run(x, out, seed, format, rounding, random_bits, stream, index_offset, index_strides, FLAGS)
    return out


def _draw_seed(like: Tensor, call: int = 0) -> Tensor:
    """The kernel of draw_seed: 63 random bits."""
    return torch.empty(1, dtype=torch.int64, device=like.device).random_()


for _device in ("CPU", "CUDA"):
    _library.impl("quantize", _quantize, _device)
    _library.impl("quantize_plain", _quantize, _device)
    _library.impl("quantize_out", _quantize_out, _device)
    _library.impl("overflowed", _overflowed, _device)
    _library.impl("draw_seed", _draw_seed, _device)


@torch.library.register_fake("lowprec::quantize", lib=_library)
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("lowprec::quantize_plain", lib=_library)
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("lowprec::quantize_out", lib=_library)
def _(*_: Any, out: Tensor) -> None:
    return None


@torch.library.register_fake("lowprec::overflowed", lib=_library)
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, dtype=torch.bool)


@torch.library.register_fake("lowprec::draw_seed", lib=_library)
def _(like: Tensor, call: int = 0) -> Tensor:
    return like.new_empty(1, dtype=torch.int64)


def _straight_through(_: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of quantize: the identity."""
    return gradient, None, None, None, None, None, None, None


torch.library.register_autograd("lowprec::quantize", _straight_through, lib=_library)


def _vmap_quantize(
    info: Any, in_dims: Any, x: Tensor, seed: Tensor | None, format: str, rounding: str,
    random_bits: int, *rest: Any,
) -> tuple[Tensor, int]:  # fmt: skip
    """Batched quantize: elementwise at once, block formats example by example, stochastic not at all."""
    if Rounding(rounding).is_stochastic:
        raise value_error(
            "rounding",
            "be deterministic under torch.vmap",
            rounding,
            "Whether examples share their noise is not defined; quantize the batch outside vmap.",
        )
    dim = in_dims[0]
    if not isinstance(parse(format), GroupedFormat):
        return quantized(x, seed, (format, rounding, random_bits), *rest[:1]), dim
    examples = x.unbind(dim)
    spec = format, rounding, random_bits
    return torch.stack([quantized(example, seed, spec, *rest[:1]) for example in examples]), 0


torch.library.register_vmap("lowprec::quantize", _vmap_quantize, lib=_library)


class _StraightThrough(torch.autograd.Function):
    """quantize with the identity as its gradient, for eager calls: cheaper than the operator's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor | None, spec: tuple[str, str, int], stream: int) -> Tensor:
        """Quantize."""
        return _plain(x, seed, *spec, stream)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The identity."""
        return gradients[0], None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """The identity."""
        tangent: Tensor = tangents[0]
        return tangent.view_as(tangent)


class _Transformed(_StraightThrough):
    """The same for torch.func, which asks for more and takes longer."""

    @staticmethod
    def forward(x: Tensor, seed: Tensor | None, spec: tuple[str, str, int], stream: int) -> Tensor:  # type: ignore[override]
        """Quantize."""
        return _plain(x, seed, *spec, stream)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """The gradient needs nothing."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, seed: Tensor | None, spec: tuple[str, str, int], stream: int
    ) -> tuple[Tensor, int]:
        """As the operator's."""
        return _vmap_quantize(info, in_dims, x, seed, *spec, stream)


_plain = torch.ops.lowprec.quantize_plain.default


def quantized(x: Tensor, seed: Tensor | None, spec: tuple[str, str, int], stream: int = 0) -> Tensor:
    """The result of the operator by the cheapest way that keeps the gradient."""
    if torch.compiler.is_compiling():
        result: Tensor = torch.ops.lowprec.quantize(x, seed, *spec, stream)
    elif torch._C._are_functorch_transforms_active():
        result = _Transformed.apply(x, seed, spec, stream)
    elif (x.requires_grad and torch.is_grad_enabled()) or _forward_ad._current_level >= 0:
        result = _StraightThrough.apply(x, seed, spec, stream)
    else:
        result = _plain(x, seed, *spec, stream)
    return result
