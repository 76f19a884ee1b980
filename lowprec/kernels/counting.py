"""What rounding did to a tensor, counted in one pass over what came in and what went out.

A tensor is cut into chunks that do not depend on threads, each with a row of its own, and sums within a
chunk have a fixed number of lanes: no result depends on how work is shared. Everything but the squares is
decided on patterns.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import jit, locate
from lowprec.kernels.elementwise import SERIAL_BELOW
from lowprec.kernels.fused import times
from lowprec.kernels.layout import Integers, layout
from lowprec.kernels.limits import NEVER, Limits
from lowprec.kernels.memory import at, matrix_at, put, read_apart
from lowprec.kernels.scalar import U32, U64
from lowprec.kernels.specialize import WIDTHS, inline, rebound
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
CHUNKS = 32
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


# What a loop's copies of the functions below hold constant, for float32 here.
U: Any = np.uint32
OWN = False
"""Whether patterns are those of binary64."""
MANTISSA, FIELD_BITS, DIGIT_BITS, HIDDEN = U(23), U(0xFF), U(0x7FFFFF), U(1 << 23)
UNSIGNED, INFINITY = U(0x7FFFFFFF), U(0x7F800000)
PLACE, LOWEST, TO_SINGLE = U64(31), U64(1023 - 127 - 23), U32(0)


def value(pattern):
    """The value of a pattern in binary64, whatever the thread does with subnormals."""
    if OWN:
        return U64(pattern).view(np.float64)
    field = U(U(pattern >> MANTISSA) & FIELD_BITS)
    digits = U(pattern & DIGIT_BITS)
    digits = U(digits | HIDDEN) if field != U(0) else digits
    power = U64(U64(U64(field if field != U(0) else U(1)) + LOWEST) << U64(52))
    sign = U64(U64(U64(pattern) >> PLACE) << U64(63))
    return times(np.float64(np.int64(digits)), U64(power | sign).view(np.float64))


def single(pattern):
    """The value of a pattern of bfloat16 or float32 that is not subnormal."""
    return U32(U32(pattern) << TO_SINGLE).view(np.float32)


def squares(before, after):
    """Of what came in and of what rounding changed; zeros where one of the two is not finite."""
    finite = (U(before & UNSIGNED) < INFINITY) & (U(after & UNSIGNED) < INFINITY)
    given = value(before)
    change = np.float64(given - value(after))
    return times(given, given) if finite else 0.0, times(change, change) if finite else 0.0


def is_past(magnitude, negative, limits):
    """Whether a magnitude lies within the span of its sign: limits are a first one and a span for each."""
    return U(magnitude - (limits[2] if negative else limits[0])) < (limits[3] if negative else limits[1])


def is_lost(before, after):
    """Whether a magnitude became zero."""
    return (after == U(0)) & (before != U(0))


def lead_of(magnitude):
    """The place of the leading bit of an integer that is not 0."""
    return np.int64(np.float64(magnitude).view(U64) >> U64(52)) - 1023


def counters(
    carrier: str, compiler: Callable[..., Any] = inline, instructions: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The names of the functions above, each compiled for a carrier when it is first called."""
    _, word, _, mantissa, place = WIDTHS[carrier]
    fields, bias = 1 << (place - mantissa), (1 << (place - mantissa - 1)) - 1
    names = {
        **globals(), "U": word, "OWN": carrier == "float64", "MANTISSA": word(mantissa),
        "FIELD_BITS": word(fields - 1), "DIGIT_BITS": word((1 << mantissa) - 1), "PLACE": U64(place),
        "HIDDEN": word(1 << mantissa), "UNSIGNED": word((1 << place) - 1),
        "INFINITY": word((fields - 1) << mantissa),
        "LOWEST": U64(max(1023 - bias - mantissa, 0)), "TO_SINGLE": U32(16 if carrier == "bfloat16" else 0),
        "times": compiler(times), **(instructions or {}),
    }  # fmt: skip
    names["value"] = compiler(rebound(value, names))
    rest = (single, squares, is_past, is_lost, lead_of)
    return {"value": names["value"], **{f.__name__: compiler(rebound(f, names)) for f in rest}}


@cache
def counting(carrier: str) -> Any:
    """The loop for a carrier: a call fills the rows of some chunks."""
    dtype, U, _, mantissa, place = WIDTHS[carrier]
    fields = 1 << (place - mantissa)
    infinity, hidden, unsigned = U((fields - 1) << mantissa), U(1 << mantissa), U((1 << place) - 1)
    shift, field_bits, zero, one = U(mantissa), U(fields - 1), U(0), U(1)
    quick = carrier in ("float32", "bfloat16")

    def loop(x_address, y_address, run_address, outer_address, dimensions, limits_address, chunks_address,
             rows_address, width, first, last):  # fmt: skip
        x_all, y_all = at(x_address, dtype), at(y_address, dtype)
        run, outer = at(run_address, np.int64), matrix_at(outer_address, 6, dimensions)
        limits, chunks = at(limits_address, U), at(chunks_address, np.int64)
        may_fire, fires = to_fixed_tuple(limits, 4), to_fixed_tuple(limits[4:], 4)
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
                        near = is_past(before, negative, may_fire)
                        not_finite = (before >= infinity) | (after >= infinity)
                        small = (U(before - one) < U(hidden - one)) | (U(after - one) < U(hidden - one))
                        possible = U(possible + (one if near else zero))
                        underflowed = U(underflowed + (one if is_lost(before, after) else zero))
                        special = U(special + (one if not_finite else zero))
                        subnormal = U(subnormal + (one if small else zero))
                    row[POSSIBLE] += np.int64(possible)
                    row[UNDERFLOWED] += np.int64(underflowed)
                    if possible:
                        for j in range(x.size):
                            bits = U(x[j])
                            before = U(bits & unsigned)
                            negative = before != bits
                            row[CERTAIN] += 1 if is_past(before, negative, fires) else 0
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
                            square, lost = squares(U(read_apart(x, j)), U(read_apart(y, j)))
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
                                row[FIELDS + _COPIES * fields + lead_of(magnitude)] += 1
                    start += count

    return jit(11, loop, counters(carrier), "counting", carrier)


@lru_cache(maxsize=512)
def chunks_of(units: int, size: int) -> npt.NDArray[np.int64]:
    """Where chunks of units begin, and the last one ends."""
    parts = ranges(units, max(1, min(CHUNKS, size // SERIAL_BELOW)))
    return np.array([0, *(end for _, end in parts)], np.int64)


def count(
    x: int, y: int, carrier: str, shape: Integers, x_strides: Integers, y_strides: Integers,
    limits: tuple[Limits, Limits] = (NEVER, NEVER), threads: int = 1,
) -> Counted:  # fmt: skip
    """Count what rounding made of ``x`` in ``y``; addresses and strides are as in dispatch.py.

    ``limits`` are the magnitudes at which overflow fires, whatever the noise and at its worst.
    """
    _, U, _, _, _ = WIDTHS[carrier]
    plan = layout(shape, x_strides, y_strides, None, 0, None)
    chunks = chunks_of(plan.units, plan.size)
    rows = np.zeros((len(chunks) - 1, width_of(carrier) + 2 * LANES), np.int64)
    numbers = np.array([*limits[1], *limits[0]], U)
    given = (
        x, y, plan.run, plan.outer, plan.dimensions, numbers.ctypes.data, chunks.ctypes.data,
        rows.ctypes.data, rows.shape[1],
    )  # fmt: skip
    if plan.size:
        share(counting(carrier), [(*given, n, n + 1) for n in range(len(rows))], threads)
    return counted(rows, carrier, plan.size)


def width_of(carrier: str) -> int:
    """How many numbers a row has."""
    _, _, _, mantissa, place = WIDTHS[carrier]
    return FIELDS + _COPIES * (1 << (place - mantissa)) + mantissa


def counted(rows: npt.NDArray[np.int64], carrier: str, size: int) -> Counted:
    """What the rows of all chunks tell of a tensor of so many elements."""
    _, _, _, mantissa, place = WIDTHS[carrier]
    fields, bias = 1 << (place - mantissa), (1 << (place - mantissa - 1)) - 1
    total = rows[:, :COUNTS].sum(0)
    signal, error = rows[:, SIGNAL:FIELDS].view(np.float64).sum(0).reshape(2, LANES).sum(1)
    histogram = rows[:, FIELDS : width_of(carrier)].sum(0)
    normal, deep = histogram[:-mantissa].reshape(_COPIES, fields).sum(0), histogram[-mantissa:]
    given_nan = int(total[GIVEN_NAN])
    return Counted(
        size,
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
