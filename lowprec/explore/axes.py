"""What several pictures share: scales of powers of two, and legends that cover nothing."""

import math
from typing import TYPE_CHECKING

from lowprec.drawing import REFERENCE, STYLES, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.ticker import Locator

LINES: tuple[Style, ...] = (*STYLES, REFERENCE._replace(dashes="-"))
"""One for each format."""


def legend_above(ax: "Axes", columns: int = 4) -> None:
    """A legend between the title and the frame."""
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        ax.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(columns, len(labels)),
            frameon=False, borderaxespad=0.2, handlelength=2.4, columnspacing=1.2, handletextpad=0.5,
            fontsize="small",
        )  # fmt: skip


def powers_of_two(ax: "Axes", *axes: str, margin: float = 0.02) -> None:
    """Logarithmic axes whose few ticks are powers of two; before anything is drawn."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    for name in axes:
        (ax.set_xmargin if name == "x" else ax.set_ymargin)(margin)
        axis: Axis = ax.xaxis if name == "x" else ax.yaxis
        (ax.set_xscale if name == "x" else ax.set_yscale)("log", base=2)
        axis.set_major_locator(_locator())
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(power))


def _locator() -> "Locator":
    """Ticks at whole exponents; Matplotlib's own leave the range of float64."""
    from matplotlib.ticker import Locator

    class Powers(Locator):
        """A few powers of two, 1 among them if it is in view."""

        def __call__(self) -> list[float]:
            """The ticks of the view."""
            return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            """The ticks between two numbers."""
            return [math.ldexp(1.0, e) for e in exponents(math.log2(vmin), math.log2(vmax))]

    return Powers()


def exponents(low: float, high: float, most: int = 8) -> range:
    """Whole numbers between two others, in equal steps, so that they are few."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    step = next(step for step in _STEPS if (last - first) // step < most)
    return range(-(-first // step) * step, last + 1, step)


_STEPS = (1, 2, 3, 4, 5, 8, 10, 15, 20, 25, 30, 40, 50, 100, 150, 200, 250, 300, 400, 500, 1000, 3000)
"""Of exponents between ticks."""


def power(x: float, position: int | None = None) -> str:
    """A power of two as it is read."""
    if not x > 0:
        return ""
    return f"{x:g}" if 1 <= x <= 64 else f"$2^{{{round(math.log2(x))}}}$"
