"""How a strided tensor is walked: dimensions merged into runs, runs cut into units for threads."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from lowprec.kernels.philox import TILE

Integers = tuple[int, ...]

SHARED, ADJACENT, APART = range(3)
"""The groups of a run's elements: some in one; each in one of its own, the next or another."""

_UNITS = 64
"""A tensor of few runs is cut into about this many units, enough to share among threads."""


@dataclass(frozen=True)
class Layout:
    """The addresses of the arrays that a loop walks by, and how many units there are."""

    run: int
    outer: int
    dimensions: int
    """How many columns ``outer`` has."""
    units: int
    size: int
    groups: int
    shared: bool
    """Whether two units may share a group."""
    columns: int
    """Whether each element of a run is in a group of its own, and if so, how those lie."""
    grid: Integers
    """How many groups there are along each dimension of the tensor."""
    memory: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    """What lies at the addresses ``run`` and ``outer``."""


@dataclass(frozen=True)
class _Dimension:
    """One dimension: its size, strides in x, out, element index and group, and its group size."""

    size: int
    x: int
    out: int
    index: int
    group: int
    tile: int

    def absorbs(self, inner: "_Dimension") -> bool:
        """Whether this and the next inner dimension can be walked as one."""
        contiguous = (
            self.x == inner.x * inner.size
            and self.out == inner.out * inner.size
            and self.index == inner.index * inner.size
        )
        whole = self.tile >= self.size and inner.tile >= inner.size
        single = self.tile == inner.tile == 1 and self.group == inner.group * inner.size
        return contiguous and (whole or single)

    def merged(self, inner: "_Dimension") -> "_Dimension":
        """The two as one."""
        size = self.size * inner.size
        tile = 1 if self.tile == inner.tile == 1 else size
        return _Dimension(size, inner.x, inner.out, inner.index, inner.group, tile)


@lru_cache(maxsize=1024)
def row_major(shape: Integers) -> Integers:
    """The strides of a contiguous tensor, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@lru_cache(maxsize=512)
def layout(
    shape: Integers,
    x_strides: Integers,
    out_strides: Integers,
    index_strides: Integers | None,
    index_offset: int,
    tiles: Integers | None,
) -> Layout:
    """Plan the walk over a tensor; there are no units in an empty one.

    ``index_strides`` numbers the elements for their random words; None if no words are used, which
    leaves the order of the walk free. ``tiles`` is the size of a group along each dimension; None if
    there are no groups.
    """
    if 0 in shape:
        return _planned([1] * 9, [], 0, 0, (), shared=False, columns=SHARED)
    tiles = shape if tiles is None else tiles
    counts = tuple(-(-size // tile) for size, tile in zip(shape, tiles, strict=True))
    rows = zip(
        shape,
        x_strides,
        out_strides,
        index_strides or x_strides,
        row_major(counts),
        tiles,
        strict=True,
    )
    dimensions = [_Dimension(*row) for row in rows if row[0] > 1]
    if index_strides is None:
        dimensions.sort(key=lambda d: d.x, reverse=True)
    merged = [_Dimension(1, 1, 1, 1, 0, 1)] if not dimensions else dimensions[:1]
    for dimension in dimensions[1:]:
        if merged[-1].absorbs(dimension):
            merged[-1] = merged[-1].merged(dimension)
        else:
            merged.append(dimension)
    *outside, inner = merged
    tile = min(inner.tile, inner.size)

    runs = prod(d.size for d in outside)
    segment = inner.size
    if runs < _UNITS:
        align = TILE if tile in (1, inner.size) else max(TILE // tile, 1) * tile
        per_unit = -(-inner.size * runs // _UNITS)
        segment = min(inner.size, -(-per_unit // align) * align)
    segments = -(-inner.size // segment)
    shared = any(d.tile > 1 for d in outside) or (segments > 1 and segment % tile != 0)
    columns = SHARED if tile != 1 else ADJACENT if inner.group <= 1 else APART
    steps = [inner.x, inner.out, inner.index, index_offset]
    run = [inner.size, segment, segments, *steps, tile, inner.group]
    outer = [[d.size, d.x, d.out, d.index, d.group, d.tile] for d in outside]
    return _planned(run, outer, runs * segments, prod(shape), counts, shared=shared, columns=columns)


def _planned(
    run: list[int],
    outer: list[list[int]],
    units: int,
    size: int,
    grid: Integers,
    *,
    shared: bool,
    columns: int,
) -> Layout:
    """A layout with its arrays in memory."""
    first = np.array(run, np.int64)
    rest = np.ascontiguousarray(np.array(outer, np.int64).reshape(len(outer), 6).T)
    addresses = first.ctypes.data, rest.ctypes.data
    groups = prod(grid) if units else 0
    return Layout(*addresses, len(outer), units, size, groups, shared, columns, grid, (first, rest))
