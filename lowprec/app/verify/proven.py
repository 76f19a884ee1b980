"""What this version was found to do right: the results of ``lowprec verify`` that come with the package."""

import json
from collections import Counter
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
    found: dict[str, int] = {}
    for report in json.loads(FILE.read_text(encoding="utf-8")):
        found |= report["results"]
    return found


def gathered(report: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a report, and which kernels they are of.

    Args:
        report: What ``lowprec verify --json`` writes.

    Returns:
        An entry of the package's file.

    Raises:
        ValueError: If the report has wrong results.

    Example:
        >>> row = {"format": "e2m1", "results": 5}
        >>> gathered({"wrong": 0, "kernel sources": "1f", "rows": [row, row]})
        {'kernel sources': '1f', 'results': {'e2m1': 10}}
    """
    if report["wrong"]:
        raise value_error("report", "be without wrong results", report["wrong"], "Mend the kernels.")
    totals: Counter[str] = Counter()
    for row in report["rows"]:
        totals[row["format"]] += row["results"]
    return {"kernel sources": report["kernel sources"], "results": dict(totals)}


def write(*reports: Path) -> None:
    """Write the package's file from files of ``lowprec verify --json``.

    Args:
        reports: The files; of a format that stands in several the last one counts.

    Raises:
        OSError: If one cannot be read, or the package's file not be written.
        ValueError: As ``gathered``.
    """
    read = [json.loads(report.read_text(encoding="utf-8")) for report in reports]
    checkpoint.write(FILE, (json.dumps([gathered(report) for report in read], indent=1) + "\n").encode())
