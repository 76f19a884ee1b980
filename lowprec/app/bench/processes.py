"""Import time, first calls and memory: what is measured in interpreters of their own."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lowprec
from lowprec.app.bench import child, floors
from lowprec.app.bench.figure import Limit, Probe, Unavailable
from lowprec.app.bench.measure import Effort

IMPORT, FIRST, MEMORY = "import", "first call", "memory"
COLD, WARM = "nothing cached", "cached on disk"

_FIRST_CALLS = (
    ("e4m3fn", "nearest_even"),
    ("e4m3fn", "stochastic"),
    ("bfp8<group32>", "stochastic"),
)
_KEPT = (
    ("e4m3fn", "nearest_even", "float32"),
    ("e4m3fn", "stochastic", "float32"),
    ("e4m3fn", "stochastic", "float16"),
    ("fixed8f6", "nearest_even", "float64"),
    ("bfp8", "stochastic", "float32"),
    ("bfp8<group32>", "nearest_even", "bfloat16"),
)


def probes(effort: Effort) -> Iterator[Probe]:
    """All probes that start interpreters.

    Args:
        effort: How much to measure.

    Returns:
        The probes, one table after the other.

    Example:
        >>> from lowprec.app.bench.measure import QUICK
        >>> [probe.section for probe in probes(QUICK)]
        ['import', 'first call', 'first call', 'memory']
    """
    runs = 5 if effort.complete else 1
    limit = Limit(floors.IMPORT, at_least=False)
    yield Probe(IMPORT, "import lowprec", "after import torch", "s", partial(_import, runs), limit)
    cold, warm = (Limit(most, at_least=False) for most in (floors.FIRST_CALL_COLD, floors.FIRST_CALL_WARM))
    for words in _FIRST_CALLS if effort.complete else _FIRST_CALLS[:1]:
        yield Probe(FIRST, " ".join(words), COLD, "s", partial(_cold, *words), cold)
        yield Probe(FIRST, " ".join(words), WARM, "s", partial(_warm, *words), warm)
    limit = Limit(floors.MEMORY, at_least=False)
    for case in _KEPT if effort.complete else _KEPT[:1]:
        yield Probe(MEMORY, " ".join(case), "", "clones", partial(_memory, *case), limit)


def run_child(*arguments: str, **environment: str) -> float:
    """Run one measurement in a fresh interpreter.

    Args:
        *arguments: What to measure; see the child's module.
        **environment: Variables to set for it.

    Returns:
        The number that it printed.

    Raises:
        RuntimeError: If it failed; the message is the last line of its complaints.

    Example:
        >>> run_child("import") > 0
        True
    """
    package = str(Path(lowprec.__file__).parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", child.__file__, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        message = f"`lowprec bench` must run interpreters of its own. One ended with {said}"
        raise RuntimeError(message)
    return float(done.stdout)


def _cold(format: str, mode: str) -> float:
    """Seconds of a kernel's first call where nothing is cached."""
    with tempfile.TemporaryDirectory() as cache:
        return run_child("call", format, mode, NUMBA_CACHE_DIR=cache)


def _warm(format: str, mode: str) -> float:
    """Seconds of the first call in an interpreter that finds the kernel in the cache."""
    with tempfile.TemporaryDirectory() as cache:
        run_child("call", format, mode, NUMBA_CACHE_DIR=cache)
        return run_child("call", format, mode, NUMBA_CACHE_DIR=cache)


def _import(runs: int) -> float:
    """The median over so many interpreters, in seconds."""
    return statistics.median(run_child("import") for _ in range(runs))


def _memory(format: str, mode: str, carrier: str) -> float:
    """Peak memory of a call on 2^23 elements, as a multiple of a clone's."""
    if sys.platform == "win32":
        raise Unavailable("not measured on Windows")
    return run_child("memory", format, mode, carrier, "2896")
