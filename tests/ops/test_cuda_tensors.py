"""What a CUDA tensor meets where its kernels are not installed, or do not exist."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lowprec.ops import library

CALL = ("e4m3fn", "nearest_even", 32, 0, 0, None, 0)


def _without_numba_cuda(name: str, package: str | None = None) -> None:
    """Nothing is found."""


def test_a_missing_extra_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(sys.modules):
        if name.startswith(("lowprec.kernels.cuda", "lowprec.ops.cuda")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", _without_numba_cuda)
    message = "`numba-cuda` must be installed for tensors on CUDA devices. Install it with: pip install"
    with pytest.raises(ImportError, match=message):
        library._run(SimpleNamespace(is_cuda=True), None, None, *CALL)


def test_cpu_tensors_load_nothing_of_cuda() -> None:
    code = """
import sys, torch, lowprec
lowprec.quantize(torch.ones(3), "e4m3fn", rounding="stochastic")
ours = "lowprec.kernels.cuda", "lowprec.ops.cuda", "numba_cuda", "numba.cuda."
print([name for name in sys.modules if name.startswith(ours)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
