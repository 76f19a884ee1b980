"""The commands that look at numbers: compare, search, and show with a picture."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lowprec
from lowprec import explore

DATA = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def files(tmp_path):
    """The same tensor in every kind of file."""
    np.save(tmp_path / "x.npy", DATA.numpy())
    np.savez(tmp_path / "x.npz", a=DATA.numpy(), b=np.ones(4, np.float32), n=np.arange(3))
    save_file({"a": DATA, "b": torch.ones(4), "half": DATA.bfloat16()}, tmp_path / "x.safetensors")
    lowprec.save_packed({"a": DATA}, tmp_path / "packed.safetensors", "binary32")


def test_a_sample_without_a_file(lowprec_command):
    result = lowprec_command("compare", "e4m3fn", "e2m1")
    sample = torch.randn(65536, generator=torch.Generator().manual_seed(0))
    assert result.stdout == f"{explore.compare(['e4m3fn', 'e2m1'], sample)}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--data", "x.npy"],
        ["--data", "x.npz", "--tensor", "a"],
        ["--data", "x.safetensors", "--tensor", "a"],
        ["--data", "packed.safetensors"],
    ],
)
def test_every_kind_of_file(lowprec_command, files, options):
    result = lowprec_command("compare", "e2m1", "--csv", "out.csv", *options)
    assert result.exit_code == 0, result.stderr
    with open("out.csv", encoding="utf-8") as file:  # noqa: PTH123  # the folder is the test's own
        row = next(csv.DictReader(file))
    assert float(row["SQNR (dB)"]) == explore.compare("e2m1", DATA)["SQNR (dB)"][0]


def test_all_tensors_of_a_file(lowprec_command, files):
    whole = lowprec_command("compare", "e2m1", "--data", "x.npz")
    assert "516 values of 2 tensors" in whole.stdout
    each = lowprec_command("compare", "e2m1", "--data", "x.safetensors", "--by-tensor", "--png", "p.png")
    assert [line.split()[1] for line in each.stdout.splitlines()[1:4]] == ["a", "b", "half"]
    stochastic = lowprec_command("compare", "e2m1", "--data", "x.npy", "--rounding", "stochastic")
    assert "rounded stochastic" in stochastic.stdout


def test_search(lowprec_command, files):
    result = lowprec_command(
        "search", "--data", "x.npy", "--bits", "4.5", "--family", "floating", "--scaled", "group16", "--rows",
        "3", "--metric", "mean_absolute", "--csv", "out.csv",
    )  # fmt: skip
    expected = explore.search(
        DATA, 4.5, families=["floating"], scaled=["group16"], rows=3, metric="mean_absolute"
    )
    assert result.stdout == f"{expected}\n"
    with open("out.csv", encoding="utf-8") as file:  # noqa: PTH123
        assert file.read() == expected.to_csv()


def test_pictures_are_written(lowprec_command, tmp_path):
    shown = lowprec_command("show", "e2m1", "--png", "format.png")
    assert shown.exit_code == 0
    assert "Number line" in shown.stdout
    compared = lowprec_command("compare", "e2m1", "binary32", "e5m2", "--png", "compared.png")
    assert compared.exit_code == 0
    for name in ("format.png", "compared.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "e9m9"], "`format` must be a known name, got 'e9m9'"),
        (["compare", "e2m1", "--data", "x.txt"], "`--data` must be a file of .npy, .npz, .safetensors, got"),
        (["compare", "e2m1", "--data", "no.npy"], "`--data` must be an existing file, got 'no.npy'"),
        (["compare", "e2m1", "--data", "bad.npy"],
         "`--data` must be a whole file of its kind (it holds no plain arrays), got 'bad.npy'."),
        (["compare", "e2m1", "--data", "bad.npz"], "its kind (it holds no plain arrays), got 'bad.npz'."),
        (["compare", "e2m1", "--data", "cut.npz"], "its kind (File is not a zip file), got 'cut.npz'."),
        (["compare", "e2m1", "--data", "bad.safetensors"], "`--data` must be a whole file of its kind ("),
        (["compare", "e2m1", "--tensor", "a"], "`--tensor` must be left out without --data"),
        (["compare", "e2m1", "--data", "x.npy", "--tensor", "a"], "`--tensor` must be left out for a file"),
        (["compare", "e2m1", "--data", "x.npz", "--tensor", "c"], "`--tensor` must name a tensor of the"),
        (["compare", "e2m1", "--by-tensor"], "`--by-tensor` must be left out where there is one tensor"),
        (["compare", "e2m1", "--png", "p.xyz"], "`--png` must be a file that ends in .png, got 'p.xyz'"),
        (["search", "--bits", "40"], "`--bits` must lie between 2 and 16, got 40"),
        (["search", "--metric", "l2"], "`--metric` must be one of sqnr, mean_absolute"),
        (["search", "--rows", "0"], "`--rows` must lie between 1 and 1000, got 0"),
        (["search", "--scaled", "channel7"], "`--scaled` must name granularities that fit into the shape"),
        (["search", "--scaled", "row"], "`--scaled` must name granularities, got 'row'"),
        (["compare", "e2m1", "--rounding", "best"], "`--rounding` must be a known name, got 'best'"),
        (["search", "--family", "fp"], "`--family` must be some of"),
        (["show", "fixedf2<unbounded>", "--png", "p.png"], "`format` must have a largest value"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_sentence(lowprec_command, files, tmp_path, arguments, message):
    for suffix in ("npy", "npz", "safetensors"):
        (tmp_path / f"bad.{suffix}").write_bytes(b"nothing of the kind")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    result = lowprec_command(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stderr.startswith("Error: ")
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "e2m1", "--png", "no/p.png"],
        ["compare", "e2m1", "--csv", "no/p.csv"],
        ["search", "--csv", "no/p.csv"],
        ["show", "e2m1", "--png", "no/p.png"],
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(lowprec_command, arguments):
    result = lowprec_command(*arguments)
    *_, option, file = arguments
    assert result.exit_code == 2
    assert result.stdout == ""
    assert " ".join(result.stderr.split()) == (
        f"Error: `{option}` must be a file that can be written (No such file or directory), got "
        f"{str(Path(file))!r}."
    )


def test_the_text_of_show_is_what_explore_has(lowprec_command):
    shown = lowprec_command("show", "e2m1")
    assert explore.text.number_line("e2m1", width=80).splitlines()[0] in shown.stdout
    assert io.StringIO(shown.stdout).readline().strip() == "e2m1"
