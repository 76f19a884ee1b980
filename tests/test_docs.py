"""What of the documentation needs no Sphinx to check: entries, examples, the command, the citation."""

import doctest
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import lowprec
from lowprec.app.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONTENTS = {"concepts.md", "reference.md"}  # lists of pages
TESTED = {"from_qpytorch.md"}  # by tests of its own
PACKAGES = [
    "formats", "functional", "nn", "optim", "ops", "observers", "testing", "testing.strategies", "storage",
    "reference", "compat.qtorch", "compat.qtorch.auto_low", "compat.qtorch.optim", "compat.qtorch.quant",
]  # fmt: skip
PAGES = sorted([*DOCS.glob("*.md"), *(DOCS / "concepts").glob("*.md")])
EXAMPLES = [page for page in PAGES if page.name not in CONTENTS | TESTED]


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
    assert entries("lowprec") >= set(lowprec.__all__)
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


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_asks_its_question_and_has_an_example(page):
    text = page.read_text(encoding="utf-8")
    assert "```{code-cell}" in text or "```pycon" in text  # the first are run by the build, the second here
    assert "```python" not in text  # which nothing would run
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    for number, block in enumerate(blocks):
        test = doctest.DocTestParser().get_doctest(block, {}, f"{page.name} {number}", str(page), 0)
        assert doctest.DocTestRunner().run(test).failed == 0
    if page.parent.name == "concepts":
        first = text.partition("\n# ")[2].split("\n\n")[1]
        assert first.endswith("?")
        assert f"](concepts/{page.name}) | {first} |" in (DOCS / "concepts.md").read_text(encoding="utf-8")


def test_the_command_that_builds_is_the_one_that_ci_runs():
    if not (ROOT / ".ci").is_dir():
        pytest.skip("a source distribution has no .ci")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "sphinx-build -W -n -b html docs docs/_build/html" in contributing
    assert "sphinx-build -W -n -q -b html docs docs/_build/html" in ci
    assert all(
        'pip install -c constraints.txt -e ".[docs]"' in text.replace(" -q", "")
        for text in (contributing, ci)
    )


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([\w-]+): (.+)$", text, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    assert fields["title"] == "lowprec"
    assert fields["version"] == lowprec.__version__
    assert fields["license"] == "MIT"
    assert "authors:\n  - name: the lowprec authors\n" in text
    assert not {"doi", "url", "identifiers"} & set(fields)
