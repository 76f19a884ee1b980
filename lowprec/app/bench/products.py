"""Matrix products in which every sum is rounded, beside torch's own in float32."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec.app.bench import floors
from lowprec.app.bench.figure import Limit, Probe
from lowprec.app.bench.measure import Effort, in_turns, seconds
from lowprec.arithmetic import Arithmetic
from lowprec.ops import quantize
from lowprec.ops.products import make_sums, product

PRODUCTS = "matrix products"
RAW = "raw"
"""Operands that are not rounded."""

Size = tuple[int, int, int]
SIZES: tuple[Size, ...] = ((128, 128, 128), (512, 512, 512), (64, 4096, 64))
LIMITED: Size = (512, 512, 512)
"""Where limits hold."""
_QUICK: Size = (8, 8, 8)


class Case(NamedTuple):
    """A row: what operands are rounded to, in what arithmetic they are multiplied, and which floor is its."""

    operands: str
    arithmetic: Arithmetic
    kind: str

    @property
    def row(self) -> str:
        """Its name in the table."""
        return f"{self.operands}: {self.arithmetic.describe()}"


def _cases() -> Iterator[Case]:
    """Every kind of sum, of operands in eight bits and of raw ones."""
    for operands, accumulators in (
        ("e4m3fn", ("e4m3fn", "bfloat16")),
        (RAW, ("e4m3fn", "bfloat16", "binary32")),
    ):
        kinds: list[tuple[str, dict[str, Any]]] = [
            (floors.NEAREST, {}),
            (floors.ROUNDED, {"multiply": None}),
            (floors.DRAWN, {"rounding": "stochastic"}),
            (floors.KAHAN, {"compensation": "kahan"}),
        ]
        for kind, options in kinds:
            for name in accumulators[: 2 if kind in (floors.DRAWN, floors.KAHAN) else 3]:
                own: dict[str, Any] = {
                    key: name if key == "multiply" else value for key, value in options.items()
                }
                yield Case(operands, Arithmetic(name, **own), kind)
    yield Case("fixed8f0", Arithmetic("fixed16f0<wrap>"), floors.WRAPPED)


CASES = tuple(_cases())
"""The rows, in their order."""


def pair(operands: str, size: Size, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Two normally distributed matrices.

    Args:
        operands: The format that they are rounded to, or ``"raw"``; for integers they are scaled up before.
        size: Rows, products of a sum, columns.
        device: Where they lie; None for the CPU.

    Returns:
        Both, float32, as batches of one.

    Example:
        >>> pair("fixed8f0", (1, 2, 1))[0]
        tensor([[[ 62., -12.]]])
    """
    generator = torch.Generator().manual_seed(0)
    m, k, n = size
    factors = [torch.randn(1, *shape, generator=generator).to(device) for shape in ((m, k), (k, n))]
    if operands != RAW:
        scale = 40.0 if operands.startswith("fixed") else 1.0
        factors = [quantize(x * scale, operands) for x in factors]
    return factors[0], factors[1]


def multiplying(case: Case, a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    """A call of the operator.

    Args:
        case: The arithmetic.
        a: The left operand.
        b: The right one.

    Returns:
        The call.

    Example:
        >>> multiplying(CASES[0], torch.full((1, 1, 20), 1.0), torch.ones(1, 20, 1))().item()
        16.0
    """
    sums = make_sums(case.arithmetic)
    seed = torch.tensor(1, device=a.device) if sums.is_stochastic else None
    return lambda: product(a, b, None, seed, sums, 0)


def probes(effort: Effort) -> Iterator[Probe]:
    """All products: the time relative to torch's, and beside it how many products are added up in a second.

    Args:
        effort: How much to measure; two rows of few elements if it is not complete.

    Returns:
        The probes.

    Example:
        >>> from lowprec.app.bench.measure import FULL
        >>> sorted({str(probe.limit) for probe in probes(FULL) if probe.row == CASES[0].row})
        ['None', '≤ 20']
    """
    for case in CASES if effort.complete else (CASES[0], CASES[-1]):
        for size in SIZES if effort.complete else (_QUICK,):
            name = " × ".join(map(str, size))
            most = floors.of_product(case.kind, raw=case.operands == RAW)
            limit = Limit(most, at_least=False) if size == LIMITED else None
            yield Probe(PRODUCTS, case.row, name, "of torch", _ratio(case, size, effort), limit)
            yield Probe(PRODUCTS, case.row, f"{name} G/s", "G MAC/s", _rate(case, size, effort))


def _ratio(case: Case, size: Size, effort: Effort) -> Callable[[], float]:
    """Measures a product beside torch's float32 product of the same operands, on as many threads."""

    def measure() -> float:
        a, b = pair(case.operands, size)
        return in_turns(multiplying(case, a, b), lambda: torch.bmm(a, b), effort.repeats)

    return measure


def _rate(case: Case, size: Size, effort: Effort) -> Callable[[], float]:
    """Measures multiply-adds of a product by themselves."""

    def measure() -> float:
        call = multiplying(case, *pair(case.operands, size))
        call()
        m, k, n = size
        return m * k * n / statistics.median(seconds(call) for _ in range(effort.repeats)) / 1e9

    return measure
