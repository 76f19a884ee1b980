"""Every kernel as a ratio to a copy of the same bytes, and the cost of a call on few elements."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from lowprec.app.bench import floors, listed
from lowprec.app.bench.figure import Probe
from lowprec.app.bench.measure import Effort, in_turns, microseconds_per_call
from lowprec.modes import Rounding
from lowprec.ops import quantize

KERNELS, CALLS = "kernels", "64 elements"
INTO, NEW = "out=", "new output"
"""Into an existing tensor against ``copy_``; into a new one against ``clone``."""

CARRIERS = ("float32", "bfloat16", "float16", "float64")
FAMILIES = ("e4m3fn", "fixed8f6", "bfp8<channel0>")
"""One format of each family; its kernels serve the other formats too, as numbers."""

_NEAREST, _STOCHASTIC = Rounding.NEAREST_EVEN, Rounding.STOCHASTIC
_COMMON = (_NEAREST, Rounding.TOWARD_ZERO, _STOCHASTIC)
_FURTHER = (
    *((name, _NEAREST) for name in ("e5m2", "binary16", "bfloat16", "tf32", "e2m1")),
    *(("fixed8f6<wrap>", mode) for mode in _COMMON),
    *product(("bfp8", "bfp8<group32>"), (_NEAREST, _STOCHASTIC)),
    ("bfp8<group32@0>", _NEAREST),
    *product(("mxfp8_e4m3", "mxfp4", "nvfp4"), (_NEAREST, _STOCHASTIC)),
    *((name, _NEAREST) for name in ("mxfp6_e2m3", "mxint8", "int8", "uint8")),
    *((f"scaled<{element},e8m0,group32@0>", _NEAREST) for element in ("e4m3fn", "e2m1")),
    ("scaled<e4m3fn,float32,amax>", _NEAREST),
    *product(("posit8", "posit16", "log4f3", str(listed.FEW), str(listed.MANY)), (_NEAREST, _STOCHASTIC)),
    *((name, _NEAREST) for name in ("ternary", "nf4", "binary8p4se")),
)
_SCALED = ("mxfp8_e4m3", "nvfp4")
"""Of those in the other carriers too, under nearest_even."""

_QUICK = (
    *(("e4m3fn", mode) for mode in (_NEAREST, _STOCHASTIC)),
    *((name, _NEAREST) for name in ("bfp8<channel0>", "mxfp4", "nvfp4")),
)


def rows(*, complete: bool) -> Iterator[tuple[str, Rounding, str]]:
    """Format, mode and carrier of each kernel that is measured.

    Args:
        complete: In float32 every family in every mode, and further formats; in the other carriers
            floating point in every mode, the other families in three, and two scaled formats. Else a few.

    Returns:
        The rows, in the order of the table.

    Example:
        >>> next(rows(complete=True))
        ('e4m3fn', <Rounding.NEAREST_EVEN: 'nearest_even'>, 'float32')
    """
    for format, mode in (*product(FAMILIES, Rounding), *_FURTHER) if complete else _QUICK:
        yield format, mode, "float32"
    for carrier in CARRIERS[1:] if complete else ():
        for format in FAMILIES:
            for mode in Rounding if format == "e4m3fn" else _COMMON:
                yield format, mode, carrier
        for format in _SCALED:
            yield format, _NEAREST, carrier


@lru_cache(maxsize=1)
def operands(carrier: str, side: int) -> tuple[Tensor, Tensor]:
    """An input of normally distributed values, and an output whose memory has been touched.

    Args:
        carrier: The name of the dtype.
        side: Of a square matrix.

    Returns:
        Both; kept until another pair is asked for.

    Example:
        >>> x, out = operands("bfloat16", 4)
        >>> x.shape == out.shape == (4, 4)
        True
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(side, side, generator=generator).to(getattr(torch, carrier))
    return x, torch.zeros_like(x)


def quantizing(x: Tensor, format: str, rounding: Rounding, out: Tensor | None = None) -> Callable[[], Tensor]:
    """A call of quantize, with a seed where the mode takes one.

    Args:
        x: The input.
        format: The name of the format.
        rounding: The mode.
        out: Where the result goes, or None.

    Returns:
        The call.

    Example:
        >>> quantizing(torch.tensor([0.3]), "fixed8f2", Rounding.NEAREST_EVEN)()
        tensor([0.2500])
    """
    seed = torch.tensor([1]) if rounding.startswith("stochastic") else None
    return lambda: quantize(x, format, rounding=rounding, seed=seed, out=out)


def probes(effort: Effort) -> Iterator[Probe]:
    """All probes of kernels and of small calls.

    Args:
        effort: How much to measure.

    Returns:
        The probes, one table after the other.

    Example:
        >>> from lowprec.app.bench.measure import FULL
        >>> {probe.section for probe in probes(FULL)} == {KERNELS, CALLS}
        True
    """
    for format, mode, carrier in rows(complete=effort.complete):
        kernel = f"{format} {mode} {carrier}"
        floor = floors.of_kernel(format, mode, carrier)
        yield Probe(KERNELS, kernel, INTO, "of copy_", _into(format, mode, carrier, effort), floor)
        if carrier == "float32":
            yield Probe(KERNELS, kernel, NEW, "of clone", _new(format, mode, effort))
    formats = FAMILIES if effort.complete else FAMILIES[:1]
    for format, mode, autograd in product(formats, (_NEAREST, _STOCHASTIC), (False, True)):
        limit = floors.of_call(stochastic=mode is _STOCHASTIC, autograd=autograd)
        column = "autograd" if autograd else "no autograd"
        yield Probe(CALLS, f"{format} {mode}", column, "µs", _small(format, mode, autograd, effort), limit)


def _into(format: str, mode: Rounding, carrier: str, effort: Effort) -> Callable[[], float]:
    """Measures a kernel that writes where a copy writes."""

    def measure() -> float:
        x, out = operands(carrier, effort.side)
        return in_turns(lambda: out.copy_(x), quantizing(x, format, mode, out), effort.repeats)

    return measure


def _new(format: str, mode: Rounding, effort: Effort) -> Callable[[], float]:
    """Measures a kernel that makes its output, as a clone does."""

    def measure() -> float:
        x, _ = operands("float32", effort.side)
        return in_turns(x.clone, quantizing(x, format, mode), effort.repeats)

    return measure


def _small(format: str, mode: Rounding, autograd: bool, effort: Effort) -> Callable[[], float]:
    """Measures what a call costs besides its work; a stochastic one draws its own seed."""

    def measure() -> float:
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), requires_grad=autograd)
        return microseconds_per_call(lambda: quantize(x, format, rounding=mode), effort.calls, effort.repeats)

    return measure
