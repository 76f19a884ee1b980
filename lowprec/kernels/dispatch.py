"""From a format and raw memory to a kernel call.

The border between Python objects and loops: a format becomes a short array of numbers, a tensor
becomes addresses and a layout, work is shared among threads. Nothing here validates user input; that
is done where the user called.
"""

import ctypes
import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.core import event

from lowprec.formats import FloatingPoint, Format, GroupedFormat, resolve
from lowprec.kernels import blocks, cpu
from lowprec.kernels.layout import Integers, Layout, layout, row_major
from lowprec.kernels.numbers import MODES, describe, describe_block
from lowprec.kernels.scratch import own_scratch, scratches
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.threads import PARTS, layer, ranges, share
from lowprec.modes import Rounding

_DRAWN = frozenset(str(rounding) for rounding in Rounding if rounding.is_stochastic)

SERIAL_BELOW = 1 << 16
"""Elements below which one thread is faster than waking another."""


class Kernel(NamedTuple):
    """A loop, and where it finds what it has to know of a format."""

    loop: Any
    numbers: int
    memory: npt.NDArray[Any]
    """What lies at the address ``numbers``."""
    drawn: bool


@lru_cache(maxsize=1024)
def _elementwise(format: Format | str, rounding: str, random_bits: int, carrier: str, kind: int) -> Kernel:
    """The kernel for a format whose values do not depend on other elements."""
    mode = MODES[Rounding(rounding)]
    numbers, depth, ending = describe(resolve(format), Rounding(rounding), random_bits, carrier)
    loop = cpu.elementwise(carrier, mode, depth, ending, kind, random_bits == 32)
    return Kernel(loop, numbers.ctypes.data, numbers, cpu.is_drawn(mode))


@lru_cache(maxsize=1024)
def _block(
    format: Format | str, rounding: str, random_bits: int, carrier: str, kind: int, code: str, columns: bool
) -> Kernel:
    """The kernel for block floating point."""
    parsed = resolve(format)
    if not isinstance(parsed, GroupedFormat):
        raise TypeError(type(parsed))
    mode = MODES[Rounding(rounding)]
    numbers, family = describe_block(parsed, Rounding(rounding), random_bits, carrier)
    return Kernel(
        blocks.block(carrier, mode, kind, code, random_bits == 32, columns, family),
        numbers.ctypes.data,
        numbers,
        cpu.is_drawn(mode),
    )


@lru_cache(maxsize=1024)
def _tiles(format: Format | str, shape: Integers) -> Integers | None:
    """The size of a group along each dimension; None for formats without groups."""
    parsed = resolve(format)
    return parsed.granularity.tiles(shape) if isinstance(parsed, GroupedFormat) else None


def quantize(
    x: int,
    out: int,
    carrier: str,
    shape: Integers,
    x_strides: Integers,
    out_strides: Integers,
    format: Format | str,
    rounding: str,
    *,
    random_bits: int = 32,
    seed: int = 0,
    stream: int = 0,
    index_offset: int = 0,
    index_strides: Integers | None = None,
    word: int = -1,
    threads: int = 1,
    kind: int = cpu.VALUES,
) -> None:
    """Quantize from one piece of memory to another.

    ``x`` and ``out`` are the addresses of first elements, strides count elements. ``kind`` FLAGS
    writes bytes, 1 where overflow fired. Element (i, j, …) takes the random word of index
    ``index_offset + i * index_strides[0] + …``, row-major strides if None, so a shard given its offset
    and its whole's strides rounds as part of the whole. ``seed`` and ``stream`` are signed 64-bit
    integers, whose bits count; a ``word`` that is not negative is every element's instead.
    """
    _announce_compilation()
    tiles = _tiles(format, shape)
    if tiles is not None:
        strides = (index_strides or row_major(shape)) if rounding in _DRAWN else None
        plan = layout(shape, x_strides, out_strides, strides, index_offset, tiles)
        if plan.units:
            kernel = _block(format, rounding, random_bits, carrier, kind, "uint32", plan.columns)
            _in_groups(kernel, x, out, carrier, plan, seed, stream, word, threads)
        return
    kernel = _elementwise(format, rounding, random_bits, carrier, kind)
    strides = (index_strides or row_major(shape)) if kernel.drawn else None
    plan = layout(shape, x_strides, out_strides, strides, index_offset, None)
    loop, numbers = kernel.loop, kernel.numbers
    if plan.size < SERIAL_BELOW or threads == 1:
        loop(
            x, out, numbers, plan.run, plan.outer, plan.dimensions, own_scratch(),
            0, plan.units, seed, stream, word,
        )  # fmt: skip
        return
    walk, noise = (x, out, numbers, plan.run, plan.outer, plan.dimensions), (seed, stream, word)
    parts = ranges(plan.units, PARTS * threads)
    with scratches(len(parts)) as rooms:
        share(loop, [(*walk, room, *part, *noise) for room, part in zip(rooms, parts, strict=True)], threads)


def _in_groups(
    kernel: Kernel, x: int, out: int, carrier: str, plan: Layout, seed: int, stream: int, word: int,
    threads: int,
) -> npt.NDArray[Any]:  # fmt: skip
    """Run a block kernel; the largest finite magnitude of each group."""
    threads = threads if plan.size >= SERIAL_BELOW else 1
    rows = threads if plan.shared else 1
    maxima = np.zeros((rows, plan.groups), WIDTHS[carrier].unsigned)
    place, row = ctypes.addressof(ctypes.c_char.from_buffer(maxima.data)), maxima.strides[0]
    loop = kernel.loop
    walk = x, out, kernel.numbers, plan.run, plan.outer, plan.dimensions
    noise = seed, stream, word
    both = blocks.MAXIMA | blocks.QUANTIZE
    if threads == 1:
        for phase in (blocks.MAXIMA, blocks.QUANTIZE) if plan.shared else (both,):
            loop(*walk, own_scratch(), place, phase, 0, plan.units, *noise)
        return maxima[0]
    parts = ranges(plan.units, PARTS * threads)
    with scratches(len(parts)) as rooms:
        if plan.shared:  # threads that share groups collect maxima apart
            apart = zip(range(rows), rooms, ranges(plan.units, rows), strict=False)
            calls = [(*walk, room, place + row * n, blocks.MAXIMA, *part, *noise) for n, room, part in apart]
            share(loop, calls, threads)
            np.maximum.reduce(maxima, axis=0, out=maxima[0])
        phase = blocks.QUANTIZE if plan.shared else both
        calls = [(*walk, room, place, phase, *part, *noise) for room, part in zip(rooms, parts, strict=True)]
        share(loop, calls, threads)
    return maxima[0]


def encode_block(
    x: int, codes: int, scales: int, carrier: str, code: str, shape: Integers, format: Format | str,
    rounding: str, *, random_bits: int = 32, seed: int = 0, stream: int = 0, threads: int = 1,
) -> None:  # fmt: skip
    """Write the codes of contiguous elements, and the scale of each group."""
    _announce_compilation()
    strides = row_major(shape)
    plan = layout(shape, strides, strides, strides, 0, _tiles(format, shape))
    if not plan.units:
        return
    kernel = _block(format, rounding, random_bits, carrier, cpu.CODES, code, plan.columns)
    maxima = _in_groups(kernel, x, codes, carrier, plan, seed, stream, -1, threads)
    _, family = describe_block(resolve(format), Rounding(rounding), random_bits, carrier)
    blocks.scales(carrier, family)(maxima.ctypes.data, scales, kernel.numbers, plan.groups)


def decode_block(
    codes: int,
    out: int,
    scales: npt.NDArray[Any],
    carrier: str,
    code: str,
    shape: Integers,
    format: Format | str,
) -> None:
    """Write the values of contiguous codes; ``scales`` are patterns of the carrier."""
    _announce_compilation()
    plan = layout(shape, row_major(shape), row_major(shape), None, 0, _tiles(format, shape))
    if not plan.units:
        return
    kernel = _block(format, "nearest_even", 32, carrier, cpu.DECODED, code, plan.columns)
    exponents = np.ascontiguousarray(scales, WIDTHS[carrier].unsigned)
    kernel.loop(
        codes, out, kernel.numbers, plan.run, plan.outer, plan.dimensions, own_scratch(),
        exponents.ctypes.data, blocks.QUANTIZE, 0, plan.units, 0, 0, -1,
    )  # fmt: skip


def encode(
    x: int, out: int, carrier: str, code: str, size: int, format: Format | str, *, decode: bool = False
) -> None:
    """Write the codes of contiguous values of a format without groups; with ``decode`` the reverse."""
    _announce_compilation()
    parsed = resolve(format)
    kernel = _elementwise(parsed, "nearest_even", 32, carrier, cpu.VALUES)
    kind = cpu.DECODED if decode else cpu.CODES
    loop = cpu.encoding(carrier, kind, isinstance(parsed, FloatingPoint), code)
    loop(x, out, kernel.numbers, 0, size)


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says once a process that a kernel is being compiled, and where it will be kept."""

    def on_start(self, event: event.Event) -> None:
        """A compilation begins, which Numba tells of only where its disk cache had nothing."""
        dispatcher = event.data["dispatcher"]
        if dispatcher.py_func.__module__ in (cpu.__name__, blocks.__name__):
            global _announced
            if not _announced and dispatcher.py_func.__name__ == "loop":
                _announced = True
                place = dispatcher.stats.cache_path
                kept = f"cached in {place}" if place else "not cached: no folder can be written"
                sys.stderr.write(f"lowprec: compiling kernels once ({kept})\n")
                sys.stderr.flush()

    def on_end(self, event: event.Event) -> None:
        """Nothing to say."""


_announced = False


@lru_cache(maxsize=1)
def _announce_compilation() -> None:
    """Listen to Numba from the first kernel call on."""
    event.register("numba:compile", _Announcer())


def cache_folder() -> str | None:
    """Where compiled kernels are kept; None where no folder can be written."""
    place = _elementwise("e4m3fn", "nearest_even", 32, "float32", cpu.VALUES).loop.stats.cache_path
    return place or None


def info() -> dict[str, str]:
    """What a bug report should say about kernels: cache folder and threading."""
    return {
        "kernel cache": cache_folder() or "none (no folder can be written)",
        "kernel sources": cpu.source_hash()[:12],
        "threading layer": layer(),
    }
