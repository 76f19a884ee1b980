"""What a job has found: the table of rows as CSV, and the summary over seeds."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lowprec.app import checkpoint
from lowprec.app.loop import Counts, Row, add_counts
from lowprec.app.settings import PLAIN, Run
from lowprec.record import Moments
from lowprec.scheme import CAST_ROLES, OPTIMIZER_ROLES

CSV = "results.csv"
LAYERS = "layers.csv"
ROLES = (*CAST_ROLES, *OPTIMIZER_ROLES)
"""What is counted, in the order of the columns."""

_COUNTS = ("count", "saturated", "underflowed", "nan")


@dataclass(frozen=True)
class Summary:
    """One scheme at one momentum, over all seeds."""

    scheme: str
    momentum: float
    accuracies: tuple[float, ...]
    """Test accuracy after the last epoch, as fractions, seed by seed."""
    losses: tuple[float, ...]
    """Test loss after the last epoch."""
    slowdown: float
    """Median time of a step over that of the float32 twin; NaN if too few steps were timed."""
    counts: Counts
    """Of the sampled steps of all epochs and seeds."""


def write_csv(folder: Path, rows: Iterable[Row]) -> None:
    """Write one line per run and epoch; equal jobs give equal bytes, so there are no times in it.

    Args:
        folder: Where ``results.csv`` goes.
        rows: In the order in which they came.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_csv(folder, [Row(Run("float32", 0.9, 0), 1, 0.5, 0.25, 0.875, {})])
        >>> (folder / "results.csv").read_text().splitlines()[1][:32]
        'float32,0.9,0,1,0.5,0.25,0.875,,'
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["scheme", "momentum", "seed", "epoch", "train_loss", "test_loss", "test_accuracy"]
        + [f"{role}_{name}" for role in ROLES for name in _COUNTS]
    )
    nothing = [""] * len(_COUNTS)
    for row in rows:
        reached = [row.epoch, row.train_loss, row.test_loss, row.test_accuracy]
        counts = [number for role in ROLES for number in row.counts.get(role, nothing)]
        writer.writerow([row.run.scheme, row.run.momentum, row.run.seed, *reached, *counts])
    checkpoint.write(folder / CSV, text.getvalue().encode())


def write_layers(folder: Path, recorded: Iterable[tuple[Run, Moments]]) -> None:
    """Write what the sampled steps of each run did, one line per moment, layer and role.

    Args:
        folder: Where ``layers.csv`` goes.
        recorded: The runs that have begun, in their order; those in plain float32 have no moments. Steps are
            numbered from 0, and ``sqnr_db`` is empty where there is no signal.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_layers(folder, [(Run("float32", 0.9, 0), Moments())])
        >>> (folder / "layers.csv").read_text()[:35]
        'scheme,momentum,seed,first_step,las'
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([
        "scheme", "momentum", "seed", "first_step", "last_step", "layer", "role", "count", "saturated",
        "underflowed", "nan", "sqnr_db",
    ])  # fmt: skip
    for run, moments in recorded:
        for moment in moments:
            place = run.scheme, run.momentum, run.seed, moment.first_step, moment.last_step
            for key, c in moment.counters().items():
                sqnr = "" if math.isnan(c.sqnr) else c.sqnr
                writer.writerow([*place, *key, c.count, c.saturated, c.underflowed, c.nan, sqnr])
    checkpoint.write(folder / LAYERS, text.getvalue().encode())


def summarize(
    runs: Sequence[Run], rows: Sequence[Row], step_seconds: dict[Run, list[float]]
) -> list[Summary]:
    """Put the seeds of each scheme together.

    Args:
        runs: All of the job, finished.
        rows: All of them.
        step_seconds: Of every run.

    Returns:
        One summary per scheme and momentum, in the order of the runs.

    Example:
        >>> run = Run("float32", 0.9, 0)
        >>> [summary] = summarize([run], [Row(run, 1, 0.5, 0.25, 0.875, {})], {run: [0.1]})
        >>> summary.accuracies, summary.slowdown
        ((0.875,), 1.0)
    """
    last = {row.run: row for row in rows}
    summaries = []
    for scheme, momentum in dict.fromkeys((run.scheme, run.momentum) for run in runs):
        members = [run for run in runs if (run.scheme, run.momentum) == (scheme, momentum)]
        ratios = [
            _median(step_seconds[run]) / _median(step_seconds[Run(PLAIN, momentum, run.seed)])
            for run in members
        ]
        summaries.append(
            Summary(
                scheme,
                momentum,
                tuple(last[run].test_accuracy for run in members),
                tuple(last[run].test_loss for run in members),
                statistics.fmean(ratios),
                add_counts(row.counts for row in rows if row.run in members),
            )
        )
    return summaries


@dataclass(frozen=True)
class Point:
    """A quantity after an epoch: mean, least and greatest over the seeds; NaN if one is not finite."""

    epoch: int
    mean: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Point":
        """The same in another unit, such as in percent."""
        return Point(self.epoch, factor * self.mean, factor * self.low, factor * self.high)


def curves(rows: Iterable[Row], quantity: str) -> dict[str, list[Point]]:
    """How something went, scheme by scheme, over the seeds that have come so far.

    Args:
        rows: Of one momentum.
        quantity: ``"test_accuracy"``, ``"test_loss"`` or ``"train_loss"``.

    Returns:
        For each scheme a point for every epoch.

    Example:
        >>> rows = [Row(Run("bf16", 0.9, seed), 1, 0.5, 0.25, 0.5 + seed / 4, {}) for seed in (0, 1)]
        >>> curves(rows, "test_accuracy")
        {'bf16': [Point(epoch=1, mean=0.625, low=0.5, high=0.75)]}
    """
    values: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        values.setdefault(row.run.scheme, {}).setdefault(row.epoch, []).append(getattr(row, quantity))
    return {
        scheme: [_point(epoch, numbers) for epoch, numbers in sorted(by_epoch.items())]
        for scheme, by_epoch in values.items()
    }


def _point(epoch: int, values: list[float]) -> Point:
    """The point of an epoch."""
    if not all(map(math.isfinite, values)):
        return Point(epoch, math.nan, math.nan, math.nan)
    return Point(epoch, statistics.fmean(values), min(values), max(values))


def _median(seconds: list[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(seconds) if seconds else math.nan
