"""``lowprec search``: the format of a width that does least to the tensors of a file."""

from typing import Annotated

import typer

from lowprec.app.commands.compare import Csv, File, Tensors
from lowprec.app.failure import fail

OPTIONS = {name: f"--{name}" for name in ("data", "bits", "scaled", "metric", "rows")}
OPTIONS["families"] = "--family"


def search(
    data: File = None,
    tensor: Tensors = None,
    bits: Annotated[float, typer.Option(help="The most bits of a value, its share of scales included.")] = 6,
    family: Annotated[
        list[str] | None,
        typer.Option(help="fixed, floating, posit or logarithmic (default: all); again for more."),
    ] = None,
    scaled: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUPS", help="Scales too, such as tensor, channel0 or group32; again for more."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="sqnr, mean_absolute, max_absolute or mean_relative.")] = "sqnr",
    rows: Annotated[int, typer.Option(help="How many formats to show.")] = 10,
    csv: Csv = None,
) -> None:
    """Search for the format of a width that rounds the values of a file with the least error."""
    from lowprec import explore, files
    from lowprec.app.commands.data_file import read
    from lowprec.app.output import check_outputs

    families = {"families": family} if family else {}
    try:
        check_outputs(csv, None)
        values = read(data, tensor)
        found = explore.search(values, bits, metric=metric, scaled=scaled or (), rows=rows, **families)
        typer.echo(str(found))
        if csv is not None:
            files.write(csv, found.to_csv().encode())
    except (OSError, TypeError, ValueError) as error:
        fail(error, OPTIONS)
