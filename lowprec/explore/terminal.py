"""Charts of letters, for a terminal."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lowprec.errors import value_error
from lowprec.explore.axes import exponents
from lowprec.formats.format import check_bool, check_integer

SIGNS = "abcdefg"
"""Of the lines of a chart, in order; one that others hide is drawn where they leave room."""
_LABELS = 9
"""Signs of a label on the left."""
HEIGHT = 14


class Line(NamedTuple):
    """Corners of a line and its name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def check(width: int, ascii: bool) -> None:
    """Refuse what is no width of a terminal, or no choice of signs.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If the width is out of range.
    """
    check_integer("width", width, 40, 1000)
    check_bool("ascii", ascii)


def logarithmic_chart(lines: Sequence[Line], width: int, labels: tuple[str, str]) -> str:
    """Lines over logarithmic axes, a letter for each; corners that are not positive numbers part a line."""
    logs = [Line(name, [_log(v) for v in x], [_log(v) for v in y]) for name, x, y in lines]
    points = [(a, b) for line in logs for a, b in zip(line.x, line.y, strict=True) if a == a and b == b]
    if not points:
        raise value_error("formats", "have distances to draw", [line.name for line in lines])
    (left, right), (low, high) = (_ends([p[axis] for p in points]) for axis in (0, 1))
    columns = width - _LABELS - 2
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for line, sign in zip(logs, SIGNS, strict=False):
        for column in range(columns):
            place = left + (right - left) * column / (columns - 1)
            height = _height(line, place)
            if height is not None:
                row = round((high - height) / (high - low) * (HEIGHT - 1))
                grid[row][column] = sign
        if not any(sign in row for row in grid):  # narrower than a column, or hidden
            for x, y in zip(line.x, line.y, strict=True):
                if x == x and y == y:
                    row = round((high - y) / (high - low) * (HEIGHT - 1))
                    grid[row][round((x - left) / (right - left) * (columns - 1))] = sign
                    break
    return _framed(grid, (left, right), (low, high), labels, [line.name for line in lines])


def _framed(
    grid: list[list[str]],
    across: tuple[float, float],
    along: tuple[float, float],
    labels: tuple[str, str],
    names: Sequence[str],
) -> str:
    """The signs with axes and legend."""
    low, high = along
    ticks = {}
    for exponent in exponents(low, high, 6):
        ticks[round((high - exponent) / (high - low) * (len(grid) - 1))] = f"2^{exponent}"
    body = [f"{ticks.get(row, ''):>{_LABELS}} |{''.join(signs)}".rstrip() for row, signs in enumerate(grid)]
    columns = len(grid[0])
    left, right = across
    marks = {
        round((exponent - left) / (right - left) * (columns - 1)): f"2^{exponent}"
        for exponent in exponents(left, right, columns // 10)
    }
    below = [" " * _LABELS + " +" + "-" * columns, " " * (_LABELS + 2) + placed(marks, columns)]
    legend = "  ".join(f"{sign} {name}" for sign, name in zip(SIGNS, names, strict=False))
    return "\n".join([labels[1], *body, *below, f"{labels[0]:>{_LABELS + 2 + columns}}", legend])


def _height(line: Line, place: float) -> float | None:
    """Where a line is at a place; None where it is not."""
    for (a, b), (c, d) in zip(
        zip(line.x, line.y, strict=True), zip(line.x[1:], line.y[1:], strict=True), strict=False
    ):
        if a <= place <= c and b == b and d == d:
            return b if c == a else b + (d - b) * (place - a) / (c - a)
    return None


def _log(x: float) -> float:
    """log2 of a positive number, else NaN."""
    return math.log2(x) if 0 < x < math.inf else math.nan


def _ends(numbers: Sequence[float]) -> tuple[float, float]:
    """The least and the largest, a little apart."""
    low, high = min(numbers), max(numbers)
    return (low, high) if high - low > 1 else (low - 0.5, high + 0.5)


def placed(marks: dict[int, str], width: int) -> str:
    """Labels under the cells that they belong to, the outer ones kept within the line."""
    line = [" "] * width
    for cell, label in sorted(marks.items()):
        start = min(max(cell - len(label) // 2, 0), width - len(label))
        if all(sign == " " for sign in line[max(start - 1, 0) : start + len(label) + 1]):
            line[start : start + len(label)] = label
    return "".join(line).rstrip()


def bar(share: float, width: int, *, ascii: bool) -> str:
    """A horizontal bar, in eighths of a sign; never empty unless the share is zero."""
    eighths = math.ceil(share * width * 8) if share > 0 else 0
    if ascii:
        return "#" * -(-eighths // 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("" if not rest else " ▏▎▍▌▋▊▉"[rest])
