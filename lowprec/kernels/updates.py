"""The arithmetic of optimizers, operation by operation as torch's loops over one tensor have it.

Each operation is rounded, but ``x + a * y`` once, by an instruction. Square roots are rounded as IEEE
754 says, unless there is the address of a ``root`` of torch's own, which rounds some of them otherwise.

A loop does one unit of a tensor, ``last`` being ``first + 1``; what it writes, it writes to memory of its
own for a unit. The address of a state that an update has not is never looked at.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.kernels.cpu import jit
from lowprec.kernels.elementwise import SERIAL_BELOW
from lowprec.kernels.fused import fused
from lowprec.kernels.memory import at, get, put, read_apart
from lowprec.kernels.philox import TILE
from lowprec.kernels.team import caller
from lowprec.kernels.threads import PARTS, ranges, share

UNIT = 16 * TILE
"""Elements that pass through all operations of a step before the next ones are read."""
ARGUMENTS = 15
"""What each loop takes: the addresses of gradient, weight and three states, of the new weight and states,
of constants, of memory for ROOM bytes, and of the root, or 0; the size; the range of units."""
ROOM = 8 * UNIT + 64
"""Bytes of a unit in binary64, and of the arguments of a call."""

# The constants, all of the carrier: those of SGD, and those of Adam.
DECAY, MOMENTUM, UNDAMPED, NEGATIVE_RATE = range(4)
SHRINK, FIRST_WEIGHT, SECOND_FACTOR, SECOND_WEIGHT, CORRECTION, EPSILON, STEP = range(1, 8)
CONSTANTS = 8
MODE_OF_ROOT = 0x140102
"""How torch asks for roots: as accurate as they come, subnormals kept, no error reported."""


class Descent(NamedTuple):
    """What a loop of SGD holds constant."""

    decay: bool
    momentum: bool
    nesterov: bool
    maximize: bool

    @property
    def states(self) -> tuple[str, ...]:
        """Their names, in the order of the arguments."""
        return ("momentum_buffer",) if self.momentum else ()

    def loop(self, carrier: str) -> Any:
        """The loop for a carrier."""
        return descent(carrier, self)


class Moments(NamedTuple):
    """What a loop of Adam or AdamW holds constant."""

    decay: bool
    decoupled: bool
    amsgrad: bool
    maximize: bool
    far: bool
    """Whether the first moment moves by half of its way to the gradient, or more."""

    @property
    def states(self) -> tuple[str, ...]:
        """Their names, in the order of the arguments."""
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if self.amsgrad else 2]

    def loop(self, carrier: str) -> Any:
        """The loop for a carrier."""
        return moments(carrier, self)


@cache
def descent(carrier: str, kind: Descent) -> Any:
    """The loop of SGD; its one state is the momentum."""
    number = np.dtype(carrier).type
    decay, momentum, nesterov, maximize = kind

    def loop(gradient, weight, buffer, _2, _3, new_weight, new_buffer, _5, _6, constants, _room, _root,
             size, first, last):  # fmt: skip
        start, stop = first * UNIT, min(last * UNIT, size)
        g, p, b = at(gradient, number)[start:stop], at(weight, number), at(buffer, number)
        out, new, c = at(new_weight, number), at(new_buffer, number), at(constants, number)
        decayed, kept, undamped, rate = c[DECAY], c[MOMENTUM], c[UNDAMPED], c[NEGATIVE_RATE]
        for k in range(g.size):
            i = np.uintp(k)
            j = np.uintp(np.uintp(start) + i)
            way, origin = read_apart(g, i), read_apart(p, j)
            way = -way if maximize else way
            if decay:
                way = fused(origin, decayed, way)
            if momentum:
                velocity = fused(way, undamped, number(read_apart(b, j) * kept))
                put(new, i, velocity)
                way = fused(velocity, kept, way) if nesterov else velocity
            put(out, i, fused(way, rate, origin))

    return jit(ARGUMENTS, loop, {}, "descent", carrier, *kind)


@cache
def moments(carrier: str, kind: Moments) -> Any:
    """The loop of Adam and AdamW; the states are the first moment, the second, and the largest second."""
    number = np.dtype(carrier).type
    decay, decoupled, amsgrad, maximize, far = kind
    call = caller(4)

    def loop(gradient, weight, first_moment, second_moment, largest, new_weight, new_first, new_second,
             new_largest, constants, room, root, size, first, last):  # fmt: skip
        start, stop = first * UNIT, min(last * UNIT, size)
        g, p, m = at(gradient, number)[start:stop], at(weight, number), at(first_moment, number)
        v, most, roots = at(second_moment, number), at(largest, number), at(room, number)
        out, new_m = at(new_weight, number), at(new_first, number)
        new_v, new_most, c = at(new_second, number), at(new_largest, number), at(constants, number)
        decayed, shrink, near, second_factor = c[DECAY], c[SHRINK], c[FIRST_WEIGHT], c[SECOND_FACTOR]
        second_weight, correction, epsilon, step = c[SECOND_WEIGHT], c[CORRECTION], c[EPSILON], c[STEP]
        for k in range(g.size):
            i = np.uintp(k)
            j = np.uintp(np.uintp(start) + i)
            way, origin, before = read_apart(g, i), read_apart(p, j), read_apart(m, j)
            way = -way if maximize else way
            if decay and decoupled:
                origin = number(origin * shrink)
            if decay and not decoupled:
                way = fused(origin, decayed, way)
            distance = number(way - before)
            if far:
                put(new_m, i, fused(distance, number(near - number(1)), way))
            else:
                put(new_m, i, fused(distance, near, before))
            second = fused(number(second_weight * way), way, number(read_apart(v, j) * second_factor))
            put(new_v, i, second)
            if amsgrad:
                old = read_apart(most, j)
                second = old if second <= old or old != old else second
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
            divisor = number(number(read_apart(roots, i) / correction) + epsilon)
            put(out, i, number(get(out, i) + number(number(step * read_apart(new_m, i)) / divisor)))

    return jit(ARGUMENTS, loop, {}, "moments", carrier, *kind)


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


@cache
def digesting(itemsize: int) -> Any:
    """The loop that mixes each pattern with its place, and sums that, one sum for each unit."""
    pattern: Any = {2: np.uint16, 4: np.uint32, 8: np.uint64}[itemsize]
    word: Any = np.uint64 if itemsize == 8 else np.uint32
    negative_zero = word(1 << (8 * itemsize - 1))
    # Odd numbers and shifts of well-known bijective mixers: a pattern's every bit moves all of the sum's.
    first, second, place = (word(n) for n in (
        (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15)
        if itemsize == 8 else (0x7FEB352D, 0x846CA68B, 0x9E3779B1)
    ))  # fmt: skip
    shifts = (30, 27, 31) if itemsize == 8 else (16, 15, 16)
    one, two, three = (word(shift) for shift in shifts)
    half, sixteen = word(0xFFFF), word(16)

    def loop(x_address, out_address, size, first_unit, last_unit):
        out = at(out_address, np.uint64)
        for unit in range(first_unit, last_unit):
            x = at(x_address, pattern)[unit * UNIT : min((unit + 1) * UNIT, size)]
            low, high = word(0), word(0)  # of 2^14 halves of 32 bits at most: no sum leaves its lane
            for j in range(x.size):
                bits = word(x[j])
                bits = word(0) if bits == negative_zero else bits  # which equals zero
                mixed = word(bits + word(word(j + 1) * place))
                mixed = word(word(mixed ^ word(mixed >> one)) * first)
                mixed = word(word(mixed ^ word(mixed >> two)) * second)
                mixed = word(mixed ^ word(mixed >> three))
                low = word(low + word(mixed & half))
                high = word(high + word(mixed >> sixteen))
            out[unit] = np.uint64(np.uint64(low) + np.uint64(np.uint64(high) << np.uint64(sixteen)))

    return jit(5, loop, {}, "digesting", itemsize)


def digest(x: int, itemsize: int, size: int, threads: int) -> npt.NDArray[np.uint64]:
    """What tells contiguous elements from all that anyone would put in their place: a sum for each unit."""
    units = -(-size // UNIT)
    out = np.empty(units, np.uint64)
    parts = ranges(units, 1 if size < SERIAL_BELOW else PARTS * threads)
    share(digesting(itemsize), [(x, out.ctypes.data, size, *part) for part in parts], threads)
    return out
