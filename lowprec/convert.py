"""Whole models: convert, revert, describe, prepare."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

import torch

from lowprec.errors import type_error, value_error
from lowprec.nn.attention import OPENED, open_containers
from lowprec.nn.layers import TWINS, Simulated, become_twin
from lowprec.optim import LowPrecision
from lowprec.scheme import CAST_ROLES, Rule, Scheme, scheme_of

Model = TypeVar("Model", bound=torch.nn.Module)

WITHOUT_TWIN = tuple(
    getattr(torch.nn, name)
    for name in (
        "Bilinear", "RNNBase", "RNNCellBase", "AdaptiveLogSoftmaxWithLoss",
    )
)  # fmt: skip
"""Layers of torch.nn with products that nothing here simulates."""

_WITHOUT_PRODUCTS = tuple(
    getattr(torch.nn, name)
    for name in (
        "Embedding",
        "EmbeddingBag",
        "LayerNorm",
        "RMSNorm",
        "ParameterList",
        "ParameterDict",
    )
)
"""Layers whose parameters of two or more dimensions enter no product."""


def convert(model: Model, scheme: Scheme | str, *, exclude: Sequence[str] = ()) -> Model:
    """Simulate the products of a model's Linear, Conv, ConvTranspose and MultiheadAttention layers, in place.

    Each chosen layer gets the class of its ``lowprec.nn`` twin; parameters, keys, hooks and optimizers
    stay. Each weight is rounded once per call of ``model``, however often the layer is read.

    Args:
        model: Any module.
        scheme: A scheme or its name; its optimizer roles are ``prepare``'s affair.
        exclude: What to leave alone: layers, by names of types or patterns of qualified names, or
            parameters by patterns of theirs. ``prepare`` has the optimizer leave them alone too.

    Returns:
        The model itself.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If a layer with products has no twin and is not excluded, a pattern matches nothing,
            or the model is converted already. Nothing is changed then.

    Example:
        >>> model = convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), "fp8-hybrid")
        >>> type(model[0]).__module__
        'lowprec.nn.layers'
    """
    convert_layers(model, choose(model, scheme_of(scheme), exclude).layers)
    return model


def convert_layers(model: torch.nn.Module, layers: "Sequence[Chosen]") -> None:
    """Convert some of the layers that ``choose`` has chosen in a model."""
    keepers: dict[int, Simulated] = {}
    for _, layer, own in layers:
        simulated = become_twin(layer, own)
        keeper = keepers.setdefault(id(simulated.shared_weight), simulated)
        if keeper is not simulated:
            simulated.share_weight_noise(keeper)
    open_containers(model)
    model.register_forward_pre_hook(begin_forward)
    model.register_forward_hook(end_forward, always_call=True)


def begin_forward(model: torch.nn.Module, _: Any) -> None:
    """Have every converted layer round its weight anew, and once."""
    for layer in model.modules():
        if isinstance(layer, Simulated):
            layer.begin_forward()


def end_forward(model: torch.nn.Module, *_: Any) -> None:
    """Have calls of the model's parts stand for themselves again."""
    for layer in model.modules():
        if isinstance(layer, Simulated):
            layer.end_forward()


def revert(model: Model) -> Model:
    """Undo convert: every layer gets its torch class back; parameters stay as they are.

    Args:
        model: A converted module, or a part of one.

    Returns:
        The model itself.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If no layer of it is converted.

    Example:
        >>> model = convert(torch.nn.Linear(2, 2), "bfp8")
        >>> type(revert(model)) is torch.nn.Linear
        True
    """
    _check_module(model)
    classes = {twin: original for original, twin in (*TWINS.items(), *OPENED.items())}
    layers = [layer for layer in model.modules() if isinstance(layer, Simulated)]
    if not layers:
        raise value_error("model", "be converted", type(model).__name__, "Call lowprec.convert first.")
    for layer in layers:
        layer.disown()
    for part in model.modules():
        part.__class__ = classes.get(type(part), type(part))
        _remove(part._forward_pre_hooks, begin_forward)
        for key in _remove(part._forward_hooks, end_forward):
            del part._forward_hooks_always_called[key]
    return model


def _remove(hooks: dict[int, Any], ours: Callable[..., None]) -> list[int]:
    """Remove one hook from a module's hooks; the keys it had."""
    keys = [key for key, hook in hooks.items() if hook is ours]
    for key in keys:
        del hooks[key]
    return keys


def prepare(
    model: Model,
    optimizer: torch.optim.Optimizer,
    scheme: Scheme | str,
    *,
    exclude: Sequence[str] = (),
    seed: int | None = None,
) -> tuple[Model, LowPrecision]:
    """Convert a model and wrap its optimizer; the training loop stays as it is.

    The scheme's loss scale acts inside the error casts, so neither loss nor gradients are scaled.

    Args:
        model: Any module; changed in place.
        optimizer: Its torch optimizer; wrapped.
        scheme: A scheme or its name.
        exclude: As in convert.
        seed: Seed of the optimizer's noise; None to draw one.

    Returns:
        The model and a LowPrecision optimizer.

    Raises:
        TypeError, ValueError: As convert and LowPrecision; the model is not converted then.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> model, optimizer = prepare(model, optimizer, "fp8-hybrid")
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
    """
    scheme = scheme_of(scheme)
    left = choose(model, scheme, exclude).left  # refuses a model before its weights are rounded
    _check_owner(model, optimizer)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    wrapped = LowPrecision(
        optimizer,
        exclude=[p for p in held if id(p) in left],
        weight=scheme.stored_weight,
        gradient=scheme.gradient,
        state=dict(scheme.state) if isinstance(scheme.state, tuple) else scheme.state,
        master=scheme.master,
        seed=seed,
    )
    return convert(model, scheme, exclude=exclude), wrapped


@dataclass(frozen=True)
class Row:
    """What was done to one layer."""

    name: str
    type: str
    casts: tuple[tuple[str, str], ...]
    """Roles and casts; empty where the layer is left alone."""


@dataclass(frozen=True)
class Description:
    """What convert did: a row for each layer with parameters; prints as a table."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        """A line for each layer."""
        name_width = max((len(row.name) for row in self.rows), default=0)
        type_width = max((len(row.type) for row in self.rows), default=0)
        lines = []
        for row in self.rows:
            casts = "; ".join(f"{role} {cast}" for role, cast in row.casts) or "left alone"
            lines.append(f"{row.name:{name_width}}  {row.type:{type_width}}  {casts}")
        return "\n".join(lines)


def describe(model: torch.nn.Module) -> Description:
    """List a model's layers and how their products are simulated.

    Args:
        model: Any module, converted or not.

    Returns:
        A row for every module that owns parameters, with its name, type, and the cast of each role.

    Raises:
        TypeError: If ``model`` is no module.

    Example:
        >>> print(describe(convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), "bfp8")))
        0  Linear  input bfp8 nearest_even; weight bfp8 nearest_even; error bfp8 nearest_even
    """
    _check_module(model)
    rows = []
    for name, layer in model.named_modules():
        casts: list[tuple[str, str]] = []
        if isinstance(layer, Simulated):
            scheme = layer.scheme
            roles = (*CAST_ROLES, "arithmetic")
            casts = [(role, getattr(scheme, role).describe()) for role in roles if getattr(scheme, role)]
            for product in ("grad_input", "grad_weight"):
                operands = getattr(scheme, product)
                if operands is not None:
                    casts += [
                        (f"{product}.{role}", getattr(operands, role).describe())
                        for role in ("input", "weight", "error", "arithmetic")
                        if getattr(operands, role) is not None
                    ]
            if scheme.loss_scale != 1.0:
                casts.append(("loss scale", f"{scheme.loss_scale:g}"))
        if casts or any(True for _ in layer.parameters(recurse=False)):
            rows.append(Row(name or "(model)", type(layer).__name__, tuple(casts)))
    return Description(tuple(rows))


def _check_module(model: object) -> None:
    """Refuse anything but a module."""
    if not isinstance(model, torch.nn.Module):
        raise type_error("model", "be a torch.nn.Module", type(model))


def _check_owner(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer of parameters that are not the model's."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise type_error("optimizer", "be a torch optimizer", type(optimizer))
    own = {id(p) for p in model.parameters()}
    foreign = sum(id(p) not in own for group in optimizer.param_groups for p in group["params"])
    if foreign:
        raise value_error(
            "optimizer",
            "hold parameters of the model only",
            f"{foreign} others",
            "Use lowprec.convert and lowprec.optim.LowPrecision apart.",
        )


class Chosen(NamedTuple):
    """A layer to convert."""

    name: str
    layer: torch.nn.Module
    scheme: Scheme
    """Its own, without rules."""


class Choice(NamedTuple):
    """What a scheme chooses in a model."""

    layers: list[Chosen]
    """The layers to convert, in the order of the model."""
    left: set[int]
    """The ids of the parameters to leave alone."""


def choose(model: torch.nn.Module, scheme: Scheme, exclude: Sequence[str]) -> Choice:
    """The layers to convert and the parameters to leave alone; changes nothing."""
    _check_module(model)
    if isinstance(exclude, str):
        raise type_error("exclude", "be a sequence of names", exclude, f"Pass ({exclude!r},).")
    modules = list(model.named_modules())
    if any(isinstance(layer, Simulated) for _, layer in modules):
        raise value_error(
            "model",
            "not hold simulated layers yet",
            type(model).__name__,
            "Call lowprec.revert first.",
        )
    rules = (*scheme.rules, *(Rule(pattern) for pattern in exclude))
    named = _excluded_by_name(model, rules)
    reaches = _reaches(modules, rules, named)
    chosen: list[Chosen] = []
    excluded = set[int]()
    for name, layer in modules:
        matching = [r for r, reach in zip(rules, reaches, strict=True) if id(layer) in reach]
        if any(rule.changes is None for rule in matching):
            excluded.update(id(p) for p in _own_parameters(layer))
            continue
        if type(layer) in TWINS:
            own = scheme.for_layer({r: c for rule in matching for r, c in rule.changes or ()})
            TWINS[type(layer)].check(own)
            chosen.append(Chosen(name, layer, own))
        elif problem := _unsimulated(layer, name, set[int]().union(*named)):
            what, way_out = problem
            raise value_error(
                "model",
                "hold only layers that can be simulated",
                f"{name or '(model)'}: {type(layer).__name__}, {what}",
                f"Pass exclude=({way_out!r},), or a rule in the scheme, to leave it as it is.",
            )
    if not chosen:
        raise value_error("model", "have a layer to simulate", type(model).__name__)
    read = {id(p) for _, layer, _ in chosen for p in _own_parameters(layer)}  # some may be tied
    return Choice(chosen, set[int]().union(excluded - read, *named))


def _excluded_by_name(model: torch.nn.Module, rules: Sequence[Rule]) -> list[set[int]]:
    """For each rule the ids of the parameters that it leaves alone by their own names."""
    names = list(model.named_parameters(remove_duplicate=False))
    return [
        {id(p) for name, p in names if rule.changes is None and fnmatchcase(name, rule.match)}
        for rule in rules
    ]


def _reaches(
    modules: list[tuple[str, torch.nn.Module]], rules: Sequence[Rule], named: Sequence[set[int]]
) -> list[set[int]]:
    """What each rule speaks of: the ids of the modules that it matches and of all their parts."""
    reaches = [_reach(rule.match, modules) for rule in rules]
    twins = [layer for _, layer in modules if type(layer) in TWINS]
    excluded = [reach for rule, reach in zip(rules, reaches, strict=True) if rule.changes is None]
    left = [id(layer) for layer in twins if not any(id(layer) in reach for reach in excluded)]
    ends = {":first": set(left[:1]), ":last": set(left[-1:])}
    reaches = [ends.get(rule.match, reach) for rule, reach in zip(rules, reaches, strict=True)]
    everything, simulated = {id(m) for _, m in modules}, {id(layer) for layer in twins}
    unused = sorted(
        rule.match
        for rule, reach, parameters in zip(rules, reaches, named, strict=True)
        if reach.isdisjoint(everything if rule.changes is None else simulated) and not parameters
    )
    if unused:
        raise value_error("exclude", "match some layer or parameter, rules likewise", unused)
    return reaches


def _reach(pattern: str, modules: list[tuple[str, torch.nn.Module]]) -> set[int]:
    """The ids of what a type name or a pattern of names matches, with all parts."""
    return {
        id(part)
        for name, layer in modules
        if any(c.__name__ == pattern for c in type(layer).__mro__[:-2]) or fnmatchcase(name, pattern)
        for part in layer.modules()
    }


def _unsimulated(layer: torch.nn.Module, name: str, left: set[int]) -> tuple[str, str] | None:
    """Why a layer's products would go unsimulated, and what to exclude; None if it has none."""
    if isinstance(layer, WITHOUT_TWIN):
        return "whose products are not simulated", name or type(layer).__name__
    if isinstance(layer, (*TWINS, *OPENED)) and type(layer) not in OPENED:
        return "a subclass with a forward of its own", name or type(layer).__name__
    if isinstance(layer, _WITHOUT_PRODUCTS):
        return None
    for own, p in layer.named_parameters(name, recurse=False):
        if p.dim() >= 2 and id(p) not in left:
            return f"whose parameter {own} of {p.dim()} dimensions may enter a product", own
    return None


def _own_parameters(layer: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """The parameters that belong to the layer and not to its parts."""
    return layer.parameters(recurse=False)
