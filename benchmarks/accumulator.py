"""Test accuracy on Fashion-MNIST against the bits of the accumulator, for three ways to add.

    python benchmarks/accumulator.py

trains the small CNN of ``lowprec train`` once for each width and way: every sum inside a product, forward
and backward, is rounded to 6 exponent bits and 1 to 10 mantissa bits; to nearest, to nearest in chunks
of 64, or stochastically. Operands are those of the scheme fp8-hybrid. Results go into accumulator.csv as
they come, and an interrupted run goes on from there when it is started again; at the end there are a table
and accumulator.png. Both files lie in the folder of --out, runs/accumulator below the current one unless
it is given. All of it takes about seven minutes on two cores, --quick less than one.
"""

import argparse
import csv
import io
import itertools
import multiprocessing
import os
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowprec import SCHEMES, Arithmetic, Scheme, drawing, files
from lowprec.app import data, models
from lowprec.app.loop import Training
from lowprec.app.settings import PLAIN, Run, Settings
from lowprec.app.train import torch_settings
from lowprec.table import Cell, Table

EXPONENT_BITS = 6
MANTISSA_BITS = (1, 2, 3, 4, 5, 6, 8, 10)
OPERANDS = "fp8-hybrid"
TORCH = f"{OPERANDS}, float32 sums"
SUMS: dict[str, dict[str, int | str]] = {
    "nearest": {},
    "nearest, chunks of 64": {"chunk": 64},
    "stochastic": {"rounding": "stochastic"},
}
"""The curves; what else is trained has torch's own sums, and is a line."""


class Experiment(NamedTuple):
    """One network, trained from the beginning to the end."""

    model: str
    images: int
    epochs: int
    seed: int
    sums: str
    mantissa_bits: int
    """0 where the sums are torch's."""

    def scheme(self) -> Scheme | None:
        """What is simulated; None for plain float32."""
        if self.sums == PLAIN:
            return None
        if self.sums == TORCH:
            return SCHEMES[OPERANDS]
        return replace(
            SCHEMES[OPERANDS], arithmetic=Arithmetic(format_of(self.mantissa_bits), **SUMS[self.sums])
        )


Accuracies = dict[Experiment, float]
"""What was reached, as fractions."""


def format_of(mantissa_bits: int) -> str:
    """The accumulator's format."""
    return f"e{EXPONENT_BITS}m{mantissa_bits}ieee"


def train(experiment: Experiment) -> tuple[Experiment, float]:
    """The accuracy after the last epoch, on the test images."""
    images = data.load(train_size=experiment.images)
    settings = Settings(epochs=experiment.epochs, model=experiment.model)
    run = Run(experiment.sums, 0.9, experiment.seed)
    with torch_settings(threads=1):
        training = Training(run, settings, models.find(experiment.model), experiment.scheme(), images)
        while not training.is_finished:
            row = training.advance()
    return experiment, row.test_accuracy


def trained(experiments: Sequence[Experiment], jobs: int) -> Iterator[tuple[Experiment, float]]:
    """Experiments and their accuracies in the order in which they are finished."""
    if jobs == 1:
        yield from map(train, experiments)
    else:
        ignore = signal.signal, (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process alone
        with multiprocessing.get_context("spawn").Pool(jobs, *ignore) as pool:
            yield from pool.imap_unordered(train, experiments)


def read(path: Path) -> Accuracies:
    """What was reached before."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    if header != [*Experiment._fields, "accuracy"]:
        sys.exit(f"{path} is no result of this version. Remove it, or choose another folder by --out.")
    return {
        Experiment(model, int(images), int(epochs), int(seed), sums, int(bits)): float(accuracy)
        for model, images, epochs, seed, sums, bits, accuracy in lines
    }


def write(path: Path, accuracies: Accuracies) -> None:
    """Put all of them into the place of those before."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Experiment._fields, "accuracy"])
    writer.writerows([*experiment, accuracy] for experiment, accuracy in sorted(accuracies.items()))
    files.write(path, text.getvalue().encode())


def plan(options: argparse.Namespace) -> list[Experiment]:
    """All experiments, those that take longest first, so that no worker is left alone with one."""
    ways = [(sums, bits) for sums in reversed(SUMS) for bits in options.mantissa_bits]
    ways += [(TORCH, 0), (PLAIN, 0)]
    return [
        Experiment(options.model, options.images, options.epochs, seed, sums, bits)
        for (sums, bits), seed in itertools.product(ways, range(options.seeds))
    ]


def reached(accuracies: Accuracies, sums: str, mantissa_bits: int = 0) -> list[float]:
    """The accuracies of one way to add, seed by seed, in percent."""
    return [100 * a for e, a in accuracies.items() if (e.sums, e.mantissa_bits) == (sums, mantissa_bits)]


def table(accuracies: Accuracies, mantissa_bits: Sequence[int]) -> Table:
    """A row for each width."""
    rows: list[tuple[Cell, ...]] = [
        (
            1 + EXPONENT_BITS + bits,
            format_of(bits),
            *(statistics.fmean(reached(accuracies, sums, bits)) for sums in SUMS),
        )
        for bits in mantissa_bits
    ]
    lines = (f"{name}: {statistics.fmean(reached(accuracies, name)):.1f} %" for name in (PLAIN, TORCH))
    return Table(
        ("bits", "accumulator", *SUMS),
        tuple(rows),
        "Test accuracy in %",
        "; ".join(lines),
        dict.fromkeys(SUMS, ".1f"),
    )


def draw(ax: Axes, accuracies: Accuracies, mantissa_bits: Sequence[int]) -> None:
    """A curve for each way to add, the range of the seeds around it, and two lines."""
    for (name, look), dashes in zip(((PLAIN, "black"), (TORCH, "gray")), ("-", ":"), strict=True):
        ax.axhline(statistics.fmean(reached(accuracies, name)), color=look, linestyle=dashes, label=name)
    bits = [1 + EXPONENT_BITS + m for m in mantissa_bits]
    for number, sums in enumerate(SUMS):
        color, marker, dashes = drawing.style(number)
        seeds = [reached(accuracies, sums, m) for m in mantissa_bits]
        means = list(map(statistics.fmean, seeds))
        ax.plot(bits, means, dashes, color=color, marker=marker, markersize=5, label=sums)
        ax.fill_between(
            bits, list(map(min, seeds)), list(map(max, seeds)), color=color, alpha=0.15, linewidth=0
        )
    ax.set(
        xlabel=f"bits of the accumulator: a sign, {EXPONENT_BITS} of exponent, the others of mantissa",
        ylabel="test accuracy in %",
        xticks=bits,
        ylim=(0, 100),
    )
    ax.legend(frameon=False, loc="lower right")
    drawing.plain(ax)


def picture(path: Path, accuracies: Accuracies, options: argparse.Namespace) -> None:
    """Draw into a file."""
    figure = Figure(figsize=(drawing.WIDTH, 3.6), dpi=120, layout="constrained")
    draw(figure.subplots(), accuracies, options.mantissa_bits)
    epochs = "an epoch" if options.epochs == 1 else f"{options.epochs} epochs"
    seeds = "" if options.seeds == 1 else f", mean and range of {options.seeds} seeds"
    title = f"{options.model} after {epochs} of {options.images:,} images of Fashion-MNIST{seeds}"
    figure.suptitle(f"{title}; operands of {OPERANDS}", size=10)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    files.write(path, image.getvalue())


def count(text: str) -> int:
    """A positive number."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs") / "accumulator", help="folder of the results"
    )
    parser.add_argument("--epochs", type=count, default=1)
    parser.add_argument("--seeds", type=count, default=1, help="how many, counted from 0")
    parser.add_argument("--images", type=count, help="train on the first so many; all 10,000 by default")
    parser.add_argument("--mantissa-bits", type=count, nargs="+", help="widths, in place of the default ones")
    parser.add_argument("--model", choices=models.MODELS, default="cnn")
    parser.add_argument("--jobs", type=count, default=os.cpu_count(), help="networks at a time")
    parser.add_argument("--quick", action="store_true", help="a check: few images and two widths")
    options = parser.parse_args(arguments)
    options.images = options.images or (640 if options.quick else 10_000)
    options.mantissa_bits = sorted(set(options.mantissa_bits or ((2, 5) if options.quick else MANTISSA_BITS)))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, then print and draw all of it."""
    options = parsed(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "accumulator.csv"
    accuracies, wanted = read(path), plan(options)
    todo = [experiment for experiment in wanted if experiment not in accuracies]
    print(f"{len(todo)} of {len(wanted)} networks to train; results go into {path}", flush=True)
    for number, (experiment, accuracy) in enumerate(trained(todo, min(options.jobs, max(1, len(todo)))), 1):
        accuracies[experiment] = accuracy
        write(path, accuracies)
        width = f" {format_of(experiment.mantissa_bits)}" if experiment.mantissa_bits else ""
        print(
            f"{number}/{len(todo)}  {experiment.sums}{width}, seed {experiment.seed}: {100 * accuracy:.1f} %",
            flush=True,
        )
    own = {experiment: accuracies[experiment] for experiment in wanted}
    print(table(own, options.mantissa_bits))
    picture(options.out / "accumulator.png", own, options)
    print(f"The picture is {options.out / 'accumulator.png'}.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on with what is not trained yet.")
