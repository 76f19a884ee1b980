"""sensitivity: what each layer's arithmetic costs, with one layer simulated at a time."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lowprec.cast import Cast
from lowprec.convert import Chosen, choose, convert_layers
from lowprec.drawing import REFERENCE, STYLES, Style, axes_of, plain
from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike, resolve
from lowprec.restoring import same_model, same_random_state
from lowprec.scheme import SCHEMES, Scheme
from lowprec.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SchemeLike = Scheme | Cast | FormatLike
"""A scheme or its name; a cast or a format, which stand for inputs and weights rounded alike."""

ALL = "(all layers)"
"""Stands where a layer's name does, for all of them at once."""


@dataclass(frozen=True)
class Effect:
    """What was measured with one layer simulated, or with all."""

    layer: str
    """Its qualified name, or ``(all layers)``."""
    scheme: str
    value: float
    change: float
    """The value less the baseline; NaN where either is."""
    parameters: float
    """The share of the model's parameters that the layer reads, as a fraction."""


@dataclass(frozen=True)
class Sensitivity:
    """A model's value with one layer simulated at a time; prints as a table, the greatest change first.

    Example:
        >>> effect = Effect("head", "e2m1", 0.5, -0.25, 0.1)
        >>> print(Sensitivity(0.75, (effect,), (Effect("(all layers)", "e2m1", 0.5, -0.25, 1.0),)))
        baseline 0.75
        layer         scheme  value  change  parameters
        head          e2m1      0.5   -0.25       10.0%
        (all layers)  e2m1      0.5   -0.25      100.0%
    """

    baseline: float
    """The value of the model as it was given."""
    effects: tuple[Effect, ...]
    """Scheme by scheme, in the order of the model."""
    together: tuple[Effect, ...]
    """All layers at once, for each scheme."""

    @property
    def ranking(self) -> tuple[Effect, ...]:
        """The effects, the greatest change in either direction first, and NaN before all.

        Equal changes keep the order of the model.
        """
        return tuple(sorted(self.effects, key=_size, reverse=True))

    def table(self) -> Table:
        """The effects by rank, then all layers at once.

        Returns:
            A table with the columns layer, scheme, value, change and parameters (their share).
        """
        rows = [(e.layer, e.scheme, e.value, e.change, e.parameters) for e in (*self.ranking, *self.together)]
        return Table(
            ("layer", "scheme", "value", "change", "parameters"),
            tuple(rows),
            title=f"baseline {self.baseline:.4g}",
            formats={"parameters": ".1%", "change": "+.3g"},
        )

    def to_csv(self) -> str:
        """The table as CSV, numbers in full.

        Returns:
            The text; see ``Table.to_csv``.
        """
        return self.table().to_csv()

    def __str__(self) -> str:
        """The table."""
        return str(self.table())

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return self.table()._repr_html_()

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw a bar for each layer and scheme, from the baseline to the value.

        A value that is not finite is written instead of drawn.

        Args:
            ax: Matplotlib's axes; None for a new figure, as high as there are layers.

        Returns:
            The axes.

        Example:
            >>> from matplotlib.figure import Figure
            >>> effect = Effect("head", "e2m1", 0.5, -0.25, 0.1)
            >>> axes = Sensitivity(0.75, (effect,), ()).plot(Figure().subplots())
            >>> [label.get_text() for label in axes.get_yticklabels()]
            ['head']
        """
        schemes = list(dict.fromkeys(e.scheme for e in (*self.effects, *self.together)))
        layers = list(dict.fromkeys(e.layer for e in (*self.effects, *self.together)))
        thickness = 0.8 / max(1, len(schemes))
        inches = max(0.2, (0.13 if len(layers) <= _MANY else 0.08) * len(schemes) + 0.06)
        ax = axes_of(ax, height=1.1 + inches * len(layers))
        for number, scheme in enumerate(schemes):
            style = STYLES[number % len(STYLES)]
            effects = [e for e in (*self.effects, *self.together) if e.scheme == scheme]
            shift = (number - (len(schemes) - 1) / 2) * thickness
            places = [layers.index(e.layer) + shift for e in effects]
            _draw(ax, self.baseline, effects, places, thickness, style, scheme)
        if math.isfinite(self.baseline):
            ax.axvline(
                self.baseline, color=REFERENCE.color, linewidth=1, label=f"baseline {self.baseline:.4g}"
            )
        if ALL in layers:
            ax.axhline(len(layers) - 1.5, color=REFERENCE.color, linewidth=0.5)
        ax.use_sticky_edges = False  # else bars end at the frame, and their markers beyond it
        ax.margins(x=0.05)
        ax.set_yticks(range(len(layers)), [_short(layer) for layer in layers])
        ax.set_ylim(len(layers) - 0.4, -0.6)
        ax.set_xlabel("value with one layer simulated")
        ax.legend(
            frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(schemes) + 1)
        )
        return plain(ax, grid="x")


def sensitivity(
    model: torch.nn.Module,
    evaluate: Callable[[Any], Any],
    schemes: SchemeLike | Sequence[SchemeLike] | Mapping[str, SchemeLike],
    *,
    exclude: Sequence[str] = (),
    seed: int = 0,
) -> Sensitivity:
    """Evaluate a model with one layer simulated at a time, for every layer and scheme.

    First comes the model as it is, the baseline, then for each scheme every layer that ``convert`` would
    choose, and all of them at once. Each evaluation begins with the same model and the same random
    numbers; afterwards the model and the global random state are as they were. A value that is NaN or
    infinite is kept.

    Args:
        model: A module that is not converted; in ``train()`` or ``eval()`` mode as ``evaluate`` finds it.
        evaluate: Takes the model, gives one number, such as an accuracy or a loss. It may train.
        schemes: A scheme, its name, a cast or a format (of inputs and weights), several of them, or a
            mapping from names of your own. A scheme's optimizer roles have no part in it.
        exclude: As in ``convert``.
        seed: With which the random numbers of torch, NumPy and Python begin in every evaluation.

    Returns:
        A Sensitivity, which has the baseline, an effect for each layer and scheme, a ranking, a table, and a
            plot.

    Raises:
        TypeError: If an argument has the wrong type, or ``evaluate`` gives no number.
        ValueError: If the model is converted, a layer cannot be simulated and is not excluded, a name is
            unknown, or two schemes have one name.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> x = torch.ones(1, 2)
        >>> result = sensitivity(model, lambda m: m(x).sum(), "fixed8f4")
        >>> [effect.layer for effect in result.effects]
        ['0', '1']
    """
    if not callable(evaluate):
        raise type_error("evaluate", "be a function of the model", evaluate)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise type_error("seed", "be an integer", seed)
    named = _named(schemes)
    chosen = {name: choose(model, scheme, exclude).layers for name, scheme in named.items()}

    def value(layers: Sequence[Chosen]) -> float:
        """What evaluate says with these layers converted."""
        with same_model(model), same_random_state(seed):
            if layers:
                convert_layers(model, layers)
            return _number(evaluate(model))

    baseline = value(())
    total = _count([model])

    def effect(layer: str, scheme: str, layers: Sequence[Chosen]) -> Effect:
        """The effect of converting these layers."""
        found = value(layers)
        share = _count(c.layer for c in layers) / total
        return Effect(layer, scheme, found, found - baseline, share)

    effects = [
        effect(layer.name or "(model)", name, [layer]) for name, layers in chosen.items() for layer in layers
    ]
    together = [effect(ALL, name, layers) for name, layers in chosen.items()]
    return Sensitivity(baseline, tuple(effects), tuple(together))


def _named(schemes: Any) -> dict[str, Scheme]:
    """Every scheme with its name."""
    if isinstance(schemes, Mapping):
        if unnamed := [name for name in schemes if not isinstance(name, str)]:
            raise type_error("schemes", "have strings for names", unnamed)
        pairs = [(name, scheme_like(given)) for name, given in schemes.items()]
    else:
        several = isinstance(schemes, list | tuple)
        pairs = [(_name(given), scheme_like(given)) for given in (schemes if several else [schemes])]
    named = dict(pairs)
    if not named:
        raise value_error("schemes", "hold at least one scheme", schemes)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        remedy = "Pass a mapping from names of your own."
        raise value_error("schemes", "have a name for each scheme", names, remedy)
    return named


def scheme_like(given: Any, name: str = "schemes") -> Scheme:
    """A scheme from what may stand for one."""
    if isinstance(given, Scheme):
        return given
    if isinstance(given, str) and given in SCHEMES:
        return SCHEMES[given]
    try:
        cast = given if isinstance(given, Cast) else Cast(resolve(given))
    except ValueError as error:
        known = ", ".join(SCHEMES)
        remedy = f"Known schemes: {known}."
        raise value_error(name, f"be a scheme's name or a format ({error})", given, remedy) from None
    return Scheme(input=cast, weight=cast)


def _name(given: Any) -> str:
    """What a scheme is called that was given without a name."""
    if isinstance(given, Scheme):
        return next((name for name, scheme in SCHEMES.items() if scheme == given), "scheme")
    return given.describe() if isinstance(given, Cast) else str(given)


def _number(value: Any) -> float:
    """One number as a float."""
    if isinstance(value, str | bytes):
        raise type_error("evaluate", "return one number", value)
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        got = tuple(value.shape) if hasattr(value, "shape") else value
        raise type_error("evaluate", "return one number", got, "Return the mean, or .item().") from None


def _count(modules: Iterable[torch.nn.Module]) -> int:
    """How many parameters modules have, each counted once; at least 1."""
    return max(1, sum({id(p): p.numel() for m in modules for p in m.parameters()}.values()))


_LONGEST_NAME = 28
_MANY = 16
"""Of layers: with more, bars are thinner."""


def _short(name: str) -> str:
    """A layer's name, or its end."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _size(effect: Effect) -> float:
    """By what effects are ranked."""
    return math.inf if math.isnan(effect.change) else abs(effect.change)


def _draw(
    ax: "Axes",
    baseline: float,
    effects: list[Effect],
    places: list[float],
    thickness: float,
    style: Style,
    label: str,
) -> None:
    """The bars of one scheme, each with a marker at its end."""
    start = baseline if math.isfinite(baseline) else 0.0
    finite = [(e.value, y) for e, y in zip(effects, places, strict=True) if math.isfinite(e.value)]
    values, heights = [value for value, _ in finite], [y for _, y in finite]
    changes = [value - start for value in values]
    ax.barh(heights, changes, 0.9 * thickness, left=start, color=style.color, alpha=0.35)
    ax.plot(values, heights, style.marker, color=style.color, markersize=4, label=label)
    for effect, y in zip(effects, places, strict=True):
        if not math.isfinite(effect.value):
            text = f" {effect.value}"
            ax.text(start, y, text, color=style.color, va="center", ha="left", fontsize="small")
