"""Kernels on a CUDA device beside copies and what torch computes there, by the device's own clock."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from lowprec import elementary
from lowprec.app.bench import kernels, optimizers, products
from lowprec.app.bench.figure import Probe
from lowprec.app.bench.measure import Effort, in_turns, microseconds_per_call, seconds
from lowprec.errors import value_error
from lowprec.modes import Rounding
from lowprec.ops import quantize

KERNELS, CALLS = "kernels on the device", "64 elements on the device"
OPERATIONS, PRODUCTS = "single operations on the device", "matrix products on the device"
STEPS = "optimizer step on the device"
_SIDE = 1 << 14
"""Of the matrices of a complete run: many times what a device's cache holds."""
_MODES = (Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO, Rounding.STOCHASTIC)
"""The others take as long as one of these."""
_OPERATIONS = {"add": 2, "mul": 2, "div": 2, "sqrt": 1}
"""By how many operands they have."""
_SIZE: products.Size = (1024, 1024, 1024)
"""Of the products of a complete run."""
_AT_ONCE = 10
"""Calls between two marks of the device's clock, so that it does not wait for the host between them."""


def parsed(device: str) -> torch.device:
    """A device whose kernels can be measured.

    Args:
        device: "cpu", "cuda" or "cuda:N".

    Returns:
        The device.

    Raises:
        ValueError: If it is another one, torch does not find it, or the extra `cuda` is not installed.

    Example:
        >>> parsed("cpu")
        device(type='cpu')
        >>> parsed("tpu")
        Traceback (most recent call last):
        ValueError: `--device` must be cpu, cuda or cuda:N, got 'tpu'. There are kernels for these.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() or device == kind) or device.startswith("cpu:"):
        raise value_error("--device", "be cpu, cuda or cuda:N", device, "There are kernels for these.")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        remedy = f"Of these there are {count}; torch must be a build for CUDA, and find a driver."
        raise value_error("--device", "be a device that torch finds", device, remedy)
    try:
        importlib.import_module("lowprec.kernels.cuda")
    except ImportError as error:
        must = "be one for which the kernels are installed"
        raise value_error("--device", must, device, f"{error}.") from None
    return torch.device("cuda", int(number or 0))


def probes(effort: Effort, device: torch.device) -> Iterator[Probe]:
    """All probes of a device.

    Args:
        effort: How much to measure; a complete run takes matrices that no cache holds.
        device: Where.

    Returns:
        The probes, one table after the other.

    Example:
        >>> from lowprec.app.bench.measure import QUICK
        >>> sorted({probe.section for probe in probes(QUICK, torch.device("cpu"))})[-1]
        'single operations on the device'
    """
    effort = replace(effort, side=_SIDE) if effort.complete else effort
    for format, mode, carrier in kernels.rows(complete=effort.complete):
        if mode not in _MODES:
            continue
        measure = _into(format, mode, carrier, effort, device)
        yield Probe(KERNELS, f"{format} {mode} {carrier}", kernels.INTO, "of copy_", measure)
    for name in _OPERATIONS if effort.complete else ("mul",):
        for format, mode in (("e4m3fn", Rounding.NEAREST_EVEN), ("bfloat16", Rounding.STOCHASTIC)):
            measure = _operation(name, format, mode, effort, device)
            yield Probe(OPERATIONS, f"{name}, {format} {mode}", "float32", "of torch", measure)
    for case in products.CASES if effort.complete else products.CASES[:1]:
        size = _SIZE if effort.complete else (8, 8, 8)
        measure = _product(case, size, effort, device)
        yield Probe(PRODUCTS, case.row, " × ".join(map(str, size)), "of torch", measure)
    for kind in ("SGD", "AdamW") if effort.complete else ("SGD",):
        measure = _step(kind, effort, device)
        yield Probe(STEPS, f"{kind}, {optimizers.PARAMETERS}", optimizers.ONE_PASS, "of float32", measure)
    for format in kernels.FAMILIES if effort.complete else kernels.FAMILIES[:1]:
        for mode in (Rounding.NEAREST_EVEN, Rounding.STOCHASTIC):
            yield Probe(CALLS, f"{format} {mode}", "", "µs", _small(format, mode, effort, device))


@lru_cache(maxsize=1)
def _operands(carrier: str, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """An input of normally distributed values, and an output."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(side, side, generator=generator, device=device).to(getattr(torch, carrier))
    return x, torch.zeros_like(x)


def _seed(mode: Rounding, device: torch.device) -> Tensor | None:
    """A seed on the device where a mode takes one, so that none is copied there."""
    return torch.tensor([1], device=device) if mode.is_stochastic else None


def clock_of(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """What tells the time of a call on a device.

    Args:
        device: Where.

    Returns:
        A function from a call to seconds: by events of the current stream on CUDA, where many calls are
        put on it at once; by the host's clock elsewhere.

    Example:
        >>> clock_of(torch.device("cpu"))(list) >= 0
        True
    """
    if device.type != "cuda":
        return seconds

    def by_events(call: Callable[[], object]) -> float:
        with torch.cuda.device(device):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(_AT_ONCE):
                call()
            end.record()
            end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / _AT_ONCE

    return by_events


def _into(
    format: str, mode: Rounding, carrier: str, effort: Effort, device: torch.device
) -> Callable[[], float]:
    """Measures a kernel that writes where a copy writes."""

    def measure() -> float:
        x, out = _operands(carrier, effort.side, device)
        seed = _seed(mode, device)

        def call() -> Tensor:
            return quantize(x, format, rounding=mode, seed=seed, out=out)

        return in_turns(lambda: out.copy_(x), call, effort.repeats, clock_of(device))

    return measure


def _operation(
    name: str, format: str, mode: Rounding, effort: Effort, device: torch.device
) -> Callable[[], float]:
    """Measures a single operation beside torch's, which writes as many bytes."""

    def measure() -> float:
        x, _ = _operands("float32", effort.side, device)
        given, seed = (x.abs(), x)[: _OPERATIONS[name]], _seed(mode, device)
        own, other = getattr(elementary, name), getattr(torch, name)
        options = {"format": format, "rounding": mode, "seed": seed}
        return in_turns(
            lambda: own(*given, **options), lambda: other(*given), effort.repeats, clock_of(device)
        )

    return measure


def _product(
    case: products.Case, size: products.Size, effort: Effort, device: torch.device
) -> Callable[[], float]:
    """Measures a product beside torch's in float32."""

    def measure() -> float:
        a, b = products.pair(case.operands, size, device)
        own = products.multiplying(case, a, b)
        return in_turns(own, lambda: torch.bmm(a, b), effort.repeats, clock_of(device))

    return measure


def _step(kind: str, effort: Effort, device: torch.device) -> Callable[[], float]:
    """Measures a step beside torch's foreach step in float32."""

    def measure() -> float:
        divisor = 1 if effort.complete else 64
        own, other = (
            optimizers.stepping(kind, how, divisor=divisor, device=device)
            for how in (optimizers.ONE_PASS, None)
        )
        return in_turns(own, other, effort.repeats, clock_of(device))

    return measure


def _small(format: str, mode: Rounding, effort: Effort, device: torch.device) -> Callable[[], float]:
    """Measures what the host spends on a call, and the device on finishing it."""

    def measure() -> float:
        x, seed = torch.randn(8, 8, device=device), _seed(mode, device)

        def call() -> None:
            quantize(x, format, rounding=mode, seed=seed)

        taken = microseconds_per_call(call, effort.calls, effort.repeats)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return taken

    return measure
