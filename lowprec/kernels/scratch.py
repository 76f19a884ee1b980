"""Memory that a call of a loop works in: allocated here, since compiled code would compile an allocator."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from lowprec.kernels.cpu import SCRATCH


class _Own(threading.local):
    """What each thread of Python keeps for its own calls."""

    def __init__(self) -> None:
        self.memory = np.empty(SCRATCH, np.uint8)
        self.address = self.memory.ctypes.data


_own = _Own()


def own_scratch() -> int:
    """The address of this thread's memory, for one call at a time."""
    return _own.address


@contextlib.contextmanager
def scratches(count: int) -> Iterator[list[int]]:
    """The addresses of memory for so many calls at a time."""
    memory = np.empty((count, SCRATCH), np.uint8)
    first = memory.ctypes.data
    yield [first + row * SCRATCH for row in range(count)]
