"""Kernels of CUDA devices as text: compiled for a device that is not there, and assembled."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]
"""Turing, Ampere, Hopper, Blackwell."""


class Assembled(NamedTuple):
    """What the assembler says of a kernel."""

    registers: int
    stack: int
    """Bytes."""
    spilled: int
    """Bytes that are stored because there are too few registers."""


def text_of(twin, capability: tuple[int, int] = (8, 0)) -> str:
    """The PTX of a kernel."""
    from numba import cuda

    ptx, _ = cuda.compile_ptx(twin.function, twin.parameters, cc=capability)
    return ptx


@cache
def assembler() -> str | None:
    """Where ptxas is, if it is anywhere: in PyPI's nvidia-cuda-nvcc or on the path."""
    try:
        import nvidia
    except ImportError:
        return shutil.which("ptxas")
    for folder in nvidia.__path__:
        for found in sorted(Path(folder).glob("cu*/bin/ptxas*")):
            return str(found)
    return shutil.which("ptxas")


def assemble(ptx: str, capability: tuple[int, int], folder: Path) -> Assembled:
    """Assemble it; an error is the test's."""
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    architecture = f"-arch=sm_{capability[0]}{capability[1]}"
    command = [assembler(), "-v", architecture, str(source), "-o", str(folder / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (registers,) = re.findall(r"Used (\d+) registers", done.stderr)
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", done.stderr)
    sizes = np.array(stacks, int).reshape(-1, 2).sum(axis=0)
    return Assembled(int(registers), int(sizes[0]), int(sizes[1]))
