"""``layers.csv`` of a run folder: what each layer lost, moment by moment."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lowprec.errors import value_error

LAYERS = "layers.csv"
COLUMNS = (
    "scheme", "momentum", "seed", "first_step", "last_step", "layer", "role",
    "count", "saturated", "underflowed", "nan", "sqnr_db",
)  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """What one role of one layer lost between two steps of a run."""

    scheme: str
    momentum: float
    seed: int
    first_step: int
    last_step: int
    layer: str
    role: str
    count: int
    saturated: int
    underflowed: int
    nan: int
    sqnr_db: float
    """NaN where there is none."""

    @property
    def lost(self) -> float:
        """The fraction that saturated or became zero; 0 of nothing."""
        return (self.saturated + self.underflowed) / self.count if self.count else 0.0


def read_layers(folder: Path) -> tuple[Moment, ...]:
    """Read what each layer lost.

    Args:
        folder: A run folder.

    Returns:
        A moment for every line, nothing where the file is missing.

    Raises:
        ValueError: If a column is missing or a cell is no number.

    Example:
        >>> read_layers(Path("nowhere"))
        ()
    """
    path = folder / LAYERS
    if not path.is_file():
        return ()
    try:
        lines = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
    except UnicodeDecodeError:
        raise value_error("RUN", f"have a {LAYERS} in UTF-8", str(path)) from None
    if missing := [name for name in COLUMNS if name not in (lines.fieldnames or ())]:
        must = f"have a {LAYERS} with the columns {', '.join(COLUMNS)}"
        raise value_error("RUN", must, str(path), f"It lacks {missing[0]}.")
    try:
        return tuple(map(_moment, lines))
    except (csv.Error, TypeError, ValueError):
        must = f"have a {LAYERS} with a number in every cell of numbers"
        raise value_error("RUN", must, str(path), f"It is damaged in line {lines.line_num}.") from None


def _moment(line: dict[str, str]) -> Moment:
    """One line; a count that is not there is 0, a ratio that is not there NaN."""
    return Moment(
        scheme=line["scheme"],
        momentum=float(line["momentum"]),
        seed=int(line["seed"]),
        first_step=int(line["first_step"]),
        last_step=int(line["last_step"]),
        layer=line["layer"],
        role=line["role"],
        count=int(line["count"] or 0),
        saturated=int(line["saturated"] or 0),
        underflowed=int(line["underflowed"] or 0),
        nan=int(line["nan"] or 0),
        sqnr_db=float(line["sqnr_db"] or math.nan),
    )


def pooled(
    moments: Sequence[Moment], most: int
) -> tuple[list[tuple[int, int]], dict[tuple[str, str], dict[int, Moment]]]:
    """Put neighboring moments together until there are few enough to be drawn.

    Args:
        moments: Of one run.
        most: How many columns there may be.

    Returns:
        First and last step of every column; and for each layer and role, the layers in their order,
        what was lost in each column: counts added up, and the least SQNR, so that the worst is never
        hidden.

    Example:
        >>> moments = [Moment("a", 0, 0, s, s, "fc", "input", 8, 1, 0, 0, 9.0 + s) for s in range(4)]
        >>> columns, rows = pooled(moments, most=2)
        >>> columns
        [(0, 1), (2, 3)]
        >>> {column: (m.count, m.sqnr_db) for column, m in rows["fc", "input"].items()}
        {0: (16, 9.0), 1: (16, 11.0)}
    """
    spans = sorted({(m.first_step, m.last_step) for m in moments})
    size = -(-len(spans) // most)
    groups = [spans[start : start + size] for start in range(0, len(spans), size)]
    column_of = {span: column for column, group in enumerate(groups) for span in group}
    layers = {layer: number for number, layer in enumerate(dict.fromkeys(m.layer for m in moments))}
    rows: dict[tuple[str, str], dict[int, Moment]] = {}
    for moment in sorted(moments, key=lambda m: layers[m.layer]):
        row = rows.setdefault((moment.layer, moment.role), {})
        column = column_of[moment.first_step, moment.last_step]
        row[column] = _sum(row[column], moment) if column in row else moment
    return [(group[0][0], group[-1][1]) for group in groups], rows


def _sum(a: Moment, b: Moment) -> Moment:
    """Two moments of one layer and role as one."""
    return replace(
        a,
        first_step=min(a.first_step, b.first_step),
        last_step=max(a.last_step, b.last_step),
        count=a.count + b.count,
        saturated=a.saturated + b.saturated,
        underflowed=a.underflowed + b.underflowed,
        nan=a.nan + b.nan,
        sqnr_db=least((a.sqnr_db, b.sqnr_db)),
    )


def least(ratios: Iterable[float]) -> float:
    """The least that is a number; NaN of nothing.

    Args:
        ratios: SQNR in dB, some of them NaN.

    Returns:
        One of them.

    Example:
        >>> least([9.0, math.nan, 7.5])
        7.5
    """
    return min((ratio for ratio in ratios if not math.isnan(ratio)), default=math.nan)
