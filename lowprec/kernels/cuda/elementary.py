"""The twin of elementary.py's loops: one operation on each element, whose exact result is rounded once.

A thread has four elements of a tile at a time, to which one counter gives the words.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.formats import resolve
from lowprec.kernels import elementary
from lowprec.kernels.cpu import is_drawn
from lowprec.kernels.cuda.elementwise import described
from lowprec.kernels.cuda.memory import INSTRUCTIONS, load, root, store
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin, device, tuple_of
from lowprec.kernels.cuda.words import words_of
from lowprec.kernels.exact import FUSE, ROOT
from lowprec.kernels.layout import Integers
from lowprec.kernels.numbers import MODES
from lowprec.kernels.operate import OPERATIONS, is_quick
from lowprec.kernels.operations import is_unsafe, result_of, rounded_result
from lowprec.kernels.philox import LANES, TILE
from lowprec.kernels.scalar import COUNT, U32, U64, quantize_bits
from lowprec.kernels.specialize import WIDTHS, compiled_mode, rebound, specialized
from lowprec.kernels.sums import from_source, to_source
from lowprec.modes import Rounding

HOW: dict[str, Any] = {"compiler": device, "instructions": INSTRUCTIONS | {"root": root}}

exactly = to_odd = make = quantize_bits
"""What each kernel has its own of."""
_LAST = {True: "quantize_bits", False: "rounded_result"}
"""What rounds a result to the format, by whether the way is quick."""


@cache
def operating(
    operation: int, carrier: str, mode: int, depth: int, ending: int, full: bool, quick: bool
) -> Twin:
    """The kernel of an operation on contiguous numbers of a carrier, and of a format's depth and ending.

    ``quick`` says whether results rounded to odd in binary64 tell how they are rounded; else significands
    are rounded, and ``unknown`` is an address where 1 is left if more of one would have to be known.
    """
    dtype, drawn = WIDTHS[carrier].memory, is_drawn(mode)
    binary, ternary, double = operation != ROOT, operation == FUSE, carrier == "float64"

    def one(x, y, z, out, unknown, j, down, ceiling, numbers):
        """One element."""
        a = b = c = U64(from_source(U64(load(x, j, dtype))))
        if binary:
            b = U64(from_source(U64(load(y, j, dtype))))
        if ternary:
            c = U64(from_source(U64(load(z, j, dtype))))
        if quick:
            bits = result_of(a, b, c, down)
            if double and is_unsafe(a, b, c) != U64(0):
                significand, place, negative = exactly(a, b, c, down != 0)
                bits = to_odd(significand, place, negative)
            bits = quantize_bits(bits, ceiling, numbers)
        else:
            significand, place, negative = exactly(a, b, c, down != 0)
            bits, more = rounded_result(significand, place, negative, ceiling, numbers)
            if more:
                store(unknown, 0, np.uint8(1), np.uint8)
        store(out, j, bits if double else to_source(bits), dtype)

    def kernel(x, y, z, out, unknown, down, size, numbers, seed_address, stream):
        seed = np.uint64(load(seed_address, 0, np.int64)) if drawn else np.uint64(0)
        for n in range(cuda.grid(1), ((size - 1) // TILE + 1) * LANES, cuda.gridsize(1)):
            w0 = w1 = w2 = w3 = U32(0)
            if drawn:
                w0, w1, w2, w3 = words_of(seed, np.uint64(np.int64(stream)), np.uint64(n))
            j = n // LANES * TILE + n % LANES
            for quarter in range(4):
                word = w0 if quarter == 0 else w1 if quarter == 1 else w2 if quarter == 2 else w3
                if j < size:
                    make(x, y, z, out, unknown, j, down, U32(~word), numbers)
                j += LANES

    if quick:
        last = specialized("float64", mode, depth, ending, full=full, **HOW)
    else:
        last = elementary.roundings_of(mode, ending, full=full, **HOW)
    own = elementary.operations_of(operation, carrier, **HOW)
    own = {**own, _LAST[quick]: last[_LAST[quick]]}
    decisions = {"make": device(rebound(one, {**globals(), **own}))}
    parameters = (types.int64,) * 7 + (tuple_of(np.uint64, COUNT), types.int64, types.int64)
    return Twin(parameters, kernel, decisions, operation, carrier, mode, depth, ending, full, quick)


def operate(
    queue: Queue, operation: str, operands: Sequence[int], out: int, unknown: int, carrier: str, size: int,
    format: str, rounding: str, random_bits: int, noise: Integers,
) -> None:  # fmt: skip
    """Write the results of one operation on contiguous operands, all of the carrier.

    The arguments are those of the CPU's function. ``noise`` is the address of the seed, and the stream;
    ``unknown`` is the address of a byte that becomes 1 where the CPU's function would give False.
    """
    if not size:
        return
    parsed, mode = resolve(format), Rounding(rounding)
    numbers, depth, ending = described(parsed, mode, random_bits, "float64", queue)
    x, y, z = (*operands, operands[0], operands[0])[:3]
    twin = operating(
        OPERATIONS[operation], carrier, compiled_mode(MODES[mode], depth, flags=False), depth, ending,
        random_bits == 32, is_quick(parsed, mode, random_bits),
    )  # fmt: skip
    down = int(mode is Rounding.DOWN)
    blocks = -(-size // (4 * THREADS))
    twin.launch(queue, blocks, (THREADS, 1), x, y, z, out, unknown, down, size, numbers, *noise)
