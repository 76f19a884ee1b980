"""The torch operators of observers, in the namespace ``torch.ops.lowprec``; see library.py for the others.

``statistic(x, format, percent, steps)``
    one float64 number for each of the outermost groups of a scaled format: the largest magnitude of its
    finite elements. Of the negative and of the positive ones, in a last dimension, where the format has
    zero points. With ``percent`` below 100, the smallest number that so many percent do not exceed; with
    ``steps`` above 1, that of so many equal parts of the largest which clips with the least squared error.
``scales_from(statistic, format)``
    the outermost scales, and zero points, that the format's rule makes of such statistics.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lowprec.formats import PerGroup, Scaled, resolve
from lowprec.ops import scaling

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define("statistic(Tensor x, str format, str percent, int steps) -> Tensor")
_library.define("scales_from(Tensor statistic, str format) -> Tensor[]")


def _tiles(format: Scaled, shape: Sequence[int]) -> tuple[int, ...]:
    """The size along each dimension of what shares an outermost scale."""
    tiles = format.granularity.tiles(tuple(shape))
    if not isinstance(format.scale, Scaled):
        return tiles
    outer = format.scale.granularity.tiles(scaling.grid_of(format, shape))
    return tuple(inner * many for inner, many in zip(tiles, outer, strict=True))


def _split(x: Tensor, tiles: Sequence[int], fill: float) -> Tensor:
    """Two dimensions for each of x, over tiles and within; ``fill`` completes those at the far ends."""
    missing = [-size % tile for size, tile in zip(x.shape, tiles, strict=True)]
    if any(missing):
        x = torch.nn.functional.pad(x, [n for m in reversed(missing) for n in (0, m)], value=fill)
    return x.reshape([n for size, tile in zip(x.shape, tiles, strict=True) for n in (size // tile, tile)])


def rows_of(x: Tensor, tiles: Sequence[int], fill: float) -> Tensor:
    """A row of elements for each tile."""
    split = _split(x, tiles, fill)
    over, within = range(0, split.dim(), 2), range(1, split.dim(), 2)
    rows = math.prod(split.shape[axis] for axis in over)
    return split.permute((*over, *within)).reshape(rows, -1)


def _sides(low: Tensor, high: Tensor, format: Scaled) -> Tensor:
    """The statistic of groups that reach from ``low`` to ``high``, widened to include zero."""
    low, high = -low.double(), high.double()
    sides = torch.stack([low, high], -1) if format.zero_point else torch.maximum(low, high)
    return sides.clamp(min=0).abs()  # no -0


def _ends(x: Tensor, tiles: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The least and the largest finite element of each tile, or zero."""
    split = _split(x, tiles, 0.0)
    within = tuple(range(1, split.dim(), 2))
    if x.is_cpu:
        low, high = split.amin(within), split.amax(within)
        if low.isfinite().all() and high.isfinite().all():
            return low, high
    split = split.nan_to_num(0.0, 0.0, 0.0)  # on a device without a look, which would wait for it
    return split.amin(within), split.amax(within)


def _largest(x: Tensor, format: Scaled) -> Tensor:
    """The largest magnitudes."""
    return _sides(*_ends(x, _tiles(format, x.shape)), format)


def largest_magnitudes(x: Tensor, tiles: Sequence[int]) -> Tensor:
    """The largest finite magnitude of each tile, in float64; none for a tensor without elements."""
    if x.numel() == 0:
        return x.new_empty(0, dtype=torch.float64)
    low, high = _ends(x, tiles)
    return torch.maximum(-low.double(), high.double())


def _percentiles(x: Tensor, format: Scaled, percent: Fraction) -> Tensor:
    """The smallest values that ``percent`` of the finite ones do not exceed."""
    rows = rows_of(x, _tiles(format, x.shape), math.nan)
    finite = rows.isfinite()
    # In exact fractions, and one rank after the other: this waits for a device.
    ranks = torch.tensor([math.ceil(count * percent / 100) for count in finite.sum(1).tolist()])
    if format.zero_point:
        low, high = (_ranked(side.where(finite, math.inf), ranks) for side in (-rows, rows))
        return _sides(-low, high, format)
    return _ranked(rows.abs().where(finite, math.inf), ranks).double()


def _ranked(rows: Tensor, ranks: Tensor) -> Tensor:
    """Of each row the element that comes at its rank, the smallest at 1; zero at rank 0."""
    found = rows.new_zeros(len(rows))
    for rank in ranks.unique().tolist():
        if rank > 0:
            chosen = (ranks == rank).to(rows.device)
            found[chosen] = rows[chosen].kthvalue(rank, 1).values
    return found


def _least_error(x: Tensor, format: Scaled, steps: int) -> Tensor:
    """The clipping magnitudes of least squared error; of equal ones the larger."""
    x = x.nan_to_num(0.0, 0.0, 0.0)  # zeros have no error
    tiles, largest = _tiles(format, x.shape), _largest(x, format)
    rows = rows_of(x, tiles, 0.0).double()
    unit = (largest.amax(-1) if format.zero_point else largest).reshape(-1, 1)
    unit = unit.where(unit > 0, 1.0)
    inner = [None] if isinstance(format.scale, Scaled) else []
    best, least = largest.clone(), torch.full_like(unit[:, 0], math.inf)
    for step in range(steps, 0, -1):
        clipped = largest * (step / steps)
        levels = [*inner, *_scales_from(clipped, str(format))]
        y = torch.ops.lowprec.quantize_with(x, levels, None, str(format), "nearest_even", 32)
        errors = rows - rows_of(y, tiles, 0.0)
        if x.dtype == torch.float64:  # whose squares may overflow
            errors /= unit
        sums = _sums_of(errors.square_()).nan_to_num(math.inf, math.inf)
        less = (sums < least).reshape(largest.shape[: -1 if format.zero_point else None])
        least = torch.minimum(least, sums)
        best = torch.where(less.unsqueeze(-1) if format.zero_point else less, clipped, best)
    return best


def _sums_of(rows: Tensor) -> Tensor:
    """The sum of each row, by halves, in place: torch's depends on the device and the number of threads."""
    while (size := rows.shape[1]) > 1:
        half = -(-size // 2)
        rows[:, : size - half] += rows[:, half:]
        rows = rows[:, :half]
    return rows[:, 0]


def _statistic(x: Tensor, format: str, percent: str, steps: int) -> Tensor:
    """The kernel of statistic."""
    parsed: Any = resolve(format)
    if steps > 1:
        return _least_error(x, parsed, steps)
    share = Fraction(percent)
    found = _largest(x, parsed) if share == 100 else _percentiles(x, parsed, share)
    return found.reshape(_shape(x.shape, parsed))


def _shape(shape: Sequence[int], format: Scaled) -> tuple[int, ...]:
    """The shape of the statistic of a tensor."""
    return scaling.grids_of(format, shape)[-1] + ((2,) if format.zero_point else ())


@lru_cache(maxsize=1024)
def _by_group(format: str) -> Scaled:
    """The format whose groups are one element each; or two, the ends of a range."""
    parsed: Any = resolve(format)
    if isinstance(parsed.scale, Scaled):
        parsed = replace(parsed, scale=replace(parsed.scale, granularity=PerGroup(1)))
    return replace(parsed, granularity=PerGroup(2 if parsed.zero_point else 1))


def _scales_from(statistic: Tensor, format: str) -> list[Tensor]:
    """The kernel of scales_from."""
    rule = _by_group(format)
    ends = torch.stack([-statistic[..., 0], statistic[..., 1]], -1) if rule.zero_point else statistic
    grid = statistic.shape[:-1] if rule.zero_point else statistic.shape
    levels = torch.ops.lowprec.scales(ends.reshape(-1), str(rule))
    outer = levels[1:] if isinstance(rule.scale, Scaled) else levels
    return [level.reshape(grid) for level in outer]


for _device in ("CPU", "CUDA"):
    _library.impl("statistic", _statistic, _device)
    _library.impl("scales_from", _scales_from, _device)


@torch.library.register_fake("lowprec::statistic", lib=_library)
def _(x: Tensor, format: str, percent: str, steps: int) -> Tensor:
    parsed: Any = resolve(format)
    return x.new_empty(_shape(x.shape, parsed), dtype=torch.float64)


@torch.library.register_fake("lowprec::scales_from", lib=_library)
def _(statistic: Tensor, format: str) -> list[Tensor]:
    parsed: Any = resolve(format)
    grid = statistic.shape[:-1] if parsed.zero_point else statistic.shape
    dtypes = scaling.dtypes_of(parsed)[isinstance(parsed.scale, Scaled) :]
    return [statistic.new_empty(grid, dtype=dtype) for dtype in dtypes]


def statistic(x: Tensor, format: str, percent: str = "100", steps: int = 1) -> Tensor:
    """The operator."""
    found: Tensor = torch.ops.lowprec.statistic(x, format, percent, steps)
    return found


def scales_from(statistic: Tensor, format: str) -> list[Tensor]:
    """The operator."""
    levels: list[Tensor] = torch.ops.lowprec.scales_from(statistic, format)
    return levels
