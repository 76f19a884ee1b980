"""Every kernel on a CUDA device as a ratio to its own copy of the same bytes, by its own clock."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from lowprec.app.bench import kernels
from lowprec.app.bench.figure import Probe
from lowprec.app.bench.measure import Effort, in_turns, microseconds_per_call, seconds
from lowprec.errors import value_error
from lowprec.modes import Rounding
from lowprec.ops import quantize

KERNELS, CALLS = "kernels on the device", "64 elements on the device"
_SIDE = 1 << 14
"""Of the matrices of a complete run: many times what a device's cache holds."""
_MODES = (Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO, Rounding.STOCHASTIC)
"""The others take as long as one of these."""
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
        >>> {probe.section for probe in probes(QUICK, torch.device("cpu"))} == {KERNELS, CALLS}
        True
    """
    effort = replace(effort, side=_SIDE) if effort.complete else effort
    for format, mode, carrier in kernels.rows(complete=effort.complete):
        if mode not in _MODES:
            continue
        measure = _into(format, mode, carrier, effort, device)
        yield Probe(KERNELS, f"{format} {mode} {carrier}", kernels.INTO, "of copy_", measure)
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
