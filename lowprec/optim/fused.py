"""SGD and AdamW in one pass: every element is read, updated, rounded and written while it is in the cache."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lowprec.formats import GroupedFormat, resolve
from lowprec.kernels import cpu, elementwise, updates
from lowprec.kernels.program import BUFFERS, NEXT_NUMBER, UNIT_NUMBER, Argument, Program, stage
from lowprec.kernels.updates import UNIT, Descent, Moments
from lowprec.ops.library import CARRIERS
from lowprec.ops.observation import observers
from lowprec.ops.quantize import Spec
from lowprec.ops.torch_arithmetic import adds_products_unrounded, root_function
from lowprec.optim.low_precision import _GRADIENT, _MASTER, _STATE, _WEIGHT, LowPrecision

_SEED, _STREAM = 9, 10
_OWN = Argument(0, own=True)
_GRADIENTS, _WEIGHTS, _STATES, _ROOTS = 0, 1, 2, 5
_SIZE = BUFFERS + 5 * 8 * UNIT + updates.ROOM
"""Bytes of a runner's memory: buffers of a unit each for gradient, weight, three states, and roots."""


def _buffer(index: int) -> int:
    """Where a buffer begins."""
    return BUFFERS + index * 8 * UNIT


class _Part(NamedTuple):
    """One parameter in a program."""

    number: int
    parameter: Tensor
    group: dict[str, Any]
    states: tuple[Tensor, ...]
    row: int
    """The first of its stages, which reads the gradient."""


class _Plan:
    """The program of a step, for parameters whose memory stays where it is."""

    def __init__(self, optimizer: "Fused", touched: Sequence[tuple[int, Tensor, dict[str, Any]]], key: Any) -> None:
        self.key = key
        self.parts: list[_Part] = []
        self.rows: list[list[int]] = []
        self.streams: list[tuple[int, int]] = []
        self.kept: list[Any] = []
        jobs = []
        self.constants = np.zeros((len(touched), updates.CONSTANTS), np.float64)
        self.singles = np.zeros((len(touched), updates.CONSTANTS), np.float32)
        for index, (number, p, group) in enumerate(touched):
            first = len(self.rows)
            self._add(optimizer, index, number, p, group)
            jobs.append((first, len(self.rows) - first, -(-p.numel() // UNIT)))
        self.program = Program(self.rows, jobs, _SIZE)
        self.drawn = np.array([row for row, _ in self.streams], np.int64)
        self.bases = np.array([base for _, base in self.streams], np.int64)
        self.first_rows = np.array([part.row for part in self.parts], np.int64)

    def _add(self, optimizer: "Fused", index: int, number: int, p: Tensor, group: dict[str, Any]) -> None:
        """The stages of one parameter."""
        kind = kind_of(optimizer.optimizer, group)
        assert kind is not None
        casts = _casts_of(optimizer, number)
        carrier, size, itemsize = CARRIERS[p.dtype], p.numel(), p.element_size()
        state = optimizer.state[p]
        states = tuple(state[name] for name in kind.states)
        constants = (self.singles if itemsize == 4 else self.constants)[index]
        self.parts.append(_Part(number, p, group, states, len(self.rows)))

        def inside(buffer: int) -> Argument:
            """A buffer, as if it were the whole tensor."""
            return Argument(_buffer(buffer), -UNIT * itemsize, own=True)

        def rounded(x: Argument, out: Argument, spec: Spec | None, role: int) -> None:
            """Round, or copy."""
            if spec is None:
                arguments = [x, out, 0, size, UNIT_NUMBER, NEXT_NUMBER]
                self.rows.append(stage(updates.copying(carrier), arguments))
                return
            kernel = elementwise.kernel_of(spec.format, spec.rounding, spec.random_bits, carrier, cpu.VALUES)
            run, outer = np.array([size, UNIT, -(-size // UNIT), 1, 1, 1, 0, size, 0], np.int64), np.zeros(6, np.int64)
            self.kept += [kernel, run, outer]
            arguments = [x, out, kernel.numbers, run.ctypes.data, outer.ctypes.data, 0, _OWN, UNIT_NUMBER, NEXT_NUMBER, 0, 0, -1]
            if kernel.drawn:
                self.streams.append((len(self.rows), number << 6 | role))
            self.rows.append(stage(kernel.loop, arguments))

        gradient = Argument(0)
        if optimizer.gradient_scale != 1.0:
            factor = np.array([optimizer.gradient_scale], carrier)
            self.kept.append(factor)
            arguments = [gradient, inside(_GRADIENTS), factor.ctypes.data, size, UNIT_NUMBER, NEXT_NUMBER]
            self.rows.append(stage(updates.copying(carrier), arguments))
            gradient = inside(_GRADIENTS)
        if casts.gradient is not None:
            rounded(gradient, inside(_GRADIENTS), casts.gradient, _GRADIENT)
            gradient = inside(_GRADIENTS)
        master = optimizer._masters.get(number)
        source = p if master is None else master
        reads = [gradient, source.data_ptr(), *(s.data_ptr() for s in states), *[0] * (3 - len(states))]
        writes = [Argument(_buffer(b), own=True) for b in (_WEIGHTS, _STATES, _STATES + 1, _STATES + 2)]
        room = Argument(_buffer(_ROOTS), own=True)
        loop = updates.descent(carrier, kind) if isinstance(kind, Descent) else updates.moments(carrier, kind)
        root = 0 if isinstance(kind, Descent) else root_function(carrier)
        self.rows.append(stage(loop, [*reads, *writes, constants.ctypes.data, room, root, size, UNIT_NUMBER, NEXT_NUMBER]))
        names = [name for name, _ in optimizer._roundable(p)]
        for n, (name, s) in enumerate(zip(kind.states, states, strict=True)):
            rounded(inside(_STATES + n), Argument(s.data_ptr()), casts.state(name), _STATE + names.index(name))
        if master is not None:
            rounded(inside(_WEIGHTS), Argument(master.data_ptr()), casts.master, _MASTER)
        rounded(inside(_WEIGHTS), Argument(p.data_ptr()), casts.weight, _WEIGHT)

    def set(self, optimizer: "Fused", gradients: Sequence[Tensor]) -> None:
        """Write what changes from step to step: gradients, constants, noise."""
        table = self.program.table
        table[self.first_rows, 2] = [g.data_ptr() for g in gradients]
        if self.drawn.size:
            table[self.drawn, 2 + _SEED] = int(optimizer._seed)
            table[self.drawn, 2 + _STREAM] = self.bases + (optimizer._step << 32)
        known: dict[Any, list[float]] = {}
        for index, part in enumerate(self.parts):
            steps = optimizer.state[part.parameter].get("step")
            key = id(part.group), None if steps is None else float(steps)
            if key not in known:
                known[key] = _constants(part.group, key[1])
            self.constants[index, : len(known[key])] = known[key]
        self.singles[:] = self.constants


class _Casts(NamedTuple):
    weight: Spec | None
    gradient: Spec | None
    master: Spec | None
    states: Any

    def state(self, name: str) -> Spec | None:
        return self.states.get(name) if isinstance(self.states, dict) else self.states


def _casts_of(optimizer: LowPrecision, number: int) -> _Casts:
    if number in optimizer._excluded:
        return _Casts(None, None, None, None)
    return _Casts(optimizer._weight, optimizer._gradient, optimizer._master, optimizer._state)


def _constants(group: dict[str, Any], steps: float | None) -> list[float]:
    """The constants of a group's update, worked out in binary64 as torch does."""
    rate, decay = float(group["lr"]), group["weight_decay"]
    if steps is None:
        return [decay, group["momentum"], 1 - group["dampening"], -rate]
    first, second = group["betas"]
    corrections = 1 - first**steps, 1 - second**steps
    return [
        decay, 1 - rate * decay, 1 - first, second, 1 - second, corrections[1] ** 0.5, group["eps"],
        -(rate / corrections[0]),
    ]  # fmt: skip


def kind_of(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Descent | Moments | None:
    """Which loop makes the update of a group; None where none does."""
    options = ("foreach", "fused", "capturable", "differentiable")
    if any(group.get(name) for name in options) or isinstance(group["lr"], Tensor):
        return None
    decay, maximize = group["weight_decay"] != 0, bool(group["maximize"])
    if type(optimizer) is torch.optim.SGD:
        return Descent(decay, group["momentum"] != 0, bool(group["nesterov"]), maximize)
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        if any(isinstance(beta, Tensor) for beta in group["betas"]):
            return None
        decoupled = bool(group.get("decoupled_weight_decay", type(optimizer) is torch.optim.AdamW))
        return Moments(decay, decoupled, bool(group["amsgrad"]), maximize, 1 - group["betas"][0] >= 0.5)
    return None


class Fused(LowPrecision):
    """LowPrecision around torch's SGD, Adam or AdamW, in one pass where that gives the same bits."""

    _plan: _Plan | None = None

    def _take(self, touched: list[tuple[int, Tensor]]) -> bool:
        plan = self._planned(touched)
        if plan is None:
            return False
        steps = [s["step"] for _, p in touched if "step" in (s := self.state[p])]
        if steps:
            torch._foreach_add_(steps, 1)
        plan.set(self, [p.grad for _, p in touched])
        plan.program.run(torch.get_num_threads())
        self.optimizer._opt_called = True
        torch.autograd.graph.increment_version([p for _, p in touched])
        return True

    def _planned(self, touched):
        groups = {id(p): group for group in self.param_groups for p in group["params"]}
        found = []
        key = []
        for number, p in touched:
            kind = kind_of(self.optimizer, groups[id(p)])
            g = p.grad
            if kind is None or p.dtype not in (torch.float32, torch.float64) or g.dtype != p.dtype:
                return None
            state = self.state.get(p, {})
            if any(state.get(name) is None for name in kind.states):
                return None
            states = [state[name] for name in kind.states]
            master = self._masters.get(number)
            tensors = [p, *states] + ([] if master is None else [master])
            if not all(t.is_contiguous() for t in (g, *tensors)):
                return None
            found.append((number, p, groups[id(p)]))
            key.append((number, kind, p.dtype, p.numel(), *(t.data_ptr() for t in tensors)))
        key = (tuple(key), self.gradient_scale)
        if self._plan is None or self._plan.key != key:
            self._plan = _Plan(self, found, key)
        return self._plan


class SGD(Fused):
    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, **casts):
        super().__init__(torch.optim.SGD(params, lr, momentum, dampening, weight_decay, nesterov, maximize=maximize, foreach=False), **casts)


class AdamW(Fused):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False, **casts):
        super().__init__(torch.optim.AdamW(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=False), **casts)
