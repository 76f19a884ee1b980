"""``lowprec sensitivity``: which layer of a trained network suffers most from low precision."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowprec.app.failure import fail

if TYPE_CHECKING:
    from lowprec.single_layer import Sensitivity


def sensitivity(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A folder that lowprec train has written, whose float32 network is taken, or one of the "
            "files in its folder weights.",
        ),
    ],
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            help="A scheme's name, a TOML file, or a format of inputs and weights; may be repeated "
            "(default: the schemes of the run)."
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the table into this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
) -> None:
    """Test a trained network with one layer in low precision at a time.

    Prints the accuracy on the test images for every layer and scheme, the greatest change first.
    """
    from lowprec.app.loop import evaluate
    from lowprec.app.output import check_outputs
    from lowprec.app.train import torch_settings
    from lowprec.app.trained import load
    from lowprec.errors import value_error
    from lowprec.files import write
    from lowprec.single_layer import sensitivity as measure

    try:
        check_outputs(csv, png)
        trained = load(run)
        schemes = _schemes(scheme) if scheme else trained.schemes
        if not schemes:
            raise value_error("--scheme", "name a scheme where the run has none", str(run))
        images = f"{len(trained.dataset.test_labels)} test images of the {trained.dataset.name}"
        typer.echo(f"{trained.title}: accuracy on {images}.", err=True)
        with torch_settings(trained.threads):
            result = measure(trained.model, lambda model: evaluate(model, trained.dataset)[1], schemes)
    except (ImportError, OSError, TypeError, ValueError) as error:
        fail(error)
    except KeyboardInterrupt:
        typer.echo("Stopped. Nothing was written.", err=True)
        raise typer.Exit(130) from None
    typer.echo(str(result))
    try:
        if png is not None:
            write(png, _picture(result, trained.title))
        if csv is not None:
            write(csv, result.to_csv().encode())
    except OSError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _schemes(texts: list[str]) -> dict[str, Any]:
    """The schemes that were asked for, by name."""
    from lowprec.app.settings import Settings, load_schemes
    from lowprec.errors import value_error
    from lowprec.single_layer import scheme_like

    schemes: dict[str, Any] = {}
    for text in texts:
        if text.endswith(".toml"):
            found = load_schemes(Settings(scheme=(text,)))
        else:
            found = {text: scheme_like(text, "--scheme")}
        if not schemes.keys().isdisjoint(found):
            raise value_error("--scheme", "name each scheme once", text)
        schemes |= found
    return schemes


def _picture(result: "Sensitivity", title: str) -> bytes:
    """The plot as PNG."""
    import matplotlib

    matplotlib.use("agg")  # nothing is shown
    from matplotlib import pyplot

    ax = result.plot()
    ax.set_xlabel("test accuracy with one layer in low precision")
    ax.set_title(title, fontsize="medium", pad=28)
    image = io.BytesIO()
    figure: Any = ax.figure
    figure.savefig(image, format="png", dpi=120)
    pyplot.close(figure)
    return image.getvalue()
