"""Pictures of rounding: the staircase of every mode, and what stochastic rounding is worth."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lowprec.drawing import REFERENCE, STYLES, axes_of, plain
from lowprec.errors import value_error
from lowprec.explore.axes import legend_above
from lowprec.explore.codes import element_of
from lowprec.explore.stairs import Stairs, modes, probability, single, stairs
from lowprec.formats import FormatLike, resolve
from lowprec.formats.format import check_integer
from lowprec.formats.properties import shortened
from lowprec.modes import Rounding, check_random_bits
from lowprec.ops import quantize
from lowprec.reference import quantize_scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
_PARTS = 32
"""Of the distance between two neighbors."""


def staircase(
    format: FormatLike,
    roundings: Sequence[Rounding | str] | Rounding | str | None = None,
    *,
    random_bits: int | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what each rounding mode makes of the numbers around zero, up to the third positive value.

    A panel for each mode: steps of the result over the input, a dot where a tie goes, and for stochastic
    modes the expected value, from its probability. Of formats with groups the element is drawn.

    Args:
        format: A format, its name, or a torch dtype that stands for one.
        roundings: One or several modes; None for all fifteen.
        random_bits: As for quantize, where a mode takes them.
        ax: Matplotlib's axes, in whose place the panels are drawn; None for a new figure.

    Returns:
        The axes; their ``child_axes`` are the panels, in the order of the modes.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, the format has no largest value, or its smallest values are too
            small for float64 to have numbers between them.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = staircase("e2m1", ["nearest_even", "up"], ax=Figure().subplots())
        >>> [panel.get_title() for panel in ax.child_axes]
        ['nearest_even', 'up']
    """
    element, chosen = single(format), modes(roundings)
    shown = stairs(element, chosen, random_bits)
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    ax = axes_of(ax, 1.6 * rows + 0.4)
    ax.set_axis_off()
    name = shortened(str(resolve(format)))
    ax.set_title(f"{name}: result over input", loc="left", fontsize="medium", pad=2)
    for place, stair in enumerate(shown):
        row, column = divmod(place, columns)
        width, height = 1 / columns, 1 / rows
        box = (column * width + 0.02, 1 - (row + 1) * height + 0.06 * height, width - 0.04, 0.68 * height)
        _panel(ax.inset_axes(box), stair, left=column == 0, lowest=place + columns >= len(shown))
    return ax


def _panel(ax: "Axes", stair: Stairs, *, left: bool, lowest: bool) -> None:
    """One mode."""
    x, y = np.array(stair.inputs), np.array(stair.outputs)
    ax.plot(x, x, color="0.75", linewidth=0.8, zorder=1)
    color = STYLES[1].color if stair.rounding.is_stochastic else STYLES[0].color
    jumps = np.flatnonzero(np.diff(y)) + 1
    if not stair.rounding.is_stochastic:  # steps do not rise: the line is parted at each
        x, y = np.insert(x, jumps, np.nan), np.insert(y, jumps, np.nan)
    ax.plot(x, y, color=color, linewidth=1.6, solid_capstyle="butt", zorder=2)
    if stair.ties:
        ax.plot(*zip(*stair.ties, strict=True), "o", color=color, markersize=3.2, zorder=3)
    ax.set_title(stair.rounding, fontsize="small", pad=3)
    reach = max(abs(stair.inputs[0]), abs(stair.inputs[-1]))
    low = -reach if stair.inputs[0] < 0 and min(stair.outputs) < 0 else stair.inputs[0]
    ticks = [t for t in (-_tick(reach), 0.0, _tick(reach)) if low <= t]
    labels = [f"{tick:.3g}" for tick in ticks]
    fitting = [
        "" if tick < 0 and len(label) > 4 else label for tick, label in zip(ticks, labels, strict=True)
    ]
    ax.set_xticks(ticks, fitting if lowest else [""] * len(ticks), fontsize="small")
    ax.set_yticks(ticks, labels if left else [""] * len(ticks), fontsize="small")
    ax.set_xlim(low, reach)
    ax.set_ylim(low, reach)
    plain(ax)


def _tick(reach: float) -> float:
    """A round number in the outer half of an axis."""
    unit = 10.0 ** math.floor(math.log10(reach))
    return next(step * unit for step in (5, 2, 1) if step * unit <= reach)


class Noise(NamedTuple):
    """What stochastic rounding does between two neighbors, in units of their distance."""

    near: float
    far: float
    shares: list[float]
    """Of the distance that is covered."""
    bias: list[float]
    """The expected result less the input."""
    variance: list[float]
    measured_bias: list[float]
    measured_variance: list[float]


def noise(
    format: FormatLike,
    rounding: Rounding | str,
    random_bits: int | None,
    at: float | None,
    count: int,
    seed: int,
) -> Noise:
    """The bias and variance of stochastic rounding, from its definition and from random words."""
    element, mode = single(format), Rounding.parse(rounding, "rounding")
    if not mode.is_stochastic:
        raise value_error("rounding", "be stochastic", str(mode), "Draw the others with staircase.")
    check_random_bits(random_bits, mode)
    check_integer("count", count, 2, 2**24)
    low, high = _neighbors(element, at)
    start, step = Fraction(low), Fraction(high) - Fraction(low)
    inputs = [float(start + step * part / _PARTS) for part in range(_PARTS)]
    shares = [(Fraction(x) - start) / step for x in inputs]
    chances = [probability(share, mode, random_bits) for share in shares]
    x = np.repeat(np.array(inputs), count)
    y = quantize(x, element, rounding=mode, random_bits=random_bits, seed=seed).reshape(_PARTS, count)
    ups = (y == high).mean(axis=1).tolist()
    return Noise(
        low,
        high,
        [float(share) for share in shares],
        [float(chance - share) for chance, share in zip(chances, shares, strict=True)],
        [float(chance * (1 - chance)) for chance in chances],
        [up - float(share) for up, share in zip(ups, shares, strict=True)],
        [up * (1 - up) for up in ups],
    )


def stochastic(
    format: FormatLike,
    rounding: Rounding | str = "stochastic",
    *,
    random_bits: int | None = None,
    at: float | None = None,
    count: int = 4096,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw bias and variance of a stochastic mode between two neighboring values.

    Lines are exact, from the definition of the probability; marks are measured on ``count`` random words
    for each input. Both are in units of the distance between the neighbors, and of its square.

    Args:
        format: A format, its name, or a torch dtype that stands for one; of one with groups the element.
        rounding: A stochastic mode.
        random_bits: How many bits of noise, 1 to 32; None for 32. With few the bias is seen.
        at: A magnitude: the neighbors are the largest value that is not above it, and the next. None for
            1.0 or, where the largest value is not above that, half of it.
        count: Random words for each of 32 inputs, 2 to 2^24.
        seed: Of the random words.
        ax: Matplotlib's axes; None for a new figure.

    Returns:
        The axes, whose four lines are the exact bias and variance and the measured ones.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, the mode draws no noise, ``at`` is negative or has no neighbors in
            the format, or a number is out of range.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = stochastic("e4m3fn", random_bits=2, ax=Figure().subplots())
        >>> float(min(ax.lines[0].get_ydata()))  # what two bits cut off
        -0.21875
    """
    found = noise(format, rounding, random_bits, at, count, seed)
    ax = axes_of(ax)
    for exact, measured, style, name in (
        (found.bias, found.measured_bias, STYLES[1], "bias"),
        (found.variance, found.measured_variance, STYLES[0], "variance"),
    ):
        ax.plot(found.shares, exact, color=style.color, linestyle="-", label=f"{name}, exact")
        ax.plot(found.shares, measured, style.marker, color=style.color, fillstyle="none", markersize=4.5,
                label=f"{name}, measured")  # fmt: skip
    ax.axhline(0, color=REFERENCE.color, linewidth=0.6, zorder=0)
    ax.set_xlabel(f"input, from {found.near:g} (0) to {found.far:g} (1)")
    ax.set_ylabel("in steps, and steps²")
    bits = "" if random_bits is None else f", {random_bits} random bits"
    name = shortened(str(resolve(format)))
    ax.set_title(f"{name}, {Rounding(rounding)}{bits}", loc="left", fontsize="medium", pad=22)
    legend_above(ax)
    return plain(ax)


def _neighbors(element: object, at: float | None) -> tuple[float, float]:
    """The largest value that is not above a magnitude, and the next."""
    known = element_of(element)  # type: ignore[arg-type]
    if at is None:
        at = 1.0 if known.max > 1.0 else known.max / 2
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < known.max:
        raise value_error("at", f"lie from 0 to below the largest value {known.max:g}", at)
    low = quantize_scalar(float(at), known, rounding="down")  # type: ignore[arg-type]
    if low < 0 or low > at:
        raise value_error("at", "have a value of the format that is not negative below it", at)
    above = math.nextafter(low, math.inf)
    return low, quantize_scalar(above, known, rounding="up")  # type: ignore[arg-type]
