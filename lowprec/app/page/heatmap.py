"""Heat maps: what was lost in every layer, step by step. A table whose third column is drawn."""

import bisect
import itertools
import math
from collections.abc import Sequence

from lowprec.app.page.layers import Moment, least, pooled
from lowprec.app.page.markup import Html, framed, joined, text
from lowprec.app.report import share

_MOST_CELLS = 30_000
_COLUMNS = 20, 120
_BOUNDS = (0.0, 0.001, 0.01, 0.1, 0.3)
"""Of the levels: what is lost is more than so much."""
_LEVELS = ("nothing", "to 0.1 %", "to 1 %", "to 10 %", "to 30 %", "more")
_NAN = "nan"


def most_columns(num_rows: int) -> int:
    """How many columns maps may have so that the page stays small.

    Args:
        num_rows: Of all maps of the page.

    Returns:
        Columns of each.

    Example:
        >>> most_columns(24), most_columns(1000)
        (120, 30)
    """
    least, most = _COLUMNS
    return max(least, min(most, _MOST_CELLS // num_rows))


def heat_map(caption: str, moments: Sequence[Moment], most: int) -> Html:
    """What each role of each layer lost: rows are layers and roles, columns moments.

    A cell's color is the share that saturated or became zero; a moment with a NaN is marked whatever
    else was lost. Where there are too many moments, neighbors are put together.

    Args:
        caption: What it shows.
        moments: Of one run, at least one.
        most: How many columns it may have.

    Returns:
        The table.

    Example:
        >>> moment = Moment("a", 0, 0, 3, 3, "fc", "input", 8, 0, 0, 8, 0.0)
        >>> "NaN from step 3" in heat_map("A run", [moment], most=9)
        True
    """
    columns, rows = pooled(moments, most)
    steps = dict.fromkeys((columns[0][0], columns[-1][1]))  # one step is told once
    axis = "".join(f"<span>step {step}</span>" for step in steps)
    head = (
        '<thead><tr><th scope="col">layer</th><th scope="col">role</th>'
        f'<th scope="col" class="steps"><div>{axis}</div></th>'
        '<th scope="col" class="number">most lost</th><th scope="col" class="number">least SQNR</th>'
        '<th scope="col">NaN</th></tr></thead>'
    )
    exact: dict[tuple[str, str], list[Moment]] = {}
    for moment in moments:
        exact.setdefault((moment.layer, moment.role), []).append(moment)
    bodies = []
    for layer, group in itertools.groupby(rows, lambda key: key[0]):
        strips = [(role, exact[layer, role], rows[layer, role]) for _, role in group]
        bodies.append(_layer(layer, strips, len(columns)))
    return framed(caption, Html(f"{head}\n{joined(bodies)}"), "heat")


def _layer(name: str, strips: Sequence[tuple[str, Sequence[Moment], dict[int, Moment]]], width: int) -> Html:
    """The rows of a layer: for each role its moments, and those that are drawn, by column."""
    lines = []
    for place, (role, moments, cells) in enumerate(strips):
        head = f'<th scope="rowgroup" rowspan="{len(strips)}">{text(name)}</th>' if place == 0 else ""
        worst = max(moments, key=lambda m: m.lost)
        ratio = least(m.sqnr_db for m in moments)
        broken = [m.first_step for m in moments if m.nan]
        told = f"NaN from step {min(broken)}" if broken else ""
        lost = share(worst.saturated + worst.underflowed, worst.count)
        label = f"at most {lost} lost" if lost else "nothing counted"
        label += f", {told}" if told else ""
        lines.append(
            f'<tr>{head}<th scope="row">{text(role)}</th>'
            f'<td class="steps">{_strip(label, cells, width)}</td>'
            f'<td class="number">{lost}</td>'
            f'<td class="number">{_decibels(ratio)}</td>'
            + (f'<td class="bad">{told}</td></tr>' if told else "<td></td></tr>")
        )
    return Html(f"<tbody>\n{joined(map(Html, lines))}\n</tbody>")


def _decibels(ratio: float) -> str:
    """A signal-to-noise ratio; without any noise it is infinite."""
    if math.isnan(ratio):
        return ""
    return "exact" if ratio == math.inf else f"{ratio:.1f} dB"


def _strip(label: str, cells: dict[int, Moment], width: int) -> Html:
    """One row of cells, equal neighbors drawn as one; a NaN is taller than the others."""
    paths: dict[str, str] = {}
    columns = sorted(cells)
    # neighbors of one level have one key: the column less the place in the list is the same
    for (level, _), run in itertools.groupby(
        enumerate(columns), lambda pair: (_level(cells[pair[1]]), pair[1] - pair[0])
    ):
        members = [column for _, column in run]
        top, height = (0, 10) if level == _NAN else (1, 8)
        square = f"M{members[0]} {top}h{len(members)}v{height}h-{len(members)}z"
        paths[level] = paths.get(level, "") + square
    drawn = "".join(f'<path class="{level}" d="{d}"/>' for level, d in paths.items())
    return Html(
        f'<svg viewBox="0 0 {width} 10" preserveAspectRatio="none" role="img">'
        f"<title>{text(label)}</title>{drawn}</svg>"
    )


def _level(moment: Moment) -> str:
    """The class of a cell."""
    return _NAN if moment.nan else f"level{bisect.bisect_left(_BOUNDS, moment.lost)}"


def key() -> Html:
    """What the colors mean.

    Returns:
        A list of the levels.

    Example:
        >>> "to 10 %" in key()
        True
    """
    names = [*((f"level{number}", name) for number, name in enumerate(_LEVELS)), (_NAN, "NaN")]
    items = joined(
        Html(
            f'<li><svg class="cell" viewBox="0 0 10 10" width="16" height="16" aria-hidden="true">'
            f'<path class="{level}" d="M0 0h10v10h-10z"/></svg> {text(name)}</li>'
        )
        for level, name in names
    )
    return Html(f'<ul class="legend">\n{items}\n</ul>')
