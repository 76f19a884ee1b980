"""The twin of counting.py's loop: a block for each chunk, and a thread for each of its partial sums."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.kernels.counting import (
    CERTAIN,
    FIELDS,
    GIVEN_NAN,
    GIVEN_SUBNORMAL,
    INFINITE,
    LANES,
    NAN,
    POSSIBLE,
    SIGNAL,
    UNDERFLOWED,
    chunks_of,
    counters,
    is_lost,
    is_past,
    lead_of,
    squares,
    width_of,
)
from lowprec.kernels.cuda.memory import INSTRUCTIONS, add_to, load, store
from lowprec.kernels.cuda.twin import Queue, Twin, device, tuple_of
from lowprec.kernels.cuda.walks import RUN, as_planned, outer_type
from lowprec.kernels.layout import Integers, layout
from lowprec.kernels.limits import NEVER, Limits
from lowprec.kernels.scalar import smaller
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.walk import LENGTH, OUT_STEP, SEGMENT, SEGMENTS, X_STEP, locate

smaller_of = device(smaller)
run_at = device(locate)


@cache
def counting(carrier: str, dimensions: int) -> Twin:
    """The kernel that fills a row for each chunk; they are zeros before."""
    dtype, U, _, mantissa, place = WIDTHS[carrier]
    fields = 1 << (place - mantissa)
    infinity, hidden, unsigned = U((fields - 1) << mantissa), U(1 << mantissa), U((1 << place) - 1)
    deep, width = width_of(carrier) - mantissa, width_of(carrier)
    shift, zero, one, none = U(mantissa), U(0), np.uint64(1), np.uint64(0)
    count: Any = np.uint64

    def kernel(x, y, run, outer, may_fire, fires, units, chunks, rows):
        own = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        for chunk in range(cuda.blockIdx.x, chunks, cuda.gridDim.x):
            row = chunk * width
            for lane in range(own, LANES, cuda.blockDim.x * cuda.blockDim.y):
                signal, error = np.float64(0), np.float64(0)
                certain = possible = underflowed = nan = infinite = given_nan = subnormal = none
                for unit in range(units * chunk // chunks, units * (chunk + 1) // chunks):
                    x_at, y_at, _, _ = run_at(outer, unit // run[SEGMENTS])
                    start = unit % run[SEGMENTS] * run[SEGMENT]
                    for j in range(start + lane, smaller_of(start + run[SEGMENT], run[LENGTH]), LANES):
                        bits, result = (
                            U(load(x, x_at + j * run[X_STEP], dtype)),
                            U(load(y, y_at + j * run[OUT_STEP], dtype)),
                        )
                        before, after = U(bits & unsigned), U(result & unsigned)
                        negative = before != bits
                        possible = count(possible + (one if is_past(before, negative, may_fire) else none))
                        certain = count(certain + (one if is_past(before, negative, fires) else none))
                        underflowed = count(underflowed + (one if is_lost(before, after) else none))
                        nan = count(nan + (one if after > infinity else none))
                        infinite = count(infinite + (one if after == infinity else none))
                        given_nan = count(given_nan + (one if before > infinity else none))
                        square, lost = squares(bits, result)
                        signal, error = np.float64(signal + square), np.float64(error + lost)
                        add_to(rows, row + FIELDS + np.int64(U(before >> shift)), one, np.uint64)
                        if before != zero and before < hidden:
                            subnormal = count(subnormal + one)
                            add_to(rows, row + deep + lead_of(before), one, np.uint64)
                store(rows, row + SIGNAL + lane, signal, np.float64)
                store(rows, row + SIGNAL + LANES + lane, error, np.float64)
                add_to(rows, row + CERTAIN, certain, np.uint64)
                add_to(rows, row + POSSIBLE, possible, np.uint64)
                add_to(rows, row + UNDERFLOWED, underflowed, np.uint64)
                add_to(rows, row + NAN, nan, np.uint64)
                add_to(rows, row + INFINITE, infinite, np.uint64)
                add_to(rows, row + GIVEN_NAN, given_nan, np.uint64)
                add_to(rows, row + GIVEN_SUBNORMAL, subnormal, np.uint64)

    decisions = counters(carrier, device, INSTRUCTIONS)
    own = {name: decisions[name] for name in ("squares", "is_past", "is_lost", "lead_of")}
    limits = tuple_of(U, 4)
    walk = RUN, outer_type(dimensions), limits, limits
    parameters = types.int64, types.int64, *walk, *(types.int64,) * 3
    return Twin(parameters, kernel, own, carrier, dimensions)


def rows_of(carrier: str, shape: Integers, x_strides: Integers, y_strides: Integers) -> tuple[int, int]:
    """How many rows there are of a tensor, and how many numbers of 64 bits in each."""
    plan = layout(shape, x_strides, y_strides, None, 0, None)
    return len(chunks_of(plan.units, plan.size)) - 1, width_of(carrier)


def count(
    queue: Queue, x: int, y: int, rows: int, carrier: str, shape: Integers, x_strides: Integers,
    y_strides: Integers, limits: tuple[Limits, Limits] = (NEVER, NEVER),
) -> None:  # fmt: skip
    """Fill the rows, zeros before, that ``counted`` reads; the other arguments are those of the CPU."""
    plan = layout(shape, x_strides, y_strides, None, 0, None)
    if not plan.size:
        return
    run, outer = as_planned(plan)
    chunks, _ = rows_of(carrier, shape, x_strides, y_strides)
    number = WIDTHS[carrier].unsigned
    fires, may_fire = (tuple(map(number, each)) for each in limits)
    counting(carrier, len(outer[0])).launch(
        queue, chunks, (LANES, 1), x, y, run, outer, may_fire, fires, plan.units, chunks, rows
    )
