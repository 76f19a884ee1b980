"""Pictures of formats alone: where values lie, how far apart, and how wrong rounding can be."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec.drawing import SEQUENTIAL, axes_of, plain
from lowprec.errors import type_error, value_error
from lowprec.explore.axes import LINES, legend_above, powers_of_two
from lowprec.explore.codes import element_of
from lowprec.explore.ladder import above_zero, below_zero, has_zero, runs, several
from lowprec.formats import Format, FormatLike
from lowprec.formats.format import check_bool
from lowprec.formats.properties import shortened
from lowprec.reference import quantize_scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_MARKS = 256
"""Values that are drawn one by one; more become shades."""
_CELLS = 350
_LARGEST_DRAWN = 2.0**1023
"""Matplotlib computes larger floats from their rounded logarithms, as infinities."""
_WIDEST_LINE = 2.0**1000
"""The difference of limits that Matplotlib can still widen by a margin."""


def number_line(
    formats: FormatLike | list[FormatLike],
    *,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the finite values of formats on a line: a mark for each, or where there are many a shade.

    Of formats with groups the elements are drawn, over the scale 1.

    Args:
        formats: One to seven formats, names or torch dtypes.
        log: Draw the positive values on a logarithmic line.
        limits: The ends of the line; None for those of the widest range.
        ax: Matplotlib's axes; None for a new figure.

    Returns:
        The axes, with a row for each format.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no format, more than seven, one without a largest value, or limits are no
            interval (of positive numbers, where ``log``).

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = number_line(["e2m1", "fixed4f1"], ax=Figure().subplots())
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['e2m1', 'fixed4f1']
    """
    check_bool("log", log)
    chosen = several(formats)
    low, high = _limits(chosen, limits, log=log)
    ax = axes_of(ax, 0.9 + 0.5 * len(chosen))
    if log:
        powers_of_two(ax, "x")
    for row, format in enumerate(chosen):
        style = LINES[row]
        inside = _values_between(format, low, high, log=log)
        if inside is not None:
            ax.vlines(inside, row - 0.36, row + 0.36, color=style.color, linewidth=1.2)
        else:
            _shade(ax, format, row, low, high, log=log)
    ax.set_yticks(range(len(chosen)), [shortened(str(format)) for format in chosen])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(chosen) - 0.5, -0.5)
    plain(ax, grid="x")
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    margin = _margin(chosen)
    ratio, width = (
        math.exp2(margin * (math.log2(high) - math.log2(low))) if log else 1.0,
        margin * (high - low),
    )
    ax.set_xlim(*((low / ratio, high * ratio) if log else (low - width, high + width)))
    ax.set_xlabel("positive values" if log else "value")
    return ax


def spacing(formats: FormatLike | list[FormatLike], *, ax: "Axes | None" = None) -> "Axes":
    """Draw the distance from each positive magnitude to the next value, both on logarithmic axes.

    A horizontal line is fixed point, a staircase floating point. Left of the smallest positive value the
    distance is that to the value below.

    Args:
        formats: One to seven formats, names or torch dtypes.
        ax: Matplotlib's axes; None for a new figure.

    Returns:
        The axes, with a line for each format.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no format, more than seven, or one without a largest value.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = spacing(["e4m3fn", "fixed8f4"], ax=Figure().subplots())
        >>> [line.get_label() for line in ax.lines]
        ['e4m3fn', 'fixed8f4']
    """
    return _over_magnitude(formats, spacing_points, "distance to the next value", ax)


def relative_error(formats: FormatLike | list[FormatLike], *, ax: "Axes | None" = None) -> "Axes":
    """Draw how large the relative error of rounding to nearest can be, against magnitude.

    Within the range it is half a step over the magnitude. Below the smallest value it is 1 where magnitudes
    become zero; past the largest one it is what is cut off, and the line ends where they become infinite.

    Args:
        formats: One to seven formats, names or torch dtypes.
        ax: Matplotlib's axes; None for a new figure.

    Returns:
        The axes, with a line for each format.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no format, more than seven, or one without a largest value.

    Example:
        >>> from matplotlib.figure import Figure
        >>> x, y = relative_error("e4m3fn", ax=Figure().subplots()).lines[0].get_data()
        >>> float(y[(x > 0.25) & (x <= 128)].max())
        0.0625
    """
    return _over_magnitude(formats, relative_points, "largest relative error", ax)


def _over_magnitude(
    formats: FormatLike | list[FormatLike],
    points: Callable[[Format], tuple[list[float], list[float]]],
    label: str,
    ax: "Axes | None",
) -> "Axes":
    """A line for each format, both axes in powers of two."""
    chosen = several(formats)
    ax = axes_of(ax)
    powers_of_two(ax, "x", "y", margin=_margin(chosen))
    for format, style in zip(chosen, LINES, strict=False):
        dashes = style.dashes if len(chosen) > 1 else "-"
        ax.plot(*points(format), dashes, color=style.color, linewidth=1.6, label=shortened(str(format)))
    ax.set_xlabel("magnitude")
    ax.set_ylabel(label)
    legend_above(ax)
    return plain(ax)


def spacing_points(format: Format) -> tuple[list[float], list[float]]:
    """Magnitudes and distances, the corners of a line."""
    x, y = [], []
    for low, high, step in runs(format):
        x += [low or high / 4, min(high, _LARGEST_DRAWN)]
        y += [step, step]
    return x, y


def relative_points(format: Format) -> tuple[list[float], list[float]]:
    """Magnitudes and relative errors, the corners of a line."""
    element: Any = element_of(format)
    smallest, largest = element.smallest_subnormal, element.max
    x, y = [], []
    if smallest > 2.0**-1060 and quantize_scalar(smallest / 16, element) == 0:
        x += [smallest / 16, smallest / 2, smallest]
        y += [1.0, 1.0, 0.5]
    else:
        for magnitude in _beyond(smallest, down=True):
            x.append(magnitude)
            y.append(_relative(magnitude, element))
    for low, high, step in runs(format):
        if low:
            high = min(high, _LARGEST_DRAWN)
            x += [low, high]
            y += [step / 2 / low, step / 2 / high]
    for magnitude in _beyond(largest, down=False):
        x.append(magnitude)
        y.append(_relative(magnitude, element))
    return x, [error if math.isfinite(error) and error > 0 else math.nan for error in y]


def _beyond(end: float, *, down: bool) -> list[float]:
    """Magnitudes up to four octaves past an end, from the left to the right."""
    steps = [2.0 ** (part / 8) for part in range(1, 33)]
    found = [end / step for step in reversed(steps)] if down else [end * step for step in steps]
    return [x for x in found if 0 < x <= _LARGEST_DRAWN]


def _relative(x: float, element: Any) -> float:
    """The relative error of rounding one magnitude to nearest even."""
    y = quantize_scalar(x, element)
    return abs(float(Fraction(y) - Fraction(x)) / x) if math.isfinite(y) else math.nan


def _limits(formats: list[Format], limits: Any, *, log: bool) -> tuple[float, float]:
    """The ends of a line."""
    if limits is None:
        elements = [element_of(format) for format in formats]
        least = [e.smallest_subnormal if log else e.min for e in elements]
        low, high = min(least), max(e.max for e in elements)
        if not log and high - low > _WIDEST_LINE:
            must = f"be given for ranges past {_WIDEST_LINE:g}"
            raise value_error("limits", must, limits, "Or draw a logarithmic line: log=True.")
        return low, high
    try:
        low, high = (float(end) for end in limits)
    except (TypeError, ValueError):
        raise type_error("limits", "be two numbers", limits) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
        must = (
            "be two positive numbers, the smaller one first"
            if log
            else "be two finite numbers, the smaller one first"
        )
        raise value_error("limits", must, limits)
    return low, high


def _values_between(format: Format, low: float, high: float, *, log: bool) -> list[float] | None:
    """The values between two numbers; None if they are too many, or too near on a logarithmic line."""
    element = element_of(format)
    if element.bits > 16:
        return None
    values = element.values()
    inside = values[(values >= low) & (values <= high)]
    if log and len(inside) > 2 and np.median(np.diff(np.log(inside))) < math.log(high / low) / _CELLS:
        return None
    return inside.tolist() if len(inside) <= _MOST_MARKS else None


def _margin(formats: list[Format]) -> float:
    """Of an axis; none where there are no floats past its ends."""
    elements = [element_of(format) for format in formats]
    wide = any(e.max > 2.0**900 or e.smallest_subnormal < 2.0**-900 for e in elements)
    return 0.0 if wide else 0.02


def _shade(ax: "Axes", format: Format, row: int, low: float, high: float, *, log: bool) -> None:
    """A strip whose shades say how many values there are."""
    edges = np.geomspace(low, high, _CELLS + 1) if log else np.linspace(low, high, _CELLS + 1)
    counts = _counts(format, edges.tolist())
    shades = np.ma.masked_less(np.log2(1.0 + np.array([counts], np.float64)), 0.5)
    ax.pcolormesh(edges, [row - 0.36, row + 0.36], shades, cmap=SEQUENTIAL, shading="flat", rasterized=True)


def _counts(format: Format, edges: list[float]) -> list[int]:
    """How many values lie in each cell."""
    exact = [Fraction(edge) for edge in edges]
    counts = []
    for low, high in pairwise(exact):
        count = 0
        if high > 0:
            count += above_zero(format, [max(low, Fraction(0)), high])[0]
        if low < 0:
            count += below_zero(format, [max(-high, Fraction(0)), -low])[0]
        counts.append(count + (low <= 0 < high and has_zero(format)))
    return counts
