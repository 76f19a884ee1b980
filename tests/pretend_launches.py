"""What lowprec launches where the driver is a pretended one: run by tests in a process of its own."""

import errno
import os
import pickle
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pretend_driver
import pytest
import torch
from pretend_driver import Launch, calls, launches
from simulator import queue
from twins import cases, watched

NOISE = 0, 0, -1


class Put(NamedTuple):
    """A launch as it was asked for, and as a device gets it."""

    numbers: list[tuple[str, Any]]
    """Each with the name of its type, tuples' one after another."""
    grid: tuple[int, tuple[int, int]]
    launch: Launch
    calls: list[str]
    """Of the driver."""
    again: list[str]
    """The calls of the same launch once more."""


linked: list[str] = []
counted: Counter[str] = Counter()


def _watch() -> None:
    """Note what is compiled and linked."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv.driver import _Linker

    compile_cuda, add_ptx, add_ltoir = dispatcher.compile_cuda, _Linker.add_ptx, _Linker.add_ltoir

    def compiling(*arguments: Any, **options: Any) -> Any:
        counted["compiled"] += 1
        return compile_cuda(*arguments, **options)

    def adding(self: Any, ptx: bytes, *rest: Any) -> None:
        linked.append(ptx.decode())
        counted["linked"] += 1
        add_ptx(self, ptx, *rest)

    def other(self: Any, *rest: Any) -> None:
        counted["optimized at link time"] += 1
        add_ltoir(self, *rest)

    dispatcher.compile_cuda, _Linker.add_ptx, _Linker.add_ltoir = compiling, adding, other


def _flat(types: Sequence[Any], arguments: Sequence[Any]) -> list[tuple[str, Any]]:
    """Each number with the name of its type."""
    from numba.core.types import BaseTuple

    found = []
    for kind, argument in zip(types, arguments, strict=True):
        found += _flat(kind, argument) if isinstance(kind, BaseTuple) else [(str(kind), argument)]
    return found


def _put(twin: Any, arguments: tuple[Any, ...], launch: Any) -> Put:
    """Launch twice."""
    before = len(calls)
    launch(twin, *arguments)
    between = len(calls)
    own, first, second = launches[-1], calls[before:between], []
    launch(twin, *arguments)
    second = calls[between:]
    assert launches[-1] == own
    _, blocks, threads, *numbers = arguments
    return Put(_flat(twin.parameters, numbers), arguments[0].grid or (blocks, threads), own, first, second)


class _Reached(Exception):
    """The kernel was launched."""


def every_kernel(*names: str) -> dict[str, Put]:
    """The launch of each function's case, which is left with it: nothing is computed."""
    from lowprec.kernels.cuda.twin import Twin

    found: dict[str, Put] = {}
    known = cases("simulated")
    for name in names:
        with pytest.MonkeyPatch.context() as patch:
            made, _ = watched(name, patch)
            launch = Twin.launch

            def reach(self: Any, *arguments: Any, name=name, made=made, launch=launch) -> None:
                if self not in made:
                    return launch(self, *arguments)
                found[name] = _put(self, arguments, launch)
                raise _Reached

            patch.setattr(Twin, "launch", reach)
            patch.setattr(torch, "equal", lambda *_: True)  # of what was to be computed on the way
            with pytest.raises(_Reached):
                known[name](patch)
    return found


def _quantize(
    device: int = 0, stream: int = 0, size: int = 100_000, rounding: str = "nearest_even", **given: Any
):
    """Quantize a tensor in place."""
    from lowprec.kernels.cuda import elementwise

    x = torch.ones(size)
    own = queue()._replace(device=device, stream=stream, **given)
    same = x.data_ptr(), x.data_ptr(), "float32", (size,), (1,), (1,)
    elementwise.quantize(own, *same, "e4m3fn", rounding, 32, 0, NOISE)


def every_queue() -> tuple[list[Launch], list[str]]:
    """Launches on both devices and two streams, and what was linked for them."""
    for device, stream in ((0, 0), (1, 0x5550), (0, 0xFFFF88880000), (1, 0)):
        _quantize(device, stream)
    _quantize(size=1)
    _quantize(grid=(3, (5, 2)))
    return list(launches), list(linked)


def every_type() -> Put:
    """Numbers at the ends of each type, some of them Python's."""
    from numba import types

    from lowprec.kernels.cuda.twin import Twin

    def kernel(a, b, c, d, e, f, g): ...

    parameters = (
        types.int64, types.UniTuple(types.uint64, 4), types.UniTuple(types.UniTuple(types.int64, 2), 2),
        types.UniTuple(types.uint32, 2), types.UniTuple(types.float32, 4), types.float64, types.uint16,
    )  # fmt: skip
    big, tiny = 2**63 + 12345, np.float32(1e-45)
    arguments = (
        -5, (np.uint64(big), 7, np.int64(4), 2**64 - 1), ((-1, 2**40), (np.int64(-(2**63)), 3)),
        (np.uint32(2**32 - 1), 0), (tiny, np.float32(-0.0), np.float32(np.inf), 0.1), 0.1, np.uint16(65535),
    )  # fmt: skip
    twin = Twin(parameters, kernel, {}, "every type")
    return _put(twin, (queue(), 3, (32, 4), *arguments), Twin.launch)


def refused() -> str:
    """The error of a launch that the driver refuses."""
    try:
        _quantize(grid=(1, (2048, 1)))
    except Exception as error:
        return str(error)
    return ""


def few() -> dict[str, Any]:
    """Launches of few kernels, and the contexts that are left where that of the last device was current."""
    pretend_driver.contexts.append(pretend_driver.CONTEXT + 1)
    found = {one.__name__: one() for one in (every_queue, every_type, refused)}
    return {**found, "counted": counted, "contexts": pretend_driver.contexts}


def kept() -> tuple[Counter[str], list[Launch]]:
    """What is compiled and linked of a kernel for both devices, in a process of its own."""
    _quantize(0)
    _quantize(1)
    return Counter(counted), list(launches)


def without_folder() -> list[str]:
    """The kernels that are launched where the file system is read-only, and where it is full."""
    from lowprec.kernels.cuda import updates

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before, x = len(launches), torch.zeros(100)
    for owner, function, itemsize in ((tempfile, "TemporaryFile", 2), (os, "replace", 4)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, function, fail)
            updates.digest(queue(), x.data_ptr(), x.data_ptr(), itemsize, 50)
    return [one.kernel for one in launches[before:]]


def later() -> dict[str, Any]:
    """What a second process finds on disk, and what it does without."""
    return {one.__name__: one() for one in (kept, without_folder)}


def main() -> None:
    """Run one of these, and leave its result in a file."""
    pretend_driver.install()
    _watch()
    where, what, *rest = sys.argv[1:]
    Path(where).write_bytes(pickle.dumps(globals()[what](*rest)))
    pretend_driver.leave()
