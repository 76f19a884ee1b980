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

REACHED = ("test accuracy", "test loss", "slowdown")
"""The columns of the results."""
COUNTING = f"counted in one step of {RECORD_EVERY}; underflow: a non-zero value became zero"

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
    table = Table(title="Results", caption="\n".join(notes(num_seeds)))
    table.add_column("momentum", justify="right")
    table.add_column("scheme")
    for name in REACHED:
        table.add_column(name, justify="right")
    for index, summary in enumerate(summaries):
        before = summaries[index - 1].momentum if index else summary.momentum
        if summary.momentum != before:
            table.add_section()
        table.add_row(
            f"{summary.momentum:g}",
            summary.scheme,
            *reached(summary),
        )
    return table


def notes(num_seeds: int) -> tuple[str, str]:
    """What must be known to read the results.

    Args:
        num_seeds: Over how many the means are.

    Returns:
        Two notes.

    Example:
        >>> notes(1)[0]
        'after the last epoch'
    """
    spread = f"; ± is the standard deviation over {num_seeds} seeds" if num_seeds > 1 else ""
    return f"after the last epoch{spread}", "slowdown: median step time over the float32 twin's"


def reached(summary: Summary) -> tuple[str, str, str]:
    """A scheme's results as they are read, for the columns ``REACHED``.

    Args:
        summary: Of one scheme and momentum; NaN where a run diverged.

    Returns:
        Accuracy, loss and slowdown.

    Example:
        >>> reached(Summary("float32", 0.9, (0.875,), (0.25,), 1.0, {}))
        ('87.5 %', '0.250', '1.0 x')
    """
    return (
        _mean_and_spread([100 * a for a in summary.accuracies], 1) + " %",
        _mean_and_spread(summary.losses, 3),
        f"{summary.slowdown:.1f} x" if math.isfinite(summary.slowdown) else "not timed",
    )


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
        caption=COUNTING,
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
        for role, cast in described(scheme):
            count, *parts = summary.counts.get(role, [0, 0, 0, 0])
            table.add_row(Text(f"  {role}"), Text(cast), *(share(part, count) for part in parts))
    return table


def described(scheme: Scheme) -> Iterator[tuple[str, str]]:
    """Everything that a scheme says, a line for each role.

    Args:
        scheme: Any.

    Yields:
        The role, or the rule's name, and its casts in words.

    Example:
        >>> list(described(Scheme(input="e4m3fn")))
        [('input', 'e4m3fn nearest_even')]
    """
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


def share(part: int, whole: int) -> str:
    """A fraction in percent; nothing where nothing was counted.

    Args:
        part: How many of them.
        whole: How many in all.

    Returns:
        Two digits; a fraction that is too small for them is said to be less, never zero.

    Example:
        >>> share(1, 8), share(1, 10**9), share(0, 8), share(0, 0)
        ('12.50 %', '<0.01 %', '0 %', '')
    """
    if whole == 0:
        return ""
    if part == 0:
        return "0 %"
    share = part / whole
    return f"{100 * share:.2f} %" if share >= _LEAST_SHOWN else f"<{100 * _LEAST_SHOWN:.2f} %"
