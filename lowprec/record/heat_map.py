"""A grid as a picture, for a page or for a terminal."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec.drawing import BLOCKS, SEQUENTIAL, STYLES, axes_of
from lowprec.record.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BROKEN, NOTHING = "×", "·"
"""In a terminal: a cell with NaN or infinities, and one in which nothing was recorded."""
_BROKEN_COLOR, _NOTHING_COLOR = STYLES[1].color, "0.88"
_INCHES_PER_ROW, _MARGINS = 0.19, 1.3
_TALLEST_BAR = 4.0
"""Inches of the scale of colors."""
_LONGEST_NAME = 32
_MOST_COLUMNS = 64
"""Of a heat map in a terminal."""
_MOST_CROSSES = 1500
"""Cells beyond which color alone marks what is broken: crosses would run into each other."""


def draw(grid: Grid, ax: "Axes | None") -> "Axes":
    """Layers down, steps across; lighter is worse, NaN and infinities are crossed out in another color."""
    from matplotlib.colors import ListedColormap, LogNorm, Normalize
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    ax = axes_of(ax, height=_MARGINS + max(_INCHES_PER_ROW * len(grid.layers), 1.0))
    low, high = grid.span
    fraction = grid.quantity.is_fraction
    # zero lies below every scale of logarithms
    values = np.maximum(grid.values, low) if fraction else np.clip(grid.values, low, high)
    rows = np.arange(len(grid.layers) + 1)
    norm = LogNorm(low, high) if fraction else Normalize(low, high)
    ax.set_facecolor(_NOTHING_COLOR)
    shown = np.ma.masked_array(values, np.isnan(values) | grid.broken)
    colors = SEQUENTIAL if fraction else f"{SEQUENTIAL}_r"
    image = ax.pcolormesh(grid.edges, rows, shown, cmap=colors, norm=norm, rasterized=True)
    if grid.broken.any():
        marked = np.ma.masked_array(np.ones(grid.broken.shape), ~grid.broken)
        ax.pcolormesh(grid.edges, rows, marked, cmap=ListedColormap([_BROKEN_COLOR]), rasterized=True)
        _cross_out(ax, grid)
    ax.set_ylim(len(grid.layers), 0)
    _name_rows(ax, grid)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("step")
    ax.set_title(f"{grid.quantity.title} (lighter is worse)", loc="left", fontsize=10)
    height = _height(ax)
    shrink = min(1.0, _TALLEST_BAR / height)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, shrink=shrink, aspect=height * shrink / 0.14)
    if fraction:
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=8)
    _explain(ax, grid)
    return ax


def _cross_out(ax: "Axes", grid: Grid) -> None:
    """A cross in the middle of each broken cell."""
    places = np.argwhere(grid.broken)
    if len(places) > _MOST_CROSSES:
        return
    middles = (np.array(grid.edges[:-1]) + np.array(grid.edges[1:])) / 2
    # crosses of narrow cells would hide each other
    size = float(np.clip(300.0 / len(middles), 1.5, 6.0))
    ax.plot(
        middles[places[:, 1]], places[:, 0] + 0.5, linestyle="none", marker="x", color="black",
        markersize=size, markeredgewidth=max(size / 6, 0.4),
    )  # fmt: skip


def _height(ax: "Axes") -> float:
    """Of the axes, in inches."""
    return max(ax.get_window_extent().height / float(ax.figure.dpi), 0.5)


def _name_rows(ax: "Axes", grid: Grid) -> None:
    """The names of as many layers as are readable at this height."""
    height = _height(ax)
    skip = max(1, int(np.ceil(len(grid.layers) * 0.11 / height)))
    chosen = range(0, len(grid.layers), skip)
    size = float(np.clip(72 * height / len(grid.layers) * skip * 0.8, 5.0, 9.0))
    names = [_shortened(grid.layers[n]) for n in chosen]
    ax.set_yticks([n + 0.5 for n in chosen], names, fontsize=size)
    ax.tick_params(axis="y", length=0)


def _explain(ax: "Axes", grid: Grid) -> None:
    """What the two colors beyond the scale mean, where they occur."""
    from matplotlib.patches import Patch

    signs = []
    if grid.broken.any():
        signs.append(Patch(facecolor=_BROKEN_COLOR, label="× NaN or infinity"))
    if (np.isnan(grid.values) & ~grid.broken).any():
        signs.append(Patch(facecolor=_NOTHING_COLOR, edgecolor="0.6", label="nothing to show"))
    if signs:
        ax.legend(
            handles=signs, loc="upper right", bbox_to_anchor=(1.0, 0.0), ncols=len(signs), frameon=False,
            fontsize=8, borderaxespad=2.2, borderpad=0.0,
        )  # fmt: skip


def _shortened(name: str) -> str:
    """A name of bearable length; the end tells the most."""
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def text(grid: Grid) -> str:
    """The same for a terminal: a fuller block is worse."""
    count = len(grid.edges) - 1
    per_sign = -(-count // _MOST_COLUMNS)
    width = max(len(_shortened(layer)) for layer in grid.layers)
    trouble = grid.trouble()
    lines = []
    for row, layer in enumerate(grid.layers):
        signs = [
            _sign(trouble[row, k : k + per_sign], grid.broken[row, k : k + per_sign])
            for k in range(0, count, per_sign)
        ]
        lines.append(f"{_shortened(layer):<{width}} {''.join(signs)}".rstrip())
    low, high = grid.span
    if grid.quantity.is_fraction:
        scale = f"blank: none, {BLOCKS[1]} {low:.2g} or less, {BLOCKS[-1]} {high:.2g}"
    else:
        scale = f"blank: {high:.3g} or more, {BLOCKS[-1]} {low:.3g}"
    return "\n".join([
        f"{grid.quantity.title}, steps {grid.edges[0]} to {grid.edges[-1] - 1}",
        *lines,
        f"{scale}; {BROKEN} NaN or infinity, {NOTHING} nothing to show",
    ])  # fmt: skip


def _sign(trouble: Any, broken: Any) -> str:
    """One sign for one or several moments: the worst of them."""
    if broken.any():
        return BROKEN
    known = trouble[~np.isnan(trouble)]
    if not known.size:
        return NOTHING
    worst = float(known.max())
    return BLOCKS[int(np.ceil(worst * (len(BLOCKS) - 1)))]
