"""The README's Python is run as it is printed, block after block in one namespace."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.usefixtures("own_names")
def test_python_blocks_run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # some write files
    torch.manual_seed(0)
    module = types.ModuleType("of_the_readme")  # pickles look up its class by the module's name
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = vars(module)
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        exec(compile(block, "<README>", "exec"), namespace)  # no file: its lines are no Python
    assert namespace["q"].unique().numel() > 1
    printed = capsys.readouterr().out
    for shown in blocks("text"):
        assert shown in printed
    assert "multiply-adds: 100 % simulated" in printed
    assert 'match = ":last"' in printed
    assert "tensor([0.5166, 0.0010])" in printed
    assert "squares6: " in printed


def test_commands_are_the_ones_that_ci_runs():
    commands = " ".join(blocks("bash"))
    assert "pip install -c constraints.txt . && lowprec train" in commands
    assert 'pip install -c constraints.txt -e ".[test]" && pytest' in commands


def test_links_and_pictures_exist():
    text = README.read_text(encoding="utf-8")
    local = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert local
    assert all((README.parent / link).exists() for link in local), local
