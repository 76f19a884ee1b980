"""Around a step: all that is rounded before another optimizer's step, and all after it, each in one pass.

It gives the bits of one rounding after the other, for contiguous float32 and float64 tensors in formats
without groups, whatever the optimizer does to them. What it cannot do, it leaves to those.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec.ops.carriers import CARRIERS
from lowprec.ops.quantize import Spec
from lowprec.optim.casts import Casts
from lowprec.optim.roles import GRADIENT, MASTER, MOST_STATES, STATE, WEIGHT
from lowprec.optim.staging import DTYPES, Given, Staging, lie_apart, span_of, units_of


class Kept(NamedTuple):
    """What is kept of one parameter."""

    number: int
    parameter: Tensor
    gradient: Tensor | None
    """None after a step."""
    casts: Casts
    master: Tensor | None = None
    digests: Tensor | None = None
    """Of the weights that the last step left, where there is a master."""
    states: Sequence[Tensor] = ()
    """Those that are rounded."""
    rounded: Sequence[tuple[Spec, int]] = ()
    """How states are, and the role of each."""

    def tensors(self) -> list[Tensor]:
        """All that a pass may look at."""
        given = self.parameter, self.gradient, self.master
        return [*(t for t in given if t is not None), *self.states]

    def fits(self) -> bool:
        """Whether passes do for its memory."""
        p, sums = self.parameter, self.digests
        dtype = p.dtype
        if dtype not in DTYPES or any(role >= STATE + MOST_STATES for _, role in self.rounded):
            return False
        if sums is not None and (not sums.is_cpu or sums.numel() != units_of(p)):
            return False
        for t in self.tensors():
            if t.dtype != dtype or not t.is_contiguous() or not t.is_cpu or t.is_neg():
                return False
        return True

    def key(self) -> tuple[Any, ...]:
        """What of it decides about the passes, but addresses."""
        p = self.parameter
        return self.number, p.dtype, p.numel(), self.master is None, self.rounded, self.casts


class Around:
    """The passes before and after a step, made anew when what they round has changed."""

    def __init__(self) -> None:
        self._before, self._lead, self._after = (Staging(0) for _ in range(3))
        self._keys: dict[str, Any] = {}
        self._spans: dict[bool, tuple[list[tuple[int, int]], bool]] = {}
        self._found: list[Tensor] = []

    def are_apart(self, kept: Sequence[Kept], others: Sequence[Tensor], *, after: bool) -> bool:
        """Whether no two tensors share memory, so that the order of roundings is nobody's concern.

        Looked at anew, before or after a step, when a tensor has moved.
        """
        spans = [
            (t.data_ptr(), size)
            for each in kept
            if (size := each.parameter.nbytes)
            for t in each.tensors()
        ]  # fmt: skip
        spans += [span for t in others if (span := span_of(t))[1]]
        if after not in self._spans or self._spans[after][0] != spans:
            self._spans[after] = spans, lie_apart(spans)
        return self._spans[after][1]

    def scale_and_look(self, kept: Sequence[Kept], scale: float, seed: int, step: int) -> list[Kept]:
        """Scale and round the gradients; the parameters whose weights somebody else has written to."""
        if self._is_new("before", kept, scale):
            self._before, self._lead = _begun(kept), _begun(kept)
            self._add_before(kept, scale)
            self._add_lead(kept)
        pairs = [(each.gradient, each.parameter) for each in kept if each.gradient is not None]
        self._before.run([t.data_ptr() for pair in pairs for t in pair], seed, step)
        changed = [k.gradient for k in kept if scale != 1.0 or k.casts.gradient is not None]
        _tell(changed)
        mastered = (each for each in kept if each.digests is not None)
        found = zip(mastered, self._found, strict=True)
        return [each for each, sums in found if each.digests is None or not torch.equal(sums, each.digests)]

    def lead(self, kept: Sequence[Kept]) -> None:
        """Set the parameters to their masters; the gradients of these have just been rounded."""
        pairs = [(k.parameter, k.master) for k in kept if k.master is not None]
        self._lead.run([t.data_ptr() for pair in pairs for t in pair], 0, 0)
        _tell([p for p, _ in pairs])

    def settle(self, kept: Sequence[Kept], seed: int, step: int) -> None:
        """Round states, masters and weights, and digest these."""
        if self._is_new("after", kept, None):
            self._after = _begun(kept)
            self._add_after(kept)
        self._after.run([t.data_ptr() for each in kept for t in _settled(each)], seed, step)
        _tell([state for each in kept for state in each.states])
        _tell([each.master for each in kept])
        _tell([each.parameter for each in kept if each.casts.weight is not None])

    def _is_new(self, name: str, kept: Sequence[Kept], scale: float | None) -> bool:
        """Whether other passes than last time are needed."""
        key = scale, [each.key() for each in kept]
        if self._keys.get(name) == key:
            return False
        self._keys[name] = key
        return True

    def _add_before(self, kept: Sequence[Kept], scale: float) -> None:
        """Gradients, and digests of weights as they are."""
        stages, self._found = self._before, []
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
        stages.build(1)

    def _add_lead(self, kept: Sequence[Kept]) -> None:
        """From masters to parameters."""
        for index, each in enumerate(each for each in kept if each.master is not None):
            self._lead.copy(each.parameter, (Given(2 * index + 1), Given(2 * index)))
            self._lead.finish(each.parameter)
        self._lead.build(0)

    def _add_after(self, kept: Sequence[Kept]) -> None:
        """States, masters, weights and their digests."""
        first, stages = 0, self._after
        for each in kept:
            p, number, weight = each.parameter, each.number, Given(first)
            for place, (spec, role) in enumerate(each.rounded, first + 1):
                stages.round(p, (Given(place), Given(place)), spec, (number, role))
            if each.master is not None:
                master = Given(first + 1 + len(each.states))
                stages.round(p, (weight, master), each.casts.master, (number, MASTER))
            stages.round(p, (weight, weight), each.casts.weight, (number, WEIGHT))
            if each.master is not None:
                stages.digest(p, weight, Given(first + 2 + len(each.states)))
            stages.finish(p)
            first += len(_settled(each))
        stages.build(0)


def _begun(kept: Sequence[Kept]) -> Staging:
    """Stages for parameters, none yet."""
    return Staging(max((each.parameter.element_size() for each in kept), default=0))


def _settled(kept: Kept) -> list[Tensor]:
    """What the pass after a step looks at, in the order in which it numbers it."""
    found = [kept.parameter, *kept.states]
    return found if kept.master is None or kept.digests is None else [*found, kept.master, kept.digests]


def _tell(changed: Sequence[Tensor | None]) -> None:
    """Tell autograd of what has changed."""
    torch.autograd.graph.increment_version([t for t in changed if t is not None])
