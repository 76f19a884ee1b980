"""What was found: a table for a terminal, JSON, and the README's table out of that JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from lowprec.app import checkpoint
from lowprec.app.verify.claim import CLAIMS
from lowprec.app.verify.comparison import total
from lowprec.app.verify.state import Finding
from lowprec.errors import value_error

BEGIN, END = "<!-- verify -->", "<!-- /verify -->"
"""The README's table stands between these lines."""

SHOWN = 10
"""Mismatches in a report; the others are counted."""

_LISTED = 5
"""Formats that a row names; of more it gives the number."""

_COLUMNS = ("inputs", "formats", "modes × words", "inputs × formats", "held against", "wrong", "time")


class _Row(NamedTuple):
    """One claim over all its formats."""

    claim: str
    formats: list[str]
    settings: int
    inputs: int
    oracle: str
    wrong: int
    seconds: float
    missing: str

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of the columns."""
        many = len(self.formats) > _LISTED
        formats = str(len(self.formats)) if many else ", ".join(self.formats)
        found = (f"{self.wrong:,}", _duration(self.seconds))
        return (
            CLAIMS[self.claim].inputs,
            formats,
            str(self.settings),
            f"{self.inputs:,}",
            self.oracle,
            *(found if not self.missing else (self.missing, "")),
        )


def report(findings: Sequence[Finding], identity: dict[str, str]) -> dict[str, Any]:
    """Everything that was found, as JSON has it.

    Args:
        findings: Of all parts.
        identity: What they depend on.

    Returns:
        Versions and machine, a row for each claim and format, and the first mismatches.

    Example:
        >>> report([], {})["wrong"]
        0
    """
    rows = []
    for name, format in dict.fromkeys((f.part.claim.name, f.part.format) for f in findings):
        own = [f for f in findings if (f.part.claim.name, f.part.format) == (name, format)]
        outcome = total(f.outcome for f in own)
        row = {
            "claim": name,
            "format": format,
            "settings": sum(f.part.settings for f in own),
            "inputs": outcome.inputs,
            "results": outcome.results,
            "wrong": outcome.wrong,
            "seconds": round(sum(f.seconds for f in own), 2),
        }
        rows.append({**row, "missing": outcome.missing} if outcome.missing else row)
    whole = total(f.outcome for f in findings)
    return {
        **identity,
        "seconds": round(sum(f.seconds for f in findings), 1),
        "wrong": whole.wrong,
        "mismatches": [mismatch._asdict() for mismatch in whole.mismatches[:SHOWN]],
        "rows": rows,
    }


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Write a report, whole or not at all.

    Args:
        path: The file; its folder exists.
        found: What ``report`` returns.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "verify.json"
        >>> write_json(path, report([], {}))
        >>> json.loads(path.read_text(encoding="utf-8"))["rows"]
        []
    """
    head = {key: value for key, value in found.items() if key != "rows"}
    rows = ",\n".join(f"  {json.dumps(row)}" for row in found["rows"])  # a line for each: it is kept in git
    text = json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n'
    checkpoint.write(path, text.encode())


def table(found: dict[str, Any]) -> Table:
    """The report for a terminal or a file.

    Args:
        found: What ``report`` returns.

    Returns:
        A table that rich can print.

    Example:
        >>> table(report([], {})).row_count
        0
    """
    shown = Table(title="Equal, bit for bit", caption=f"{_duration(found['seconds'])} in all")
    for name in _COLUMNS:
        numeric = name in ("modes × words", "inputs × formats", "wrong", "time")
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in _rows(found):
        shown.add_row(*row.cells())
    return shown


def readme_table(found: dict[str, Any]) -> str:
    """The report as a table in Markdown.

    Args:
        found: What ``report`` returns, or its JSON read back.

    Returns:
        Lines, the last one ended too.

    Example:
        >>> from lowprec.app.verify.state import identity
        >>> print(readme_table(report([], identity())).splitlines()[0])
        | inputs | formats | modes × words | inputs × formats | held against | wrong | time |
    """
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *(row.cells() for row in _rows(found))]
    marked = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    machine = f"{found['processor']}, {found['cores']} cores"
    versions = f"lowprec {found['lowprec']}, torch {found['torch']}"
    return f"{marked}\n{_duration(found['seconds'])} on {machine}; {versions}.\n"


def with_table(readme: str, found: dict[str, Any]) -> str:
    """A README whose table is the one of a report.

    Args:
        readme: Its text, with both marker lines.
        found: What ``report`` returns, or its JSON read back.

    Returns:
        The text with the lines between the markers replaced.

    Raises:
        ValueError: If a marker is missing, or the report has wrong results.

    Example:
        >>> with_table("no marker", report([], {}))
        Traceback (most recent call last):
        ValueError: `readme` must have a line <!-- verify --> and a line <!-- /verify -->, got 'no marker'.
    """
    if found["wrong"]:
        raise value_error("found", "be without wrong results", found["wrong"], "Mend the kernels.")
    head, begin, rest = readme.partition(BEGIN + "\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise value_error("readme", f"have a line {BEGIN} and a line {END}", readme)
    return head + begin + readme_table(found) + end + tail


def _rows(found: dict[str, Any]) -> list[_Row]:
    """The rows of a report, those of a claim put together."""
    gathered = []
    for claim in CLAIMS.values():
        own = [row for row in found["rows"] if row["claim"] == claim.name]
        if own:
            gathered.append(
                _Row(
                    claim.name,
                    [row["format"] for row in own],
                    max(row["settings"] for row in own),
                    sum(row["inputs"] for row in own),
                    claim.oracle,
                    sum(row["wrong"] for row in own),
                    sum(row["seconds"] for row in own),
                    next((row["missing"] for row in own if "missing" in row), ""),
                )
            )
    return gathered


def _duration(seconds: float) -> str:
    """A time in seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
