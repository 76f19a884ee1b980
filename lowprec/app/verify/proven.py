"""What this version was found to do right: the results of ``lowprec verify`` that come with the package."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lowprec.app import checkpoint
from lowprec.errors import value_error

FILE = Path(__file__).with_name("proven.json")


@cache
def results() -> dict[str, int]:
    """How many results of each format were held against an oracle, all of them equal.

    Returns:
        Numbers by the names of formats.

    Example:
        >>> results()["e4m3fn"] > 10**6
        True
    """
    found: dict[str, int] = json.loads(FILE.read_text(encoding="utf-8"))["results"]
    return found


def gathered(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of one or more reports of the same kernels.

    Args:
        reports: What ``lowprec verify --json`` writes.

    Returns:
        What the package's file holds.

    Raises:
        ValueError: If a report has wrong results, or two are of different kernels.

    Example:
        >>> row = {"format": "e2m1", "results": 5}
        >>> gathered([{"wrong": 0, "kernel sources": "1f", "rows": [row, row]}])
        {'kernel sources': '1f', 'results': {'e2m1': 10}}
    """
    totals: Counter[str] = Counter()
    sources = {report["kernel sources"] for report in reports}
    if len(sources) != 1:
        raise value_error("reports", "be of the same kernels", sorted(sources))
    for report in reports:
        if report["wrong"]:
            raise value_error("reports", "be without wrong results", report["wrong"])
        for row in report["rows"]:
            totals[row["format"]] += row["results"]
    return {"kernel sources": sources.pop(), "results": dict(totals)}


def write(*reports: Path) -> None:
    """Write the package's file from files of ``lowprec verify --json``.

    Args:
        reports: The files.

    Raises:
        OSError: If one cannot be read, or the package's file not be written.
        ValueError: As ``gathered``.
    """
    read = [json.loads(report.read_text(encoding="utf-8")) for report in reports]
    checkpoint.write(FILE, (json.dumps(gathered(read), indent=1) + "\n").encode())
