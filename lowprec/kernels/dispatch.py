"""From a format and raw memory to a kernel call.

The border between Python objects and loops: a format becomes a short array of numbers, a tensor
becomes memory and a layout, work is shared among threads. Nothing here validates user input; that
is done where the user called.
"""

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import event

from lowprec.formats import BlockFloatingPoint, FixedPoint, FloatingPoint, Format
from lowprec.formats.carriers import CARRIERS
from lowprec.kernels import cpu, scalar
from lowprec.kernels.layout import Integers, layout, row_major
from lowprec.kernels.threads import share
from lowprec.modes import Overflow, Rounding

Memory = npt.NDArray[Any]

SERIAL_BELOW = 1 << 15
"""Elements below which one thread is faster than waking another."""

_MODES = {
    Rounding.NEAREST_EVEN: scalar.NEAREST_EVEN,
    Rounding.TOWARD_ZERO: scalar.TOWARD_ZERO,
    Rounding.STOCHASTIC: scalar.STOCHASTIC,
}
_NAN = 0x7FC00000
_INFINITY = 0x7F800000
_ALL_ONES = 0xFFFFFFFF


@dataclass(frozen=True)
class Noise:
    """Which random words: the seed, the stream, and how elements are numbered.

    Element (i, j, …) takes the word ``offset + i * strides[0] + j * strides[1] + …``; row-major
    strides if None, so a shard given its offset and its whole's strides rounds as part of the whole.
    """

    seed: int = 0
    stream: int = 0
    offset: int = 0
    strides: Integers | None = None


def quantize(
    x: Memory,
    out: Memory,
    shape: Integers,
    x_strides: Integers,
    out_strides: Integers,
    format: Format,
    rounding: Rounding,
    *,
    random_bits: int = 32,
    noise: Noise = Noise(),
    threads: int = 1,
    flags: bool = False,
) -> None:
    """Quantize from one piece of memory to another; with ``flags`` write where overflow fired.

    ``x`` holds uint32 patterns (binary32) or uint16 (bfloat16); ``out`` the same, or uint8 flags.
    Both are one-dimensional and start at the tensor's first element.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size == 0:
        return
    mode = _MODES[rounding]
    narrow = x.dtype == np.uint16
    stochastic = mode == scalar.STOCHASTIC
    index_strides = (noise.strides or row_major(shape)) if stochastic else None
    tiles = format.granularity.tiles(shape) if isinstance(format, BlockFloatingPoint) else shape
    plan = layout(shape, x_strides, out_strides, index_strides, noise.offset, tiles)
    threads = threads if size >= SERIAL_BELOW else 1
    seed, stream = np.uint64(noise.seed), np.uint64(noise.stream)
    _announce_compilation()

    if not isinstance(format, BlockFloatingPoint):
        params = _element_params(format, rounding, random_bits)
        loop = cpu.elementwise(mode, bool(np.int32(params[1]) < 1), narrow, flags)
        share(
            lambda first, last, _: loop(x, out, params, plan.run, plan.outer, first, last, seed, stream),
            plan.units,
            threads,
        )
        return

    params = _block_params(format, narrow, random_bits)
    loop = cpu.block(mode, narrow, flags)
    maxima = np.zeros((threads if plan.shared else 1, plan.groups), np.uint32)

    def work(phase: int, first: int, last: int, number: int) -> None:
        """One thread's share; threads that share groups collect maxima apart."""
        own = maxima[number if plan.shared and phase == cpu.MAXIMA else 0]
        loop(x, out, params, plan.run, plan.outer, own, phase, first, last, seed, stream)

    if not plan.shared:
        both = cpu.MAXIMA | cpu.QUANTIZE
        share(lambda first, last, number: work(both, first, last, number), plan.units, threads)
        return
    share(lambda first, last, number: work(cpu.MAXIMA, first, last, number), plan.units, threads)
    np.maximum.reduce(maxima, axis=0, out=maxima[0])
    share(lambda first, last, number: work(cpu.QUANTIZE, first, last, number), plan.units, threads)


@lru_cache(maxsize=1024)
def _element_params(format: Format, rounding: Rounding, random_bits: int) -> Memory:
    """The numbers of a floating-point or fixed-point format, in the order that the loop reads."""
    if isinstance(format, FloatingPoint):
        mantissa_bits, lowest = format.mantissa_bits, format.lowest_exponent + 127
        has_infinity, zero_sign = format.has_infinity, 0x80000000
        odd_mask = 1 if mantissa_bits == 0 else 0
    elif isinstance(format, FixedPoint):
        # Fixed point is a subnormal range that never ends: its step is a significand's last place.
        mantissa_bits, lowest = 23, 150 - format.fraction_bits
        has_infinity, zero_sign, odd_mask = False, 0, 0
    else:
        raise TypeError(type(format))
    ends = [_pattern(format.max), _pattern(-format.min)]
    missing = _INFINITY if has_infinity else _NAN
    over = [missing] * 2 if format.overflow is Overflow.INFINITY else ends
    infinite = over
    if format.overflow is Overflow.SATURATE and has_infinity:
        infinite = [_INFINITY] * 2
    if rounding is Rounding.TOWARD_ZERO:
        over = ends
    numbers = [
        mantissa_bits,
        lowest & _ALL_ONES,
        _pattern(format.smallest_subnormal),
        odd_mask,
        _word_mask(random_bits),
        *ends,
        *over,
        *infinite,
        zero_sign,
    ]
    return np.array(numbers, np.uint32)


@lru_cache(maxsize=1024)
def _block_params(format: BlockFloatingPoint, narrow: bool, random_bits: int) -> Memory:
    """The numbers of a block format, in the order that the loop reads."""
    floor_exponent = CARRIERS["bfloat16" if narrow else "float32"].lowest_exponent
    numbers = [format.word_bits, floor_exponent & _ALL_ONES, _word_mask(random_bits)]
    return np.array(numbers, np.uint32)


def _word_mask(random_bits: int) -> int:
    """The top ``random_bits`` of a word."""
    return _ALL_ONES - (_ALL_ONES >> random_bits)


def _pattern(value: float) -> int:
    """The binary32 pattern of a value that binary32 holds."""
    return int(np.float32(value).view(np.uint32))


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says once a process that a kernel is being compiled, and where it will be kept."""

    def on_start(self, event: event.Event) -> None:
        """A compilation begins, which Numba tells of only where its disk cache had nothing."""
        dispatcher = event.data["dispatcher"]
        if dispatcher.py_func.__module__ == cpu.__name__:
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


def info() -> dict[str, str]:
    """What a bug report should say about kernels: cache folder and threading."""
    place = cpu.elementwise(scalar.NEAREST_EVEN, False, False, False).stats.cache_path
    return {
        "kernel cache": place or "none (no folder can be written)",
        "kernel sources": cpu.source_hash()[:12],
        "threading layer": "Python threads, kernels release the GIL",
    }
