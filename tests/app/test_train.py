"""A job from the command to its files."""

import csv
import io
import json
import math
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from rich.console import Console

import lowprec
from lowprec.app import loop
from lowprec.app.cli import app  # noqa: F401  the command exists before a job is trained
from lowprec.app.lock import LOCK
from lowprec.app.models import cnn, mlp
from lowprec.app.report import tables
from lowprec.app.results import ROLES, Summary
from lowprec.scheme import SCHEMES, Scheme


def rows_of(folder: Path, name: str = "results.csv") -> list[dict[str, str]]:
    """The CSV as dictionaries."""
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def job(train_tiny, tmp_path):
    """A finished job: the default schemes, two seeds."""
    result = train_tiny("--seeds", "2", "--out", "job")
    assert result.exit_code == 0, result.output
    return result, tmp_path / "job"


def test_a_job_leaves_its_files_and_shows_its_tables(job):
    result, folder = job
    assert sorted(p.name for p in folder.iterdir() if p.name != LOCK) == [
        "checkpoint.pt", "layers.csv", "learning_curves.png", "results.csv", "schemes", "weights",
    ]  # fmt: skip

    rows = rows_of(folder)
    names = ["fp8-hybrid", "bfp8-sr", "fixed8", "fixed8-sr"]
    assert [(r["scheme"], r["momentum"], r["seed"], r["epoch"]) for r in rows] == [
        (scheme, momentum, seed, epoch)
        for seed in "01"
        for momentum, members in (("0.9", names[:2]), ("0.0", names[2:]))
        for scheme in ["float32", *members]
        for epoch in "12"
    ]
    for row in rows:
        assert 0 <= float(row["test_accuracy"]) <= 1
        assert float(row["train_loss"]) > 0
        counted = [role for role in ROLES if row[f"{role}_count"] not in ("", "0")]
        scheme = SCHEMES.get(row["scheme"], Scheme())  # float32 has no casts
        assert counted == [
            role
            for role in ROLES
            if getattr(scheme, role) is not None and (role, row["momentum"]) != ("state", "0.0")
        ]
        assert all(int(row[f"{r}_saturated"]) <= int(row[f"{r}_count"]) for r in counted)

    width, height = struct.unpack(">II", (folder / "learning_curves.png").read_bytes()[16:24])
    assert width > height > 400  # two panels side by side
    for name in names:
        assert Scheme.from_toml(folder / "schemes" / f"{name}.toml") == SCHEMES[name]

    for text in ("Results", "test accuracy", "±", "slowdown", "loss scale 1024"):
        assert text in result.stdout
    for name in ["float32", *names]:
        assert name in result.stdout
    assert "e4m3fn" in result.stdout
    assert "fixed8f7" in result.stdout


def test_layers_add_up_to_the_roles_of_the_results(job):
    _, folder = job
    rows = rows_of(folder, "layers.csv")
    assert list(rows[0]) == [
        "scheme", "momentum", "seed", "first_step", "last_step", "layer", "role", "count", "saturated",
        "underflowed", "nan", "sqnr_db",
    ]  # fmt: skip
    assert {row["scheme"] for row in rows} == {"fp8-hybrid", "bfp8-sr", "fixed8", "fixed8-sr"}
    assert {(row["first_step"], row["last_step"]) for row in rows} == {("0", "0"), ("16", "16")}
    for run in rows_of(folder):  # ten steps an epoch: the first and the second have one sample each
        first = {"1": "0", "2": "16"}[run["epoch"]]
        own = [r for r in rows if (r["scheme"], r["momentum"], r["seed"], r["first_step"])
               == (run["scheme"], run["momentum"], run["seed"], first)]  # fmt: skip
        for role in ROLES:
            for name in ("count", "saturated", "underflowed", "nan"):
                total = sum(int(r[name]) for r in own if r["role"] == role)
                assert total == int(run[f"{role}_{name}"] or 0)
    for row in rows:
        assert row["sqnr_db"] == "" or float(row["sqnr_db"]) > -10


def test_the_weights_are_those_of_the_last_step(job):
    _, folder = job
    files = sorted(p.name for p in (folder / "weights").iterdir())
    assert len(files) == 12
    content = (folder / "weights" / "fixed8-sr_momentum0.0_seed1.safetensors").read_bytes()
    weights = safetensors.torch.load(content)
    assert set(weights) == set(mlp().state_dict())
    for tensor in weights.values():  # on the grid of the stored weights, and not all zero
        assert torch.equal(tensor * 128, (tensor * 128).round())
        assert tensor.any()
    size = struct.unpack("<Q", content[:8])[0]
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    assert json.loads(metadata["lowprec"])["run"] == "fixed8-sr, momentum 0, seed 1"


def test_equal_jobs_give_equal_bytes_and_a_run_does_not_depend_on_the_others(job, train_tiny):
    _, folder = job
    result = train_tiny("--seeds", "2", "--out", "again", "--scheme", "bfp8-sr")
    assert result.exit_code == 0, result.output
    again = folder.with_name("again")
    lines = (folder / "results.csv").read_text().splitlines()
    expected = [line for line in lines if line.startswith(("scheme,", "bfp8-sr,", "float32,0.9,"))]
    assert (again / "results.csv").read_text().splitlines() == expected
    lines = (folder / "layers.csv").read_text().splitlines()
    expected = [line for line in lines if line.startswith(("scheme,", "bfp8-sr,"))]
    assert (again / "layers.csv").read_text().splitlines() == expected
    for path in (again / "weights").iterdir():
        assert path.read_bytes() == (folder / "weights" / path.name).read_bytes()


def test_runs_of_a_seed_begin_equal_and_see_the_images_in_one_order(monkeypatch, train_tiny):
    seen = {}
    step = loop.Training._step

    def spy(self, images, labels):
        run = self.run
        seen.setdefault(run, []).append(labels.clone())
        if len(seen[run]) == 1:
            seen[run].insert(0, self.model[1].bias.detach().clone())
        return step(self, images, labels)

    monkeypatch.setattr(loop.Training, "_step", spy)
    assert train_tiny("--scheme", "bfp8", "--seeds", "2").exit_code == 0
    runs = list(seen)
    assert [run.scheme for run in runs] == ["float32", "bfp8"] * 2
    for plain, low in ((runs[0], runs[1]), (runs[2], runs[3])):
        assert all(torch.equal(a, b) for a, b in zip(seen[plain][1:], seen[low][1:], strict=True))
    first, second = seen[runs[0]], seen[runs[2]]
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(torch.cat(first[1:11]), torch.cat(second[1:11]))
    epochs = torch.cat(first[1:11]), torch.cat(first[11:21])
    assert not torch.equal(*epochs)
    assert torch.equal(epochs[0].sort().values, epochs[1].sort().values)


def test_the_options_reach_the_run(monkeypatch, train_tiny, tmp_path):
    (tmp_path / "own_tiny_net.py").write_text("from lowprec.app.models import mlp as make\n")
    (tmp_path / "mine.toml").write_text(SCHEMES["fp8-hybrid"].to_toml())
    made = []
    create = loop.Training.__init__

    def spy(self, run, settings, build_model, scheme, data):
        create(self, run, settings, build_model, scheme, data)
        group = self.optimizer.param_groups[0]
        scale = None if scheme is None else scheme.loss_scale
        threads = torch.get_num_threads()
        made.append((run.scheme, group["lr"], group["momentum"], scale, self.num_steps, threads))

    monkeypatch.setattr(loop.Training, "__init__", spy)
    result = train_tiny(
        "--model", "own_tiny_net:make", "--scheme", "mine.toml", "--loss-scale", "32",
        "--lr", "0.25", "--momentum", "0.5", "--batch-size", "64", "--epochs", "1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert made == [("float32", 0.25, 0.5, None, 4, 1), ("mine", 0.25, 0.5, 32.0, 4, 1)]
    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("_own_tiny_net.make")


def test_a_diverging_run_is_shown_as_it_is(train_tiny):
    result = train_tiny("--scheme", "float32", "--lr", "1e6", "--out", "job")
    assert result.exit_code == 0, result.output
    assert "nan" in result.stdout


def test_one_step_is_too_few_for_a_slowdown(train_tiny):
    result = train_tiny("--scheme", "float32", "--train-size", "20", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "not timed" in result.stdout


def test_nan_is_counted_in_the_table():
    summary = Summary("bf16", 0.9, (0.1,), (math.nan,), 1.0, {"input": [200, 0, 1, 50]})
    console = Console(width=110, file=io.StringIO())
    console.print(tables([summary], {"bf16": SCHEMES["bf16"]}))
    text = console.file.getvalue()
    [head] = [line.split() for line in text.splitlines() if "saturated" in line]
    assert head[-3:] == ["saturated", "underflow", "NaN"]
    [shares] = [line for line in text.splitlines() if "25.00 %" in line]
    assert shares.split()[-6:] == ["0", "%", "0.50", "%", "25.00", "%"]


def test_a_scheme_with_an_arithmetic_trains(train_tiny, tmp_path):
    """Few images are learned, in sums of twelve bits as in float32."""
    result = train_tiny("--scheme", "fp8-acc12", "--out", "job")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "job")
    losses = {row["scheme"]: float(row["train_loss"]) for row in rows if row["epoch"] == "2"}
    assert losses["fp8-acc12"] == pytest.approx(losses["float32"], rel=0.1)
    assert losses["fp8-acc12"] != losses["float32"]
    assert "e6m5ieee nearest_even, fused, sequential in chunks of 64" in " ".join(result.stdout.split())


@pytest.mark.slow
def test_the_network_of_the_readme_trains_in_sums_of_twelve_bits(lowprec_command, tmp_path):
    """All three products of every layer are simulated; the accuracy is float32's but for its noise.

    Of 2000 test images the standard error of an accuracy is 0.9 %.
    """
    audit = lowprec.audit(lowprec.convert(cnn(), "fp8-acc12"), torch.randn(2, 1, 28, 28))
    assert len(audit.products) == 11
    assert all("sum e6m5ieee" in product.how for product in audit.products)
    result = lowprec_command("train", "--scheme", "fp8-acc12", "--epochs", "1", "--out", "job")
    assert result.exit_code == 0, result.output
    accuracy = {row["scheme"]: float(row["test_accuracy"]) for row in rows_of(tmp_path / "job")}
    assert abs(accuracy["fp8-acc12"] - accuracy["float32"]) < 0.03
