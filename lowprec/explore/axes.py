"""What several pictures share: scales of powers of two, and legends that cover nothing."""

import math
from typing import TYPE_CHECKING

from lowprec.drawing import REFERENCE, STYLES, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

LINES: tuple[Style, ...] = (*STYLES, REFERENCE._replace(dashes="-"))
"""One for each format."""


def legend_above(ax: "Axes", columns: int = 4) -> None:
    """A legend between the title and the frame."""
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        ax.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(columns, len(labels)),
            frameon=False, borderaxespad=0.2, handlelength=2.6, fontsize="small",
        )  # fmt: skip


def powers_of_two(ax: "Axes", *axes: str, margin: float = 0.02) -> None:
    """Logarithmic axes whose few ticks are powers of two."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for name in axes:
        ax.margins(**{name: margin})
        axis: Axis = ax.xaxis if name == "x" else ax.yaxis
        (ax.set_xscale if name == "x" else ax.set_yscale)("log", base=2)
        axis.set_major_locator(LogLocator(base=2, numticks=9))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(power))


def power(x: float, position: int | None = None) -> str:
    """A power of two as it is read."""
    if not x > 0:
        return ""
    exponent = math.log2(x)
    if -4 <= exponent <= 6 and x >= 1:
        return f"{x:g}"
    return f"$2^{{{round(exponent)}}}$"
