"""sensitivity: what each layer's arithmetic costs, with one layer simulated at a time."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lowprec.cast import Cast
from lowprec.convert import Chosen, choose, convert_layers, revert
from lowprec.drawing import REFERENCE, STYLES, axes_of, plain
from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike, resolve
from lowprec.restoring import same_model, same_random_state
from lowprec.scheme import SCHEMES, Scheme
from lowprec.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Model = TypeVar("Model", bound=torch.nn.Module)
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
        from lowprec.sensitivity_plot import draw

        return draw(self, ax)
