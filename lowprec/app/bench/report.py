"""How figures are shown: tables for a terminal or a file, JSON, and the README's table."""

import json
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lowprec.app.bench import kernels, on_device, optimizers, packing, peers, processes, products, step
from lowprec.app.bench.figure import Figure, number
from lowprec.app.bench.measure import Effort
from lowprec.app.environment import described

CAPTIONS = {
    kernels.KERNELS: (
        "Speed relative to a copy of the same tensor, and so of the same bytes, timed in turns with it: "
        "out= against copy_, new output against clone; 1 is as fast as the copy."
    ),
    kernels.CALLS: "Microseconds of one call.",
    on_device.KERNELS: (
        "Speed relative to the device's copy_ of the same tensor, and so of the same bytes, timed in turns "
        "with it by the device's clock; 1 is as fast as the copy."
    ),
    on_device.CALLS: "Microseconds that the host spends on one call, the device's work not awaited.",
    on_device.OPERATIONS: "Time relative to torch's operation in float32 there, timed in turns with it.",
    on_device.PRODUCTS: "Time relative to torch's float32 product there, timed in turns with it.",
    on_device.STEPS: "Time relative to torch's foreach step in float32 there, timed in turns with it.",
    packing.PACKING: (
        "Speed relative to copy_ of the codes, uint8, timed in turns with it; a new output is made."
    ),
    products.PRODUCTS: (
        "Time relative to torch's float32 product of the same operands on as many threads, timed in turns "
        "with it; G/s: products that are added up, in 10^9 each second."
    ),
    processes.IMPORT: "Seconds that `import lowprec` adds to `import torch`.",
    processes.FIRST: "Seconds of the first call in a fresh interpreter, imports excluded.",
    processes.MEMORY: "Peak memory that a call adds, in clones of its input; 1 is its output alone.",
    step.STEP: "Time relative to the same step in float32, timed in turns with it.",
    step.RECORD: (
        "on: time relative to the same step outside of lowprec.record, timed in turns with it; off: "
        "microseconds that a cast spends on finding that nothing is recorded."
    ),
    optimizers.OPTIMIZERS: "Time relative to torch's foreach step in float32, timed in turns with it.",
    peers.PEERS: f"Speed relative to copy_. {peers.NOTE}",
    peers.PEERS_SCALED: "As above; nvfp4 has a scale of the whole tensor besides those of its groups.",
}  # fmt: skip
"""What the numbers of each table mean."""

_UNHELPFUL = ("kernel cache", "kernel sources")
"""What a bug report needs and a table of figures does not: folders of the machine."""


def tables(figures: Sequence[Figure]) -> Group:
    """A table for each section, and a line for each figure that is missing.

    Args:
        figures: All of them.

    Returns:
        What rich can print.

    Example:
        >>> len(tables([Figure("import", "import lowprec", "", "s", value=0.25)]).renderables)
        2
    """
    parts: list[RenderableType] = []
    for section in dict.fromkeys(figure.section for figure in figures):
        own = [figure for figure in figures if figure.section == section]
        parts += [_table(section, own), escape(CAPTIONS[section])]
        reasons = [f"{f.row}: {f.absent}" for f in own if f.absent not in ("", "not installed")]
        reasons += [f"failed: {f.failure}" for f in own if f.failure]
        parts += [escape(reason) for reason in dict.fromkeys(reasons)]
    return Group(*parts)


def _table(section: str, figures: Sequence[Figure]) -> Table:
    """Rows against columns; a limit stands behind its figure."""
    table = Table(title=f"\n{section}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    columns = list(dict.fromkeys(figure.column for figure in figures))
    table.show_header = columns != [""]
    for column in columns:
        table.add_column(escape(_heading(section, column)), justify="right", overflow="fold")
    cells = {(figure.row, figure.column): figure for figure in figures}
    for row in dict.fromkeys(figure.row for figure in figures):
        shown = [_cell(cells[row, column]) if (row, column) in cells else "" for column in columns]
        table.add_row(escape(row), *shown)
    return table


def _heading(section: str, column: str) -> str:
    """A column's name; operations take a line for each word."""
    if section not in peers.SECTIONS:
        return column
    return column.replace("nearest_even", "nearest").replace(" ", "\n").replace("<", "\n<")


def _cell(figure: Figure) -> str:
    """A value, its limit, and whether it is kept."""
    if figure.value is None:
        if figure.failure:
            return "[red]failed[/red]"
        return figure.absent if figure.absent == "not installed" else "not measured"
    text = number(figure.value)
    if figure.limit is not None:
        text += f" ({figure.limit})"
    if figure.rounds > 1:
        text += f" best of {figure.rounds}"
    return f"[red]{text} missed[/red]" if figure.missed else text


def verdict(figures: Sequence[Figure]) -> str:
    """What was missed, a line each, under one line that counts.

    Args:
        figures: All of them.

    Returns:
        The lines.

    Example:
        >>> verdict([Figure("import", "import lowprec", "", "s", value=0.25)])
        'All 0 limits are kept.'
    """
    limited = sum(figure.limit is not None for figure in figures)
    missed = [figure for figure in figures if figure.missed]
    if not missed:
        return f"All {limited} limits are kept."
    lines = [f"Missed or failed: {len(missed)} of {len(figures)} figures."]
    for figure in missed:
        reached = figure.failure if figure.value is None else f"{number(figure.value)} {figure.unit}"
        lines.append(f"  {figure.title}: {reached}" + (f", must be {figure.limit}" if figure.limit else ""))
    return "\n".join(lines)


def results(figures: Sequence[Figure], effort: Effort, seconds: float) -> dict[str, Any]:
    """Everything that was found, as plain values.

    Args:
        figures: All of them.
        effort: How they were measured.
        seconds: How long it took.

    Returns:
        What the JSON file holds.

    Example:
        >>> from lowprec.app.bench.measure import QUICK
        >>> sorted(results([], QUICK, 1.0))
        ['effort', 'environment', 'figures', 'peers', 'seconds']
    """
    environment = {name: value for name, value in described().items() if name not in _UNHELPFUL}
    return {
        "environment": environment,
        "effort": dict(vars(effort)),
        "seconds": round(seconds, 1),
        "peers": peers.versions(),
        "figures": [figure.to_value() for figure in figures],
    }


def to_json(found: dict[str, Any]) -> str:
    """The text of the JSON file.

    Args:
        found: What results gave.

    Returns:
        Readable JSON; the same for the same values.

    Example:
        >>> print(to_json({"seconds": 1.0}), end="")
        {
         "seconds": 1.0
        }
    """
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
