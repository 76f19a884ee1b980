"""How a job shows where it is: bars in a terminal, plain lines everywhere else."""

import os
import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Display(Protocol):
    """What the job tells while it works."""

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

    def begin(self, title: str, done: int, total: int) -> None:
        """A run begins, or goes on after ``done`` of ``total`` steps."""
        ...

    def step(self) -> None:
        """One step is done."""
        ...

    def reached(self, text: str) -> None:
        """An epoch is over."""
        ...

    def end(self) -> None:
        """The run is over."""
        ...


def display(num_runs: int, done: int, total: int) -> Display:
    """The display that fits standard error.

    Args:
        num_runs: Runs of the job.
        done: Steps done before, over all runs.
        total: Steps of all runs.

    Returns:
        Bars in a terminal, else lines.

    Example:
        >>> type(display(1, 0, 10)).__name__
        'Lines'
    """
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return Bars(num_runs, done, total)
    return Lines(num_runs, done, total)


class Bars:
    """A bar for the run under way, one for all runs, and a line above for each finished run."""

    def __init__(self, num_runs: int, done: int, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
            refresh_per_second=4,
            speed_estimate_period=60,
        )
        self._all = self._progress.add_task(
            f"all {num_runs} runs" if num_runs > 1 else "the run",
            total=total, completed=done, note="",
        )  # fmt: skip
        self._run: TaskID | None = None
        self._title, self._note, self._start = "", "", 0.0

    def __enter__(self) -> Self:
        """Draw the bars."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave them as they are, and the cursor below."""
        self._progress.stop()

    def begin(self, title: str, done: int, total: int) -> None:
        """A new bar."""
        self._title, self._note, self._start = title, "", time.monotonic()
        self._run = self._progress.add_task(title, total=total, completed=done, note="")

    def step(self) -> None:
        """Both bars grow."""
        self._progress.advance(self._all)
        if self._run is not None:
            self._progress.advance(self._run)

    def reached(self, text: str) -> None:
        """What was reached stands behind the bar."""
        self._note = text
        if self._run is not None:
            self._progress.update(self._run, note=text)

    def end(self) -> None:
        """The bar becomes a line."""
        if self._run is not None:
            self._progress.remove_task(self._run)
            self._run = None
        seconds = time.monotonic() - self._start
        self._progress.console.print(f"{self._title}: {self._note}, {seconds:.0f} s", highlight=False)


class Lines:
    """A line when a run begins, at every epoch's end, and at least every ten seconds of steps."""

    def __init__(self, num_runs: int, done: int, total: int) -> None:
        self._num_runs, self._total = num_runs, total
        self._done_before, self._done = done, done
        self._run_done, self._run_total = 0, 0
        self._title = ""
        self._start = self._last = time.monotonic()

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

    def begin(self, title: str, done: int, total: int) -> None:
        """Say which run it is, and from where it goes on."""
        self._title, self._run_done, self._run_total = title, done, total
        self._say(f"{title}: step {done} of {total}")

    def step(self) -> None:
        """Say something only if it is long ago."""
        self._done += 1
        self._run_done += 1
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._say(f"{self._title}: step {self._run_done} of {self._run_total}")

    def reached(self, text: str) -> None:
        """Say what was reached."""
        self._say(f"{self._title}: {text}")

    def end(self) -> None:
        """The last epoch has said it."""

    def _say(self, text: str) -> None:
        """One line, with the time left as far as it is known."""
        self._last = time.monotonic()
        worked = self._done - self._done_before
        left = ""
        if worked:
            seconds = (self._last - self._start) / worked * (self._total - self._done)
            left = f" ({_readable(seconds)} left for all)" if self._num_runs > 1 else (
                f" ({_readable(seconds)} left)"
            )  # fmt: skip
        sys.stderr.write(f"{text}{left}\n")
        sys.stderr.flush()


def _readable(seconds: float) -> str:
    """A duration in the unit that fits."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
