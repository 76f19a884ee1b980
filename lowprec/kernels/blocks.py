"""The loop for block floating point: two passes over each group, for its maximum and for its values."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import (
    CODES,
    DECODED,
    FLAGS,
    GROUP_SIZE,
    GROUP_STEP,
    INDEX_OFFSET,
    INDEX_STEP,
    LENGTH,
    OUT_STEP,
    OUT_TILE,
    SEGMENT,
    SEGMENTS,
    X_STEP,
    X_TILE,
    draw,
    is_drawn,
    jit,
    locate,
)
from lowprec.kernels.groups import (
    BLOCK_COUNT,
    OFFSET,
    finite_magnitude,
    group_numbers,
    scale_code,
    unit_field,
)
from lowprec.kernels.memory import at, matrix_at
from lowprec.kernels.philox import TILE
from lowprec.kernels.scalar import (
    CLAMPED,
    EITHER,
    MODE,
    NEAREST_EVEN,
    STOCHASTIC,
    U32,
    I,
    U,
    larger,
    placed,
    quantize_bits,
    smaller,
)
from lowprec.kernels.specialize import WIDTHS, inline, rebound, specialized

MAXIMA = 1
QUANTIZE = 2


class Family(NamedTuple):
    """What kind of format has groups: where its units lie, how magnitudes end, and what is scaled."""

    depth: int
    ending: int
    scaled: bool
    floating: bool


BLOCK = Family(EITHER, CLAMPED, scaled=False, floating=False)

_SPAN = 4096
"""Elements that are read for their maxima and again for their values: they stay in the first cache."""
_LANES = 16
"""The length of the inner loop over a group: a constant, so that short groups vectorize as well."""

write = quantize_bits
"""What makes one element; a loop has its own."""


def largest_of(source, first, count):
    """The largest finite magnitude among ``count`` elements from ``first`` on."""
    largest = U(0)
    part = source[first : first + count]
    for j in range(part.size):
        largest = larger(largest, finite_magnitude(U(part[j])))
    return largest


def write_group(source, target, words, first, count, numbers):
    """Write ``count`` elements of one group from ``first`` on."""
    drawn = MODE >= STOCHASTIC
    whole = count // _LANES
    for chunk in range(whole):
        start = np.uintp(first + chunk * _LANES)
        for lane in range(_LANES):
            j = np.uintp(start + np.uintp(lane))
            target[j] = write(U(source[j]), words[j] if drawn else U32(0), numbers)
    for k in range(first + whole * _LANES, first + count):
        j = np.uintp(k)
        target[j] = write(U(source[j]), words[j] if drawn else U32(0), numbers)


@cache
def block(
    carrier: str, mode: int, kind: int, code: str, full: bool, columns: bool, family: Family = BLOCK
) -> Any:
    """The loop for block floating point.

    ``phase`` MAXIMA collects each group's largest finite magnitude, QUANTIZE rounds with the steps
    that follow from it; both together where no two units share a group. Codes are decoded with scales
    for maxima, whose exponents are the same. ``columns``: each element of a run is in a group of its own.
    """
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    codes = np.dtype(code).type
    given = codes if kind == DECODED else dtype
    result = {FLAGS: np.uint8, CODES: codes}.get(kind, dtype)
    drawn = is_drawn(mode)

    def loop(x_address, out_address, block_address, run_address, outer_address, dimensions, scratch,
             maxima_address, phase, first, last, seed, stream, word):  # fmt: skip
        x, out, maxima = at(x_address, given), at(out_address, result), at(maxima_address, U)
        run, outer = at(run_address, np.int64), matrix_at(outer_address, 6, dimensions)
        block = to_fixed_tuple(at(block_address, np.int64), BLOCK_COUNT)
        x_step, out_step = run[X_STEP], run[OUT_STEP]
        dense = x_step == 1 and out_step == 1 and x_address != out_address
        ceilings = at(scratch, U32)
        x_tile, out_tile = at(scratch + X_TILE, given), at(scratch + OUT_TILE, result)
        filled = -1
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
                            step = larger(group_step, 1)
                            own = maxima[group : group + count * step : step]
                            if part == MAXIMA:
                                for j in range(source.size):
                                    own[j] = larger(own[j], finite_magnitude(U(source[j])))
                            else:
                                for j in range(source.size):
                                    numbers = group_numbers(unit_field(own[j], block), block)
                                    ceiling = words[j] if drawn else U32(0)
                                    target[j] = write(U(source[j]), ceiling, numbers)
                        else:
                            done, left = 0, group_size - start % group_size
                            while done < count:
                                piece = smaller(left, count - done)
                                if part == MAXIMA:
                                    largest = largest_of(source, done, piece)
                                    maxima[group] = larger(maxima[group], largest)
                                else:
                                    field = unit_field(maxima[group], block)
                                    numbers = group_numbers(field, block)
                                    write_group(source, target, words, done, piece, numbers)
                                done, left, group = done + piece, group_size, group + group_step
                        if part == QUANTIZE and not dense:
                            for j in range(count):
                                out[there + j * out_step] = target[j]
                        start += count
                begin = stop

    decisions = _specialized(carrier, mode, family, full=full)
    writers = {FLAGS: "overflow_fired", CODES: "code_of_element", DECODED: "value_of_code"}
    decisions["write"] = decisions[writers.get(kind, "quantize_bits")]
    if kind == DECODED and family.scaled:
        decisions["unit_field"] = decisions["unit_field_of_code"]
    for function in (largest_of, write_group):
        decisions[function.__name__] = inline(rebound(function, {**globals(), **decisions}))
    return jit(14, loop, decisions, carrier, mode, kind, code, full, columns, *family)


@cache
def scales(carrier: str, family: Family = BLOCK) -> Any:
    """The loop that turns maxima into scales, powers of two, or into their codes."""
    coded = family.scaled
    dtype, U = np.uint8 if coded else WIDTHS[carrier].memory, WIDTHS[carrier].unsigned

    def loop(maxima_address, out_address, block_address, count):
        maxima, out = at(maxima_address, U), at(out_address, dtype)
        block = to_fixed_tuple(at(block_address, np.int64), BLOCK_COUNT)
        for j in range(count):
            field = unit_field(maxima[j], block)
            out[j] = scale_code(field, block) if coded else placed(U(1), I(0), I(field - I(block[OFFSET])))

    return jit(4, loop, _specialized(carrier, NEAREST_EVEN, family), carrier, *family)


def _specialized(carrier: str, mode: int, family: Family, *, full: bool = True) -> dict[str, Any]:
    """The decisions for a kind of format with groups."""
    depth, ending, scaled, floating = family
    return specialized(carrier, mode, depth, ending, full=full, scaled=scaled, floating=floating)
