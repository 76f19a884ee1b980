"""Loops over matrix products in which every sum is rounded; the decisions are scalar.py's and sums.py's.

A unit is a few rows of the result by a block of its columns, whose sums stay in the first cache while
the products k = 0, 1, … are added to all of them; so no result depends on blocks or threads. Operands are
row-major binary32 or binary64, in which all products are exact. Random words are drawn for whole columns
of k and laid out as the loop over columns reads them.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import draw, is_drawn, jit
from lowprec.kernels.memory import at, get, put, read_apart
from lowprec.kernels.philox import word_at
from lowprec.kernels.scalar import ABOVE, COUNT, NEAREST_EVEN, PLAIN, U32, smaller
from lowprec.kernels.specialize import WIDTHS, specialized

# What a loop finds at its geometry: sizes of the product, its blocks, strides from matrix to matrix,
# and where things lie in a call's own memory.
(M, N, K, CHUNK, ROWS, COLUMNS, DEEP_BLOCK, A_STEP, B_STEP,
 CARRIED_AT, TOTALS_AT, STARTS_AT, TILE_AT, WORDS_AT, PRODUCT_WORDS_AT, SIZE) = range(16)  # fmt: skip

# The streams of noise, from a product's first one on.
ACCUMULATE, MULTIPLY, CHUNKS, BIAS = range(4)

ARGUMENTS = 12


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


@cache
def multiplying(kind: Kind) -> Any:
    """The loop of one kind."""
    wide = kind.carrier == "float64"
    number: Any = np.float64 if wide else np.float32
    U = WIDTHS[kind.carrier].unsigned
    stored, place = WIDTHS[kind.out].memory, WIDTHS[kind.out].place
    rounds_products, chunked = kind.product is not None, kind.chunk is not None
    pairwise, kahan, widens = kind.pairwise, kind.kahan, kind.out == "float64"
    draws_sums = is_drawn(kind.step.mode)
    draws_products = kind.product is not None and is_drawn(kind.product.mode)
    drawn = draws_sums or draws_products
    count_of_product, count_of_chunk = (COUNT if rounds_products else 0), (COUNT if chunked else 0)

    def loop(a_address, b_address, out_address, step_address, product_address, chunk_address,
             geometry_address, scratch, first, last, seed, stream):  # fmt: skip
        g = at(geometry_address, np.int64)
        a, b, out = at(a_address, number), at(b_address, number), at(out_address, stored)
        numbers = to_fixed_tuple(at(step_address, U), COUNT)
        if rounds_products:
            product_numbers = to_fixed_tuple(at(product_address, U), COUNT)
        if chunked:
            chunk_numbers = to_fixed_tuple(at(chunk_address, np.uint64), COUNT)
        sums, carried = at(scratch, number), at(scratch + g[CARRIED_AT], number)
        totals, starts = at(scratch + g[TOTALS_AT], np.float64), at(scratch + g[STARTS_AT], np.int64)
        tile, words = at(scratch + g[TILE_AT], np.uint32), at(scratch + g[WORDS_AT], np.uint32)
        product_words = at(scratch + g[PRODUCT_WORDS_AT], np.uint32)
        m, n, depth, width = g[M], g[N], g[K], g[COLUMNS]
        row_blocks, column_blocks = -(-m // g[ROWS]), -(-n // width)
        for unit in range(first, last):
            i_first = unit % row_blocks * g[ROWS]
            j_first = unit // row_blocks % column_blocks * width
            batch = unit // row_blocks // column_blocks
            rows, columns = smaller(g[ROWS], m - i_first), smaller(width, n - j_first)
            a_at, b_at = batch * g[A_STEP] + i_first * depth, batch * g[B_STEP] + j_first
            # The index of the first product of the unit, of whose row there is one where words are drawn.
            place_of = ((batch * m + i_first) * n + j_first) * depth
            block, ready = 0, 0
            if chunked:
                for j in range(rows * width):
                    totals[j] = 0.0
            for j in range(rows * width):
                sums[j] = number(0)
            for start in range(0, depth, g[CHUNK]):
                stop = smaller(start + g[CHUNK], depth)
                top = 0
                for j in range(rows * width):
                    sums[j] = number(0)
                    if kahan:
                        carried[j] = number(0)
                for k in range(start, stop):
                    if drawn and k == ready:
                        block, ready = k, smaller(k + g[DEEP_BLOCK], depth)
                        if draws_sums:
                            draw_columns(words, tile, place_of + k, depth, ready - k, columns, width, seed,
                                         stream + ACCUMULATE)  # fmt: skip
                        if draws_products:
                            draw_columns(product_words, tile, place_of + k, depth, ready - k, columns, width,
                                         seed, stream + MULTIPLY)  # fmt: skip
                    words_at, b_row = np.uintp((k - block) * width), np.uintp(b_at + k * n)
                    for row in range(rows):
                        x = a[a_at + row * depth + k]
                        target = np.uintp((top if pairwise else row) * width)
                        for jj in range(columns):
                            j = np.uintp(jj)
                            y = number(x * read_apart(b, np.uintp(b_row + j)))
                            if rounds_products:
                                ceiling = U32(0)
                                if draws_products:
                                    ceiling = read_apart(product_words, np.uintp(words_at + j))
                                y = number_of(round_product(pattern(y), ceiling, product_numbers))  # noqa: F821
                            ceiling = U32(0)
                            if draws_sums and not pairwise:
                                ceiling = read_apart(words, np.uintp(words_at + j))
                            if not pairwise:
                                before = get(sums, np.uintp(target + j))
                                if kahan:
                                    lost = get(carried, np.uintp(target + j))
                                    y = number_of(round_sum(bits_of_sum(y, number(-lost)), ceiling, numbers))  # noqa: F821
                                y_bits = round_sum(bits_of_sum(before, y), ceiling, numbers)  # noqa: F821
                                if kahan:
                                    after = number_of(y_bits)  # noqa: F821
                                    gain = round_sum(bits_of_sum(after, number(-before)), ceiling, numbers)  # noqa: F821
                                    rest = bits_of_sum(number_of(gain), number(-y))  # noqa: F821
                                    put(
                                        carried,
                                        np.uintp(target + j),
                                        number_of(round_sum(rest, ceiling, numbers)),
                                    )
                                y = number_of(y_bits)  # noqa: F821
                            put(sums, np.uintp(target + j), y)
                    if pairwise:
                        starts[top] = k
                        top += 1
                        # As many neighbors are complete as the number of products has factors of two;
                        # after the last one what is left is added from the right.
                        left = k + 1 - start
                        while top > 1 and (left & 1 == 0 or k + 1 == stop):
                            top -= 1
                            right = starts[top]
                            known = right >= block and draws_sums
                            words_at = np.uintp((right - block) * width)
                            if draws_sums and not known:
                                for j in range(columns):
                                    index = np.uint64(place_of + j * depth + right)
                                    tile[j] = U32(~word_at(np.uint64(seed), np.uint64(stream), index))
                                words_at = np.uintp(0)
                            noise = words if known else tile
                            lower, upper = np.uintp((top - 1) * width), np.uintp(top * width)
                            for jj in range(columns):
                                j = np.uintp(jj)
                                ceiling = read_apart(noise, np.uintp(words_at + j)) if draws_sums else U32(0)
                                bits = bits_of_sum(
                                    get(sums, np.uintp(lower + j)), get(sums, np.uintp(upper + j))
                                )
                                put(sums, np.uintp(lower + j), number_of(round_sum(bits, ceiling, numbers)))  # noqa: F821
                            left >>= 1
                        if stop == start + 1:
                            for jj in range(columns):
                                j = np.uintp(jj)
                                ceiling = read_apart(words, np.uintp(words_at + j)) if draws_sums else U32(0)
                                bits = round_sum(pattern(get(sums, j)), ceiling, numbers)  # noqa: F821
                                put(sums, j, number_of(bits))  # noqa: F821
                if chunked:
                    for row in range(rows):
                        for j in range(columns):
                            ceiling = U32(0)
                            if draws_sums:
                                index = np.uint64(place_of + j * depth + start)
                                ceiling = U32(~word_at(np.uint64(seed), np.uint64(stream + CHUNKS), index))
                            at_j = row * width + j
                            bits = bits_of_chunks(totals[at_j], np.float64(sums[at_j]))  # noqa: F821
                            totals[at_j] = np.uint64(round_chunk(bits, ceiling, chunk_numbers)).view(
                                np.float64
                            )
            for row in range(rows):
                out_at = (batch * m + i_first + row) * n + j_first
                for j in range(columns):
                    value = totals[row * width + j] if chunked else np.float64(sums[row * width + j])
                    bits = np.uint64(np.float64(value).view(np.uint64))
                    magnitude = np.uint64(bits & np.uint64((1 << 63) - 1))
                    sign = np.uint64(np.uint64(bits >> np.uint64(63)) << np.uint64(place))
                    if magnitude > np.uint64(0x7FF << 52):  # one NaN, whatever the processor makes
                        magnitude, sign = np.uint64(0x7FF8 << 48), np.uint64(0)
                    if not widens:
                        magnitude = narrowed(magnitude)  # noqa: F821
                    out[out_at + j] = stored(magnitude | sign)

    return jit(ARGUMENTS, loop, _decisions(kind), *kind)


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def draw_columns(words, tile, index, step, count, columns, width, seed, stream):
    """The complements of words of so many products k of each column, laid out as rows of columns."""
    filled = -1
    for j in range(columns):
        done = 0
        while done < count:
            offset, got, filled = draw(
                tile, filled, index + j * step + done, 1, count - done, seed, stream, -1
            )
            for k in range(got):
                words[(done + k) * width + j] = tile[offset + k]
            done += got


@cache
def adding(family: Family, out: str) -> Any:
    """The loop over elements of a result that adds a bias to each, in binary64."""
    stored, place, mantissa = WIDTHS[out].memory, WIDTHS[out].place, WIDTHS[out].mantissa
    infinity = np.uint64((1 << place) - (1 << mantissa))
    drawn, widens = is_drawn(family.mode), out == "float64"

    def loop(bias_address, out_address, numbers_address, step, count, first, last, seed, stream):
        bias, out = at(bias_address, np.float64), at(out_address, stored)
        numbers = to_fixed_tuple(at(numbers_address, np.uint64), COUNT)
        for index in range(first, last):
            bits = np.uint64(out[index])
            magnitude = np.uint64(bits & np.uint64((1 << place) - 1))
            sign = np.uint64(np.uint64(bits >> np.uint64(place)) << np.uint64(63))
            if magnitude >= infinity:  # NaN or an infinity
                wide = np.uint64(np.uint64(magnitude << np.uint64(52 - mantissa)) | np.uint64(0x7FF << 52))
            else:
                wide = magnitude if widens else widened(magnitude)  # noqa: F821  # a decision
            ceiling = U32(0)
            if drawn:
                ceiling = U32(~word_at(np.uint64(seed), np.uint64(stream), np.uint64(index)))
            total = bits_of_sum(np.uint64(wide | sign).view(np.float64), bias[index // step % count])  # noqa: F821
            total = round_sum(total, ceiling, numbers)  # noqa: F821
            magnitude = np.uint64(total & np.uint64((1 << 63) - 1))
            sign = np.uint64(np.uint64(total >> np.uint64(63)) << np.uint64(place))
            if magnitude > np.uint64(0x7FF << 52):
                magnitude, sign = np.uint64(0x7FF8 << 48), np.uint64(0)
            out[index] = stored((magnitude if widens else narrowed(magnitude)) | sign)  # noqa: F821

    own = _specialized("float64", family, odd=True)
    storing = specialized("float64", NEAREST_EVEN, ABOVE, PLAIN, source=out)
    decisions = {"round_sum": own["quantize_bits"], "bits_of_sum": own["bits_of_sum"]}
    decisions |= {name: storing[name] for name in ("widened", "narrowed")}
    return jit(9, loop, decisions, "adding", *family, out)


def _decisions(kind: Kind) -> dict[str, Any]:
    """The functions that a loop calls."""
    own = _specialized(kind.carrier, kind.step, odd=kind.odd)
    decisions = {
        "round_sum": own["quantize_bits"],
        "bits_of_sum": own["bits_of_sum"],
        "pattern": own["pattern"],
        "number_of": own["number"],
        "smaller": own["smaller"],
    }
    if kind.product is not None:
        decisions["round_product"] = _specialized(kind.carrier, kind.product)["quantize_bits"]
    if kind.chunk is not None:
        of_chunks = _specialized("float64", kind.chunk, odd=True)
        decisions |= {"round_chunk": of_chunks["quantize_bits"], "bits_of_chunks": of_chunks["bits_of_sum"]}
    storing = specialized("float64", NEAREST_EVEN, ABOVE, PLAIN, source=kind.out)
    return decisions | {"narrowed": storing["narrowed"]}


def _specialized(carrier: str, family: Family, *, odd: bool = False) -> dict[str, Any]:
    """The decisions for a family."""
    mode, depth, ending, full = family
    return specialized(carrier, mode, depth, ending, full=full, odd=odd)
