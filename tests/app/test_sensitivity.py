"""lowprec sensitivity: what it measures, writes and refuses."""

import csv
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import lowprec
from lowprec.app import checkpoint, data, loop, models


@pytest.fixture
def trained(train_tiny, tmp_path) -> Path:
    """A run folder, with float32 and one scheme."""
    assert train_tiny("--scheme", "bfp8", "--out", "job").exit_code == 0
    return tmp_path / "job"


def by_hand(file: Path, scheme: lowprec.Scheme | None, layers: set[str]) -> float:
    """The test accuracy with these layers converted, worked out step by step."""
    model = models.mlp()
    model.load_state_dict(safetensors.torch.load_file(file))
    if scheme is not None:
        others = [name for name in ("1", "3", "5") if name not in layers]
        lowprec.convert(model, scheme, exclude=others)
    images = data.load(train_size=200)
    with torch.no_grad():
        return float((model.eval()(images.test_images).argmax(1) == images.test_labels).float().mean())


def test_it_measures_the_float32_network_of_a_run(lowprec_command, trained, tmp_path) -> None:
    options = ["--scheme", "fixed8f4", "--png", "map.png", "--csv", "map.csv"]
    result = lowprec_command("sensitivity", "job", *options)
    assert result.exit_code == 0
    assert "mlp, float32, momentum 0.9, seed 0: accuracy on 2000 test images of the" in result.stderr
    file = trained / "weights" / "float32_momentum0.9_seed0.safetensors"
    scheme = lowprec.Scheme(input="fixed8f4", weight="fixed8f4")
    rows = list(csv.DictReader((tmp_path / "map.csv").read_text().splitlines()))
    assert {row["layer"] for row in rows} == {"1", "3", "5", "(all layers)"}
    for row in rows:
        layers = {"1", "3", "5"} if row["layer"] == "(all layers)" else {row["layer"]}
        assert float(row["value"]) == pytest.approx(by_hand(file, scheme, layers), abs=1e-6)
        baseline = float(row["value"]) - float(row["change"])
        assert baseline == pytest.approx(by_hand(file, None, set()), abs=1e-6)
    assert result.stdout.startswith("baseline 0.")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "map.csv", "map.png"]
    table = csv.DictReader((trained / "results.csv").read_text().splitlines())
    last = [row for row in table if row["scheme"] == "float32"][-1]
    assert baseline == pytest.approx(float(last["test_accuracy"]), abs=1e-9)


def test_the_schemes_of_the_run_and_a_weights_file_are_enough(lowprec_command, trained) -> None:
    weights = "job/weights/bfp8_momentum0.9_seed0.safetensors"
    result = lowprec_command("sensitivity", weights)
    assert result.exit_code == 0
    assert "mlp, bfp8, momentum 0.9, seed 0" in result.stderr
    assert result.stdout.count(" bfp8 ") == 4


def test_weights_elsewhere_are_tested_on_the_bundled_images(lowprec_command, trained, tmp_path) -> None:
    (trained / "weights" / "float32_momentum0.9_seed0.safetensors").rename(tmp_path / "mine.safetensors")
    (tmp_path / "mine.toml").write_text(lowprec.Scheme(weight="e2m1").to_toml())
    result = lowprec_command("sensitivity", "mine.safetensors", "--scheme", "mine.toml")
    assert result.exit_code == 0
    assert result.stdout.count(" mine ") == 4


def refused(lowprec_command, *arguments: str) -> str:
    """The one sentence that a mistake gives."""
    result = lowprec_command("sensitivity", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output
    return result.stderr


def test_what_is_no_run_is_refused(lowprec_command, tmp_path) -> None:
    assert "`RUN` must be a run folder or a file of weights, got 'no'" in refused(lowprec_command, "no")
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "."):
        message = f"`RUN` must be a run folder with a checkpoint.pt, got {folder!r}."
        assert message in refused(lowprec_command, folder)
    (tmp_path / "text").write_text("not weights")
    message = "`RUN` must be a run folder, or a file of weights that lowprec train has written, got 'text'"
    assert message in refused(lowprec_command, "text")
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "foreign")
    assert "Reading it gave KeyError: 'lowprec'" in refused(lowprec_command, "foreign")
    described = json.dumps({"model": "cnn", "run": "mine"})
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other", metadata={"lowprec": described})
    message = refused(lowprec_command, "other", "--scheme", "bfp8")
    assert "`RUN` must have weights that fit the model 'cnn', got 'other'. Error" in message


def test_a_run_that_is_not_what_it_was_is_refused(lowprec_command, trained) -> None:
    file = trained / "checkpoint.pt"
    state = checkpoint.load(file)
    checkpoint.save(file, state | {"fingerprint": "another"})
    message = "`RUN` must find the images that it was trained on in the bundled subset, got 'job'. Restore"
    assert message in refused(lowprec_command, "job")
    checkpoint.save(file, state | {"schemes": {}})
    assert "`--scheme` must name a scheme where the run has none, got" in refused(lowprec_command, "job")
    for weights in (trained / "weights").glob("float32*"):
        weights.unlink()
    message = (
        "`RUN` must hold the weights of a float32 run, got 'job'. Finish it with: lowprec train --resume job"
    )
    assert message in refused(lowprec_command, "job")


def test_options_are_checked(lowprec_command, trained, tmp_path) -> None:
    def message(*options: str) -> str:
        return refused(lowprec_command, "job", *options)

    assert "`--scheme` must be a scheme's name or a format" in message("--scheme", "fp9")
    assert "`--scheme` must be an existing file, got 'no.toml'" in message("--scheme", "no.toml")
    assert "`--scheme` must name each scheme once" in message("--scheme", "bfp8", "--scheme", "bfp8")
    assert "`--png` must be a file, got 'job'" in message("--png", "job")
    assert "`--png` must be a file that ends in .png, got 'map.jpg'" in message("--png", "map.jpg")
    assert "`--csv` must be a file that can be written (" in message("--csv", "no/where.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_an_interrupt_and_a_full_disk_end_with_a_sentence(lowprec_command, trained, monkeypatch) -> None:
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lowprec.files.write", full)
    result = lowprec_command("sensitivity", "job", "--csv", "map.csv")
    assert result.exit_code == 1
    assert "Error: [Errno 28] No space left on device" in result.stderr
    assert result.stdout.startswith("baseline")
    monkeypatch.setattr(loop, "evaluate", stopped)
    result = lowprec_command("sensitivity", "job")
    assert result.exit_code == 130
    assert result.stderr.endswith("Stopped. Nothing was written.\n")
