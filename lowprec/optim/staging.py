"""Staging: the stages of a program over tensors, whose addresses and noise are set before each run."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.kernels import cpu, elementwise, updates
from lowprec.kernels.program import BUFFERS, NEXT_NUMBER, START, UNIT_NUMBER, Argument, Program, stage
from lowprec.kernels.updates import UNIT
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.quantize import Spec
from lowprec.optim.roles import STEP_SHIFT, stream_of

_SEED, _STREAM = START + 9, START + 10
"""Columns of the row of a loop that rounds."""

DTYPES = (torch.float32, torch.float64)
"""Of the tensors that passes take."""

Place = Argument | int
"""Where a loop reads or writes."""


class Given(Argument):
    """The address of a tensor that is known when a program runs; ``start`` is its number among them."""


class Staging:
    """Stages that are added one after the other, and the program that they make.

    Args:
        itemsize: The most bytes that an element has.
    """

    def __init__(self, itemsize: int) -> None:
        self._width = itemsize * UNIT
        self._rows: list[list[int]] = []
        self._jobs: list[tuple[int, int, int]] = []
        self._reading: list[tuple[int, int, int]] = []
        self._noisy: list[tuple[int, int]] = []
        self._memory: list[Any] = []
        self._program: Program | None = None

    def buffer(self, index: int, step: int = 0) -> Argument:
        """Memory for a unit; with a step back for each unit as if it were a whole tensor."""
        return Argument(BUFFERS + index * self._width, step, own=True)

    @staticmethod
    def bytes_of_unit(like: Tensor) -> int:
        """How far a tensor's units are apart."""
        return UNIT * like.element_size()

    def factor(self, carrier: str, value: float) -> int:
        """The address of a number."""
        self._memory.append(number := np.array([value], carrier))
        return number.ctypes.data

    def append(self, loop: Any, arguments: Sequence[Place], rest: Sequence[int] = ()) -> None:
        """A stage over the units of a tensor."""
        for column, argument in enumerate(arguments):
            if isinstance(argument, Given):
                self._reading.append((len(self._rows), START + column, argument.start))
        self._rows.append(stage(loop, [*arguments, UNIT_NUMBER, NEXT_NUMBER, *rest]))

    def copy(self, like: Tensor, places: tuple[Place, Place], factor: int = 0) -> None:
        """From one place to another, times a factor if there is the address of one."""
        self.append(updates.copying(CARRIERS[like.dtype]), [*places, factor, like.numel()])

    def round(
        self, like: Tensor, places: tuple[Place, Place], spec: Spec | None, noise: tuple[int, int]
    ) -> None:
        """From one place to another or the same, rounded with the noise of a number and role, or copied."""
        if spec is None:
            if places[0] != places[1]:
                self.copy(like, places)
            return
        carrier = CARRIERS[like.dtype]
        kernel = elementwise.kernel_of(spec.format, spec.rounding, spec.random_bits, carrier, cpu.VALUES)
        run, outer = elementwise.walk_of(like.numel(), UNIT)
        self._memory += [kernel, run, outer]
        if kernel.drawn:
            self._noisy.append((len(self._rows), stream_of(0, *noise)))
        walk: list[Place] = [kernel.numbers, run.ctypes.data, outer.ctypes.data, 0, Argument(0, own=True)]
        self.append(kernel.loop, [*places, *walk], [0, 0, -1])

    def digest(self, like: Tensor, place: Place, sums: Place) -> None:
        """Digests of each unit."""
        self.append(updates.digesting(like.element_size()), [place, sums, like.numel()])

    def finish(self, like: Tensor) -> None:
        """What has been added since the last time is done for every unit of a tensor."""
        first = sum(count for _, count, _ in self._jobs)
        if len(self._rows) > first:
            self._jobs.append((first, len(self._rows) - first, units_of(like)))

    def build(self, buffers: int, room: int = 0) -> None:
        """Make the program, each of whose runners has so many buffers and more bytes."""
        self._program = Program(self._rows, self._jobs, BUFFERS + buffers * self._width + room)
        self._stages, self._columns, self._sources = np.array(self._reading, np.int64).reshape(-1, 3).T
        self._drawn, self._streams = np.array(self._noisy, np.int64).reshape(-1, 2).T

    def run(self, addresses: Sequence[int] | npt.NDArray[np.int64], seed: int, step: int) -> None:
        """Run it with the addresses of what is given, and the noise of a step."""
        if self._program is None or not self._jobs:
            return
        table = self._program.table
        table[self._stages, self._columns] = np.asarray(addresses, np.int64)[self._sources]
        table[self._drawn, _SEED] = seed
        table[self._drawn, _STREAM] = self._streams + (step << STEP_SHIFT)
        self._program.run(torch.get_num_threads())


def units_of(p: Tensor) -> int:
    """How many units a tensor has."""
    return -(-p.numel() // UNIT)


def lie_apart(spans: Sequence[tuple[int, int]]) -> bool:
    """Whether no two spans of memory, each a start and its bytes, meet."""
    ends = sorted((start, start + size) for start, size in spans)
    return all(stop <= start for (_, stop), (start, _) in pairwise(ends))


def span_of(t: Tensor) -> tuple[int, int]:
    """Where a tensor's memory starts, and how many bytes it spans."""
    if t.is_contiguous():
        return t.data_ptr(), t.nbytes
    steps = zip(t.shape, t.stride(), strict=True)
    return t.data_ptr(), t.element_size() * (1 + sum((size - 1) * step for size, step in steps))
