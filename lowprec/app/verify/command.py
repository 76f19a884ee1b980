"""The command ``lowprec verify``: plan, work, report."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from lowprec.app.lock import LOCK
from lowprec.app.verify.ahead import compile_ahead
from lowprec.app.verify.claim import Part
from lowprec.app.verify.comparison import Mismatch
from lowprec.app.verify.job import plan, work
from lowprec.app.verify.progress import display
from lowprec.app.verify.report import report, table, write_json
from lowprec.app.verify.state import FOLDER, State
from lowprec.errors import value_error

_WIDTH = 150
"""Of a table that goes to a file."""


def run(
    formats: Sequence[str] = (), *, exhaustive: bool = False, json: Path | None = None, resume: bool = False
) -> bool:
    """Verify, show the table, and write the report.

    Args:
        formats: Names; none for those that ``plan`` chooses.
        exhaustive: Whether to go through all float32 numbers too.
        json: Where the report goes.
        resume: Whether to go on with the verification that was interrupted in this folder.

    Returns:
        Whether every result was right.

    Raises:
        Interrupted: If the user pressed Ctrl-C.
        OSError: If a file cannot be written.
        ValueError: If an option does not fit.
    """
    parts = plan(formats, exhaustive=exhaustive)
    if json is not None and (json.is_dir() or not json.absolute().parent.is_dir()):
        raise value_error("--json", "be a file in an existing folder", str(json))
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(FOLDER / LOCK, blocking=False):
            found = _verified(parts, json, resume=resume)
    except Timeout:
        must, remedy = "have no other verification running", "Wait for it, or stop it."
        raise value_error("lowprec verify", must, str(FOLDER), remedy) from None
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table(found))
    for mismatch in found["mismatches"]:
        typer.echo(str(Mismatch(**mismatch)))
    return not found["wrong"]


def _verified(parts: list[Part], json: Path | None, *, resume: bool) -> dict[str, Any]:
    """Do the work, and write the report before the state goes."""
    state = State.resumed(FOLDER) if resume else State(FOLDER)
    if len(state):
        typer.echo(f"{len(state)} parts are finished.", err=True)
    compile_ahead(list(dict.fromkeys(part.format for part in parts if state.finding(part) is None)))
    findings = work(parts, state, display(sum(part.seconds for part in parts)))
    found = report(findings, state.identity)
    if json is not None:
        write_json(json, found)
    state.forget()
    return found


def again(formats: Sequence[str], *, exhaustive: bool) -> str:
    """The command that goes on with an interrupted verification, or begins anew if nothing was finished."""
    options = ["--exhaustive"] * exhaustive + ["--resume"] * State.is_left_in(FOLDER)
    names = [f'"{name}"' if set("<>&") & set(name) else name for name in formats]
    return " ".join(["lowprec verify", *names, *options])
