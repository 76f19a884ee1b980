"""What to do to which tensor: Scheme for all of them, Rule for the layers that differ."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowprec import toml
from lowprec.arithmetic import Arithmetic as Arithmetic
from lowprec.arithmetic import CarrierArithmetic, arithmetic_of
from lowprec.cast import Cast as Cast
from lowprec.cast import CastLike as CastLike
from lowprec.cast import Operands as Operands
from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike, PerGroup, Scaled, parse
from lowprec.formats.granularity import CONTRACTION
from lowprec.table import Table

CAST_ROLES = ("input", "weight", "error", "output")
"""The roles that a product reads."""
PRODUCT_ROLES = (*CAST_ROLES, "arithmetic", "grad_input", "grad_weight")
"""What a rule may change."""
OPTIMIZER_ROLES = ("stored_weight", "gradient", "state", "master")
"""The roles that the optimizer keeps."""


@dataclass(frozen=True)
class Rule:
    """What differs for the layers that match.

    Args:
        match: The name of a layer type (``"Conv2d"``), a pattern of qualified names
            (``"blocks.*.head"``), ``":first"`` or ``":last"`` converted layer.
        changes: Product roles mapped to casts (None removes one); None leaves the layer alone.

    Raises:
        TypeError: If ``match`` is not a string.
        ValueError: If a change names no role of products.

    Example:
        >>> Rule(":last", None).changes is None
        True
    """

    match: str
    changes: tuple[tuple[str, Cast | Operands | Arithmetic | CarrierArithmetic | None], ...] | None = None

    def __post_init__(self) -> None:
        """Check, and hold the changes in hashable form."""
        if not isinstance(self.match, str):
            raise type_error("match", "be a string", self.match)
        if self.changes is None:
            return
        pairs = dict(self.changes)
        if unknown := sorted(set(pairs) - set(PRODUCT_ROLES)):
            raise value_error("changes", f"name roles among {', '.join(PRODUCT_ROLES)}", unknown)
        changes = tuple((role, _cast_of(role, value)) for role, value in pairs.items())
        object.__setattr__(self, "changes", changes)

    def describe(self) -> str:
        """What it changes, in one line for a person."""
        if self.changes is None:
            return "left alone"
        told = ((role, cast.to_value() if cast else "none") for role, cast in self.changes)
        return ", ".join(f"{role}: {value}" for role, value in told)

    def to_value(self) -> dict[str, Any]:
        """A dict that from_value reads."""
        if self.changes is None:
            return {"match": self.match, "exclude": True}
        changes = {role: cast.to_value() if cast else "none" for role, cast in self.changes}
        return {"match": self.match, "changes": changes}

    @classmethod
    def from_value(cls, value: Any) -> "Rule":
        """A rule from what to_value gave."""
        if isinstance(value, Rule):
            return value
        allowed = ({"match", "exclude"}, {"match", "changes"})
        if not isinstance(value, Mapping) or set(value) not in allowed:
            raise value_error("rules", "hold match and either changes or exclude = true", value)
        if "exclude" in value:
            if value["exclude"] is not True:
                raise value_error("exclude", "be true where it is given", value["exclude"])
            return cls(value["match"])
        if not isinstance(value["changes"], Mapping):
            raise type_error("changes", "map roles to casts", value["changes"])
        changes = {role: None if c == "none" else c for role, c in value["changes"].items()}
        return cls(value["match"], tuple(changes.items()))


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Casts for all roles of a training run; every one is optional.

    ``loss_scale`` must be a power of two: errors are rounded as if the loss had been multiplied by it,
    which moves the exponents of the error format, costs nothing, and leaves gradients unscaled.

    Args:
        input: Activations, as the product reads them.
        weight: Weights, as the product reads them.
        error: Gradients of activations, as both backward products read them.
        output: What the product gives.
        arithmetic: How sums inside products are rounded, a product's two backward products included; a
            format or its name for sums rounded to it one by one. None for the carrier's own products.
            Backward products are computed as if the loss were scaled, like errors.
        grad_input: Operands of the product that gives the gradient of the input, where they differ.
        grad_weight: Operands of the product that gives the gradient of the weight, where they differ.
        stored_weight: Weights as the optimizer keeps them.
        gradient: Gradients of weights before the optimizer reads them.
        state: Optimizer state, one cast for all or a mapping from state names.
        master: A wider copy of the weights that the optimizer updates.
        loss_scale: Static, a power of two.
        rules: What differs for some layers; applied in order, each on top of the last.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a name is unknown or the loss scale is no power of two.

    Example:
        >>> scheme = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", loss_scale=1024)
        >>> Scheme.from_dict(scheme.to_dict()) == scheme
        True
    """

    input: Cast | None = None
    weight: Cast | None = None
    error: Cast | None = None
    output: Cast | None = None
    arithmetic: Arithmetic | CarrierArithmetic | None = None
    grad_input: Operands | None = None
    grad_weight: Operands | None = None
    stored_weight: Cast | None = None
    gradient: Cast | None = None
    state: Cast | tuple[tuple[str, Cast], ...] | None = None
    master: Cast | None = None
    loss_scale: float = 1.0
    rules: tuple[Rule, ...] = field(default=())

    if TYPE_CHECKING:  # what may be given is wider than what is held

        def __init__(
            self,
            *,
            input: CastLike = None,
            weight: CastLike = None,
            error: CastLike = None,
            output: CastLike = None,
            arithmetic: Arithmetic | CarrierArithmetic | FormatLike | None = None,
            grad_input: Operands | None = None,
            grad_weight: Operands | None = None,
            stored_weight: CastLike = None,
            gradient: CastLike = None,
            state: CastLike | Mapping[str, CastLike] = None,
            master: CastLike = None,
            loss_scale: float = 1.0,
            rules: Sequence[Rule] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        """Accept formats, names, mappings and lists; hold casts and tuples."""
        for role in (*PRODUCT_ROLES, "stored_weight", "gradient", "master"):
            _normalize(self, role)
        if isinstance(self.state, Mapping | tuple):
            pairs = dict(self.state)
            if unnamed := [name for name in pairs if not isinstance(name, str)]:
                raise type_error("state", "map names of state tensors to casts", unnamed)
            state = tuple(sorted((n, Cast.from_value(c, f"state.{n}")) for n, c in pairs.items()))
            object.__setattr__(self, "state", state)
        else:
            _normalize(self, "state")
        if isinstance(self.loss_scale, bool) or not isinstance(self.loss_scale, int | float):
            raise type_error("loss_scale", "be a number", self.loss_scale)
        scale = float(self.loss_scale)
        if not 2.0**-100 <= scale <= 2.0**100 or scale.hex().split("p")[0] != "0x1.0000000000000":
            raise value_error(
                "loss_scale", "be a power of two from 2**-100 to 2**100", self.loss_scale, "Try 1024."
            )
        object.__setattr__(self, "loss_scale", scale)
        object.__setattr__(self, "rules", tuple(Rule.from_value(rule) for rule in self.rules))
        states = [cast for _, cast in self.state] if isinstance(self.state, tuple) else [self.state]
        for role in ("error", "stored_weight", "gradient", "master", "state"):
            for cast in states if role == "state" else [getattr(self, role)]:
                if cast is not None:
                    cast.check_unclipped(role)
        for name, unread in (("grad_input", "input"), ("grad_weight", "weight")):
            operands = getattr(self, name)
            if operands is not None and getattr(operands, unread) is not None:
                must = f"not name {unread}, which that product does not read"
                raise value_error(name, must, unread, "Leave it out.")

    @classmethod
    def named(cls, name: str) -> "Scheme":
        """The scheme of that name.

        Raises:
            ValueError: If there is none; the message lists them.

        Example:
            >>> Scheme.named("bfp8").input.describe()
            'bfp8 nearest_even'
        """
        if not isinstance(name, str):
            raise type_error("scheme", "be a Scheme or a name", name)
        if name not in SCHEMES:
            raise value_error(
                "scheme", f"be one of {', '.join(SCHEMES)}", name, "Scheme.from_toml(path) reads a file."
            )
        return SCHEMES[name]

    def _repr_html_(self) -> str:
        """The roles that are cast as a table, for a notebook."""
        rows: list[tuple[str, str]] = []
        for role in (*PRODUCT_ROLES, *OPTIMIZER_ROLES):
            value = getattr(self, role)
            if isinstance(value, Operands):
                parts = {name: getattr(value, name) for name in ("input", "weight", "error")}
                rows += [(f"{role}: {name}", cast.describe()) for name, cast in parts.items() if cast]
            elif isinstance(value, tuple):
                rows += [(f"{role}: {name}", cast.describe()) for name, cast in value]
            elif value is not None:
                rows.append((role, value.describe()))
        if self.loss_scale != 1.0:
            rows.append(("loss scale", f"{self.loss_scale:g}"))
        rows += [(f"rule for {rule.match}", rule.describe()) for rule in self.rules]
        return Table(("role", "cast"), tuple(rows), "Scheme")._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """The scheme as a dict of plain values, without what is not set."""
        plain: dict[str, Any] = {}
        for role in (*PRODUCT_ROLES, *OPTIMIZER_ROLES):
            value = getattr(self, role)
            if isinstance(value, tuple):
                plain[role] = {name: cast.to_value() for name, cast in value}
            elif value is not None:
                plain[role] = value.to_value()
        if self.loss_scale != 1.0:
            plain["loss_scale"] = self.loss_scale
        if self.rules:
            plain["rules"] = [rule.to_value() for rule in self.rules]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Scheme":
        """The scheme of a dict as to_dict gives it.

        Raises:
            ValueError: If a key or a name is unknown.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(plain) - known):
            raise value_error("scheme", f"have no keys but {', '.join(sorted(known))}", unknown)
        values = dict(plain)
        state = values.get("state")
        if isinstance(state, Mapping) and "format" in state:
            values["state"] = Cast.from_value(state, "state")
        return cls(**values)

    def to_toml(self) -> str:
        """The scheme as TOML, which from_toml reads back."""
        return toml.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, path: str | Path) -> "Scheme":
        """The scheme of a TOML file.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is not TOML or no scheme; the message names the file.
        """
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise value_error("path", f"hold a scheme ({error})", str(path)) from None

    def for_layer(self, changes: Mapping[str, Any]) -> "Scheme":
        """The scheme with some roles changed and no rules."""
        return replace(self, rules=(), **changes)


def scheme_of(scheme: Scheme | str) -> Scheme:
    """A scheme or its name."""
    return scheme if isinstance(scheme, Scheme) else Scheme.named(scheme)


def _cast_of(role: str, value: Any) -> Cast | Operands | Arithmetic | CarrierArithmetic | None:
    """A cast, operands or an arithmetic from anything accepted in their place."""
    if value is None:
        return None
    if role == "arithmetic":
        return arithmetic_of(value, role)
    return (Operands if role in ("grad_input", "grad_weight") else Cast).from_value(value, role)


def _normalize(holder: Any, role: str) -> None:
    """Replace a format or a name by the cast that it means."""
    object.__setattr__(holder, role, _cast_of(role, getattr(holder, role)))


def _stochastic(format: FormatLike) -> Cast:
    """Stochastic while training, to nearest in eval()."""
    return Cast(format, "stochastic", eval_rounding="nearest_even")


def _all(cast: Cast | str) -> dict[str, Any]:
    """The same cast for what products read and what the optimizer keeps."""
    roles = ("input", "weight", "error", "stored_weight", "gradient", "state")
    return dict.fromkeys(roles, cast)


def _products(format: str, error: str | None = None, *, stochastic: bool = False) -> Scheme:
    """What products read in one format, along their own contraction, the error perhaps in another."""

    def cast(name: str) -> Cast:
        scaled = parse(name)
        if isinstance(scaled, Scaled) and isinstance(scaled.granularity, PerGroup):
            scaled = replace(scaled, granularity=replace(scaled.granularity, axis=CONTRACTION))
        return _stochastic(scaled) if stochastic else Cast(scaled)

    return Scheme(input=cast(format), weight=cast(format), error=cast(error or format))


_PRODUCTS = {
    "mxfp8": ("mxfp8_e4m3", None),
    "mxfp6": ("mxfp6_e2m3", "mxfp6_e3m2"),
    "mxfp4": ("mxfp4", None),
    "nvfp4": ("nvfp4", None),
    "int8": ("int8", None),
}
"""The formats of schemes that round what products read, and nothing else: of operands, of errors."""

SCHEMES: dict[str, Scheme] = {
    "bf16": Scheme(input="bfloat16", weight="bfloat16", error="bfloat16", output="bfloat16"),
    "fp8-hybrid": Scheme(
        input="e4m3fn<saturate_all>",
        weight="e4m3fn<saturate_all>",
        error="e5m2<saturate_all>",
        loss_scale=1024,
    ),
    # Wang et al. 2018 have sums of 16 bits, in chunks of 64; products of narrower operands need fewer
    "fp8-acc12": Scheme(
        input="e4m3fn<saturate_all>",
        weight="e4m3fn<saturate_all>",
        error="e5m2<saturate_all>",
        arithmetic=Arithmetic("e6m5ieee", chunk=64),
        loss_scale=1024,
    ),
    "bfp8": Scheme(**_all("bfp8")),
    "bfp8-sr": Scheme(**_all(_stochastic("bfp8"))),
    "fixed8": Scheme(
        input="fixed8f4",
        error="fixed8f7",
        stored_weight="fixed8f7",
        gradient="fixed8f7",
        loss_scale=64,
    ),
    "fixed8-sr": Scheme(
        input=_stochastic("fixed8f4"),
        error=_stochastic("fixed8f7"),
        stored_weight=_stochastic("fixed8f7"),
        gradient=_stochastic("fixed8f7"),
        loss_scale=64,
    ),
    **{name: _products(*formats) for name, formats in _PRODUCTS.items()},
    **{f"{name}-sr": _products(*formats, stochastic=True) for name, formats in _PRODUCTS.items()},
}
"""The named schemes."""
