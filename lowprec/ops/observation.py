"""Who watches quantizations: an empty list costs one look."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

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


class SeenProduct(NamedTuple):
    """One matrix product in an arithmetic, as those see it who look on."""

    owner: int
    """The id of the layer."""
    roles: str
    """What its two operands are."""
    sums: int
    """How many sums are in it,"""
    overflowed: int
    """and how many of them overflowed."""


product_observers: list[Callable[[SeenProduct], None]] = []

_Result = TypeVar("_Result")
_owner: ContextVar[int] = ContextVar("owner", default=0)
"""Whose products are computed; 0 for nobody's."""

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


def owning(owner: int, call: Callable[[], _Result]) -> _Result:
    """What a call gives, of which every product belongs to a layer."""
    if torch.compiler.is_compiling() or not product_observers:
        return call()
    before = _owner.set(owner)
    try:
        return call()
    finally:
        _owner.reset(before)


def product_owner() -> int:
    """Whose products are to be counted; 0 for nobody's."""
    return _owner.get() if product_observers else 0


def observe_product(roles: str, sums: int, overflowed: int) -> None:
    """Show one product to everyone who looks on."""
    for observer in product_observers:
        observer(SeenProduct(_owner.get(), roles, sums, overflowed))
