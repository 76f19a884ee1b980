"""Calls of kernels for formats with groups: maxima, scales, then elements.

Where scales are powers of two one call of the loop does it all, group by group. Where they are not, all
maxima come first, then the scales, which may have scales themselves, then the elements.
"""

import ctypes
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error
from lowprec.formats import Codebook, FloatingPoint, Format, GroupedFormat, Scaled, resolve
from lowprec.kernels import blocks, cpu, elementwise, scales
from lowprec.kernels.elementwise import SERIAL_BELOW, Kernel
from lowprec.kernels.groups import BLOCK_COUNT, BOTH, INFINITE, NEGATIVE, POSITIVE
from lowprec.kernels.layout import Integers, Layout, layout, row_major
from lowprec.kernels.numbers import (
    MODES,
    describe_block,
    describe_products,
    describe_quotients,
    describe_scale,
    describe_stairs,
)
from lowprec.kernels.scratch import own_scratch, scratches
from lowprec.kernels.specialize import WIDTHS, compiled_mode
from lowprec.kernels.threads import PARTS, ranges, share
from lowprec.modes import Rounding, ScaleRule

Array = npt.NDArray[Any]
Codes = tuple[Array | None, ...]
"""The scales of each level as codes, those of the groups first; None for a level that follows from x. A
zero point comes as a level of its own."""

_BOTH = blocks.MAXIMA | blocks.QUANTIZE
_ZERO_POINT = 0xFFFF
_FAR_ELEMENT, _FAR_POWER, _FAR_QUOTIENT = 30, 60, 90
"""Bounds of exponents: the least element over the least scale is 2^-90, of which 2^-126, the least normal
number of binary32, is less than a random number of 32 bits can tell from zero."""
_LARGE_GROUP = 64
"""Elements for which it pays to multiply all steps of a short list by their scale."""
_UNUSED = np.zeros(BLOCK_COUNT, np.int64)


class Scales(NamedTuple):
    """The scales of all groups: as the loop reads them, and by level in binary64."""

    states: Array
    levels: tuple[Array, ...]
    far: bool = False
    """Whether all are so far from the ends of binary32 that its subnormals give zeros, and none arises."""


@lru_cache(maxsize=256)  # each may hold a table of a megabyte
def _kernel(
    name: Format | str, rounding: str, random_bits: int, carrier: str, kind: int, code: str,
    columns: int, given: bool, far: bool, large: bool = False,
) -> Kernel:  # fmt: skip
    """The loop for elements; ``far``: all scales are far from the ends of the carrier; ``large``: groups."""
    mode, format = Rounding(rounding), _resolved(name)
    numbers: Array
    if isinstance(format, Scaled) and format.levels:
        steps = describe_stairs(format, mode) if far and large else None
        numbers, family = steps or describe_quotients(format, mode, random_bits)
        family = family._replace(hardware=far)
    elif far:
        numbers, family = describe_products(format, mode, random_bits)
    else:
        numbers, family = describe_block(format, mode, random_bits, carrier)
    apart = given and family.arithmetic == blocks.INTEGERS  # in other loops scales never follow from x
    compiled = compiled_mode(MODES[mode], family.depth, flags=kind == cpu.FLAGS)
    loop = blocks.block(carrier, compiled, kind, code, random_bits == 32, columns, family, apart)
    return Kernel(loop, numbers.ctypes.data, numbers, cpu.is_drawn(MODES[mode]))


@lru_cache(maxsize=1024)
def _resolved(format: Format | str) -> GroupedFormat:
    """The format of a name."""
    parsed = resolve(format)
    if not isinstance(parsed, GroupedFormat):
        raise type_error("format", "be a BlockFloatingPoint or a Scaled", type(parsed))
    return parsed


def quantize(
    x: int, out: int, carrier: str, plan: Layout, format: Format | str, rounding: str, random_bits: int,
    kind: int, noise: Integers, threads: int, given: Codes | None = None, code: str = "uint32",
) -> tuple[Array, tuple[Array, ...]]:  # fmt: skip
    """Write the values, flags or codes of elements; the largest magnitude or the scale of each group."""
    key = format, rounding, random_bits, carrier, kind, code, plan.columns
    if given is not None or _is_apart(format):
        scaled: Any = _resolved(format)
        found = make_scales(x, carrier, plan, scaled, threads, given, apart=kind == cpu.CODES)
        far = _tolerates(rounding, carrier) and found.far
        large = kind == cpu.VALUES and not plan.columns and plan.size >= _LARGE_GROUP * plan.groups
        kernel = _kernel(*key, True, far, large)
        _run(kernel, x, out, plan, found.states, noise, threads, blocks.QUANTIZE)
        return found.states, found.levels
    if plan.columns and kind == cpu.VALUES and _tolerates(rounding, carrier):
        states = _far_powers(x, carrier, plan, _resolved(format), threads)
        if states is not None:
            _run(_kernel(*key, False, True), x, out, plan, states, noise, threads, blocks.QUANTIZE)
            return states, ()
    room = _room(plan, WIDTHS[carrier].unsigned, threads)
    return _run(_kernel(*key, False, False), x, out, plan, room, noise, threads, _BOTH), ()


@lru_cache(maxsize=256)
def _is_apart(format: Format | str) -> bool:
    """Whether scales are no powers of two, and found before elements are looked at."""
    parsed = _resolved(format)
    return isinstance(parsed, Scaled) and bool(parsed.levels)


@lru_cache(maxsize=256)
def _tolerates(rounding: str, carrier: str) -> bool:
    """Whether elements far below the least of the format may be taken for zeros."""
    mode = Rounding(rounding)
    return carrier == "float32" and (
        mode is Rounding.TOWARD_ZERO or mode.startswith("nearest") or mode.takes_random_bits
    )


def _far_powers(x: int, carrier: str, plan: Layout, format: GroupedFormat, threads: int) -> Array | None:
    """The scales of all groups as patterns of binary32, if they and the elements are far from its ends."""
    element = format.in_group(0)
    if element.smallest_subnormal < 2.0**-_FAR_ELEMENT or element.max > 2.0**_FAR_ELEMENT:
        return None
    maxima = _maxima(x, carrier, plan, threads)
    powers = np.ascontiguousarray(_power_scales(maxima, carrier, plan, format))
    patterns = powers.astype(np.uint32) << np.uint32(23) if isinstance(format, Scaled) else powers
    least, most = (np.uint32(127 + sign * _FAR_POWER << 23) for sign in (-1, 1))
    near = (patterns < least) | (patterns > most)
    if near.any():
        if not _are_zeros(near, maxima, x, carrier, plan, threads):
            return None
        patterns[near] = least  # over any scale zeros stay zeros
    return patterns.reshape(1, -1)


def _are_zeros(groups: Array, maxima: Array, x: int, carrier: str, plan: Layout, threads: int) -> bool:
    """Whether some groups hold nothing but zeros and NaN."""
    if (maxima[groups] > 0).any():
        return False
    return not _maxima(x, carrier, plan, threads, INFINITE)[groups].any()


def _room(plan: Layout, dtype: Any, threads: int) -> Array:
    """Zeros for the maxima of all groups, a row for each thread that may meet others in a group."""
    rows = threads if plan.shared and plan.size >= SERIAL_BELOW else 1
    return np.zeros((rows, plan.groups), dtype)


def _run(
    kernel: Kernel, x: int, out: int, plan: Layout, states: Array, noise: Integers, threads: int, phase: int
) -> Array:
    """Run a loop over all units, in two turns where units share groups; what is known of each group."""
    threads = threads if plan.size >= SERIAL_BELOW else 1
    place, row = ctypes.addressof(ctypes.c_char.from_buffer(states.data)), states.strides[0]
    walk = x, out, kernel.numbers, plan.run, plan.outer, plan.dimensions
    if threads == 1:
        for turn in (blocks.MAXIMA, blocks.QUANTIZE) if plan.shared and phase == _BOTH else (phase,):
            kernel.loop(*walk, own_scratch(), place, turn, 0, plan.units, *noise)
        return states[0]
    parts = ranges(plan.units, PARTS * threads)
    with scratches(len(parts)) as rooms:
        if plan.shared and phase & blocks.MAXIMA:  # threads that share groups collect maxima apart
            apart = zip(rooms, ranges(plan.units, len(states)), strict=False)
            share(
                kernel.loop,
                [
                    (*walk, room, place + row * n, blocks.MAXIMA, *part, *noise)
                    for n, (room, part) in enumerate(apart)
                ],
                threads,
            )
            np.maximum.reduce(states, axis=0, out=states[0])
            phase &= ~blocks.MAXIMA
        if phase:
            calls = [
                (*walk, room, place, phase, *part, *noise) for room, part in zip(rooms, parts, strict=True)
            ]
            share(kernel.loop, calls, threads)
    return states[0]


def _maxima(x: int, carrier: str, plan: Layout, threads: int, side: int = BOTH) -> Array:
    """The largest finite magnitude of each group, as a pattern."""
    loop = blocks.extremes(carrier, plan.columns, side)
    kernel = Kernel(loop, _UNUSED.ctypes.data, _UNUSED, False)
    room = _room(plan, WIDTHS[carrier].unsigned, threads)
    return _run(kernel, x, 0, plan, room, (0, 0, -1), threads, blocks.MAXIMA)


def make_scales(
    x: int, carrier: str, plan: Layout, format: Scaled, threads: int, given: Codes | None = None, *,
    apart: bool = True,
) -> Scales:  # fmt: skip
    """The scales of all groups: those given, the others from x. ``apart``: the levels are wanted, too."""
    if not format.levels:
        return _powers(x, carrier, plan, format, threads, given)
    first, *rest = given or (None,)
    if format.zero_point:
        return _affine(x, carrier, plan, format, threads, first, rest[0] if rest else None)
    outer = None
    if first is not None:
        inner = _decoded(first, format.levels[0])
        outer = _decoded(rest[0], format.levels[1]) if rest and rest[0] is not None else None
    else:
        maxima = _maxima(x, carrier, plan, threads)
        divisor = np.float64(format.element.max)
        if isinstance(format.scale, Scaled):
            if rest and rest[0] is not None:
                outer = _decoded(rest[0], format.levels[1])
            else:
                largest = _largest(maxima, format.scale, plan.grid)
                most = np.atleast_1d(divisor * format.levels[0].max)
                outer = _quotients(carrier, largest, most, format.levels[1], threads)
            divisors = divisor * _spread(outer, format.scale, plan.grid)
        else:
            divisors = np.atleast_1d(divisor)
        if format.scale_rule is ScaleRule.AMAX:
            inner = _quotients(carrier, maxima, divisors, format.levels[0], threads)
        else:
            inner = _power_scales(maxima, carrier, plan, format).view(np.float64)
    levels: tuple[Array, ...]
    states, levels, floor = inner, (inner,), format.levels[0].smallest_subnormal
    if outer is not None:
        target = None if apart else inner  # new memory costs more than the product
        states = np.multiply(inner, _spread(outer, format.scale, plan.grid), out=target)
        levels, floor = (inner, outer), floor * float(outer.min())
    smallest = _least_magnitude(format)
    least = 2.0**-_FAR_QUOTIENT / smallest if smallest else np.inf
    far = floor >= least or bool(states.min() >= least)
    if not far and first is None and _tolerates("nearest_even", carrier):
        far = _are_zeros(states < least, maxima, x, carrier, plan, threads)
    return Scales(states.view(np.uint64).reshape(1, -1), levels, far)


@lru_cache(maxsize=256)
def _least_magnitude(format: Scaled) -> float:
    """The least magnitude of an element; 0 where there is no zero, which no number may be taken for."""
    element = format.element
    if not isinstance(element, Codebook):
        return element.smallest_subnormal
    if 0.0 not in element.table.finite:
        return 0.0
    return min(abs(value) for value in element.table.finite if value)


def _powers(x: int, carrier: str, plan: Layout, format: Scaled, threads: int, given: Codes | None) -> Scales:
    """The scales of a format over e8m0: codes."""
    if given is not None and given[0] is not None:
        codes = given[0].ravel()
    else:
        codes = _power_scales(_maxima(x, carrier, plan, threads), carrier, plan, format)
    return Scales(codes.astype(WIDTHS[carrier].unsigned).reshape(1, -1), (codes,))


def _power_scales(maxima: Array, carrier: str, plan: Layout, format: GroupedFormat) -> Array:
    """Powers of two from maxima: in the carrier, as codes of e8m0, or in binary64."""
    numbers, family = describe_block(format, Rounding.NEAREST_EVEN, 32, carrier)
    wide = isinstance(format, Scaled) and bool(format.levels)
    family = family._replace(arithmetic=blocks.QUOTIENTS if wide else blocks.INTEGERS)
    dtype = np.uint64 if wide else np.uint8 if family.scaled else WIDTHS[carrier].memory
    out = np.empty(plan.groups, dtype)
    loop = scales.powers(carrier, family)
    loop(maxima.ctypes.data, out.ctypes.data, numbers.ctypes.data, plan.groups)
    return out


def _affine(
    x: int, carrier: str, plan: Layout, format: Scaled, threads: int, scale: Array | None, zero: Array | None
) -> Scales:
    """The scales of a format with zero points."""
    if scale is not None and zero is not None:
        known = _decoded(scale, format.levels[0])
        states = known.view(np.uint64) | zero.ravel().astype(np.uint64)
    else:
        positive = np.ascontiguousarray(_maxima(x, carrier, plan, threads, POSITIVE))
        negative = np.ascontiguousarray(_maxima(x, carrier, plan, threads, NEGATIVE))
        numbers, _, _ = describe_scale(format.levels[0])
        integers, _ = describe_quotients(format, Rounding.NEAREST_EVEN, 32)
        states = np.empty(plan.groups, np.uint64)
        scales.affine(carrier)(
            positive.ctypes.data, negative.ctypes.data, states.ctypes.data, numbers.ctypes.data,
            integers.ctypes.data, plan.groups,
        )  # fmt: skip
    zeros = states & np.uint64(_ZERO_POINT)
    return Scales(states.reshape(1, -1), ((states - zeros).view(np.float64), zeros.astype(np.int32)))


def _quotients(
    carrier: str, maxima: Array, divisors: Array, format: FloatingPoint, threads: int
) -> npt.NDArray[np.float64]:
    """Maxima over one divisor or one for each, rounded to scales."""
    count, (numbers, depth, ending) = maxima.size, describe_scale(format)
    maxima, divisors = np.ascontiguousarray(maxima), np.ascontiguousarray(divisors, np.float64)
    out = np.empty(count, np.float64)
    walk = (
        maxima.ctypes.data, divisors.ctypes.data, int(divisors.size > 1), out.ctypes.data,
        numbers.ctypes.data,
    )  # fmt: skip
    threads = threads if count >= SERIAL_BELOW else 1
    calls = [(*walk, *part) for part in ranges(count, PARTS * threads)]
    share(scales.quotients(carrier, depth, ending), calls, threads)
    return out


def _largest(maxima: Array, scale: Any, grid: Integers) -> Array:
    """The largest magnitude of each of the scales' own groups."""
    if scale.granularity.tiles(grid) == grid:
        return maxima.max(keepdims=True)
    groups, count = _groups_of(scale, grid)
    largest = np.zeros(count, maxima.dtype)
    np.maximum.at(largest, groups, maxima)
    return largest


def _groups_of(scale: Any, grid: Integers) -> tuple[Array, int]:
    """Which group of its own each scale belongs to, and how many there are."""
    tiles = scale.granularity.tiles(grid)
    counts = tuple(-(-size // tile) for size, tile in zip(grid, tiles, strict=True))
    numbers = np.zeros(grid, np.intp)
    for axis, (size, tile, step) in enumerate(zip(grid, tiles, row_major(counts), strict=True)):
        along = (np.arange(size) // tile * step).reshape([-1 if d == axis else 1 for d in range(len(grid))])
        numbers += along
    return numbers.ravel(), prod(counts)


def _spread(outer: Array, scale: Any, grid: Integers) -> Array:
    """The scales' own scales, one for each scale or one for all."""
    return outer if outer.size == 1 else outer[_groups_of(scale, grid)[0]]


def _decoded(codes: Array, format: FloatingPoint) -> npt.NDArray[np.float64]:
    """The values of scale codes."""
    codes = np.ascontiguousarray(codes.ravel())
    out = np.empty(codes.size, np.float64)
    elementwise.encode(
        codes.ctypes.data, out.ctypes.data, "float64", str(codes.dtype), codes.size, format, decode=True
    )
    return out


def coded(levels: tuple[Array, ...], format: Scaled) -> tuple[Array, ...]:
    """The scales of each level as codes, zero points as they are."""
    codes = []
    for values, level in zip(levels, format.levels, strict=False):
        width = next(width for width in (8, 16, 32) if level.bits <= width)
        out = np.empty(values.size, f"uint{width}")
        elementwise.encode(values.ctypes.data, out.ctypes.data, "float64", str(out.dtype), values.size, level)
        codes.append(out)
    return (*codes, *levels[len(codes) :])


def encode(
    x: int, codes: int, carrier: str, code: str, shape: Integers, format: GroupedFormat, rounding: str,
    *, random_bits: int = 32, seed: int = 0, stream: int = 0, threads: int = 1, given: Codes | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    """Write the codes of contiguous elements; the scales of each level as codes, or as powers of two."""
    plan = plan_of(shape, format)
    noise = seed, stream, -1
    states, levels = quantize(
        x, codes, carrier, plan, format, rounding, random_bits, cpu.CODES, noise, threads, given, code
    )
    if isinstance(format, Scaled) and levels:
        return coded(levels, format)
    return (_power_scales(np.ascontiguousarray(states), carrier, plan, format),)


def decode(
    codes: int, out: int, known: Codes, carrier: str, code: str, shape: Integers, format: GroupedFormat
) -> None:
    """Write the values of contiguous codes; ``known`` are codes of scales, or patterns of the carrier."""
    plan = plan_of(shape, format)
    kernel = _kernel(format, "nearest_even", 32, carrier, cpu.DECODED, code, plan.columns, False, False)
    if isinstance(format, Scaled):
        states = make_scales(0, carrier, plan, format, 1, known).states
    else:
        states = np.ascontiguousarray(known[0], WIDTHS[carrier].unsigned).reshape(1, -1)
    kernel.loop(
        codes, out, kernel.numbers, plan.run, plan.outer, plan.dimensions, own_scratch(),
        states.ctypes.data, blocks.QUANTIZE, 0, plan.units, 0, 0, -1,
    )  # fmt: skip


def plan_of(shape: Integers, format: GroupedFormat) -> Layout:
    """The walk over a contiguous tensor."""
    strides = row_major(shape)
    return layout(shape, strides, strides, strides, 0, format.granularity.tiles(shape))
