"""How many sums inside products overflow: all of them once more, in binary64 rounded to odd.

This runs only for who looks on, so it is one loop for all operands, and for sums in any order. Not counted
are compensated sums, exact ones, those of blocks, and those of which binary64 does not hold enough bits.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.arithmetic import Accumulator, Arithmetic
from lowprec.kernels.cpu import is_drawn, jit
from lowprec.kernels.memory import at
from lowprec.kernels.multiply import SERIAL_BELOW
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.operands import Measure, Operand, pack
from lowprec.kernels.paths import fits_to_odd, path_of
from lowprec.kernels.philox import word_at
from lowprec.kernels.products import ACCUMULATE, CHUNKS, MULTIPLY, Family, specialized_for
from lowprec.kernels.scalar import COUNT, U32, overflow_fired, quantize_bits, smaller
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


class Format(NamedTuple):
    """What a loop reads of a format, and what it is compiled for."""

    memory: npt.NDArray[Any]
    family: Family


class Plan(NamedTuple):
    """The formats of sums, of products and of sums of chunks, where these are rounded; and the order."""

    step: Format
    product: Format | None
    total: Format | None
    pairwise: bool
    chunk: int
    """Products of a chunk."""
    sums: int
    """How many there are: a product that pairwise sums round by itself is one, and so are those of chunks."""


def plan_of(arithmetic: Arithmetic, a: Measure, b: Measure, results: int, depth: int) -> Plan | None:
    """What sums are counted by, of operands that have so much in common; None where they are not counted."""
    if not _is_counted(arithmetic) or not (results * depth == 0 or _is_rounded_once(arithmetic, a, b, depth)):
        return None
    chunk = max(min(arithmetic.chunk, depth) if isinstance(arithmetic.chunk, int) else depth, 1)
    pairwise, mode, bits = arithmetic.order == "pairwise", arithmetic.rounding, arithmetic.random_bits
    product = total = None
    if arithmetic.multiply is not None and arithmetic.multiply_rounding is not None:
        product = _numbers(arithmetic.multiply, arithmetic.multiply_rounding, bits)
    if arithmetic.chunk_accumulate is not None:
        total = _numbers(arithmetic.chunk_accumulate, mode, bits)
    sizes = [min(chunk, depth - start) for start in range(0, depth, chunk)]
    each = sum(max(size - 1, 1) if pairwise else size for size in sizes)
    each += len(sizes) if arithmetic.chunk is not None else 0
    return Plan(_numbers(arithmetic.sum_format, mode, bits), product, total, pairwise, chunk, results * each)


def count(
    a: Operand, b: Operand, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0, threads: int = 1
) -> tuple[int, int] | None:
    """How many sums there are in the products of two batches of matrices, and how many of them overflow.

    None where they are not counted.
    """
    batches, m, depth = a.shape
    n = b.shape[2]
    (left, of_left), (right, of_right) = pack(a, threads), pack(b, threads)
    plan = plan_of(arithmetic, of_left, of_right, batches * m * n, depth)
    if plan is None or not plan.sums:
        return None if plan is None else (0, 0)
    room = plan.chunk if plan.pairwise else 1
    geometry = np.array([m, n, depth, plan.chunk, n * room], np.int64)
    parts = ranges(batches * m, 1 if batches * m * n * depth < SERIAL_BELOW else PARTS * threads)
    scratch = np.empty((len(parts), n * (1 + room)))
    found = np.zeros(len(parts), np.int64)
    fixed = (
        left.ctypes.data, right.ctypes.data,
        *((plan.step if x is None else x).memory.ctypes.data for x in plan[:3]),
        geometry.ctypes.data,
    )  # fmt: skip
    calls = [
        (*fixed, scratch[i:].ctypes.data, found[i:].ctypes.data, *part, seed, stream)
        for i, part in enumerate(parts)
    ]
    families = [None if x is None else x.family for x in plan[1:3]]
    share(_counting(plan.step.family, *families, plan.pairwise), calls, threads)
    return plan.sums, int(found.sum())


def _is_counted(arithmetic: Arithmetic) -> bool:
    """Whether an arithmetic has sums one after the other that can be rounded to odd first."""
    if arithmetic.is_exact or arithmetic.in_blocks or arithmetic.compensation is not None:
        return False
    formats = arithmetic.sum_format, arithmetic.chunk_accumulate
    return all(format is None or fits_to_odd(arithmetic, format) for format in formats)


def _is_rounded_once(arithmetic: Arithmetic, a: Measure, b: Measure, depth: int) -> bool:
    """Whether binary64 rounded to odd tells how each sum is rounded."""
    try:
        return path_of(arithmetic, a, b, depth).depth != WIDE
    except ValueError:  # integers.py may know a result without any of its sums
        return False


def _numbers(format: Accumulator, rounding: Rounding, random_bits: int | None) -> Format:
    """A format and mode in binary64."""
    bits = 32 if random_bits is None or not rounding.takes_random_bits else random_bits
    memory, depth, ending = describe(format, rounding, bits, "float64")
    return Format(memory, Family(MODES[rounding], depth, ending, bits == 32))


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

    return jit(12, loop, decisions_of(step, product, chunk), "overflows", step, product, chunk, pairwise)


def decisions_of(
    step: Family, product: Family | None, chunk: Family | None, **compiler: Any
) -> dict[str, Any]:
    """The functions that a loop calls; ``compiler`` is what ``specialized`` takes for another one."""

    def of(family: Family | None) -> dict[str, Any]:
        """Those of a format."""
        return specialized_for("float64", step if family is None else family, odd=True, **compiler)

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
