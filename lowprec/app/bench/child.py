"""What only a fresh interpreter can tell; run by path, so that nothing of the package is imported yet.

``child.py import``; ``child.py call FORMAT MODE``; ``child.py memory FORMAT MODE CARRIER SIDE``.
Each prints one number.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path


def import_seconds() -> float:
    """What importing the package adds to importing PyTorch."""
    import torch  # noqa: F401

    start = time.perf_counter()
    import lowprec  # noqa: F401

    return time.perf_counter() - start


def first_call_seconds(format: str, rounding: str) -> float:
    """The first call, which compiles the kernel or reads it from the cache."""
    import torch

    import lowprec

    x = torch.ones(64)
    seed = 1 if rounding.startswith("stochastic") else None
    start = time.perf_counter()
    lowprec.quantize(x, format, rounding=rounding, seed=seed)
    return time.perf_counter() - start


def memory_of_a_call(format: str, rounding: str, carrier: str, side: str) -> float:
    """How much a call raises the peak of this process, over how much a clone raises it.

    Everything made is kept. The first clone fills what earlier peaks have left free.
    """
    import torch

    import lowprec

    seed = 1 if rounding.startswith("stochastic") else None
    x = torch.randn(int(side), int(side)).to(getattr(torch, carrier))
    lowprec.quantize(x[:32], format, rounding=rounding, seed=seed)  # compiles, starts threads
    kept = [x.clone()]
    before = peak()
    kept.append(x.clone())
    between = peak()
    kept.append(lowprec.quantize(x, format, rounding=rounding, seed=seed))
    return (peak() - between) / (between - before)


def peak() -> int:
    """The most memory this process ever had in use; the unit is the system's affair."""
    status = Path("/proc/self/status")  # Linux: getrusage would tell of the process that started this one
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    measures: dict[str, Callable[..., float]] = {
        "import": import_seconds,
        "call": first_call_seconds,
        "memory": memory_of_a_call,
    }
    print(measures[what](*words))
