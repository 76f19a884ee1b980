"""Cast: what to do to one tensor. Operands: how one backward product differs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lowprec.arithmetic import Arithmetic, CarrierArithmetic, arithmetic_of
from lowprec.errors import type_error, value_error
from lowprec.formats import Format, FormatLike, resolve
from lowprec.modes import Rounding, check_random_bits
from lowprec.table import Table


@dataclass(frozen=True)
class Cast:
    """What to do to one tensor: a format, and how to round to it.

    NaN, infinities, -0 and overflow are the format's affair; see quantize.

    Args:
        format: The target format, its name, or a torch dtype.
        rounding: The rounding mode, or its name.
        random_bits: Bits of noise for stochastic rounding, 1 to 32; None for 32.
        eval_rounding: The mode in ``eval()``; None for the same.
        clip_gradient: Give no gradient where overflow fired in that very forward.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, or random_bits is given to a mode without noise.

    Example:
        >>> Cast("fixed8f6", "stochastic", eval_rounding="nearest_even").describe()
        'fixed8f6 stochastic (eval nearest_even)'
    """

    format: Format
    rounding: Rounding
    random_bits: int | None
    eval_rounding: Rounding | None
    clip_gradient: bool

    def __init__(
        self,
        format: FormatLike,
        rounding: Rounding | str = "nearest_even",
        *,
        random_bits: int | None = None,
        eval_rounding: Rounding | str | None = None,
        clip_gradient: bool = False,
    ) -> None:
        mode = Rounding.parse(rounding, "rounding")
        quiet = None if eval_rounding is None else Rounding.parse(eval_rounding, "eval_rounding")
        check_random_bits(random_bits, mode, *([] if quiet is None else [quiet]))
        if not isinstance(clip_gradient, bool):
            raise type_error("clip_gradient", "be True or False", clip_gradient)
        object.__setattr__(self, "format", resolve(format))
        object.__setattr__(self, "rounding", mode)
        object.__setattr__(self, "random_bits", random_bits)
        object.__setattr__(self, "eval_rounding", quiet)
        object.__setattr__(self, "clip_gradient", clip_gradient)

    def mode(self, *, training: bool) -> Rounding:
        """The rounding mode while training or evaluating."""
        return self.rounding if training or self.eval_rounding is None else self.eval_rounding

    def check_unclipped(self, role: str) -> None:
        """Refuse clip_gradient in a role that has no gradient of its own."""
        if self.clip_gradient:
            raise value_error(
                role, "not clip gradients", self.describe(), "Only forward casts have gradients."
            )

    def describe(self) -> str:
        """One line for a person."""
        parts = [str(self.format), str(self.rounding)]
        if self.random_bits is not None:
            parts.append(f"{self.random_bits} random bits")
        if self.eval_rounding is not None:
            parts.append(f"(eval {self.eval_rounding})")
        if self.clip_gradient:
            parts.append("clipping gradients")
        return " ".join(parts)

    def _repr_html_(self) -> str:
        """What is set as a table, for a notebook."""
        value = self.to_value()
        plain = value if isinstance(value, dict) else {"format": value, "rounding": str(self.rounding)}
        rows = tuple((name.replace("_", " "), f"{setting}") for name, setting in plain.items())
        return Table(("property", "value"), rows, "Cast")._repr_html_()

    def to_value(self) -> str | dict[str, Any]:
        """A string if only the format is given, else a dict; from_value reads both."""
        value: dict[str, Any] = {"format": str(self.format), "rounding": str(self.rounding)}
        for name in ("random_bits", "eval_rounding"):
            if getattr(self, name) is not None:
                value[name] = getattr(self, name)
        if self.eval_rounding is not None:
            value["eval_rounding"] = str(self.eval_rounding)
        if self.clip_gradient:
            value["clip_gradient"] = True
        plain = self == Cast(self.format)
        return value["format"] if plain else value

    @classmethod
    def from_value(cls, value: Any, name: str) -> "Cast":
        """A cast from what to_value gave; ``name`` is the role blamed for a wrong one."""
        if isinstance(value, Mapping):
            known = {f.name for f in fields(cls)}
            if unknown := sorted(set(value) - known):
                raise value_error(name, f"have no keys but {', '.join(sorted(known))}", unknown)
            if "format" not in value:
                raise value_error(name, "name a format", dict(value))
            return cls(**value)
        return value if isinstance(value, Cast) else cls(value)


CastLike = Cast | FormatLike | None
"""A cast, or a format or its name to be rounded to nearest even; None for no cast."""


@dataclass(frozen=True)
class Operands:
    """Casts of the operands of one backward product, and its arithmetic, where they differ from the scheme's.

    Args:
        input: For ``grad_weight``: the input read again.
        weight: For ``grad_input``: the weight read again.
        error: The error as this product's operand.
        arithmetic: How sums inside this product are rounded; ``"carrier"`` for the carrier's own product.

    Example:
        >>> Operands(error="bfloat16").error.describe()
        'bfloat16 nearest_even'
    """

    input: Cast | None = None
    weight: Cast | None = None
    error: Cast | None = None
    arithmetic: Arithmetic | CarrierArithmetic | None = None

    if TYPE_CHECKING:  # what may be given is wider than what is held

        def __init__(
            self,
            input: CastLike = None,
            weight: CastLike = None,
            error: CastLike = None,
            arithmetic: Arithmetic | CarrierArithmetic | FormatLike | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Accept formats and names."""
        if self.arithmetic is not None:
            object.__setattr__(self, "arithmetic", arithmetic_of(self.arithmetic, "arithmetic"))
        for f in fields(self):
            cast = getattr(self, f.name)
            if cast is not None and f.name != "arithmetic":
                cast = Cast.from_value(cast, f.name)
                cast.check_unclipped(f.name)
                object.__setattr__(self, f.name, cast)

    def to_value(self) -> dict[str, Any]:
        """A dict of the casts that are given."""
        return {f.name: getattr(self, f.name).to_value() for f in fields(self) if getattr(self, f.name)}

    @classmethod
    def from_value(cls, value: Any, name: str) -> "Operands":
        """Operands from what to_value gave."""
        if isinstance(value, Operands):
            return value
        known = {f.name for f in fields(cls)}
        if not isinstance(value, Mapping) or set(value) - known:
            raise value_error(name, f"map some of {', '.join(sorted(known))} to casts", value)
        read = {"arithmetic": arithmetic_of}
        return cls(**{r: read.get(r, Cast.from_value)(cast, f"{name}.{r}") for r, cast in value.items()})
