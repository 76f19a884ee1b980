"""The twins of packing.py's loops: each byte and each code by a thread of its own."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.kernels.cuda.memory import load, raise_to, store
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin


@cache
def packing(bits: int) -> Twin:
    """The kernel that makes bytes of ``count`` codes; the largest that does not fit is left at ``excess``."""
    code: Any = np.uint8 if bits <= 8 else np.uint16
    word, width = np.uint32, np.uint32(bits)

    def kernel(codes, packed, excess, count):
        begin = (cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x
        turn = cuda.gridDim.x * cuda.blockDim.y * cuda.blockDim.x
        for byte in range(begin, (count * bits + 7) // 8, turn):
            number = byte * 8 // bits
            place = (
                number * bits - byte * 8
            )  # of a code's lowest bit in this byte; the first may begin before
            held = word(0)
            while place < 8 and number < count:
                found = word(load(codes, number, code))
                if found >> width != word(0):
                    raise_to(excess, 0, found, word)
                held = word(
                    held | (word(found << word(place)) if place >= 0 else word(found >> word(-place)))
                )
                number, place = number + 1, place + bits
            store(packed, byte, held & word(0xFF), np.uint8)

    return Twin((types.int64,) * 4, kernel, {}, bits)


@cache
def unpacking(bits: int) -> Twin:
    """The kernel that takes ``count`` codes out of their bytes."""
    code: Any = np.uint8 if bits <= 8 else np.uint16
    word, mask = np.uint32, np.uint32((1 << bits) - 1)

    def kernel(packed, codes, count):
        begin = (cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x
        for number in range(begin, count, cuda.gridDim.x * cuda.blockDim.y * cuda.blockDim.x):
            byte, place = number * bits // 8, number * bits % 8
            held, end = word(load(packed, byte, np.uint8)), place + bits
            if end > 8:
                held = word(held | word(word(load(packed, byte + 1, np.uint8)) << word(8)))
            if end > 16:
                held = word(held | word(word(load(packed, byte + 2, np.uint8)) << word(16)))
            store(codes, number, word(held >> word(place)) & mask, code)

    return Twin((types.int64,) * 3, kernel, {}, bits)


def pack(queue: Queue, codes: int, packed: int, excess: int, bits: int, count: int) -> None:
    """Write contiguous codes without gaps; raise ``excess``, of 32 bits, to the largest too wide one."""
    if count:
        blocks = -(-count * bits // (8 * THREADS))
        packing(bits).launch(queue, blocks, (THREADS, 1), codes, packed, excess, count)


def unpack(queue: Queue, packed: int, codes: int, bits: int, count: int) -> None:
    """Write the codes that pack was given."""
    if count:
        unpacking(bits).launch(queue, -(-count // THREADS), (THREADS, 1), packed, codes, count)
