"""A job that was stopped, in whatever way, ends with the bytes of one that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lowprec
from lowprec.app import checkpoint, lock, loop, train
from lowprec.app.settings import Settings

WATCHED = Path(__file__).with_name("watched_train.py")
JOB = [
    "--model", "mlp", "--train-size", "640", "--epochs", "2", "--threads", "1",
    "--scheme", "bfp8-sr", "--scheme", "fixed8-sr", "--checkpoint-seconds", "0",
]  # fmt: skip
STEPS = 4 * 2 * 10


def watched(stalled_write: int, *arguments: str) -> subprocess.Popen:
    """The command in a process of its own, which tells of each step."""
    root = str(Path(lowprec.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, str(WATCHED), str(stalled_write), "train", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def kill_after(process: subprocess.Popen, num_lines: int) -> None:
    """Kill it, without a chance to clean up, when it has told so much."""
    for _ in range(num_lines):
        if not process.stdout.readline():
            pytest.fail(process.communicate()[1])
    process.kill()
    process.communicate()


def outcome(folder: Path) -> dict[str, bytes]:
    """The bytes that must not depend on how a job was stopped."""
    paths = [folder / "results.csv", folder / "layers.csv", *(folder / "weights").iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def test_a_killed_job_resumes_bit_for_bit(lowprec_command, tmp_path):
    result = lowprec_command("train", *JOB, "--out", "whole")
    assert result.exit_code == 0, result.output

    rng = random.Random(20)
    first, second = rng.randrange(2, STEPS // 3), rng.randrange(2, STEPS // 3)
    write = rng.randrange(2, 8)
    moments = f"killed after {first} steps, {second} more, and within write {write} after that"
    print(moments)  # noqa: T201  to repeat it by hand
    folder = tmp_path / "killed"
    kill_after(watched(0, *JOB, "--out", str(folder)), first)
    kill_after(watched(0, "--resume", str(folder)), second)
    stalled = watched(write, "--resume", str(folder))
    while (line := stalled.stdout.readline()) == "step\n":
        pass
    assert line == "writing\n", stalled.communicate()[1]
    stalled.kill()
    stalled.communicate()
    assert (folder / "checkpoint.pt.tmp").exists()
    assert not list((folder / "weights").glob("fixed8-sr*"))

    result = lowprec_command("train", "--resume", str(folder))
    assert result.exit_code == 0, result.output
    assert outcome(folder) == outcome(tmp_path / "whole")
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("scheme", ["float32", "fp8-hybrid", "bfp8-sr", "fixed8", "fixed8-sr"])
def test_ctrl_c_keeps_every_step_and_says_how_to_go_on(train_tiny, monkeypatch, tmp_path, scheme):
    options = ["--scheme", scheme, "--checkpoint-seconds", "1000"]
    whole = train_tiny(*options, "--out", "whole")
    assert whole.exit_code == 0, whole.output

    advance = loop.Training.advance
    steps = 0

    def interrupted(self):
        nonlocal steps
        steps += 1
        if steps in (7, 19, 33):
            signal.raise_signal(signal.SIGINT)
        return advance(self)

    monkeypatch.setattr(loop.Training, "advance", interrupted)
    result = train_tiny(*options, "--out", "stopped")
    for _ in range(2 if scheme == "float32" else 3):
        assert result.exit_code == 130
        assert "Stopped. Go on with: lowprec train --resume stopped" in result.stderr
        result = train_tiny_resume(train_tiny)
    assert result.exit_code == 0, result.output
    assert steps == (20 if scheme == "float32" else 40)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def train_tiny_resume(train_tiny):
    """The options of the tiny job are the folder's own, so they may be given again."""
    return train_tiny("--resume", "stopped")


def test_a_second_ctrl_c_stops_at_once(train_tiny, monkeypatch):
    def stubborn(self):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    monkeypatch.setattr(loop.Training, "advance", stubborn)
    result = train_tiny("--scheme", "float32", "--out", "job")
    assert result.exit_code == 130
    assert "--resume job" in result.stderr
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_job_shows_its_results_again(train_tiny, tmp_path):
    assert train_tiny("--scheme", "float32", "--out", "job").exit_code == 0
    before = outcome(tmp_path / "job")
    (tmp_path / "job" / "results.csv").unlink()
    result = train_tiny("--resume", "job")
    assert result.exit_code == 0
    assert "Results" in result.stdout
    assert outcome(tmp_path / "job") == before


def test_a_folder_whose_job_is_running_is_refused_until_it_is_killed(lowprec_command, tmp_path):
    folder = tmp_path / "job"
    running = watched(2, *JOB, "--out", str(folder))
    while (line := running.stdout.readline()) == "step\n":
        pass
    assert line == "writing\n", running.communicate()[1]
    before = (folder / "checkpoint.pt").read_bytes()
    result = lowprec_command("train", "--resume", str(folder))
    assert result.exit_code == 2
    must = f"`--resume` must name a folder whose job is not running, got {str(folder)!r}."
    assert f"{must} Wait for it, or stop it." in result.stderr
    running.kill()
    running.communicate()
    assert (folder / "checkpoint.pt").read_bytes() == before
    train.resumed(str(folder), {}).close()


def test_a_refused_folder_is_not_held(stopped):
    for _ in range(2):
        with pytest.raises(ValueError, match="`--resume` must keep the settings of the job"):
            train.resumed(str(stopped), {"lr": 0.5})
    lock.taken(stopped, "--resume").release()


def test_two_jobs_cannot_begin_in_one_folder(lowprec_command, tmp_path):
    held = lock.taken(tmp_path, "--out")
    with pytest.raises(ValueError, match=r"`--out` must name a folder whose job is not running, got"):
        train.new(Settings(scheme=("float32",)), str(tmp_path))
    held.release()
    assert [path.name for path in tmp_path.iterdir() if path.name != lock.LOCK] == []
    train.new(Settings(scheme=("float32",)), str(tmp_path)).close()
    train.resumed(str(tmp_path), {}).close()


@pytest.fixture
def stopped(train_tiny, monkeypatch, tmp_path):
    """The folder of a job stopped in its first epoch."""
    advance = loop.Training.advance

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "advance", interrupted)
        assert train_tiny("--scheme", "bf16", "--out", "job").exit_code == 130
    return tmp_path / "job"


def test_a_removed_folder_of_weights_is_made_again(train_tiny, monkeypatch, tmp_path):
    advance = loop.Training.advance

    def interrupted(self):
        if self.run.scheme == "bf16":
            signal.raise_signal(signal.SIGINT)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "advance", interrupted)
        assert train_tiny("--scheme", "bf16", "--out", "job").exit_code == 130
    shutil.rmtree(tmp_path / "job" / "weights")
    result = train_tiny("--resume", "job")
    assert result.exit_code == 0, result.output
    assert [path.stem for path in (tmp_path / "job" / "weights").iterdir()] == ["bf16_momentum0.9_seed0"]


def test_settings_that_differ_from_the_jobs_are_named(lowprec_command, stopped):
    before = (stopped / "checkpoint.pt").read_bytes()
    result = lowprec_command("train", "--resume", "job", "--lr", "0.5", "--epochs", "2", "--scheme", "bfp8")
    assert result.exit_code == 2
    assert "`--resume` must keep the settings of the job (--lr is 0.05, got 0.5; --scheme is" in result.stderr
    assert "got ('bfp8',)), got 'job'. Drop them." in result.stderr
    result = lowprec_command("train", "--resume", "job", "--out", "other")
    assert result.exit_code == 2
    assert "`--out` must be left out with --resume, got 'other'. The job writes to job." in result.stderr
    assert (stopped / "checkpoint.pt").read_bytes() == before


def test_a_damaged_checkpoint_is_named_and_left_alone(lowprec_command, stopped):
    path = stopped / "checkpoint.pt"
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    result = lowprec_command("train", "--resume", "job")
    assert result.exit_code == 2
    must = "`--resume` must have an undamaged checkpoint (its SHA-256 differs)"
    assert f"{must}, got {str(Path('job', 'checkpoint.pt'))!r}. Nothing was changed." in result.stderr
    assert path.read_bytes() == damaged


def test_other_images_or_another_model_are_refused(lowprec_command, stopped):
    state = checkpoint.load(stopped / "checkpoint.pt")
    checkpoint.save(stopped / "checkpoint.pt", state | {"fingerprint": "0" * 64})
    result = lowprec_command("train", "--resume", "job")
    assert result.exit_code == 2
    assert "`--resume` must find the images that the job was trained on in the bundled" in result.stderr
    other = state["settings"] | {"model": "cnn"}
    checkpoint.save(stopped / "checkpoint.pt", state | {"settings": other})
    result = lowprec_command("train", "--resume", "job")
    assert result.exit_code == 2
    assert "`--resume` must have a checkpoint that fits the model (" in result.stderr


def test_a_job_whose_layers_were_not_counted_is_refused(lowprec_command, stopped):
    state = checkpoint.load(stopped / "checkpoint.pt")
    del state["moments"]
    checkpoint.save(stopped / "checkpoint.pt", state)
    result = lowprec_command("train", "--resume", "job")
    assert result.exit_code == 2
    assert "`--resume` must name a job that this version began, got 'job'. Its layers were not counted" in (
        result.stderr
    )


def test_a_folder_without_a_checkpoint_is_refused(lowprec_command):
    result = lowprec_command("train", "--resume", "nowhere")
    assert result.exit_code == 2
    assert "`--resume` must be a run folder with a checkpoint.pt, got 'nowhere'." in result.stderr
