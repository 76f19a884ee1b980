"""A case of each function that makes kernels of groups and of their scales, run by Numba's simulator."""

import pytest
import torch
from simulator import queue, same_bits, simulated

from lowprec.kernels.cpu import VALUES

pytestmark = simulated


def check(format: str, monkeypatch: pytest.MonkeyPatch, *shape: int) -> None:
    """Both give the same values."""
    from lowprec.ops.cuda import groups

    monkeypatch.setattr(groups, "queue_of", lambda _: queue((2, (4, 2))))
    x = torch.randn(shape or (3, 40), generator=torch.Generator().manual_seed(2))
    out, spec = torch.empty_like(x), (format, "nearest_even", 32)
    groups.quantize(x, out, None, *spec, 0, 0, None, VALUES)
    assert same_bits(out, torch.ops.lowprec.quantize(x, None, *spec))


TWINS = {
    "groups.rounding": lambda monkeypatch: check("bfp8<group32>", monkeypatch),
    "groups.collecting": lambda monkeypatch: check("bfp8<channel1>", monkeypatch),
    "scales.powers": lambda monkeypatch: check("scaled<e2m1,e4m3fn,group8,floor>", monkeypatch),
    "scales.quotients": lambda monkeypatch: check("nvfp4", monkeypatch),
    "scales.affine": lambda monkeypatch: check("uint8", monkeypatch),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_bits_are_those_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    TWINS[name](monkeypatch)
