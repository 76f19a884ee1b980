"""The page of the command line, written by typer from the program itself."""

import html
import re
from pathlib import Path
from typing import Any

PAGE = Path("reference") / "command_line.md"
"""Beside conf.py."""


def text() -> str:
    """What typer writes of the commands and their options, in Markdown."""
    from typer.cli import app
    from typer.testing import CliRunner

    options = ["--name", "lowprec", "--title", "Command line"]
    result = CliRunner().invoke(app, ["lowprec.app.cli", "utils", "docs", *options], catch_exceptions=False)
    written = html.unescape(result.stdout)
    # its list of commands cuts sentences off; the whole ones follow
    written = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", written)
    return re.sub(r"(?<![`\w-])--[a-z][a-z-]*", r"`\g<0>`", written)  # typography makes one dash of two


def write_page(app: Any) -> None:
    """Write it, if it differs."""
    file, written = Path(app.srcdir) / PAGE, text()
    file.parent.mkdir(exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != written:
        file.write_text(written, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Hook into the build."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True}
