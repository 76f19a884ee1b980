"""What the command line refuses, and the small commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lowprec
from lowprec.app import checkpoint, loop


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "`--seeds` must be at least 1, got 0."),
        (["--lr", "nan"], "`--lr` must be a positive number, got nan."),
        (["--model", "vgg"], "`--model` must be mlp, cnn, resnet20 or package.module:factory"),
        (["--scheme", "fp9"], "`--scheme` must be a known name or a TOML file, got 'fp9'."),
        (["--scheme", "no.toml"], "`--scheme` must be an existing file, got 'no.toml'."),
        (["--data", "nowhere"], "`--data` must be a folder, got '"),
        (["--train-size", "10001"], "`--train-size` must be at most the 10000 images, got 10001."),
        (["--train-size", "9", "--batch-size", "10"], "must be at most the 9 training images"),
        (["--loss-scale", "2", "--scheme", "float32"], "`--loss-scale` must have a scheme besides"),
    ],
)
def test_bad_options_end_with_one_sentence_and_touch_nothing(lowprec_command, tmp_path, options, message):
    result = lowprec_command("train", *options, "--out", "job")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_a_scheme_cannot_treat_is_found_before_training(lowprec_command, tmp_path):
    (tmp_path / "recurrent_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lstm, self.head = nn.LSTM(28, 8, batch_first=True), nn.Linear(8, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.lstm(x[:, 0])[0][:, -1])\n"
    )
    options = ["--model", "recurrent_net:Net", "--scheme", "bfp8", "--out", "job"]
    result = lowprec_command("train", *options)
    assert result.exit_code == 2
    assert "lstm" in result.stderr
    assert not (tmp_path / "job").exists()


def test_the_run_folder_must_be_empty(lowprec_command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = lowprec_command("train", "--out", "mine")
    assert result.exit_code == 2
    assert "`--out` must be an empty or a new folder, got 'mine'. Continue a job in it with" in (
        result.stderr
    )
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_found_before_training(lowprec_command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in ("file", "file/job"):
        result = lowprec_command("train", "--scheme", "float32", "--out", out)
        assert result.exit_code == 2
        assert "`--out` must be a folder that can be written (" in result.stderr
        assert f"got {str(Path(out))!r}." in result.stderr
        assert "Traceback" not in result.output
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_that_cannot_be_written_is_found_before_training(lowprec_command, monkeypatch):
    def refused(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint, "write", refused)
    result = lowprec_command("train", "--scheme", "float32", "--out", "job")
    assert result.exit_code == 2
    assert "`--out` must be a folder that can be written (Permission denied), got 'job'." in result.stderr


def test_a_full_disk_says_how_to_go_on(train_tiny, monkeypatch, tmp_path):
    write, advance = checkpoint.write, loop.Training.advance

    def full(path, content):
        raise OSError(28, "No space left on device")

    def filling(self):
        monkeypatch.setattr(checkpoint, "write", full)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "advance", filling)
        result = train_tiny("--scheme", "float32", "--out", "job")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "Go on with: lowprec train --resume job" in result.stderr
    monkeypatch.setattr(checkpoint, "write", write)
    assert train_tiny("--resume", "job").exit_code == 0


def test_formats_lists_every_name(lowprec_command):
    result = lowprec_command("formats")
    assert result.exit_code == 0
    for text in ("e4m3fn", "448", "bfloat16", "fixed8f7", "0.0078125", "bfp8<group32>"):
        assert text in result.stdout


def test_show_draws_a_format(lowprec_command):
    result = lowprec_command("show", "e4m3fn")
    assert result.exit_code == 0
    for text in ("448.0", "0.001953125", "0x7c", "Number line"):
        assert text in result.stdout


def test_show_suggests_names(lowprec_command):
    result = lowprec_command("show", "e4m3")
    assert result.exit_code == 2
    assert "Use 'e4m3fn' (max 448) or 'e4m3ieee' (max 240)" in result.stderr


def test_info_tells_what_a_bug_report_needs(lowprec_command):
    result = lowprec_command("info")
    assert result.exit_code == 0
    for name in ("python", "torch", "numba", "threads", "threading layer", "cache", "cuda"):
        assert name in result.stdout


def test_version(lowprec_command):
    result = lowprec_command("--version")
    assert result.exit_code == 0
    assert result.stdout == f"lowprec {lowprec.__version__}\n"


def test_a_terminal_without_the_signs_shows_others():
    environment = os.environ | {
        "PYTHONPATH": str(Path(lowprec.__file__).parents[1]),
        "PYTHONIOENCODING": "ascii",
    }
    done = subprocess.run(
        [sys.executable, "-m", "lowprec.app.cli", "show", "bfp4"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "@" in done.stdout
    assert "█" not in done.stdout
