"""Formats with groups: maxima, scales, then elements, in torch's memory; see the CPU's grouped.py.

What is known of groups are tensors on the device with one entry for each: maxima are patterns of the
carrier, scales binary64. Nothing waits for the device but the checks of scales that are given.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec.formats import BlockFloatingPoint, FloatingPoint, GroupedFormat, Scaled, resolve
from lowprec.kernels.cpu import CODES, DECODED, VALUES, is_drawn
from lowprec.kernels.cuda import elementwise, groups, scales
from lowprec.kernels.groups import BOTH, NEGATIVE, POSITIVE
from lowprec.kernels.layout import Layout, layout, row_major
from lowprec.kernels.numbers import MODES
from lowprec.modes import Rounding, ScaleRule
from lowprec.ops import scaling
from lowprec.ops.carriers import CARRIERS, Strides
from lowprec.ops.cuda.given import checked_levels, checked_powers
from lowprec.ops.cuda.queue import address_of, queue_of
from lowprec.ops.search import is_by_trying, least_squared_error

_ZERO_POINT = 0xFFFF
"""The low bits of a scale in binary64, which hold its zero point."""


class Known(NamedTuple):
    """What is known of the groups of a tensor before its elements are looked at."""

    states: Tensor | None = None
    """None where each group lies in one piece, whose maximum is found with its elements."""
    state: str = ""
    """The type of what the states are."""
    levels: tuple[Tensor, ...] = ()
    """Scales in binary64 by level, and zero points."""


def quantize(
    x: Tensor, out: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int, stream: int,
    index_offset: int, index_strides: Strides, kind: int, given: Sequence[Tensor | None] | None = None,
) -> Known:  # fmt: skip
    """Write values, flags where overflow fires, or codes; ``given`` are scales, in place of those from x."""
    parsed: Any = resolve(format)
    if x.numel() == 0:
        return Known()
    shape, strides = tuple(x.shape), None
    if is_drawn(MODES[Rounding(rounding)]):
        strides = row_major(shape) if index_strides is None else tuple(index_strides)
    tiles = parsed.granularity.tiles(shape)
    plan = layout(shape, x.stride(), out.stride(), strides, index_offset, tiles)
    known = _known(x, parsed, plan, given, apart=kind == CODES)
    _write(x, out, known, plan, parsed, rounding, random_bits, kind, address_of(seed), stream)
    return known


def _write(
    x: Tensor, out: Tensor, known: Known, plan: Layout, format: GroupedFormat, rounding: str = "nearest_even",
    random_bits: int = 32, kind: int = VALUES, seed: int = 0, stream: int = 0,
) -> None:  # fmt: skip
    """Write elements."""
    code = _name(out) if kind == CODES else "uint32"
    groups.quantize(
        queue_of(x), x.data_ptr(), out.data_ptr(), CARRIERS[x.dtype], plan, format, rounding, random_bits,
        kind, (seed, stream, -1), address_of(known.states), known.state, code,
    )  # fmt: skip


def _name(codes: Tensor) -> str:
    """The dtype of codes as NumPy writes it."""
    return str(codes.dtype).removeprefix("torch.")


def _known(
    x: Tensor, format: Any, plan: Layout, given: Sequence[Tensor | None] | None, *, apart: bool
) -> Known:
    """What elements need to be told; ``apart``: what scales are made of is needed afterwards."""
    if not given and is_by_trying(format):
        return _tried(x, format)
    if isinstance(format, Scaled) and format.levels:
        return _scales_of(x, format, plan, given)
    if given:
        (codes,) = checked_levels("scale", given, format, x.shape, nan=False)
        return Known(codes, "uint8")
    if not apart and groups.is_whole(plan):
        return Known()
    return Known(_maxima(x, plan), _pattern(x))


def _pattern(x: Tensor) -> str:
    """The type of maxima."""
    return "uint64" if x.dtype == torch.float64 else "uint32"


def _maxima(x: Tensor, plan: Layout, side: int = BOTH) -> Tensor:
    """The largest finite magnitude of a side in each group of a plan, as a pattern."""
    maxima = _zeros(x, plan.groups)
    groups.collect(queue_of(x), x.data_ptr(), maxima.data_ptr(), CARRIERS[x.dtype], plan, side)
    return maxima


def _zeros(x: Tensor, count: int) -> Tensor:
    """Patterns of zero."""
    return torch.zeros(count, dtype=torch.int64 if x.dtype == torch.float64 else torch.int32, device=x.device)


def _tried(x: Tensor, format: Scaled) -> Known:
    """The scales with the least squared error."""
    values, shape = x.double().contiguous(), tuple(x.shape)
    steps = row_major(shape)
    plan = layout(shape, steps, steps, None, 0, format.granularity.tiles(shape))

    def rounded(exponents: Tensor) -> Tensor:
        """The numbers over such scales."""
        out = torch.empty_like(values)
        _write(values, out, _powers(exponents, format), plan, format)
        return out

    return _powers(least_squared_error(values, format, CARRIERS[x.dtype], rounded), format)


def _powers(exponents: Tensor, format: Scaled) -> Known:
    """Scales that are powers of two."""
    if not format.levels:
        return Known((exponents + 127).to(torch.uint8), "uint8")
    powers = (exponents + 1023 << 52).view(torch.float64)
    return Known(powers, "uint64", (powers,))


def _scales_of(x: Tensor, format: Scaled, plan: Layout, given: Sequence[Tensor | None] | None) -> Known:
    """The scales of all groups: those given, the others from x."""
    first, outer = None, None
    if given:
        first, *rest = checked_levels("scale", given, format, x.shape, nan=False)
        outer = rest[0] if rest else None
    if format.zero_point:
        return _affine(x, format, plan) if first is None or outer is None else _joined(first, outer)
    if first is None:
        first, outer = _found(x, format, plan, outer)
    return _with_outer(first, outer, format, plan.grid)


def _with_outer(inner: Tensor, outer: Tensor | None, format: Scaled, grid: Sequence[int]) -> Known:
    """Scales times their own."""
    if outer is None:
        return Known(inner, "uint64", (inner,))
    return Known(inner * _spread(outer, format.scale, grid), "uint64", (inner, outer))


def _found(x: Tensor, format: Scaled, plan: Layout, outer: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The scales that follow from x, and their own, where they have such."""
    maxima = _maxima(x, plan)
    if format.scale_rule is not ScaleRule.AMAX:
        inner = maxima.new_empty(plan.groups, dtype=torch.float64)
        scales.make_powers(
            queue_of(x), maxima.data_ptr(), inner.data_ptr(), CARRIERS[x.dtype], format, plan.groups
        )
        return inner, None
    divisor = float(format.element.max)
    if not isinstance(format.scale, Scaled):
        return _quotients(x, maxima, _constant(divisor, x), format.levels[0]), None
    if outer is None:
        most = _constant(divisor * format.levels[0].max, x)
        outer = _quotients(x, _largest(x, maxima, format.scale, plan.grid), most, format.levels[1])
    divisors = _spread(outer, format.scale, plan.grid) * divisor
    return _quotients(x, maxima, divisors, format.levels[0]), outer


def _constant(value: float, x: Tensor) -> Tensor:
    """One number on the device, without a copy."""
    return torch.full((1,), value, dtype=torch.float64, device=x.device)


def _quotients(x: Tensor, maxima: Tensor, divisors: Tensor, level: FloatingPoint) -> Tensor:
    """Maxima over one divisor or one for each, rounded to scales."""
    out = torch.empty(maxima.numel(), dtype=torch.float64, device=x.device)
    scales.make_quotients(
        queue_of(x), maxima.data_ptr(), divisors.data_ptr(), int(divisors.numel() > 1), out.data_ptr(),
        CARRIERS[x.dtype], level, maxima.numel(),
    )  # fmt: skip
    return out


def _largest(x: Tensor, maxima: Tensor, scale: Scaled, grid: Sequence[int]) -> Tensor:
    """The largest magnitude of each of the scales' own groups."""
    steps = row_major(tuple(grid))
    plan = layout(tuple(grid), steps, steps, None, 0, scale.granularity.tiles(tuple(grid)))
    largest = _zeros(x, plan.groups)
    groups.collect(
        queue_of(x), maxima.data_ptr(), largest.data_ptr(), CARRIERS[x.dtype], plan, source=_pattern(x)
    )
    return largest


def _spread(outer: Tensor, scale: Any, grid: Sequence[int]) -> Tensor:
    """The scales' own scales, one for each scale or one for all."""
    if outer.numel() == 1:
        return outer
    return scaling.spread(outer.reshape(scaling.grid_of(scale, grid)), scale, grid).reshape(-1)


def _affine(x: Tensor, format: Scaled, plan: Layout) -> Known:
    """Scales and zero points that follow from x."""
    positive, negative = (_maxima(x, plan, side) for side in (POSITIVE, NEGATIVE))
    states = torch.empty(plan.groups, dtype=torch.int64, device=x.device)
    scales.make_affine(
        queue_of(x), positive.data_ptr(), negative.data_ptr(), states.data_ptr(), CARRIERS[x.dtype], format,
        plan.groups,
    )  # fmt: skip
    zeros = states & _ZERO_POINT
    return Known(states, "uint64", ((states - zeros).view(torch.float64), zeros.int()))


def _joined(scale: Tensor, zeros: Tensor) -> Known:
    """Scales and zero points that are given."""
    return Known(scale.view(torch.int64) | zeros, "uint64", (scale, zeros))


def make_scales(x: Tensor, format: Scaled, levels: Sequence[Tensor]) -> None:
    """Write the scales of a tensor that is not empty."""
    plan = layout(tuple(x.shape), x.stride(), x.stride(), None, 0, format.granularity.tiles(tuple(x.shape)))
    known = _known(x, format, plan, None, apart=True)
    write_scales(x, format, known, levels)


def write_scales(x: Tensor, format: GroupedFormat, known: Known, levels: Sequence[Tensor]) -> None:
    """Write scales into tensors of the dtypes that stand for their formats."""
    queue = queue_of(x)
    if isinstance(format, Scaled) and format.levels:
        for level, plain, values in zip(levels, (*format.levels, None), known.levels, strict=False):
            if plain is None:  # zero points
                level.copy_(values.reshape(level.shape))
                continue
            code = f"uint{8 * level.element_size()}"
            elementwise.encode(
                queue, values.data_ptr(), level.data_ptr(), "float64", code, values.numel(), plain
            )
    elif known.state == "uint8":  # scales that were given, or tried
        levels[0].view(torch.uint8).copy_(known.states.reshape(levels[0].shape))  # type: ignore[union-attr]
    else:
        states, count = address_of(known.states), levels[0].numel()
        scales.make_powers(queue, states, levels[0].data_ptr(), CARRIERS[x.dtype], format, count)


def encode(
    x: Tensor, codes: Tensor, levels: Sequence[Tensor], given: Sequence[Tensor | None], seed: Tensor | None,
    format: str, rounding: str, random_bits: int, stream: int,
) -> None:  # fmt: skip
    """Write the codes of contiguous elements, and the scales of each level."""
    parsed: Any = resolve(format)
    scales = given if isinstance(parsed, Scaled) else None
    known = quantize(x, codes, seed, format, rounding, random_bits, stream, 0, None, CODES, scales)
    if x.numel():
        write_scales(x, parsed, known, levels)


def decode(codes: Tensor, out: Tensor, given: Sequence[Tensor], format: GroupedFormat) -> None:
    """Write the values of contiguous codes; NaN where a scale is NaN."""
    shape = tuple(codes.shape)
    strides = row_major(shape)
    plan = layout(shape, strides, strides, strides, 0, format.granularity.tiles(shape))
    known = _decoded(given, format, shape, plan.grid)
    if not plan.units:
        return
    groups.quantize(
        queue_of(codes), codes.data_ptr(), out.data_ptr(), CARRIERS[out.dtype], plan, format, "nearest_even",
        32, DECODED, (0, 0, -1), address_of(known.states), known.state, _name(codes),
    )  # fmt: skip
    if isinstance(format, Scaled):
        undefined = scaling.undefined(given, format, shape)
        out.masked_fill_(scaling.spread(undefined, format, shape), torch.nan)


def _decoded(given: Sequence[Tensor], format: Any, shape: Sequence[int], grid: Sequence[int]) -> Known:
    """What the scales that came with codes say."""
    if isinstance(format, BlockFloatingPoint):
        powers = checked_powers(given[0] if given else None, format, shape)
        return Known(powers, f"uint{8 * powers.element_size()}")
    first, *rest = checked_levels("scales", given, format, shape, nan=True)
    if not format.levels:
        return Known(first, "uint8")
    if format.zero_point:
        return _joined(first, rest[0])
    return _with_outer(first, rest[0] if rest else None, format, grid)
