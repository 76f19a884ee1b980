"""Keeper: what an optimizer keeps of each parameter, and how it is rounded before and after a step."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.ops.digest import digest
from lowprec.ops.observation import observe, observers
from lowprec.ops.quantize import Spec, check_carrier, quantize_into
from lowprec.optim import on_device
from lowprec.optim.around import Around, Kept
from lowprec.optim.casts import NO_CASTS, Casts, is_elementwise
from lowprec.optim.packed import Packed, check_packable, loses_nan, packed, unpacked
from lowprec.optim.roles import (
    COMPENSATION,
    EDIT,
    GRADIENT,
    MASTER,
    MOST_STATES,
    REMAINDER,
    STATE,
    WEIGHT,
    stream_of,
)
from lowprec.optim.wrapper import Wrapper

# Scalars that a parameter without dimensions must not mistake for states of its shape.
_COUNTERS = {torch.optim.NAdam: {"mu_product"}, torch.optim.ASGD: {"eta", "mu"}}


class Keeper(Wrapper):
    """A wrapper that rounds gradients, states, weights and masters of numbered parameters.

    A subclass says in ``_update`` how these make a step.
    """

    gradient_scale: float
    _casts: list[Casts]
    _excluded: set[int]
    _seed: Tensor
    _step: int
    _is_compensated: bool
    _is_packed: bool
    _masters: dict[int, Tensor]
    _digests: dict[int, Tensor]
    """Of the weights that the last step left, where there are masters."""
    _compensations: dict[int, Tensor]
    _seen: dict[int, Tensor]
    """The weights that the last step left, where they are compensated."""
    _packed: dict[int, dict[str, Packed]]
    _begun: dict[int, Tensor] | None = None
    """Where the inner step begins, of the parameters of a step that somebody looks at."""

    _seed_copies: tuple[Tensor, dict[torch.device, Tensor]] | None = None
    """A seed, and what it is on devices."""

    @cached_property
    def _passes(self) -> Around:
        """What rounds before and after a step; no part of a copy."""
        return Around()

    def _casts_of(self, number: int) -> Casts:
        """The casts of a numbered parameter."""
        group = 0
        while number >= (size := len(self.param_groups[group]["params"])):
            group, number = group + 1, number - size
        return self._casts[group]

    def _seed_on(self, device: torch.device) -> Tensor:
        """The seed on a device, where it is copied to once."""
        if self._seed.device == device:
            return self._seed
        if self._seed_copies is None or self._seed_copies[0] is not self._seed:
            self._seed_copies = self._seed, {}
        copies = self._seed_copies[1]
        if device not in copies:
            copies[device] = self._seed.to(device)
        return copies[device]

    def _check_parameters(self, first: int = 0) -> None:
        """Refuse parameters that cannot hold the formats."""
        for number, p in self.numbered_parameters(first):
            if number not in self._excluded:
                self._casts_of(number).check(p)

    @torch.no_grad()
    def _round_initially(self, first: int) -> None:
        """States, master, then weight, as at construction, for parameters from a number on."""
        for number, p in self.numbered_parameters(first):
            if number in self._excluded:
                continue
            casts = self._casts_of(number)
            self._round_states(number, p)
            compensated = self._is_compensated and casts.weight is not None
            if casts.master is not None:
                self._masters[number] = torch.empty_like(p)
            self._round_weight(number, p)
            if compensated:
                self._compensations[number] = torch.zeros_like(p)
                self._seen[number] = p.detach().clone()

    def _round_states(self, number: int, p: Tensor) -> None:
        """Every state that has a cast, into its bits where states are packed."""
        casts = self._casts_of(number)
        found: dict[str, Packed] = {}
        for name, (index, value) in self._roundable(p):
            if (spec := casts.of_state(name)) is not None:
                check_carrier(spec, value.dtype)
                if index >= MOST_STATES:
                    raise value_error("optimizer", f"have at most {MOST_STATES} states", index + 1)
                if self._is_packed:
                    found[name] = self._packed_state(value, spec, (number, p), STATE + index)
                else:
                    self._round(value, spec, value, (number, p), STATE + index, "state")
        for name in found:
            del self.state[p][name]
        if found:
            self._packed[number] = found

    def _packed_state(self, value: Tensor, spec: Spec, place: tuple[int, Tensor], role: int) -> Packed:
        """A state in its bits, with the noise of this step, numbered parameter and role."""
        number, p = place
        check_packable("state", spec)
        stream = stream_of(self._step, number, role)
        seed = self._seed_on(value.device) if spec.is_stochastic else None
        state = packed(value, spec, seed, stream)
        if observers:
            observe("state", id(p), value, unpacked(state, spec, p), seed, spec, stream)
        return state

    def unpacked_state(self, p: Tensor) -> dict[str, Tensor]:
        """The states of a parameter that are kept in the bits of their formats.

        Args:
            p: A parameter.

        Returns:
            Their values by name, in memory of their own; nothing where ``store`` is ``"values"``.

        Raises:
            ValueError: If it is no parameter of the optimizer.
        """
        for number, other in self.numbered_parameters():
            if other is p:
                return self._unpacked(number, p)
        raise value_error("p", "be a parameter of the optimizer", tuple(p.shape))

    def _unpacked(self, number: int, p: Tensor) -> dict[str, Tensor]:
        """The packed states of a numbered parameter."""
        casts, states = self._casts_of(number), self._packed.get(number, {})
        specs = {name: casts.of_state(name) for name in states}
        return {name: unpacked(states[name], spec, p) for name, spec in specs.items() if spec is not None}

    @property
    def state_nbytes(self) -> int:
        """Bytes of memory that hold all states, scales and counters among them."""
        kept = [state for states in self._packed.values() for state in states.values()]
        values = [v for state in self.state.values() for v in state.values() if isinstance(v, Tensor)]
        return sum(state.nbytes for state in kept) + sum(value.nbytes for value in values)

    def _step_each(self, touched: list[tuple[int, Tensor]]) -> None:
        """One step of each parameter alone, whose states are unpacked meanwhile."""
        groups = self.optimizer.param_groups
        place = {id(p): index for index, group in enumerate(groups) for p in group["params"]}
        after: dict[int, dict[str, Any]] = {}
        for number, p in touched:
            self.state[p].update(self._unpacked(number, p))
            self._packed.pop(number, None)
            self._prepare(number, p)
            group = {**groups[place[id(p)]], "params": [p]}
            self.optimizer.param_groups = [group]
            try:
                on_device.step(self.optimizer, [p])
            finally:
                self.optimizer.param_groups = groups
            self._settle(number, p)
            after[place[id(p)]] = group
        for index, group in after.items():  # what a step has written to its group, as if it were one
            groups[index].update({name: value for name, value in group.items() if name != "params"})

    def _check_gradients(self, touched: list[tuple[int, Tensor]]) -> None:
        """Refuse sparse gradients, and NaN where packed states have no code for it."""
        super()._check_gradients(touched)
        for number, p in touched if self._is_packed else ():
            specs = self._casts_of(number).state_specs()
            lost = number not in self._excluded and any(map(loses_nan, specs))
            if lost and p.grad is not None and p.grad.isnan().any():
                must = "hold no NaN where a packed state has no code for it"
                raise value_error("grad", must, float("nan"), "Skip the step, as a GradScaler does.")

    def _round_weight(self, number: int, p: Tensor) -> None:
        """Master, then weight."""
        casts, before = self._casts_of(number), (self._begun or {}).get(number)
        if casts.master is not None:
            self._round(p, casts.master, self._masters[number], (number, p), MASTER, "master", before)
            before = None  # of what the weight loses, the master keeps
        self._round(p, casts.weight, p, (number, p), WEIGHT, "stored_weight", before)
        if casts.master is not None:
            self._digests[number] = digest(p)

    def _round_compensated(self, number: int, p: Tensor) -> None:
        """The weight, and what that loses: Kahan's sum."""
        spec, place = self._casts_of(number).weight, (number, p)
        weight, lost = self._seen[number], self._compensations[number]
        lost.add_(p - weight)
        self._round(lost, spec, lost, place, COMPENSATION, "compensation")
        p.copy_(weight + lost)
        self._round(p, spec, p, place, WEIGHT, "stored_weight")
        lost.add_(weight - p)
        self._round(lost, spec, lost, place, REMAINDER, "compensation")
        weight.copy_(p)

    def _round(
        self,
        x: Tensor,
        spec: Spec | None,
        out: Tensor,
        place: tuple[int, Tensor],
        role: int,
        name: str,
        begun: Tensor | None = None,
    ) -> None:
        """Write Q(x) to ``out``, with the noise of this step, numbered parameter and role."""
        number, p = place
        if spec is None:
            if out is not x:
                out.copy_(x)
            return
        stream = stream_of(self._step, number, role)
        seed = self._seed_on(x.device) if spec.is_stochastic else None
        before = x.clone() if observers and out is x else x
        quantize_into(x, seed, spec, out, stream)
        observe(name, id(p), before, out, seed, spec, stream, before=begun)

    def _roundable(self, p: Tensor) -> Iterator[tuple[str, tuple[int, Tensor]]]:
        """The floating-point states of p's shape, each with its place among all states."""
        counters = {"step"}.union(*(n for kind, n in _COUNTERS.items() if isinstance(self.optimizer, kind)))
        for index, (name, value) in enumerate(sorted(self.state.get(p, {}).items())):
            if name in counters or not isinstance(value, Tensor):
                continue
            if value.is_floating_point() and value.shape == p.shape:
                yield name, (index, value)

    def _divided(
        self, touched: list[tuple[int, Tensor]], *, after: bool
    ) -> tuple[list[Kept], list[tuple[int, Tensor]]]:
        """What is rounded in one pass before or after a step, and what is not."""
        if self._is_compensated or observers or torch.compiler.is_compiling():
            return [], touched
        if not self.gradient_scale <= torch.finfo(torch.float32).max:
            return [], touched  # an infinity to torch
        kept, others = [], []
        elementwise = {id(casts): is_elementwise(casts) for casts in self._casts}
        for number, p in touched:
            casts = self._casts_of(number)
            each = self._kept(number, p, casts, after=after)
            if elementwise[id(casts)] and each.fits():
                kept.append(each)
            else:
                others.append((number, p))
        tensors = [t for n, p in others for t in (p, p.grad, self._masters.get(n)) if t is not None]
        tensors += [t for _, p in others for _, (_, t) in self._roundable(p)]
        return (kept, others) if self._passes.are_apart(kept, tensors, after=after) else ([], touched)

    def _kept(self, number: int, p: Tensor, casts: Casts, *, after: bool) -> Kept:
        """What is kept of a numbered parameter: its gradient before a step, its states after it."""
        gradient = None if after else p.grad
        if number in self._excluded:
            return Kept(number, p, gradient, NO_CASTS)
        states, rounded = [], []
        for name, (index, value) in self._roundable(p) if after else ():
            if (spec := casts.of_state(name)) is not None:
                states.append(value)
                rounded.append((spec, STATE + index))
        kept = self._masters.get(number), self._digests.get(number)
        return Kept(number, p, gradient, casts, *kept, states, rounded)

    def _prepare_all(self, touched: list[tuple[int, Tensor]]) -> None:
        """Before the inner step, for all parameters."""
        kept, others = self._divided(touched, after=False)
        for each in kept:
            if each.gradient is not None:
                self._unscale(each.gradient)
        for each in self._passes.scale_and_look(kept, self.gradient_scale, int(self._seed), self._step):
            self._notice_edits(each.number, each.parameter)
        self._passes.lead(kept)
        for number, p in others:
            self._prepare(number, p)

    def _settle_all(self, touched: list[tuple[int, Tensor]]) -> None:
        """After the inner step, for all parameters."""
        kept, others = self._divided(touched, after=True)
        self._passes.settle(kept, int(self._seed), self._step)
        for number, p in others:
            self._settle(number, p)

    def _prepare(self, number: int, p: Tensor) -> None:
        """Before the inner step: the gradient rounded, the parameter at its master."""
        grad = p.grad
        if grad is None:
            return
        self._unscale(grad)
        if self.gradient_scale != 1.0:
            grad.mul_(self.gradient_scale)
        if number in self._excluded:
            return
        casts = self._casts_of(number)
        self._round(grad, casts.gradient, grad, (number, p), GRADIENT, "gradient")
        self._notice_edits(number, p)
        if number in self._masters:
            p.copy_(self._masters[number])
        if observers:
            self._begun = self._begun or {}
            self._begun[number] = p.clone()

    def _notice_edits(self, number: int, p: Tensor) -> None:
        """Take up what somebody else has written to a parameter since the last step."""
        if on_device.is_on_device(p) and not observers:
            self._take_up_edits(number, p)
            return
        if number in self._masters and not torch.equal(digest(p), self._digests[number]):
            self._round(p, self._casts_of(number).master, self._masters[number], (number, p), EDIT, "master")
        if number in self._seen and not torch.equal(p, seen := self._seen[number]):
            edited = (p != seen) & ~(p.isnan() & seen.isnan())
            self._compensations[number].masked_fill_(edited, 0.0)
            seen.copy_(p)

    def _take_up_edits(self, number: int, p: Tensor) -> None:
        """The same, decided on the device: nothing waits for it."""
        if number in self._masters:
            master, rounded = self._masters[number], p.clone()
            self._round(p, self._casts_of(number).master, rounded, (number, p), EDIT, "master")
            edited = (digest(p) != self._digests[number]).any()
            torch.where(edited, rounded, master, out=master)
        if number in self._seen:
            lost, seen = self._compensations[number], self._seen[number]
            differs = p != seen
            lost.masked_fill_(differs & ~(p.isnan() & seen.isnan()), 0.0)
            torch.where(differs.any(), p, seen, out=seen)

    def _settle(self, number: int, p: Tensor) -> None:
        """After the inner step: state, master and parameter rounded."""
        if number in self._excluded:
            return
        self._round_states(number, p)
        if number in self._compensations:
            self._round_compensated(number, p)
        else:
            self._round_weight(number, p)
        if self._begun:
            self._begun.pop(number, None)
