"""Learning curves as SVG, in the colors of the page it stands on."""

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence

from lowprec.app.page.markup import Html, element, folded, joined, table, text
from lowprec.app.results import Point
from lowprec.app.settings import PLAIN
from lowprec.drawing import REFERENCE, Style, style

_WIDTH, _HEIGHT = 440, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26
_MARKERS = {
    "o": "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "m-3.5-3.5h7v7h-7z",
    "^": "m0-5l5 9h-10z",
    "D": "m0-5l5 5-5 5-5-5z",
    "v": "m0 5l5-9h-10z",
    "P": "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "X": "m-5-3l2-2 3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3z",
}
"""What Matplotlib's signs look like, from the middle of one on."""
_DASHES = {"-": "", "--": "7 4", "-.": "8 3 2 3", ":": "2 3"}
_LOG_FROM = 100.0
"""Ratio of the greatest to the least value above which the axis is logarithmic."""
_MOST_ROWS = 100


def styles_of(schemes: Iterable[str]) -> dict[str, Style]:
    """How to tell schemes apart: the same style as in ``learning_curves.png``.

    Args:
        schemes: Without the float32 twin.

    Returns:
        A style for each, and for the twin.

    Example:
        >>> styles_of(["bf16"])["bf16"].color
        '#0072B2'
    """
    return {PLAIN: REFERENCE} | {scheme: style(number) for number, scheme in enumerate(schemes)}


def swatch(style: Style) -> Html:
    """A short piece of a curve, for legends.

    Args:
        style: Of the curve.

    Returns:
        A drawing, which needs words beside it.

    Example:
        >>> swatch(REFERENCE).startswith("<svg")
        True
    """
    line = f'<path class="line" d="M0 8h34" stroke-dasharray="{_DASHES[style.dashes]}"/>'
    marker = f'<path class="marker" d="M17 8{_MARKERS[style.marker]}"/>'
    return Html(
        f'<svg class="swatch"{_colored(style)} viewBox="0 0 34 16" width="34" height="16" aria-hidden="true">'
        f"{line}{marker}</svg>"
    )


def legend(styles: dict[str, Style]) -> Html:
    """Every scheme with its swatch.

    Args:
        styles: By name.

    Returns:
        A list.

    Example:
        >>> "bf16" in legend(styles_of(["bf16"]))
        True
    """
    items = joined(Html(f"<li>{swatch(style)} {text(name)}</li>") for name, style in styles.items())
    return Html(f'<ul class="legend">\n{items}\n</ul>')


def chart(
    id: str,
    title: str,
    curves: dict[str, list[Point]],
    styles: dict[str, Style],
    *,
    can_be_log: bool = False,
) -> Html:
    """A figure: a curve for each scheme, and the numbers below, folded.

    A line is the mean over the seeds, the band around it runs from the least to the greatest. What is
    not finite leaves a gap, and is told in words.

    Args:
        id: Of the figure in the page.
        title: What the curves show, with its unit.
        curves: Points for each scheme, at least one in all.
        styles: Of each scheme.
        can_be_log: Whether the axis becomes logarithmic where values differ a hundredfold.

    Returns:
        The figure.

    Example:
        >>> point = Point(1, 0.5, 0.5, 0.5)
        >>> "<svg" in chart("loss", "Loss", {"bf16": [point]}, styles_of(["bf16"]))
        True
    """
    finite = [p for points in curves.values() for p in points if math.isfinite(p.mean)]
    notes = [
        f"{name}: not finite in epoch {broken[0].epoch}" + (" and later" if len(broken) > 1 else "")
        for name, points in curves.items()
        if (broken := [p for p in points if not math.isfinite(p.mean)])
    ]
    drawn = Html("")
    if finite:
        frame = _Frame(finite, can_be_log=can_be_log)
        drawn = _drawn(id, title, curves, styles, frame)
        title += ", logarithmic" if frame.is_log else ""
    told = joined(element("p", note, class_="bad") for note in notes)
    caption = Html(f"<figcaption>{element('strong', title)}</figcaption>")
    return element("figure", joined([caption, drawn, told, _numbers(title, curves)]), id=id)


class _Frame:
    """Where a point lies on the drawing."""

    def __init__(self, points: Sequence[Point], *, can_be_log: bool) -> None:
        from matplotlib.ticker import LogLocator, MaxNLocator

        low, high = min(p.low for p in points), max(p.high for p in points)
        self.is_log = can_be_log and low > 0 and high / low > _LOG_FROM
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        locator = LogLocator(numticks=6) if self.is_log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        ticks = [float(tick) for tick in locator.tick_values(low, high)]
        self.ticks = ticks[bisect.bisect_right(ticks, low) - 1 : bisect.bisect_left(ticks, high) + 1]
        self._low, self._high = self._height(self.ticks[0]), self._height(self.ticks[-1])
        self.first, self.last = min(p.epoch for p in points), max(p.epoch for p in points)
        epochs = MaxNLocator(8, integer=True).tick_values(self.first, self.last)
        self.epochs = [int(e) for e in epochs if self.first <= e <= self.last]

    def _height(self, value: float) -> float:
        """On the axis before it is scaled."""
        return math.log10(value) if self.is_log else value

    def x(self, epoch: float) -> float:
        """From the left."""
        inner = _WIDTH - _LEFT - _RIGHT - 16
        span = self.last - self.first
        return _LEFT + 8 + inner * ((epoch - self.first) / span if span else 0.5)

    def y(self, value: float) -> float:
        """From the top."""
        share = (self._height(value) - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _drawn(
    id: str, title: str, curves: dict[str, list[Point]], styles: dict[str, Style], frame: _Frame
) -> Html:
    """The drawing itself."""
    told = "; ".join(
        f"{name}: "
        + ", ".join(f"{p.mean:.3g} after epoch {p.epoch}" for p in dict.fromkeys((shown[0], shown[-1])))
        for name, points in curves.items()
        if (shown := [p for p in points if math.isfinite(p.mean)])
    )
    return joined(
        [
            Html(
                f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
                f'aria-labelledby="{id}-title {id}-desc">'
            ),
            element("title", title, id=f"{id}-title"),
            element("desc", told, id=f"{id}-desc"),
            *_axes(frame),
            *(_curve(name, points, styles[name], frame) for name, points in curves.items()),
            Html("</svg>"),
        ]
    )


def _axes(frame: _Frame) -> Iterable[Html]:
    """Grid lines and their numbers."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in frame.ticks:
        y = frame.y(value)
        yield Html(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        yield Html(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for epoch in frame.epochs:
        x = frame.x(epoch)
        yield Html(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{epoch}</text>')


def _curve(name: str, points: Sequence[Point], style: Style, frame: _Frame) -> Html:
    """Band, line and markers of a scheme, in pieces where it is not finite."""
    pieces = [
        list(group)
        for is_finite, group in itertools.groupby(points, lambda p: math.isfinite(p.mean))
        if is_finite
    ]
    lines, bands = [], []
    for piece in pieces:
        lines.append(_path((frame.x(p.epoch), frame.y(p.mean)) for p in piece))
        if any(p.low < p.high for p in piece):
            there = [(frame.x(p.epoch), frame.y(p.high)) for p in piece]
            back = [(frame.x(p.epoch), frame.y(p.low)) for p in reversed(piece)]
            bands.append(_path([*there, *back]) + "z")
    shown = [p for piece in pieces for p in piece]
    marked = shown[:: max(1, len(shown) // 10)]
    markers = "".join(
        f"M{frame.x(p.epoch):.1f} {frame.y(p.mean):.1f}{_MARKERS[style.marker]}" for p in marked
    )
    return Html(
        f"<g{_colored(style)}>{element('title', name)}"
        + (f'<path class="band" d="{"".join(bands)}"/>' if bands else "")
        + f'<path class="line" d="{"".join(lines)}" stroke-dasharray="{_DASHES[style.dashes]}"/>'
        + f'<path class="marker" d="{markers}"/></g>'
    )


def _path(points: Iterable[tuple[float, float]]) -> str:
    """Straight lines from point to point."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _colored(style: Style) -> str:
    """The color, or the page's own for the reference."""
    return "" if style is REFERENCE else f' color="{style.color}"'


def _numbers(title: str, curves: dict[str, list[Point]]) -> Html:
    """The means as a table."""
    by_scheme = {name: {p.epoch: p.mean for p in points} for name, points in curves.items()}
    epochs = sorted({epoch for points in by_scheme.values() for epoch in points})
    every = -(-len(epochs) // _MOST_ROWS)
    shown = epochs[::-every][::-1]  # the last one always
    rows = [
        [str(epoch), *(f"{p[epoch]:.4g}" if epoch in p else "" for p in by_scheme.values())]
        for epoch in shown
    ]
    left_out = "" if every == 1 else f", one epoch in {every}"
    return folded("The numbers", table(f"{title}, mean over the seeds{left_out}", ["epoch", *curves], rows))
