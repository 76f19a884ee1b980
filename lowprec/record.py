"""record: what happened inside, counted for each layer and role."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from lowprec.errors import type_error
from lowprec.ops.gradients import overflowed
from lowprec.ops.observation import observers
from lowprec.ops.quantize import Spec
from lowprec.optim import LowPrecision


@dataclass(frozen=True)
class Counters:
    """How many elements were rounded, and what was lost.

    ``saturated`` counts elements where overflow fired (to the largest value, infinity or NaN),
    ``underflowed`` non-zero ones that became zero, ``nan`` results that are NaN.

    Example:
        >>> (Counters(4, 1, 0, 0) + Counters(4, 0, 2, 0)).underflow
        0.25
    """

    count: int = 0
    saturated: int = 0
    underflowed: int = 0
    nan: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        """The sums."""
        return Counters(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def saturation(self) -> float:
        """The fraction of elements where overflow fired; 0 if there are none."""
        return self.saturated / self.count if self.count else 0.0

    @property
    def underflow(self) -> float:
        """The fraction of elements that became zero and were not; 0 if there are none."""
        return self.underflowed / self.count if self.count else 0.0


class Recording:
    """The counters of one ``record`` block, for each (layer or parameter name, role)."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._sums: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self._counters: dict[tuple[str, str], Counters] = {}

    @property
    def counters(self) -> dict[tuple[str, str], Counters]:
        """Counters for each (layer name, role); parameters stand by their own names."""
        for key, rows in self._sums.items():
            count, saturated, underflowed, nan = torch.stack(rows).sum(0).tolist()
            self._counters[key] = self._counters.get(key, Counters()) + Counters(
                count, saturated, underflowed, nan
            )
        self._sums.clear()
        return dict(self._counters)

    def by_role(self) -> dict[str, Counters]:
        """Counters for each role, over all layers."""
        totals: dict[str, Counters] = {}
        for (_, role), counters in self.counters.items():
            totals[role] = totals.get(role, Counters()) + counters
        return totals

    def add(
        self,
        role: str,
        owner: int,
        x: Tensor,
        y: Tensor,
        seed: Tensor | None,
        spec: Spec,
        stream: int,
        scales: Sequence[Tensor | None],
    ) -> None:
        """Count one quantization, if it is the model's or the optimizer's."""
        if owner not in self._names:
            return
        counts = [
            torch.tensor(x.numel()),
            overflowed(x, seed, spec, stream, scales).sum(),
            ((y == 0) & (x != 0)).sum(),
            y.isnan().sum(),
        ]
        self._sums[self._names[owner], role].append(torch.stack(counts))


@contextmanager
def record(model: torch.nn.Module, optimizer: LowPrecision | None = None) -> Iterator[Recording]:
    """Count saturation, underflow and NaN of every cast while the block runs.

    Casts of the converted layers and Quantizers in ``model`` are counted by their names within it,
    and, if given, those of ``optimizer`` by the names of the parameters; others are not. What a
    checkpoint computes again is counted again. Outside a block nothing is counted and nothing is paid.

    Args:
        model: A converted model, not compiled.
        optimizer: The LowPrecision optimizer of its parameters.

    Yields:
        A Recording: ``counters`` for each (layer, role), ``by_role()`` over all layers.

    Raises:
        TypeError: If an argument has the wrong type.
        RuntimeError: If the model runs compiled inside the block.

    Example:
        >>> from lowprec.convert import convert
        >>> model = convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), "fp8-hybrid")
        >>> with record(model) as recording:
        ...     _ = model(torch.tensor([[1000.0, 1.0]]))
        >>> recording.counters["0", "input"]
        Counters(count=2, saturated=1, underflowed=0, nan=0)
    """
    if not isinstance(model, torch.nn.Module):
        raise type_error("model", "be a torch.nn.Module", type(model))
    if optimizer is not None and not isinstance(optimizer, LowPrecision):
        raise type_error("optimizer", "be a LowPrecision optimizer or None", type(optimizer))
    names = {id(layer): name or "(model)" for name, layer in model.named_modules()}
    if optimizer is not None:
        own = {id(p): name for name, p in model.named_parameters()}
        for number, p in optimizer.numbered_parameters():
            names[id(p)] = own.get(id(p), f"parameter {number}")
    recording = Recording(names)
    observers.append(recording.add)
    try:
        yield recording  # model and optimizer live as long as the block, and so do their ids
    finally:
        observers.remove(recording.add)
