"""What holds for every notebook without running it; ``pytest --nbmake notebooks`` runs them."""

import ast
import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_LINES = 10
MOST_BYTES = 100_000


def cells(notebook: Path, kind: str) -> list[dict[str, Any]]:
    """The cells of one kind, in order."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def outputs(notebook: Path) -> list[dict[str, Any]]:
    """What the cells have put out."""
    return [output for cell in cells(notebook, "code") for output in cell["outputs"]]


def paired(notebook: Path) -> list[tuple[str, str]]:
    """The cells of the reviewed .py beside it, as kinds and texts."""
    text = notebook.with_suffix(".py").read_text(encoding="utf-8")
    found = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:  # before the first is the header
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            lines = [line[2:] for line in body.strip().splitlines()]
            found.append(("markdown", "\n".join(lines)))
        else:
            found.append(("code", body.strip()))
    return found


def test_there_is_a_reviewed_script_for_each() -> None:
    assert len(NOTEBOOKS) >= 7
    assert {file.stem for file in FOLDER.glob("*.py")} == {file.stem for file in NOTEBOOKS}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_the_script_holds_the_same_cells(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    own = [(cell["cell_type"], source(cell).strip()) for cell in content["cells"]]
    assert own == paired(notebook)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_asks_one_question_and_ends_with_an_assertion_of_its_claim(notebook: Path) -> None:
    code, words = cells(notebook, "code"), cells(notebook, "markdown")
    title = source(words[0]).splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?")
    assert any(isinstance(node, ast.Assert) for node in ast.parse(source(code[-1])).body)
    assert "What to read next" in source(words[-1])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_its_cells_are_short(notebook: Path) -> None:
    for cell in cells(notebook, "code"):
        lines = [line for line in source(cell).splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES, source(cell)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_was_run_from_top_to_bottom_and_shows_no_warning(notebook: Path) -> None:
    counts = [cell["execution_count"] for cell in cells(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output["output_type"] for output in outputs(notebook)}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert [output for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert "Warning" not in json.dumps(outputs(notebook))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_its_pictures_are_small(notebook: Path) -> None:
    pictures = [
        base64.b64decode(o["data"]["image/png"])
        for o in outputs(notebook)
        if "image/png" in o.get("data", {})
    ]
    assert pictures
    assert [len(picture) for picture in pictures if len(picture) >= MOST_BYTES] == []
