"""The random words of a product, whose indices run along its columns: k = 0, 1, … of one, then of the next.

A step needs the words of one k side by side. Where a column is whole tiles, or a tile whole columns, vectors
are of counters that belong to the same k of other columns, and words are drawn in that order. Elsewhere they
are drawn column by column, of one counter after the other, and are turned later.
"""

import numpy as np
from numba import njit

from lowprec.kernels.cpu import draw
from lowprec.kernels.memory import put, read_apart
from lowprec.kernels.philox import LANES, TILE, inline, word_at
from lowprec.kernels.scalar import U32
from lowprec.kernels.tiles import RUN, RUNS, draw_into_four, draw_into_one, draw_into_two

PAD = 16
"""Words between columns, so that those of one product share no set of the cache."""

_compiled = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def columns_of_tile(n: int, depth: int, columns: int, deep: int) -> int:
    """How many of n columns have their words in one tile, or 0 where they are drawn column by column.

    So many ``columns`` by ``deep`` products are taken at a time: whole tiles, and as few vectors may reach
    beyond the last column as pay.
    """
    if depth < LANES or (depth % TILE and TILE % depth):
        return 0
    shared = max(TILE // depth, 1)
    whole = n % shared == columns % shared == 0 and deep == min(depth, TILE)
    return shared if whole and -columns % (RUN * shared) <= columns // 4 else 0


@inline
def ceiling_at(seed, stream, index):
    """The complement of a random word."""
    return U32(~word_at(np.uint64(seed), np.uint64(stream), np.uint64(index)))


@_compiled
def _lay_columns(words, tile, position, depth, count, columns, pitch, seed, stream):
    """One column after the other."""
    filled = -1
    for j in range(columns):
        done = 0
        while done < count:
            index = position + j * depth + done
            offset, got, filled = draw(tile, filled, index, 1, count - done, seed, stream, -1)
            source, target = np.uintp(offset), np.uintp(j * pitch + done)
            for k in range(got):
                i = np.uintp(k)
                put(words, np.uintp(target + i), read_apart(tile, np.uintp(source + i)))
            done += got


@_compiled
def _lay_rows(words, position, depth, count, columns, lanes, shared, seed, stream):
    """One k after the other, of whole tiles."""
    first, step, many = position // TILE * LANES, depth * shared // 4, RUN * shared
    last = first + LANES + -(-columns // many) * RUN * step
    if first >> 32 != last >> 32:  # counters do not have one upper half
        for k in range(count):
            for j in range(columns):
                words[k * lanes + j] = ceiling_at(seed, stream, position + j * depth + k)
        return
    apart = LANES * lanes
    for k in range(0, LANES, RUNS):
        counter, place = first + k, k * lanes
        for _ in range(0, columns, many):
            if shared == 1:
                draw_into_four(counter, step, 1, seed, stream, words, place, apart, lanes)
            elif shared == 2:
                draw_into_two(counter, step, 1, seed, stream, words, place, apart, lanes)
            else:
                draw_into_one(counter, step, 1, seed, stream, words, place, apart, lanes)
            counter += RUN * step
            place += many


@_compiled
def lay_out(words, tile, position, depth, count, columns, pitch, lanes, shared, seed, stream):
    """The complements of the words of so many products of each column, from a position on.

    Those of a column lie side by side, ``pitch`` from column to column, or where ``shared`` is not 0 those of
    one k, ``lanes`` from k to k.
    """
    if shared == 0:
        _lay_columns(words, tile, position, depth, count, columns, pitch, seed, stream)
    else:
        _lay_rows(words, position, depth, count, columns, lanes, shared, seed, stream)
