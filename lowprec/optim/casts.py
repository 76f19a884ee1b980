"""Casts: what an optimizer rounds of one group of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from lowprec.cast import Cast, CastLike
from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike, GroupedFormat, resolve
from lowprec.ops.quantize import Spec, check_carrier, check_tensor, make_spec

States = dict[str, Spec | None]
"""A spec for each name of a state."""


@dataclass(frozen=True)
class Casts:
    """The checked casts of a group's weights, gradients, states and master weights."""

    weight: Spec | None = None
    gradient: Spec | None = None
    state: Spec | States | None = None
    master: Spec | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any], name: str = "", base: "Casts | None" = None) -> "Casts":
        """Casts by role; what is not given is as in ``base``. ``name`` is blamed for what is wrong."""
        roles = [field.name for field in fields(cls)]
        must = f"map some of {', '.join(roles)} to casts"
        if not isinstance(given, Mapping):
            raise type_error(name, must, given)
        if unknown := [role for role in given if role not in roles]:
            raise value_error(name, must, unknown)
        specs: dict[str, Any] = {} if base is None else {role: getattr(base, role) for role in roles}
        for role, cast in given.items():
            blamed = f"{name}.{role}" if name else role
            if role == "state" and isinstance(cast, Mapping):
                specs[role] = _states(blamed, cast)
            else:
                specs[role] = None if cast is None else checked_spec(blamed, cast)
        return cls(**specs)

    def specs(self) -> list[Spec]:
        """All specs there are."""
        return [s for s in (self.weight, self.gradient, self.master, *self.state_specs()) if s is not None]

    def state_specs(self) -> list[Spec]:
        """Those of states."""
        states = self.state.values() if isinstance(self.state, dict) else [self.state]
        return [spec for spec in states if spec is not None]

    def of_state(self, name: str) -> Spec | None:
        """The spec of a state."""
        return self.state.get(name) if isinstance(self.state, dict) else self.state

    def check(self, p: Tensor) -> None:
        """Refuse a parameter that cannot hold the formats."""
        check_tensor(p)
        for spec in self.specs():
            check_carrier(spec, p.dtype)
            format = resolve(spec.format)
            if isinstance(format, GroupedFormat):
                format.granularity.tiles(tuple(p.shape))  # or it is an error

    def to_plain(self) -> dict[str, list[Any]]:
        """The specs as lists, to be saved and compared."""
        named = {"weight": self.weight, "gradient": self.gradient, "master": self.master}
        states = self.state if isinstance(self.state, dict) else {"": self.state}
        named.update({f"state.{name}" if name else "state": s for name, s in states.items()})
        return {name: list(spec) for name, spec in sorted(named.items()) if spec is not None}


NO_CASTS = Casts()


def _states(name: str, casts: Mapping[str, CastLike]) -> States:
    """The checked specs of states by name."""
    if wrong := [state for state in casts if not isinstance(state, str) or not state]:
        raise value_error(name, "map names of states to casts", wrong)
    return {
        state: None if cast is None else checked_spec(f"{name}.{state}", cast)
        for state, cast in casts.items()
    }


def checked_spec(name: str, cast: Cast | FormatLike) -> Spec:
    """The spec of a cast; ``name`` is blamed for a wrong one."""
    cast = Cast.from_value(cast, name)
    cast.check_unclipped(name)
    random_bits = cast.random_bits if cast.rounding.takes_random_bits else None
    return make_spec(cast.format, cast.rounding, random_bits)


def is_elementwise(casts: Casts) -> bool:
    """Whether no format has groups."""
    return not any(isinstance(resolve(spec.format), GroupedFormat) for spec in casts.specs())
