"""The torch operators that count, in the namespace ``torch.ops.lowprec``; see library.py for the others.

``count(x, y, format, rounding, random_bits)``
    what rounding ``x`` to ``y`` did: counts, and sums of squares, in the order of ``Rounded``; then how many
    magnitudes have each exponent from the carrier's lowest on.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lowprec.formats import BlockFloatingPoint, GroupedFormat, Scaled, resolve
from lowprec.kernels import counting
from lowprec.kernels.limits import NEVER, limits_of
from lowprec.ops import scaling
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.gradients import overflowed
from lowprec.ops.quantize import Spec
from lowprec.ops.statistics import largest_magnitudes

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define("count(Tensor x, Tensor y, str format, str rounding, int random_bits) -> (Tensor, Tensor)")


class Rounded(NamedTuple):
    """What one quantization did."""

    size: int
    saturated: int
    underflowed: int
    nan: int
    infinite: int
    zeros: int
    given_nan: int
    given_infinite: int
    signal: float
    error: float
    exponents: dict[int, int]
    """How many finite non-zero inputs lie in [2^e, 2^(e + 1)), by e."""


class Update(NamedTuple):
    """What became of an optimizer's update."""

    moved: int
    """Elements that the update would have changed."""
    lost: int
    """Those of them that rounding left as they were."""
    update: float
    lost_update: float
    """Sums of squares, over elements that are finite before and after."""


def _count(x: Tensor, y: Tensor, format: str, rounding: str, random_bits: int) -> tuple[Tensor, Tensor]:
    """The kernel of count; the numbers lie on the CPU, wherever the tensors do."""
    carrier, grouped = CARRIERS[x.dtype], isinstance(resolve(format), GroupedFormat)
    limits = (NEVER, NEVER) if grouped else limits_of(format, rounding, random_bits, carrier)
    if x.is_cuda:
        from lowprec.ops.cuda.counting import count

        found = count(x, y, limits)
    else:
        strides = x.stride(), y.stride()
        found = counting.count(
            x.data_ptr(), y.data_ptr(), carrier, tuple(x.shape), *strides, limits, torch.get_num_threads()
        )
    numbers = torch.tensor(found[:-2], dtype=torch.float64)
    return numbers, torch.from_numpy(found.exponents)


for _device in ("CPU", "CUDA"):
    _library.impl("count", _count, _device)


def count(
    x: Tensor, y: Tensor, seed: Tensor | None, spec: Spec, stream: int, scales: Sequence[Tensor | None] = ()
) -> Rounded:
    """What ``y``, the quantized ``x``, tells; the arguments are those of ``run``."""
    numbers, exponents = torch.ops.lowprec.count(x, y, *spec)
    *counts, signal, error = numbers.tolist()
    size, certain, possible, under, nan, infinite, zeros, given_nan, given_infinite = map(int, counts)
    unknown = certain != possible or isinstance(resolve(spec.format), GroupedFormat)
    saturated = int(overflowed(x, seed, spec, stream, scales).count_nonzero()) if unknown else certain
    array = exponents.numpy()
    (places,) = array.nonzero()
    lowest = _lowest_exponent(x.dtype)
    histogram = dict(zip((places + lowest).tolist(), array[places].tolist(), strict=True))
    return Rounded(
        size, saturated, under, nan, infinite, zeros, given_nan, given_infinite, signal, error, histogram
    )


def _lowest_exponent(dtype: torch.dtype) -> int:
    """The exponent of a carrier's smallest magnitude."""
    info = torch.finfo(dtype)
    return int(np.log2(info.smallest_normal) + np.log2(info.eps))


def scale_exponents(x: Tensor, format: str, scales: Sequence[Tensor | None] = ()) -> dict[int, int]:
    """How many groups have a scale in [2^e, 2^(e + 1)), by e; nothing for a format without groups.

    Scales under scales are multiplied; groups of block floating point have their shared exponent, and
    count only where an element is finite and not zero.
    """
    parsed: Any = resolve(format)
    if isinstance(parsed, Scaled):
        levels = torch.ops.lowprec.scales(x, format)
        for place, given in enumerate(scales):
            levels[place] = levels[place] if given is None else given
        found = levels[0].to(torch.float64)
        if isinstance(parsed.scale, Scaled):
            first, second = scaling.grids_of(parsed, x.shape)
            found = found.reshape(first) * scaling.spread(
                levels[1].to(torch.float64).reshape(second), parsed.scale, first
            )
    elif isinstance(parsed, BlockFloatingPoint):
        found = largest_magnitudes(x, parsed.granularity.tiles(tuple(x.shape)))
    else:
        return {}
    array = found.detach().cpu().numpy().ravel()
    _, exponents = np.frexp(array[np.isfinite(array) & (array > 0)])
    if isinstance(parsed, BlockFloatingPoint):
        low, high = parsed.lowest_group_exponent, parsed.highest_group_exponent
        exponents = np.clip(exponents, None if low is None else low + 1, None if high is None else high + 1)
    values, counts = np.unique(exponents - 1, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def count_update(before: Tensor, moved: Tensor, after: Tensor) -> Update:
    """What rounding ``moved`` to ``after`` left of a step that began at ``before``."""
    start, aim, end = (
        t.detach().contiguous().to(torch.float64).cpu().numpy().ravel() for t in (before, moved, after)
    )
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        step = aim - start
        kept = np.isfinite(step) & np.isfinite(end) & (aim != start)
        squares = np.where(kept, step, 0.0) ** 2
        lost = kept & (end == start)
        return Update(int(kept.sum()), int(lost.sum()), float(squares.sum()), float(squares[lost].sum()))
