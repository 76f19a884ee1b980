"""``lowprec compare``: what formats do to the tensors of a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lowprec.app.failure import fail
from lowprec.errors import value_error

Formats = Annotated[list[str], typer.Argument(metavar="FORMAT...", help="Formats by name, such as e4m3fn.")]
File = Annotated[
    str | None,
    typer.Option("--data", metavar="FILE", help="A .npy, .npz or .safetensors file (default: 65536 numbers "
                 "of the standard normal distribution, with the seed 0)."),
]  # fmt: skip
Tensors = Annotated[
    list[str] | None, typer.Option("--tensor", metavar="NAME", help="Only this tensor of it; again for more.")
]
Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to this file.")]
Png = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture to this file.")]
OPTIONS = {"data": "--data", "rounding": "--rounding"}


def compare(
    formats: Formats,
    data: File = None,
    tensor: Tensors = None,
    rounding: Annotated[str, typer.Option(help="One of the rounding modes.")] = "nearest_even",
    by_tensor: Annotated[  # noqa: FBT002
        bool, typer.Option("--by-tensor", help="A row for each format and tensor.")
    ] = False,
    csv: Csv = None,
    png: Png = None,
) -> None:
    """Compare what formats do to the values of a file: error, underflow, overflow, use of codes."""
    from lowprec import explore, files
    from lowprec.app.commands.data_file import read
    from lowprec.app.output import check_outputs

    try:
        check_outputs(csv, png)
        values = read(data, tensor)
        if by_tensor and not isinstance(values, Mapping):
            must = "be left out where there is one tensor alone"
            raise value_error("--by-tensor", must, by_tensor, "Give a .npz or .safetensors file.")
        compared = explore.compare(formats, values, rounding=rounding, by_tensor=by_tensor)
        typer.echo(str(compared))
        if csv is not None:
            files.write(csv, compared.to_csv().encode())
        if png is not None:
            from lowprec.app.commands.pictures import of_comparison

            files.write(png, of_comparison(compared, formats, values))
    except (OSError, TypeError, ValueError) as error:
        fail(error, OPTIONS)
