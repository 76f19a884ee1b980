"""Kernels of CUDA devices as text: compiled for a device that is not there, looked at, and assembled."""

import importlib.metadata
import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from ptx_flow import Block, Instruction, blocks_of, innermost, inside, loops

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
compiled = [
    pytest.mark.ptx,
    pytest.mark.skipif(SIMULATED, reason="needs a compiler, which NUMBA_ENABLE_CUDASIM=1 replaces"),
]
"""The marks of a module of such tests."""
CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]
"""Turing, Ampere, Hopper, Blackwell."""
_COPIES = ("mov", "selp", "neg", "abs", "cvta", "copysign")
"""Through these an assembler may see that a sum's operand is a product."""


class Assembled(NamedTuple):
    """What the assembler says of a kernel."""

    registers: int
    stack: int
    """Bytes."""
    spilled: int
    """Bytes that are stored because there are too few registers."""


def named_device(capability: tuple[int, int] = (8, 0)) -> AbstractContextManager[object]:
    """Name a device: numba-cuda asks the driver for one where a function calls another."""
    from numba.cuda import dispatcher

    device = SimpleNamespace(compute_capability=capability)
    return mock.patch.object(dispatcher, "get_current_device", return_value=device)


def text_of(twin, capability: tuple[int, int] = (8, 0)) -> str:
    """The PTX of a kernel."""
    from numba import cuda

    with named_device(capability):
        ptx, _ = cuda.compile_ptx(twin.function, twin.parameters, cc=capability)
    return ptx


@cache
def assembler() -> str | None:
    """Where ptxas is, if it is anywhere: in PyPI's nvidia-cuda-nvcc or on the path."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvcc") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(file.locate()) for file in files if file.stem == "ptxas"]
    return found[0] if found else shutil.which("ptxas")


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


def check_kernel(
    twin, capability: tuple[int, int], folder: Path, *,
    registers: int, stack: int = 0, doubles: bool = False, fused: bool = False, exact: bool = False,
    depth: int = 2,
) -> str:  # fmt: skip
    """Compile, look at and assemble a kernel; its PTX.

    ``depth`` is that of the loops over elements, in which no integers of 64 bits are divided: 2 where a loop
    around them goes through runs, whose starts are found by dividing. ``doubles`` and ``fused`` say whether
    the kernel computes in binary64, and asks for ``fma``; ``exact`` that its products are exact, so that a
    sum may take them in.
    """
    ptx = text_of(twin, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in ptx
    found = faults(ptx, doubles=doubles, fused=fused, exact=exact, depth=depth)
    assert not found, found
    if assembler() is not None:
        made = assemble(ptx, capability, folder)
        assert made.registers <= registers, made
        assert made.stack <= stack, made
        assert made.spilled == 0, made
    return ptx


def faults(
    ptx: str, *, doubles: bool = False, fused: bool = False, exact: bool = False, depth: int = 2
) -> list[str]:
    """What of a kernel's text could change its bits or its speed, one line for each instruction.

    That is one rounding where two are written, binary64 where nobody asked for it, what flushes or
    approximates, and a division of 64 bits in a loop at this depth or deeper.
    """
    found = []
    for blocks in blocks_of(ptx):
        every = [one for block in blocks for one in block.instructions]
        found += [f"contracts: {one}" for one in contracted(every) if not exact]
        multiply_adds = [one for one in every if re.match(r"(fma|mad)\..*\bf\d", one.opcode)]
        found += [f"fuses: {one}" for one in multiply_adds if not fused]
        found += [f"is binary64: {one}" for one in every if not doubles and re.search(r"\bf64", one.opcode)]
        found += [f"not IEEE 754: {one}" for one in every if re.search(r"\.(ftz|approx|full)\b", one.opcode)]
        found += [f"divides 64 bits in a loop: {one}" for one in _divisions(blocks, depth)]
    return found


def _divisions(blocks: list[Block], depth: int) -> list[Instruction]:
    """The divisions of 64 bits in loops at this depth or deeper in which elements are read or written."""
    found = []
    every = sorted(loops(blocks), key=len, reverse=True)
    touching = [
        loop
        for loop in every
        if any(re.match(r"(ld|st|atom|red)\.global", one.opcode) for one in inside(blocks, loop))
    ]
    for number, block in enumerate(blocks):
        around = [loop for loop in every if number in loop][depth - 1 :]
        if any(loop in touching for loop in around):
            found += [one for one in block.instructions if re.match(r"(div|rem)\.[sub]64", one.opcode)]
    return found


def contracted(instructions: list[Instruction]) -> list[Instruction]:
    """The sums of which an assembler may make a multiply-add: neither they nor a product name a rounding."""
    products: set[str] = set()
    before = -1
    while before != len(products):  # registers are written in any order of blocks
        before = len(products)
        for one in instructions:
            product = re.match(r"mul\.(sat\.)?f\d", one.opcode) is not None
            copied = one.opcode.split(".")[0] in _COPIES and not products.isdisjoint(one.read)
            if product or copied:
                products |= set(one.written)
    sums = [one for one in instructions if re.match(r"(add|sub)\.(sat\.)?f\d", one.opcode)]
    return [one for one in sums if not products.isdisjoint(one.read)]


def of_loop_over_elements(ptx: str) -> list[Instruction]:
    """The instructions of the innermost loop with the most of them, of those that write global memory."""
    found: list[list[Instruction]] = []
    for blocks in blocks_of(ptx):
        for loop in innermost(blocks):
            own = inside(blocks, loop)
            if any(one.opcode.startswith("st.global") for one in own):
                found.append(own)
    return max(found, key=len)
