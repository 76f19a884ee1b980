"""How many sums inside products overflow: all of them once more, in binary64 rounded to odd.

This runs only for who looks on, so it is one loop for all operands, and for sums in any order. Not counted
are compensated sums, exact ones, those of blocks, and those of which binary64 does not hold enough bits.
"""

from functools import cache
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.arithmetic import Accumulator, Arithmetic
from lowprec.kernels.cpu import is_drawn, jit
from lowprec.kernels.memory import at
from lowprec.kernels.multiply import SERIAL_BELOW
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.operands import Operand, pack
from lowprec.kernels.paths import fits_to_odd, path_of
from lowprec.kernels.philox import word_at
from lowprec.kernels.products import ACCUMULATE, CHUNKS, MULTIPLY, Family
from lowprec.kernels.scalar import COUNT, U32, overflow_fired, quantize_bits, smaller
from lowprec.kernels.specialize import specialized
from lowprec.kernels.sums import bits_of_sum
from lowprec.kernels.threads import PARTS, ranges, share
from lowprec.kernels.wide import WIDE
from lowprec.modes import Rounding

# What a loop finds at its geometry.
M, N, K, CHUNK, TERMS = range(5)

# What the loop has a copy of for each format.
round_sum = round_product = round_chunk = quantize_bits
fires = chunk_fires = overflow_fired
chunk_bits = bits_of_sum


def count(
    a: Operand, b: Operand, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0, threads: int = 1
) -> tuple[int, int] | None:
    """How many sums there are in the products of two batches of matrices, and how many of them overflow.

    A product that pairwise sums round by itself is one of them, and so are sums of chunks. None where they
    are not counted.
    """
    if not _is_counted(arithmetic):
        return None
    batches, m, depth = a.shape
    n = b.shape[2]
    if batches * m * n * depth == 0:
        return 0, 0
    (left, of_left), (right, of_right) = pack(a, threads), pack(b, threads)
    try:
        path = path_of(arithmetic, of_left, of_right, depth)
    except ValueError:  # integers.py may know a result without any of its sums
        return None
    if path.depth == WIDE:
        return None
    chunk = min(arithmetic.chunk, depth) if isinstance(arithmetic.chunk, int) else depth
    pairwise, chunked = arithmetic.order == "pairwise", arithmetic.chunk is not None
    mode, bits = arithmetic.rounding, arithmetic.random_bits
    step = _numbers(arithmetic.sum_format, mode, bits)
    product = total = None
    if arithmetic.multiply is not None and arithmetic.multiply_rounding is not None:
        product = _numbers(arithmetic.multiply, arithmetic.multiply_rounding, bits)
    if arithmetic.chunk_accumulate is not None:
        total = _numbers(arithmetic.chunk_accumulate, mode, bits)
    families = [None if x is None else x[1] for x in (product, total)]
    geometry = np.array([m, n, depth, chunk, n * (chunk if pairwise else 1)], np.int64)
    parts = ranges(batches * m, 1 if batches * m * n * depth < SERIAL_BELOW else PARTS * threads)
    scratch = np.empty((len(parts), n * (1 + (chunk if pairwise else 1))))
    found = np.zeros(len(parts), np.int64)
    fixed = (
        left.ctypes.data, right.ctypes.data,
        *((step if x is None else x)[0].ctypes.data for x in (step, product, total)),
        geometry.ctypes.data,
    )  # fmt: skip
    calls = [
        (*fixed, scratch[i:].ctypes.data, found[i:].ctypes.data, *part, seed, stream)
        for i, part in enumerate(parts)
    ]
    share(_counting(step[1], *families, pairwise), calls, threads)
    sizes = [min(chunk, depth - start) for start in range(0, depth, chunk)]
    each = sum(max(size - 1, 1) if pairwise else size for size in sizes) + (len(sizes) if chunked else 0)
    return batches * m * n * each, int(found.sum())


def _is_counted(arithmetic: Arithmetic) -> bool:
    """Whether an arithmetic has sums one after the other that can be rounded to odd first."""
    if arithmetic.is_exact or arithmetic.in_blocks or arithmetic.compensation is not None:
        return False
    formats = arithmetic.sum_format, arithmetic.chunk_accumulate
    return all(format is None or fits_to_odd(arithmetic, format) for format in formats)


def _numbers(format: Accumulator, rounding: Rounding, random_bits: int | None) -> tuple[Any, Family]:
    """What a loop reads of a format, and what it is compiled for."""
    bits = 32 if random_bits is None or not rounding.takes_random_bits else random_bits
    memory, depth, ending = describe(format, rounding, bits, "float64")
    return memory, Family(MODES[rounding], depth, ending, bits == 32)


@cache
def _counting(step: Family, product: Family | None, chunk: Family | None, pairwise: bool) -> Any:
    """The loop over rows of the result."""
    rounds_products, chunked = product is not None, chunk is not None
    draws_sums = is_drawn(step.mode)
    draws_products = product is not None and is_drawn(product.mode)

    def loop(a_address, b_address, step_address, product_address, chunk_address, geometry_address, scratch,
             found_address, first, last, seed, stream):  # fmt: skip
        g = at(geometry_address, np.int64)
        a, b = at(a_address, np.float64), at(b_address, np.float64)
        numbers = to_fixed_tuple(at(step_address, np.uint64), COUNT)
        of_products = to_fixed_tuple(at(product_address, np.uint64), COUNT)
        of_chunks = to_fixed_tuple(at(chunk_address, np.uint64), COUNT)
        terms, totals = at(scratch, np.float64), at(scratch + 8 * g[TERMS], np.float64)
        found = at(found_address, np.int64)
        n, depth = g[N], g[K]
        fired = 0
        for unit in range(first, last):
            batch, position = unit // g[M], unit * n * depth
            for j in range(n):
                totals[j] = 0.0
            for start in range(0, depth, g[CHUNK]):
                stop = smaller(start + g[CHUNK], depth)
                for j in range(n):
                    terms[j] = 0.0
                for k in range(start, stop):
                    x, place = a[unit * depth + k], (k - start) * n if pairwise else 0
                    for j in range(n):
                        y = x * b[(batch * depth + k) * n + j]
                        index = np.uint64(position + j * depth + k)
                        ceiling = U32(0)
                        if rounds_products:
                            if draws_products:
                                word = word_at(np.uint64(seed), np.uint64(stream + MULTIPLY), index)
                                ceiling = U32(~word)
                            bits = np.uint64(
                                round_product(np.float64(y).view(np.uint64), ceiling, of_products)
                            )
                            y = bits.view(np.float64)
                        if pairwise and stop > start + 1:
                            terms[place + j] = y
                        else:
                            ceiling = U32(0)
                            if draws_sums:
                                word = word_at(np.uint64(seed), np.uint64(stream + ACCUMULATE), index)
                                ceiling = U32(~word)
                            # A product that is alone keeps its sign of zero, which overflows nowhere.
                            bits = np.uint64(bits_of_sum(terms[j], y))
                            fired += np.int64(fires(bits, ceiling, numbers))
                            bits = np.uint64(round_sum(bits, ceiling, numbers))
                            terms[j] = bits.view(np.float64)
                count, span = stop - start if pairwise else 1, 1
                while count > 1:
                    for i in range(0, count - 1, 2):
                        for j in range(n):
                            ceiling = U32(0)
                            if draws_sums:
                                index = np.uint64(position + j * depth + start + (i + 1) * span)
                                word = word_at(np.uint64(seed), np.uint64(stream + ACCUMULATE), index)
                                ceiling = U32(~word)
                            bits = np.uint64(bits_of_sum(terms[i * n + j], terms[(i + 1) * n + j]))
                            fired += np.int64(fires(bits, ceiling, numbers))
                            bits = np.uint64(round_sum(bits, ceiling, numbers))
                            terms[i // 2 * n + j] = bits.view(np.float64)
                    if count & 1:
                        for j in range(n):
                            terms[count // 2 * n + j] = terms[(count - 1) * n + j]
                    count, span = (count + 1) // 2, 2 * span
                if chunked:
                    for j in range(n):
                        ceiling = U32(0)
                        if draws_sums:
                            index = np.uint64(position + j * depth + start)
                            word = word_at(np.uint64(seed), np.uint64(stream + CHUNKS), index)
                            ceiling = U32(~word)
                        bits = np.uint64(chunk_bits(totals[j], terms[j]))
                        fired += np.int64(chunk_fires(bits, ceiling, of_chunks))
                        bits = np.uint64(round_chunk(bits, ceiling, of_chunks))
                        totals[j] = bits.view(np.float64)
        found[0] = fired

    return jit(12, loop, _decisions(step, product, chunk), "overflows", step, product, chunk, pairwise)


def _decisions(step: Family, product: Family | None, chunk: Family | None) -> dict[str, Any]:
    """The functions that a loop calls."""

    def of(family: Family | None) -> dict[str, Any]:
        """Those of a format."""
        mode, depth, ending, full = step if family is None else family
        return specialized("float64", mode, depth, ending, full=full, odd=True)

    own, of_chunks = of(step), of(chunk)
    return {
        "smaller": own["smaller"],
        "bits_of_sum": own["bits_of_sum"],
        "round_sum": own["quantize_bits"],
        "fires": own["overflow_fired"],
        "round_product": of(product)["quantize_bits"],
        "chunk_bits": of_chunks["bits_of_sum"],
        "round_chunk": of_chunks["quantize_bits"],
        "chunk_fires": of_chunks["overflow_fired"],
    }
