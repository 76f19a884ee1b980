"""Kernels of CUDA devices in Numba's simulator: a queue on the host's memory."""

import os
import sys
import threading

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hard_inputs import hard_values

from lowprec.formats import Format

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
EXECUTED = os.environ.get("RUN_PTX") == "1" and not SIMULATED
"""Whether the machine for PTX runs what the simulator runs else."""
simulated = [
    pytest.mark.cudasim,
    pytest.mark.skipif(
        not (SIMULATED or EXECUTED), reason="needs NUMBA_ENABLE_CUDASIM=1 or RUN_PTX=1, and the extra `cuda`"
    ),
]
"""The marks of a module of such tests."""
if SIMULATED:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    sys.setswitchinterval(1e-4)  # the simulator asks its threads without end how far they are

    class _Allocations(dict):
        """Shared arrays by the line that asks for them: who finds none makes one before others look.

        The simulator lets two threads of a block make one each, of which the second replaces the first.
        """

        def __init__(self) -> None:
            super().__init__()
            self._lock = threading.Lock()

        def get(self, key):
            self._lock.acquire()
            found = super().get(key)
            if found is not None:
                self._lock.release()
            return found

        def __setitem__(self, key, value) -> None:
            super().__setitem__(key, value)
            self._lock.release()

    _begin = FakeCUDAShared.__init__

    def _init(self, dynshared_size) -> None:
        _begin(self, dynshared_size)
        self._allocations = _Allocations()

    FakeCUDAShared.__init__ = _init
Grid = tuple[int, tuple[int, int]] | None
GRIDS: list[Grid] = [None, (1, (1, 1)), (3, (5, 2)), (2, (32, 1))]
"""Blocks, and threads of a block: what suits the work, one thread, odd numbers, one warp."""
STRIDED = {
    "transposed": lambda x: x.t(),
    "every other": lambda x: x[::2, 1::3],
    "channels last": lambda x: x.reshape(4, 6, 5, 3).to(memory_format=torch.channels_last),
    "permuted": lambda x: x.reshape(2, 3, 4, 5, 3).permute(4, 1, 3, 0, 2)[:, ::2],
    "overlapping": lambda x: x[:1].expand(7, -1),
    "0-d": lambda x: x[0, 0],
}
"""Views of a matrix of 18 rows and 20 columns."""


def queue(grid: Grid = None):
    """A queue of the simulated device."""
    from lowprec.kernels.cuda.twin import Memory, Queue

    def allocate(count: int) -> Memory:
        """Memory as a device gives it: with what was there before."""
        memory = np.full(count, 0xA5, np.uint8)
        return Memory(memory.ctypes.data, memory)

    def upload(data: npt.NDArray[np.uint8]) -> Memory:
        """A copy."""
        memory = data.copy()
        return Memory(memory.ctypes.data, memory)

    return Queue(0, 0, allocate, upload, grid)


def same_bits(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Whether two tensors hold the same patterns, shape and type."""
    word = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[want.element_size()]
    alike = got.shape == want.shape and got.dtype == want.dtype
    return alike and torch.equal(got.contiguous().view(word), want.contiguous().view(word))


def in_carrier(format: Format, carrier: torch.dtype, count: int) -> torch.Tensor:
    """About so many hard inputs of a format."""
    values = torch.from_numpy(hard_values(format, str(carrier).removeprefix("torch.")).copy())
    return values[:: max(1, len(values) // count)].to(carrier)
