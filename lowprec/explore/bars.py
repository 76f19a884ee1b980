"""Pictures of data in a format: its magnitudes beside the range, its values, the use of codes."""

import math
from typing import TYPE_CHECKING

import numpy as np

from lowprec.drawing import STYLES, axes_of, plain
from lowprec.explore.axes import legend_above
from lowprec.explore.codes import element_of
from lowprec.explore.data import Data
from lowprec.explore.ladder import Ladder
from lowprec.explore.occurrences import (
    ZONES,
    Magnitudes,
    bins,
    few_values,
    magnitudes,
    turns,
    usage,
    values_and_counts,
)
from lowprec.formats import Format, FormatLike, GroupedFormat, resolve
from lowprec.formats.properties import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {
    "zero": STYLES[3].color,
    "subnormal": STYLES[4].color,
    "normal": STYLES[0].color,
    "overflow": STYLES[1].color,
}
HATCHES = {"zero": "..", "subnormal": "//", "normal": "", "overflow": "xx"}
NAMES = {"zero": "to zero", "subnormal": "subnormal", "normal": "normal", "overflow": "overflow"}
_MOST_BARS = 256
_FAR = 16
"""Octaves between data and a landmark that are still drawn."""


def histogram(data: Data, format: FormatLike, *, ax: "Axes | None" = None) -> "Axes":
    """Draw how data lies in a format, rounded to nearest even.

    For a format of at most 32 values the count of each, a bar over the interval that becomes it. For others
    the magnitudes by octave, each bar parted by what becomes of them: zero, subnormal values, normal values,
    or overflow, with lines at the smallest and largest values. Of formats with groups the numbers are those
    over the scales. NaN and infinities are left out; of magnitudes the zeros too, which the title counts.

    Args:
        data: As for compare.
        format: A format, its name, or a torch dtype that stands for one.
        ax: Matplotlib's axes; None for a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no finite value, or the carrier cannot hold the format, or it has no largest
            value (unbounded fixed point).

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> ax = histogram(torch.tensor([0.1, 0.9, -3.0]), "ternary", ax=Figure().subplots())
        >>> [int(bar.get_height()) for bar in ax.patches]
        [1, 1, 1]
    """
    known = resolve(format)
    Ladder(known)
    if few_values(known):
        return _counts(data, known, axes_of(ax))
    return _octaves(magnitudes(data, known), known, axes_of(ax))


def code_usage(data: Data, format: FormatLike, *, ax: "Axes | None" = None) -> "Axes":
    """Draw how often each code of a format is there, in the order of their values, rounded to nearest even.

    More than 256 codes are added up by neighbors. NaN and infinities in the data are left out.

    Args:
        data: As for compare.
        format: A format of at most 16 bits, its name, or a torch dtype that stands for one.
        ax: Matplotlib's axes; None for a new figure.

    Returns:
        The axes; the title tells the entropy and the share of codes that are there.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no finite value, the carrier cannot hold the format, or it has more than 16
            bits or no codes.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> code_usage(torch.tensor([0.1, 0.9, 0.8]), "ternary", ax=Figure().subplots()).get_title(loc="left")
        'ternary: entropy 0.92 of 2 bits, 67% of codes used'
    """
    known = resolve(format)
    used = usage(data, known)
    ax = axes_of(ax)
    counts, width = bins(used.counts, _MOST_BARS)
    places = np.arange(len(counts)) * width
    gap = 0.85 if len(counts) <= 64 else 1.0
    ax.bar(places + (width - 1) / 2, counts, width=width * gap, color=COLORS["normal"], linewidth=0)
    shown = np.unique(np.linspace(0, len(used.values) - 1, min(9, len(used.values))).round().astype(int))
    ax.set_xticks(shown, [f"{used.values[place]:.3g}" for place in shown])
    ax.set_xlim(-1, len(used.values))
    ax.set_xlabel(_in_units("value of the code", known))
    ax.set_ylabel("values" if width == 1 else f"values in {width} codes")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_title(usage_title(used.entropy, used.used, known), loc="left", fontsize="medium")
    return plain(ax, grid="y")


def usage_title(entropy: float, used: float, format: Format) -> str:
    """What the use of codes comes to."""
    bits = element_of(format).bits
    return f"{shortened(str(format))}: entropy {entropy:.2f} of {bits} bits, {used:.0%} of codes used"


def _counts(data: Data, format: Format, ax: "Axes") -> "Axes":
    """A bar for each value, over what becomes it."""
    values, counts = values_and_counts(data, format)
    inner = turns(format)
    reach = [2 * values[0] - inner[0], *inner, 2 * values[-1] - inner[-1]]
    left, right = np.array(reach[:-1]), np.array(reach[1:])
    ax.bar(left, counts, width=right - left, align="edge", color=COLORS["normal"], edgecolor="white")
    shown = _apart(values.tolist(), 0.09 * (reach[-1] - reach[0]))
    ax.set_xticks(shown, [f"{value:.3g}" for value in shown])
    ax.set_xticks(values, minor=True)
    ax.set_xlabel(_in_units("value", format))
    ax.set_ylabel("values")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_title(f"{shortened(str(format))}: {counts.sum():,} values", loc="left", fontsize="medium")
    return plain(ax, grid="y")


def _apart(values: list[float], distance: float) -> list[float]:
    """Values that are so far apart that their labels fit: zero, the ends, and others between them."""
    kept: list[float] = []
    for value in sorted(values, key=lambda v: (v != 0, -abs(v))):
        if all(abs(value - other) >= distance for other in kept):
            kept.append(value)
    return sorted(kept)


def _octaves(found: Magnitudes, format: Format, ax: "Axes") -> "Axes":
    """Stacked bars of octaves, and the range."""
    octaves, bottom = np.array(found.octaves), np.zeros(len(found.octaves))
    for zone in ZONES:
        counts = np.array(found.counts[zone])
        if not counts.any():
            continue
        label = f"{NAMES[zone]} {found.share(zone):.2%}"
        ax.bar(octaves + 0.5, counts, width=0.92, bottom=bottom, color=COLORS[zone], hatch=HATCHES[zone],
               edgecolor="white", linewidth=0.3, label=label)  # fmt: skip
        bottom += counts
    ax.set_ylim(0, max(bottom.max(), 1) * 1.4)  # room for the landmarks
    _landmarks(ax, format, (found.octaves[0], found.octaves[-1] + 1))
    _power_ticks(ax)
    ax.set_xlabel(_in_units("magnitude", format))
    ax.set_ylabel("values")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    zeros = f", {found.zeros / found.total:.2%} of them zero" if found.zeros else ""
    ax.set_title(
        f"{shortened(str(format))}: {found.total:,} values{zeros}", loc="left", fontsize="medium", pad=22
    )
    legend_above(ax)
    return plain(ax, grid="y")


def _landmarks(ax: "Axes", format: Format, span: tuple[float, float]) -> None:
    """Lines at the ends of the range; those far from the data are named at the edge."""
    marks = [(math.log2(end), name) for end, name in ends(format)]
    low, high = span
    near = [mark for mark, _ in marks if low - _FAR <= mark <= high + _FAR]
    left, right = min([low, *near]), max([high, *near])
    ax.set_xlim(left - 0.06 * (right - left), right + 0.06 * (right - left))
    outside = {-1: 0, 1: 0}
    for mark, name in marks:
        if mark in near:
            ax.axvline(mark, color="black", linestyle=":", linewidth=1)
            ax.annotate(name, (mark, 1.0), xycoords=("data", "axes fraction"), xytext=(-3, -3), rotation=90,
                        textcoords="offset points", ha="right", va="top", fontsize="small")  # fmt: skip
            continue
        side = 1 if mark > high else -1
        text = f"{name} $2^{{{mark:.0f}}}$ →" if side > 0 else f"← {name} $2^{{{mark:.0f}}}$"
        ax.annotate(text, (max(side, 0), 1.0), xycoords="axes fraction", textcoords="offset points",
                    xytext=(-4 * side, -3 - 13 * outside[side]), ha="right" if side > 0 else "left", va="top",
                    fontsize="small")  # fmt: skip
        outside[side] += 1


def ends(format: Format) -> list[tuple[float, str]]:
    """The landmarks of a range, each once."""
    element = element_of(format)
    marks = {element.smallest_subnormal: "smallest", element.max: "max"}
    if element.smallest_subnormal < element.smallest_normal < element.max and hasattr(element, "subnormals"):
        marks[element.smallest_normal] = "normal"
    return sorted(marks.items())


def _power_ticks(ax: "Axes") -> None:
    """Few ticks at whole exponents, read as powers of two."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"$2^{{{round(x)}}}$"))


def _in_units(what: str, format: Format) -> str:
    """A label that says what numbers are over."""
    return f"{what} ÷ scale of its group" if isinstance(format, GroupedFormat) else what
