"""A pool of Python threads for kernels, which release the GIL.

Not Numba's ``prange``: its OpenMP layer kills a forked child that uses it after the parent did, and
its workqueue layer aborts when two Python threads enter. This pool is made on first use, once for
each process (a forked child starts without one), and several threads may use it at a time.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

_PARTS = 4
"""Parts for each thread: enough to even out, few enough that taking one costs little."""

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def _forget() -> None:
    """In a forked child: the parent's threads are not here, and its lock may be held."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _pool(workers: int) -> ThreadPoolExecutor:
    """The pool of so many helpers."""
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="lowprec")
        return _pools[workers]


def share(work: Callable[[int, int, int], None], units: int, threads: int) -> None:
    """Call ``work(first, last, number)`` on parts that make up ``range(units)``.

    Threads take the next part as they finish one; ``number`` tells them apart, below ``threads``. This
    thread takes parts too, and at the end waits only for helpers that have begun: on a busy machine a
    helper that never got a core costs nothing.
    """
    threads = max(1, min(threads, units))
    parts = 1 if threads == 1 else min(units, _PARTS * threads)
    taken = itertools.count()  # next() is atomic

    def take(number: int) -> None:
        """Do parts until none is left."""
        while (part := next(taken)) < parts:
            work(units * part // parts, units * (part + 1) // parts, number)

    futures: list[Future[None]] = []
    try:
        if threads > 1:
            pool = _pool(threads - 1)
            futures = [pool.submit(take, number) for number in range(1, threads)]
        take(0)
    finally:
        begun = [future for future in futures if not future.cancel()]
        wait(begun)  # whoever has begun holds the caller's memory
    for future in begun:
        future.result()
