"""The tables at the end of a job, for a terminal or a file."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lowprec.app.loop import RECORD_EVERY
from lowprec.app.results import ROLES, Summary
from lowprec.app.settings import PLAIN

if TYPE_CHECKING:
    from lowprec.scheme import Scheme

_LEAST_SHOWN = 0.0001
"""A smaller fraction that is not zero is shown as less than this."""


def tables(summaries: Sequence[Summary], schemes: "dict[str, Scheme]") -> Group:
    """What was reached, and what each scheme is and did to the numbers, role by role.

    Args:
        summaries: One per scheme and momentum.
        schemes: By name, without the float32 twin.

    Returns:
        Two tables that rich can print.

    Example:
        >>> summary = Summary("float32", 0.9, (0.875,), (0.25,), 1.0, {})
        >>> Console(width=80).print(tables([summary], {}))  # doctest: +ELLIPSIS
        <BLANKLINE>
        ...
    """
    parts = [_reached(summaries)]
    if schemes:
        parts.append(_roles(summaries, schemes))
    return Group("", *parts)


def _reached(summaries: Sequence[Summary]) -> Table:
    """Accuracy, loss and slowdown."""
    num_seeds = len(summaries[0].accuracies)
    spread = f"; ± is the standard deviation over {num_seeds} seeds" if num_seeds > 1 else ""
    table = Table(
        title="Results",
        caption=f"after the last epoch{spread}; slowdown: median step time against the float32 twin",
    )
    table.add_column("momentum", justify="right")
    table.add_column("scheme")
    for name in ("test accuracy", "test loss", "slowdown"):
        table.add_column(name, justify="right")
    for index, summary in enumerate(summaries):
        before = summaries[index - 1].momentum if index else summary.momentum
        if summary.momentum != before:
            table.add_section()
        slowdown = f"{summary.slowdown:.1f} x" if math.isfinite(summary.slowdown) else "not timed"
        table.add_row(
            f"{summary.momentum:g}",
            summary.scheme,
            _mean_and_spread([100 * a for a in summary.accuracies], 1) + " %",
            _mean_and_spread(summary.losses, 3),
            slowdown,
        )
    return table


def _mean_and_spread(values: Sequence[float], digits: int) -> str:
    """The mean, and the sample standard deviation where there is one."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    finite = all(math.isfinite(value) for value in values)
    return f"{mean} ± {statistics.stdev(values) if finite else math.nan:.{digits}f}"


def _roles(summaries: Sequence[Summary], schemes: "dict[str, Scheme]") -> Table:
    """The exact schemes, and how much of each role saturated or became zero."""
    table = Table(
        title="Schemes, and what they did to the numbers",
        caption=f"counted in one step of {RECORD_EVERY}; underflow: a non-zero value became zero",
    )
    for name in ("scheme", "role", "cast"):
        table.add_column(name, overflow="fold")
    for name in ("saturated", "underflow"):
        table.add_column(name, justify="right")
    for summary in summaries:
        if summary.scheme == PLAIN:
            continue
        table.add_section()
        name = f"{summary.scheme}\nmomentum {summary.momentum:g}"
        scheme = schemes[summary.scheme]
        for index, (role, cast) in enumerate(_described(scheme)):
            count, saturated, underflowed, _ = summary.counts.get(role, [0, 0, 0, 0])
            table.add_row(
                name if index == 0 else "",
                role,
                Text(cast),
                _share(saturated, count),
                _share(underflowed, count),
            )
    return table


def _described(scheme: "Scheme") -> list[tuple[str, str]]:
    """Every field of a scheme that is not empty, the counted roles first."""
    fields = [f.name for f in dataclasses.fields(scheme)]
    ordered = [role for role in ROLES if role in fields] + [f for f in fields if f not in ROLES]
    return [
        (name, str(value))
        for name in ordered
        if (value := getattr(scheme, name)) is not None and value != ()
    ]


def _share(part: int, whole: int) -> str:
    """A fraction in percent; nothing where nothing was counted."""
    if whole == 0:
        return ""
    if part == 0:
        return "0 %"
    share = part / whole
    return f"{100 * share:.2f} %" if share >= _LEAST_SHOWN else f"<{100 * _LEAST_SHOWN:.2f} %"
