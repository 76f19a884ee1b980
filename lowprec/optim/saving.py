"""What a LowPrecision optimizer adds to a state_dict, checked before it is taken up."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import value_error

KEY = "lowprec"
"""Where it stands among the inner optimizer's entries."""

VERSION = 2

_SETTINGS = ("formats", "groups", "gradient_scale", "store")
_TENSORS = ("masters", "digests", "compensations", "seen")


def check_saved(state_dict: Mapping[str, Any], present: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was saved under KEY, if it goes with the optimizer whose own entries are ``present``.

    Raises:
        ValueError: If it is not from a LowPrecision optimizer with the same formats, settings and tensors.
    """
    own = state_dict.get(KEY)
    if not isinstance(own, Mapping) or own.get("version") != VERSION:
        listed = sorted(str(key) for key in state_dict if key != KEY)
        must = "come from a LowPrecision optimizer of this version"
        raise value_error("state_dict", must, listed, "Pass what its state_dict() gave.")
    if missing := sorted(set(present) - set(own)):
        without = f"one without {', '.join(missing)}"
        raise value_error("state_dict", "be whole", without, "Pass what state_dict() gave.")
    for name in _SETTINGS:
        if own[name] != present[name]:
            raise value_error("state_dict", f"have the {name} {present[name]}", own[name])
    if own["excluded"] != present["excluded"]:
        must, remedy = f"exclude the parameters {present['excluded']}", "Pass the same exclude as before."
        raise value_error("state_dict", must, own["excluded"], remedy)
    seed = own["seed"]
    if not isinstance(seed, Tensor) or seed.dtype != torch.int64 or seed.numel() != 1:
        raise value_error("state_dict", "hold a seed of 64 bits", seed)
    for name in ("step", "skipped_steps"):
        if not isinstance(own[name], int):
            raise value_error("state_dict", f"hold an integer {name}", own[name])
    for name in _TENSORS:
        wanted, shapes = _shapes(present[name]), _shapes(own[name])
        if shapes != wanted:
            raise value_error("state_dict", f"hold {name} of the shapes {wanted}", shapes)
    return own


def _shapes(tensors: Mapping[int, Tensor]) -> dict[int, tuple[int, ...]]:
    """The shape of each tensor."""
    return {number: tuple(x.shape) for number, x in tensors.items()}


def restore_counters(optimizer: torch.optim.Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Give loaded scalars the type back that they were saved with.

    Torch turns every state but ``step`` into its parameter's type, in which a product of a thousand decays
    is another number.
    """
    saved = [number for group in state_dict["param_groups"] for number in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, p in zip(saved, parameters, strict=True):
        for name, value in state_dict["state"].get(number, {}).items():
            if (
                isinstance(value, Tensor)
                and value.dim() == 0
                and value.dtype != optimizer.state[p][name].dtype
            ):
                optimizer.state[p][name] = value.to(p.device, copy=True)
