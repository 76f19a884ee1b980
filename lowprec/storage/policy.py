"""Which tensor of a state dict is stored in which format."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from lowprec.cast import Cast, CastLike
from lowprec.errors import type_error, value_error
from lowprec.formats import GroupedFormat
from lowprec.scheme import Scheme

Policy = CastLike | Mapping[str, CastLike] | Scheme
"""A cast for all floating-point tensors, casts by patterns of names, or a scheme."""

EVERYTHING = "*"
"""The one pattern that may be left without a tensor."""


def choose(state_dict: Mapping[str, Tensor], policy: Policy) -> dict[str, Cast | None]:
    """The cast of each tensor, along its contraction axis where the format asks; None to leave it alone.

    Raises:
        TypeError: If the state dict is no mapping from strings to tensors, or the policy none of the three.
        ValueError: If the policy names an unknown format or rounds stochastically, a pattern is left
            without a floating-point tensor, or a scheme does not say how weights are kept.
    """
    _check_state(state_dict)
    floating = {name: x for name, x in state_dict.items() if x.is_floating_point()}
    if isinstance(policy, Scheme):
        weights = [name for name, x in floating.items() if x.dim() >= 2]
        chosen: dict[str, Cast | None] = dict.fromkeys(weights, _cast_of_weights(policy))
    elif isinstance(policy, Mapping):
        chosen = _by_name(list(floating), policy)
    else:
        chosen = dict.fromkeys(floating, _checked(policy))
    return {name: _along_contraction(chosen.get(name), x) for name, x in state_dict.items()}


def _check_state(state_dict: Mapping[str, Tensor]) -> None:
    """Refuse anything but named tensors."""
    if not isinstance(state_dict, Mapping):
        must = "map names to tensors"
        raise type_error("state_dict", must, type(state_dict), "Pass model.state_dict().")
    for name, x in state_dict.items():
        if not isinstance(name, str):
            raise type_error("state_dict", "have strings for names", name)
        if not isinstance(x, Tensor):
            raise type_error("state_dict", "hold tensors only", {name: type(x)}, "Save the rest apart.")


def _checked(value: Any) -> Cast:
    """A cast from anything accepted in its place, if it draws no noise."""
    cast = Cast.from_value(value, "policy")
    if cast.mode(training=False).is_stochastic:
        remedy = "Quantize first: values of the format are stored as they are."
        raise value_error("policy", "round deterministically", cast.describe(), remedy)
    return cast


def _cast_of_weights(scheme: Scheme) -> Cast:
    """How a scheme keeps weights, or else how products read them."""
    if scheme.rules:
        must = "be a scheme without rules: a state dict does not tell which layer has which type"
        listed = [rule.match for rule in scheme.rules]
        raise value_error("policy", must, listed, "Pass a mapping from name patterns to formats.")
    cast = scheme.stored_weight or scheme.weight
    if cast is None:
        raise value_error("policy", "be a scheme with stored_weight or weight", scheme.to_dict())
    return _checked(cast)


def _by_name(names: list[str], patterns: Mapping[str, CastLike]) -> dict[str, Cast | None]:
    """For each name the cast of the first pattern that matches, if any does."""
    casts = {pattern: None if cast is None else _checked(cast) for pattern, cast in patterns.items()}
    first = {name: next((p for p in casts if fnmatchcase(name, p)), None) for name in names}
    unused = [pattern for pattern in casts if pattern not in first.values() and pattern != EVERYTHING]
    if unused:
        must = "have no pattern that no floating-point tensor is left for"
        raise value_error("policy", must, unused, "The first pattern that matches a name counts.")
    return {name: casts[pattern] for name, pattern in first.items() if pattern is not None}


def _along_contraction(cast: Cast | None, x: Tensor) -> Cast | None:
    """The cast with ``"contraction"`` set to the axis that linear layers and convolutions sum over."""
    if cast is None or not isinstance(cast.format, GroupedFormat):
        return cast
    axis = min(1 - x.dim(), -1)  # the second of a weight's axes: outputs, inputs, kernel
    return Cast(cast.format.along(axis), cast.mode(training=False))
