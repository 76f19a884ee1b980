"""A step in one pass over memory: each element is rounded, updated and written while it is in the cache.

It gives the bits of the steps one after the other, for torch's SGD, Adam and AdamW on contiguous float32
and float64 parameters, where no format has groups. What it cannot do, it leaves to those.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from lowprec.kernels import updates
from lowprec.kernels.program import Argument
from lowprec.kernels.steps import CONSTANTS, Descent, Moments
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.observation import observers
from lowprec.ops.torch_arithmetic import adds_products_unrounded, root_function
from lowprec.optim.casts import Casts, is_elementwise
from lowprec.optim.roles import GRADIENT, MASTER, STATE, WEIGHT
from lowprec.optim.staging import DTYPES, Given, Staging, lie_apart, span_of, units_of

_ROUNDED, _NEW_WEIGHT, _NEW_STATES, _ROOTS = 0, 1, 2, 5
"""Buffers for a unit each in the memory of whoever runs a program."""
_OTHERWISE = ("foreach", "fused", "capturable", "differentiable")
"""Options of torch's optimizers that change the order or the kind of operations."""
_NUMBERS = ("lr", "momentum", "dampening", "weight_decay", "eps")


class Part(NamedTuple):
    """What a step reads and writes of one parameter, beside its gradient."""

    number: int
    parameter: Tensor
    group: int
    kind: Descent | Moments
    casts: Casts
    states: tuple[Tensor, ...]
    roles: tuple[int, ...]
    """Of the states."""
    master: Tensor | None


class Plan:
    """The program of a step of parameters whose memory stays where it is.

    Args:
        parts: What there is of each parameter.
        scale: The factor on gradients.
    """

    def __init__(self, parts: Sequence[Part], scale: float) -> None:
        self.parts = parts
        self._scale = scale
        itemsize = max(part.parameter.element_size() for part in parts)
        self._main, self._looks = Staging(itemsize), Staging(itemsize)
        shape = len(parts), CONSTANTS
        self._constants: dict[str, npt.NDArray[Any]] = {
            "float64": np.zeros(shape),
            "float32": np.zeros(shape, np.float32),
        }
        starts = np.cumsum([0, *(units_of(p.parameter) if p.master is not None else 0 for p in parts)])
        self._known, self._found = (np.zeros(int(starts[-1]), np.uint64) for _ in range(2))
        for index, part in enumerate(parts):
            p, start = part.parameter, 8 * int(starts[index])
            self._add(index, part, self._known.ctypes.data + start)
            self._main.finish(p)
            if part.master is not None:
                self._looks.digest(p, p.data_ptr(), self._found.ctypes.data + start)
                self._looks.finish(p)
        self._main.build(_ROOTS, updates.ROOM)
        self._looks.build(0)
        self._kept = [
            (p, slice(a, b)) for p, a, b in zip(parts, starts[:-1], starts[1:], strict=True) if b > a
        ]
        self.digests = {
            p.number: torch.from_numpy(self._known[place].view(np.int64)) for p, place in self._kept
        }
        """Of the weights that the last run left, where there are masters."""

    def edited(self) -> list[Part]:
        """The parameters whose weights are others than the digests tell of."""
        if not self._kept:
            return []
        self._looks.run([], 0, 0)
        if np.array_equal(self._found, self._known):
            return []
        return [p for p, place in self._kept if not np.array_equal(self._found[place], self._known[place])]

    def set_constants(self, groups: Sequence[dict[str, Any]], states: Mapping[Tensor, Any]) -> bool:
        """Work out the next step's constants; False if a carrier does not hold one, which torch refuses."""
        known: dict[tuple[int, float], list[float]] = {}
        wide, single = self._constants["float64"], self._constants["float32"]
        for index, part in enumerate(self.parts):
            steps = float(states[part.parameter]["step"]) + 1 if isinstance(part.kind, Moments) else 0.0
            if (key := (part.group, steps)) not in known:
                known[key] = constants_of(groups[part.group], steps)
            wide[index, : len(known[key])] = known[key]
        with np.errstate(over="ignore"):
            single[:] = wide
        return bool(np.isfinite(single).all())

    def run(self, gradients: Sequence[Tensor], seed: int, step: int) -> None:
        """Take a step with these constants."""
        self._main.run([gradient.data_ptr() for gradient in gradients], seed, step)

    def _add(self, index: int, part: Part, digests: int) -> None:
        """The stages of a parameter."""
        p, casts, stages = part.parameter, part.casts, self._main
        carrier, size = CARRIERS[p.dtype], p.numel()
        constants = self._constants[carrier]
        address = constants.ctypes.data + index * constants.strides[0]
        whole = stages.bytes_of_unit(p)
        given: Argument = Given(index)
        gradient, rounded = given, stages.buffer(_ROUNDED, -whole)
        if self._scale != 1.0:
            stages.copy(p, (given, rounded), stages.factor(carrier, self._scale))
            gradient = rounded
        if casts.gradient is not None:
            stages.round(p, (gradient, rounded), casts.gradient, (part.number, GRADIENT))
            gradient = rounded
        if gradient is rounded:
            stages.copy(p, (rounded, given))
        source = p if part.master is None else part.master
        addresses = [source.data_ptr(), *map(Tensor.data_ptr, part.states), *[0] * (3 - len(part.states))]
        stages.append(updates.loop_of(carrier, part.kind), [
            gradient, *addresses,
            *(stages.buffer(_NEW_WEIGHT + n) for n in range(4)), address, stages.buffer(_ROOTS),
            (isinstance(part.kind, Moments) and root_function(carrier)) or 0, size,
        ])  # fmt: skip
        for n, (state, role, name) in enumerate(zip(part.states, part.roles, part.kind.states, strict=True)):
            updated = stages.buffer(_NEW_STATES + n, -whole)
            stages.round(p, (updated, state.data_ptr()), casts.of_state(name), (part.number, role))
        updated = stages.buffer(_NEW_WEIGHT, -whole)
        if part.master is not None:
            stages.round(p, (updated, part.master.data_ptr()), casts.master, (part.number, MASTER))
        stages.round(p, (updated, p.data_ptr()), casts.weight, (part.number, WEIGHT))
        if part.master is not None:
            stages.digest(p, p.data_ptr(), digests)


def constants_of(group: Mapping[str, Any], steps: float) -> list[float]:
    """The constants of a group's update, worked out in binary64 as torch does."""
    rate, decay = float(group["lr"]), float(group["weight_decay"])
    if "betas" not in group:
        return [decay, group["momentum"], 1 - group["dampening"], -rate]
    first, second = group["betas"]
    corrections = 1 - first**steps, 1 - second**steps
    return [
        decay, 1 - rate * decay, 1 - first, second, 1 - second, corrections[1] ** 0.5, group["eps"],
        -(rate / corrections[0]),
    ]  # fmt: skip


def kind_of(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], carrier: str
) -> Descent | Moments | None:
    """Which loop makes the update of a group; None where none does."""
    betas = group.get("betas", ())
    numbers = [value for name, value in group.items() if name in _NUMBERS]
    if any(type(value) not in (float, int) for value in (*numbers, *betas)):
        return None  # tensors, and numbers that torch computes with in their own precision
    decay, maximize = group["weight_decay"] != 0, bool(group["maximize"])
    if type(optimizer) is torch.optim.SGD:
        return Descent(decay, group["momentum"] != 0, bool(group["nesterov"]), maximize)
    decoupled, weight = bool(group["decoupled_weight_decay"]), np.dtype(carrier).type(1 - betas[0])
    return Moments(decay, decoupled, bool(group["amsgrad"]), maximize, bool(weight >= 0.5))


def is_possible(optimizer: torch.optim.Optimizer) -> bool:
    """Whether one pass may stand for an optimizer's step and what is rounded around it."""
    return not observers and is_known(optimizer)


def is_known(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the update of an optimizer is one of ours, and nobody would miss its own step."""
    if type(optimizer) not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        return False
    replaced = vars(optimizer).get("step")  # schedulers do so, to count
    if torch.compiler.is_compiling() or (replaced and not hasattr(replaced, "_wrapped_by_lr_sched")):
        return False
    hooks = (
        optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks, _global_optimizer_post_hooks,
    )  # fmt: skip
    return not any(hooks) and not any(g.get(name) for g in optimizer.param_groups for name in _OTHERWISE)


def are_apart(parts: Sequence[Part]) -> bool:
    """Whether no two tensors of a step share memory."""
    tensors = [t for p in parts for t in (p.parameter, *p.states, *([] if p.master is None else [p.master]))]
    return lie_apart([span_of(t) for t in tensors])


def key_of(p: Tensor, state: Mapping[str, Any], master: Tensor | None) -> tuple[Any, ...]:
    """What of a parameter decides about its program: where all lies, and how."""
    given = p.grad, p, master, *state.values()
    return tuple(
        (t.dtype, t.shape, t.stride(), t.is_neg()) if t is p.grad else (t.data_ptr(), t.dtype, t.stride())
        for t in given
        if isinstance(t, Tensor)
    )


def key_of_group(group: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a group does, and what kind of number its rate is."""
    return tuple(
        (name, type(value), tuple(value) if isinstance(value, list | tuple) else value)
        for name, value in group.items()
        if name not in ("params", "lr") and isinstance(value, bool | float | int | list | tuple | None)
    ) + tuple((name, type(group[name])) for name in _NUMBERS if name in group)


def part_of(
    optimizer: torch.optim.Optimizer, place: tuple[int, Tensor], group: int, casts: Casts,
    master: Tensor | None, roundable: Mapping[str, tuple[int, Tensor]],
) -> Part | None:  # fmt: skip
    """What there is of a numbered parameter; None where its step is not made in one pass."""
    number, p = place
    if p.dtype not in DTYPES or not p.is_cpu or p.numel() == 0 or not is_elementwise(casts):
        return None
    carrier = CARRIERS[p.dtype]
    options = optimizer.param_groups[group]
    kind = kind_of(optimizer, options, carrier)
    if isinstance(kind, Moments) and np.dtype(carrier).type(1 - options["betas"][0]) == 1:
        return None  # torch's zeros then have a sign that depends on where they lie
    if kind is None or not adds_products_unrounded(carrier) or root_function(carrier) is None:
        return None
    if any(name not in roundable for name in kind.states):  # before its first step
        return None
    states = tuple(roundable[name][1] for name in kind.states)
    tensors = [p, p.grad, *states, *([] if master is None else [master])]
    if any(t is None or t.dtype != p.dtype or not t.is_contiguous() or t.is_neg() for t in tensors):
        return None
    roles = tuple(STATE + roundable[name][0] for name in kind.states)
    return Part(number, p, group, kind, casts, states, roles, master)
