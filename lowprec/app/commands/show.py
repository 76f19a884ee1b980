"""``lowprec show``: the portrait of a format."""

from typing import Annotated

import typer

from lowprec.app.commands.compare import Png
from lowprec.app.failure import fail


def show(
    format: Annotated[str, typer.Argument(help="Its name, such as e4m3fn, fixed8f6 or bfp8.")],
    png: Png = None,
) -> None:
    """Show a number format: its properties, its values, and where they lie."""
    from rich.console import Console

    from lowprec import files
    from lowprec.app.catalog import portrait
    from lowprec.app.output import check_outputs
    from lowprec.formats import parse

    try:
        known = parse(format)
        check_outputs(None, png)
        if png is not None:
            from lowprec.app.commands.pictures import of_format

            files.write(png, of_format(known))
    except (OSError, ValueError) as error:
        fail(error)
    console = Console()
    console.print(portrait(known, console))
