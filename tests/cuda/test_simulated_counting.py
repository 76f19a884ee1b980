"""The CUDA twin of count, run by Numba's simulator: the CPU's numbers, sums of squares included."""

import pytest
import torch
from hard_inputs import hard_values
from simulator import GRIDS, queue, simulated

from lowprec.formats import resolve
from lowprec.kernels import counting
from lowprec.kernels.limits import limits_of
from lowprec.ops.carriers import CARRIERS

pytestmark = simulated


def check(x, format, monkeypatch, rounding="nearest_even", grid=(2, (4, 2)), y=None):
    """Both agree."""
    from lowprec.ops.cuda import counting as twins

    monkeypatch.setattr(twins, "queue_of", lambda _: queue(grid))
    carrier = CARRIERS[x.dtype]
    y = torch.ops.lowprec.quantize(x, torch.tensor([3]), format, rounding, 32) if y is None else y
    limits = limits_of(format, rounding, 32, carrier)
    got = twins.count(x, y, limits)
    want = counting.count(
        x.data_ptr(), y.data_ptr(), carrier, tuple(x.shape), x.stride(), y.stride(), limits, 1
    )
    assert got.exponents.tolist() == want.exponents.tolist()
    assert repr(got._replace(exponents=())) == repr(want._replace(exponents=()))  # -0 and NaN told apart
    return got


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("format", ["e4m3fn", "fixed8f4"])
@pytest.mark.parametrize("dtype", CARRIERS, ids=str)
def test_every_carrier(dtype, format, rounding, monkeypatch):
    values = torch.from_numpy(hard_values(resolve(format), CARRIERS[dtype]).copy()).to(dtype)
    check(values[:: max(1, values.numel() // 250)].contiguous(), format, monkeypatch, rounding)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [0, 1, 257, 700])
def test_no_number_depends_on_size_or_grid(size, grid, monkeypatch):
    x = 200 * torch.randn(size, generator=torch.Generator().manual_seed(size))
    got = check(x, "e4m3fn", monkeypatch, grid=grid)
    assert size < 255 or 0 < got.certain < size


def test_strides_and_results_of_others(monkeypatch):
    x = torch.randn(6, 10, 7, generator=torch.Generator().manual_seed(1))
    for view in (x.permute(2, 0, 1), x[::2, :, 1::3], x[0].expand(3, -1, -1), x[0, 0, 0]):
        check(view, "e4m3fn", monkeypatch)
    check(x, "e4m3fn", monkeypatch, y=x.permute(2, 1, 0).contiguous().permute(2, 1, 0) * float("inf"))


def test_several_chunks(monkeypatch):
    monkeypatch.setattr(counting, "SERIAL_BELOW", 64)
    counting.chunks_of.cache_clear()
    x = torch.randn(70, 40, generator=torch.Generator().manual_seed(2))
    check(x, "e4m3fn", monkeypatch)
    check(x.t()[:, ::2], "e4m3fn", monkeypatch)
    counting.chunks_of.cache_clear()


TWINS = {"counting": lambda monkeypatch: check(torch.linspace(-500, 500, 300), "e4m3fn", monkeypatch)}
"""A case of each function of counting.py that makes a kernel."""
