"""The inner step of parameters on CUDA devices, by kernels whose bits are those of the CPU.

Torch's own kernels there do some operations in another order than on a CPU. So SGD, Adam and AdamW update
float32 and float64 parameters by kernels of ours, from the first step on, whatever is rounded around the
step. Square roots are rounded as IEEE 754 says. What these do not do, torch does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import _get_scalar_dtype

from lowprec.kernels.steps import Descent, Moments
from lowprec.ops.carriers import CARRIERS
from lowprec.optim.one_pass import constants_of, is_known, kind_of
from lowprec.optim.staging import DTYPES


def is_on_device(p: Tensor) -> bool:
    """Whether kernels for CUDA devices are to update a parameter."""
    return p.is_cuda


def step(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Take the inner step of these parameters, which are all that have a gradient."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    ours = [p for p in parameters if is_on_device(p)]
    done = [p for p in ours if is_known(optimizer) and _updated(optimizer, p, groups[id(p)])]
    if parameters and len(done) == len(parameters):
        optimizer._opt_called = True  # type: ignore[attr-defined]  # for schedulers of the inner one
        return
    with _without_gradients(done):
        optimizer.step()


def refuse_capture(parameters: Sequence[Tensor]) -> None:
    """Refuse to be part of a CUDA graph."""
    if any(map(is_on_device, parameters)) and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "`step` must run outside of CUDA graphs: a replay would take this step's noise and its number "
            "again. Capture the forward and backward passes, and step after each replay."
        )


@contextmanager
def _without_gradients(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Have an optimizer leave parameters out."""
    gradients = [p.grad for p in parameters]
    try:
        for p in parameters:
            p.grad = None
        yield
    finally:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient


def _updated(optimizer: torch.optim.Optimizer, p: Tensor, group: Mapping[str, Any]) -> bool:
    """Update a parameter and its states; False, with nothing changed, where only torch can."""
    gradient = p.grad
    if gradient is None or gradient.dtype != p.dtype or p.dtype not in DTYPES or p.is_neg():
        return False
    kind = kind_of(optimizer, group, CARRIERS[p.dtype])
    if kind is None:
        return False
    state = optimizer.state[p]
    steps = float(state["step"]) + 1 if state and isinstance(kind, Moments) else 1.0
    constants = np.array(constants_of(group, steps))
    with np.errstate(over="ignore"):
        if not np.isfinite(constants.astype(CARRIERS[p.dtype])).all():
            return False
    kind = _begun(kind, state, p)
    if any(name not in state for name in kind.states):  # such as amsgrad asked for after a step without
        return False
    states: list[Tensor] = [state[name] for name in kind.states]
    if any(s.dtype != p.dtype or s.shape != p.shape or s.is_neg() for s in states):
        return False
    from lowprec.ops.cuda.updates import update

    update(kind, gradient, p, states, constants.tolist())
    if isinstance(kind, Moments):
        state["step"] += 1
    torch.autograd.graph.increment_version(p)
    return True


def _begun(kind: Descent | Moments, state: dict[str, Any], p: Tensor) -> Descent | Moments:
    """The kind of update, whose states are there as torch makes them at the first step."""
    if isinstance(kind, Descent):
        if kind.momentum and state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.empty_like(p)
            return kind._replace(begins=True)
    elif not state:
        state["step"] = torch.tensor(0.0, dtype=_get_scalar_dtype())
        for name in kind.states:
            state[name] = torch.zeros_like(p)
    return kind
