"""What rounding did to a tensor, counted in one pass over what came in and what went out.

A tensor is cut into chunks that do not depend on threads, each with a row of its own, and sums within a
chunk have a fixed number of lanes: no result depends on how work is shared. Everything but the squares is
decided on patterns.
"""

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.kernels.cpu import jit, locate
from lowprec.kernels.elementwise import SERIAL_BELOW
from lowprec.kernels.layout import Integers, layout
from lowprec.kernels.limits import NEVER, Limits
from lowprec.kernels.memory import at, matrix_at, put, read_apart
from lowprec.kernels.scalar import U32, U64
from lowprec.kernels.specialize import WIDTHS, inline
from lowprec.kernels.threads import ranges, share
from lowprec.kernels.walk import LENGTH, OUT_STEP, SEGMENT, SEGMENTS, X_STEP

# What a row begins with; all are 64-bit integers.
(CERTAIN, POSSIBLE, UNDERFLOWED, NAN, INFINITE, GIVEN_NAN, GIVEN_SUBNORMAL) = range(7)
COUNTS = 8
LANES = 256
"""How many partial sums there are, each of every so many-th element of a segment."""
SIGNAL, ERROR = COUNTS, COUNTS + LANES
"""Where the partial sums begin: of the squares of what came in, and of what rounding changed."""
FIELDS = COUNTS + 2 * LANES
"""Where the histograms of exponent fields begin: four, so that equal neighbors do not wait for each other."""
_COPIES = 4
_CHUNKS = 32
"""The most rows of a tensor."""


class Counted(NamedTuple):
    """What was counted of one tensor."""

    size: int
    certain: int
    """Where overflow fired whatever the noise."""
    possible: int
    """Where it may have fired; between the two only the noise tells."""
    underflowed: int
    nan: int
    infinite: int
    zeros: int
    given_nan: int
    given_infinite: int
    signal: float
    error: float
    """Sums of squares over elements that are finite before and after."""
    lowest: int
    exponents: npt.NDArray[np.int64]
    """How many finite non-zero magnitudes lie in [2^e, 2^(e + 1)), for each e from ``lowest`` on."""


@cache
def widened(carrier: str) -> Any:
    """The function from a pattern to its value in binary64, whatever the thread does with subnormals."""
    _, U, _, mantissa, place = WIDTHS[carrier]
    bias = (1 << (place - mantissa - 1)) - 1
    shift, digit_bits, field_bits = U(mantissa), U((1 << mantissa) - 1), U((1 << (place - mantissa)) - 1)
    zero, one, hidden, lowest = U(0), U(1), U(1 << mantissa), U64(max(1023 - bias - mantissa, 0))

    @inline
    def value(pattern):
        field = U(U(pattern >> shift) & field_bits)
        digits = U(pattern & digit_bits)
        digits = U(digits | hidden) if field != zero else digits
        power = U64(U64(U64(field if field != zero else one) + lowest) << U64(52))
        sign = U64(U64(U64(pattern) >> U64(place)) << U64(63))
        return np.float64(np.int64(digits)) * U64(power | sign).view(np.float64)

    @inline
    def own(pattern):
        return U64(pattern).view(np.float64)

    return own if carrier == "float64" else value


@cache
def counting(carrier: str) -> Any:
    """The loop for a carrier: a call fills the rows of some chunks."""
    dtype, U, _, mantissa, place = WIDTHS[carrier]
    fields = 1 << (place - mantissa)
    infinity, hidden, unsigned = U((fields - 1) << mantissa), U(1 << mantissa), U((1 << place) - 1)
    shift, field_bits, zero, one = U(mantissa), U(fields - 1), U(0), U(1)
    value, quick = widened(carrier), carrier in ("float32", "bfloat16")
    to_single = U32(16 if carrier == "bfloat16" else 0)

    @inline
    def single(pattern):
        """The value of a pattern that is not subnormal."""
        return U32(U32(pattern) << to_single).view(np.float32)

    def loop(x_address, y_address, run_address, outer_address, dimensions, limits_address, chunks_address,
             rows_address, width, first, last):  # fmt: skip
        x_all, y_all = at(x_address, dtype), at(y_address, dtype)
        run, outer = at(run_address, np.int64), matrix_at(outer_address, 6, dimensions)
        limits, chunks = at(limits_address, U), at(chunks_address, np.int64)
        # where overflow may fire, by sign; where it does whatever the noise
        from_1, span_1, from_2, span_2 = limits[0], limits[1], limits[2], limits[3]
        from_3, span_3, from_4, span_4 = limits[4], limits[5], limits[6], limits[7]
        x_step, y_step = run[X_STEP], run[OUT_STEP]
        dense = x_step == 1 and y_step == 1
        for chunk in range(first, last):
            place_of_row = rows_address + chunk * width * 8
            row, sums = at(place_of_row, np.int64), at(place_of_row + SIGNAL * 8, np.float64)
            for j in range(width):
                row[j] = 0
            x_tile = at(place_of_row + (width - 2 * LANES) * 8, dtype)
            y_tile = at(place_of_row + (width - LANES) * 8, dtype)
            for number in range(chunks[chunk], chunks[chunk + 1]):
                x_at, y_at, _, _ = locate(outer, number // run[SEGMENTS])
                start = number % run[SEGMENTS] * run[SEGMENT]
                stop = min(start + run[SEGMENT], run[LENGTH])
                while start < stop:
                    count = min(stop - start, LANES)
                    here, there = x_at + start * x_step, y_at + start * y_step
                    if dense:
                        x, y = x_all[here : here + count], y_all[there : there + count]
                    else:
                        x, y = x_tile[:count], y_tile[:count]
                        for j in range(count):
                            x[j], y[j] = x_all[here + j * x_step], y_all[there + j * y_step]
                    possible = underflowed = special = subnormal = zero
                    for j in range(x.size):
                        bits = U(x[j])
                        before, after = U(bits & unsigned), U(U(y[j]) & unsigned)
                        negative = before != bits
                        near = U(before - (from_2 if negative else from_1)) < (span_2 if negative else span_1)
                        not_finite = (before >= infinity) | (after >= infinity)
                        small = (U(before - one) < U(hidden - one)) | (U(after - one) < U(hidden - one))
                        possible = U(possible + (one if near else zero))
                        underflowed = U(underflowed + (one if (after == zero) & (before != zero) else zero))
                        special = U(special + (one if not_finite else zero))
                        subnormal = U(subnormal + (one if small else zero))
                    row[POSSIBLE] += np.int64(possible)
                    row[UNDERFLOWED] += np.int64(underflowed)
                    if possible:
                        for j in range(x.size):
                            bits = U(x[j])
                            before = U(bits & unsigned)
                            negative = before != bits
                            past = U(before - (from_4 if negative else from_3)) < (
                                span_4 if negative else span_3
                            )
                            row[CERTAIN] += 1 if past else 0
                    if special:
                        for j in range(x.size):
                            before, after = U(U(x[j]) & unsigned), U(U(y[j]) & unsigned)
                            row[NAN] += 1 if after > infinity else 0
                            row[INFINITE] += 1 if after == infinity else 0
                            row[GIVEN_NAN] += 1 if before > infinity else 0
                    if quick and not special and not subnormal:
                        for k in range(x.size):
                            j = np.uintp(k)
                            given = np.float64(single(U(read_apart(x, j))))
                            change = given - np.float64(single(U(read_apart(y, j))))
                            put(sums, j, sums[k] + given * given)
                            put(sums, np.uintp(j + np.uintp(LANES)), sums[k + LANES] + change * change)
                    else:
                        for k in range(x.size):
                            j = np.uintp(k)
                            a, b = U(read_apart(x, j)), U(read_apart(y, j))
                            finite = (U(a & unsigned) < infinity) & (U(b & unsigned) < infinity)
                            given = value(a)
                            change = given - value(b)
                            square = given * given if finite else 0.0
                            lost = change * change if finite else 0.0
                            put(sums, j, sums[k] + square)
                            put(sums, np.uintp(j + np.uintp(LANES)), sums[k + LANES] + lost)
                    for k in range(x.size):
                        field = np.int64(U(U(x[k]) >> shift) & field_bits)
                        row[FIELDS + (k & (_COPIES - 1)) * fields + field] += 1
                    if subnormal:
                        for k in range(x.size):
                            magnitude = U(U(x[k]) & unsigned)
                            if magnitude != zero and magnitude < hidden:
                                row[GIVEN_SUBNORMAL] += 1
                                lead = np.int64(np.float64(magnitude).view(U64) >> U64(52)) - 1023
                                row[FIELDS + _COPIES * fields + lead] += 1
                    start += count

    return jit(11, loop, {}, "counting", carrier)


@lru_cache(maxsize=512)
def _chunks(units: int, size: int) -> npt.NDArray[np.int64]:
    """Where chunks of units begin, and the last one ends."""
    parts = ranges(units, max(1, min(_CHUNKS, size // SERIAL_BELOW)))
    return np.array([0, *(end for _, end in parts)], np.int64)


def count(
    x: int, y: int, carrier: str, shape: Integers, x_strides: Integers, y_strides: Integers,
    limits: tuple[Limits, Limits] = (NEVER, NEVER), threads: int = 1,
) -> Counted:  # fmt: skip
    """Count what rounding made of ``x`` in ``y``; addresses and strides are as in dispatch.py.

    ``limits`` are the magnitudes at which overflow fires, whatever the noise and at its worst.
    """
    _, U, _, mantissa, place = WIDTHS[carrier]
    fields, bias = 1 << (place - mantissa), (1 << (place - mantissa - 1)) - 1
    used = FIELDS + _COPIES * fields + mantissa
    plan = layout(shape, x_strides, y_strides, None, 0, None)
    chunks = _chunks(plan.units, plan.size)
    rows = np.zeros((len(chunks) - 1, used + 2 * LANES), np.int64)
    numbers = np.array([*limits[1], *limits[0]], U)
    given = (
        x, y, plan.run, plan.outer, plan.dimensions, numbers.ctypes.data, chunks.ctypes.data,
        rows.ctypes.data, rows.shape[1],
    )  # fmt: skip
    if plan.size:
        share(counting(carrier), [(*given, n, n + 1) for n in range(len(rows))], threads)
    total = rows[:, :COUNTS].sum(0)
    signal, error = rows[:, SIGNAL:FIELDS].view(np.float64).sum(0).reshape(2, LANES).sum(1)
    histogram = rows[:, FIELDS:used].sum(0)
    normal, deep = histogram[:-mantissa].reshape(_COPIES, fields).sum(0), histogram[-mantissa:]
    given_nan = int(total[GIVEN_NAN])
    return Counted(
        plan.size,
        int(total[CERTAIN]),
        int(total[POSSIBLE]),
        int(total[UNDERFLOWED]),
        int(total[NAN]),
        int(total[INFINITE]),
        int(normal[0] - total[GIVEN_SUBNORMAL]),
        given_nan,
        int(normal[-1]) - given_nan,
        float(signal),
        float(error),
        1 - bias - mantissa,
        np.concatenate([deep, normal[1:-1]]),
    )
