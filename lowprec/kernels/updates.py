"""Loops over what an optimizer updates; the arithmetic of one element is that of steps.py.

Square roots are rounded as IEEE 754 says, unless there is the address of a ``root`` of torch's own, which
rounds some of them otherwise.

A loop does one unit of a tensor, ``last`` being ``first + 1``; what it writes, it writes to memory of its
own for a unit. The address of a state that an update has not is never looked at.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import jit
from lowprec.kernels.elementwise import SERIAL_BELOW
from lowprec.kernels.memory import at, get, put, read_apart
from lowprec.kernels.philox import TILE
from lowprec.kernels.specialize import inline, rebound
from lowprec.kernels.steps import (
    CONSTANTS,
    Descent,
    Moments,
    descended,
    largest_so_far,
    moved,
    stepped,
    steps_of,
)
from lowprec.kernels.team import caller
from lowprec.kernels.threads import PARTS, ranges, share

UNIT = 16 * TILE
"""Elements that pass through all operations of a step before the next ones are read."""
ARGUMENTS = 15
"""What each loop takes: the addresses of gradient, weight and three states, of the new weight and states,
of constants, of memory for ROOM bytes, and of the root, or 0; the size; the range of units."""
ROOM = 8 * UNIT + 64
"""Bytes of a unit in binary64, and of the arguments of a call."""

PATTERNS = {2: np.uint16, 4: np.uint32, 8: np.uint64}
"""What holds the bits of an element, by its bytes."""
MODE_OF_ROOT = 0x140102
"""How torch asks for roots: as accurate as they come, subnormals kept, no error reported."""


def loop_of(carrier: str, kind: Descent | Moments) -> Any:
    """The loop of an update."""
    return descent(carrier, kind) if isinstance(kind, Descent) else moments(carrier, kind)


@cache
def descent(carrier: str, kind: Descent) -> Any:
    """The loop of SGD; its one state is the momentum."""
    number, momentum = np.dtype(carrier).type, kind.momentum

    def loop(gradient, weight, buffer, _2, _3, new_weight, new_buffer, _5, _6, constants, _room, _root,
             size, first, last):  # fmt: skip
        start, stop = first * UNIT, min(last * UNIT, size)
        g, p, b = at(gradient, number)[start:stop], at(weight, number), at(buffer, number)
        out, new = at(new_weight, number), at(new_buffer, number)
        c = to_fixed_tuple(at(constants, number), CONSTANTS)
        for k in range(g.size):
            i = np.uintp(k)
            j = np.uintp(np.uintp(start) + i)
            before = read_apart(b, j) if momentum else number(0)
            weight_after, velocity = descended(read_apart(g, i), read_apart(p, j), before, c)
            if momentum:
                put(new, i, velocity)
            put(out, i, weight_after)

    return jit(ARGUMENTS, loop, steps_of(carrier, kind), "descent", carrier, *kind)


@cache
def moments(carrier: str, kind: Moments) -> Any:
    """The loop of Adam and AdamW; the states are the first moment, the second, and the largest second."""
    number, amsgrad = np.dtype(carrier).type, kind.amsgrad
    call = caller(4)

    def loop(gradient, weight, first_moment, second_moment, largest, new_weight, new_first, new_second,
             new_largest, constants, room, root, size, first, last):  # fmt: skip
        start, stop = first * UNIT, min(last * UNIT, size)
        g, p, m = at(gradient, number)[start:stop], at(weight, number), at(first_moment, number)
        v, most, roots = at(second_moment, number), at(largest, number), at(room, number)
        out, new_m = at(new_weight, number), at(new_first, number)
        new_v, new_most = at(new_second, number), at(new_largest, number)
        c = to_fixed_tuple(at(constants, number), CONSTANTS)
        for k in range(g.size):
            i = np.uintp(k)
            j = np.uintp(np.uintp(start) + i)
            origin, near, second = moved(
                read_apart(g, i), read_apart(p, j), read_apart(m, j), read_apart(v, j), c
            )
            put(new_m, i, near)
            put(new_v, i, second)
            if amsgrad:
                second = largest_so_far(read_apart(most, j), second)
                put(new_most, i, second)
            put(roots, i, second)
            put(out, i, origin)
        if root:
            arguments = at(room + UNIT * 8, np.int64)
            arguments[0], arguments[1], arguments[2], arguments[3] = g.size, room, room, MODE_OF_ROOT
            call(root, room + UNIT * 8)
        else:
            for k in range(g.size):
                roots[k] = np.sqrt(roots[k])
        for k in range(g.size):
            i = np.uintp(k)
            put(out, i, stepped(get(out, i), read_apart(new_m, i), read_apart(roots, i), c))

    return jit(ARGUMENTS, loop, steps_of(carrier, kind), "moments", carrier, *kind)


@cache
def copying(carrier: str) -> Any:
    """The loop that copies, or multiplies by a factor where its address is not 0."""
    number = np.dtype(carrier).type

    def loop(x_address, out_address, factor_address, size, first, last):
        start, stop = first * UNIT, min(last * UNIT, size)
        x, out = at(x_address, number)[start:stop], at(out_address, number)[start:stop]
        if factor_address:
            factor = at(factor_address, number)[0]
            for j in range(x.size):
                put(out, np.uintp(j), number(read_apart(x, np.uintp(j)) * factor))
        else:
            for j in range(x.size):
                put(out, np.uintp(j), read_apart(x, np.uintp(j)))

    return jit(6, loop, {}, "copying", carrier)


WORD: Any = np.uint32
PLACE, FIRST, SECOND = np.uint32(0x9E3779B1), np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
ONE, TWO, THREE, NEGATIVE_ZERO = np.uint32(16), np.uint32(15), np.uint32(16), np.uint32(1 << 31)
"""What ``mixed`` holds constant, for 32 bits: odd numbers and shifts of a well-known bijective mixer, whose
every bit moves all of a sum's."""
_OF_64_BITS = {
    "WORD": np.uint64, "PLACE": np.uint64(0x9E3779B97F4A7C15), "FIRST": np.uint64(0xBF58476D1CE4E5B9),
    "SECOND": np.uint64(0x94D049BB133111EB), "ONE": np.uint64(30), "TWO": np.uint64(27),
    "THREE": np.uint64(31), "NEGATIVE_ZERO": np.uint64(1 << 63),
}  # fmt: skip


def mixed(bits, number):
    """A pattern mixed with its place in a unit; -0 is 0, which it equals."""
    bits = WORD(0) if bits == NEGATIVE_ZERO else bits
    word = WORD(bits + WORD(WORD(number + 1) * PLACE))
    word = WORD(WORD(word ^ WORD(word >> ONE)) * FIRST)
    word = WORD(WORD(word ^ WORD(word >> TWO)) * SECOND)
    return WORD(word ^ WORD(word >> THREE))


def mixer(itemsize: int, compiler: Callable[..., Any] = inline) -> dict[str, Any]:
    """The name of the function above, compiled for elements of so many bytes."""
    own = _OF_64_BITS if itemsize == 8 else {"NEGATIVE_ZERO": np.uint32(1 << (8 * itemsize - 1))}
    return {"mixed": compiler(rebound(mixed, {**globals(), **own}))}


@cache
def digesting(itemsize: int) -> Any:
    """The loop that mixes each pattern with its place, and sums that, one sum for each unit."""
    pattern: Any = PATTERNS[itemsize]
    word: Any = np.uint64 if itemsize == 8 else np.uint32
    half, sixteen = word(0xFFFF), word(16)

    def loop(x_address, out_address, size, first_unit, last_unit):
        out = at(out_address, np.uint64)
        for unit in range(first_unit, last_unit):
            x = at(x_address, pattern)[unit * UNIT : min((unit + 1) * UNIT, size)]
            low, high = word(0), word(0)  # of 2^14 halves of 32 bits at most: no sum leaves its lane
            for j in range(x.size):
                found = mixed(word(x[j]), j)
                low = word(low + word(found & half))
                high = word(high + word(found >> sixteen))
            out[unit] = np.uint64(np.uint64(low) + np.uint64(np.uint64(high) << np.uint64(sixteen)))

    return jit(5, loop, mixer(itemsize), "digesting", itemsize)


def digest(x: int, itemsize: int, size: int, threads: int) -> npt.NDArray[np.uint64]:
    """What tells contiguous elements from all that anyone would put in their place: a sum for each unit."""
    units = -(-size // UNIT)
    out = np.empty(units, np.uint64)
    parts = ranges(units, 1 if size < SERIAL_BELOW else PARTS * threads)
    share(digesting(itemsize), [(x, out.ctypes.data, size, *part) for part in parts], threads)
    return out
