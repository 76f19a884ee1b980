"""Several loops over the same units: all of them over one unit, which stays in the cache, then the next.

A stage is a loop and its arguments, as they are for the first unit: each grows with the unit by a step,
and may be an offset into the memory of whoever runs it. So a whole optimizer's step is one
table of stages, and a table of jobs, which are units of a range of stages, shared among threads.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.kernels.cpu import SCRATCH, jit
from lowprec.kernels.memory import at
from lowprec.kernels.team import caller
from lowprec.kernels.threads import PARTS, address_of, ranges, share

MOST = 15
"""The most arguments that a loop has."""
FUNCTION, COUNT, START = range(3)
STEP, OWN = START + MOST, START + 2 * MOST
"""Where the arguments of a stage lie in its row, their steps, and 1 where they are offsets."""
WIDTH = START + 3 * MOST
_ARGUMENTS = SCRATCH
"""Where in a runner's own memory the arguments of a call are put together: behind what loops scratch."""
BUFFERS = SCRATCH + 8 * 16
"""Where free memory begins."""


class Argument(NamedTuple):
    """One argument of a stage."""

    start: int
    step: int = 0
    own: bool = False


UNIT_NUMBER, NEXT_NUMBER = Argument(0, 1), Argument(1, 1)


def stage(loop: Any, arguments: Sequence[Argument | int]) -> list[int]:
    """The row of a stage."""
    known = [a if isinstance(a, Argument) else Argument(a) for a in arguments]
    known += [Argument(0)] * (MOST - len(known))
    columns = zip(*known, strict=True)
    return [address_of(loop), len(arguments), *(int(value) for column in columns for value in column)]


@cache
def runner() -> Any:
    """The loop over jobs; each is a row of its first stage, how many there are, and a range of units."""
    calls = tuple(caller(count) for count in (5, 6, 12, 15))
    call_5, call_6, call_12, call_15 = calls

    def loop(table_address, jobs_address, room, first, last):
        table, jobs = at(table_address, np.int64), at(jobs_address, np.int64)
        place = room + _ARGUMENTS
        arguments = at(place, np.int64)
        for job in range(first, last):
            begin, stages = jobs[4 * job], jobs[4 * job + 1]
            for unit in range(jobs[4 * job + 2], jobs[4 * job + 3]):
                for number in range(begin, begin + stages):
                    row = table[number * WIDTH : (number + 1) * WIDTH]
                    for k in range(MOST):
                        arguments[k] = row[START + k] + unit * row[STEP + k] + room * row[OWN + k]
                    if row[COUNT] == 12:
                        call_12(row[FUNCTION], place)
                    elif row[COUNT] == 15:
                        call_15(row[FUNCTION], place)
                    elif row[COUNT] == 6:
                        call_6(row[FUNCTION], place)
                    elif row[COUNT] == 5:
                        call_5(row[FUNCTION], place)

    return jit(5, loop, {}, "program")


class Program:
    """Stages and jobs, ready to be run as often as their arguments are set anew.

    Args:
        rows: The rows of all stages.
        jobs: For each sequence of stages its first row, their number and how many units they have.
        room: Bytes of a runner's own memory, with what lies before BUFFERS.
    """

    def __init__(
        self, rows: Sequence[Sequence[int]], jobs: Sequence[tuple[int, int, int]], room: int
    ) -> None:
        self.table: npt.NDArray[np.int64] = np.array(rows, np.int64).reshape(-1, WIDTH)
        """One row for each stage, to be changed between runs."""
        self._jobs = jobs
        self._room = room
        self._parts: dict[
            int, tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], list[tuple[int, ...]]]
        ] = {}

    def run(self, threads: int) -> None:
        """Run every stage on every unit."""
        if threads not in self._parts:
            self._parts[threads] = self._shared(threads)
        _, _, calls = self._parts[threads]
        share(runner(), calls, threads)

    def _shared(
        self, threads: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], list[tuple[int, ...]]]:
        """Jobs cut so that the calls of all threads have about as many units; memory, and the calls."""
        total = sum(units for *_, units in self._jobs)
        most = max(1, -(-total // (PARTS * threads)))
        jobs: list[tuple[int, int, int, int]] = []
        starts, filled = [0], 0
        for first, count, units in self._jobs:
            for begin, end in ranges(units, -(-units // most)):
                if filled + end - begin > most and filled:
                    starts.append(len(jobs))
                    filled = 0
                jobs.append((first, count, begin, end))
                filled += end - begin
        starts.append(len(jobs))
        table = np.array(jobs, np.int64).reshape(-1, 4)
        room = -(-self._room // 64) * 64
        memory = np.empty((len(starts), room), np.uint8)
        base = memory.ctypes.data + -memory.ctypes.data % 64
        calls: list[tuple[int, ...]] = [
            (self.table.ctypes.data, table.ctypes.data, base + n * room, *part)
            for n, part in enumerate(pairwise(starts))
        ]
        return table, memory, calls
