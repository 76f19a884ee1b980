"""Where a verification is: a bar in a terminal, plain lines everywhere else."""

import os
import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lowprec.app.verify.claim import Part
from lowprec.app.verify.state import Finding

SECONDS_BETWEEN_LINES = 10.0


class Display(Protocol):
    """What the job tells while it works; its unit is the expected second."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing, and leave the screen in order."""
        ...

    def begin(self, part: Part) -> None:
        """A part begins."""
        ...

    def at(self, seconds: float) -> None:
        """So much of the part is done."""
        ...

    def end(self, finding: Finding) -> None:
        """The part is over."""
        ...


def display(total: float) -> Display:
    """The display that fits standard error.

    Args:
        total: Expected seconds of all parts.

    Returns:
        A bar in a terminal, else lines.

    Example:
        >>> type(display(10.0)).__name__
        'Lines'
    """
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return Bar(total)
    return Lines(total)


def wrong(finding: Finding) -> str:
    """What is said at once about a part with wrong results."""
    return f"{finding.part.key}: {finding.outcome.wrong:,} of {finding.outcome.results:,} results are wrong"


class Bar:
    """One bar for all parts, and what it is about."""

    def __init__(self, total: float) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=Console(stderr=True),
            refresh_per_second=4,
            speed_estimate_period=60,
        )
        self._task, self._done = self._progress.add_task("", total=total), 0.0

    def __enter__(self) -> Self:
        """Draw the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it as it is."""
        self._progress.stop()

    def begin(self, part: Part) -> None:
        """Say what is worked on."""
        self._progress.update(self._task, description=part.key)

    def at(self, seconds: float) -> None:
        """The bar grows."""
        self._progress.update(self._task, completed=self._done + seconds)

    def end(self, finding: Finding) -> None:
        """The bar has grown by a whole part; what is wrong is said above it."""
        self._done += finding.part.seconds
        self.at(0.0)
        if finding.outcome.wrong:
            self._progress.console.print(wrong(finding), highlight=False)


class Lines:
    """A line at least every ten seconds, and one for every part with wrong results."""

    def __init__(self, total: float) -> None:
        self._total, self._done, self._key = total, 0.0, ""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to clean up."""

    def begin(self, part: Part) -> None:
        """Remember what is worked on."""
        self._key = part.key

    def at(self, seconds: float) -> None:
        """Say something only if it is long ago."""
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._say(f"{100 * (self._done + seconds) / self._total:.0f} %: {self._key}")

    def end(self, finding: Finding) -> None:
        """Say what is wrong."""
        self._done += finding.part.seconds
        if finding.outcome.wrong:
            self._say(wrong(finding))

    def _say(self, text: str) -> None:
        """One line."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
