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
from lowprec.kernels.cuda.arguments import Packing
from lowprec.kernels.cuda.memory import SIMULATED
from lowprec.kernels.specialize import rebound

if not SIMULATED:
    from numba.cuda.cudadrv.driver import driver

MOST_BLOCKS = 1 << 16
"""Of a grid; each goes on with what is left."""
THREADS = 256


class Loaded(NamedTuple):
    """A kernel on a device, as the driver knows it."""

    context: Any
    function: Any
    owner: object
    """What unloads it."""


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
        self._packing = Packing(self.parameters)
        self._compiled: dict[tuple[int, int], Any] = {}
        self._loaded: dict[int, Loaded] = {}

    def launch(self, queue: Queue, blocks: int, threads: tuple[int, int], *arguments: Any) -> None:
        """Put the kernel on a stream.

        Numba compiles and loads it; what Numba does for a launch, number by number, would take a hundred
        microseconds.
        """
        blocks, threads = queue.grid or (max(1, min(blocks, MOST_BLOCKS)), threads)
        if SIMULATED:
            _simulated(self.function)[blocks, threads](*arguments)
            return
        context, function, _ = self._loaded.get(queue.device) or self._load(queue.device)
        addresses, memory = self._packing.packed(arguments)
        driver.cuCtxPushCurrent(context)
        try:
            driver.cuLaunchKernel(
                function, blocks, 1, 1, *threads, 1, 0, queue.stream, addresses.ctypes.data, 0
            )
        finally:
            driver.cuCtxPopCurrent()
        del memory  # which the driver has copied

    def _load(self, number: int) -> Loaded:
        """The kernel on a device, which is compiled for the first of its capability."""
        chosen, current = cuda.gpus[number], driver.cuCtxGetCurrent()
        try:
            with chosen:
                capability = tuple(chosen.compute_capability)
                if capability not in self._compiled:
                    self._compiled[capability] = _compiled(self.function, types.void(*self.parameters))
                (kernel,) = self._compiled[capability].overloads.values()
                own = kernel.library.get_cufunc()
                self._loaded[number] = Loaded(chosen.get_primary_context().handle, own.handle, own)
        finally:  # Numba replaces another device's the first time
            driver.cuCtxSetCurrent(current)
        return self._loaded[number]


def _compiled(function: Callable[..., None], signature: types.Type) -> Any:
    """A kernel for the current device, kept on disk where there is a folder for it.

    Without optimization at link time, which would make it once more, and not from the PTX that tests look at.
    """
    try:
        return cuda.jit(signature, cache=True, lto=False)(function)
    except (OSError, RuntimeError):  # Numba found no folder, or no room, to write to
        return cuda.jit(signature, lto=False)(function)


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
