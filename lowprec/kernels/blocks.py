"""The loop for formats with groups: two passes over each group, for its maximum and for its values."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import (
    CODES,
    DECODED,
    FLAGS,
    OUT_TILE,
    VALUES,
    X_TILE,
    draw,
    is_drawn,
    jit,
    locate,
)
from lowprec.kernels.groups import BLOCK_COUNT, BOTH, finite_magnitude, numbers_of_largest
from lowprec.kernels.lanes import LANES, largest_lane
from lowprec.kernels.layout import ADJACENT
from lowprec.kernels.memory import at, get, matrix_at, put
from lowprec.kernels.philox import TILE
from lowprec.kernels.scalar import (
    CLAMPED,
    COUNT,
    EITHER,
    INFINITY,
    MODE,
    NEAREST_EVEN,
    STOCHASTIC,
    U32,
    U,
    larger,
    quantize_bits,
    smaller,
)
from lowprec.kernels.specialize import WIDTHS, compiled_with, specialized
from lowprec.kernels.walk import (
    GROUP_SIZE,
    GROUP_STEP,
    INDEX_OFFSET,
    INDEX_STEP,
    LENGTH,
    OUT_STEP,
    SEGMENT,
    SEGMENTS,
    X_STEP,
)

MAXIMA = 1
QUANTIZE = 2


INTEGERS = 0
QUOTIENTS = 1
PRODUCTS = 2
STAIRS = 3


class Family(NamedTuple):
    """What kind of format has groups: where its units lie, how magnitudes end, and what is scaled."""

    depth: int
    ending: int
    scaled: bool
    floating: bool
    arithmetic: int = INTEGERS
    """INTEGERS on the carrier's patterns for powers of two, in QUOTIENTS by scales of any kind, or, where
    all scales are far from the ends of binary32, in PRODUCTS with powers of two, or in STAIRS by scales
    times the steps of a short list."""
    zero_point: bool = False
    hardware: bool = False
    """Whether subnormal elements may be taken for zeros, and no result is subnormal."""
    exact: bool = False
    """Whether the hardware's rounding of a quotient could hide on which side of a boundary it lies."""


BLOCK = Family(EITHER, CLAMPED, scaled=False, floating=False)

_SPAN = 4096
"""Elements that are read for their maxima and again for their values: they stay in the first cache."""
BY_LANES = False
"""Whether maxima of short runs are worth code of their own: not in a loop that has much else to compile."""
write = quantize_bits
numbers_of = numbers_of_largest
"""What makes one element, and the numbers of a group; a loop has its own."""


def largest_of(source, first, count):
    """The largest finite magnitude among ``count`` elements from ``first`` on."""
    largest, done = U(0), 0
    if BY_LANES and count <= 4 * LANES:  # longer runs vectorize anyway
        while done + LANES <= count:
            largest = larger(largest, largest_lane(source, np.uintp(first + done), U(INFINITY)))
            done += LANES
    rest = source[first + done : first + count]
    for j in range(rest.size):
        largest = larger(largest, finite_magnitude(U(rest[j])))
    return largest


def write_group(source, target, words, first, count, numbers):
    """Write ``count`` elements of one group from ``first`` on."""
    drawn = MODE >= STOCHASTIC
    whole = count // LANES  # a constant length, so that short groups vectorize as well
    for chunk in range(whole):
        start = np.uintp(first + chunk * LANES)
        for lane in range(LANES):
            j = np.uintp(start + np.uintp(lane))
            put(target, j, write(U(get(source, j)), get(words, j) if drawn else U32(0), numbers))
    for k in range(first + whole * LANES, first + count):
        j = np.uintp(k)
        put(target, j, write(U(get(source, j)), get(words, j) if drawn else U32(0), numbers))


@cache
def block(
    carrier: str,
    mode: int,
    kind: int,
    code: str,
    full: bool,
    columns: int,
    family: Family = BLOCK,
    given: bool = False,
) -> Any:
    """The loop that quantizes.

    ``phase`` MAXIMA collects each group's largest finite magnitude, QUANTIZE rounds with the steps
    that follow from it; both together where no two units share a group. Where scales are given in place
    of maxima, which are codes of powers of two or, for quotients, binary64, there is only QUANTIZE; codes
    of block floating point are decoded with scales for maxima, whose exponents are the same.
    ``columns``: how the groups of a run's elements lie, if each has its own; see layout.py.
    """
    given = given or (kind == DECODED and family.scaled)
    decisions = decisions_of(carrier, mode, family, full=full)
    names: tuple[str, ...] = "overflow_fired", "code_of_element", "value_of_code", "quantize_bits"
    if family.arithmetic != INTEGERS:
        numbers_of = "numbers_of_scale"
        names = "quotient_fired", "code_of_quotient", "value_of_quotient_code", "quantize_quotient"
        if family.arithmetic == PRODUCTS:
            names = (*names[:-1], "quantize_product")
    else:
        numbers_of = "numbers_of_code" if given else "numbers_of_largest"
    decisions["numbers_of"] = decisions[numbers_of]
    decisions["write"] = decisions[names[(FLAGS, CODES, DECODED, VALUES).index(kind)]]
    reads = not given and family.arithmetic == INTEGERS
    return _loop(carrier, mode, kind, code, full, columns, family, decisions, given, reads=reads)


@cache
def extremes(carrier: str, columns: int, side: int = BOTH) -> Any:
    """The loop that only collects each group's largest finite magnitude of a side."""
    decisions = specialized(carrier, NEAREST_EVEN, *BLOCK[:2], side=side) | {"BY_LANES": side == BOTH}
    return _loop(carrier, NEAREST_EVEN, VALUES, "uint32", True, columns, BLOCK, decisions, side, writes=False)


def _loop(
    carrier: str,
    mode: int,
    kind: int,
    code: str,
    full: bool,
    columns: int,
    family: Family,
    decisions: dict[str, Any],
    *identity: object,
    reads: bool = True,
    writes: bool = True,
) -> Any:
    """The loop, compiled for one or both of its parts."""
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    if family.arithmetic in (QUOTIENTS, STAIRS):
        U = np.uint64
    codes = np.dtype(code).type
    given = codes if kind == DECODED else dtype
    result = {FLAGS: np.uint8, CODES: codes}.get(kind, dtype)
    drawn = is_drawn(mode)
    described, count_of_numbers = (np.int64, BLOCK_COUNT) if family.arithmetic == INTEGERS else (U, COUNT)

    def loop(x_address, out_address, block_address, run_address, outer_address, dimensions, scratch,
             maxima_address, phase, first, last, seed, stream, word):  # fmt: skip
        x, out, maxima = at(x_address, given), at(out_address, result), at(maxima_address, U)
        run, outer = at(run_address, np.int64), matrix_at(outer_address, 6, dimensions)
        block = to_fixed_tuple(at(block_address, described), count_of_numbers)
        x_step, out_step = run[X_STEP], run[OUT_STEP]
        dense = x_step == 1 and out_step == 1 and x_address != out_address
        ceilings = at(scratch, U32)
        x_tile, out_tile = at(scratch + X_TILE, given), at(scratch + OUT_TILE, result)
        filled = np.int64(-1)  # a literal would be a type of its own, to compile functions for
        group_size, group_step = run[GROUP_SIZE], run[GROUP_STEP]
        span = larger(_SPAN // group_size, 1) * group_size
        for number in range(first, last):
            x_at, out_at, index_at, group_at = locate(outer, number // run[SEGMENTS])
            begin = number % run[SEGMENTS] * run[SEGMENT]
            end = smaller(begin + run[SEGMENT], run[LENGTH])
            while begin < end:
                stop = smaller(begin + span, end)
                for part in (MAXIMA, QUANTIZE):
                    start = begin if phase & part else stop
                    while start < stop:
                        count, offset = stop - start, 0
                        if drawn and part == QUANTIZE:
                            index = run[INDEX_OFFSET] + index_at + start * run[INDEX_STEP]
                            offset, count, filled = draw(
                                ceilings, filled, index, run[INDEX_STEP], count, seed, stream, word
                            )
                        here, there = x_at + start * x_step, out_at + start * out_step
                        if dense:
                            source, target = x[here : here + count], out[there : there + count]
                        else:
                            count = smaller(count, TILE)
                            source, target = x_tile[:count], out_tile[:count]
                            for j in range(count):
                                source[j] = x[here + j * x_step]
                        words = ceilings[offset : offset + count]
                        group = group_at + start // group_size * group_step
                        if columns:
                            if columns == ADJACENT:
                                own = maxima[group : group + count]
                            else:
                                own = maxima[group : group + count * group_step : group_step]
                            if not writes or (reads and part == MAXIMA):
                                for j in range(source.size):
                                    own[j] = larger(own[j], finite_magnitude(U(source[j])))
                            else:
                                for j in range(source.size):
                                    numbers = numbers_of(own[j], block)
                                    ceiling = words[j] if drawn else U32(0)
                                    target[j] = write(U(source[j]), ceiling, numbers)
                        else:
                            done, left = np.int64(0), group_size - start % group_size
                            while done < count:
                                piece = smaller(left, count - done)
                                if not writes or (reads and part == MAXIMA):
                                    largest = largest_of(source, done, piece)
                                    maxima[group] = larger(maxima[group], largest)
                                else:
                                    numbers = numbers_of(maxima[group], block)
                                    write_group(source, target, words, done, piece, numbers)
                                done, left, group = done + piece, group_size, group + group_step
                        if part == QUANTIZE and not dense:
                            for j in range(count):
                                out[there + j * out_step] = target[j]
                        start += count
                begin = stop

    loop_decisions = {**decisions, "U": U}
    if family.arithmetic == STAIRS:
        loop_decisions["write_group"] = decisions[
            "write_stairs"
        ]  # words, which it does not draw, are its room
    for function in (largest_of, write_group):
        if function.__name__ in loop_decisions:
            continue
        loop_decisions[function.__name__] = compiled_with(function, {**globals(), **loop_decisions})
    name = (carrier, mode, kind, code, full, columns, *family, *identity, reads, writes)
    return jit(14, loop, loop_decisions, *name)


def decisions_of(
    carrier: str, mode: int, family: Family, *, full: bool = True, **compiler: Any
) -> dict[str, Any]:
    """The decisions for a kind of format with groups."""
    computed = "float64" if family.arithmetic in (QUOTIENTS, STAIRS) else carrier
    return specialized(
        computed,
        mode,
        family.depth,
        family.ending,
        full=full,
        scaled=family.scaled and family.arithmetic == INTEGERS,
        floating=family.floating,
        source=None if family.arithmetic == INTEGERS else carrier,
        zero_point=family.zero_point,
        hardware=family.hardware,
        exact=family.exact,
        **compiler,
    )
