"""Loops over matrix products in which every sum is rounded; the decisions are scalar.py's and sums.py's.

A unit is a few rows of the result by a block of its columns, whose sums stay in the first cache while
the products k = 0, 1, … are added to all of them; so no result depends on blocks or threads. Operands are
binary32 or binary64, in which all products are exact: the left one row-major, of the right one the
columns of each block, row by row, lie after those of the block before. Random words are drawn as noise.py
says. A step that the carrier cannot decide in some column is done again in binary64, rounded
to odd.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import is_drawn, jit
from lowprec.kernels.memory import TURNED, at, get, put, read_apart, turn
from lowprec.kernels.noise import ceiling_at, lay_out
from lowprec.kernels.philox import word_at
from lowprec.kernels.scalar import ABOVE, COUNT, NEAREST_EVEN, PLAIN, U32, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS, compiled_with, inline, specialized
from lowprec.kernels.sums import (
    ADDED,
    added,
    bits_of_fused,
    bits_of_product,
    bits_of_sum,
    from_source,
    is_doubtful,
    number,
    pattern,
    to_source,
)
from lowprec.kernels.wide import WIDE

# What a loop finds at its geometry: sizes of the product, its blocks, strides from matrix to matrix,
# and where things lie in a call's own memory.
(M, N, K, CHUNK, ROWS, COLUMNS, DEEP_BLOCK, A_STEP, B_STEP,
 CARRIED_AT, TOTALS_AT, STARTS_AT, TILE_AT, WORDS_AT, PRODUCT_WORDS_AT, NOISE_AT, PRODUCT_NOISE_AT,
 KEPT_AT, LANES, PITCH, SHARED, LEFT_SCALES, RIGHT_SCALES, TENSOR_SCALE, SIZE) = range(25)  # fmt: skip

# The streams of noise, from a product's first one on.
ACCUMULATE, MULTIPLY, CHUNKS, BIAS = range(4)
# Those of the three roundings of Kahan's step beside its sum's, and of a sum times the tensors' scales.
TERM, GAIN, LOST, TENSOR = range(4, 8)

# What each loop has a copy of for each format.
round_alone = round_product = round_chunk = quantize_bits
added_rest = added_again = added_chunks = added
bits_of_blocks, bits_of_scaled = bits_of_fused, bits_of_product


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
    rest_odd: bool
    """Whether the sums of a compensated step are rounded to odd, but for the first."""
    step: Family
    product: Family | None
    chunk: Family | None
    again: Family | None
    """What binary64 decides by where the carrier is in doubt."""
    pairwise: bool
    kahan: bool
    out: str
    scaled: bool = False
    """Whether sums of chunks are multiplied by scales."""


def compensated(total, lost, term, ceilings, numbers):
    """Kahan's step: the sum with a term from which what the last one lost is taken, and what this one loses.

    The complements of words are those of the sum, of the term, of what the sum gained, and of what it lost.
    """
    y = number(added(term, -lost, ceilings[1], numbers))
    after = number(added_rest(total, y, ceilings[0], numbers))
    gain = number(added_rest(after, -total, ceilings[2], numbers))
    return after, number(added_rest(gain, -y, ceilings[3], numbers))


@cache
def multiplying(kind: Kind) -> Any:
    """The loop of one kind."""
    value: Any = np.float64 if kind.carrier == "float64" else np.float32
    U, stored = WIDTHS[kind.carrier].unsigned, WIDTHS[kind.out].memory
    rounds_products, chunked = kind.product is not None, kind.chunk is not None
    doubted = kind.again is not None
    pairwise, kahan, scaled = kind.pairwise, kind.kahan, kind.scaled
    draws_sums = is_drawn(kind.step.mode)
    draws_products = kind.product is not None and is_drawn(kind.product.mode)
    drawn = draws_sums or draws_products

    def loop(a_address, b_address, out_address, step_address, product_address, chunk_address,
             again_address, geometry_address, scratch, first, last, seed, stream):  # fmt: skip
        g = at(geometry_address, np.int64)
        a, b, out = at(a_address, value), at(b_address, value), at(out_address, stored)
        numbers = to_fixed_tuple(at(step_address, U), COUNT)
        if rounds_products:
            of_products = to_fixed_tuple(at(product_address, U), COUNT)
        if chunked:
            of_chunks = to_fixed_tuple(at(chunk_address, np.uint64), COUNT)
        if doubted:
            of_again = to_fixed_tuple(at(again_address, np.uint64), COUNT)
            kept = at(scratch + g[KEPT_AT], value)
        sums, carried = at(scratch, value), at(scratch + g[CARRIED_AT], value)
        totals, starts = at(scratch + g[TOTALS_AT], np.float64), at(scratch + g[STARTS_AT], np.int64)
        tile, words = at(scratch + g[TILE_AT], np.uint32), at(scratch + g[WORDS_AT], np.uint32)
        product_words = at(scratch + g[PRODUCT_WORDS_AT], np.uint32)
        m, n, depth, width = g[M], g[N], g[K], g[COLUMNS]
        lanes, pitch, shared = g[LANES], g[PITCH], g[SHARED]
        turns, apart = not pairwise and shared == 0, pitch if pairwise else 1
        noise = at(scratch + g[NOISE_AT], np.uint32) if turns else words
        product_noise = at(scratch + g[PRODUCT_NOISE_AT], np.uint32) if turns else product_words
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
            block, ready, laid = 0, 0, 0
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
                        laid, place = k - TURNED if turns else k, position + k
                        if draws_sums:
                            lay_out(words, tile, place, depth, ready - k, columns, pitch, lanes, shared, seed,
                                    stream)  # fmt: skip
                        if draws_products:
                            lay_out(product_words, tile, place, depth, ready - k, columns, pitch, lanes,
                                    shared, seed, stream + MULTIPLY)  # fmt: skip
                    if drawn and turns and k == laid + TURNED:
                        laid = k
                        for j in range(0, columns, TURNED):
                            if draws_sums:
                                turn(words, j * pitch + k - block, pitch, noise, j, lanes)
                            if draws_products:
                                turn(product_words, j * pitch + k - block, pitch, product_noise, j, lanes)
                    words_at = np.uintp(k - block) if pairwise else np.uintp((k - laid) * lanes)
                    b_row = np.uintp(b_at + k * columns)
                    for row in range(rows):
                        x = a[a_at + row * depth + k]
                        target = np.uintp((top if pairwise else row) * width)
                        unsure = False
                        for column in range(columns):
                            j = np.uintp(column)
                            here = np.uintp(target + j)
                            y = value(x * read_apart(b, np.uintp(b_row + j)))
                            if rounds_products:
                                ceiling = U32(0)
                                if draws_products:
                                    ceiling = read_apart(
                                        product_noise, np.uintp(words_at + np.uintp(column * apart))
                                    )
                                y = number(round_product(pattern(y), ceiling, of_products))
                            if not pairwise:
                                ceiling = U32(0)
                                if draws_sums:
                                    ceiling = read_apart(noise, np.uintp(words_at + np.uintp(column * apart)))
                                before = get(sums, here)
                                if doubted:
                                    put(kept, j, before)
                                    unsure |= is_doubtful(bits_of_sum(before, y), ceiling, numbers)
                                if kahan:
                                    of_term = of_gain = of_lost = U32(0)
                                    if draws_sums:
                                        index = position + column * depth + k
                                        of_term = ceiling_at(seed, stream + TERM, index)
                                        of_gain = ceiling_at(seed, stream + GAIN, index)
                                        of_lost = ceiling_at(seed, stream + LOST, index)
                                    ceilings = ceiling, of_term, of_gain, of_lost
                                    after, rest = compensated(
                                        before, get(carried, here), y, ceilings, numbers
                                    )
                                    put(carried, here, rest)
                                else:
                                    after = number(added(before, y, ceiling, numbers))
                                y = after
                            put(sums, here, y)
                        if doubted and unsure:
                            for j in range(columns):
                                y = value(x * b[b_row + j])
                                if rounds_products:
                                    ceiling = product_noise[words_at + j] if draws_products else U32(0)
                                    y = number(round_product(pattern(y), ceiling, of_products))
                                ceiling = noise[words_at + j] if draws_sums else U32(0)
                                if is_doubtful(bits_of_sum(kept[j], y), ceiling, numbers):
                                    bits = added_again(np.float64(kept[j]), np.float64(y), ceiling, of_again)
                                    bits = np.uint64(bits)
                                    sums[row * width + j] = value(bits.view(np.float64))
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
                            found = words if laid else tile
                            lower, upper = np.uintp((top - 1) * width), np.uintp(top * width)
                            for column in range(columns):
                                j = np.uintp(column)
                                ceiling = U32(0)
                                if draws_sums:
                                    ceiling = read_apart(found, np.uintp(words_at + np.uintp(column * step)))
                                here = np.uintp(lower + j)
                                right_sum = get(sums, np.uintp(upper + j))
                                put(sums, here, number(added(get(sums, here), right_sum, ceiling, numbers)))
                        if stop == start + 1:
                            for j in range(columns):
                                ceiling = words[k - block + j * pitch] if draws_sums else U32(0)
                                sums[j] = number(round_alone(pattern(sums[j]), ceiling, numbers))
                if chunked:
                    for row in range(rows):
                        for j in range(columns):
                            ceiling = U32(0)
                            if draws_sums:
                                index = np.uint64(position + j * depth + start)
                                ceiling = U32(~word_at(np.uint64(seed), np.uint64(stream + CHUNKS), index))
                            total, part = totals[row * width + j], np.float64(sums[row * width + j])
                            if scaled:
                                chunk = start // g[CHUNK]
                                scale = left_scales[(batch * m + i_first + row) * chunks + chunk]
                                scale *= right_scales[(batch * chunks + chunk) * n + j_first + j]
                                bits = round_chunk(bits_of_blocks(total, part, scale), ceiling, of_chunks)
                            else:
                                bits = added_chunks(total, part, ceiling, of_chunks)
                            bits = np.uint64(bits)
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

    return jit(13, loop, decisions_of(kind), *kind)


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
            out[index] = stored(to_source(added(x, bias[index // step % count], ceiling, numbers)))

    decisions = {"added": specialized_for("float64", family, odd=True)["added"]}
    return jit(9, loop, decisions | conversions(out), "adding", *family, out)


def decisions_of(
    kind: Kind, compiler: Callable[..., Any] = inline, instructions: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The functions that a loop calls; the further arguments are those of ``specialized``."""

    def of(carrier: str, family: Family, *, odd: bool = False) -> dict[str, Any]:
        """The decisions for a family."""
        return specialized_for(carrier, family, odd=odd, compiler=compiler, instructions=instructions)

    own = of(kind.carrier, kind.step, odd=kind.odd)
    decisions = {name: own[name] for name in ("added", "pattern", "number", "smaller")}
    alone = kind.step._replace(depth=ABOVE) if kind.step.depth == WIDE else kind.step
    decisions["round_alone"] = of(kind.carrier, alone)["quantize_bits"]
    if kind.product is not None:
        decisions["round_product"] = of(kind.carrier, kind.product)["quantize_bits"]
    if kind.again is not None:
        decisions["added_again"] = of("float64", kind.again, odd=True)["added"]
        decisions["bits_of_sum"] = own["bits_of_sum"]
        decisions["is_doubtful"] = own["is_tie" if kind.step.depth == ADDED else "is_doubtful"]
    if kind.kahan:
        rest = of(kind.carrier, kind.step, odd=kind.rest_odd)["added"]
        own_names = {**decisions, "added_rest": rest}
        decisions["compensated"] = compiled_with(compensated, own_names, compiler)
    if kind.chunk is not None:
        of_chunks = of("float64", kind.chunk, odd=True)
        decisions["added_chunks"] = of_chunks["added"]
        if kind.scaled:
            decisions |= {
                "round_chunk": of_chunks["quantize_bits"],
                "bits_of_blocks": of_chunks["bits_of_fused"],
                "bits_of_scaled": of_chunks["bits_of_product"],
            }
    return decisions | conversions(kind.out, compiler=compiler, instructions=instructions)


def conversions(carrier: str, **compiler: Any) -> dict[str, Any]:
    """From a carrier to binary64 and back, and comparisons."""
    names = specialized("float64", NEAREST_EVEN, ABOVE, PLAIN, source=carrier, **compiler)
    return {name: names[name] for name in ("from_source", "to_source", "smaller", "larger")}


def specialized_for(carrier: str, family: Family, *, odd: bool = False, **compiler: Any) -> dict[str, Any]:
    """The decisions for a family."""
    mode, depth, ending, full = family
    return specialized(carrier, mode, depth, ending, full=full, odd=odd, **compiler)
