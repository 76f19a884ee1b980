"""Elements of a short list over one scale: the steps of its staircase times the scale, made once a group.

An element x becomes the value whose step x / scale reaches. So it is compared with each step times the
scale, rounded up to the carrier, and no element is divided. Where ``far`` of grouped.py holds, that is
done by the hardware's binary32: zeros, infinities and NaN do not show what it does to subnormals. Where
only zeros meet a scale so small that its steps are flushed, all results are flushed to zero as well.
"""

import numpy as np

from lowprec.kernels.lanes import LANES
from lowprec.kernels.memory import constant_at, get, put, read_apart
from lowprec.kernels.scalar import SCALE, U32, U64
from lowprec.kernels.tables import address

STEPS = 15
"""The most steps that pay."""
BOUNDS, OPEN, VALUES_OF_STEPS = 6, 7, 8
"""The entries of numbers, beside the address of the table: offsets of what each step lies at, of 1 where
the value there does not reach it, and of the values: 0, then the least one first. Unused steps lie at NaN."""


def write_stairs(source, target, room, first, count, numbers):
    """Write ``count`` elements of one group from ``first`` on; steps and results are kept in ``room``."""
    make_stairs(room, numbers)
    whole = count // LANES  # a constant length, so that short groups vectorize as well
    for chunk in range(whole):
        start = np.uintp(first + chunk * LANES)
        for lane in range(LANES):
            j = np.uintp(start + np.uintp(lane))
            put(target, j, climbed(get(source, j), room))
    for k in range(first + whole * LANES, first + count):
        j = np.uintp(k)
        put(target, j, climbed(get(source, j), room))


def make_stairs(room, numbers):
    """The steps of a group, rounded up to binary32, and the bits in which its results differ."""
    scale = U64(numbers[SCALE]).view(np.float64)
    bounds, opens = address(numbers, BOUNDS), address(numbers, OPEN)
    values = address(numbers, VALUES_OF_STEPS)
    for k in range(STEPS + 1):
        exact = np.float64(constant_at(bounds, k, np.float64) * scale)  # 29 bits times 24
        near = np.float32(exact)
        wide = np.float64(near)
        pattern = U32(near.view(U32))
        lies_past = (wide > exact) | ((wide == exact) & (constant_at(opens, k, U64) == U64(0)))
        up = U32(pattern + U32(1)) if exact > 0.0 else U32(pattern - U32(1))
        room[k] = pattern if lies_past else up
        below = np.float32(constant_at(values, k, np.float64) * scale).view(U32)
        room[STEPS + 1 + k] = U32(
            below ^ np.float32(constant_at(values, k + 1, np.float64) * scale).view(U32)
        )


def climbed(bits, room):
    """The result of the last step that an element reaches; NaN stays."""
    number = U32(bits).view(np.float32)
    result = read_apart(room, np.uintp(STEPS + 1))
    for k in range(STEPS):
        step = U32(read_apart(room, np.uintp(k))).view(np.float32)
        change = read_apart(room, np.uintp(STEPS + 2 + k))
        result = U32(result ^ (change if number >= step else U32(0)))
    return U32(bits) if number != number else result
