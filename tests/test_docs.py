"""What of the documentation needs no Sphinx to check: entries, examples, commands, the citation."""

import doctest
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lowprec
from lowprec.app.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONTENTS = {"concepts.md", "exploring.md", "notebooks.md", "reference.md"}  # lists of pages
TESTED = {"from_qpytorch.md"}  # by tests of its own
PACKAGES = [
    "explore", "formats", "functional", "nn", "optim", "ops", "observers", "testing", "testing.strategies",
    "storage", "reference", "compat.qtorch", "compat.qtorch.auto_low", "compat.qtorch.optim",
    "compat.qtorch.quant",
]  # fmt: skip
PAGES = sorted(page for folder in (".", "concepts", "exploring") for page in (DOCS / folder).glob("*.md"))
EXAMPLES = [page for page in PAGES if page.name not in CONTENTS | TESTED]
RUN = [page for page in EXAMPLES if re.search("^```(pycon|console)$", page.read_text("utf-8"), re.MULTILINE)]


def extension(name):
    """A module that extends Sphinx, of this project."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


public_names = extension("public_names")


def entries(module_name):
    """The names that a module's page describes or links to."""
    page = public_names.page(module_name, public_names.places()[module_name])
    described = re.findall(r"^\.\. (?:autoclass|autofunction|py:data):: (\S+)$", page, re.MULTILINE)
    linked = re.findall(r"^- :(?:py:obj|doc):`(\S+)`$", page, re.MULTILINE)
    assert described or linked
    return {name.rpartition(".")[2] for name in (*described, *linked)}


def test_every_public_name_has_an_entry():
    own = set(lowprec.__all__)
    assert entries("lowprec") >= own | {"Audit", "Break", "Effect", "Recording", "Sensitivity"}
    assert entries("lowprec.explore") >= {"Comparison", "text"}
    assert entries("lowprec.table") == {"Cell", "Table"}
    for package in PACKAGES:
        module = importlib.import_module(f"lowprec.{package}")
        own = {
            name
            for name, value in vars(module).items()
            if (inspect.isclass(value) or inspect.isfunction(value))
            and not name.startswith("_")
            and value.__module__.startswith(module.__name__)
        }
        own = own & set(getattr(module, "__all__", own))
        assert own
        assert own <= entries(module.__name__), module.__name__


def test_what_is_described_twice_is_described_once():
    places = public_names.places()
    assert places["lowprec.formats"]["FloatingPoint"] == "lowprec.FloatingPoint"
    assert places["lowprec.nn"]["Quantizer"] == "lowprec.Quantizer"
    assert places["lowprec.nn"]["Linear"] == "lowprec.nn.Linear"
    assert places["lowprec"]["optim"] == "lowprec.optim"
    assert places["lowprec.explore"]["text"] == "lowprec.explore.text"
    assert "lowprec.explore.ladder" not in places


def test_a_new_module_gets_a_page_and_a_stale_name_is_an_error(monkeypatch):
    assert "lowprec.toml" not in public_names.modules()
    monkeypatch.setattr(public_names, "INTERNAL", public_names.INTERNAL - {"lowprec.toml"})
    assert "lowprec.toml" in public_names.modules()
    assert "dumps" in entries("lowprec.toml")
    monkeypatch.setattr(public_names, "INTERNAL", {"lowprec.gone"})
    with pytest.raises(ValueError, match=r"`INTERNAL` must name modules of lowprec, got \['lowprec.gone'\]"):
        public_names.modules()


def test_a_public_value_needs_a_docstring():
    with pytest.raises(ValueError, match=r"lowprec\.observers\._LARGEST has no docstring"):
        public_names.page("lowprec.observers", {"_LARGEST": "lowprec.observers._LARGEST"})


def test_the_page_of_the_command_line_has_every_command_and_option():
    text = extension("command_line").text()
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(commands) >= 6
    assert re.findall("^## `lowprec (.+)`$", text, re.MULTILINE) == commands
    for command in app.registered_commands:
        section = text.partition(f"## `lowprec {command.name or command.callback.__name__}`")[2]
        section = section.partition("\n## ")[0]
        assert inspect.getdoc(command.callback).splitlines()[0] in section
        for name, parameter in inspect.signature(command.callback).parameters.items():
            is_option = any("Option" in type(m).__name__ for m in parameter.annotation.__metadata__)
            assert not is_option or f"* `--{name.replace('_', '-')}" in section
    assert "&#" not in text
    assert "with `--exhaustive` half an" in text


def blocks(text, language):
    """What stands in the fenced blocks of a page that are of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_asks_its_question_and_has_an_example(page):
    text = page.read_text(encoding="utf-8")
    # the first are run by the build, the others here
    assert any(f"```{language}" in text for language in ("{code-cell}", "pycon", "console"))
    assert "```python" not in text  # which nothing would run
    if page.parent != DOCS:
        contents = DOCS / f"{page.parent.name}.md"
        first = f"\n{text}".partition("\n# ")[2].split("\n\n")[1]
        assert first.endswith("?")
        link = f"]({page.parent.name}/{page.name}) | {first} |"
        assert link in contents.read_text(encoding="utf-8")


@pytest.mark.usefixtures("own_names")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_what_a_page_says_comes_out(page, monkeypatch, tmp_path):
    text = page.read_text(encoding="utf-8")
    lines = "".join(f"{block}\n" for block in blocks(text, "pycon"))
    example = types.ModuleType("example")  # in which classes of the page can be pickled
    monkeypatch.setitem(sys.modules, "example", example)
    monkeypatch.chdir(page.parent)
    test = doctest.DocTestParser().get_doctest(lines, vars(example), page.name, str(page), 0)
    test.globs = vars(example)  # not a copy
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed == 0
    monkeypatch.chdir(tmp_path)
    for block in blocks(text, "console"):
        run_commands(block)


def run_commands(block):
    """Run the commands of a block, and hold what they print against what stands below them."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, wanted = part.partition("\n")
        name, *arguments = shlex.split(command)
        assert name == "lowprec"
        result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "88"})
        assert result.exit_code == 0, result.output
        got = "\n".join(line.rstrip() for line in result.stdout.splitlines()).replace("\\", "/") + "\n"
        difference = doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)
        assert difference, got


@pytest.mark.parametrize("block", ["$ lowprec --version\nlowprec 0\n", "$ lowprec nothing\n"])
def test_a_command_that_prints_something_else_is_found(block):
    with pytest.raises((AssertionError, SystemExit)):
        run_commands(block)


def test_every_notebook_is_among_the_pages():
    folder = ROOT / "notebooks"
    if not folder.is_dir():
        pytest.skip("a source distribution has no notebooks")
    page = (DOCS / "notebooks.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[.+\]\(notebooks/(.+)\) \| (.+) \|$", page, re.MULTILINE))
    assert listed == {file.name: question_of(file) for file in folder.glob("*.ipynb")}
    assert {f"{name}.ipynb" for name in re.findall(r"<notebooks/(.+)>$", page, re.MULTILINE)} == set(listed)


def question_of(notebook):
    """The title of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return re.match("# (.+)", "".join(cells[0]["source"]))[1]


def test_notebooks_are_copied_for_a_build_and_old_copies_removed(tmp_path):
    pages, source = tmp_path / "docs", tmp_path / "notebooks"
    pages.mkdir()
    source.mkdir()
    (source / "a.ipynb").write_bytes(b"a")
    (source / "b.ipynb").write_bytes(b"b")
    copy = extension("notebooks").copy_notebooks
    copy(types.SimpleNamespace(srcdir=pages))
    (source / "a.ipynb").unlink()
    (source / "b.ipynb").write_bytes(b"c")
    copy(types.SimpleNamespace(srcdir=pages))
    assert [(file.name, file.read_bytes()) for file in (pages / "notebooks").iterdir()] == [("b.ipynb", b"c")]


def test_the_command_that_builds_is_the_one_that_ci_runs():
    if not (ROOT / ".ci").is_dir():
        pytest.skip("a source distribution has no .ci")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "sphinx-build -W -n -b html docs docs/_build/html" in contributing
    assert "sphinx-build -W -n -q -b html docs docs/_build/html" in ci
    for text in (contributing, ci):
        assert re.search(r'pip install (-q )?-c constraints.txt -e "\.\[([a-z,]+,)?docs[],]', text)


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([\w-]+): (.+)$", text, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    assert fields["title"] == "lowprec"
    assert fields["version"] == lowprec.__version__
    assert fields["license"] == "MIT"
    assert "authors:\n  - name: the lowprec authors\n" in text
    assert not {"doi", "url", "identifiers"} & set(fields)
