"""Calls of a kernel, shared among the threads that the rest of the process computes with.

Those are torch's own: its OpenMP workers spin for a while after each operator, and any other thread
would have to share a core with one of them. So the calls are handed to the OpenMP runtime that torch
has loaded, as one parallel region, which waits for no lock of Python. Where there is none, and in a
forked child, which an OpenMP runtime does not survive, a pool of Python threads does the same.

Not Numba's ``prange``: its OpenMP is another runtime, with workers of its own, and kills a forked child;
its workqueue aborts when two Python threads enter.
"""

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lowprec.kernels.team import member

Call = tuple[int, ...]
"""The arguments of one call of a kernel: signed 64-bit integers."""

PARTS = 4
"""Calls for each thread: enough to even out, few enough that taking one costs little."""

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}
_library: Path | None = None
_forked = False


def use_openmp_of(library: Path) -> None:
    """From now on share among the OpenMP workers of a library that is loaded already, if it has any."""
    global _library
    _library = library
    _region.cache_clear()


def _forget() -> None:
    """In a forked child: the parent's threads are not here, and its lock may be held."""
    global _lock, _forked
    _lock, _forked = threading.Lock(), True
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@lru_cache(maxsize=1)
def _region() -> Callable[..., None] | None:
    """The function that runs a parallel region; both GNU's and LLVM's runtime have it by this name."""
    if _library is None:
        return None
    try:
        region: Any = ctypes.CDLL(str(_library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    region.restype = None
    region.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    return region


def layer() -> str:
    """Which threads share the work."""
    return "Python threads" if _forked or _region() is None else "the OpenMP threads of torch"


def ranges(units: int, parts: int) -> list[tuple[int, int]]:
    """At most so many ranges, none empty, that make up ``range(units)``."""
    parts = max(1, min(parts, units))
    return [(units * part // parts, units * (part + 1) // parts) for part in range(parts)]


def share(kernel: Any, calls: Sequence[Call], threads: int) -> None:
    """Make every call of a compiled kernel, on so many threads, each of which takes the next as it ends one.

    Args:
        kernel: A loop of ``cpu.jit``.
        calls: The arguments of each call.
        threads: At least 1; this one is among them.
    """
    if threads == 1 or len(calls) == 1:
        for call in calls:
            kernel(*call)
        return
    region = None if _forked else _region()
    if region is None:
        _share_in_python(kernel, calls, threads)
        return
    table = np.array(calls, np.int64)
    task = np.array([address_of(kernel), table.ctypes.data, len(calls), 0], np.int64)
    region(member(table.shape[1]).address, task.ctypes.data, threads, 0)


@lru_cache(maxsize=1024)
def address_of(kernel: Any) -> int:
    """Where the compiled code of a kernel is, for callers in C."""
    (compiled,) = kernel.overloads.values()
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))


def _pool(workers: int) -> ThreadPoolExecutor:
    """The pool of so many helpers."""
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="lowprec")
        return _pools[workers]


def _share_in_python(kernel: Any, calls: Sequence[Call], threads: int) -> None:
    """The same with Python threads: kernels release the GIL.

    At the end this thread waits only for helpers that have begun: on a busy machine one that never got a
    core costs nothing.
    """
    taken = itertools.count()  # next() is atomic

    def take() -> None:
        """Make calls until none is left."""
        while (number := next(taken)) < len(calls):
            kernel(*calls[number])

    futures: list[Future[None]] = []
    try:
        pool = _pool(threads - 1)
        futures = [pool.submit(take) for _ in range(1, threads)]
        take()
    finally:
        begun = [future for future in futures if not future.cancel()]
        wait(begun)  # whoever has begun holds the caller's memory
    for future in begun:
        future.result()
