"""The CUDA twins of pack and unpack, run by Numba's simulator: the CPU's bytes."""

import pytest
import torch
from simulator import GRIDS, queue, simulated

pytestmark = simulated


def drawn(count, bits):
    """Codes of a width."""
    codes = torch.randint(1 << bits, (count,), generator=torch.Generator().manual_seed(bits))
    return codes.to(torch.uint8 if bits <= 8 else torch.uint16)


def there_and_back(codes, bits, monkeypatch, grid):
    """Both twins agree with the CPU."""
    from lowprec.ops.cuda import packing

    monkeypatch.setattr(packing, "queue_of", lambda _: queue(grid))
    want = torch.ops.lowprec.pack(codes, bits)
    packed, again = torch.full_like(want, 0xA5), torch.zeros_like(codes)
    assert packing.pack(codes, packed, bits)
    assert torch.equal(packed, want)
    packing.unpack(packed, again, bits)
    assert torch.equal(again, codes)


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_width(bits, monkeypatch):
    for count in (0, 1, 7, 8, 29):
        there_and_back(drawn(count, bits), bits, monkeypatch, (2, (3, 2)))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid(grid, monkeypatch):
    there_and_back(drawn(300, 5), 5, monkeypatch, grid)
    there_and_back(drawn(300, 11), 11, monkeypatch, grid)


@pytest.mark.parametrize("bits", range(1, 17))
def test_a_code_that_is_too_wide_is_told(bits, monkeypatch):
    from lowprec.ops.cuda import packing

    monkeypatch.setattr(packing, "queue_of", lambda _: queue((2, (3, 2))))
    codes = drawn(20, bits)
    packed = torch.ops.lowprec.pack(codes, bits)
    assert packing.pack(codes, packed, bits)
    if bits not in (8, 16):
        codes[7] = 1 << bits
        assert not packing.pack(codes, packed, bits)


TWINS = {
    "packing": lambda monkeypatch: there_and_back(drawn(20, 5), 5, monkeypatch, (2, (3, 2))),
    "unpacking": lambda monkeypatch: there_and_back(drawn(20, 11), 11, monkeypatch, (2, (3, 2))),
}
"""A case of each function of packing.py that makes a kernel."""
