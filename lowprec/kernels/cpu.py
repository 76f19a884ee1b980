"""Loops over memory on the CPU; every decision is scalar.py's, every random word philox.py's.

A tensor is a sequence of runs along its innermost dimension, each cut into segments; a unit is one
segment of one run. A call does the units [first, last), so threads share a tensor by sharing units,
and no result depends on how. Loops are built once for each rounding mode (and carrier), with the mode
as a constant, and serve every format of a family: its numbers arrive in ``params``.

Numba's disk cache does not notice an edit in an imported file, so each loop closes over a hash of
scalar.py and philox.py: what a loop closes over is part of its cache key.
"""

import hashlib
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from lowprec.kernels import philox, scalar
from lowprec.kernels.philox import TILE, fill_tile, word_at
from lowprec.kernels.scalar import (
    INFINITY,
    MAGNITUDE,
    STOCHASTIC,
    I,
    U,
    block_limit,
    block_step,
    inline,
    overflow_fired,
    power_bits,
    quantize_bits,
)

# Rows of `outer`, one column for each dimension outside the run.
SIZE, X_STRIDE, OUT_STRIDE, INDEX_STRIDE, GROUP_STRIDE, TILE_SIZE = range(6)
# Entries of `run`, which describes the innermost dimension.
(LENGTH, SEGMENT, SEGMENTS, X_STEP, OUT_STEP, INDEX_STEP, INDEX_OFFSET, GROUP_SIZE, GROUP_STEP) = range(9)

MAXIMA = 1
QUANTIZE = 2


@lru_cache(maxsize=1)
def source_hash() -> str:
    """A hash of the files whose functions the loops inline."""
    digest = hashlib.sha256()
    for module in (scalar, philox):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _jit(function: Callable[..., None]) -> Any:
    """Compile with the GIL released; cached on disk if any cache folder can be written."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder to write to
        return njit(**options)(function)


@njit(error_model="numpy")
def locate(outer, number):  # type: ignore[no-untyped-def]
    """Where a run starts: offsets into x and out, the index of its first element, its group."""
    x_at, out_at, index_at, group_at = 0, 0, 0, 0
    for d in range(outer.shape[1] - 1, -1, -1):
        i = number % outer[SIZE, d]
        number //= outer[SIZE, d]
        x_at += i * outer[X_STRIDE, d]
        out_at += i * outer[OUT_STRIDE, d]
        index_at += i * outer[INDEX_STRIDE, d]
        group_at += i // outer[TILE_SIZE, d] * outer[GROUP_STRIDE, d]
    return x_at, out_at, index_at, group_at


@njit(error_model="numpy")
def draw(ceilings, filled, index, step, count, seed, stream):  # type: ignore[no-untyped-def]
    """Have the words of up to ``count`` elements from ``index`` on ready in ``ceilings``.

    Returns where they start, how many there are, and which tile is now in the buffer.
    """
    if step == 1:
        tile = index // TILE
        if tile != filled:
            fill_tile(ceilings, seed, stream, np.uint64(tile))
        offset = index - tile * TILE
        return offset, min(count, TILE - offset), tile
    count = min(count, TILE)
    for j in range(count):
        ceilings[j] = U(~word_at(seed, stream, np.uint64(index + j * step)))
    return 0, count, -1


@inline
def widened(element, narrow):  # type: ignore[no-untyped-def]
    """The binary32 pattern of an element; ``narrow`` ones are its upper half."""
    return U(U(element) << U(16)) if narrow else U(element)


@inline
def finite_magnitude(element, narrow):  # type: ignore[no-untyped-def]
    """The magnitude of a finite element, 0 for others."""
    magnitude = U(widened(element, narrow) & MAGNITUDE)
    return magnitude if magnitude < INFINITY else U(0)


@inline
def block_element(source, ceiling, mode, narrow, flags, step, limit, unit, word_mask):  # type: ignore[no-untyped-def]
    """One element of a group: its value, or whether it overflowed, in the width of the carrier."""
    bits = widened(source, narrow)
    lowest = I(step + I(150))
    if flags:
        return overflow_fired(
            bits, ceiling, mode, False, I(23), lowest, unit, U(0), word_mask,
            limit, limit, limit, limit, limit, limit, U(0),
        )  # fmt: skip
    bits = quantize_bits(
        bits, ceiling, mode, False, I(23), lowest, unit, U(0), word_mask,
        limit, limit, limit, limit, limit, limit, U(0),
    )  # fmt: skip
    return U(bits >> U(16)) if narrow else bits


@cache
def elementwise(mode: int, deep: bool, narrow: bool, flags: bool) -> Any:
    """The loop for formats whose values do not depend on other elements.

    ``narrow``: 16-bit patterns, the upper half of binary32. ``flags``: write 1 where overflow fired
    instead of the value.
    """
    sources = source_hash()

    def loop(x, out, params, run, outer, first, last, seed, stream):  # type: ignore[no-untyped-def]
        _ = sources
        mantissa_bits, lowest = I(params[0]), I(params[1])
        unit, odd_mask, word_mask = params[2], params[3], params[4]
        max_pos, max_neg, over_pos, over_neg = params[5], params[6], params[7], params[8]
        inf_pos, inf_neg, zero_sign = params[9], params[10], params[11]
        ceilings = np.empty(TILE, U)
        x_tile, out_tile = np.empty(TILE, x.dtype), np.empty(TILE, out.dtype)
        filled = -1
        dense = run[X_STEP] == 1 and run[OUT_STEP] == 1
        for number in range(first, last):
            x_at, out_at, index_at, _ = locate(outer, number // run[SEGMENTS])
            start = number % run[SEGMENTS] * run[SEGMENT]
            stop = min(start + run[SEGMENT], run[LENGTH])
            while start < stop:
                count = stop - start
                offset = 0
                if mode == STOCHASTIC:
                    index = run[INDEX_OFFSET] + index_at + start * run[INDEX_STEP]
                    offset, count, filled = draw(
                        ceilings, filled, index, run[INDEX_STEP], count, seed, stream
                    )
                here, there = x_at + start * run[X_STEP], out_at + start * run[OUT_STEP]
                if dense:
                    source, target = x[here : here + count], out[there : there + count]
                else:
                    count = min(count, TILE)
                    source, target = x_tile[:count], out_tile[:count]
                    for j in range(count):
                        source[j] = x[here + j * run[X_STEP]]
                words = ceilings[offset : offset + count]
                for j in range(source.size):
                    bits = widened(source[j], narrow)
                    ceiling = words[j] if mode == STOCHASTIC else U(0)
                    if flags:
                        target[j] = overflow_fired(
                            bits, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask,
                            max_pos, max_neg, over_pos, over_neg, inf_pos, inf_neg, zero_sign,
                        )  # fmt: skip
                    else:
                        bits = quantize_bits(
                            bits, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask,
                            max_pos, max_neg, over_pos, over_neg, inf_pos, inf_neg, zero_sign,
                        )  # fmt: skip
                        target[j] = U(bits >> U(16)) if narrow else bits
                if not dense:
                    for j in range(count):
                        out[there + j * run[OUT_STEP]] = target[j]
                start += count

    return _jit(loop)


@cache
def block(mode: int, narrow: bool, flags: bool) -> Any:
    """The loop for block floating point.

    ``phase`` MAXIMA collects each group's largest finite magnitude, QUANTIZE rounds with the steps
    that follow from it; both together where no two units share a group.
    """
    sources = source_hash()

    def loop(x, out, params, run, outer, maxima, phase, first, last, seed, stream):  # type: ignore[no-untyped-def]
        _ = sources
        word_bits, floor_exponent, word_mask = I(params[0]), I(params[1]), params[2]
        ceilings = np.empty(TILE, U)
        x_tile, out_tile = np.empty(TILE, x.dtype), np.empty(TILE, out.dtype)
        filled = -1
        dense = run[X_STEP] == 1 and run[OUT_STEP] == 1
        group_size, group_step = run[GROUP_SIZE], run[GROUP_STEP]
        for number in range(first, last):
            x_at, out_at, index_at, group_at = locate(outer, number // run[SEGMENTS])
            first_element = number % run[SEGMENTS] * run[SEGMENT]
            stop = min(first_element + run[SEGMENT], run[LENGTH])
            for part in (MAXIMA, QUANTIZE):
                start = first_element if phase & part else stop
                while start < stop:
                    count = stop - start
                    if group_size > 1:  # up to the end of the group
                        count = min(count, group_size - start % group_size)
                    offset = 0
                    if mode == STOCHASTIC and part == QUANTIZE:
                        index = run[INDEX_OFFSET] + index_at + start * run[INDEX_STEP]
                        offset, count, filled = draw(
                            ceilings, filled, index, run[INDEX_STEP], count, seed, stream
                        )
                    here, there = x_at + start * run[X_STEP], out_at + start * run[OUT_STEP]
                    if dense:
                        source, target = x[here : here + count], out[there : there + count]
                    else:
                        count = min(count, TILE)
                        source, target = x_tile[:count], out_tile[:count]
                        for j in range(count):
                            source[j] = x[here + j * run[X_STEP]]
                    group = group_at + start // group_size * group_step
                    words = ceilings[offset : offset + count]
                    if part == MAXIMA and group_size > 1:
                        largest = U(0)
                        for j in range(source.size):
                            largest = max(largest, finite_magnitude(source[j], narrow))
                        maxima[group] = max(maxima[group], largest)
                    elif part == MAXIMA:
                        for j in range(source.size):
                            own = group + j * group_step
                            maxima[own] = max(maxima[own], finite_magnitude(source[j], narrow))
                    elif group_size > 1:
                        step = block_step(maxima[group], word_bits, floor_exponent)
                        limit, unit = block_limit(step, word_bits), power_bits(step)
                        for j in range(source.size):
                            ceiling = words[j] if mode == STOCHASTIC else U(0)
                            target[j] = block_element(
                                source[j],
                                ceiling,
                                mode,
                                narrow,
                                flags,
                                step,
                                limit,
                                unit,
                                word_mask,
                            )
                    else:
                        for j in range(source.size):
                            step = block_step(maxima[group + j * group_step], word_bits, floor_exponent)
                            limit, unit = block_limit(step, word_bits), power_bits(step)
                            ceiling = words[j] if mode == STOCHASTIC else U(0)
                            target[j] = block_element(
                                source[j],
                                ceiling,
                                mode,
                                narrow,
                                flags,
                                step,
                                limit,
                                unit,
                                word_mask,
                            )
                    if part == QUANTIZE and not dense:
                        for j in range(count):
                            out[there + j * run[OUT_STEP]] = target[j]
                    start += count

    return _jit(loop)
