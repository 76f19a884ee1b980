"""LowPrecision: any torch optimizer with rounded weights, gradients, state and master copy."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lowprec.cast import CastLike
from lowprec.errors import type_error, value_error
from lowprec.ops.observation import observe, observers
from lowprec.ops.quantize import Spec, check_carrier, quantize_into, seed_tensor
from lowprec.optim.casts import Casts
from lowprec.optim.saving import KEY, VERSION, check_saved, restore_counters
from lowprec.optim.wrapper import Wrapper

# Roles within a stream; states are numbered from _STATE on, by the order of their names.
_WEIGHT, _MASTER, _GRADIENT, _STATE = range(4)
_ROLE_BITS, _STEP_SHIFT = 6, 32
_EDIT = (1 << _ROLE_BITS) - 1  # a master taken up anew
_REMAINDER, _COMPENSATION = _EDIT - 2, _EDIT - 1  # what a rounding lost, and what is added to the next
_MAX_STATES = _REMAINDER - _STATE

# Scalars that a parameter without dimensions must not mistake for states of its shape.
_COUNTERS = {torch.optim.NAdam: {"mu_product"}, torch.optim.ASGD: {"eta", "mu"}}


class LowPrecision(Wrapper):
    """Keep weights, gradients, optimizer state and a master copy of the weights in low precision.

    One step: a closure is evaluated once, at the rounded weights; ``p.grad`` becomes
    ``Q_gradient(gradient_scale * p.grad)``; p becomes its master copy, if any; the inner optimizer
    steps; state tensors of p's shape become ``Q_state``; the master becomes ``Q_master(p)``; p becomes
    ``Q_weight(p)``. At construction, states that exist, master and weights are rounded once. Parameters
    without a gradient are left alone. Weights changed between two steps (loaded, averaged, pruned) become
    their master. NaN, infinities and overflow follow each format.

    With ``compensation="kahan"`` a tensor c of p's shape, zero at first, keeps what rounding the weights
    loses, in their own format. After the inner step has made p of w: ``c = Q(c + (p - w))``,
    ``w' = Q(w + c)``, ``c = Q(c + (w - w'))``, all by the cast of the weights. c starts anew where weights
    are changed between two steps. It helps floating-point weights; on a grid of fixed steps there is nothing
    finer to keep.

    A ``torch.amp.GradScaler`` may call ``step``: gradients are unscaled (and clipped, after
    ``scaler.unscale_``) before they are rounded. A step that it skips because of an infinity or a NaN changes
    nothing but ``skipped_steps``.

    The wrapper owns its noise: one seed, and a stream for each step, parameter and role. The global
    generator is left alone after construction.

    Args:
        optimizer: A torch optimizer; not LBFGS, which steps several times in one, and not SparseAdam. Its
            arithmetic is torch's own, which is not always the same with ``foreach`` or ``fused``.
        weight: Cast of the stored weights, a format or its name; None to leave them.
        gradient: Cast of the gradients.
        state: Cast of all state tensors of their parameter's shape, or a mapping from state names.
            Counters of torch's optimizers are never rounded. Those of one's own, where a parameter has no
            dimensions, look like a state: name the states then.
        master: Cast of the master copy; None for no copy.
        gradient_scale: A factor on gradients, such as one over a loss scale.
        compensation: ``"kahan"`` to keep what rounding the weights loses; None not to.
        groups: Other casts for some parameter groups, by their number: a mapping of ``"weight"``,
            ``"gradient"``, ``"state"`` and ``"master"``, of which those not given are as above.
        exclude: Parameters that no cast touches; their gradients are scaled all the same.
        seed: A 64-bit integer; None to draw one from the default generator.

    Raises:
        TypeError: If an argument has the wrong type, or a parameter is no carrier.
        ValueError: If a name is unknown, the carrier cannot hold a format, the scale is not positive, a group
            does not exist, or weights are compensated that have a master or no cast.

    Example:
        >>> from lowprec import Cast
        >>> model = torch.nn.Linear(2, 1)
        >>> inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer = LowPrecision(inner, weight=Cast("fixed8f6", "stochastic"), seed=0)
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()

    Reference:
        Gupta et al., Deep learning with limited numerical precision, 2015; De Sa et al., High-accuracy
        low-precision training, 2018; Zamirai et al., Revisiting BFloat16 training, 2020.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        weight: CastLike = None,
        gradient: CastLike = None,
        state: CastLike | Mapping[str, CastLike] = None,
        master: CastLike = None,
        gradient_scale: float = 1.0,
        compensation: str | None = None,
        groups: Mapping[int, Mapping[str, Any]] | None = None,
        exclude: Iterable[Tensor] = (),
        seed: int | None = None,
    ) -> None:
        super().__init__(optimizer)
        if isinstance(gradient_scale, bool) or not isinstance(gradient_scale, int | float):
            raise type_error("gradient_scale", "be a number", gradient_scale)
        if not 0.0 < gradient_scale < float("inf"):
            raise value_error("gradient_scale", "be positive and finite", gradient_scale)
        if compensation not in (None, "kahan"):
            raise value_error("compensation", "be None or 'kahan'", compensation)
        self.gradient_scale = float(gradient_scale)
        self._is_compensated = compensation is not None
        self._base = Casts.parse({"weight": weight, "gradient": gradient, "state": state, "master": master})
        self._casts = self._parse_groups({} if groups is None else groups)
        excluded = {id(p) for p in exclude}
        self._excluded = {n for n, p in self.numbered_parameters() if id(p) in excluded}
        if len(self._excluded) != len(excluded):
            raise value_error("exclude", "hold parameters of the optimizer", f"{len(excluded)} tensors")
        self._check_parameters()
        like = next(self.numbered_parameters())[1]
        if seed is None and not any(spec.is_stochastic for casts in self._casts for spec in casts.specs()):
            seed = 0  # without noise, the global generator is left alone from the beginning
        self._seed = seed_tensor(like, seed).cpu()
        self._step = 0
        self._masters: dict[int, Tensor] = {}
        self._compensations: dict[int, Tensor] = {}
        self._seen: dict[int, Tensor] = {}
        self._round_initially(0)

    def _parse_groups(self, groups: Mapping[int, Mapping[str, Any]]) -> list[Casts]:
        """The casts of every group there is."""
        count = len(self.param_groups)
        if not isinstance(groups, Mapping):
            raise type_error("groups", "map numbers of groups to casts", type(groups))
        if wrong := [number for number in groups if number not in range(count)]:
            raise value_error("groups", f"have keys from 0 to {count - 1}", wrong)
        every = [Casts.parse(groups.get(n, {}), f"groups.{n}", self._base) for n in range(count)]
        if self._is_compensated:
            self._check_compensated(every)
            if all(casts.weight is None for casts in every):
                raise value_error("compensation", "be None where weights have no cast", "kahan")
        return every

    def _check_compensated(self, every: list[Casts]) -> None:
        """Refuse a master, which keeps all that compensation could."""
        if self._is_compensated and any(casts.master is not None for casts in every):
            raise value_error("compensation", "be None where weights have a master", "kahan")

    @property
    def master_weights(self) -> dict[Tensor, Tensor]:
        """The master copy of each parameter that has one."""
        return {p: self._masters[i] for i, p in self.numbered_parameters() if i in self._masters}

    @property
    def compensations(self) -> dict[Tensor, Tensor]:
        """What rounding has lost of each parameter, where it is compensated."""
        return {p: self._compensations[i] for i, p in self.numbered_parameters() if i in self._compensations}

    def _casts_of(self, number: int) -> Casts:
        """The casts of a numbered parameter."""
        group = 0
        while number >= (size := len(self.param_groups[group]["params"])):
            group, number = group + 1, number - size
        return self._casts[group]

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
            if compensated:
                self._compensations[number] = torch.zeros_like(p)
            if casts.master is not None or compensated:
                self._seen[number] = torch.empty_like(p)
            self._round_weight(number, p)

    def _round_states(self, number: int, p: Tensor) -> None:
        """Every state that has a cast."""
        casts = self._casts_of(number)
        for name, (index, value) in self._roundable(p):
            if (spec := casts.of_state(name)) is not None:
                check_carrier(spec, value.dtype)
                if index >= _MAX_STATES:
                    raise value_error("optimizer", f"have at most {_MAX_STATES} states", index + 1)
                self._round(value, spec, value, (number, p), _STATE + index, "state")

    def _round_weight(self, number: int, p: Tensor) -> None:
        """Master, then weight."""
        casts = self._casts_of(number)
        if casts.master is not None:
            self._round(p, casts.master, self._masters[number], (number, p), _MASTER, "master")
        self._round(p, casts.weight, p, (number, p), _WEIGHT, "stored_weight")
        if number in self._seen:
            self._seen[number].copy_(p)

    def _round_compensated(self, number: int, p: Tensor) -> None:
        """The weight, and what that loses: Kahan's sum."""
        spec, place = self._casts_of(number).weight, (number, p)
        weight, lost = self._seen[number], self._compensations[number]
        lost.add_(p - weight)
        self._round(lost, spec, lost, place, _COMPENSATION, "compensation")
        p.copy_(weight + lost)
        self._round(p, spec, p, place, _WEIGHT, "stored_weight")
        lost.add_(weight - p)
        self._round(lost, spec, lost, place, _REMAINDER, "compensation")
        weight.copy_(p)

    def _round(
        self,
        x: Tensor,
        spec: Spec | None,
        out: Tensor,
        place: tuple[int, Tensor],
        role: int,
        name: str,
    ) -> None:
        """Write Q(x) to ``out``, with the noise of this step, numbered parameter and role."""
        number, p = place
        if spec is None:
            if out is not x:
                out.copy_(x)
            return
        stream = (self._step << _STEP_SHIFT) | (number << _ROLE_BITS) | role
        seed = self._seed.to(x.device) if spec.is_stochastic else None
        before = x.clone() if observers and out is x else x
        quantize_into(x, seed, spec, out, stream)
        observe(name, id(p), before, out, seed, spec, stream)

    def _update(self, touched: list[tuple[int, Tensor]]) -> None:
        """One step of the parameters that have a gradient."""
        self._step += 1
        for number, p in touched:
            self._prepare(number, p)
        self.optimizer.step()
        for number, p in touched:
            self._settle(number, p)
        self._check_state_names()

    def _check_state_names(self) -> None:
        """Refuse a name that is no state's, as soon as all trained parameters of its groups have states."""
        for named in {id(c.state): c.state for c in self._casts if isinstance(c.state, dict)}.values():
            groups = [g for g, c in zip(self.param_groups, self._casts, strict=True) if c.state is named]
            trained = [p for group in groups for p in group["params"] if p.requires_grad]
            if all(p.grad is not None for p in trained):
                known = {name for p in trained for name, _ in self._roundable(p)}
                if unknown := sorted(set(named) - known):
                    exist = ", ".join(sorted(known)) or "none"
                    raise value_error("state", f"name states of the optimizer ({exist})", unknown)

    def _roundable(self, p: Tensor) -> Iterator[tuple[str, tuple[int, Tensor]]]:
        """The floating-point states of p's shape, each with its place among all states."""
        counters = {"step"}.union(*(n for kind, n in _COUNTERS.items() if isinstance(self.optimizer, kind)))
        for index, (name, value) in enumerate(sorted(self.state.get(p, {}).items())):
            if name in counters or not isinstance(value, Tensor):
                continue
            if value.is_floating_point() and value.shape == p.shape:
                yield name, (index, value)

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
        self._round(grad, casts.gradient, grad, (number, p), _GRADIENT, "gradient")
        if number in self._seen:  # somebody else may have written to the parameter
            seen = self._seen[number]
            edited = None if torch.equal(p, seen) else (p != seen) & ~(p.isnan() & seen.isnan())
            if number in self._masters:
                if edited is not None and edited.any():
                    self._round(p, casts.master, self._masters[number], (number, p), _EDIT, "master")
                p.copy_(self._masters[number])
            elif edited is not None:
                self._compensations[number].masked_fill_(edited, 0.0)
                seen.copy_(p)

    def _settle(self, number: int, p: Tensor) -> None:
        """After the inner step: state, master and parameter rounded."""
        if number in self._excluded:
            return
        self._round_states(number, p)
        if number in self._compensations:
            self._round_compensated(number, p)
        else:
            self._round_weight(number, p)

    def add_param_group(self, param_group: dict[str, Any], casts: Mapping[str, Any] | None = None) -> None:
        """Add parameters; they are rounded at once, as at construction.

        The seed stays what it is: 0 if none was given and no cast drew noise so far.

        Args:
            param_group: As the inner optimizer takes it.
            casts: Other casts for this group, as in ``groups``; None for those of the constructor.

        Raises:
            TypeError, ValueError: As the constructor; the group is not added then.
        """
        parsed = Casts.parse({} if casts is None else casts, "casts", self._base)
        self._check_compensated([parsed])
        first = sum(len(group["params"]) for group in self.param_groups)
        self.optimizer.add_param_group(param_group)
        self._casts.append(parsed)
        try:
            self._check_parameters(first)
        except (TypeError, ValueError):
            self.param_groups.pop()
            self._casts.pop()
            raise
        self._round_initially(first)

    def _kept_tensors(self) -> dict[str, dict[int, Tensor]]:
        """What is kept beside the parameters, by their numbers."""
        return {"masters": self._masters, "compensations": self._compensations, "seen": self._seen}

    def _own(self) -> dict[str, Any]:
        """What a state_dict holds of ours."""
        return {
            "version": VERSION,
            "seed": self._seed.clone(),
            "step": self._step,
            "skipped_steps": self.skipped_steps,
            **{name: dict(tensors) for name, tensors in self._kept_tensors().items()},
            "excluded": sorted(self._excluded),
            "formats": self._base.to_plain(),
            "groups": {n: c.to_plain() for n, c in enumerate(self._casts) if c != self._base},
            "gradient_scale": self.gradient_scale,
        }

    def _saved(self) -> dict[str, Any]:
        """The inner optimizer's entries, and ours under a name that it does not use."""
        return {**self.optimizer.state_dict(), KEY: self._own()}

    def _load(self, state_dict: dict[str, Any]) -> None:
        """Check ours, let the inner optimizer load its own, then take up ours."""
        own = check_saved(state_dict, self._own())
        inner = {name: value for name, value in state_dict.items() if name != KEY}
        self.optimizer.load_state_dict(inner)
        restore_counters(self.optimizer, inner)
        parameters = dict(self.numbered_parameters())
        for name, kept in self._kept_tensors().items():
            for number in kept:
                p = parameters[number]
                kept[number] = own[name][number].to(p.device, p.dtype, copy=True)
        self._seed = own["seed"].clone()
        self._step, self.skipped_steps = int(own["step"]), int(own["skipped_steps"])

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the hooks that torch rebuilds."""
        names = ["optimizer", "gradient_scale", "skipped_steps", "_is_compensated", "_base", "_casts"]
        names += ["_seed", "_step", "_masters", "_compensations", "_seen", "_excluded"]
        return {name: self.__dict__[name] for name in names}

    def __repr__(self) -> str:
        """The inner optimizer and the formats."""
        formats = ", ".join(f"{name}={spec[0]} {spec[1]}" for name, spec in self._base.to_plain().items())
        return f"{type(self).__name__}({formats})\n{self.optimizer!r}"
