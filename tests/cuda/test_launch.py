"""Kernels are launched with the bytes, the grid and the stream that were asked for, on a pretended driver.

Numba compiles, links, keeps and loads them as on a device. Each test is a process of its own, as Numba knows
one driver at a time.
"""

import os
import pickle
import re
import struct
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

import pretend_driver
from numba import types
from ptx import compiled, text_of
from twins import cases, factories, made_by

pytestmark = [
    *compiled,
    pytest.mark.skipif(pretend_driver.compiler() is None, reason="needs a compiler of C, as cc"),
]
LAUNCHING = ["cuCtxPushCurrent", "cuLaunchKernel", "cuCtxPopCurrent"]
"""All that a launch may call, so that it can be captured in a CUDA graph."""
NAMES = factories()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library of the driver lies."""
    folder = tmp_path_factory.mktemp("driver")
    pretend_driver.build(folder)
    return folder


@pytest.fixture
def pretended(driver: Path, tmp_path: Path):
    """Run a function of pretend_launches.py; kernels may be kept in a folder of their own."""

    def run(function: str, *given: str, cache: Path | None = None):
        result = tmp_path / "result"
        environment = os.environ | {"LD_LIBRARY_PATH": str(driver), "PYTHONPATH": os.pathsep.join(sys.path)}
        if cache is not None:
            environment["NUMBA_CACHE_DIR"] = str(cache)
        code = "from pretend_launches import main; main()"
        command = [sys.executable, "-W", "error", "-c", code, str(result), function, *given]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return pickle.loads(result.read_bytes())

    return run


def bytes_of(kind: str, number) -> bytes:
    """A number in memory."""
    if kind.startswith("float"):
        return np.array(number, kind).tobytes()
    bits = int(re.sub(r"\D", "", kind))
    return int(number).to_bytes(bits // 8, "little", signed=kind.startswith("int"))


def check(put) -> None:
    """A device gets the numbers, grid and block of a launch; a second one asks nothing else of it."""
    assert put.launch.parameters == [bytes_of(*number) for number in put.numbers]
    blocks, threads = put.grid
    assert put.launch.grid == (blocks, 1, 1)
    assert put.launch.block == (*threads, 1)
    assert put.launch.shared == 0
    assert put.again == LAUNCHING
    assert put.calls[-3:] == LAUNCHING
    assert not [call for call in put.calls if re.search("Synchronize|Alloc|Free|Memcpy|Memset", call)]


@pytest.mark.parametrize("half", [0, 1])
def test_every_kernel_gets_what_it_was_called_with(half: int, pretended) -> None:
    names = NAMES[half::2]
    launched = pretended("every_kernel", *names)
    assert sorted(launched) == sorted(names)
    for name, put in launched.items():
        assert put.launch.architecture == 90, name
        check(put)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2**63, (0, 0), 0.0), "int(64)?|out of range|format requires"),
        ((0, (0, -1), 0.0), "argument out of range|format requires"),
        ((0, (2**32, 0), 0.0), "argument out of range|format requires"),
        ((0, (0.5, 0), 0.0), "not an integer"),
        ((0, (0, 0, 0), 0.0), "expected 4 items"),
        ((0, (0,), 0.0), "expected 4 items"),
    ],
)
def test_what_no_type_holds_is_refused(arguments, message: str) -> None:
    from lowprec.kernels.cuda.arguments import Packing

    with pytest.raises(struct.error, match=message):
        Packing((types.int64, types.UniTuple(types.uint32, 2), types.float64)).packed(arguments)


def test_devices_streams_and_kernels_on_disk(pretended, tmp_path: Path) -> None:
    """What holds of few kernels; a later process finds them on disk, and needs no folder for others."""
    few = pretended("few", cache=tmp_path)
    launched, linked = few["every_queue"]
    check_queues(launched)
    check_linked(linked)
    check_types(few["every_type"])
    assert "CUDA_ERROR_INVALID_VALUE" in few["refused"]
    assert few["contexts"] == [pretend_driver.CONTEXT + 1]
    assert few["counted"]["optimized at link time"] == 0
    files = sorted(tmp_path.rglob("*.nb?"))
    later = pretended("later", cache=tmp_path)
    counted, again = later["kept"]
    assert not counted, "compiled again"
    assert [one.architecture for one in again] == [90, 80]
    assert [one.parameters[2:] for one in again] == [one.parameters[2:] for one in launched[:2]]
    assert len(later["without_folder"]) == 2
    assert sorted(tmp_path.rglob("*.nb?")) == files, "kept without a folder"


def check_queues(launched: list) -> None:
    """Each device runs what was compiled for its capability; a grid is the one that was asked for."""
    assert [(one.device, one.architecture, one.stream) for one in launched] == [
        (0, 90, 0), (1, 80, 0x5550), (0, 90, 0xFFFF88880000), (1, 80, 0), (0, 90, 0), (0, 90, 0),
    ]  # fmt: skip
    assert [one.grid[0] for one in launched] == [25, 25, 25, 25, 1, 3]
    assert [one.block for one in launched] == [*[(256, 1, 1)] * 4, (32, 8, 1), (5, 2, 1)]


def check_linked(linked: list[str]) -> None:
    """A kernel is linked once for each device, from the PTX that other tests look at."""
    targets = [re.search(r"\.target (\w+)", ptx)[1] for ptx in linked]
    assert targets == ["sm_90a", "sm_80"]
    twin = made_by("elementwise.quantizing", cases("ptx")["elementwise.quantizing"][0])
    looked_at = [text_of(twin, capability) for capability in pretend_driver.CAPABILITIES]
    assert list(map(_instructions, linked)) == list(map(_instructions, looked_at))


def _instructions(ptx: str) -> str:
    """A kernel without its name."""
    (name,) = re.findall(r"\.entry (\w+)\(", ptx)
    return ptx[ptx.index(".entry") :].replace(name, "kernel").strip()


def check_types(put) -> None:
    """The ends of each type, NumPy's numbers and Python's in one tuple."""
    check(put)
    first, large, small, *_ = put.launch.parameters
    assert first == b"\xfb" + 7 * b"\xff"
    assert large == b"\x39\x30" + 5 * b"\0" + b"\x80"
    assert small == b"\7" + 7 * b"\0"


@pytest.mark.parametrize("name", NAMES)
def test_parameters_fit_into_four_kibibytes(name: str) -> None:
    """Which is what every device and toolkit takes, here also of tensors of 64 dimensions."""
    module, function = name.split(".")
    names = list(signature(getattr(import_module(f"lowprec.kernels.cuda.{module}"), function)).parameters)
    for constants in cases("ptx")[name]:
        given = dict(zip(names, constants, strict=False))
        if "dimensions" in names:
            given["dimensions"] = 64
        numbers = list(map(str, leaves(made_by(name, tuple(given.values())).parameters)))
        together = np.dtype([(f"number {i}", kind) for i, kind in enumerate(numbers)], align=True)
        assert together.itemsize <= 4096, given


def leaves(parameters) -> list:
    """The types of all numbers."""
    found = []
    for kind in parameters:
        found += leaves(kind) if isinstance(kind, types.BaseTuple) else [kind]
    return found
