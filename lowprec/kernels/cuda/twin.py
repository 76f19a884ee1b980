"""Kernels of the device: compiled around their decisions, and launched on a stream.

A kernel is a plain function of integers and tuples of them, so that a launch copies nothing to the device:
formats travel as tuples of numbers, tensors as addresses. No result depends on how many blocks and threads
there are. In the simulator kernels and decisions stay Python functions, which NumPy's integers run.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import cuda, types

from lowprec.kernels.cpu import source_hash
from lowprec.kernels.cuda.memory import SIMULATED
from lowprec.kernels.specialize import rebound

Kernels = dict[tuple[int, int], Any]
LEAST_BLOCKS, MOST_BLOCKS = 128, 1 << 16
"""Of a grid. Numba warns of fewer, and one without work ends at once; each goes on with what is left."""
THREADS = 256


class Memory(NamedTuple):
    """Some memory of a device."""

    address: int
    owner: object
    """What keeps it: work that was put on a stream before this is let go may still use it."""


class Queue(NamedTuple):
    """Where work is put: a stream of a device."""

    device: int
    stream: int
    allocate: Callable[[int], Memory]
    """Makes so many bytes of its memory."""
    upload: Callable[[npt.NDArray[np.uint8]], Memory]
    """Copies bytes to its memory: once for each table, never for a call."""
    grid: tuple[int, tuple[int, int]] | None = None
    """Blocks, and threads of a block, in place of those that suit the work."""


def device(function: Callable[..., Any]) -> Any:
    """Compile a decision into the kernels that call it."""
    return function if SIMULATED else cuda.jit(device=True)(function)


class Twin:
    """A kernel of one kind, compiled when a device first needs it.

    Args:
        parameters: The types of its arguments.
        body: The function.
        decisions: What it calls, by name: these and no others, whose constants are not the body's.
        identity: What it was specialized for, and what tells it from all others.
    """

    def __init__(
        self,
        parameters: Sequence[types.Type],
        body: Callable[..., None],
        decisions: dict[str, Any],
        *identity: object,
    ) -> None:
        self.parameters = tuple(parameters)
        self.function = rebound(body, {**body.__globals__, **decisions})
        digest = hashlib.sha256(repr((_hash(), *identity)).encode()).hexdigest()
        self.function.__qualname__ = f"{body.__qualname__.split('.')[0]}_{digest[:16]}"
        self._compiled: Kernels = {}

    def launch(self, queue: Queue, blocks: int, threads: tuple[int, int], *arguments: Any) -> None:
        """Put the kernel on a stream."""
        blocks, threads = queue.grid or (max(1, min(blocks, MOST_BLOCKS)), threads)
        if SIMULATED:
            _simulated(self.function)[blocks, threads](*arguments)
            return
        with cuda.gpus[queue.device]:
            stream = cuda.external_stream(queue.stream) if queue.stream else cuda.default_stream()
            self._here()[max(blocks, LEAST_BLOCKS), threads, stream](*arguments)

    def _here(self) -> Any:
        """The kernel compiled for the current device."""
        capability = cuda.get_current_device().compute_capability
        if capability not in self._compiled:
            signature = types.void(*self.parameters)
            try:
                made = cuda.jit(signature, cache=True)(self.function)
            except RuntimeError:  # Numba found no folder to write to
                made = cuda.jit(signature)(self.function)
            self._compiled[capability] = made
        return self._compiled[capability]


@cache
def _hash() -> str:
    """A hash of all files whose functions kernels call."""
    digest = hashlib.sha256(source_hash().encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _simulated(function: Callable[..., None]) -> Any:
    """A kernel in the simulator: its integers wrap around without a warning, as a device's do."""
    names = function.__globals__
    names["_body"], names["_quiet"] = function, np.errstate
    return cuda.jit(rebound(_quietly, names))


def _quietly(*arguments):
    """What each simulated thread runs."""
    with _quiet(all="ignore"):  # noqa: F821
        _body(*arguments)  # noqa: F821


def tuple_of(number: Any, count: int) -> types.Type:
    """The type of so many numbers of a type of NumPy's."""
    return types.UniTuple(getattr(types, np.dtype(number).name), count)
