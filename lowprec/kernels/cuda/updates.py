"""The twins of the loops over what an optimizer updates: in place, and whole tensors at a time.

Square roots are rounded as IEEE 754 says. What is rounded before and after an update are launches of others.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.kernels.cuda.memory import INSTRUCTIONS, add_to, load, root, store
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin, device, tuple_of
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
from lowprec.kernels.updates import PATTERNS, UNIT, mixed, mixer


@cache
def descending(carrier: str, kind: Descent) -> Twin:
    """The kernel of SGD; its one state is the momentum."""
    number, momentum, read = np.dtype(carrier).type, kind.momentum, kind.momentum and not kind.begins

    def kernel(gradient, weight, buffer, constants, size):
        begin = (cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x
        for i in range(begin, size, cuda.gridDim.x * cuda.blockDim.y * cuda.blockDim.x):
            before = load(buffer, i, number) if read else number(0)
            after, velocity = descended(load(gradient, i, number), load(weight, i, number), before, constants)
            if momentum:
                store(buffer, i, velocity, number)
            store(weight, i, after, number)

    decisions = steps_of(carrier, kind, device, INSTRUCTIONS)
    parameters = *(types.int64,) * 3, tuple_of(number, CONSTANTS), types.int64
    return Twin(parameters, kernel, {"descended": decisions["descended"]}, carrier, *kind)


@cache
def averaging(carrier: str, kind: Moments) -> Twin:
    """The kernel of Adam and AdamW; the states are the first moment, the second, and the largest second."""
    number, amsgrad = np.dtype(carrier).type, kind.amsgrad

    def kernel(gradient, weight, first_moment, second_moment, largest, constants, size):
        begin = (cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x
        for i in range(begin, size, cuda.gridDim.x * cuda.blockDim.y * cuda.blockDim.x):
            origin, first, second = moved(
                load(gradient, i, number), load(weight, i, number), load(first_moment, i, number),
                load(second_moment, i, number), constants,
            )  # fmt: skip
            store(first_moment, i, first, number)
            store(second_moment, i, second, number)
            if amsgrad:
                second = largest_so_far(load(largest, i, number), second)
                store(largest, i, second, number)
            store(weight, i, stepped(origin, first, root(second), constants), number)

    decisions = steps_of(carrier, kind, device, INSTRUCTIONS)
    own = {name: decisions[name] for name in ("moved", "largest_so_far", "stepped")}
    parameters = *(types.int64,) * 5, tuple_of(number, CONSTANTS), types.int64
    return Twin(parameters, kernel, own, carrier, *kind)


@cache
def digesting(itemsize: int) -> Twin:
    """The kernel that adds each pattern, mixed with its place, to the sum of its unit."""
    pattern: Any = PATTERNS[itemsize]
    word: Any = np.uint64 if itemsize == 8 else np.uint32

    def kernel(x, out, size):
        own = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        for unit in range(cuda.blockIdx.x, (size + UNIT - 1) // UNIT, cuda.gridDim.x):
            total = np.uint64(0)
            first = unit * UNIT
            for j in range(own, min(UNIT, size - first), cuda.blockDim.x * cuda.blockDim.y):
                total = np.uint64(total + np.uint64(mixed(word(load(x, first + j, pattern)), j)))
            add_to(out, unit, total, np.uint64)

    return Twin((types.int64,) * 3, kernel, mixer(itemsize, device), itemsize)


def update(
    queue: Queue, carrier: str, kind: Descent | Moments, gradient: int, weight: int, states: Sequence[int],
    constants: Sequence[Any], size: int,
) -> None:  # fmt: skip
    """Update contiguous elements and their states in place.

    Args:
        queue: Where the kernel is put.
        carrier: Of all, float32 or float64.
        kind: Of update.
        gradient: The address of the first element.
        weight: Likewise.
        states: Likewise, in the order of ``kind.states``.
        constants: As steps.py numbers them.
        size: How many elements there are.
    """
    if not size:
        return
    twin = descending(carrier, kind) if isinstance(kind, Descent) else averaging(carrier, kind)
    room = 1 if isinstance(kind, Descent) else 3
    number = np.dtype(carrier).type
    addresses = *states, *[0] * (room - len(states))
    numbers = tuple(number(c) for c in (*constants, *[0.0] * (CONSTANTS - len(constants))))
    twin.launch(queue, -(-size // THREADS), (THREADS, 1), gradient, weight, *addresses, numbers, size)


def digest(queue: Queue, x: int, out: int, itemsize: int, size: int) -> None:
    """Add what tells contiguous elements from others to the sums at ``out``, one for each unit."""
    if size:
        digesting(itemsize).launch(queue, -(-size // UNIT), (THREADS, 1), x, out, size)
