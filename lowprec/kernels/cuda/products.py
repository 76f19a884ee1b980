"""The twin of products.py: matrix products in which every sum is rounded, one element of the result a thread.

A block of threads has a tile of the result, whose sides are the block's. Both operands are read through
shared memory, so many k at a time, and each thread adds its products in the order k = 0, 1, … So no result
depends on tiles. Nothing looks at the operands: the type that computes sums follows from what their dtype,
or a format that the caller knows them to have, allows at worst.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.kernels.cpu import is_drawn
from lowprec.kernels.cuda.memory import INSTRUCTIONS, load, store
from lowprec.kernels.cuda.twin import Twin, device, tuple_of
from lowprec.kernels.cuda.words import word_at
from lowprec.kernels.cuda.wrapping import folded
from lowprec.kernels.fused import times
from lowprec.kernels.noise import ceiling_at
from lowprec.kernels.products import (
    BIAS,
    CHUNKS,
    GAIN,
    LOST,
    MULTIPLY,
    TENSOR,
    TERM,
    Family,
    Kind,
    compensated,
    conversions,
    decisions_of,
    specialized_for,
)
from lowprec.kernels.scalar import COUNT, U32, U64, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS, rebound
from lowprec.kernels.sums import (
    added,
    bits_of_fused,
    bits_of_product,
    from_source,
    number,
    pattern,
    to_source,
)

ROWS, COLUMNS = 8, 32
"""The largest tile of the result, and the block of threads that has it."""
DEEP = 32
"""Products of an element whose factors lie in shared memory."""
LEVELS = 64
"""Partial sums of pairwise order, each of at least twice as many products as the next."""

# What a kernel finds in its tuples of integers.
BATCHES, M, N, K, CHUNK, SIZES = range(6)
ADDRESS, BATCH_STEP, ROW_STEP, COLUMN_STEP, STEPS = range(5)  # of an operand
BIAS_STEP, BIAS_COUNT, BIAS_APART, BIAS_SIZES = range(1, 5)
OF_LEFT, OF_RIGHT, TENSOR_OF_LEFT, TENSOR_OF_RIGHT, SCALES = range(5)

# What each kernel has a copy of.
round_alone = round_product = round_chunk = quantize_bits
bits_of_blocks, bits_of_scaled = bits_of_fused, bits_of_product
added_chunks = added_last = added
number_of_left = number_of_right = number_of_bias = number

HOW: dict[str, Any] = {"compiler": device, "instructions": INSTRUCTIONS}
_SHIFTS = {"float32": 0, "bfloat16": 16}
"""Carriers whose patterns, moved up, are those of binary32."""


@cache
def multiplying(
    kind: Kind, last: Family, left: str, right: str, bias: str | None = None, *,
    folds_terms: bool = False, folds_bias: bool = False,
) -> Twin:  # fmt: skip
    """The kernel of one kind, for operands and a bias, if there is one, in these carriers."""
    value: Any = np.float64 if kind.carrier == "float64" else np.float32
    U, stored = WIDTHS[kind.carrier].unsigned, WIDTHS[kind.out].memory
    held = types.float64 if kind.carrier == "float64" else types.float32
    of_left, of_right = WIDTHS[left].memory, WIDTHS[right].memory
    of_bias = WIDTHS[bias or left].memory
    rounds_products, chunked, biased = kind.product is not None, kind.chunk is not None, bias is not None
    pairwise, kahan, scaled = kind.pairwise, kind.kahan, kind.scaled
    draws_sums = is_drawn(kind.step.mode)
    draws_products = kind.product is not None and is_drawn(kind.product.mode)
    drawn = draws_sums or draws_products

    def kernel(a, b, out, bias, scales, sizes, folds, numbers, of_products, of_last, seed_address, stream):
        lefts = cuda.shared.array((ROWS, DEEP), held)
        rights = cuda.shared.array((DEEP, COLUMNS), held)
        m, n, depth = sizes[M], sizes[N], sizes[K]
        seed = load(seed_address, 0, np.int64) if drawn else np.int64(0)
        stream = np.int64(stream)
        row, column = cuda.threadIdx.y, cuda.threadIdx.x
        high, wide = cuda.blockDim.y, cuda.blockDim.x
        chunks = (depth + sizes[CHUNK] - 1) // sizes[CHUNK]
        tiles_down, tiles_across = (m + high - 1) // high, (n + wide - 1) // wide
        if pairwise:
            parts = cuda.local.array(LEVELS, held)
        for tile in range(cuda.blockIdx.x, sizes[BATCHES] * tiles_down * tiles_across, cuda.gridDim.x):
            batch = tile // tiles_across // tiles_down
            i = tile // tiles_across % tiles_down * high + row
            j = tile % tiles_across * wide + column
            inside = i < m and j < n
            out_at = (batch * m + i) * n + j
            left_at = batch * a[BATCH_STEP] + i * a[ROW_STEP]
            right_at = batch * b[BATCH_STEP] + j * b[COLUMN_STEP]
            total, carried, whole = value(0), value(0), np.float64(0)
            start, stop, top, chunk = 0, smaller(sizes[CHUNK], depth), 0, 0
            for first in range(0, depth, DEEP):
                count = smaller(depth - first, DEEP)
                cuda.syncthreads()
                if i < m:
                    for k in range(column, count, wide):
                        x = load(a[ADDRESS], left_at + (first + k) * a[COLUMN_STEP], of_left)
                        lefts[row, k] = number_of_left(x)
                if j < n:
                    for k in range(row, count, high):
                        x = load(b[ADDRESS], right_at + (first + k) * b[ROW_STEP], of_right)
                        rights[k, column] = number_of_right(x)
                cuda.syncthreads()
                for step in range(count if inside else 0):
                    k = first + step
                    index = out_at * depth + k
                    y, ceiling = times(lefts[row, step], rights[step, column]), U32(0)
                    if rounds_products:
                        if draws_products:
                            ceiling = ceiling_at(seed, stream + MULTIPLY, index)
                        y = number(round_product(pattern(y), ceiling, of_products))
                    if folds_terms:
                        y = value(folded(y, folds[0], folds[1], folds[2]))
                    if not pairwise:
                        ceiling = ceiling_at(seed, stream, index) if draws_sums else U32(0)
                    if pairwise:
                        # As many pairs are complete as the number of products has factors of two; after
                        # the last product what is left is added from the right.
                        ended, span, left = k + 1 - start, 1, k + 1 - start
                        total = y
                        while top > 0 and (left & 1 == 0 or k + 1 == stop):
                            top -= 1
                            left >>= 1
                            if draws_sums:
                                ceiling = ceiling_at(seed, stream, index + 1 - span)
                            total = number(added(parts[top], total, ceiling, numbers))
                            span += (ended - span) & (span - ended)
                        if stop == start + 1:
                            ceiling = ceiling_at(seed, stream, index) if draws_sums else U32(0)
                            total = number(round_alone(pattern(total), ceiling, numbers))
                        parts[top] = total
                        top += 1
                    elif kahan:
                        of_term = of_gain = of_lost = U32(0)
                        if draws_sums:
                            of_term = ceiling_at(seed, stream + TERM, index)
                            of_gain = ceiling_at(seed, stream + GAIN, index)
                            of_lost = ceiling_at(seed, stream + LOST, index)
                        ceilings = ceiling, of_term, of_gain, of_lost
                        total, carried = compensated(total, carried, y, ceilings, numbers)
                    else:
                        total = number(added(total, y, ceiling, numbers))
                    if chunked and k + 1 == stop:
                        ceiling = U32(0)
                        if draws_sums:
                            ceiling = ceiling_at(seed, stream + CHUNKS, out_at * depth + start)
                        if scaled:
                            x = load(scales[OF_LEFT], (batch * m + i) * chunks + chunk, np.float64)
                            x = times(x, load(scales[OF_RIGHT], (batch * chunks + chunk) * n + j, np.float64))
                            bits = round_chunk(bits_of_blocks(whole, np.float64(total), x), ceiling, of_last)
                        else:
                            bits = added_chunks(whole, np.float64(total), ceiling, of_last)
                        whole, chunk = np.uint64(bits).view(np.float64), chunk + 1
                        total, carried, top = value(0), value(0), 0
                        start, stop = stop, smaller(stop + sizes[CHUNK], depth)
            if inside:
                bits = (whole if chunked else np.float64(total)).view(np.uint64)
                if scaled:
                    ceiling = ceiling_at(seed, stream + TENSOR, out_at) if draws_sums else U32(0)
                    x = load(scales[TENSOR_OF_LEFT], 0, np.float64)
                    x = times(x, load(scales[TENSOR_OF_RIGHT], 0, np.float64))
                    bits = np.uint64(round_chunk(bits_of_scaled(whole, x), ceiling, of_last))
                if biased:
                    ceiling = ceiling_at(seed, stream + BIAS, out_at) if draws_sums else U32(0)
                    at = out_at // bias[BIAS_STEP] % bias[BIAS_COUNT] * bias[BIAS_APART]
                    x = number_of_bias(load(bias[ADDRESS], at, of_bias))
                    if folds_bias:
                        x = folded(x, folds[3], folds[4], folds[5])
                    y = U64(from_source(U64(to_source(bits)))).view(np.float64)
                    bits = np.uint64(added_last(y, x, ceiling, of_last))
                store(out, out_at, to_source(bits), stored)

    decisions = decisions_of(kind, **HOW) | {
        "ceiling_at": of_device["ceiling_at"],
        "times": INSTRUCTIONS["times"],
    }
    decisions["number_of_left"] = reading(left, value)
    decisions["number_of_right"] = reading(right, value)
    if bias is not None:
        decisions["number_of_bias"] = reading(bias, np.float64)
        decisions["added_last"] = specialized_for("float64", last, odd=True, **HOW)["added"]
    parameters = (
        tuple_of(np.int64, STEPS), tuple_of(np.int64, STEPS), types.int64, tuple_of(np.int64, BIAS_SIZES),
        tuple_of(np.int64, SCALES), tuple_of(np.int64, SIZES), tuple_of(np.int64, 6), tuple_of(U, COUNT),
        tuple_of(U, COUNT), tuple_of(np.uint64, COUNT), types.int64, types.int64,
    )  # fmt: skip
    identity = "multiplying", kind, last, left, right, bias, folds_terms, folds_bias
    return Twin(parameters, kernel, decisions, *identity)


@cache
def reading(carrier: str, value: Any) -> Any:
    """Makes of a carrier's pattern a number of binary32 or binary64, which holds it."""
    shift = _SHIFTS.get(carrier, -1)
    if shift >= 0:

        def read(bits):
            """By the hardware, which flushes nothing unless it is told to."""
            return value(U32(U32(bits) << U32(shift)).view(np.float32))
    else:

        def read(bits):
            """By integers."""
            return value(U64(from_source(U64(bits))).view(np.float64))

    return device(rebound(read, {**globals(), **conversions(carrier, **HOW)}))


of_device = {"ceiling_at": device(rebound(ceiling_at.py_func, {**globals(), "word_at": word_at}))}
"""Copies of the CPU's functions."""
