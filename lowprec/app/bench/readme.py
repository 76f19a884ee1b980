"""The README's table of figures, made from the JSON file of a run."""

from collections.abc import Iterable
from typing import Any

from lowprec.app.bench import kernels, optimizers, packing, peers, processes, products, step
from lowprec.app.bench.figure import number
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint, parse

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
"""The table stands between these lines."""

COLUMNS = (
    *(peers.FLOAT, peers.FLOAT_SR, peers.FIXED, peers.BLOCK, peers.BLOCK_SR),
    *(peers.MXFP8, peers.MXFP4, peers.MXFP4_SR, peers.NVFP4),
)
"""The operations that are shown."""

_DETERMINISTIC = ("nearest", "toward", "away", "up", "down", "to_odd")


def readme_table(found: dict[str, Any]) -> str:
    """The part of the README that tells of speed.

    Args:
        found: What the JSON file of a run holds.

    Returns:
        Markdown: packages against operations, then what the package promises.

    Raises:
        ValueError: If the run was a quick one, which measures nothing.

    Example:
        >>> readme_table({"effort": {"complete": False}})
        Traceback (most recent call last):
        ValueError: `found` must be of a complete run, got {'complete': False}. Leave out --quick.
    """
    if not found["effort"]["complete"]:
        raise value_error("found", "be of a complete run", found["effort"], "Leave out --quick.")
    return f"{_packages(found)}\n\n{_promises(found)}\n\n{_circumstances(found)}\n"


def with_table(readme: str, found: dict[str, Any]) -> str:
    """A README whose table is the one of a run.

    Args:
        readme: Its text, with both marker lines.
        found: What the JSON file of the run holds.

    Returns:
        The text with the lines between the markers replaced.

    Raises:
        ValueError: If a marker is missing, or the run was a quick one.

    Example:
        >>> with_table("no marker", {})
        Traceback (most recent call last):
        ValueError: `readme` must have a line <!-- bench --> and a line <!-- /bench -->, got 'no marker'.
    """
    head, begin, rest = readme.partition(BEGIN + "\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise value_error("readme", f"have a line {BEGIN} and a line {END}", readme)
    return head + begin + readme_table(found) + end + tail


def _packages(found: dict[str, Any]) -> str:
    """Packages against operations."""
    figures = [figure for section in peers.SECTIONS for figure in _section(found, section)]
    cells = {(figure["row"], figure["column"]): figure for figure in figures}
    titles = (f"`{operation.split()[0]}` {_short(operation)}" for operation in COLUMNS)
    lines = [_line(["speed relative to `copy_`", *titles]), _line(["---", *["---:"] * len(COLUMNS)])]
    for row in dict.fromkeys(row for row, _ in cells):
        lines.append(_line([row, *(_shown(cells.get((row, operation))) for operation in COLUMNS)]))
    return "\n".join(lines)


def _short(operation: str) -> str:
    """The mode of an operation in a word."""
    return "nearest" if operation.endswith("nearest_even") else "stochastic"


def _shown(cell: dict[str, Any] | None) -> str:
    """A value, or why there is none."""
    if cell is None:
        return "–"
    return number(cell["value"]) if "value" in cell else cell.get("absent", "failed")


def _promises(found: dict[str, Any]) -> str:
    """The worst figure under each kind of limit."""
    lines = [
        _line(
            [
                "what `lowprec bench --check` checks (kernels: speed relative to `copy_`)",
                "limit",
                "worst measured",
            ]
        ),
        "|---|---:|---:|",
    ]
    kinds: dict[tuple[str, str], list[float]] = {}
    for figure in found["figures"]:
        if "limit" in figure and "value" in figure:
            kinds.setdefault((_kind(figure), figure["limit"]), []).append(figure["value"])
    for (kind, limit), values in kinds.items():
        worst = min(values) if limit.startswith("≥") else max(values)
        lines.append(_line([kind, limit, number(worst)]))
    return "\n".join(lines)


def _kind(figure: dict[str, Any]) -> str:
    """What figures under the same limit have in common, in words."""
    section, row, column = figure["section"], figure["row"], figure["column"]
    if section == kernels.KERNELS:
        format, mode, carrier = row.split()
        common = isinstance(parse(format), FloatingPoint | FixedPoint)
        family = "float and fixed point" if common else f"`{format}`"
        modes = "stochastic modes" if mode.startswith("stochastic") else mode.replace("_", " ")
        if mode.startswith(_DETERMINISTIC) and mode != "nearest_even":
            modes = "other deterministic modes"
        return f"{family}, {modes}, {'float32' if carrier == 'float32' else 'other carriers'}"
    if section == packing.PACKING:
        return f"{column} codes of {row}, against a copy of the codes"
    if section == optimizers.OPTIMIZERS:
        return f"step of {row.split(',')[0]}, every role `e5m2` stochastic, {column}, against foreach float32"
    if section == products.PRODUCTS:
        case = next(case for case in products.CASES if case.row == row)
        operands = f"`{case.operands}`" if case.operands != products.RAW else "raw"
        return f"product {column} of {operands} operands, sums {case.kind}, against torch's in float32"
    if section == step.RECORD:
        return {
            step.RECORDED: "the same step under `record`, against the step without it",
            step.UNRECORDED: "a cast that nobody records, what the look for `record` costs: µs",
        }[column]
    if section == kernels.CALLS:
        return f"64 elements, {'stochastic' if 'stochastic' in row else 'nearest even'}, {column}: µs"
    return {
        processes.IMPORT: "`import lowprec` after `import torch`: s",
        processes.FIRST: f"first call of a kernel, {column}: s",
        processes.MEMORY: "memory of a call, in outputs",
        step.STEP: "training step, every role `e5m2` stochastic, against float32",
    }[section]


def _circumstances(found: dict[str, Any]) -> str:
    """The machine, the versions, and what was not measured here."""
    environment = found["environment"]
    effort = found["effort"]
    versions = {name: environment[name] for name in ("torch", "numba")} | found["peers"]
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{effort['side'] ** 2:,} float32 values, medians of {effort['repeats']}; "
        f"{environment['processor']}, {environment['threads']} threads; {installed}. {peers.NOTE}"
    )


def _section(found: dict[str, Any], name: str) -> Iterable[dict[str, Any]]:
    """The figures of one table."""
    return (figure for figure in found["figures"] if figure["section"] == name)


def _line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
