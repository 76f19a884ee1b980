"""Who watches quantizations: an empty list costs one look."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lowprec.ops.quantize import Spec

Observer = Callable[[str, int, Tensor, Tensor, Tensor | None, Spec, int, Sequence[Tensor | None]], None]
"""Called with role, id of the layer or parameter (0 for none), x, y = quantize(x), seed, spec, stream and
the scales that were given, if any."""

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
        for observer in observers:
            observer(role, owner, x, y, seed, spec, stream, scales)
