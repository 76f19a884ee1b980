"""Around a step: all that is rounded before another optimizer's step, and all after it, each in one pass.

It gives the bits of one rounding after the other, for contiguous float32 and float64 tensors in formats
without groups, whatever the optimizer does to them. What it cannot do, it leaves to those.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec.ops.library import CARRIERS
from lowprec.ops.quantize import Spec
from lowprec.optim.casts import Casts
from lowprec.optim.roles import GRADIENT, MASTER, MOST_STATES, STATE, WEIGHT
from lowprec.optim.staging import DTYPES, Given, Staging, lie_apart, units_of


class Kept(NamedTuple):
    """What is kept of one parameter."""

    number: int
    parameter: Tensor
    gradient: Tensor
    casts: Casts
    master: Tensor | None
    digests: Tensor | None
    """Of the weights that the last step left, where there is a master."""
    states: tuple[tuple[Tensor, Spec, int], ...] = ()
    """Those that are rounded, each with its role."""

    def tensors(self) -> list[Tensor]:
        """All that a pass may look at."""
        own = [self.parameter, self.gradient, *(state for state, _, _ in self.states)]
        return own if self.master is None else [*own, self.master]

    def fits(self) -> bool:
        """Whether passes do for its memory."""
        p, sums = self.parameter, self.digests
        if p.dtype not in DTYPES or any(role >= STATE + MOST_STATES for _, _, role in self.states):
            return False
        if sums is not None and (not sums.is_cpu or sums.numel() != units_of(p)):
            return False
        return all(
            t.dtype == p.dtype and t.is_cpu and t.is_contiguous() and not t.is_neg() for t in self.tensors()
        )

    def key(self) -> tuple[Any, ...]:
        """What of it decides about the passes, but addresses."""
        p, roles = self.parameter, tuple((role, spec) for _, spec, role in self.states)
        return self.number, p.dtype, p.numel(), self.master is None, roles, self.casts


def are_apart(kept: Sequence[Kept], others: Sequence[Tensor]) -> bool:
    """Whether no two tensors share memory, so that the order of roundings is nobody's concern."""
    return lie_apart([*(t for each in kept for t in each.tensors()), *others])


class Around:
    """The passes before and after a step, made anew when what they round has changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, Staging]] = {}
        self._found: list[Tensor] = []

    def scale_and_look(self, kept: Sequence[Kept], scale: float, seed: int, step: int) -> list[Kept]:
        """Scale and round the gradients; the parameters whose weights somebody else has written to."""
        stages = self._stages("before", kept, partial(self._add_before, scale), scale)
        addresses = [t.data_ptr() for each in kept for t in (each.gradient, each.parameter)]
        stages.run(addresses, seed, step)
        changed = [k.gradient for k in kept if scale != 1.0 or k.casts.gradient is not None]
        torch.autograd.graph.increment_version(changed)
        mastered = [each for each in kept if each.digests is not None]
        pairs = zip(mastered, self._found, strict=True)
        return [each for each, found in pairs if not _equal(found, each.digests)]

    def lead(self, kept: Sequence[Kept]) -> None:
        """Set the parameters to their masters."""
        stages = self._stages("lead", kept, self._add_lead)
        pairs = [(k.parameter, k.master) for k in kept if k.master is not None]
        stages.run([t.data_ptr() for pair in pairs for t in pair], 0, 0)
        torch.autograd.graph.increment_version([p for p, _ in pairs])

    def settle(self, kept: Sequence[Kept], seed: int, step: int) -> None:
        """Round states, masters and weights, and digest these."""
        stages = self._stages("after", kept, self._add_after)
        places = [t for each in kept for t in _settled(each)]
        stages.run([t.data_ptr() for t in places], seed, step)
        changed = [state for each in kept for state, _, _ in each.states]
        changed += [each.master for each in kept if each.master is not None]
        changed += [each.parameter for each in kept if each.casts.weight is not None]
        torch.autograd.graph.increment_version(changed)

    def _stages(
        self,
        name: str,
        kept: Sequence[Kept],
        add: Callable[[Staging, Sequence[Kept]], None],
        what: object = None,
    ) -> Staging:
        """The stages for these parameters, those of last time if they do."""
        key = what, [each.key() for each in kept]
        if name not in self._made or self._made[name][0] != key:
            stages = Staging(max((each.parameter.element_size() for each in kept), default=0))
            add(stages, kept)
            stages.build(1)
            self._made[name] = key, stages
        return self._made[name][1]

    def _add_before(self, scale: float, stages: Staging, kept: Sequence[Kept]) -> None:
        """Gradients, and digests of weights as they are."""
        self._found = []
        for index, each in enumerate(kept):
            p, gradient = each.parameter, Given(2 * index)
            if scale == 1.0:
                stages.round(p, (gradient, gradient), each.casts.gradient, (each.number, GRADIENT))
            else:
                scaled = stages.buffer(0, -stages.bytes_of_unit(p))
                stages.copy(p, (gradient, scaled), stages.factor(CARRIERS[p.dtype], scale))
                stages.round(p, (scaled, gradient), each.casts.gradient, (each.number, GRADIENT))
            if each.digests is not None:
                self._found.append(torch.empty(units_of(p), dtype=torch.int64))
                stages.digest(p, Given(2 * index + 1), self._found[-1].data_ptr())
            stages.finish(p)

    def _add_lead(self, stages: Staging, kept: Sequence[Kept]) -> None:
        """From masters to parameters."""
        for index, each in enumerate(each for each in kept if each.master is not None):
            stages.copy(each.parameter, (Given(2 * index + 1), Given(2 * index)))
            stages.finish(each.parameter)

    def _add_after(self, stages: Staging, kept: Sequence[Kept]) -> None:
        """States, masters, weights and their digests."""
        first = 0
        for each in kept:
            p, number, weight = each.parameter, each.number, Given(first)
            for place, (_, spec, role) in enumerate(each.states, first + 1):
                stages.round(p, (Given(place), Given(place)), spec, (number, role))
            if each.master is not None:
                master = Given(first + 1 + len(each.states))
                stages.round(p, (weight, master), each.casts.master, (number, MASTER))
            stages.round(p, (weight, weight), each.casts.weight, (number, WEIGHT))
            if each.master is not None:
                stages.digest(p, weight, Given(first + 2 + len(each.states)))
            stages.finish(p)
            first += len(_settled(each))


def _settled(kept: Kept) -> list[Tensor]:
    """What the pass after a step looks at, in the order in which it numbers it."""
    found = [kept.parameter, *(state for state, _, _ in kept.states)]
    return found + [t for t in (kept.master, kept.digests) if t is not None]


def _equal(found: Tensor, known: Tensor | None) -> bool:
    """Whether digests are the same."""
    return known is not None and torch.equal(found, known)
