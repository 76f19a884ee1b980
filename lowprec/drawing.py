"""How every picture of the package looks: colors, markers, axes. Matplotlib is loaded by the first one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lowprec.errors import type_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.0
"""Inches: the width of a notebook's column."""


class Style(NamedTuple):
    """How one line is told from the others: by color, and without colors by marker and dashes."""

    color: str
    marker: str
    dashes: str


REFERENCE = Style("black", "o", "-")
"""Of what others are compared with."""
# Okabe and Ito's palette: told apart with any color vision
STYLES: tuple[Style, ...] = (
    Style("#0072B2", "s", "--"),
    Style("#D55E00", "^", "-."),
    Style("#009E73", "D", ":"),
    Style("#CC79A7", "v", "--"),
    Style("#E69F00", "P", "-."),
    Style("#56B4E9", "X", ":"),
)
SEQUENTIAL = "cividis"
"""The color map of magnitudes, which grows lighter for every color vision."""


def style(number: int) -> Style:
    """The style of one line of many: colors repeat after six, then with the next markers and dashes.

    Args:
        number: Of the line, from 0 on.

    Returns:
        A style; 36 lines differ.

    Example:
        >>> style(0) == STYLES[0], style(6).color == STYLES[0].color, style(6).marker == STYLES[1].marker
        (True, True, True)
    """
    rounds, place = divmod(number, len(STYLES))
    other = STYLES[(place + rounds) % len(STYLES)]
    return Style(STYLES[place].color, other.marker, other.dashes)


def axes_of(ax: "Axes | None", height: float = 3.2) -> "Axes":
    """The axes to draw on: those given, or those of a new figure as wide as a notebook.

    Args:
        ax: Matplotlib's axes, or None for new ones.
        height: Of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        TypeError: If ``ax`` is neither.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().subplots()
        >>> axes_of(ax) is ax
        True
    """
    from matplotlib.axes import Axes

    if ax is None:
        from matplotlib import pyplot

        _, own = pyplot.subplots(figsize=(WIDTH, height), layout="constrained")
        return own
    if not isinstance(ax, Axes):
        raise type_error("ax", "be Axes of Matplotlib or None", ax)
    return ax


def plain(ax: "Axes", *, grid: str | None = "both") -> "Axes":
    """Take the frame's upper and right lines away, and draw a faint grid.

    Args:
        ax: Matplotlib's axes.
        grid: Along ``"x"``, ``"y"`` or ``"both"``; None for none.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> plain(Figure().subplots()).spines["top"].get_visible()
        False
    """
    ax.spines[["top", "right"]].set_visible(False)
    if grid is not None:
        ax.grid(axis=grid, alpha=0.25)  # type: ignore[arg-type]  # one of three words
    return ax


BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:-=+*#@"
"""The same for terminals without others."""


def bars(heights: Sequence[float], *, ascii: bool = False) -> str:
    """A sign for each height, for a terminal: blank only for zero, full for the greatest.

    Args:
        heights: Finite numbers, none negative.
        ascii: Use signs that every terminal has.

    Returns:
        As many signs.

    Example:
        >>> bars([0, 1, 8])
        ' ▁█'
    """
    top = max(heights, default=0.0)
    signs = ASCII_BLOCKS if ascii else BLOCKS
    steps = len(signs) - 1
    return "".join(signs[-int(-steps * height // top)] if height > 0 else " " for height in heights)
