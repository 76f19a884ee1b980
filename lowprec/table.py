"""Table: rows of numbers and words for a terminal, a notebook, a file or a data frame.

Everything in the package that answers with a table answers with one of these.
"""

import csv
import html
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lowprec.errors import value_error

if TYPE_CHECKING:
    import pandas

Cell = str | bool | int | float | None
"""What stands in a table; None where there is nothing to say."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns; prints in a terminal, shows itself in a notebook, converts.

    NaN and infinities are kept; they print as ``nan`` and ``inf``, and None as nothing.

    Args:
        columns: The names, each once.
        rows: A cell for each column.
        title: Above the table.
        caption: Below it: what the columns mean.
        formats: For some columns how numbers are shown, such as ``".1f"`` or ``".2%"``; others with four
            significant digits. What is kept is the number itself.

    Raises:
        ValueError: If a row has another length, a column appears twice, or a format names no column.

    Example:
        >>> table = Table(("format", "SQNR"), (("e4m3fn", 31.46), ("e5m2", 25.5)), formats={"SQNR": ".1f"})
        >>> print(table)
        format  SQNR
        e4m3fn  31.5
        e5m2    25.5
        >>> table["SQNR"]
        (31.46, 25.5)
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    caption: str = ""
    formats: Any = ()
    """As pairs, so that tables are hashable."""

    def __post_init__(self) -> None:
        """Check the shape, and hold tuples."""
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        object.__setattr__(self, "formats", tuple(sorted(dict(self.formats).items())))
        if len(set(self.columns)) != len(self.columns):
            raise value_error("columns", "differ from each other", self.columns)
        for row in self.rows:
            if len(row) != len(self.columns):
                raise value_error("rows", f"have {len(self.columns)} cells each", row)
        if unknown := [name for name, _ in self.formats if name not in self.columns]:
            raise value_error("formats", "name columns", unknown)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    def __getitem__(self, column: str) -> tuple[Cell, ...]:
        """The cells of a column, from top to bottom."""
        if column not in self.columns:
            raise value_error("column", f"be one of {', '.join(self.columns)}", column)
        place = self.columns.index(column)
        return tuple(row[place] for row in self.rows)

    def __iter__(self) -> Iterator[dict[str, Cell]]:
        """Every row as a mapping from columns to cells."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __str__(self) -> str:
        """Aligned columns, numbers to the right."""
        shown = [list(self.columns), *self._shown()]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        right = self._is_numeric()
        lines = [
            "  ".join(
                cell.rjust(width) if flush else cell.ljust(width)
                for cell, width, flush in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in shown
        ]
        return "\n".join([*([self.title] if self.title else []), *lines, *self.caption.splitlines()])

    def _repr_html_(self) -> str:
        """A table of HTML without colors of its own, so that it suits light and dark pages."""
        sides = ["right" if flush else "left" for flush in self._is_numeric()]

        def line(cells: list[str], tag: str) -> str:
            inner = "".join(
                f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )
            return f"<tr>{inner}</tr>"

        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "".join(line(cells, "td") for cells in self._shown())
        below = f"<p><small>{html.escape(self.caption)}</small></p>" if self.caption else ""
        head = line(list(self.columns), "th")
        return f'<table class="lowprec">{title}<thead>{head}</thead><tbody>{body}</tbody></table>{below}'

    def to_csv(self) -> str:
        r"""The table as CSV, numbers in full.

        Returns:
            The text, a line for the columns and one for each row; None is an empty cell.

        Example:
            >>> Table(("a", "b"), ((1, 0.1), ("x", None))).to_csv()
            'a,b\n1,0.1\nx,\n'
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()

    def to_dataframe(self) -> "pandas.DataFrame":
        """The table as a pandas DataFrame.

        Returns:
            A frame with the same columns and rows.

        Raises:
            ImportError: If pandas is not installed.

        Example:
            >>> Table(("a",), ((1,), (2,))).to_dataframe()["a"].sum()  # doctest: +SKIP
            3
        """
        try:
            import pandas
        except ImportError:
            message = "`pandas` must be installed for to_dataframe. Install it with: pip install pandas"
            raise ImportError(message) from None
        return pandas.DataFrame(list(self.rows), columns=list(self.columns))

    def _is_numeric(self) -> list[bool]:
        """For each column whether it holds numbers, and nothing else but gaps."""
        kinds = [{type(cell) for cell in self[name] if cell is not None} for name in self.columns]
        return [bool(kind) and kind <= {int, float} for kind in kinds]

    def _shown(self) -> list[list[str]]:
        """The cells as they are read."""
        formats = dict(self.formats)
        return [
            [_shown(cell, formats.get(name)) for name, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


def _shown(cell: Cell, format: str | None) -> str:
    """A cell as it is read."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and not math.isfinite(cell):
        return f"{cell}"
    if format is not None:
        return f"{cell:{format}}"
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"
