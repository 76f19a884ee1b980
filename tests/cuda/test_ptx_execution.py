"""The compiled kernels themselves, run by a machine for PTX: the CPU's bits."""

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import compiled
from twins import cases, factories

pytestmark = compiled


@pytest.mark.parametrize("name", factories())
def test_every_kernel_gives_the_bits_of_the_cpu(name: str, machine, monkeypatch) -> None:
    cases("simulated")[name](monkeypatch)
