"""The tables at the end of a job, for a terminal or a file."""

import math
import statistics
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lowprec.app.loop import RECORD_EVERY
from lowprec.app.results import ROLES, Summary
from lowprec.app.settings import PLAIN
from lowprec.arithmetic import Arithmetic, CarrierArithmetic
from lowprec.scheme import PRODUCT_ROLES, Cast, Operands, Rule, Scheme

_LEAST_SHOWN = 0.0001
"""A smaller fraction that is not zero is shown as less than this."""


def tables(summaries: Sequence[Summary], schemes: dict[str, Scheme]) -> Group:
    """What was reached, and what each scheme is and did to the numbers, role by role.

    Args:
        summaries: One per scheme and momentum.
        schemes: By name, without the float32 twin.

    Returns:
        Two tables that rich can print.

    Example:
        >>> summary = Summary("float32", 0.9, (0.875,), (0.25,), 1.0, {})
        >>> len(tables([summary], {}).renderables)
        2
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
        caption=f"after the last epoch{spread}\nslowdown: median step time over the float32 twin's",
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


def _roles(summaries: Sequence[Summary], schemes: dict[str, Scheme]) -> Table:
    """The exact schemes, and how much of each role saturated, became zero or NaN."""
    table = Table(
        title="Schemes, and what they did to the numbers",
        caption=f"counted in one step of {RECORD_EVERY}; underflow: a non-zero value became zero",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("role", no_wrap=True)
    table.add_column("cast", overflow="fold")
    for name in ("saturated", "underflow", "NaN"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in summaries:
        if summary.scheme == PLAIN:
            continue
        scheme = schemes[summary.scheme]
        settings = f"momentum {summary.momentum:g}, loss scale {scheme.loss_scale:g}"
        table.add_section()
        table.add_row(Text(summary.scheme, style="bold"), settings)
        for role, cast in _described(scheme):
            count, *parts = summary.counts.get(role, [0, 0, 0, 0])
            table.add_row(Text(f"  {role}"), Text(cast), *(_share(part, count) for part in parts))
    return table


def _described(scheme: Scheme) -> Iterator[tuple[str, str]]:
    """Everything that a scheme says, a line for each role."""
    for role in dict.fromkeys((*ROLES, *PRODUCT_ROLES)):
        value = getattr(scheme, role)
        if value is not None:
            yield role, _readable(value)
    for rule in scheme.rules:
        yield f"rule {rule.match}", _changes(rule)


_Held = Cast | Arithmetic | CarrierArithmetic


def _readable(value: _Held | Operands | tuple[tuple[str, Cast], ...] | None) -> str:
    """What a role holds: a cast or an arithmetic, or several with their names."""
    if value is None:
        return "no cast"
    if isinstance(value, _Held):
        return value.describe()
    if isinstance(value, Operands):
        value = tuple((name, cast) for name, cast in vars(value).items() if cast is not None)
    return "\n".join(f"{name}: {cast.describe()}" for name, cast in value)


def _changes(rule: Rule) -> str:
    """What a rule changes."""
    if rule.changes is None:
        return "left alone"
    return "\n".join(f"{role}: {_readable(value)}" for role, value in rule.changes)


def _share(part: int, whole: int) -> str:
    """A fraction in percent; nothing where nothing was counted."""
    if whole == 0:
        return ""
    if part == 0:
        return "0 %"
    share = part / whole
    return f"{100 * share:.2f} %" if share >= _LEAST_SHOWN else f"<{100 * _LEAST_SHOWN:.2f} %"
