"""Loops over matrix products in which every sum is rounded; the decisions are scalar.py's and sums.py's.

A unit is a few rows of the result by a block of its columns, whose sums stay in the first cache while
the products k = 0, 1, … are added to all of them; so no result depends on blocks or threads. Operands are
binary32 or binary64, in which all products are exact: the left one row-major, of the right one the
columns of each block, row by row, lie after those of the block before. Random words are drawn for whole
columns of k.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import draw, is_drawn, jit
from lowprec.kernels.memory import at, get, put, read_apart
from lowprec.kernels.philox import word_at
from lowprec.kernels.scalar import ABOVE, COUNT, NEAREST_EVEN, PLAIN, U32, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS, specialized
from lowprec.kernels.sums import (
    bits_of_fused,
    bits_of_product,
    bits_of_sum,
    from_source,
    number,
    pattern,
    to_source,
)

# What a loop finds at its geometry: sizes of the product, its blocks, strides from matrix to matrix,
# and where things lie in a call's own memory.
(M, N, K, CHUNK, ROWS, COLUMNS, DEEP_BLOCK, A_STEP, B_STEP,
 CARRIED_AT, TOTALS_AT, STARTS_AT, TILE_AT, WORDS_AT, PRODUCT_WORDS_AT, LEFT_SCALES, RIGHT_SCALES,
 TENSOR_SCALE, SIZE) = range(19)  # fmt: skip

# The streams of noise, from a product's first one on.
ACCUMULATE, MULTIPLY, CHUNKS, BIAS = range(4)
TENSOR = 7

# What each loop has a copy of for each format.
round_sum = round_product = round_chunk = quantize_bits
bits_of_chunks, bits_of_blocks, bits_of_scaled = bits_of_sum, bits_of_fused, bits_of_product


PAD = 16
"""Words between columns, so that those of one product share no set of the cache."""


class Family(NamedTuple):
    """What of a format and mode a loop is compiled for."""

    mode: int
    depth: int
    ending: int
    full: bool


class Kind(NamedTuple):
    """What a loop holds constant."""

    carrier: str
    """binary32 or binary64, in which it computes."""
    odd: bool
    step: Family
    product: Family | None
    chunk: Family | None
    pairwise: bool
    kahan: bool
    out: str
    scaled: bool = False
    """Whether sums of chunks are multiplied by scales."""


@cache
def multiplying(kind: Kind) -> Any:
    """The loop of one kind."""
    value: Any = np.float64 if kind.carrier == "float64" else np.float32
    U, stored = WIDTHS[kind.carrier].unsigned, WIDTHS[kind.out].memory
    rounds_products, chunked = kind.product is not None, kind.chunk is not None
    pairwise, kahan, scaled = kind.pairwise, kind.kahan, kind.scaled
    draws_sums = is_drawn(kind.step.mode)
    draws_products = kind.product is not None and is_drawn(kind.product.mode)
    drawn = draws_sums or draws_products

    def loop(a_address, b_address, out_address, step_address, product_address, chunk_address,
             geometry_address, scratch, first, last, seed, stream):  # fmt: skip
        g = at(geometry_address, np.int64)
        a, b, out = at(a_address, value), at(b_address, value), at(out_address, stored)
        numbers = to_fixed_tuple(at(step_address, U), COUNT)
        if rounds_products:
            of_products = to_fixed_tuple(at(product_address, U), COUNT)
        if chunked:
            of_chunks = to_fixed_tuple(at(chunk_address, np.uint64), COUNT)
        sums, carried = at(scratch, value), at(scratch + g[CARRIED_AT], value)
        totals, starts = at(scratch + g[TOTALS_AT], np.float64), at(scratch + g[STARTS_AT], np.int64)
        tile, words = at(scratch + g[TILE_AT], np.uint32), at(scratch + g[WORDS_AT], np.uint32)
        product_words = at(scratch + g[PRODUCT_WORDS_AT], np.uint32)
        m, n, depth, width = g[M], g[N], g[K], g[COLUMNS]
        pitch = g[DEEP_BLOCK] + PAD
        chunks = -(-depth // g[CHUNK])
        if scaled:
            left_scales, right_scales = at(g[LEFT_SCALES], np.float64), at(g[RIGHT_SCALES], np.float64)
            tensor_scale = np.uint64(g[TENSOR_SCALE]).view(np.float64)
        row_blocks, column_blocks = -(-m // g[ROWS]), -(-n // width)
        for unit in range(first, last):
            i_first = unit % row_blocks * g[ROWS]
            j_first = unit // row_blocks % column_blocks * width
            batch = unit // row_blocks // column_blocks
            rows, columns = smaller(g[ROWS], m - i_first), smaller(width, n - j_first)
            a_at, b_at = batch * g[A_STEP] + i_first * depth, batch * g[B_STEP] + j_first * depth
            # The position of the unit's first product. Where words are drawn, there is one row.
            position = ((batch * m + i_first) * n + j_first) * depth
            block, ready = 0, 0
            for j in range(rows * width):
                sums[j] = value(0)
                totals[j] = 0.0
            for start in range(0, depth, g[CHUNK]):
                stop = smaller(start + g[CHUNK], depth)
                top = 0
                for j in range(rows * width):
                    sums[j] = value(0)
                    if kahan:
                        carried[j] = value(0)
                for k in range(start, stop):
                    if drawn and k == ready:
                        block, ready = k, smaller(k + g[DEEP_BLOCK], depth)
                        place = position + k
                        if draws_sums:
                            lay_out(words, tile, place, depth, ready - k, columns, pitch, seed, stream)
                        if draws_products:
                            lay_out(product_words, tile, place, depth, ready - k, columns, pitch, seed,
                                    stream + MULTIPLY)  # fmt: skip
                    words_at, b_row = np.uintp(k - block), np.uintp(b_at + k * columns)
                    for row in range(rows):
                        x = a[a_at + row * depth + k]
                        target = np.uintp((top if pairwise else row) * width)
                        for column in range(columns):
                            j = np.uintp(column)
                            here = np.uintp(target + j)
                            y = value(x * read_apart(b, np.uintp(b_row + j)))
                            if rounds_products:
                                ceiling = U32(0)
                                if draws_products:
                                    ceiling = read_apart(
                                        product_words, np.uintp(words_at + np.uintp(column * pitch))
                                    )
                                y = number(round_product(pattern(y), ceiling, of_products))
                            if not pairwise:
                                ceiling = U32(0)
                                if draws_sums:
                                    ceiling = read_apart(words, np.uintp(words_at + np.uintp(column * pitch)))
                                before = get(sums, here)
                                if kahan:
                                    lost = get(carried, here)
                                    y = number(round_sum(bits_of_sum(y, value(-lost)), ceiling, numbers))
                                after = number(round_sum(bits_of_sum(before, y), ceiling, numbers))
                                if kahan:
                                    gain = round_sum(bits_of_sum(after, value(-before)), ceiling, numbers)
                                    rest = bits_of_sum(number(gain), value(-y))
                                    put(carried, here, number(round_sum(rest, ceiling, numbers)))
                                y = after
                            put(sums, here, y)
                    if pairwise:
                        starts[top] = k
                        top += 1
                        # As many pairs are complete as the number of products has factors of two; after
                        # the last product what is left is added from the right.
                        left = k + 1 - start
                        while top > 1 and (left & 1 == 0 or k + 1 == stop):
                            top -= 1
                            right, left = starts[top], left >> 1
                            laid = draws_sums and right >= block
                            words_at = np.uintp(right - block) if laid else np.uintp(0)
                            step = pitch if laid else 1
                            if draws_sums and not laid:
                                for j in range(columns):
                                    index = np.uint64(position + j * depth + right)
                                    tile[j] = U32(~word_at(np.uint64(seed), np.uint64(stream), index))
                            noise = words if laid else tile
                            lower, upper = np.uintp((top - 1) * width), np.uintp(top * width)
                            for column in range(columns):
                                j = np.uintp(column)
                                ceiling = U32(0)
                                if draws_sums:
                                    ceiling = read_apart(noise, np.uintp(words_at + np.uintp(column * step)))
                                here = np.uintp(lower + j)
                                bits = bits_of_sum(get(sums, here), get(sums, np.uintp(upper + j)))
                                put(sums, here, number(round_sum(bits, ceiling, numbers)))
                        if stop == start + 1:
                            for j in range(columns):
                                ceiling = words[k - block + j * pitch] if draws_sums else U32(0)
                                sums[j] = number(round_sum(pattern(sums[j]), ceiling, numbers))
                if chunked:
                    for row in range(rows):
                        for j in range(columns):
                            ceiling = U32(0)
                            if draws_sums:
                                index = np.uint64(position + j * depth + start)
                                ceiling = U32(~word_at(np.uint64(seed), np.uint64(stream + CHUNKS), index))
                            part = np.float64(sums[row * width + j])
                            if scaled:
                                chunk = start // g[CHUNK]
                                scale = left_scales[(batch * m + i_first + row) * chunks + chunk]
                                scale *= right_scales[(batch * chunks + chunk) * n + j_first + j]
                                bits = bits_of_blocks(totals[row * width + j], part, scale)
                            else:
                                bits = bits_of_chunks(totals[row * width + j], part)
                            bits = np.uint64(round_chunk(bits, ceiling, of_chunks))
                            totals[row * width + j] = bits.view(np.float64)
            for row in range(rows):
                out_at = (batch * m + i_first + row) * n + j_first
                for j in range(columns):
                    result = totals[row * width + j] if chunked else np.float64(sums[row * width + j])
                    if scaled:
                        ceiling = U32(0)
                        if draws_sums:
                            index = np.uint64(out_at + j)
                            ceiling = U32(~word_at(np.uint64(seed), np.uint64(stream + TENSOR), index))
                        bits = bits_of_scaled(result, tensor_scale)
                        result = np.uint64(round_chunk(bits, ceiling, of_chunks)).view(np.float64)
                    out[out_at + j] = stored(to_source(np.float64(result).view(np.uint64)))

    return jit(12, loop, _decisions(kind), *kind)


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def lay_out(words, tile, position, depth, count, columns, pitch, seed, stream):
    """The complements of the words of so many products of each column, one after the other."""
    filled = -1
    for j in range(columns):
        done = 0
        while done < count:
            index = position + j * depth + done
            offset, got, filled = draw(tile, filled, index, 1, count - done, seed, stream, -1)
            for k in range(got):
                words[j * pitch + done + k] = tile[offset + k]
            done += got


@cache
def adding(family: Family, out: str) -> Any:
    """The loop over elements of a result that adds a bias to each, in binary64."""
    stored, drawn = WIDTHS[out].memory, is_drawn(family.mode)

    def loop(bias_address, out_address, numbers_address, step, count, first, last, seed, stream):
        bias, out = at(bias_address, np.float64), at(out_address, stored)
        numbers = to_fixed_tuple(at(numbers_address, np.uint64), COUNT)
        for index in range(first, last):
            ceiling = U32(0)
            if drawn:
                ceiling = U32(~word_at(np.uint64(seed), np.uint64(stream), np.uint64(index)))
            x = np.uint64(from_source(np.uint64(out[index]))).view(np.float64)
            bits = bits_of_sum(x, bias[index // step % count])
            out[index] = stored(to_source(round_sum(bits, ceiling, numbers)))

    own = _specialized("float64", family, odd=True)
    decisions = {"round_sum": own["quantize_bits"], "bits_of_sum": own["bits_of_sum"]}
    return jit(9, loop, decisions | conversions(out), "adding", *family, out)


def _decisions(kind: Kind) -> dict[str, Any]:
    """The functions that a loop calls."""
    own = _specialized(kind.carrier, kind.step, odd=kind.odd)
    decisions = {name: own[name] for name in ("bits_of_sum", "pattern", "number", "smaller")}
    decisions["round_sum"] = own["quantize_bits"]
    if kind.product is not None:
        decisions["round_product"] = _specialized(kind.carrier, kind.product)["quantize_bits"]
    if kind.chunk is not None:
        of_chunks = _specialized("float64", kind.chunk, odd=True)
        decisions |= {
            "round_chunk": of_chunks["quantize_bits"],
            "bits_of_chunks": of_chunks["bits_of_sum"],
            "bits_of_blocks": of_chunks["bits_of_fused"],
            "bits_of_scaled": of_chunks["bits_of_product"],
        }
    return decisions | conversions(kind.out)


def conversions(carrier: str) -> dict[str, Any]:
    """From a carrier to binary64 and back."""
    names = specialized("float64", NEAREST_EVEN, ABOVE, PLAIN, source=carrier)
    return {name: names[name] for name in ("from_source", "to_source")}


def _specialized(carrier: str, family: Family, *, odd: bool = False) -> dict[str, Any]:
    """The decisions for a family."""
    mode, depth, ending, full = family
    return specialized(carrier, mode, depth, ending, full=full, odd=odd)
