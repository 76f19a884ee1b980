"""Grid: one quantity of every layer at every moment, the numbers behind a heat map."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.errors import value_error
from lowprec.record.counters import Counters
from lowprec.record.moments import Moment


class Quantity(NamedTuple):
    """What a heat map shows."""

    title: str
    of: Callable[[Counters], float]
    """NaN where a layer has none."""
    is_fraction: bool = True
    """Of which more is worse; else decibels, of which less is."""


def _where_moved(counters: Counters, value: float) -> float:
    """A quantity of updates, which only some roles have."""
    return value if counters.moved else math.nan


QUANTITIES = {
    "saturation": Quantity("saturated", lambda c: c.saturation),
    "underflow": Quantity("underflowed to zero", lambda c: c.underflow),
    "nan": Quantity("NaN", lambda c: c.nan / c.count if c.count else 0.0),
    "infinite": Quantity("infinite", lambda c: c.infinite / c.count if c.count else 0.0),
    "sqnr": Quantity("SQNR in dB", lambda c: c.sqnr, is_fraction=False),
    "stalled": Quantity("moved elements that rounding put back", lambda c: _where_moved(c, c.stalled)),
    "update_lost": Quantity("update's norm lost to rounding", lambda c: _where_moved(c, c.update_lost)),
}
LEAST = 1e-6
"""The least fraction that is told from the next smaller ones, but not from zero."""
_SOME = 0.01
"""How bad a fraction is at least that is not zero."""


@dataclass(frozen=True)
class Grid:
    """Layers down, moments across."""

    quantity: Quantity
    layers: tuple[str, ...]
    edges: tuple[int, ...]
    """The steps at which moments begin, and the one after the last."""
    values: npt.NDArray[np.float64]
    """The worst over roles; NaN where there is none."""
    broken: npt.NDArray[np.bool_]
    """Where something was NaN or infinite, before or after rounding."""
    recorded: npt.NDArray[np.bool_]

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest value on the scale of colors, apart from each other."""
        values = self.values[np.isfinite(self.values)]
        if self.quantity.is_fraction:
            values = values[values > 0]
            if not values.size:
                return 0.1, 1.0
            high = max(10.0 ** math.ceil(math.log10(values.max())), 10 * LEAST)  # decades have labels
            return min(max(10.0 ** math.floor(math.log10(values.min())), LEAST), high / 10), high
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        return low, high if high > low else low + 1.0

    def trouble(self) -> npt.NDArray[np.float64]:
        """How bad each cell is on the scale of colors, from 0 to 1; NaN where there is no value."""
        low, high = self.span
        if self.quantity.is_fraction:
            with np.errstate(divide="ignore"):
                share = np.log(self.values / low) / math.log(high / low)
            share = np.where(self.values > 0, np.maximum(share, _SOME), share)
        else:
            share = (high - self.values) / (high - low)
        clipped: npt.NDArray[np.float64] = np.clip(share, 0.0, 1.0)
        return clipped


def grid_of(moments: Iterable[Moment], order: Sequence[str], quantity: str, role: str | None) -> Grid:
    """The grid of a quantity, of one role or the worst over all.

    Raises:
        ValueError: If there is no such quantity, no such role, or nothing was recorded.
    """
    if quantity not in QUANTITIES:
        raise value_error("quantity", f"be one of {', '.join(QUANTITIES)}", quantity)
    chosen = QUANTITIES[quantity]
    columns = [moment for moment in moments if moment.numbers]
    if not columns:
        raise value_error("recording", "hold a step in which something was rounded", "none")
    keys = dict.fromkeys(key for moment in columns for key in moment.numbers)
    roles = sorted({role for _, role in keys})
    if role is not None and role not in roles:
        raise value_error("role", f"be None or one of {', '.join(roles)}", role)
    found = {layer for layer, own in keys if role in (None, own)}
    rank = {layer: place for place, layer in enumerate(order)}
    layers = sorted(found, key=lambda layer: (rank.get(layer, len(rank)), layer))
    shape = len(layers), len(columns)
    values, broken, recorded = np.full(shape, math.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    rows = {layer: place for place, layer in enumerate(layers)}
    worst = max if chosen.is_fraction else min
    for column, moment in enumerate(columns):
        for (layer, own), counters in moment.counters().items():
            if role not in (None, own):
                continue
            place, value = (rows[layer], column), chosen.of(counters)
            recorded[place] = True
            broken[place] |= counters.meets_not_finite
            if not math.isnan(value):
                before = float(values[place])
                values[place] = value if math.isnan(before) else worst(before, value)
    edges = *(moment.first_step for moment in columns), columns[-1].last_step + 1
    return Grid(chosen, tuple(layers), edges, values, broken, recorded)
