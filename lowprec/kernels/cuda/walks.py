"""How a grid of threads goes through a tensor: a row of threads takes a segment of a run at a time."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from lowprec.kernels.cuda.twin import THREADS
from lowprec.kernels.layout import Integers, Layout
from lowprec.kernels.philox import TILE
from lowprec.kernels.walk import GROUP_SIZE, LENGTH, SEGMENT, SEGMENTS, SIZE

_LONGEST = 4 * TILE
"""About how many elements of a run a row of threads takes at a time."""
_DIMENSIONS = (1, 4, 16, 64)
"""How many dimensions outside a run kernels are compiled for; what is not there has one element."""
_WARP = 32

RUN = types.UniTuple(types.int64, 9)


def outer_type(dimensions: int) -> types.Type:
    """The type of what describes so many dimensions."""
    return types.UniTuple(types.UniTuple(types.int64, dimensions), 6)


class Walk(NamedTuple):
    """What kernels take of a layout, and the grid that suits it."""

    run: Integers
    outer: tuple[Integers, ...]
    units: int
    blocks: int
    threads: tuple[int, int]

    @property
    def dimensions(self) -> int:
        """How many dimensions outside a run a kernel is compiled for."""
        return len(self.outer[0])

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Of kernels, in their order."""
        return self.run, self.outer, self.units


@lru_cache(maxsize=512)
def _of(run: Integers, outer: tuple[Integers, ...], whole: int) -> Walk:
    """The walk along a run in segments of about _LONGEST elements, multiples of ``whole``."""
    length = run[LENGTH]
    segment = min(length, max(_LONGEST // whole, 1) * whole)
    segments = -(-length // segment)
    own = list(run)
    own[SEGMENT], own[SEGMENTS] = segment, segments
    rows = _padded(outer)
    units = int(np.prod(rows[SIZE], dtype=np.int64)) * segments
    wide = _WARP
    while wide < THREADS and wide * 4 < segment:
        wide *= 2
    threads = wide, THREADS // wide
    return Walk(tuple(own), rows, units, -(-units // threads[1]), threads)


def _padded(outer: tuple[Integers, ...]) -> tuple[Integers, ...]:
    """The dimensions outside a run, and others of one element, so that there is a kernel for so many."""
    count = len(outer[0])
    wanted = next(size for size in _DIMENSIONS if size >= count)
    pads = (1, 0, 0, 0, 0, 1)
    return tuple((pad,) * (wanted - count) + row for pad, row in zip(pads, outer, strict=True))


def as_planned(plan: Layout) -> tuple[Integers, tuple[Integers, ...]]:
    """The run, in the segments of the CPU, and the dimensions outside it."""
    run, outer = (memory.tolist() for memory in plan.memory)
    return tuple(run), _padded(tuple(map(tuple, outer)))


def walk_of(plan: Layout, *, groups: bool = False) -> Walk:
    """The walk through a layout; where there are groups in its runs, they are not cut if they fit."""
    run, outer = (memory.tolist() for memory in plan.memory)
    whole = run[GROUP_SIZE] if groups and run[GROUP_SIZE] <= _LONGEST else TILE
    return _of(tuple(run), tuple(map(tuple, outer)), whole)
