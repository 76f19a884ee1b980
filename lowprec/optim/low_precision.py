"""LowPrecision: any torch optimizer with rounded weights, gradients, state and master copy."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lowprec.cast import CastLike
from lowprec.errors import type_error, value_error
from lowprec.ops.quantize import seed_tensor
from lowprec.ops.torch_arithmetic import steady_roots
from lowprec.optim import on_device
from lowprec.optim.casts import Casts
from lowprec.optim.keeper import Keeper
from lowprec.optim.one_pass import Plan, are_apart, is_possible, key_of, key_of_group, part_of
from lowprec.optim.packed import Packed, check_packable, loaded, saved
from lowprec.optim.saving import KEY, VERSION, check_saved, restore_counters
from lowprec.optim.wrapper import check_group


class LowPrecision(Keeper):
    """Keep weights, gradients, optimizer state and a master copy of the weights in low precision.

    One step: a closure is evaluated once, at the rounded weights; ``p.grad`` becomes
    ``Q_gradient(gradient_scale * p.grad)``; p becomes its master copy, if any; the inner optimizer
    steps; state tensors of p's shape become ``Q_state``; the master becomes ``Q_master(p)``; p becomes
    ``Q_weight(p)``. At construction, states that exist, master and weights are rounded once. Parameters
    without a gradient are left alone. Weights changed between two steps (loaded, averaged, pruned) become
    their master. NaN, infinities and overflow follow each format.

    Around torch's SGD, Adam and AdamW all of that is one pass over memory, with the same bits, for contiguous
    float32 and float64 parameters whose formats have no groups; not with ``foreach``, ``fused``, hooks on the
    inner optimizer, compensated weights or packed states. Around all other optimizers, what is rounded before
    their step is one pass over such parameters, and what is rounded after it another.

    On CUDA devices the updates of SGD, Adam and AdamW are kernels with the bits of the CPU, for float32 and
    float64 parameters, but where torch's own step is asked for as above; square roots are then those of
    IEEE 754, from which torch's own may differ in the last bit on a CPU. All other updates are torch's
    kernels for the device. No step waits for it, but for a GradScaler's look at infinities and one at NaN
    in packed states whose format has none.

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
        store: ``"values"`` to keep states as numbers of their format in tensors of their parameter's dtype,
            ``"packed"`` to keep their codes without gaps, with the scales of groups: the bits that hardware
            would keep, and the same results. The inner optimizer then steps for one parameter after another,
            its hooks included.
        compensation: ``"kahan"`` to keep what rounding the weights loses; None not to.
        groups: Other casts for some parameter groups, by their number: a mapping of ``"weight"``,
            ``"gradient"``, ``"state"`` and ``"master"``, of which those not given are as above.
        exclude: Parameters that no cast touches; their gradients are scaled all the same.
        seed: A 64-bit integer; None to draw one from the default generator.

    Raises:
        TypeError: If an argument has the wrong type, or a parameter is no carrier.
        ValueError: If a name is unknown, the carrier cannot hold a format, the scale is not positive, a group
            does not exist, weights are compensated that have a master or no cast, or states are to be packed
            that have no cast or no codes of at most 16 bits.

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

    _plan: Plan | None = None
    _plan_key: tuple[Any, ...] = ()

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        weight: CastLike = None,
        gradient: CastLike = None,
        state: CastLike | Mapping[str, CastLike] = None,
        master: CastLike = None,
        gradient_scale: float = 1.0,
        store: str = "values",
        compensation: str | None = None,
        groups: Mapping[int, Mapping[str, Any]] | None = None,
        exclude: Iterable[Tensor] = (),
        seed: int | None = None,
    ) -> None:
        super().__init__(optimizer)
        steady_roots()
        if isinstance(gradient_scale, bool) or not isinstance(gradient_scale, int | float):
            raise type_error("gradient_scale", "be a number", gradient_scale)
        if not 0.0 < gradient_scale < float("inf"):
            raise value_error("gradient_scale", "be positive and finite", gradient_scale)
        if compensation not in (None, "kahan"):
            raise value_error("compensation", "be None or 'kahan'", compensation)
        if store not in ("values", "packed"):
            raise value_error("store", "be 'values' or 'packed'", store)
        self.gradient_scale = float(gradient_scale)
        self._is_packed = store == "packed"
        self._is_compensated = compensation is not None
        self._base = Casts.parse({"weight": weight, "gradient": gradient, "state": state, "master": master})
        self._casts = self._parse_groups({} if groups is None else groups)
        if self._is_packed:
            self._check_packable(self._casts)
        if isinstance(exclude, Tensor) or not isinstance(exclude, Iterable):
            raise type_error("exclude", "be a sequence of parameters", type(exclude))
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
        self._digests: dict[int, Tensor] = {}
        self._packed: dict[int, dict[str, Packed]] = {}
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

    def _check_packable(self, every: list[Casts]) -> None:
        """Refuse states without a cast, or without codes."""
        if not any(casts.state_specs() for casts in every):
            raise value_error("state", "have a cast where store is 'packed'", None)
        for casts in every:
            named = casts.state if isinstance(casts.state, dict) else {"": casts.state}
            for name, spec in named.items():
                if spec is not None:
                    check_packable(f"state.{name}" if name else "state", spec)

    @property
    def master_weights(self) -> dict[Tensor, Tensor]:
        """The master copy of each parameter that has one."""
        return {p: self._masters[i] for i, p in self.numbered_parameters() if i in self._masters}

    @property
    def compensations(self) -> dict[Tensor, Tensor]:
        """What rounding has lost of each parameter, where it is compensated."""
        return {p: self._compensations[i] for i, p in self.numbered_parameters() if i in self._compensations}

    def _update(self, touched: list[tuple[int, Tensor]]) -> None:
        """One step of the parameters that have a gradient."""
        on_device.refuse_capture([p for _, p in touched])
        self._step += 1
        if self._is_packed:
            self._step_each(touched)
        elif (plan := self._planned(touched)) is not None:
            self._update_at_once(plan)
        else:
            self._prepare_all(touched)
            on_device.step(self.optimizer, [p for _, p in touched])
            self._settle_all(touched)
        self._check_state_names()

    def _planned(self, touched: list[tuple[int, Tensor]]) -> Plan | None:
        """The program of a step in one pass; None where there is none."""
        if self._is_compensated or not touched or not is_possible(self.optimizer):
            return None
        keys = (key_of(p, self.state.get(p, {}), self._masters.get(n)) for n, p in touched)
        groups = (key_of_group(group) for group in self.param_groups)
        key = self.gradient_scale, *(number for number, _ in touched), *groups, *keys
        if self._plan_key != key:
            self._plan_key, self._plan = key, self._new_plan(touched)
        if self._plan is None or not self._plan.set_constants(self.param_groups, self.state):
            return None
        return self._plan

    def _new_plan(self, touched: list[tuple[int, Tensor]]) -> Plan | None:
        """The program, or none."""
        place = {id(p): index for index, group in enumerate(self.param_groups) for p in group["params"]}
        parts = []
        for number, p in touched:
            casts = Casts() if number in self._excluded else self._casts_of(number)
            roundable, master = dict(self._roundable(p)), self._masters.get(number)
            part = part_of(self.optimizer, (number, p), place[id(p)], casts, master, roundable)
            if part is None:
                return None
            parts.append(part)
        return Plan(parts, self.gradient_scale) if are_apart(parts) else None

    def _update_at_once(self, plan: Plan) -> None:
        """One step by a program."""
        parameters = [part.parameter for part in plan.parts]
        gradients = [p.grad for p in parameters if p.grad is not None]
        for grad in gradients:
            self._unscale(grad)
        for number, digests in plan.digests.items():
            if self._digests[number] is not digests:  # of a step that was not this program's
                self._digests[number] = digests.copy_(self._digests[number])
        for part in plan.edited():
            self._notice_edits(part.number, part.parameter)
        if counters := [state["step"] for p in parameters if "step" in (state := self.state[p])]:
            torch._foreach_add_(counters, 1)
        plan.run(gradients, int(self._seed), self._step)
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # for schedulers of the inner one
        torch.autograd.graph.increment_version([*parameters, *gradients])

    def _check_state_names(self) -> None:
        """Refuse a name that is no state's, as soon as all trained parameters of its groups have states."""
        for named in {id(c.state): c.state for c in self._casts if isinstance(c.state, dict)}.values():
            groups = [g for g, c in zip(self.param_groups, self._casts, strict=True) if c.state is named]
            trained = [p for group in groups for p in group["params"] if p.requires_grad]
            if all(p.grad is not None for p in trained):
                known = {name for p in trained for name, _ in self._roundable(p)}
                known.update(name for states in self._packed.values() for name in states)
                if unknown := sorted(set(named) - known):
                    exist = ", ".join(sorted(known)) or "none"
                    raise value_error("state", f"name states of the optimizer ({exist})", unknown)

    def add_param_group(self, param_group: dict[str, Any], casts: Mapping[str, Any] | None = None) -> None:
        """Add parameters; they are rounded at once, as at construction.

        The seed stays what it is: 0 if none was given and no cast drew noise so far.

        Args:
            param_group: As the inner optimizer takes it.
            casts: Other casts for this group, as in ``groups``; None for those of the constructor.

        Raises:
            TypeError, ValueError: As the constructor; the group is not added then.
        """
        check_group("param_group", param_group)
        parsed = Casts.parse({} if casts is None else casts, "casts", self._base)
        self._check_compensated([parsed])
        if self._is_packed and parsed.state is not None:
            self._check_packable([parsed])
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
        return {
            "masters": self._masters,
            "digests": self._digests,
            "compensations": self._compensations,
            "seen": self._seen,
        }

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
            "store": "packed" if self._is_packed else "values",
            "packed": saved(self._packed),
        }

    def _saved(self) -> dict[str, Any]:
        """The inner optimizer's entries, and ours under a name that it does not use."""
        return {**self.optimizer.state_dict(), KEY: self._own()}

    def _load(self, state_dict: dict[str, Any]) -> None:
        """Check ours, let the inner optimizer load its own, then take up ours."""
        own = check_saved(state_dict, self._own())
        known = dict(self.numbered_parameters())
        packed = loaded(own["packed"], known, lambda n, name: self._casts_of(n).of_state(name))
        inner = {name: value for name, value in state_dict.items() if name != KEY}
        self.optimizer.load_state_dict(inner)
        restore_counters(self.optimizer, inner)
        self._packed = packed
        for name, kept in self._kept_tensors().items():
            for number in kept:
                p = known[number]
                dtype = torch.int64 if name == "digests" else p.dtype
                kept[number] = own[name][number].to(p.device, dtype, copy=True)
        self._seed = own["seed"].clone()
        self._step, self.skipped_steps = int(own["step"]), int(own["skipped_steps"])

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the hooks that torch rebuilds."""
        names = ["optimizer", "gradient_scale", "skipped_steps", "_is_compensated", "_is_packed", "_base"]
        names += [
            "_casts",
            "_packed",
            "_seed",
            "_step",
            "_masters",
            "_compensations",
            "_seen",
            "_digests",
            "_excluded",
        ]
        return {name: self.__dict__[name] for name in names}

    def __repr__(self) -> str:
        """The inner optimizer and the formats."""
        formats = ", ".join(f"{name}={spec[0]} {spec[1]}" for name, spec in self._base.to_plain().items())
        return f"{type(self).__name__}({formats})\n{self.optimizer!r}"
