"""The tables of a recording."""

import math
from collections.abc import Iterable, Mapping, Sequence

from lowprec.errors import value_error
from lowprec.record.counters import Counters, Histogram
from lowprec.record.moments import Key
from lowprec.table import Cell, Table

Rows = Sequence[tuple[Key, Counters]]


def of_layers(found: Rows, steps: Sequence[tuple[int, int]]) -> Table:
    """A row for each layer and role, over all steps."""
    columns = (
        "layer", "role", "count", "saturated", "underflowed", "NaN", "infinite", "given NaN",
        "given infinite", "SQNR", "exponents", "scales", "update lost",
    )  # fmt: skip
    percent = dict.fromkeys((*columns[3:9], "update lost"), ".3%")
    rows = tuple(
        (
            *key, c.count, c.saturation, c.underflow, _share(c.nan, c.count), _share(c.infinite, c.count),
            _share(c.given_nan, c.count), _share(c.given_infinite, c.count), _sqnr(c), _ends(c.exponents),
            _ends(c.scales), _update_lost(c),
        )
        for key, c in found
    )  # fmt: skip
    title = f"steps {steps[0][0]} to {steps[-1][1]}" if rows else "nothing was rounded"
    caption = (
        "saturated, underflowed, NaN, infinite: of all elements; given: before rounding.\n"
        "SQNR: in dB, of finite elements.\n"
        "exponents, scales: floor(log2) of the smallest and the largest input, and scale of a group.\n"
        "update lost: the norm of what rounding threw away over that of the optimizer's update."
    )
    return Table(columns, rows, title=title, caption=caption, formats={**percent, "SQNR": ".1f"})


def of_moments(moments: Iterable[tuple[int, int, Rows]]) -> Table:
    """A row for each moment, layer and role."""
    columns = (
        "first_step", "last_step", "layer", "role", "count", "saturated", "underflowed", "nan", "infinite",
        "sqnr_db", "moved", "lost", "update_lost", "given_nan", "given_infinite",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (
            first, last, *key, c.count, c.saturated, c.underflowed, c.nan, c.infinite, _sqnr(c), c.moved,
            c.lost, _update_lost(c), c.given_nan, c.given_infinite,
        )
        for first, last, found in moments
        for key, c in found
    ]  # fmt: skip
    return Table(columns, tuple(rows))


def of_exponents(every: Mapping[Key, Counters], role: str | None, layer: str | None) -> Table:
    """A row for each binade, of one layer or role or of all.

    Raises:
        ValueError: If there is no such role or layer.
    """
    for name, place, value in (("layer", 0, layer), ("role", 1, role)):
        known = dict.fromkeys(key[place] for key in every)
        if value is not None and value not in known:
            raise value_error(name, f"be None or one of {', '.join(known) or 'none'}", value)
    chosen = (c for key, c in every.items() if layer in (None, key[0]) and role in (None, key[1]))
    total = sum(chosen, Counters())
    elements, scales = dict(total.exponents), dict(total.scales)
    binades = range(min([*elements, *scales], default=0), max([*elements, *scales], default=-1) + 1)
    rows = tuple((e, elements.get(e, 0), scales.get(e, 0)) for e in binades)
    caption = f"Besides: {total.zeros:,} zeros, {total.given_infinite:,} infinite, {total.given_nan:,} NaN."
    return Table(("exponent", "elements", "scales"), rows, caption=caption)


def _sqnr(counters: Counters) -> float | None:
    """Decibels, if there is a signal."""
    return None if math.isnan(counters.sqnr) else counters.sqnr


def _update_lost(counters: Counters) -> float | None:
    """The share that was lost, if there was an update."""
    return counters.update_lost if counters.moved else None


def _share(part: int, whole: int) -> float:
    """A fraction; 0 of nothing."""
    return part / whole if whole else 0.0


def _ends(histogram: Histogram) -> str | None:
    """The least and the largest exponent."""
    return f"{histogram[0][0]} … {histogram[-1][0]}" if histogram else None
