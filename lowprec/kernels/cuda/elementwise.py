"""The twins of cpu.py's loops: formats whose values do not depend on other elements, and their codes."""

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.formats import FloatingPoint, Format, resolve
from lowprec.kernels.cpu import CODES, DECODED, FLAGS, is_drawn
from lowprec.kernels.cuda.memory import INSTRUCTIONS, load, store
from lowprec.kernels.cuda.tables import on_device
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin, device, tuple_of
from lowprec.kernels.cuda.walks import RUN, outer_type, walk_of
from lowprec.kernels.cuda.words import word_at, words_of
from lowprec.kernels.layout import Integers, layout, row_major
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.philox import LANES, TILE
from lowprec.kernels.posits import TAPERED
from lowprec.kernels.scalar import COUNT, DEEP, NEAREST_EVEN, PLAIN, U32, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS, compiled_mode, is_listed, rebound, specialized
from lowprec.kernels.walk import (
    INDEX_OFFSET,
    INDEX_STEP,
    LENGTH,
    OUT_STEP,
    SEGMENT,
    SEGMENTS,
    X_STEP,
    locate,
)
from lowprec.modes import Rounding

smaller_of = device(smaller)
run_at = device(locate)


def _ceiling_at(seed, stream, word, index):
    """The complement of one element's random word."""
    drawn = word_at(seed, np.uint64(np.int64(stream)), np.uint64(index)) if word < 0 else U32(word)
    return U32(~drawn)


ceiling_at = device(_ceiling_at)
write = write_four = quantize_bits
"""What makes one element, and four; a kernel has its own. (Numba's disk cache would know a kernel by what it
closes over, of which a compiled function differs from process to process.)"""


@cache
def quantizing(
    carrier: str, mode: int, depth: int, ending: int, kind: int, full: bool, dimensions: int
) -> Twin:
    """The kernel for formats whose values do not depend on other elements."""
    drawn = is_drawn(mode)
    wide = drawn and is_listed(depth)  # patterns of the carrier, decided about in binary64
    dtype, U = WIDTHS[carrier].memory, np.uint64 if wide else WIDTHS[carrier].unsigned
    result = np.uint8 if kind == FLAGS else dtype
    size, room = np.dtype(dtype).itemsize, np.dtype(result).itemsize

    def four(x, out, x_step, out_step, j, apart, begin, end, c0, c1, c2, c3, numbers):
        """Four elements so far apart: all are read before the first is written, which no read waits for."""
        j1, j2, j3 = j + apart, j + 2 * apart, j + 3 * apart
        in0, in1, in2, in3 = begin <= j < end, begin <= j1 < end, begin <= j2 < end, begin <= j3 < end
        b0 = load(x, j * x_step, dtype) if in0 else dtype(0)
        b1 = load(x, j1 * x_step, dtype) if in1 else dtype(0)
        b2 = load(x, j2 * x_step, dtype) if in2 else dtype(0)
        b3 = load(x, j3 * x_step, dtype) if in3 else dtype(0)
        if in0:
            store(out, j * out_step, write(U(b0), c0, numbers), result)
        if in1:
            store(out, j1 * out_step, write(U(b1), c1, numbers), result)
        if in2:
            store(out, j2 * out_step, write(U(b2), c2, numbers), result)
        if in3:
            store(out, j3 * out_step, write(U(b3), c3, numbers), result)

    computed, source = ("float64", carrier) if wide else (carrier, None)
    decisions = specialized(
        computed, mode, depth, ending, full=full, source=source, compiler=device, instructions=INSTRUCTIONS
    )
    own = {"write": decisions["overflow_fired" if kind == FLAGS else "quantize_bits"]}
    own["write_four"] = device(rebound(four, {**globals(), **own}))

    def kernel(x, out, numbers, run, outer, units, seed_address, stream, word):
        seed = np.uint64(load(seed_address, 0, np.int64)) if drawn and word < 0 else np.uint64(0)
        x_step, out_step, index_step = run[X_STEP], run[OUT_STEP], run[INDEX_STEP]
        row = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
        for unit in range(row, units, cuda.gridDim.x * cuda.blockDim.y):
            x_at, out_at, index_at, _ = run_at(outer, unit // run[SEGMENTS])
            begin = unit % run[SEGMENTS] * run[SEGMENT]
            end = smaller_of(begin + run[SEGMENT], run[LENGTH])
            index_at += run[INDEX_OFFSET]
            if drawn and word < 0 and index_step == 1:
                # A counter gives the words of four elements, of which each has its own quarter of a tile.
                first, last = index_at + begin, index_at + end
                counters = ((last - 1) // TILE + 1) * LANES
                for n in range(first // TILE * LANES + cuda.threadIdx.x, counters, cuda.blockDim.x):
                    w0, w1, w2, w3 = words_of(seed, np.uint64(np.int64(stream)), np.uint64(n))
                    j = n // LANES * TILE + n % LANES - index_at
                    write_four(
                        x + x_at * size, out + out_at * room, x_step, out_step, j, LANES, begin, end,
                        U32(~w0), U32(~w1), U32(~w2), U32(~w3), numbers,
                    )  # fmt: skip
            else:
                apart = cuda.blockDim.x
                for j in range(begin + cuda.threadIdx.x, end, 4 * apart):
                    c0 = c1 = c2 = c3 = U32(0)
                    if drawn:
                        index, way = index_at + j * index_step, apart * index_step
                        c0 = ceiling_at(seed, stream, word, index)
                        c1 = ceiling_at(seed, stream, word, index + way)
                        c2 = ceiling_at(seed, stream, word, index + 2 * way)
                        c3 = ceiling_at(seed, stream, word, index + 3 * way)
                    write_four(
                        x + x_at * size, out + out_at * room, x_step, out_step, j, apart, begin, end,
                        c0, c1, c2, c3, numbers,
                    )  # fmt: skip

    walk = RUN, outer_type(dimensions), types.int64
    parameters = types.int64, types.int64, tuple_of(U, COUNT), *walk, *(types.int64,) * 3
    return Twin(parameters, kernel, own, carrier, mode, depth, ending, kind, full, dimensions)


@cache
def encoding(carrier: str, kind: int, floating: bool, code: str, depth: int = DEEP) -> Twin:
    """The kernel from a format's values to their codes, or back; both contiguous."""
    dtype, U = WIDTHS[carrier].memory, WIDTHS[carrier].unsigned
    coded = np.dtype(code).type
    given, result = (dtype, coded) if kind == CODES else (coded, dtype)

    def kernel(x, out, numbers, size):
        for j in range(cuda.grid(1), size, cuda.gridsize(1)):
            store(out, j, write(U(load(x, j, given)), numbers), result)

    decisions = specialized(carrier, NEAREST_EVEN, depth, PLAIN, compiler=device, instructions=INSTRUCTIONS)
    names = ("floating_code", "floating_bits") if floating else ("integer_code", "integer_bits")
    own = {"write": decisions[names[kind != CODES]]}
    parameters = types.int64, types.int64, tuple_of(U, COUNT), types.int64
    return Twin(parameters, kernel, own, carrier, kind, floating, code, depth)


_described = lru_cache(maxsize=1024)(describe)


def described(
    format: Format, rounding: Rounding, random_bits: int, carrier: str, queue: Queue
) -> tuple[tuple[Any, ...], int, int]:
    """The numbers of a format without groups as kernels take them, its depth and ending."""
    numbers, depth, ending = _described(format, rounding, random_bits, carrier)
    if depth > TAPERED:
        numbers = on_device(numbers, queue)
    return tuple(numbers), depth, ending


def quantize(
    queue: Queue, x: int, out: int, carrier: str, shape: Integers, x_strides: Integers, out_strides: Integers,
    format: Format | str, rounding: str, random_bits: int, kind: int, noise: Integers,
    index_offset: int = 0, index_strides: Integers | None = None,
) -> None:  # fmt: skip
    """Quantize; the arguments are dispatch.py's. ``noise`` is the address of the seed, stream and word."""
    mode, parsed = Rounding(rounding), resolve(format)
    drawn = is_drawn(MODES[mode])
    plan = layout(
        shape,
        x_strides,
        out_strides,
        (index_strides or row_major(shape)) if drawn else None,
        index_offset,
        None,
    )
    if not plan.units:
        return
    numbers, depth, ending = described(parsed, mode, random_bits, carrier, queue)
    way = walk_of(plan)
    compiled = compiled_mode(MODES[mode], depth, flags=kind == FLAGS)
    twin = quantizing(carrier, compiled, depth, ending, kind, random_bits == 32, way.dimensions)
    twin.launch(queue, way.blocks, way.threads, x, out, numbers, *way.arguments, *noise)


def encode(
    queue: Queue, x: int, out: int, carrier: str, code: str, size: int, format: Format | str, *,
    decode: bool = False,
) -> None:  # fmt: skip
    """Write the codes of contiguous values of a format; with ``decode`` the reverse."""
    if not size:
        return
    parsed = resolve(format)
    numbers, depth, _ = described(parsed, Rounding.NEAREST_EVEN, 32, carrier, queue)
    twin = encoding(
        carrier, DECODED if decode else CODES, isinstance(parsed, FloatingPoint), code,
        depth if is_listed(depth) else DEEP,
    )  # fmt: skip
    twin.launch(queue, -(-size // THREADS), (THREADS, 1), x, out, numbers, size)
