"""Pictures that commands write."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lowprec import explore
from lowprec.drawing import STYLES, WIDTH, plain
from lowprec.explore.compare import Comparison
from lowprec.formats import Format, FormatLike


def of_format(format: Format) -> bytes:
    """A format's number lines, spacing and relative error.

    Args:
        format: Any with a largest value.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the format has no largest value.

    Example:
        >>> from lowprec.formats import parse
        >>> of_format(parse("e2m1"))[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
    top, log, middle, bottom = figure.subplots(4, 1, height_ratios=[0.7, 0.7, 2, 2])
    explore.number_line(format, ax=top)
    explore.number_line(format, log=True, ax=log)
    explore.spacing(format, ax=middle)
    explore.relative_error(format, ax=bottom)
    return _png(figure)


def of_comparison(compared: Comparison, formats: Sequence[FormatLike], data: Any) -> bytes:
    """The error, underflow and overflow of formats, and how the data lies in the best.

    Args:
        compared: What compare gave for the formats and the data.
        formats: The formats.
        data: The data.

    Returns:
        A PNG file.

    Example:
        >>> import torch
        >>> data = torch.tensor([0.5, 3.0])
        >>> of_comparison(explore.compare(["e2m1"], data), ["e2m1"], data)[1:4]
        b'PNG'
    """
    whole = explore.compare(formats, data) if "tensor" in compared.columns else compared
    names = [str(name) for name in whole["format"]]
    figure = Figure(figsize=(WIDTH, 3.4 + 0.28 * len(names)), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=[0.9 + 0.28 * len(names), 3.0])
    left, right = rows[0].subplots(1, 2, sharey=True)
    places = range(len(names))
    sqnr = [min(max(float(value or 0.0), 0.0), 1e9) for value in whole["SQNR (dB)"]]
    finite = [value for value in sqnr if value < 1e9]
    shown = [value if value < 1e9 else max([*finite, 1.0]) * 1.1 for value in sqnr]
    left.barh(places, shown, color=STYLES[0].color)
    for place, value in enumerate(whole["SQNR (dB)"]):
        left.annotate(f"{value:.1f}", (shown[place], place), xytext=(3, 0), textcoords="offset points",
                      va="center", fontsize="small")  # fmt: skip
    left.set_yticks(places, names)
    left.invert_yaxis()
    left.margins(x=0.18)
    left.set_xlabel("SQNR (dB)")
    for shift, name, style in ((-0.2, "underflow", STYLES[3]), (0.2, "overflow", STYLES[1])):
        shares = [100 * float(value or 0.0) for value in whole[name]]
        right.barh([place + shift for place in places], shares, height=0.38, color=style.color, label=name)
    right.set_xlabel("% of the values")
    right.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize="small")
    plain(left, grid="x")
    plain(right, grid="x")
    explore.histogram(data, whole.best, ax=rows[1].subplots())
    return _png(figure)


def _png(figure: Figure) -> bytes:
    """A figure as a file."""
    FigureCanvasAgg(figure)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()
