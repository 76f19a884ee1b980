"""Who watches quantizations: an empty list costs one look."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lowprec.ops.quantize import Spec


class Observation(NamedTuple):
    """One quantization, as observers see it."""

    role: str
    owner: int
    """The id of the layer or parameter; 0 for none."""
    x: Tensor
    y: Tensor
    """What x became."""
    seed: Tensor | None
    spec: Spec
    stream: int
    scales: Sequence[Tensor | None] = ()
    """Those that were given, if any."""
    before: Tensor | None = None
    """Where the step began that has made x, if x is what an optimizer keeps."""


Observer = Callable[[Observation], None]

observers: list[Observer] = []

COMPILED = -1
"""The owner of what a compiled layer rounds, also where a graph breaks and goes on eagerly."""


def owner_of(layer: torch.nn.Module) -> int:
    """What observers know a layer by."""
    return COMPILED if torch.compiler.is_compiling() else id(layer)


def observe(
    role: str,
    owner: int,
    x: Tensor,
    y: Tensor,
    seed: Tensor | None,
    spec: Spec,
    stream: int,
    scales: Sequence[Tensor | None] = (),
    before: Tensor | None = None,
) -> None:
    """Show one quantization to every observer."""
    if not observers:
        return
    if owner == COMPILED or torch.compiler.is_compiling():
        raise RuntimeError(
            "`record` must watch a model that is not compiled: a compiled graph calls no observer. "
            "Record the original module."
        )
    with torch.no_grad():
        seen = Observation(role, owner, x, y, seed, spec, stream, scales, before)
        for observer in observers:
            observer(seen)
