"""A pool of Python threads for kernels, which release the GIL.

Not Numba's ``prange``: its OpenMP layer kills a forked child that uses it after the parent did, and
its workqueue layer aborts when two Python threads enter. This pool is made on first use, once for
each process (a forked child starts without one), and several threads may use it at a time.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

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
    """Call ``work(first, last, number)`` on even parts of ``range(units)``, one of them in this thread."""
    parts = max(1, min(threads, units))
    bounds = [units * part // parts for part in range(parts + 1)]
    futures: list[Future[None]] = []
    try:
        if parts > 1:
            pool = _pool(parts - 1)
            for number in range(1, parts):
                futures.append(pool.submit(work, bounds[number], bounds[number + 1], number))
        work(bounds[0], bounds[1], 0)
    finally:
        for future in futures:
            future.result()
