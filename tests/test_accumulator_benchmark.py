"""benchmarks/accumulator.py in its smallest setting: what it writes, prints and draws."""

import csv
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lowprec import SCHEMES, Arithmetic
from lowprec.app import data

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accumulator.py"
if not SCRIPT.exists():
    pytest.skip("an installed package has no benchmarks", allow_module_level=True)
SMALLEST = ("--model", "mlp", "--images", "64", "--jobs", "1")


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module, with few test images."""
    spec = importlib.util.spec_from_file_location("accumulator", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "accumulator", module)
    spec.loader.exec_module(module)
    whole = data.load

    def few(**options):
        images = whole(**options)
        return replace(images, test_images=images.test_images[:250], test_labels=images.test_labels[:250])

    monkeypatch.setattr(data, "load", few)
    return module


def rows_of(folder):
    """The CSV as dictionaries."""
    with (folder / "accumulator.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_trains_once_and_goes_on_where_it_was_stopped(benchmark, tmp_path, capsys, monkeypatch):
    train, trained = benchmark.train, []

    def stopped_by_the_third(experiment):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(experiment)
        return train(experiment)

    monkeypatch.setattr(benchmark, "train", stopped_by_the_third)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main([*SMALLEST, "--mantissa-bits", "2", "--out", str(tmp_path)])
    first = rows_of(tmp_path)
    assert [row["sums"] for row in first] == ["nearest", "nearest, chunks of 64", "stochastic"]
    assert not (tmp_path / "accumulator.png").exists()
    monkeypatch.setattr(benchmark, "train", train)
    benchmark.main([*SMALLEST, "--mantissa-bits", "2", "--out", str(tmp_path)])
    rows = rows_of(tmp_path)
    assert [row["sums"] for row in rows][:2] == ["float32", "fp8-hybrid, float32 sums"]
    assert rows[2:] == first
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    printed = capsys.readouterr().out
    assert "5 of 5 networks to train" in printed
    assert "2 of 5 networks to train" in printed
    shown = [f"{100 * float(row['accuracy']):.1f}" for row in first]
    assert any(line.split() == ["9", "e6m2ieee", *shown] for line in printed.splitlines())
    assert (tmp_path / "accumulator.png").read_bytes()[1:4] == b"PNG"


def test_every_curve_has_the_operands_of_one_scheme_and_sums_of_its_own(benchmark):
    options = benchmark.parsed([])
    experiments = benchmark.plan(options)
    assert len(experiments) == 3 * len(benchmark.MANTISSA_BITS) + 2
    assert {e.images for e in experiments} == {10_000}
    schemes = {(e.sums, e.mantissa_bits): e.scheme() for e in experiments}
    assert schemes.pop(("float32", 0)) is None
    assert {replace(scheme, arithmetic=None) for scheme in schemes.values()} == {SCHEMES["fp8-hybrid"]}
    assert schemes["nearest, chunks of 64", 5] == SCHEMES["fp8-acc12"]
    assert schemes["stochastic", 10].arithmetic == Arithmetic("e6m10ieee", rounding="stochastic")
    quick = benchmark.parsed(["--quick"])
    assert len(benchmark.plan(quick)) == 8
    assert quick.images == 640


def test_a_file_of_another_kind_is_left_alone(benchmark, tmp_path):
    (tmp_path / "accumulator.csv").write_text("scheme,accuracy\nbf16,0.5\n")
    with pytest.raises(SystemExit, match="is no result of this version"):
        benchmark.main([*SMALLEST, "--out", str(tmp_path)])
    assert (tmp_path / "accumulator.csv").read_text() == "scheme,accuracy\nbf16,0.5\n"
    with pytest.raises(SystemExit):
        benchmark.main(["--epochs", "0"])
