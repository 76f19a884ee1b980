"""Every function that makes a kernel has cases: one that the simulator runs, one that is compiled."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

import ptx
import simulator
from numba import types
from ptx import CAPABILITIES, assemble, assembler, text_of
from twins import cases, factories, made_by, watched

NAMES = factories()


@pytest.mark.ptx
def test_the_functions_are_found(tmp_path: Path) -> None:
    assert {"elementwise.quantizing", "elementwise.encoding"} <= set(NAMES)
    (tmp_path / "one.py").write_text(
        "@cache\ndef first(mode):\n    def kernel(x):\n        x()\n    return Twin((), kernel, {}, mode)\n"
        "def second():\n    return twin.Twin((), f, {})\n"
        "def third():\n    @cuda.jit(signature)\n    def kernel(): ...\n    return kernel\n"
        "def other():\n    @cuda.jit\n    def kernel(): ...\n    return kernel\n"
        "def called():\n    return cuda.jit(device=True)(f)\n"
        "def fourth(twin: Twin):\n    return twin.launch()\n"
        "fifth = Twin((), f, {})\n"
        "def sixth(mode):\n    return _twin(mode)\n"
        "def _twin(mode):\n    return Twin((), f, {}, mode)\n"
    )
    assert factories(tmp_path) == ["one.first", "one.second", "one.third", "one.other", "one.sixth", "one:20"]


@pytest.mark.ptx
@pytest.mark.parametrize("kind", ["simulated", "ptx"])
def test_every_function_that_makes_a_kernel_has_cases(kind: str) -> None:
    assert sorted(cases(kind)) == sorted(NAMES)


@pytest.mark.cudasim
@pytest.mark.skipif(not simulator.SIMULATED, reason="needs NUMBA_ENABLE_CUDASIM=1 and the extra `cuda`")
@pytest.mark.parametrize("name", NAMES)
def test_the_simulated_case_launches_that_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, launched = watched(name, monkeypatch)
    cases("simulated")[name](monkeypatch)
    assert any(twin in made for twin in launched)


@pytest.mark.ptx
@pytest.mark.skipif(ptx.SIMULATED, reason="needs a compiler, which NUMBA_ENABLE_CUDASIM=1 replaces")
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_case_is_that_kernel_for_each_capability(name: str, capability, tmp_path: Path) -> None:
    twin = made_by(name, cases("ptx")[name][0])
    text = text_of(twin, capability)
    assert re.search(rf"\.entry \w+{twin.function.__qualname__}", text)
    if assembler() is not None:
        assert assemble(text, capability, tmp_path).spilled == 0


@pytest.mark.ptx
@pytest.mark.skipif(ptx.SIMULATED, reason="needs a compiler, which NUMBA_ENABLE_CUDASIM=1 replaces")
@pytest.mark.parametrize("name", NAMES)
def test_the_disk_cache_finds_a_kernel_in_another_process(name: str) -> None:
    """It looks for what a kernel closes over: constants, and nothing that a process numbers."""
    closed_over = [cell.cell_contents for cell in made_by(name, cases("ptx")[name][0]).function.__closure__]
    plain = bool, int, np.generic, types.Type
    assert all(isinstance(value, plain) or value in np.sctypeDict.values() for value in closed_over)
