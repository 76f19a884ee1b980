"""The whole page."""

from importlib import resources
from pathlib import Path

import lowprec
from lowprec.app.page import sections
from lowprec.app.page.folder import RunFolder
from lowprec.app.page.markup import Html, joined, text
from lowprec.files import write

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""No browser loads or runs anything for this page, whatever is in it."""

_SECTIONS = (
    sections.results,
    sections.learning_curves,
    sections.losses,
    sections.layers,
    sections.schemes,
    sections.settings,
    sections.repetition,
)


def page(run: RunFolder) -> str:
    """A run as one HTML page, for screens of any width, light and dark, without a network.

    Args:
        run: Finished or not.

    Returns:
        The page; equal folders give equal pages.

    Example:
        >>> import tempfile
        >>> from lowprec.app import train
        >>> from lowprec.app.page.folder import read
        >>> from lowprec.app.settings import Settings
        >>> folder = tempfile.mkdtemp()
        >>> train.new(Settings(scheme=("bf16",), train_size=100), folder).close()
        >>> "Unfinished" in page(read(folder))
        True
    """
    style = resources.files("lowprec.app.page").joinpath("style.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(run.title)}: {text(run.path.resolve().name)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="above">Training in low precision</p>
<h1>{text(run.title)}</h1>
<p class="facts">{_facts(run)}</p>
{sections.state(run)}
</header>
<main>
{joined(part for part in (build(run) for build in _SECTIONS) if part)}
</main>
<footer>
<p>Made by lowprec {text(lowprec.__version__)} from the run folder {text(run.path.resolve().name)}.</p>
</footer>
</body>
</html>
"""


def write_page(run: RunFolder, file: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        run: Finished or not.
        file: Where it goes; its folder exists.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> write_page  # doctest: +ELLIPSIS
        <function write_page at ...>
    """
    write(file, page(run).encode())


def _facts(run: RunFolder) -> Html:
    """The job in a line."""
    facts = [
        _counted(len(run.schemes), "scheme"),
        _counted(run.settings.seeds, "seed"),
        _counted(run.settings.epochs, "epoch"),
        f"folder {run.path.resolve().name}",
    ]
    return text(" · ".join(facts))


def _counted(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
