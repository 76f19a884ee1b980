"""``lowprec report``: a run folder as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from lowprec.app.failure import fail
from lowprec.errors import value_error


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run of lowprec train.")],
    out: Annotated[str | None, typer.Option(help="The HTML file (default: report.html in RUN).")] = None,
) -> None:
    """Make one HTML page of a training run: curves, tables, what was lost where, how to repeat it.

    The page needs no network and no other file. An unfinished run is shown as far as it is.
    """
    from lowprec.app.page.document import write_page
    from lowprec.app.page.folder import read

    try:
        folder = read(run)
        file = folder.path / "report.html" if out is None else Path(out)
        if file.suffix.lower() not in {".html", ".htm"}:
            raise value_error("--out", "be a file that ends in .html", str(file))
    except (OSError, ValueError) as error:
        fail(error)
    try:
        write_page(folder, file)
    except OSError as error:
        must = f"be a file that can be written ({error.strerror or error})"
        fail(value_error("--out", must, str(file)))
    typer.echo(f"Report: {file}")
