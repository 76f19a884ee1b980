"""The command itself: what is measured in which order, what is shown and written."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lowprec.app import checkpoint
from lowprec.app.bench import (
    kernels,
    on_device,
    optimizers,
    packing,
    peers,
    processes,
    products,
    report,
    step,
)
from lowprec.app.bench.measure import FULL, QUICK, take
from lowprec.app.output import check_writable
from lowprec.errors import value_error

_WIDTH = 110
"""Of tables that go to a file."""


def run(*, check: bool, quick: bool, json: Path | None, device: str = "cpu") -> bool:
    """Measure, print the tables, and write the file.

    Args:
        check: Whether to say which limits were missed.
        quick: Whether only to try out every kind of measurement, on sizes that say nothing.
        json: Where everything goes; its folder exists.
        device: "cpu", or a CUDA device, of which only the kernels are measured.

    Returns:
        Whether every limit is kept.

    Raises:
        ValueError: If quick or a CUDA device is combined with check, there is no such device, or the file
            cannot be written; nothing is measured then.
        OSError: If the file cannot be written in the end; the tables are printed by then.

    Example:
        >>> run(check=True, quick=True, json=None)
        Traceback (most recent call last):
        ValueError: `--quick` must be left out with --check, got True. Its sizes say nothing about speed.
    """
    if quick and check:
        raise value_error("--quick", "be left out with --check", quick, "Its sizes say nothing about speed.")
    place = on_device.parsed(device)
    if check and place.type != "cpu":
        raise value_error("--device", "be cpu with --check", device, "Only the CPU's figures have limits.")
    if json is not None:
        check_writable(json, "--json")
    effort = QUICK if quick else FULL
    start = time.monotonic()
    parts = (kernels, packing, products, step, optimizers, processes, peers)
    probes = (
        [probe for part in parts for probe in part.probes(effort)]
        if place.type == "cpu"
        else list(on_device.probes(effort, place))
    )
    if quick:
        probes = [replace(probe, limit=None) for probe in probes]
    figures = take(probes, effort.rounds)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(report.tables(figures), highlight=False)
    if check:
        console.print(f"\n{report.verdict(figures)}", highlight=False, markup=False)
    if json is not None:
        found = report.results(figures, effort, time.monotonic() - start)
        checkpoint.write(json, report.to_json(found).encode())
    return not any(figure.missed for figure in figures)
