"""The command line: ``lowprec train``, ``bench``, ``verify``, ``formats`` and ``info``.

The other commands have modules of their own, in ``commands``.

Everything heavy is imported by the command that needs it. A mistake of the user ends with one
sentence on standard error and exit code 2; Ctrl-C with 130 and how to go on.
"""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lowprec
from lowprec.app.commands.compare import compare
from lowprec.app.commands.report import report
from lowprec.app.commands.search import search
from lowprec.app.commands.sensitivity import sensitivity
from lowprec.app.commands.show import show
from lowprec.app.failure import fail
from lowprec.errors import value_error

if TYPE_CHECKING:
    from lowprec.app.train import Job

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Simulate arithmetic in any number format inside PyTorch, exactly.",
)

_REPORT_WIDTH = 110
"""Of tables that go to a file."""


def main() -> None:
    """Run the command that ``sys.argv`` asks for."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a sign shows another one
            stream.reconfigure(errors="replace")
    app(prog_name="lowprec")


def _version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"lowprec {lowprec.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    module: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="MODULE", help="Import a Python module first, and know its formats by name."
        ),
    ] = None,
) -> None:
    """Options before a command."""
    if module is not None:
        from lowprec.app.own import register_formats

        try:
            register_formats(module)
        except (ImportError, TypeError, ValueError) as error:
            fail(error)


@app.command()
def train(
    seeds: Annotated[int | None, typer.Option(help="How many seeds (default: 1).")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images (default: 5).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step (default: 64).")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of SGD (default: 0.05).")] = None,
    momentum: Annotated[
        float | None,
        typer.Option(help="Of SGD, in every run (default: 0.9; 0 for fixed8 and fixed8-sr)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="mlp, cnn, resnet20, or package.module:factory (default: cnn)."),
    ] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            help="A scheme's name or a TOML file; may be repeated. The float32 twin is added "
            "(default: fp8-hybrid, bfp8-sr, fixed8, fixed8-sr)."
        ),
    ] = None,
    loss_scale: Annotated[float | None, typer.Option(help="In the place of the schemes' own.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder of IDX files (default: the bundled Fashion-MNIST subset)."),
    ] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Use only the first so many training images.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="New run folder (default: runs/TIME_MODEL).")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with the job of a run folder, bit for bit.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="More are faster on large models, and change the bits of PyTorch's own "
            "products (default: 1)."
        ),
    ] = None,
    checkpoint_seconds: Annotated[
        float | None, typer.Option(help="Seconds of work between checkpoints (default: 5).")
    ] = None,
) -> None:
    """Train a network in low precision beside its float32 twin.

    Without options: a small CNN on a subset of Fashion-MNIST, four schemes, about two minutes.
    """
    given: dict[str, Any] = {
        "seeds": seeds,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "momentum": momentum,
        "model": model,
        "scheme": tuple(scheme) if scheme else None,
        "loss_scale": loss_scale,
        "data": None if data is None else str(Path(data).resolve()),
        "train_size": train_size,
        "threads": threads,
        "checkpoint_seconds": checkpoint_seconds,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        job = _job(given, out, resume)
    except (ImportError, OSError, TypeError, ValueError) as error:
        fail(error)
    with contextlib.closing(job):
        _train(job)


def _job(given: dict[str, Any], out: str | None, resume: str | None) -> "Job":
    """The job that the options describe, checked."""
    from lowprec.app.settings import Settings
    from lowprec.app.train import new, resumed

    if resume is not None:
        if out is not None:
            raise value_error("--out", "be left out with --resume", out, f"The job writes to {resume}.")
        return resumed(resume, given)
    return new(Settings(**given), out)


def _train(job: "Job") -> None:
    """Train it, and show what came out."""
    from rich.console import Console

    from lowprec.app.interrupt import Interrupted
    from lowprec.app.report import tables

    images = f"{len(job.dataset.train_labels)} + {len(job.dataset.test_labels)} images"
    typer.echo(
        f"{job.settings.model} on the {job.dataset.name} ({images}), "
        f"{len(job.runs)} runs of {job.settings.epochs} epochs. Results go to {job.folder}.",
        err=True,
    )
    folder = f'"{job.folder}"' if " " in str(job.folder) else str(job.folder)
    again = f"lowprec train --resume {folder}"
    try:
        job.train()
    except (Interrupted, KeyboardInterrupt):
        typer.echo(f"Stopped. Go on with: {again}", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        typer.echo(f"Error: {error}\nThe checkpoint is whole. Go on with: {again}", err=True)
        raise typer.Exit(1) from None
    console = Console(width=None if sys.stdout.isatty() else _REPORT_WIDTH)
    console.print(tables(job.summaries(), job.schemes))
    console.print(f"\nCurves, rows, weights and checkpoint: {job.folder}", highlight=False)
    typer.echo(f"All of it as one page: lowprec report {folder}")


app.command()(report)


@app.command()
def formats() -> None:
    """List number formats by name: bits, range and precision."""
    from rich.console import Console

    from lowprec.app.catalog import listing

    console = Console()
    console.print(listing(console))


app.command()(show)
app.command()(compare)
app.command()(search)


@app.command()
def bench(
    check: Annotated[  # noqa: FBT002
        bool, typer.Option("--check", help="Exit with 1 if a figure misses its limit.")
    ] = False,
    json: Annotated[str | None, typer.Option(help="Write all figures to this file.")] = None,
    quick: Annotated[  # noqa: FBT002
        bool, typer.Option("--quick", help="Only try every kind of measurement out, in seconds.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="cuda or cuda:N: measure only that device's kernels, beside its copy.")
    ] = "cpu",
) -> None:
    """Measure speed: every kernel beside a copy, a training step, and other packages.

    A kernel's figure is its speed relative to a copy of the same tensor (so of the same bytes), both timed
    in turns: 1 is as fast as the copy. Takes minutes; close other programs. Packages that are compared
    come with the extra "bench", and one that is missing is left out.
    """
    try:
        from lowprec.app.bench.command import run

        kept = run(check=check, quick=quick, json=None if json is None else Path(json), device=device)
    except ValueError as error:
        fail(error)
    except OSError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Nothing was written.", err=True)
        raise typer.Exit(130) from None
    if check and not kept:
        raise typer.Exit(1)


@app.command()
def verify(
    formats: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FORMAT]...", help="Formats by name (default: every named one that is not scaled)."
        ),
    ] = None,
    exhaustive: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--exhaustive",
            help="All 2^32 float32 numbers too (default: of e4m3fn, e5m2, binary16, bfloat16 and fixed8f6).",
        ),
    ] = False,
    json: Annotated[str | None, typer.Option(help="Write what was found to this file.")] = None,
    resume: Annotated[  # noqa: FBT002
        bool, typer.Option("--resume", help="Go on with the verification interrupted in this folder.")
    ] = False,
) -> None:
    """Prove the kernels right: every format, rounding mode and carrier against independent oracles.

    Prints what was proven, on how many inputs, against what. Takes four minutes, with --exhaustive half an
    hour, and on the first run some more to compile kernels. Exits with 1 if any result differs, and
    shows the first that do.
    """
    from lowprec.app.interrupt import Interrupted
    from lowprec.app.verify.command import again, run

    names = formats or []
    try:
        right = run(names, exhaustive=exhaustive, json=None if json is None else Path(json), resume=resume)
    except ValueError as error:
        fail(error)
    except OSError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except (Interrupted, KeyboardInterrupt):
        typer.echo(f"Stopped. Go on with: {again(names, exhaustive=exhaustive)}", err=True)
        raise typer.Exit(130) from None
    if not right:
        raise typer.Exit(1)


app.command()(sensitivity)


@app.command()
def info() -> None:
    """Tell versions, threads, cache folder and CUDA: put it into a bug report."""
    from lowprec.app.environment import described

    for name, value in described().items():
        typer.echo(f"{name:18} {value}")


if __name__ == "__main__":
    main()
