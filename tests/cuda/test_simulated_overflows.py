"""The CUDA twin of overflows.py, run by Numba's simulator: as many sums as the CPU counts."""

import numpy as np
import pytest
import torch
from product_cases import raw
from simulator import GRIDS, queue, simulated

from lowprec import Arithmetic
from lowprec.kernels import overflows
from lowprec.kernels.operands import Measure, pack
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.products import operand_of

pytestmark = simulated

COUNTED = [
    Arithmetic("fixed8f4"),
    Arithmetic("fixed6f2<wrap>", chunk=5, chunk_accumulate="fixed5f2<wrap>"),
    Arithmetic("ufixed4f2", order="pairwise"),
    Arithmetic("fixed3f0<wrap>", rounding="stochastic", random_bits=7, order="pairwise"),
    Arithmetic("fixed7f2", rounding="stochastic", multiply="e2m1", chunk=2, chunk_accumulate="fixed3f0"),
    Arithmetic("fixed5f2", multiply="fixed6f3", multiply_rounding="stochastic", order="pairwise"),
    Arithmetic("e3m1ieee", rounding="stochastic", order="pairwise", chunk=7, chunk_accumulate="fixed6f2"),
]  # fmt: skip


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Of full significands over some binades."""
    return torch.from_numpy(raw(np.random.default_rng(seed), *shape)).to(dtype)


def check(a, b, arithmetic: Arithmetic, monkeypatch, *, grid=(3, (5, 2)), seed: int = 9, stream: int = 3):
    """Both agree; what was counted."""
    from lowprec.ops.cuda import counting

    monkeypatch.setattr(counting, "queue_of", lambda _: queue(grid))
    got = counting.count_overflows(a, b, arithmetic, torch.tensor([seed]), stream)
    assert got == overflows.count(operand_of(a), operand_of(b), arithmetic, seed=seed, stream=stream)
    return got


@pytest.mark.parametrize("arithmetic", COUNTED, ids=lambda a: a.describe())
def test_every_order_and_mode(arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = numbers(2, 3, 13), numbers(2, 13, 4, seed=1)
    sums, fired = check(a, b, arithmetic, monkeypatch, stream=-(2**40))
    assert 0 < fired < sums
    check(a.bfloat16().mT.contiguous().mT, b.bfloat16()[:, :, ::2], arithmetic, monkeypatch, seed=-(2**63))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sizes", [(0, 3, 4), (2, 3, 0), (1, 1, 1), (3, 4, 8)])
def test_no_number_depends_on_size_or_grid(sizes, grid, monkeypatch: pytest.MonkeyPatch) -> None:
    m, n, depth = sizes
    for arithmetic in (COUNTED[0], COUNTED[3]):
        check(numbers(2, m, depth), numbers(2, depth, n, seed=1), arithmetic, monkeypatch, grid=grid)


def test_sums_that_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compensated ones, and wrapped ones of so large terms that only integers know them."""
    a = torch.tensor([[[2.0**70, 1.0 + 2.0**-20]]], dtype=torch.float64)
    wrapped = Arithmetic("fixed16f0<wrap>", rounding="toward_zero")
    for arithmetic in (wrapped, Arithmetic("bfloat16", compensation="kahan")):
        assert check(a, a.reshape(1, 2, 1), arithmetic, monkeypatch) is None
    assert check(a / 2.0**60, a.reshape(1, 2, 1) / 2.0**60, wrapped, monkeypatch) is not None


@pytest.mark.parametrize("dtype", CARRIERS, ids=str)
def test_operands_are_measured_as_on_the_cpu(dtype: torch.dtype) -> None:
    from lowprec.ops.cuda.counting import measured

    limits = torch.finfo(dtype)
    ends = [0.0, -0.0, 1.5, -limits.max, limits.tiny, limits.tiny * limits.eps, torch.inf, torch.nan, 0.1]
    for chosen in ([0, 1], [2, 0], [2, 8], [3, 4], [5, 2], [6, 2], [7, 1], [8, 3], [*range(9)]):
        x = torch.tensor([[[ends[i] for i in chosen]]], dtype=torch.float64).to(dtype)
        want = pack(operand_of(x), 1)[1]
        assert measured(x) == want
        assert type(want) is Measure


TWINS = {"firing": lambda monkeypatch: check(numbers(1, 3, 5), numbers(1, 5, 2), COUNTED[0], monkeypatch)}
"""A case of each function of overflows.py that makes kernels."""
