"""The pictures of explore as text, for a terminal: the same names, the same numbers.

Every function gives a string of lines that are at most ``width`` signs long, 40 or more; names of formats
that are longer are cut. ``ascii=True`` uses signs that every terminal has.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from textwrap import fill

from lowprec.drawing import bars
from lowprec.explore.bars import NAMES, ends, usage_title
from lowprec.explore.codes import element_of
from lowprec.explore.data import Data
from lowprec.explore.ladder import Ladder, above_zero, below_zero, has_zero, several
from lowprec.explore.lines import relative_points, spacing_points
from lowprec.explore.occurrences import (
    ZONES,
    bins,
    few_values,
    magnitudes,
    usage,
    values_and_counts,
)
from lowprec.explore.rounding import noise
from lowprec.explore.stairs import expected, modes, single, values_around_zero
from lowprec.explore.terminal import Line, bar, check, logarithmic_chart, placed
from lowprec.formats import Format, FormatLike, resolve
from lowprec.formats.format import check_bool
from lowprec.formats.properties import shortened
from lowprec.modes import Rounding, check_random_bits
from lowprec.reference.grid import SingleFormat
from lowprec.table import Table

_WIDEST_LINE = 81


def number_line(
    formats: FormatLike | list[FormatLike], *, log: bool = False, width: int = 80, ascii: bool = False
) -> str:
    """How many values of formats lie in each cell of a line; zero, or the sign, in the middle.

    Args:
        formats: As for explore.number_line.
        log: The positive values on a logarithmic line.
        width: Of the text.
        ascii: Signs that every terminal has.

    Returns:
        A line for each format, above the numbers at its ends.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no format, more than seven, one without a largest value, or the width is out
            of range.

    Example:
        >>> print(number_line("ternary", width=41, ascii=True))
        @                   @                   @
        -1                  0                   1
    """
    check(width, ascii)
    check_bool("log", log)
    chosen = several(formats)
    names = [shortened(str(format))[: width // 3] for format in chosen] if len(chosen) > 1 else [""]
    indent = max(map(len, names)) + (len(chosen) > 1)
    room = min(width, _WIDEST_LINE) - indent
    draw = _logarithmic_cells if log else _linear_cells
    rows, marks = draw(chosen, room)
    lines = [
        f"{name:<{indent}}{bars([math.log2(1 + count) for count in counts], ascii=ascii)}".rstrip()
        for name, counts in zip(names, rows, strict=True)
    ]
    return "\n".join([*lines, " " * indent + placed(marks, len(rows[0]))])


def _linear_cells(formats: Sequence[Format], room: int) -> tuple[list[list[int]], dict[int, str]]:
    """Counts in equal steps, zero in the middle or, where nothing is negative, in front."""
    elements = [element_of(format) for format in formats]
    high, low = max(e.max for e in elements), min(e.min for e in elements)
    cells = max((room - 1) // 2, 8)
    reach = max(Fraction(high), -Fraction(low))
    edges = [reach * i / cells for i in range(cells + 1)]
    rows = []
    for format in formats:
        right = [int(has_zero(format)), *above_zero(format, edges)]
        rows.append(right if low >= 0 else [*below_zero(format, edges)[::-1], *right])
    if low >= 0:
        return rows, {0: "0", cells: f"{high:g}"}
    mirrored = float(-reach) if any(e.min != low for e in elements) or -low != high else low
    left = low if len(formats) == 1 and -low >= high else mirrored
    right_end = high if len(formats) == 1 else float(reach)
    return rows, {0: f"{left:g}", cells: "0", 2 * cells: f"{right_end:g}"}


def _logarithmic_cells(formats: Sequence[Format], room: int) -> tuple[list[list[int]], dict[int, str]]:
    """Counts of positive values in equal ratios."""
    elements = [element_of(format) for format in formats]
    cells = max(room, 17)
    low = min(math.frexp(e.smallest_subnormal)[1] for e in elements) - 1
    high = max(math.frexp(e.max)[1] for e in elements)
    edges = [_power(low + (high - low) * i / cells) for i in range(cells + 1)]
    marks = {0: f"2^{low}", cells - 1: f"2^{high}"}
    if low < 0 < high:
        marks[round(-low / (high - low) * cells)] = "1"
    return [Ladder(format).within(edges) for format in formats], marks


def _power(exponent: float) -> Fraction:
    """2 to a real exponent, past the range of floats too."""
    whole = math.floor(exponent)
    return Fraction(2.0 ** (exponent - whole)) * Fraction(2) ** whole


def spacing(formats: FormatLike | list[FormatLike], *, width: int = 80, ascii: bool = False) -> str:
    """The distance from each positive magnitude to the next value, as explore.spacing draws it.

    Args:
        formats: As for explore.spacing.
        width: Of the text.
        ascii: Without effect: letters are all that is used.

    Returns:
        A chart with a letter for each format.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: As explore.spacing, or if the width is out of range.

    Example:
        >>> print(spacing(["e4m3fn", "fixed8f4"], width=60).splitlines()[-1])
        a e4m3fn  b fixed8f4
    """
    check(width, ascii)
    lines = [Line(shortened(str(f)), *spacing_points(f)) for f in several(formats)]
    return logarithmic_chart(lines, width, ("magnitude", "distance to the next value"))


def relative_error(formats: FormatLike | list[FormatLike], *, width: int = 80, ascii: bool = False) -> str:
    """The largest relative error of rounding to nearest, as explore.relative_error draws it.

    Args:
        formats: As for explore.relative_error.
        width: Of the text.
        ascii: Without effect: letters are all that is used.

    Returns:
        A chart with a letter for each format.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: As explore.relative_error, or if the width is out of range.

    Example:
        >>> print(relative_error("e4m3fn", width=60).splitlines()[0])
        largest relative error
    """
    check(width, ascii)
    lines = [Line(shortened(str(f)), *relative_points(f)) for f in several(formats)]
    return logarithmic_chart(lines, width, ("magnitude", "largest relative error"))


def histogram(data: Data, format: FormatLike, *, width: int = 80, ascii: bool = False) -> str:
    """How data lies in a format, as explore.histogram draws it.

    Args:
        data: As for compare.
        format: A format, its name, or a torch dtype that stands for one.
        width: Of the text.
        ascii: Signs that every terminal has.

    Returns:
        A line for each value of a format that has at most 32, else one for each octave of magnitudes, with
        what becomes of most of them.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: As explore.histogram, or if the width is out of range.

    Example:
        >>> import torch
        >>> print(histogram(torch.tensor([0.1, 0.9, -3.0, 0.2]), "ternary", width=40, ascii=True))
        ternary: 4 values
        -1  25.00%  ##############
         0  50.00%  ###########################
         1  25.00%  ##############
    """
    check(width, ascii)
    known = resolve(format)
    Ladder(known)
    name = shortened(str(known))
    if few_values(known):
        values, counts = values_and_counts(data, known)
        heads = [f"{value:.4g}" for value in values]
        rows = list(zip(heads, [""] * len(heads), counts.tolist(), strict=True))
        return "\n".join([fill(f"{name}: {counts.sum():,} values", width), *_horizontal(rows, width, ascii)])
    found = magnitudes(data, known)
    rows = []
    for place, octave in enumerate(found.octaves):
        parts = {zone: found.counts[zone][place] for zone in ZONES}
        most = max(ZONES, key=lambda zone: parts[zone])
        rows.append((f"2^{octave}", NAMES[most] if any(parts.values()) else "", sum(parts.values())))
    shares = ", ".join(f"{NAMES[zone]} {found.share(zone):.2%}" for zone in ZONES)
    marks = ", ".join(f"{mark} {end:.4g}" for end, mark in ends(known))
    zeros = f", {found.zeros / found.total:.2%} of them zero" if found.zeros else ""
    title = f"{name}: {found.total:,} values{zeros}"
    head = [fill(line, width) for line in (title, shares, marks)]
    return "\n".join([*head, *_horizontal(rows, width, ascii, found.total)])


def _horizontal(rows: Sequence[tuple[str, str, int]], width: int, ascii: bool, total: int = 0) -> list[str]:
    """A bar for each count, between its label and what is said of it."""
    whole = total or max(sum(count for _, _, count in rows), 1)
    most = max(max(count for _, _, count in rows), 1)
    first, last = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    room = width - first - 2 - 7 - 1 - (last + 1 if last else 0)
    return [
        f"{head:>{first}} {count / whole:7.2%}  {tail:<{last}}{' ' * (last > 0)}"
        f"{bar(count / most, room - 1, ascii=ascii)}".rstrip()
        for head, tail, count in rows
    ]


def code_usage(data: Data, format: FormatLike, *, width: int = 80, ascii: bool = False) -> str:
    """How often each code of a format is there, as explore.code_usage draws it.

    Args:
        data: As for compare.
        format: A format of at most 16 bits, its name, or a torch dtype that stands for one.
        width: Of the text.
        ascii: Signs that every terminal has.

    Returns:
        A title with entropy and share, and a line of bars in the order of values.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: As explore.code_usage, or if the width is out of range.

    Example:
        >>> import torch
        >>> print(code_usage(torch.tensor([0.1, 0.9, -0.8, 0.8]), "ternary", width=60, ascii=True))
        ternary: entropy 1.50 of 2 bits, 100% of codes used
        === === @@@
        -1  0   1
    """
    check(width, ascii)
    known = resolve(format)
    used = usage(data, known)
    counts, each = bins(used.counts, width)
    wide = min(width // len(counts), 4)  # signs of a bar
    shown = [0, len(counts) // 2, len(counts) - 1]
    marks = {place * wide: f"{used.values[min(place * each, len(used.values) - 1)]:.3g}" for place in shown}
    title = fill(usage_title(used.entropy, used.used, known), width)
    below = placed(marks, max(len(counts) * wide, sum(map(len, marks.values())) + 2))
    signs = bars(counts.tolist(), ascii=ascii)
    line = "".join(sign * max(wide - 1, 1) + " " * (wide > 1) for sign in signs)
    return "\n".join([title, line.rstrip(), below])


def staircase(
    format: FormatLike,
    roundings: Sequence[Rounding | str] | Rounding | str | None = None,
    *,
    random_bits: int | None = None,
    width: int = 80,
    ascii: bool = False,
) -> str:
    """What each rounding mode makes of inputs around zero: values, quarters between them, and ties.

    Args:
        format: As for explore.staircase.
        roundings: One or several modes; None for all fifteen.
        random_bits: As for quantize, where a mode takes them.
        width: Of the text; as many inputs are shown as fit.
        ascii: Without effect: letters are all that is used.

    Returns:
        A table with a row for each mode and a column for each input; of stochastic modes the expected value.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: As explore.staircase, or if the width is out of range.

    Example:
        >>> print(staircase("ternary", ["nearest_even", "stochastic"], width=60))
        ternary: result below input
        input         -1  -0.75  -0.5  -0.25  0  0.25  0.5  0.75  1
        nearest_even  -1     -1    -1      0  0     0    1     1  1
        stochastic    -1  -0.75  -0.5  -0.25  0  0.25  0.5  0.75  1
    """
    check(width, ascii)
    element, chosen = single(format), modes(roundings)
    check_random_bits(random_bits, *chosen)
    values = values_around_zero(element)
    name = shortened(str(resolve(format)))
    skips = range((len(values) + 1) // 2)
    for parts, skipped in [(4, 0), *((2, s) for s in skips), *((1, s) for s in skips)]:
        inner = values[skipped : len(values) - skipped]
        text = _matrix(name, element, chosen, random_bits, _between(inner, parts))
        if max(map(len, text.splitlines())) <= width:
            break
    return text


def _between(values: Sequence[Fraction], parts: int) -> list[float]:
    """Values, and so many parts between them."""
    points = [low + (high - low) * part / parts for low, high in pairwise(values) for part in range(parts)]
    return [float(point) for point in [*points, values[-1]]]


def _matrix(
    name: str,
    element: SingleFormat,
    chosen: Sequence[Rounding],
    random_bits: int | None,
    inputs: Sequence[float],
) -> str:
    """Results below inputs."""
    head = [f"{x:.4g}" for x in inputs]
    rows = []
    for mode in chosen:
        bits = random_bits if mode.takes_random_bits else None
        rows.append((str(mode), *(f"{expected(x, element, mode, bits) + 0.0:.4g}" for x in inputs)))
    lines = [("input", *head), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) + 1)]
    shown = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([f"{name}: result below input", *shown])


def stochastic(
    format: FormatLike,
    rounding: Rounding | str = "stochastic",
    *,
    random_bits: int | None = None,
    at: float | None = None,
    count: int = 4096,
    seed: int = 0,
    width: int = 80,
    ascii: bool = False,
) -> str:
    """Bias and variance of a stochastic mode between two neighbors, exact and measured.

    Args:
        format: As for explore.stochastic.
        rounding: A stochastic mode.
        random_bits: As for explore.stochastic.
        at: As for explore.stochastic.
        count: As for explore.stochastic.
        seed: As for explore.stochastic.
        width: Of the text.
        ascii: Without effect: letters are all that is used.

    Returns:
        A table with a row for each eighth of the distance, in units of it and of its square.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: As explore.stochastic, or if the width is out of range.

    Example:
        >>> print(stochastic("e4m3fn", random_bits=2).splitlines()[3])
          0.125      -0.125         -0.125               0                  0
    """
    check(width, ascii)
    found = noise(format, rounding, random_bits, at, count, seed)
    columns = ("covered", "exact bias", "measured bias", "exact variance", "measured variance")
    rows = list(zip(*found[2:], strict=True))[:: len(found.shares) // 8]
    bits = "" if random_bits is None else f", {random_bits} random bits"
    title = f"{shortened(str(resolve(format)))}, {Rounding(rounding)}{bits}, {found.near:g} to {found.far:g}"
    ordered = tuple((share, b, mb, v, mv) for share, b, v, mb, mv in rows)
    return str(Table(columns, ordered, title[:width]))
