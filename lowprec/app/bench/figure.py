"""What is measured and what came out: Probe, Figure, and the Limit that a figure must keep."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


class Unavailable(Exception):
    """This machine cannot measure it, and nothing is wrong; the message says why."""


def number(value: float) -> str:
    """A value with two significant digits at least.

    Args:
        value: Any.

    Returns:
        The text.

    Example:
        >>> number(12.345), number(1.2345), number(0.0012345)
        ('12.3', '1.23', '0.0012')
    """
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


@dataclass(frozen=True)
class Limit:
    """What a figure must reach, or must not exceed.

    Args:
        value: In the unit of the figure.
        at_least: Whether more is better.

    Example:
        >>> Limit(0.9, at_least=True).holds(0.95)
        True
        >>> str(Limit(12, at_least=False))
        '≤ 12'
    """

    value: float
    at_least: bool

    def holds(self, value: float) -> bool:
        """Whether a value keeps the limit; NaN never does."""
        return value >= self.value if self.at_least else value <= self.value

    def better(self, one: float, other: float) -> float:
        """The better of two values."""
        return max(one, other) if self.at_least else min(one, other)

    def __str__(self) -> str:
        """The sign and the value."""
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@dataclass(frozen=True)
class Probe:
    """A measurement that can be taken again: one cell of a table.

    Args:
        section: The table.
        row: What is measured.
        column: How, or in what circumstances.
        unit: Of the value.
        measure: Takes it. Unavailable means that this machine cannot; any other exception is a failure.
        limit: What it must keep, if anything.

    Example:
        >>> Probe("import", "lowprec", "", "s", lambda: 0.25).take().value
        0.25
    """

    section: str
    row: str
    column: str
    unit: str
    measure: Callable[[], float]
    limit: Limit | None = None

    def take(self) -> "Figure":
        """Measure once; whatever goes wrong is told by the figure."""
        figure = Figure(self.section, self.row, self.column, self.unit, self.limit)
        try:
            return replace(figure, value=self.measure())
        except Unavailable as reason:
            return replace(figure, absent=str(reason))
        except Exception as error:  # a figure that cannot be had must not hide the others
            lines = str(error).strip().splitlines() or [""]
            return replace(figure, failure=f"{type(error).__name__}: {lines[0]}")


@dataclass(frozen=True)
class Figure:
    """What came out of a probe.

    Args:
        section: The table.
        row: What was measured.
        column: How.
        unit: Of the value.
        limit: What it must keep, if anything.
        value: None where it was not measured.
        rounds: How often it was measured; the value is the best.
        absent: Why this machine cannot measure it, such as "not installed".
        failure: The error that came instead of a value.

    Example:
        >>> Figure("import", "lowprec", "", "s", Limit(0.6, at_least=False), value=0.7).missed
        True
    """

    section: str
    row: str
    column: str
    unit: str
    limit: Limit | None = None
    value: float | None = None
    rounds: int = 1
    absent: str = ""
    failure: str = ""

    @property
    def missed(self) -> bool:
        """Whether it failed or breaks its limit."""
        if self.value is None:
            return bool(self.failure)
        return self.limit is not None and not self.limit.holds(self.value)

    @property
    def title(self) -> str:
        """Its place in one line."""
        return f"{self.section}: {self.row}{', ' if self.column else ''}{self.column}"

    def improved(self, again: "Figure") -> "Figure":
        """This figure after one more round: the better value of the two."""
        values = [figure.value for figure in (self, again) if figure.value is not None]
        if self.limit is None or len(values) < 2:
            return replace(self, rounds=self.rounds + 1)
        return replace(self, value=self.limit.better(*values), rounds=self.rounds + 1)

    def to_value(self) -> dict[str, Any]:
        """A dict of plain values, without what does not apply."""
        value = vars(self) | {"limit": None if self.limit is None else str(self.limit)}
        optional = ("limit", "value", "absent", "failure")
        return {
            name: entry for name, entry in value.items() if name not in optional or entry not in (None, "")
        }
