"""The sections of the page, from what was reached to how to do it again."""

import os
import shlex
import subprocess
from collections.abc import Sequence

from lowprec.app import data
from lowprec.app.environment import versions
from lowprec.app.loop import Row
from lowprec.app.page.curves import chart, legend, styles_of, swatch
from lowprec.app.page.folder import RunFolder
from lowprec.app.page.heatmap import heat_map, key, most_columns
from lowprec.app.page.markup import Html, element, joined, listing, section, table, text
from lowprec.app.report import COUNTING, REACHED, described, notes, reached, share
from lowprec.app.results import curves
from lowprec.app.settings import PLAIN, option
from lowprec.drawing import Style

_QUANTITIES = (("test_accuracy", "Test accuracy in %", 100.0), ("train_loss", "Training loss", 1.0))
_UNSET = {
    "momentum": "0.9; 0 for fixed8 and fixed8-sr",
    "data": "the bundled subset",
    "train_size": "all images",
    "loss_scale": "the schemes' own",
}
"""What a setting means that was not given."""


def state(run: RunFolder) -> Html:
    """Whether the job is finished, and if not, how far it is.

    Args:
        run: The folder.

    Returns:
        A note; nothing of a finished job.
    """
    if run.is_finished:
        return Html("")
    done = f"{len(run.step_seconds)} of {len(run.runs)} runs are trained"
    if run.current_steps:
        done += f", and {run.current_steps} steps of {run.runs[len(run.step_seconds)].title}"
    again = element("code", words(["lowprec", "train", "--resume", str(run.path)]))
    note = f"<strong>Unfinished:</strong> {text(done)}. This is from the last checkpoint. Go on with {again}"
    return element("p", Html(note), class_="unfinished")


def results(run: RunFolder) -> Html:
    """The table of what was reached, as in the terminal.

    Args:
        run: The folder.

    Returns:
        The section.
    """
    styles, summaries = styles_of(run.schemes), run.summaries()
    most_seeds = max((len(summary.accuracies) for summary in summaries.values()), default=0)
    rows = []
    for member in run.members:
        scheme, momentum = member
        name = Html(f"{swatch(styles[scheme])} {text(scheme)}")
        summary = summaries.get(member)
        seeds = 0 if summary is None else len(summary.accuracies)
        values = ("", "", "") if summary is None else map(_marked, reached(summary))
        rows.append([name, f"{momentum:g}", *values, f"{seeds} of {run.settings.seeds}"])
    columns = ["scheme", "momentum", *REACHED, "seeds trained"]
    told = "; ".join(notes(most_seeds))
    return section("results", "Results", table("What each scheme reached", columns, rows), _note(told))


def _marked(value: str) -> Html:
    """A result, in another color where it is no number."""
    return element("strong", value, class_="bad") if "nan" in value or "inf" in value else text(value)


def learning_curves(run: RunFolder) -> Html:
    """Accuracy and loss over the epochs, momentum by momentum.

    Args:
        run: The folder.

    Returns:
        The section.
    """
    styles = styles_of(run.schemes)
    momenta = list(dict.fromkeys(momentum for _, momentum in run.members))
    parts = [
        part
        for number, momentum in enumerate(momenta)
        if (rows := [row for row in run.rows if row.run.momentum == momentum])
        for part in _charts(f"curves-{number}", momentum, rows, styles)
    ]
    if not parts:
        parts = [element("p", "No epoch is finished yet.")]
    elif run.settings.seeds > 1:
        parts.append(_note("Lines are means over the seeds, bands run from the least to the greatest."))
    return section("curves", "Learning curves", *parts)


def _charts(id: str, momentum: float, rows: Sequence[Row], styles: dict[str, Style]) -> list[Html]:
    """The two figures of a momentum."""
    present = list(dict.fromkeys(row.run.scheme for row in rows))
    figures = []
    for quantity, title, factor in _QUANTITIES:
        scaled = {
            name: [point.scaled(factor) for point in points]
            for name, points in curves(rows, quantity).items()
        }
        is_loss = quantity == "train_loss"
        name = f"{id}-{quantity.replace('_', '-')}"
        figures.append(chart(name, title, scaled, styles, can_be_log=is_loss))
    return [
        element("h3", f"Momentum {momentum:g}, by epoch"),
        legend({name: styles[name] for name in present}),
        element("div", joined(figures), class_="charts"),
    ]


def losses(run: RunFolder) -> Html:
    """What each role of each scheme lost.

    Args:
        run: The folder.

    Returns:
        The section; nothing where there is no scheme besides the twin.
    """
    parts = []
    for scheme, momentum in run.members:
        if scheme == PLAIN:
            continue
        counts = run.counts(scheme, momentum)
        rows = []
        for role, casts in described(run.schemes[scheme]):
            count, saturated, underflowed, nan = counts.get(role, [0, 0, 0, 0])
            broken = share(nan, count)
            rows.append(
                [
                    role,
                    Html(text(casts).replace("\n", "<br>")),
                    share(saturated, count),
                    share(underflowed, count),
                    element("strong", broken, class_="bad") if nan else broken,
                ]
            )
        title = f"{scheme}: momentum {momentum:g}, loss scale {run.schemes[scheme].loss_scale:g}"
        parts.append(table(title, ["role", "cast", "saturated", "underflow", "NaN"], rows, words=2))
    if not parts:
        return Html("")
    return section(
        "lost", "What was lost, role by role", *parts, _note(f"Shares of all elements, {COUNTING}.")
    )


def layers(run: RunFolder) -> Html:
    """The heat maps, of the first seed of each scheme.

    Args:
        run: The folder.

    Returns:
        The section; nothing without ``layers.csv``.
    """
    first = {}
    for scheme, momentum in run.members:
        members = [m for m in run.moments if (m.scheme, m.momentum) == (scheme, momentum)]
        if members:
            seed = min(m.seed for m in members)
            caption = f"{scheme}: momentum {momentum:g}, seed {seed}"
            first[caption] = [m for m in members if m.seed == seed]
    if not first:
        return Html("")
    num_rows = sum(len({(m.layer, m.role) for m in members}) for members in first.values())
    maps = [heat_map(caption, members, most_columns(num_rows)) for caption, members in first.items()]
    told = (
        "Color: the share of elements that saturated or became zero at that moment; where there are more "
        "moments than cells, neighbors share one. Cells with a NaN are taller. Numbers: the worst moment."
    )
    return section("layers", "What was lost, layer by layer", key(), *maps, _note(told))


def schemes(run: RunFolder) -> Html:
    """Every scheme as TOML, as it lies in the folder.

    Args:
        run: The folder.

    Returns:
        The section; nothing where there is no scheme besides the twin.
    """
    parts = [
        part
        for name, scheme in run.schemes.items()
        for part in (element("h3", name), listing(f"The scheme {name} as TOML", scheme.to_toml()))
    ]
    return section("schemes", "Schemes", *parts) if parts else Html("")


def settings(run: RunFolder) -> Html:
    """What the job was asked to do, on what images, with what versions.

    Args:
        run: The folder.

    Returns:
        The section.
    """
    values = run.settings.to_dict() | {"scheme": ", ".join([PLAIN, *run.schemes])}
    values["seeds"] = f"{run.settings.seeds}: {', '.join(map(str, range(run.settings.seeds)))}"
    rows = [[option(name), str(_UNSET[name] if value is None else value)] for name, value in values.items()]
    images = [
        ["name", data.name_of(run.settings.data)],
        ["folder", run.settings.data or _UNSET["data"]],
        ["SHA-256", element("code", run.fingerprint)],
    ]
    return section(
        "settings",
        "Settings",
        table("What the job was asked to do", ["option", "value"], rows, words=2),
        table("Images", ["images", "which"], images, words=2),
        _versions(run),
    )


def _versions(run: RunFolder) -> Html:
    """What the job was trained with, or at least what is there now."""
    if not any(run.versions):
        when, known = "at the time of the report; the run's own were not recorded", [versions()]
    elif len(run.versions) == 1:
        when, known = "of the run", run.versions
    else:
        when, known = "of the run, which was resumed with others", run.versions
    names = list(dict.fromkeys(name for kept in known for name in kept))
    rows = [[name, *(kept.get(name, "not recorded") for kept in known)] for name in names]
    heads = ["version"] if len(known) == 1 else [f"part {number}" for number in range(1, len(known) + 1)]
    return table(f"Versions {when}", ["of", *heads], rows, words=len(known) + 1)


def repetition(run: RunFolder) -> Html:
    """The command that does the job again.

    Args:
        run: The folder.

    Returns:
        The section.
    """
    own = ", ".join(run.own_schemes)
    needed = [f"The command reads from the run's folder: {own}."] if own else []
    if ":" in run.settings.model:
        needed.append(f"It needs the module of the model {run.settings.model}.")
    return section(
        "repeat",
        "Do it again",
        listing("The command that repeats the job", words(run.command()), "wrapped"),
        _note("With the same versions it gives the same results.csv and weights, bit for bit."),
        *(element("p", sentence) for sentence in needed),
    )


def words(command: Sequence[str]) -> str:
    """A command as it is typed into a shell of this system.

    Args:
        command: Its words.

    Returns:
        The line.

    Example:
        >>> words(["lowprec", "train"])
        'lowprec train'
    """
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


def _note(sentence: str) -> Html:
    """A remark below a table or a figure."""
    return element("p", sentence, class_="note")
