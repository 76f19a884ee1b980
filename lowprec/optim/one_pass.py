"""A step in one pass over memory: each element is rounded, updated and written while it is in the cache.

It gives the bits of the steps one after the other, for torch's SGD, Adam and AdamW on contiguous float32
and float64 parameters, where no format has groups. What it cannot do, it leaves to those.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from lowprec.formats import GroupedFormat, resolve
from lowprec.kernels import cpu, elementwise, updates
from lowprec.kernels.program import BUFFERS, NEXT_NUMBER, START, UNIT_NUMBER, Argument, Program, stage
from lowprec.kernels.updates import UNIT, Descent, Moments
from lowprec.ops.library import CARRIERS
from lowprec.ops.observation import observers
from lowprec.ops.quantize import Spec
from lowprec.ops.torch_arithmetic import adds_products_unrounded, root_function
from lowprec.optim.casts import Casts
from lowprec.optim.roles import GRADIENT, MASTER, STATE, STEP_SHIFT, WEIGHT, stream_of

_SEED, _STREAM = START + 9, START + 10
"""Columns of the row of a loop that rounds."""
_ROUNDED, _NEW_WEIGHT, _NEW_STATES, _ROOTS = 0, 1, 2, 5
"""Buffers for a unit each in the memory of whoever runs a program."""
_DTYPES = (torch.float32, torch.float64)
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
        self._width = max(part.parameter.element_size() for part in parts) * UNIT
        self._rows: list[list[int]] = []
        self._reading: list[tuple[int, int, int]] = []
        self._noisy: list[tuple[int, int]] = []
        self._memory: list[Any] = []
        shape = len(parts), updates.CONSTANTS
        self._constants: dict[str, npt.NDArray[Any]] = {
            "float64": np.zeros(shape),
            "float32": np.zeros(shape, np.float32),
        }
        starts = np.cumsum([0, *(_units(p.parameter) if p.master is not None else 0 for p in parts)])
        self._known, self._found = (np.zeros(int(starts[-1]), np.uint64) for _ in range(2))
        jobs = []
        for index, part in enumerate(parts):
            first = len(self._rows)
            self._add(index, part, self._known.ctypes.data + 8 * int(starts[index]))
            jobs.append((first, len(self._rows) - first, _units(part.parameter)))
        self._program = Program(self._rows, jobs, BUFFERS + _ROOTS * self._width + updates.ROOM)
        self._stages, self._columns, self._sources = np.array(self._reading).T
        noisy = np.array(self._noisy, np.int64).reshape(-1, 2)
        self._drawn, self._streams = noisy[:, 0], noisy[:, 1]
        self._kept = [
            (p, slice(a, b)) for p, a, b in zip(parts, starts[:-1], starts[1:], strict=True) if b > a
        ]
        self._looks = Program(
            [self._look(part, self._found[place]) for part, place in self._kept],
            [(index, 1, _units(part.parameter)) for index, (part, _) in enumerate(self._kept)],
            BUFFERS,
        )
        self.digests = {
            p.number: torch.from_numpy(self._known[place].view(np.int64)) for p, place in self._kept
        }
        """Of the weights that the last run left, where there are masters."""

    def edited(self) -> list[Part]:
        """The parameters whose weights are others than the digests tell of."""
        if not self._kept:
            return []
        self._looks.run(torch.get_num_threads())
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
                known[key] = _constants(groups[part.group], steps)
            wide[index, : len(known[key])] = known[key]
        with np.errstate(over="ignore"):
            single[:] = wide
        return bool(np.isfinite(single).all())

    def run(self, gradients: Sequence[Tensor], seed: int, step: int) -> None:
        """Take a step with these constants."""
        table = self._program.table
        addresses = np.array([g.data_ptr() for g in gradients], np.int64)
        table[self._stages, self._columns] = addresses[self._sources]
        table[self._drawn, _SEED] = seed
        table[self._drawn, _STREAM] = self._streams + (step << STEP_SHIFT)
        self._program.run(torch.get_num_threads())

    def _add(self, index: int, part: Part, digests: int) -> None:
        """The stages of a parameter."""
        p, casts = part.parameter, part.casts
        carrier, size = CARRIERS[p.dtype], p.numel()
        constants = self._constants[carrier]
        address = constants.ctypes.data + index * constants.strides[0]
        whole = UNIT * p.element_size()
        given: Argument = _Gradient(0)
        gradient = given
        rounded = self._buffer(_ROUNDED, -whole)
        if self._scale != 1.0:
            factor = np.array([self._scale], carrier)
            self._memory.append(factor)
            self._append(index, updates.copying(carrier), [given, rounded, factor.ctypes.data, size])
            gradient = rounded
        if casts.gradient is not None:
            self._round(index, part, (gradient, rounded), casts.gradient, GRADIENT)
            gradient = rounded
        if gradient is rounded:
            self._append(index, updates.copying(carrier), [rounded, given, 0, size])
        source = p if part.master is None else part.master
        addresses = [source.data_ptr(), *map(Tensor.data_ptr, part.states), *[0] * (3 - len(part.states))]
        self._append(index, part.kind.loop(carrier), [
            gradient, *addresses,
            *(self._buffer(_NEW_WEIGHT + n) for n in range(4)), address, self._buffer(_ROOTS),
            (isinstance(part.kind, Moments) and root_function(carrier)) or 0, size,
        ])  # fmt: skip
        for n, (state, role, name) in enumerate(zip(part.states, part.roles, part.kind.states, strict=True)):
            updated = self._buffer(_NEW_STATES + n, -whole)
            self._round(index, part, (updated, state.data_ptr()), casts.of_state(name), role)
        updated = self._buffer(_NEW_WEIGHT, -whole)
        if part.master is not None:
            self._round(index, part, (updated, part.master.data_ptr()), casts.master, MASTER)
        self._round(index, part, (updated, p.data_ptr()), casts.weight, WEIGHT)
        if part.master is not None:
            self._append(index, updates.digesting(p.element_size()), [p.data_ptr(), digests, size])

    def _buffer(self, index: int, step: int = 0) -> Argument:
        """A buffer; with a step back for each unit as if it were a whole tensor."""
        return Argument(BUFFERS + index * self._width, step, own=True)

    @staticmethod
    def _look(part: Part, found: npt.NDArray[np.uint64]) -> list[int]:
        """The stage that digests the weights as they are."""
        p = part.parameter
        arguments: list[Argument | int] = [
            p.data_ptr(),
            found.ctypes.data,
            p.numel(),
            UNIT_NUMBER,
            NEXT_NUMBER,
        ]
        return stage(updates.digesting(p.element_size()), arguments)

    def _round(
        self,
        index: int,
        part: Part,
        places: tuple[Argument | int, Argument | int],
        spec: Spec | None,
        role: int,
    ) -> None:
        """From one place to another, rounded or copied."""
        carrier, size = CARRIERS[part.parameter.dtype], part.parameter.numel()
        if spec is None:
            self._append(index, updates.copying(carrier), [*places, 0, size])
            return
        kernel = elementwise.kernel_of(spec.format, spec.rounding, spec.random_bits, carrier, cpu.VALUES)
        run, outer = elementwise.walk_of(size, UNIT)
        self._memory += [kernel, run, outer]
        if kernel.drawn:
            self._noisy.append((len(self._rows), stream_of(0, part.number, role)))
        walk: list[Argument | int] = [
            kernel.numbers,
            run.ctypes.data,
            outer.ctypes.data,
            0,
            Argument(0, own=True),
        ]
        self._append(index, kernel.loop, [*places, *walk], [0, 0, -1])

    def _append(
        self, index: int, loop: Any, arguments: Sequence[Argument | int], rest: Sequence[int] = ()
    ) -> None:
        """A stage over the units of a parameter."""
        for column, argument in enumerate(arguments):
            if isinstance(argument, _Gradient):
                self._reading.append((len(self._rows), START + column, index))
        self._rows.append(stage(loop, [*arguments, UNIT_NUMBER, NEXT_NUMBER, *rest]))


class _Gradient(Argument):
    """An address that is known when a step is taken."""


def _units(p: Tensor) -> int:
    """How many units a parameter has."""
    return -(-p.numel() // UNIT)


def _constants(group: dict[str, Any], steps: float) -> list[float]:
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


def _kind_of(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], carrier: str
) -> Descent | Moments | None:
    """Which loop makes the update of a group; None where none does."""
    if any(group.get(name) for name in _OTHERWISE):
        return None
    betas = group.get("betas", ())
    numbers = [value for name, value in group.items() if name in _NUMBERS]
    if any(type(value) not in (float, int) for value in (*numbers, *betas)):
        return None  # tensors, and numbers that torch computes with in their own precision
    decay, maximize = group["weight_decay"] != 0, bool(group["maximize"])
    if type(optimizer) is torch.optim.SGD:
        return Descent(decay, group["momentum"] != 0, bool(group["nesterov"]), maximize)
    decoupled, weight = bool(group["decoupled_weight_decay"]), np.dtype(carrier).type(1 - betas[0])
    if weight == 1:  # torch's zeros then have a sign that depends on where they lie
        return None
    return Moments(decay, decoupled, bool(group["amsgrad"]), maximize, bool(weight >= 0.5))


def _is_elementwise(casts: Casts) -> bool:
    """Whether no format has groups."""
    return not any(isinstance(resolve(spec.format), GroupedFormat) for spec in casts.specs())


def is_possible(optimizer: torch.optim.Optimizer) -> bool:
    """Whether one pass may stand for an optimizer's step: it is a known one, and nobody looks on."""
    if type(optimizer) not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW) or observers:
        return False
    replaced = vars(optimizer).get("step")  # schedulers do so, to count
    if torch.compiler.is_compiling() or (replaced and not hasattr(replaced, "_wrapped_by_lr_sched")):
        return False
    hooks = (
        optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks, _global_optimizer_post_hooks,
    )  # fmt: skip
    return not any(hooks)


def lie_apart(parts: Sequence[Part]) -> bool:
    """Whether no two tensors of a step share memory."""
    tensors = [t for p in parts for t in (p.parameter, *p.states, *([] if p.master is None else [p.master]))]
    ends = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors)
    return all(stop <= start for (_, stop), (start, _) in pairwise(ends))


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
    if p.dtype not in _DTYPES or not p.is_cpu or p.numel() == 0 or not _is_elementwise(casts):
        return None
    carrier = CARRIERS[p.dtype]
    kind = _kind_of(optimizer, optimizer.param_groups[group], carrier)
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
