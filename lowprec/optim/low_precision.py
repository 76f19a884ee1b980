"""LowPrecision: any torch optimizer with rounded weights, gradients, state and master copy."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lowprec.cast import Cast, CastLike
from lowprec.errors import type_error, value_error
from lowprec.ops.observation import observe, observers
from lowprec.ops.quantize import (
    Spec,
    check_carrier,
    check_tensor,
    make_spec,
    quantize_into,
    seed_tensor,
)

_KEY = "lowprec"
_VERSION = 1

# Roles within a stream; states are numbered from _STATE on, by the order of their names.
_WEIGHT, _MASTER, _GRADIENT, _STATE = range(4)
_ROLE_BITS, _STEP_SHIFT = 6, 32
_EDIT = (1 << _ROLE_BITS) - 1  # a master taken up anew


class LowPrecision(torch.optim.Optimizer):
    """Keep weights, gradients, optimizer state and a master copy of the weights in low precision.

    One step: a closure is evaluated once, at the rounded weights; ``p.grad`` becomes
    ``Q_gradient(gradient_scale * p.grad)``; p becomes its master copy, if any; the inner optimizer
    steps; state tensors of p's shape become ``Q_state``; the master becomes ``Q_master(p)``; p becomes
    ``Q_weight(p)``. At construction, master and weights are rounded once. Parameters without a gradient
    are left alone. Weights changed between two steps (loaded, averaged, pruned) become their master.
    NaN, infinities and overflow follow each format.

    The wrapper owns its noise: one seed, and a stream for each step, parameter and role. The global
    generator is left alone after construction.

    Args:
        optimizer: A torch optimizer; not LBFGS, which steps several times in one.
        weight: Cast of the stored weights, a format or its name; None to leave them.
        gradient: Cast of the gradients.
        state: Cast of all state tensors of their parameter's shape, or a mapping from state names.
        master: Cast of the master copy; None for no copy.
        gradient_scale: A factor on gradients, such as one over a loss scale.
        exclude: Parameters that no cast touches; their gradients are scaled all the same.
        seed: A 64-bit integer; None to draw one from the default generator.

    Raises:
        TypeError: If an argument has the wrong type, or a parameter is no carrier.
        ValueError: If a name is unknown, the carrier cannot hold a format, or the scale is not positive.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer = LowPrecision(inner, weight=Cast("fixed8f6", "stochastic"), seed=0)
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()

    Reference:
        Gupta et al., Deep learning with limited numerical precision, 2015; De Sa et al., High-accuracy
        low-precision training, 2018.
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
        exclude: Iterable[Tensor] = (),
        seed: int | None = None,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise type_error("optimizer", "be a torch optimizer", type(optimizer))
        if isinstance(optimizer, torch.optim.LBFGS | LowPrecision):
            raise type_error(
                "optimizer", "step once on each gradient, and not be wrapped yet", type(optimizer)
            )
        if isinstance(gradient_scale, bool) or not isinstance(gradient_scale, int | float):
            raise type_error("gradient_scale", "be a number", gradient_scale)
        if not 0.0 < gradient_scale < float("inf"):
            raise value_error("gradient_scale", "be positive and finite", gradient_scale)
        self.optimizer = optimizer
        self.gradient_scale = float(gradient_scale)
        self._weight = _spec("weight", weight)
        self._gradient = _spec("gradient", gradient)
        self._master = _spec("master", master)
        self._state: Spec | dict[str, Spec | None] | None
        if isinstance(state, Mapping):
            if wrong := [name for name in state if not isinstance(name, str) or not name]:
                raise value_error("state", "map names of states to casts", wrong)
            self._state = {name: _spec(f"state.{name}", cast) for name, cast in state.items()}
        else:
            self._state = _spec("state", state)
        super().__setstate__({})  # hooks and the profiled step, without groups of our own
        excluded = {id(p) for p in exclude}
        self._excluded = {n for n, p in self.numbered_parameters() if id(p) in excluded}
        if len(self._excluded) != len(excluded):
            raise value_error("exclude", "hold parameters of the optimizer", f"{len(excluded)} tensors")
        self._check_parameters()
        like = next(self.numbered_parameters())[1]
        if seed is None and not any(spec.is_stochastic for spec in self._specs()):
            seed = 0  # without noise, the global generator is left alone from the beginning
        self._seed = seed_tensor(like, seed).cpu()
        self._step = 0
        self._masters: dict[int, Tensor] = {}
        self._seen: dict[int, Tensor] = {}
        self._round_initially(0)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's parameter groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        """Schedulers and the base class may assign."""
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The inner optimizer's state."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        """The base class may assign."""
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimizer's defaults."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        """The base class may assign."""
        self.optimizer.defaults = defaults

    @property
    def master_weights(self) -> dict[Tensor, Tensor]:
        """The master copy of each parameter that has one."""
        return {p: self._masters[i] for i, p in self.numbered_parameters() if i in self._masters}

    def numbered_parameters(self, first: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Every parameter from a number on; numbers count through all groups."""
        number = 0
        for group in self.param_groups:
            for p in group["params"]:
                if number >= first:
                    yield number, p
                number += 1

    def _specs(self) -> list[Spec]:
        """All specs there are."""
        states = self._state.values() if isinstance(self._state, dict) else [self._state]
        return [s for s in (self._weight, self._gradient, self._master, *states) if s is not None]

    def _check_parameters(self, first: int = 0) -> None:
        """Refuse parameters that cannot hold the formats."""
        for number, p in self.numbered_parameters(first):
            if number in self._excluded:
                continue
            check_tensor(p)
            for spec in self._specs():
                check_carrier(spec, p.dtype)

    @torch.no_grad()
    def _round_initially(self, first: int) -> None:
        """Master, then weight, as at construction, for parameters from a number on."""
        for number, p in self.numbered_parameters(first):
            if number in self._excluded:
                continue
            if self._master is not None:
                self._masters[number] = torch.empty_like(p)
            self._round_weight(number, p)

    def _round_weight(self, number: int, p: Tensor) -> None:
        """Master, then weight."""
        if self._master is not None:
            self._round(p, self._master, self._masters[number], (number, p), _MASTER, "master")
        self._round(p, self._weight, p, (number, p), _WEIGHT, "stored_weight")
        if self._master is not None:
            self._seen[number] = p.detach().clone()

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

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Reevaluates the model and returns the loss; called once, with gradients recorded.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: If a gradient is sparse.
            ValueError: If ``state`` names a state that the optimizer has not, once all parameters have
                stepped.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self._step += 1
            touched = [(n, p) for n, p in self.numbered_parameters() if p.grad is not None]
            if not self._take(touched):
                for number, p in touched:
                    self._prepare(number, p)
                self.optimizer.step()
                for number, p in touched:
                    self._settle(number, p)
        self._check_state_names()
        return loss

    def _take(self, touched: list[tuple[int, Tensor]]) -> bool:
        return False

    def _check_state_names(self) -> None:
        """Refuse a name that is no state's, as soon as every trained parameter has its states."""
        if not isinstance(self._state, dict):
            return
        trained = [p for _, p in self.numbered_parameters() if p.requires_grad]
        if all(p.grad is not None for p in trained):
            known = {name for p in trained for name, _ in self._roundable(p)}
            if unknown := sorted(set(self._state) - known):
                exist = ", ".join(sorted(known)) or "none"
                raise value_error("state", f"name states of the optimizer ({exist})", unknown)

    def _roundable(self, p: Tensor) -> Iterator[tuple[str, tuple[int, Tensor]]]:
        """The floating-point states of p's shape, each with its place among all states."""
        for index, (name, value) in enumerate(sorted(self.state.get(p, {}).items())):
            if name == "step":  # a counter, which has the shape of a parameter without dimensions
                continue
            if isinstance(value, Tensor) and value.is_floating_point() and value.shape == p.shape:
                yield name, (index, value)

    def _prepare(self, number: int, p: Tensor) -> None:
        """Before the inner step: the gradient rounded, the parameter at its master."""
        grad = p.grad
        if grad is None:
            return
        if grad.layout != torch.strided:
            raise type_error("grad", "be dense", grad.layout, "Use a layer without sparse gradients.")
        if self.gradient_scale != 1.0:
            grad.mul_(self.gradient_scale)
        if number in self._excluded:
            return
        self._round(grad, self._gradient, grad, (number, p), _GRADIENT, "gradient")
        if number in self._masters:
            if not torch.equal(p, self._seen[number]):  # somebody else has written to it
                self._round(p, self._master, self._masters[number], (number, p), _EDIT, "master")
            p.copy_(self._masters[number])

    def _settle(self, number: int, p: Tensor) -> None:
        """After the inner step: state, master and parameter rounded."""
        if number in self._excluded:
            return
        for name, (index, value) in self._roundable(p):
            spec = self._state.get(name) if isinstance(self._state, dict) else self._state
            self._round(value, spec, value, (number, p), _STATE + index, "state")
        self._round_weight(number, p)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT002  # as torch has it
        """Clear all gradients."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; they are rounded at once, as at construction."""
        first = sum(len(group["params"]) for group in self.param_groups)
        self.optimizer.add_param_group(param_group)
        try:
            self._check_parameters(first)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        self._round_initially(first)

    def _formats(self) -> dict[str, Any]:
        """The specs as plain lists, to be saved and compared."""
        named: dict[str, Any] = {
            "weight": self._weight,
            "gradient": self._gradient,
            "master": self._master,
        }
        states = self._state if isinstance(self._state, dict) else {"": self._state}
        named.update({f"state.{name}" if name else "state": s for name, s in states.items()})
        return {name: list(spec) for name, spec in sorted(named.items()) if spec is not None}

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's state_dict, and under ``"lowprec"`` masters, seed, step and formats.

        Returns:
            Tensors and plain values only, so that it loads under ``weights_only=True``. Saving,
            loading and stepping gives the same bits as stepping.
        """
        state = self.optimizer.state_dict()
        state[_KEY] = {
            "version": _VERSION,
            "seed": self._seed.clone(),
            "step": self._step,
            "masters": dict(self._masters),
            "seen": dict(self._seen),
            "excluded": sorted(self._excluded),
            "formats": self._formats(),
            "gradient_scale": self.gradient_scale,
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state; the weights themselves are the model's to load.

        Raises:
            ValueError: If it is not from a LowPrecision optimizer with the same formats and scale.
        """
        state_dict = dict(state_dict)
        own = state_dict.pop(_KEY, None)
        if not isinstance(own, Mapping) or own.get("version") != _VERSION:
            raise value_error(
                "state_dict",
                "come from a LowPrecision optimizer of this version",
                sorted(map(str, state_dict)),
            )
        kept = {"seed", "step", "masters", "seen", "excluded", "formats", "gradient_scale"}
        if missing := sorted(kept - set(own)):
            raise value_error("state_dict", "be whole", f"one without {', '.join(missing)}")
        formats = {name: list(spec) for name, spec in own["formats"].items()}
        if formats != self._formats() or own["gradient_scale"] != self.gradient_scale:
            raise value_error(
                "state_dict",
                f"have the formats {self._formats()} and gradient_scale {self.gradient_scale}",
                (formats, own["gradient_scale"]),
            )
        wanted = {number: tuple(master.shape) for number, master in self._masters.items()}
        shapes = {number: tuple(master.shape) for number, master in own["masters"].items()}
        if shapes != wanted:
            raise value_error("state_dict", f"hold master weights of the shapes {wanted}", shapes)
        if own["excluded"] != sorted(self._excluded):
            raise value_error(
                "state_dict", f"exclude the parameters {sorted(self._excluded)}", own["excluded"]
            )
        self.optimizer.load_state_dict(state_dict)
        for number, p in self.numbered_parameters():
            if number in wanted:
                self._masters[number] = own["masters"][number].to(p.device, p.dtype, copy=True)
                self._seen[number] = own["seen"][number].to(p.device, p.dtype, copy=True)
        self._seed = own["seed"].clone()
        self._step = int(own["step"])

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the hooks that torch rebuilds."""
        names = ["optimizer", "gradient_scale", "_weight", "_gradient", "_master", "_state"]
        names += ["_seed", "_step", "_masters", "_seen", "_excluded"]
        return {name: self.__dict__[name] for name in names}

    def __repr__(self) -> str:
        """The inner optimizer and the formats."""
        formats = ", ".join(f"{name}={spec[0]} {spec[1]}" for name, spec in self._formats().items())
        return f"LowPrecision({formats})\n{self.optimizer!r}"


def _spec(name: str, cast: CastLike) -> Spec | None:
    """The checked spec of a cast."""
    if cast is None:
        return None
    cast = Cast.from_value(cast, name)
    cast.check_unclipped(name)
    random_bits = cast.random_bits if cast.rounding.takes_random_bits else None
    return make_spec(cast.format, cast.rounding, random_bits)
