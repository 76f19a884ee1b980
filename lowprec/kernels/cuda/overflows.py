"""The twin of overflows.py: how many sums inside products overflow, one element of the result a thread."""

from functools import cache

import numpy as np
from numba import cuda, types

from lowprec.kernels.cpu import is_drawn
from lowprec.kernels.cuda.memory import INSTRUCTIONS, add_to, load
from lowprec.kernels.cuda.products import (
    ADDRESS,
    BATCH_STEP,
    BATCHES,
    CHUNK,
    COLUMN_STEP,
    HOW,
    LEVELS,
    ROW_STEP,
    SIZES,
    STEPS,
    K,
    M,
    N,
    of_device,
    reading,
)
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin, tuple_of
from lowprec.kernels.layout import Integers
from lowprec.kernels.operands import Operand
from lowprec.kernels.overflows import Plan, decisions_of
from lowprec.kernels.products import CHUNKS, MULTIPLY, Family
from lowprec.kernels.scalar import COUNT, U32, overflow_fired, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.sums import bits_of_sum, number

# What each kernel has a copy of.
round_sum = round_product = round_chunk = quantize_bits
fires = chunk_fires = overflow_fired
chunk_bits = bits_of_sum
number_of_left = number_of_right = number
times, ceiling_at = INSTRUCTIONS["times"], of_device["ceiling_at"]


@cache
def firing(
    step: Family, product: Family | None, chunk: Family | None, left: str, right: str, pairwise: bool
) -> Twin:
    """The kernel of one kind, for operands in these carriers."""
    of_left, of_right = WIDTHS[left].memory, WIDTHS[right].memory
    rounds_products, chunked, draws_sums = product is not None, chunk is not None, is_drawn(step.mode)
    draws_products = product is not None and is_drawn(product.mode)
    drawn = draws_sums or draws_products

    def kernel(a, b, found, sizes, numbers, of_products, of_chunks, seed_address, stream):
        m, n, depth = sizes[M], sizes[N], sizes[K]
        seed = load(seed_address, 0, np.int64) if drawn else np.int64(0)
        stream = np.int64(stream)
        if pairwise:
            parts = cuda.local.array(LEVELS, types.float64)
        fired = np.int64(0)
        own = (cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x
        for element in range(own, sizes[BATCHES] * m * n, cuda.gridDim.x * cuda.blockDim.y * cuda.blockDim.x):
            i, j, batch = element // n % m, element % n, element // n // m
            left_at = batch * a[BATCH_STEP] + i * a[ROW_STEP]
            right_at = batch * b[BATCH_STEP] + j * b[COLUMN_STEP]
            whole = np.float64(0)
            for start in range(0, depth, sizes[CHUNK]):
                stop = smaller(start + sizes[CHUNK], depth)
                total, top = np.float64(0), 0
                for k in range(start, stop):
                    index = element * depth + k
                    x = number_of_left(load(a[ADDRESS], left_at + k * a[COLUMN_STEP], of_left))
                    y = times(x, number_of_right(load(b[ADDRESS], right_at + k * b[ROW_STEP], of_right)))
                    if rounds_products:
                        ceiling = ceiling_at(seed, stream + MULTIPLY, index) if draws_products else U32(0)
                        bits = np.uint64(round_product(np.float64(y).view(np.uint64), ceiling, of_products))
                        y = bits.view(np.float64)
                    if pairwise and stop > start + 1:
                        # As many pairs are complete as the number of products has factors of two; after
                        # the last product what is left is added from the right.
                        ended, span, left = k + 1 - start, 1, k + 1 - start
                        total = y
                        while top > 0 and (left & 1 == 0 or k + 1 == stop):
                            top -= 1
                            left >>= 1
                            ceiling = ceiling_at(seed, stream, index + 1 - span) if draws_sums else U32(0)
                            bits = np.uint64(bits_of_sum(parts[top], total))
                            fired += np.int64(fires(bits, ceiling, numbers))
                            total = np.uint64(round_sum(bits, ceiling, numbers)).view(np.float64)
                            span += (ended - span) & (span - ended)
                        parts[top] = total
                        top += 1
                    else:
                        ceiling = ceiling_at(seed, stream, index) if draws_sums else U32(0)
                        bits = np.uint64(bits_of_sum(total, y))
                        fired += np.int64(fires(bits, ceiling, numbers))
                        total = np.uint64(round_sum(bits, ceiling, numbers)).view(np.float64)
                if chunked:
                    place = element * depth + start
                    ceiling = ceiling_at(seed, stream + CHUNKS, place) if draws_sums else U32(0)
                    bits = np.uint64(chunk_bits(whole, total))
                    fired += np.int64(chunk_fires(bits, ceiling, of_chunks))
                    whole = np.uint64(round_chunk(bits, ceiling, of_chunks)).view(np.float64)
        if fired > 0:
            add_to(found, 0, np.uint64(fired), np.uint64)

    decisions = decisions_of(step, product, chunk, **HOW)
    decisions["number_of_left"] = reading(left, np.float64)
    decisions["number_of_right"] = reading(right, np.float64)
    of_format = tuple_of(np.uint64, COUNT)
    parameters = (
        tuple_of(np.int64, STEPS), tuple_of(np.int64, STEPS), types.int64, tuple_of(np.int64, SIZES),
        of_format, of_format, of_format, types.int64, types.int64,
    )  # fmt: skip
    return Twin(parameters, kernel, decisions, "overflows", step, product, chunk, left, right, pairwise)


def count(queue: Queue, a: Operand, b: Operand, plan: Plan, found: int, noise: Integers = (0, 0)) -> None:
    """Add how many sums overflow to a number; ``noise`` is the address of the seed, and the stream."""
    batches, m, depth = a.shape
    n = b.shape[2]
    numbers = [tuple((plan.step if each is None else each).memory) for each in plan[:3]]
    families = [None if each is None else each.family for each in plan[1:3]]
    twin = firing(plan.step.family, *families, a.carrier, b.carrier, plan.pairwise)
    twin.launch(
        queue, -(-batches * m * n // THREADS), (THREADS, 1), (a.address, *a.strides), (b.address, *b.strides),
        found, (batches, m, n, depth, plan.chunk), *numbers, *noise,
    )  # fmt: skip
