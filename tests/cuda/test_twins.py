"""Every function that makes a kernel has cases: one that the simulator runs, one that is compiled."""

import re
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

import ptx
import simulator
from ptx import text_of
from twins import cases, factories, made_by

NAMES = factories()


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
    )
    assert factories(tmp_path) == ["one.first", "one.second", "one.third", "one.other", "one:20"]


@pytest.mark.parametrize("kind", ["simulated", "ptx"])
def test_every_function_that_makes_a_kernel_has_cases(kind: str) -> None:
    assert sorted(cases(kind)) == sorted(NAMES)


@pytest.mark.cudasim
@pytest.mark.skipif(not simulator.SIMULATED, reason="needs NUMBA_ENABLE_CUDASIM=1 and the extra `cuda`")
@pytest.mark.parametrize("name", NAMES)
def test_the_simulated_case_launches_that_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowprec.kernels.cuda import twin

    launched = []
    own = twin.Twin.launch

    def launch(self, *arguments) -> None:
        """Note what is launched."""
        launched.append(self.function)
        own(self, *arguments)

    monkeypatch.setattr(twin.Twin, "launch", launch)
    cases("simulated")[name]()
    module, function = name.split(".")
    made = [(one.__module__.rpartition(".")[2], one.__qualname__.rpartition("_")[0]) for one in launched]
    assert (module, function) in made


@pytest.mark.ptx
@pytest.mark.skipif(ptx.SIMULATED, reason="needs a compiler, which NUMBA_ENABLE_CUDASIM=1 replaces")
@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_case_is_that_kernel(name: str) -> None:
    twin = made_by(name, cases("ptx")[name][0])
    assert twin.function.__qualname__.rpartition("_")[0] == name.split(".")[1]
    assert re.search(rf"\.entry \w+{name.split('.')[1]}_", text_of(twin))
