"""The step of an optimizer over the parameters of ResNet-18, beside torch's own in float32."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from lowprec.app.bench import floors
from lowprec.app.bench.figure import Limit, Probe, Unavailable
from lowprec.app.bench.measure import Effort, in_turns
from lowprec.app.bench.peers import imported
from lowprec.cast import Cast
from lowprec.optim import SGD, AdamW, LowPrecision

OPTIMIZERS = "optimizer step"
ONE_PASS, EACH, QTORCH = "lowprec.optim", "LowPrecision around foreach", "qtorch OptimLP"
"""Steps in one pass; the roundings before and after torch's own step; the same by QPyTorch."""

PARAMETERS = "parameters of ResNet-18, every role e5m2 stochastic"
"""What is stepped."""
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Output channels and stride of each stage of two blocks."""


def shapes() -> list[tuple[int, ...]]:
    """The shapes of ResNet-18's parameters, in order.

    Returns:
        Those of 20 convolutions with batch normalization and of a linear layer of 1000 classes.

    Example:
        >>> len(shapes()), sum(torch.Size(shape).numel() for shape in shapes())
        (62, 11689512)
    """
    found: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    before = 64
    for channels, stride in _STAGES:
        for block in range(2):
            found += [(channels, before, 3, 3), (channels,), (channels,)]
            found += [(channels, channels, 3, 3), (channels,), (channels,)]
            if block == 0 and stride == 2:
                found += [(channels, before, 1, 1), (channels,), (channels,)]
            before = channels
    return [*found, (1000, before), (1000,)]


def stepping(
    kind: str, how: str | None, *, divisor: int = 1, device: torch.device | None = None
) -> Callable[[], Any]:
    """A step with its states made, ready to be repeated.

    Args:
        kind: ``"SGD"`` or ``"AdamW"``.
        how: One of the columns; None for torch's foreach step in float32.
        divisor: What the largest size of each parameter is divided by.
        device: Where the parameters lie; None for the CPU.

    Returns:
        The step.

    Raises:
        Unavailable: If QPyTorch is not installed, or does not take the optimizer.

    Example:
        >>> stepping("SGD", ONE_PASS, divisor=64)() is None
        True
    """
    generator = torch.Generator().manual_seed(0)
    parameters = []
    for first, *rest in shapes():
        shape = max(first // divisor, 1), *rest
        p = nn.Parameter((0.05 * torch.randn(shape, generator=generator)).to(device))
        p.grad = (0.01 * torch.randn(shape, generator=generator)).to(device)
        parameters.append(p)
    optimizer = _optimizer(kind, how, parameters)
    optimizer.step()
    return optimizer.step


def _optimizer(kind: str, how: str | None, parameters: list[nn.Parameter]) -> Any:
    """The optimizer of a column, all that it keeps e5m2, stochastically."""
    cast = Cast("e5m2", "stochastic")
    casts: dict[str, Any] = {"weight": cast, "gradient": cast, "state": cast, "master": cast, "seed": 0}
    options: dict[str, Any] = {"lr": 0.01, "momentum": 0.9} if kind == "SGD" else {"lr": 0.001}
    if how == ONE_PASS:
        return (SGD if kind == "SGD" else AdamW)(parameters, **options, **casts)
    inner = getattr(torch.optim, kind)(parameters, **options, foreach=how != QTORCH)
    if how is None:
        return inner
    if how == EACH:
        return LowPrecision(inner, **casts)
    numbers, quants, optim = imported("qtorch", ("qtorch", "qtorch.quant", "qtorch.optim"))
    quant = quants.quantizer(numbers.FloatingPoint(5, 2), forward_rounding="stochastic")
    try:
        return optim.OptimLP(
            inner, weight_quant=quant, grad_quant=quant, momentum_quant=quant, acc_quant=quant
        )
    except AssertionError as error:
        raise Unavailable(f"takes no {kind}") from error


def probes(effort: Effort) -> Iterator[Probe]:
    """A row for each optimizer.

    Args:
        effort: How much to measure.

    Returns:
        The probes.

    Example:
        >>> from lowprec.app.bench.measure import QUICK
        >>> [str(probe.limit) for probe in probes(QUICK)]
        ['≤ 1.3', '≤ 2.5', 'None']
    """
    limits = {ONE_PASS: floors.ONE_PASS, EACH: floors.EACH}
    for kind in ("SGD", "AdamW") if effort.complete else ("SGD",):
        row = f"{kind}, {PARAMETERS}"
        for how in (ONE_PASS, EACH, QTORCH):
            limit = Limit(limits[how], at_least=False) if how in limits else None
            yield Probe(OPTIMIZERS, row, how, "of float32", _measuring(kind, how, effort), limit)


def _measuring(kind: str, how: str, effort: Effort) -> Callable[[], float]:
    """Measures a column over torch's foreach step, in turns."""

    def measure() -> float:
        divisor = 1 if effort.complete else 64
        low = stepping(kind, how, divisor=divisor)
        return in_turns(low, stepping(kind, None, divisor=divisor), effort.repeats)

    return measure
