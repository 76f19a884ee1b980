"""The operator of elementary operations, ``torch.ops.lowprec.elementary``, and how it is called.

``elementary(operation, operands, seed, format, rounding, random_bits, stream)``
    one operation on every element of contiguous operands of one shape and dtype: the exact result,
    rounded once to the format. Its gradient is that of the exact operation, computed in the carrier.
"""

import numbers
from collections.abc import Sequence
from functools import lru_cache, partial, reduce
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from lowprec.arithmetic import guard_bits
from lowprec.errors import type_error, value_error
from lowprec.formats import FixedPoint, FloatingPoint, FormatLike, GroupedFormat, resolve
from lowprec.kernels.dispatch import operate
from lowprec.kernels.operate import is_quick, is_wide, most_random_bits, overflow_of
from lowprec.modes import Overflow, Rounding
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.constant import constant
from lowprec.ops.quantize import (
    Spec,
    check_out,
    check_sources,
    check_tensor,
    constant_spec,
    seed_tensor,
)

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define(
    "elementary(str operation, Tensor[] operands, Tensor? seed, str format, str rounding, int random_bits, "
    "int stream) -> Tensor"
)

_COMPUTED = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
"""The dtypes whose numbers kernels read as those of another."""

Operand = Any
"""A tensor, an array or a number."""


def _elementary(
    operation: str, operands: Sequence[Tensor], seed: Tensor | None, format: str, rounding: str,
    random_bits: int, stream: int,
) -> Tensor:  # fmt: skip
    """The CPU kernel."""
    dtype = operands[0].dtype
    operation, given = _without_difference(operation, operands)
    read = [x.to(_COMPUTED.get(dtype, dtype)).contiguous() for x in given]
    out = torch.empty(operands[0].shape, dtype=dtype)
    known = operate(
        operation, [x.data_ptr() for x in read], CARRIERS[read[0].dtype], out.data_ptr(), CARRIERS[dtype],
        out.numel(), format, rounding,
        random_bits=random_bits,
        seed=0 if seed is None else int(seed),
        stream=stream,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    if not known:
        _refuse_unknown(format)
    return out


def _elementary_on_device(
    operation: str, operands: Sequence[Tensor], seed: Tensor | None, format: str, rounding: str,
    random_bits: int, stream: int,
) -> Tensor:  # fmt: skip
    """The kernel of CUDA devices."""
    from lowprec.ops.cuda.elementary import operate as on_device

    out = operands[0].new_empty(operands[0].shape)
    operation, given = _without_difference(operation, operands)
    refuse = partial(_refuse_unknown, format)
    on_device(operation, given, out, seed, format, rounding, random_bits, stream, refuse)
    return out


def _without_difference(operation: str, operands: Sequence[Tensor]) -> tuple[str, Sequence[Tensor]]:
    """An operation that kernels have, and its operands."""
    return ("add", [operands[0], -operands[1]]) if operation == "sub" else (operation, operands)


def _refuse_unknown(format: str) -> NoReturn:
    """The error of wrapped results that are too large."""
    must = "wrap only numbers whose integer part takes fewer than 60 bits, noise included"
    raise value_error("format", must, format, "Use smaller operands, or a format that saturates.")


_library.impl("elementary", _elementary, "CPU")
_library.impl("elementary", _elementary_on_device, "CUDA")


@torch.library.register_fake("lowprec::elementary", lib=_library)
def _(operation: str, operands: Sequence[Tensor], *_: Any) -> Tensor:
    return operands[0].new_empty(operands[0].shape)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    """Keep the operands for the gradient."""
    ctx.operation = inputs[0]
    ctx.save_for_backward(*inputs[1])


def _backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
    """The gradient of the exact operation."""
    return None, _gradients(ctx.operation, error, ctx.saved_tensors), None, None, None, None, None


def _gradients(operation: str, error: Tensor, operands: Sequence[Tensor]) -> list[Tensor]:
    """As torch computes those of its own operations."""
    if operation in ("add", "sub"):
        return [error, error if operation == "add" else -error]
    if operation == "sqrt":
        return [error / (2 * operands[0].sqrt())]
    x, y = operands[:2]
    if operation == "div":
        return [error / y, -error * (x / y) / y]
    return [error * y, error * x, error][: len(operands)]


torch.library.register_autograd("lowprec::elementary", _backward, setup_context=_setup, lib=_library)


def _vmap(
    info: Any, in_dims: Any, operation: str, operands: list[Tensor], seed: Tensor | None, format: str,
    rounding: str, *rest: Any,
) -> tuple[Tensor, int]:  # fmt: skip
    """A whole batch at once; what has no batch is the same for all examples."""
    if Rounding(rounding).is_stochastic:
        raise value_error(
            "rounding", "be deterministic under torch.vmap: noise of examples is not defined", rounding,
            "Round the batch outside vmap.",
        )  # fmt: skip
    dims = in_dims[1]
    batched = [
        x.movedim(dim, 0) if dim is not None else x.expand(info.batch_size, *x.shape)
        for x, dim in zip(operands, dims, strict=True)
    ]
    y: Tensor = torch.ops.lowprec.elementary(operation, batched, seed, format, rounding, *rest)
    return y, 0


torch.library.register_vmap("lowprec::elementary", _vmap, lib=_library)


@constant
def spec_of_results(
    format: FormatLike, rounding: Rounding | str, random_bits: int | None, dtype: torch.dtype
) -> Spec:
    """A checked spec of what results in a carrier are rounded to, found once while compiling."""
    spec = constant_spec(format, rounding, random_bits, dtype)
    _check_results(spec)
    return spec


@lru_cache(maxsize=1024)
def _check_results(spec: Spec) -> None:
    """Refuse formats that the results of single operations are not rounded to."""
    format, mode = resolve(spec.format), Rounding(spec.rounding)
    if isinstance(format, GroupedFormat):
        remedy = "Let torch compute, and quantize the whole result."
        raise value_error("format", "be one that rounds each element alone", spec.format, remedy)
    if overflow_of(format) is Overflow.UNBOUNDED:
        must = "be bounded where results are rounded to it"
        raise value_error("format", must, spec.format, "Give it a width.")
    format.check_rounding(mode, "float64")
    if is_quick(format, mode, spec.random_bits) or is_wide(format, mode, spec.random_bits):
        return
    if not isinstance(format, FloatingPoint | FixedPoint):
        must = f"have boundaries that 52 significant bits tell apart under {mode} rounding"
        remedy = "Pass fewer random bits, or a floating-point or fixed-point format."
        raise value_error("format", must, spec.format, remedy)
    most = most_random_bits(format)
    remedy = "Take a narrower format."
    if mode.takes_random_bits and most > 0:
        remedy = f"Set random_bits to at most {most}."
    guard = guard_bits(mode, spec.random_bits)
    must = f"leave {guard} of 62 significant bits for {mode} rounding of results"
    raise value_error("format", must, spec.format, remedy)


def operated(
    operation: str,
    operands: dict[str, Operand],
    format: FormatLike,
    rounding: Rounding | str,
    random_bits: int | None,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    out: Any,
) -> Any:
    """One operation on tensors, arrays and numbers as users give them, by their names."""
    if any(isinstance(x, np.ndarray) for x in operands.values()):
        return _of_arrays(operation, operands, format, rounding, random_bits, generator, seed, out)
    for name, x in operands.items():
        if isinstance(x, Tensor):
            check_tensor(x, name)
        elif not isinstance(x, numbers.Real) or isinstance(x, bool):
            raise type_error(name, "be a tensor, an array or a number", type(x))
    tensors = [x for x in operands.values() if isinstance(x, Tensor)]
    if not tensors:
        remedy = "Wrap a number with torch.tensor."
        raise type_error(next(iter(operands)), "be a tensor where no other operand is", "numbers", remedy)
    dtype = _promoted(tensors)
    spec = spec_of_results(format, rounding, random_bits, dtype)
    check_sources(spec, seed, generator)
    given = [
        x if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device=tensors[0].device)
        for x in operands.values()
    ]
    same = [x.to(dtype) for x in torch.broadcast_tensors(*given)]
    seeds = seed_tensor(same[0], seed, generator) if spec.is_stochastic else None
    y: Tensor = torch.ops.lowprec.elementary(operation, same, seeds, *spec, 0)
    if out is None:
        return y
    check_out(y, out)
    return out.copy_(y)


def _promoted(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype of the result, as torch promotes: tensors without dimensions count where all are such."""
    dtypes = [x.dtype for x in tensors if x.dim() > 0] or [x.dtype for x in tensors]
    return reduce(torch.promote_types, dtypes)


def _of_arrays(
    operation: str,
    operands: dict[str, Operand],
    format: FormatLike,
    rounding: Rounding | str,
    random_bits: int | None,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    out: Any,
) -> Any:
    """The same on the memory of arrays, whose result is one."""
    given: dict[str, Operand] = {}
    for name, x in operands.items():
        if isinstance(x, Tensor):
            raise type_error(
                name, "be an array where another operand is one", type(x), "Use torch.from_numpy."
            )
        if isinstance(x, np.ndarray):
            if isinstance(x, np.ma.MaskedArray) or x.dtype not in (np.float16, np.float32, np.float64):
                must = "be a plain float16, float32 or float64 array"
                raise type_error(name, must, x.dtype, "Convert it, as with x.astype(np.float32).")
            x = torch.from_numpy(x if x.flags.writeable and all(s >= 0 for s in x.strides) else x.copy())
        given[name] = x
    if out is not None:
        raise value_error("out", "be None for arrays", type(out), "Assign the result: out[...] = result.")
    return operated(operation, given, format, rounding, random_bits, generator, seed, None).numpy()
