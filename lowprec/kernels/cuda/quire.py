"""The twin of quire.py: matrix products whose sums are exact, and rounded once; one element a thread.

Products are exact in binary64. A sum is an integer in limbs, as on the CPU, that a thread has for itself.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.kernels import quire
from lowprec.kernels.cpu import is_drawn
from lowprec.kernels.cuda.memory import INSTRUCTIONS, load, store
from lowprec.kernels.cuda.products import (
    ADDRESS,
    BATCH_STEP,
    BATCHES,
    BIAS_APART,
    BIAS_COUNT,
    BIAS_SIZES,
    BIAS_STEP,
    CHUNK,
    COLUMN_STEP,
    HOW,
    ROW_STEP,
    SIZES,
    STEPS,
    K,
    M,
    N,
    of_device,
    reading,
)
from lowprec.kernels.cuda.twin import Twin, device, tuple_of
from lowprec.kernels.products import ACCUMULATE, BIAS, CHUNKS, MULTIPLY, Family, specialized_for
from lowprec.kernels.quire import Kind, decisions_of, deposit, deposit_number, gather
from lowprec.kernels.scalar import COUNT, DOWN, U32, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS, rebound
from lowprec.kernels.sums import added, number, pattern, to_source
from lowprec.kernels.wide import added_exactly, quantize_wide

# What each kernel has a copy of.
round_product, added_last = quantize_bits, added
number_of_left = number_of_right = number_of_bias = number
times, ceiling_at = INSTRUCTIONS["times"], of_device["ceiling_at"]


@device
def get(array, index):
    """One limb."""
    return array[index]


@device
def put(array, index, value):
    """Write one."""
    array[index] = value


def _copies() -> dict[str, Any]:
    """The functions of quire.py, which call each other."""
    names = {**vars(quire), "get": get, "put": put}
    for function in (deposit, deposit_number, gather):
        names[function.__name__] = device(rebound(function.py_func, names))
    return names


_names = _copies()
of_number, gathered = _names["deposit_number"], _names["gather"]


@cache
def summing(kind: Kind, last: Family, left: str, right: str, bias: str | None, count: int) -> Twin:
    """The kernel of one kind, of so many limbs, for operands and a bias, if any, in these carriers."""
    stored, of_left, of_right = (WIDTHS[carrier].memory for carrier in (kind.out, left, right))
    of_bias, biased, chunked = WIDTHS[bias or left].memory, bias is not None, kind.chunked
    rounds_products = kind.product is not None
    draws_products = kind.product is not None and is_drawn(kind.product.mode)
    draws_sums, down = is_drawn(kind.step.mode), kind.step.mode == DOWN
    drawn, of_sums = draws_sums or draws_products, CHUNKS if chunked else ACCUMULATE

    def kernel(a, b, out, bias, base, sizes, numbers, of_products, of_last, seed_address, stream):
        limbs = cuda.local.array(count, types.int64)
        m, n, depth = sizes[M], sizes[N], sizes[K]
        seed = load(seed_address, 0, np.int64) if drawn else np.int64(0)
        stream = np.int64(stream)
        for element in range(cuda.grid(1), sizes[BATCHES] * m * n, cuda.gridsize(1)):
            i, j, batch = element // n % m, element % n, element // n // m
            left_at = batch * a[BATCH_STEP] + i * a[ROW_STEP]
            right_at = batch * b[BATCH_STEP] + j * b[COLUMN_STEP]
            total, summand = np.float64(0), np.float64(0)
            if biased:
                place = element // bias[BIAS_STEP] % bias[BIAS_COUNT] * bias[BIAS_APART]
                summand = number_of_bias(load(bias[ADDRESS], place, of_bias))
                total = np.float64(0) if chunked else summand
            for start in range(0, depth if depth > 0 else 1, sizes[CHUNK]):
                for limb in range(count):
                    limbs[limb] = 0
                part, plain = np.float64(0), True
                for k in range(start, smaller(start + sizes[CHUNK], depth)):
                    x = number_of_left(load(a[ADDRESS], left_at + k * a[COLUMN_STEP], of_left))
                    y = times(x, number_of_right(load(b[ADDRESS], right_at + k * b[ROW_STEP], of_right)))
                    if rounds_products:
                        ceiling = U32(0)
                        if draws_products:
                            ceiling = ceiling_at(seed, stream + MULTIPLY, element * depth + k)
                        y = number(round_product(pattern(y), ceiling, of_products))
                    plain = plain and pattern(y) == np.uint64(0)
                    if y - y == np.float64(0):  # NaN of what is no number
                        of_number(limbs, 0, pattern(y), base)
                    else:
                        part += y
                ceiling = U32(0)
                if draws_sums:
                    place = element * depth + start if chunked else element
                    ceiling = ceiling_at(seed, stream + of_sums, place)
                lead, high, low, negative = np.int64(-1), np.uint64(0), np.uint64(0), False
                if part - part == np.float64(0) and total - total == np.float64(0):
                    of_number(limbs, 0, pattern(total), base)
                    high, low, lead, negative = gathered(limbs, 0, count)
                    total = total if total == np.float64(0) else np.float64(0)
                    part = np.float64(0) if plain or not down else -np.float64(0)
                if lead >= 0:
                    bits = quantize_wide(high, low, lead + base + 1023, negative, ceiling, numbers)
                else:
                    bits = added_exactly(total, part, ceiling, numbers)
                total = number(np.uint64(bits))
            bits = pattern(total)
            if biased and chunked:
                ceiling = ceiling_at(seed, stream + BIAS, element) if draws_sums else U32(0)
                bits = np.uint64(added_last(total, summand, ceiling, of_last))
            store(out, element, to_source(bits), stored)

    decisions = decisions_of(kind, **HOW)
    decisions["number_of_left"] = reading(left, np.float64)
    decisions["number_of_right"] = reading(right, np.float64)
    if bias is not None:
        decisions["number_of_bias"] = reading(bias, np.float64)
        decisions["added_last"] = specialized_for("float64", last, odd=True, **HOW)["added"]
    of_format = tuple_of(np.uint64, COUNT)
    parameters = (
        tuple_of(np.int64, STEPS), tuple_of(np.int64, STEPS), types.int64, tuple_of(np.int64, BIAS_SIZES),
        types.int64, tuple_of(np.int64, SIZES), of_format, of_format, of_format, types.int64, types.int64,
    )  # fmt: skip
    return Twin(parameters, kernel, decisions, "quire", kind, last, left, right, bias, count)
