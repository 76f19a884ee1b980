"""The picture of the learning curves."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lowprec.app import checkpoint
from lowprec.app.loop import Row
from lowprec.app.results import curves
from lowprec.app.settings import PLAIN
from lowprec.drawing import REFERENCE, Style, plain, style

PNG = "learning_curves.png"


def write_png(folder: Path, rows: Sequence[Row], title: str) -> None:
    """Draw accuracy and training loss over the epochs, one column of panels for each momentum.

    A line is the mean over the seeds, the band around it runs from the least to the greatest. A
    loss that is not finite leaves a gap.

    Args:
        folder: Where ``learning_curves.png`` goes.
        rows: All of a job.
        title: Above the panels.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> from lowprec.app.settings import Run
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_png(folder, [Row(Run("float32", 0.9, 0), 1, 0.5, 0.25, 0.875, {})], "MLP")
        >>> (folder / "learning_curves.png").read_bytes()[1:4]
        b'PNG'
    """
    schemes = [scheme for scheme in dict.fromkeys(row.run.scheme for row in rows) if scheme != PLAIN]
    styles = {PLAIN: REFERENCE} | {scheme: style(number) for number, scheme in enumerate(schemes)}
    momenta = list(dict.fromkeys(row.run.momentum for row in rows))
    figure = Figure(figsize=(1.2 + 4.4 * len(momenta), 6.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(momenta), sharex=True, squeeze=False)
    for column, momentum in enumerate(momenta):
        accuracy, loss = panels[:, column]
        accuracy.set_title(f"momentum {momentum:g}")
        members = [row for row in rows if row.run.momentum == momentum]
        _draw(accuracy, members, styles, "test_accuracy", 100.0)
        _draw(loss, members, styles, "train_loss", 1.0)
        accuracy.legend(frameon=False)
        loss.set_xlabel("epoch")
        loss.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.set_ylim(bottom=0.0)
        for panel in (accuracy, loss):
            plain(panel)
    panels[0, 0].set_ylabel("test accuracy in %")
    panels[1, 0].set_ylabel("training loss")
    num_seeds = len({row.run.seed for row in rows})
    figure.suptitle(title if num_seeds == 1 else f"{title}, mean and range of {num_seeds} seeds")
    image = io.BytesIO()
    figure.savefig(image, format="png")
    checkpoint.write(folder / PNG, image.getvalue())


def _draw(panel: Axes, rows: Sequence[Row], styles: dict[str, Style], quantity: str, factor: float) -> None:
    """The curves of one panel, the twin below the others."""
    num_seeds = len({row.run.seed for row in rows})
    for scheme, measured in curves(rows, quantity).items():
        points = [point.scaled(factor) for point in measured]
        color, marker, dashes = styles[scheme]
        epochs = [point.epoch for point in points]
        panel.plot(
            epochs,
            [point.mean for point in points],
            dashes,
            color=color,
            marker=marker,
            markersize=5,
            markevery=max(1, len(epochs) // 10),
            label=scheme,
        )
        if num_seeds > 1:
            low, high = zip(*((point.low, point.high) for point in points), strict=True)
            panel.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
