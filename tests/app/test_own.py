"""Formats of one's own on the command line, and the package's record of what was proven."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lowprec.app import own
from lowprec.app.verify import proven
from lowprec.formats import parse

MODULE = """
from dataclasses import dataclass

from lowprec.formats import TabledFormat


@dataclass(frozen=True)
class Eighths(TabledFormat):
    count: int

    def code_values(self):
        return [k / 8 for k in range(-self.count, self.count + 1)]

    def __str__(self):
        return f"eighths{self.count}"


MINE = Eighths(5)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module in the current folder in which a format stands."""
    name = f"formats_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv(own.VARIABLE, raising=False)
    importlib.invalidate_caches()
    yield name
    os.environ.pop(own.VARIABLE, None)


def lowprec_command(*arguments):
    """Run the command in an interpreter of its own."""
    command = [sys.executable, "-m", "lowprec.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_module_s_formats_are_shown(module):
    done = lowprec_command("--with", module, "show", "eighths5")
    assert done.returncode == 0, done.stderr
    assert "0.625" in done.stdout
    plain = lowprec_command("show", "eighths5")
    assert plain.returncode == 2
    assert "A format of your own is known once it was registered or used." in plain.stderr


def test_a_scheme_may_name_them(module, tmp_path):
    (tmp_path / "mine.toml").write_text('weight = "eighths5"\n', encoding="utf-8")
    done = lowprec_command(
        "--with", module, "train", "--scheme", "mine.toml", "--epochs", "1", "--train-size", "256",
        "--model", "mlp", "--out", "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "eighths5" in done.stdout


def test_interpreters_that_a_command_starts_know_them(module, monkeypatch):
    assert own.register_formats(module) == ["eighths5"]
    assert os.environ[own.VARIABLE] == module
    own.register_inherited()
    monkeypatch.delenv(own.VARIABLE)
    own.register_inherited()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_at_all", "`--with` must be importable, got 'no_such_module_at_all'. It raised Mod"),
        ("math", "`--with` must name a module in which a format stands, got 'math'"),
    ],
)
def test_other_modules_are_refused(name, message, module):
    with pytest.raises((ImportError, ValueError), match=message):
        own.register_formats(name)
    done = lowprec_command("--with", name, "formats")
    assert done.returncode == 2
    assert message in done.stderr


def test_the_record_is_of_named_formats_and_without_a_wrong_result():
    assert [str(parse(name)) for name in proven.results()] == [*proven.results()]
    assert all(number > 10**5 for number in proven.results().values())


def test_a_packed_file_asks_for_its_format(module):
    save = (
        f"import torch, lowprec, {module} as m\n"
        "lowprec.save_packed({'w': torch.tensor([0.25])}, 'own.safetensors', m.MINE)\n"
    )
    load = "import lowprec\n{}print(lowprec.load_packed('own.safetensors'))\n"
    for code, output in (
        (save, ""),
        (load.format(""), "If 'eighths5' is a format of your own, register it first"),
        (load.format(f"import {module} as m; lowprec.formats.register(m.MINE)\n"), "{'w': tensor([0.2500])}"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
        )
        assert output in done.stdout + done.stderr


def test_reports_are_gathered(tmp_path, monkeypatch):
    row = {"format": "e2m1", "results": 5}
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for number, file in enumerate(files):
        rows = [row] * (number + 2)
        report = {"wrong": 0, "kernel sources": str(number), "rows": rows}
        file.write_text(json.dumps(report), encoding="utf-8")
    monkeypatch.setattr(proven, "FILE", tmp_path / "proven.json")
    proven.write(*files)
    proven.results.cache_clear()
    try:
        assert proven.results() == {"e2m1": 15}
    finally:
        proven.results.cache_clear()
    with pytest.raises(ValueError, match="`report` must be without wrong results, got 3"):
        proven.gathered({"wrong": 3, "kernel sources": "", "rows": []})


def test_the_record_is_that_of_the_committed_reports():
    docs = Path(__file__).parents[2] / "docs"
    if not docs.exists():
        pytest.skip("an unpacked source distribution has no docs")
    reports = [docs / "verify.json", docs / "verify_listed.json"]
    wanted = [proven.gathered(json.loads(report.read_text(encoding="utf-8"))) for report in reports]
    assert json.loads(proven.FILE.read_text(encoding="utf-8")) == wanted


def test_a_pickled_layer_brings_its_format_into_a_new_process(module, tmp_path):
    make = (
        f"import pickle, torch, lowprec, {module} as m\n"
        "layer = lowprec.Quantizer(m.MINE)\n"
        "model = lowprec.convert(torch.nn.Sequential(torch.nn.Linear(4, 4)), lowprec.Scheme(weight=m.MINE))\n"
        "pickle.dump((layer, model), open('own.pickle', 'wb'))\n"
    )
    load = (
        "import pickle, torch\n"
        "layer, model = pickle.load(open('own.pickle', 'rb'))\n"
        "print(layer(torch.tensor([0.3])).item(), model(torch.zeros(1, 4)).shape)\n"
    )
    for code in (make, load):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == "0.25 torch.Size([1, 4])\n"
