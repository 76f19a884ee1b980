"""The notebooks of the project among the pages, with the outputs that are stored in them."""

from pathlib import Path
from typing import Any

FOLDER = "notebooks"
"""Beside docs, and, for the time of a build, in it: Sphinx reads only what lies in its own folder."""


def copy_notebooks(app: Any) -> None:
    """Copy those that differ, and remove those that are gone."""
    pages = Path(app.srcdir)
    copies = pages / FOLDER
    copies.mkdir(exist_ok=True)
    contents = {file.name: file.read_bytes() for file in sorted((pages.parent / FOLDER).glob("*.ipynb"))}
    for old in copies.glob("*.ipynb"):
        if old.name not in contents:
            old.unlink()
    for name, content in contents.items():
        file = copies / name
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)


def setup(app: Any) -> dict[str, bool]:
    """Hook into the build."""
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True}
