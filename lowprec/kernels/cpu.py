"""Loops over memory on the CPU; every decision is scalar.py's, every random word philox.py's.

A tensor is a sequence of runs along its innermost dimension, each cut into segments; a unit is one
segment of one run. A call does the units [first, last), so threads share a tensor by sharing units,
and no result depends on how. Loops are built once for what they hold constant, and serve every format
of a family: its numbers arrive in memory.

Numba's disk cache knows a loop by its name and code, not by the functions that it calls; and its linker
takes two loops of one name, compiled by two processes, for one. So the name of each holds its identity:
what it was specialized for, and a hash of the files whose functions it may inline.
"""

import contextlib
import gc
import hashlib
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels import walk
from lowprec.kernels.codes import floating_bits, floating_code, integer_bits, integer_code
from lowprec.kernels.memory import at, get, matrix_at, put
from lowprec.kernels.philox import TILE, word_at
from lowprec.kernels.scalar import (
    COUNT,
    DEEP,
    NEAREST_EVEN,
    PLAIN,
    STOCHASTIC,
    U32,
    overflow_fired,
    quantize_bits,
    smaller,
)
from lowprec.kernels.specialize import WIDTHS, is_listed, rebound, specialized
from lowprec.kernels.tiles import fill_tile
from lowprec.kernels.walk import (
    INDEX_OFFSET,
    INDEX_STEP,
    LENGTH,
    OUT_STEP,
    SEGMENT,
    SEGMENTS,
    X_STEP,
)

# What lies in a call's scratch memory, by offsets in bytes: words, a tile of x, a tile of out.
X_TILE, OUT_TILE, SCRATCH = TILE * 4, TILE * 12, TILE * 20

# What a loop writes.
VALUES = 0
FLAGS = 1  # where overflow fired
CODES = 2
DECODED = 3  # values, from codes


@lru_cache(maxsize=1)
def source_hash() -> str:
    """A hash of the files beside this one, among them all whose functions the loops inline."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def jit(arguments: int, loop: Callable[..., None], decisions: dict[str, Any], *identity: object) -> Any:
    """Compile a loop of so many integers around its decisions, with the GIL released.

    It is cached on disk, by its identity, if any cache folder can be written.
    """
    digest = hashlib.sha256(repr((source_hash(), *identity)).encode()).hexdigest()
    signature = f"void({', '.join(['int64'] * arguments)})"
    function = rebound(loop, {**loop.__globals__, **decisions})
    function.__qualname__ = f"{loop.__qualname__.split('.')[0]}_{digest[:16]}"
    options = {"nogil": True, "error_model": "numpy"}
    with _no_garbage_collection():
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError:  # Numba found no folder to write to
            return njit(signature, **options)(function)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A compiler makes millions of objects and keeps them: looking for garbage takes a sixth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def is_drawn(mode: int) -> bool:
    """Whether a mode looks at random words."""
    return mode >= STOCHASTIC


locate = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(walk.locate)


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def draw(ceilings, filled, index, step, count, seed, stream, word):
    """Have the words of up to ``count`` elements from ``index`` on ready in ``ceilings``.

    Returns where they start, how many there are, and which tile is now in the buffer. A ``word`` that
    is not negative is every element's.
    """
    if word >= 0:
        if filled == -1:
            for j in range(TILE):
                ceilings[j] = U32(~U32(word))
        return 0, count if count < TILE else TILE, 0
    if step == 1:
        tile = index // TILE
        if tile != filled:
            fill_tile(ceilings, seed, stream, tile)
        offset = index - tile * TILE
        left = TILE - offset
        return offset, count if count < left else left, tile
    count = count if count < TILE else TILE
    for j in range(count):
        ceilings[j] = U32(~word_at(np.uint64(seed), np.uint64(stream), np.uint64(index + j * step)))
    return 0, count, -1


@cache
def elementwise(carrier: str, mode: int, depth: int, ending: int, kind: int, full: bool) -> Any:
    """The loop for formats whose values do not depend on other elements."""
    drawn = is_drawn(mode)
    wide = drawn and is_listed(depth)  # patterns of the carrier, decided about in binary64
    dtype, U = WIDTHS[carrier].memory, np.uint64 if wide else WIDTHS[carrier].unsigned
    result = np.uint8 if kind == FLAGS else dtype

    def loop(x_address, out_address, numbers_address, run_address, outer_address, dimensions, scratch,
             first, last, seed, stream, word):  # fmt: skip
        x, out = at(x_address, dtype), at(out_address, result)
        run, outer = at(run_address, np.int64), matrix_at(outer_address, 6, dimensions)
        numbers = to_fixed_tuple(at(numbers_address, U), COUNT)
        x_step, out_step = run[X_STEP], run[OUT_STEP]
        # Two arrays that do not overlap vectorize, and so does one after a copy.
        dense = x_step == 1 and out_step == 1
        in_place = x_address == out_address
        ceilings = at(scratch, U32)
        x_tile, out_tile = at(scratch + X_TILE, dtype), at(scratch + OUT_TILE, result)
        filled = np.int64(-1)  # a literal would be a type of its own, to compile `draw` for
        for number in range(first, last):
            x_at, out_at, index_at, _ = locate(outer, number // run[SEGMENTS])
            start = number % run[SEGMENTS] * run[SEGMENT]
            stop = smaller(start + run[SEGMENT], run[LENGTH])
            while start < stop:
                count = stop - start
                offset = 0
                if drawn:
                    index = run[INDEX_OFFSET] + index_at + start * run[INDEX_STEP]
                    offset, count, filled = draw(
                        ceilings, filled, index, run[INDEX_STEP], count, seed, stream, word
                    )
                here, there = x_at + start * x_step, out_at + start * out_step
                if dense:
                    count = smaller(count, TILE) if in_place else count
                    source, target = x[here : here + count], out[there : there + count]
                    if in_place:
                        for j in range(source.size):
                            put(x_tile, j, get(source, j))
                        source = x_tile[:count]
                else:
                    count = smaller(count, TILE)
                    source, target = x_tile[:count], out_tile[:count]
                    for j in range(count):
                        source[j] = x[here + j * x_step]
                words = ceilings[offset : offset + count]
                for j in range(source.size):
                    ceiling = get(words, j) if drawn else U32(0)
                    if kind == FLAGS:
                        target[j] = overflow_fired(U(source[j]), ceiling, numbers)
                    else:
                        put(target, j, quantize_bits(U(get(source, j)), ceiling, numbers))
                if not dense:
                    for j in range(count):
                        out[there + j * out_step] = target[j]
                start += count

    identity = carrier, mode, depth, ending, kind, full
    computed, source = ("float64", carrier) if wide else (carrier, None)
    decisions = specialized(computed, mode, depth, ending, full=full, source=source)
    return jit(12, loop, decisions, *identity)


@cache
def encoding(carrier: str, kind: int, floating: bool, code: str, depth: int = DEEP) -> Any:
    """The loop from a format's values to their codes, or back; both contiguous."""
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    coded = np.dtype(code).type
    given, result = (dtype, coded) if kind == CODES else (coded, dtype)

    def loop(x_address, out_address, numbers_address, first, last):
        numbers = to_fixed_tuple(at(numbers_address, U), COUNT)
        x, out = at(x_address, given)[first:last], at(out_address, result)[first:last]
        for j in range(x.size):
            if kind == CODES:
                out[j] = floating_code(U(x[j]), numbers) if floating else integer_code(U(x[j]), numbers)
            else:
                out[j] = floating_bits(U(x[j]), numbers) if floating else integer_bits(U(x[j]), numbers)

    decisions = specialized(carrier, NEAREST_EVEN, depth, PLAIN)
    return jit(5, loop, decisions, carrier, kind, floating, code, depth)
