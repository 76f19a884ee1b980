"""The CUDA twin of single operations, run by Numba's simulator: the CPU's bits."""

from typing import Any

import numpy as np
import pytest
import torch
from elementary_cases import OPERATIONS, operands
from simulator import GRIDS, queue, same_bits, simulated

from lowprec import Rounding

pytestmark = simulated

# Results in binary64 rounded to odd, and significands: of each several endings, a posit, a list.
QUICK = ("e4m3fn", "e5m2<saturate>", "fixed8f4", "posit8", "normalfloat4")
EXACTLY = ("binary32", "fixed8f4<wrap>", "fixed24f8")
CARRIERS = (torch.float32, torch.float64)
Spec = tuple[str, str, int]


class UnknownError(Exception):
    """Wrapped results that are too large."""


def refuse() -> Any:
    """Raise it."""
    raise UnknownError


def twin(operation: str, given: list[torch.Tensor], spec: Spec, monkeypatch, grid=None) -> torch.Tensor:
    """What the CUDA twin gives."""
    from lowprec.ops.cuda import elementary

    monkeypatch.setattr(elementary, "queue_of", lambda _: queue(grid))
    out = given[0].new_full(given[0].shape, 123)
    elementary.operate(operation, given, out, torch.tensor([7]), *spec, 3, refuse)
    return out


def check(operation: str, given: list[torch.Tensor], spec: Spec, monkeypatch, grid=None) -> None:
    """It agrees with the CPU's kernel, where that knows the results."""
    try:
        want = torch.ops.lowprec.elementary(operation, given, torch.tensor([7]), *spec, 3)
    except ValueError:
        with pytest.raises(UnknownError):
            twin(operation, given, spec, monkeypatch, grid)
        return
    assert same_bits(twin(operation, given, spec, monkeypatch, grid), want), (operation, spec)


def hard(operation: str, carrier: torch.dtype, seed: int, count: int) -> list[torch.Tensor]:
    """About so many hard operands of an operation other than a difference."""
    dtype = np.float64 if carrier == torch.float64 else np.float32
    rows = operands(operation, dtype, seed, 60)
    kept = slice(seed % 5, None, max(1, rows[0].size // count))
    return [torch.from_numpy(row[kept].copy()).to(carrier) for row in rows]


def can_be(format: str, mode: Rounding, carrier: torch.dtype) -> bool:
    """Whether results are rounded to a format so."""
    from lowprec.ops.elementary import spec_of_results

    try:
        spec_of_results(format, mode, None, carrier)
    except ValueError:
        return False
    return True


NAMES = [name for name in OPERATIONS if name != "sub"]
"""A difference is a sum."""
EVERY = [
    (name, format, mode, carrier)
    for format in (*QUICK, *EXACTLY)
    for mode in Rounding
    for name in NAMES
    for carrier in CARRIERS
    if can_be(format, mode, carrier)
]
CHOSEN = EVERY[::19]
REST = [pytest.param(*case, marks=pytest.mark.exhaustive) for case in EVERY if case not in CHOSEN]


@pytest.mark.parametrize(("operation", "format", "mode", "carrier"), [*CHOSEN, *REST])
def test_the_bits_of_the_cpu(operation: str, format: str, mode: Rounding, carrier, monkeypatch) -> None:
    given = hard(operation, carrier, len(format) + len(mode), 70)
    check(operation, given, (format, str(mode), 32), monkeypatch, (2, (5, 1)))


@pytest.mark.parametrize("carrier", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("operation", NAMES)
def test_numbers_of_16_bits(operation: str, carrier: torch.dtype, monkeypatch) -> None:
    given = hard(operation, carrier, 4, 60)
    for spec in (("e4m3fn", "nearest_even", 32), ("e5m2", "stochastic", 5), ("fixed8f4<wrap>", "down", 32)):
        check(operation, given, spec, monkeypatch, (1, (32, 1)))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_and_size_has_the_words_of_the_cpu(grid, monkeypatch) -> None:
    for size in (0, 1, 255, 256, 257, 1000):
        given = [torch.linspace(-3, 5, size), torch.linspace(2, -7, size)]
        check("mul", given, ("e4m3fn", "stochastic", 32), monkeypatch, grid)
        if size < 300:
            check("add", given, ("binary32", "stochastic", 32), monkeypatch, grid)


def test_operands_that_are_not_contiguous(monkeypatch) -> None:
    x = torch.linspace(-3, 5, 60).reshape(6, 10)
    for given in ([x.t(), x[:, :6].expand(10, 6, 6)[:, :, 0]], [x[::2, 1::3], x[1::2, ::3][:, :3]]):
        check("div", given, ("e4m3fn", "stochastic", 32), monkeypatch, (2, (5, 1)))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("mode", ["down", "nearest_even"])
def test_exact_zeros_have_the_sign_of_the_cpu(mode: str, carrier: torch.dtype, monkeypatch) -> None:
    x = torch.tensor([1.5, -2.0, 0.0, -0.0, 0.0, -0.0], dtype=carrier)
    y = torch.tensor([-1.5, 2.0, 0.0, -0.0, -0.0, 0.0], dtype=carrier)
    for format in ("e4m3fn", "fixed24f8<wrap>", "binary64" if carrier == torch.float64 else "binary32"):
        for operation, given in (("add", [x, y]), ("fma", [x, torch.ones_like(x), y]), ("mul", [x, y])):
            check(operation, given, (format, mode, 32), monkeypatch, (1, (6, 1)))


def test_wrapped_results_that_are_not_known_are_refused(monkeypatch) -> None:
    given = [torch.tensor([1.0, 2.0**62]).double(), torch.tensor([1.0, 0.75]).double()]
    spec = "fixed8f4<wrap>", "nearest_even", 32
    with pytest.raises(UnknownError):
        twin("add", given, spec, monkeypatch, (1, (3, 1)))
    check("add", [x[:1] for x in given], spec, monkeypatch, (1, (3, 1)))


TWINS = {
    "operating": lambda monkeypatch: check(
        "fma", hard("fma", torch.float64, 1, 300), ("e4m3fn", "stochastic", 32), monkeypatch, (2, (5, 1))
    ),
}
"""A case of each function of elementary.py that makes a kernel."""
