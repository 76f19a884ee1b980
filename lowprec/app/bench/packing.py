"""Packing codes and unpacking them, as a ratio to a copy of the codes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lowprec.app.bench import floors
from lowprec.app.bench.figure import Limit, Probe
from lowprec.app.bench.measure import Effort, in_turns
from lowprec.ops.packing import pack, unpack

PACKING = "packing"
PACK, UNPACK = "pack", "unpack"
_WIDTHS = (4, 6)


def probes(effort: Effort) -> Iterator[Probe]:
    """All probes of packing.

    Args:
        effort: How much to measure.

    Returns:
        The probes, a row for each width.

    Example:
        >>> from lowprec.app.bench.measure import QUICK
        >>> [probe.column for probe in probes(QUICK)]
        ['pack', 'unpack']
    """
    for bits in _WIDTHS if effort.complete else _WIDTHS[:1]:
        floor = Limit(floors.PACK[bits], at_least=True) if bits in floors.PACK else None
        row = f"{bits} bits"
        yield Probe(PACKING, row, PACK, "of copy_", _measuring(bits, effort, packing), floor)
        yield Probe(PACKING, row, UNPACK, "of copy_", _measuring(bits, effort, unpacking))


def packing(codes: Tensor, bits: int) -> Callable[[], Tensor]:
    """A call of pack.

    Args:
        codes: Of the width.
        bits: The width.

    Returns:
        The call.

    Example:
        >>> packing(torch.tensor([1, 2], dtype=torch.uint8), 4)()
        tensor([33], dtype=torch.uint8)
    """
    return lambda: pack(codes, bits)


def unpacking(codes: Tensor, bits: int) -> Callable[[], Tensor]:
    """A call of unpack on the packed codes.

    Args:
        codes: Of the width.
        bits: The width.

    Returns:
        The call.

    Example:
        >>> unpacking(torch.tensor([1, 2], dtype=torch.uint8), 4)()
        tensor([1, 2], dtype=torch.uint8)
    """
    packed, shape = pack(codes, bits), codes.shape
    return lambda: unpack(packed, bits, shape)


def _measuring(
    bits: int, effort: Effort, bind: Callable[[Tensor, int], Callable[[], Tensor]]
) -> Callable[[], float]:
    """Measures one of the two, which make their output, against a copy into an existing one."""

    def measure() -> float:
        generator = torch.Generator().manual_seed(0)
        codes = torch.randint(1 << bits, (effort.side, effort.side), dtype=torch.uint8, generator=generator)
        out = torch.zeros_like(codes)
        return in_turns(lambda: out.copy_(codes), bind(codes, bits), effort.repeats)

    return measure
