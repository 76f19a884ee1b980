"""The page of a run: well-formed, harmless, whole, and saying what is not there."""

import itertools
import math
import os
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folders import LAYER_COLUMNS, VERSIONS, write_layers, write_run

import lowprec
from lowprec.app import checkpoint
from lowprec.app.page import curves, folder, heatmap
from lowprec.app.page.layers import Moment, pooled, read_layers
from lowprec.app.results import Point
from lowprec.scheme import SCHEMES, Scheme

VOID = {"meta", "br"}
EVIL = '<script>alert(1)</script><img src="http://a.example/x">&"\''


class Outline(HTMLParser):
    """What a page is made of; complains of tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.headings = [], [], "", []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), [*self.open]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), [*self.open]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes, _ in self.tags if name == tag]


@pytest.fixture
def report(lowprec_command):
    """Makes the page of a folder and reads it."""

    def make(path: Path, *options: str) -> Outline:
        result = lowprec_command("report", str(path), *options)
        assert result.exit_code == 0, result.output
        return Outline((path / "report.html").read_text(encoding="utf-8"))

    return make


@pytest.fixture
def run(tmp_path):
    path = write_run(tmp_path / "run", seeds=2, broken="fixed8")
    write_layers(path)
    return path


def test_the_page_is_well_formed_and_stands_alone(run, report):
    page = report(run)
    names = {name for name, _, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form", "base"}
    for _, attributes, _ in page.tags:
        assert not set(attributes) & {"src", "href", "srcset", "style", "onload", "onclick"}
    source = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|<link", source)
    assert page.all("html")[0]["lang"] == "en"
    [policy] = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'")

    ids = [attributes["id"] for _, attributes, _ in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.tags:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)

    tables = page.all("table")
    assert len(tables) > 8
    assert len(page.all("caption")) == len(tables)
    for name, attributes, parents in page.tags:
        assert name != "caption" or parents[-1] == "table"
        drawn = name == "svg" and attributes.get("aria-hidden") != "true"
        assert not drawn or attributes["role"] == "img"
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(page.headings))


def test_every_section_is_there_and_says_what_the_folder_says(run, report):
    page = report(run)
    sections = [attributes["id"] for attributes in page.all("section")]
    assert sections == ["results", "curves", "lost", "layers", "schemes", "settings", "repeat"]
    text = re.sub(r"\s+", " ", page.text)
    assert "Unfinished" not in text
    assert "mlp on the Fashion-MNIST subset" in text
    for found in (
        "70.5 ± 0.7 %",
        "0.550 ± 0.071",
        "2 of 2",
        "nan",
        "fixed8: not finite in epoch 2 and later",
    ):
        assert found in text
    for found in ("e4m3fn nearest_even", "1.00 %", "2.50 %", "9.38 %", "loss scale 1024"):
        assert found in text
    for name in ("fp8-hybrid", "fixed8"):
        assert SCHEMES[name].to_toml().strip().replace("\n", " ") in text
        assert (run / "schemes" / f"{name}.toml").read_text(encoding="utf-8") in page.text
    for version in VERSIONS.values():
        assert version in text
    assert "Versions of the run" in text
    assert checkpoint.load(run / "checkpoint.pt")["fingerprint"] in text
    assert "--batch-size 64" in text
    assert "2: 0, 1" in text


def test_equal_folders_give_equal_pages_and_nothing_else_is_touched(run, report):
    report(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    report(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_signs_of_html_in_names_are_shown_and_harmless(tmp_path, report):
    path = write_run(tmp_path / "run")
    write_layers(path, layers=(EVIL,))
    state = checkpoint.load(path / "checkpoint.pt")
    state["schemes"] = {EVIL: state["schemes"]["fp8-hybrid"], "fixed8": state["schemes"]["fixed8"]}
    state["settings"] |= {"model": EVIL, "data": EVIL, "scheme": [EVIL, "fixed8"]}
    state["fingerprint"] = EVIL
    state["versions"] = [{EVIL: EVIL}]
    checkpoint.save(path / "checkpoint.pt", state)
    page = report(path)
    names = {name for name, _, _ in page.tags}
    assert not names & {"script", "img"}
    assert page.text.count(EVIL) > 6


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path, report):
    path = write_run(tmp_path / "run", finished=2, seeds=2)
    state = checkpoint.load(path / "checkpoint.pt")
    state["current"] = {"steps_done": 3}
    state["rows"].append(state["rows"][0] | {"run": 2, "test_accuracy": 0.25})
    checkpoint.save(path / "checkpoint.pt", state)
    page = report(path)
    text = re.sub(r"\s+", " ", page.text)
    assert "Unfinished: 2 of 8 runs are trained, and 3 steps of float32, momentum 0, seed 0." in text
    assert "lowprec train --resume" in text
    assert "1 of 2" in text
    assert "0 of 2" in text
    assert "±" not in text  # of one seed there is no spread
    assert "Momentum 0, by epoch" in text  # its first epoch is drawn
    assert "layer by layer" not in text


def test_a_run_that_has_just_begun_has_no_results_yet(tmp_path, report):
    path = write_run(tmp_path / "run", finished=0)
    state = checkpoint.load(path / "checkpoint.pt")
    del state["versions"]
    checkpoint.save(path / "checkpoint.pt", state)
    page = report(path)
    assert "0 of 4 runs are trained" in page.text
    assert "No epoch is finished yet." in page.text
    assert "Versions at the time of the report; the run's own were not recorded" in page.text
    assert lowprec.__version__ in page.text


def test_float32_alone_has_no_schemes_and_no_losses(tmp_path, report):
    page = report(write_run(tmp_path / "run", scheme=("float32",)))
    assert [attributes["id"] for attributes in page.all("section")] == [
        "results", "curves", "settings", "repeat",
    ]  # fmt: skip


def test_versions_of_a_resumed_run_stand_beside_each_other(tmp_path, report):
    path = write_run(tmp_path / "run")
    state = checkpoint.load(path / "checkpoint.pt")
    checkpoint.save(path / "checkpoint.pt", state | {"versions": [{}, {"torch": "3.1"}, {"torch": "3.2"}]})
    text = re.sub(r"\s+", " ", report(path).text)
    assert "Versions of the run, which was resumed with others" in text
    assert "of part 1 part 2 part 3" in text.replace("part", " part").replace("  ", " ")
    assert all(found in text for found in ("not recorded", "3.1", "3.2"))


def test_the_command_on_the_page_repeats_the_run(lowprec_command, tmp_path, report):
    (tmp_path / "mine of old.toml").write_text(Scheme(input="e4m3fn").to_toml())
    first = ["--model", "mlp", "--train-size", "100", "--batch-size", "30", "--epochs", "1", "--lr", "0.125"]
    schemes = ["--scheme", "mine of old.toml", "--scheme", "fp8-hybrid", "--loss-scale", "4"]
    assert lowprec_command("train", *first, *schemes, "--out", "run").exit_code == 0
    (tmp_path / "mine of old.toml").unlink()
    report(tmp_path / "run")
    words = folder.read(tmp_path / "run").command()
    source = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "mine of old.toml" in source
    assert words[:2] == ["lowprec", "train"]
    assert shlex.join(words)[:40] in source
    assert words.count("fp8-hybrid") == 1  # a named scheme stays a name
    result = lowprec_command(*words[1:], "--out", "again")
    assert result.exit_code == 0, result.output
    for name in ("results.csv", "schemes/mine of old.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    for path in (tmp_path / "run" / "weights").iterdir():
        assert (tmp_path / "again" / "weights" / path.name).read_bytes() == path.read_bytes()


def test_a_file_that_is_called_like_a_known_scheme_stays_a_file(tmp_path, report):
    (tmp_path / "fixed8.toml").write_text(SCHEMES["bf16"].to_toml())
    path = write_run(tmp_path / "run", scheme=(str(tmp_path / "fixed8.toml"), "bf16"))
    run = folder.read(path)
    assert run.own_schemes == ["fixed8"]
    assert run.command()[-4:] == ["--scheme", str(path / "schemes" / "fixed8.toml"), "--scheme", "bf16"]
    assert "The command reads from the run's folder: fixed8." in report(path).text


def test_float32_alone_is_asked_for_by_name(tmp_path):
    run = folder.read(write_run(tmp_path / "run", scheme=("float32",)))
    assert run.command()[-2:] == ["--scheme", "float32"]


def test_training_records_versions_and_tells_of_the_page(train_tiny, tmp_path):
    result = train_tiny("--scheme", "float32", "--out", "job")
    assert "lowprec report job" in result.stdout
    [versions] = checkpoint.load(tmp_path / "job" / "checkpoint.pt")["versions"]
    assert versions["lowprec"] == lowprec.__version__
    assert not (tmp_path / "job" / "report.html").exists()
    train_tiny("--resume", "job")
    assert checkpoint.load(tmp_path / "job" / "checkpoint.pt")["versions"] == [versions]


@pytest.mark.parametrize("kept", [None, VERSIONS])
def test_going_on_elsewhere_keeps_both_versions(lowprec_command, tmp_path, kept):
    path = write_run(tmp_path / "job", finished=1, scheme=("float32",), seeds=2, epochs=1)
    state = checkpoint.load(path / "checkpoint.pt")
    state.pop("versions")
    checkpoint.save(path / "checkpoint.pt", state if kept is None else state | {"versions": [kept]})
    assert lowprec_command("train", "--resume", str(path)).exit_code == 0
    first, second = checkpoint.load(path / "checkpoint.pt")["versions"]
    assert first == (kept or {})
    assert second["lowprec"] == lowprec.__version__


# What is refused


def test_what_is_no_run_folder_is_refused(lowprec_command, tmp_path):
    result = lowprec_command("report", "nowhere")
    assert result.exit_code == 2
    assert result.stderr == "Error: `RUN` must be a run folder with a checkpoint.pt, got 'nowhere'.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_refused(lowprec_command, run):
    file = run / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-1])
    result = lowprec_command("report", str(run))
    assert result.exit_code == 2
    assert re.fullmatch(r"Error: `RUN` must have an undamaged checkpoint .*\n", result.stderr)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("state", [{"steps": 3}, {"settings": {"later": 1, "scheme": [], "threads": 1}}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, state):
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    with pytest.raises(ValueError, match=r"`RUN` must be a run folder of this version .*differs"):
        folder.read(tmp_path)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("page.txt", "`--out` must be a file that ends in .html, got 'page.txt'."),
        ("no/page.html", "`--out` must be a file that can be written (No such file or directory), got 'no"),
        ("dir.html", "`--out` must be a file that can be written ("),
    ],
)
def test_a_page_that_cannot_be_written_is_refused(lowprec_command, run, tmp_path, out, message):
    (tmp_path / "dir.html").mkdir()
    result = lowprec_command("report", str(run), "--out", out)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_the_page_goes_where_it_should(lowprec_command, run, tmp_path):
    result = lowprec_command("report", str(run), "--out", "page.html")
    assert result.exit_code == 0
    assert result.stdout == "Report: page.html\n"
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not (run / "report.html").exists()


def test_a_file_that_cannot_be_read_is_told_of(lowprec_command, run, monkeypatch):
    def refused(path, name):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint, "load", refused)
    result = lowprec_command("report", str(run))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: [Errno 13] Permission denied: ")


def test_a_failed_write_leaves_the_page_before(lowprec_command, run, monkeypatch):
    (run / "report.html").write_text("the page before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = lowprec_command("report", str(run))
    assert result.exit_code == 2
    assert "`--out` must be a file that can be written (No space left on device), got " in result.stderr
    assert (run / "report.html").read_text() == "the page before"


def test_damaged_layers_are_refused(run):
    lines = (run / "layers.csv").read_text(encoding="utf-8").splitlines()
    (run / "layers.csv").write_text("\n".join([*lines[:4], "fp8-hybrid,0.9,x"]))
    with pytest.raises(ValueError, match=r"`RUN` must have a layers\.csv with a number in .* in line 5\."):
        read_layers(run)
    (run / "layers.csv").write_bytes("\n".join(lines[:2]).encode() + b"\n\xff")
    with pytest.raises(ValueError, match=r"`RUN` must have a layers\.csv in UTF-8, got"):
        read_layers(run)
    (run / "layers.csv").write_text(",".join(LAYER_COLUMNS[:-1]) + "\n")
    with pytest.raises(
        ValueError, match=r"must have a layers\.csv with the columns scheme, .*It lacks sqnr_db"
    ):
        read_layers(run)


# The drawings


def test_a_heat_map_marks_what_was_lost_and_where_nan_begins():
    lost = [0, 1, 1, 500, 500, 500]
    moments = [
        Moment("a", 0.9, 0, 8 * step, 8 * step, "fc", "error", 1000, 0, number, step >= 4, 20.0 - step)
        for step, number in enumerate(lost)
    ]
    drawn = heatmap.heat_map("A run", moments, most=10)
    assert 'class="level0" d="M0 1h1v8h-1z"' in drawn
    assert 'class="level1" d="M1 1h2v8h-2z"' in drawn  # two equal neighbors are one
    assert 'class="level5" d="M3 1h1v8h-1z"' in drawn
    assert 'class="nan" d="M4 0h2v10h-2z"' in drawn
    assert "NaN from step 32" in drawn
    assert "15.0 dB" in drawn
    assert "50.00 %" in drawn


def test_a_moment_that_is_missing_leaves_a_gap():
    moments = [
        Moment("a", 0.9, 0, step, step, "fc", role, 10, 0, 0, 0, math.nan)
        for role, steps in (("input", (0, 1, 2)), ("error", (0, 2)))
        for step in steps
    ]
    drawn = heatmap.heat_map("A run", moments, most=10)
    assert 'd="M0 1h3v8h-3z"' in drawn
    assert 'd="M0 1h1v8h-1zM2 1h1v8h-1z"' in drawn


def test_a_single_nan_is_not_lost_when_moments_are_put_together():
    moments = [
        Moment("a", 0.9, 0, step, step, "fc", "error", 10, 1, 0, step == 501, 9.0) for step in range(1000)
    ]
    columns, rows = pooled(moments, most=100)
    assert len(columns) == 100
    assert sum(moment.count for moment in rows["fc", "error"].values()) == 10_000
    assert [column for column, moment in rows["fc", "error"].items() if moment.nan] == [50]
    worst = replace(moments[7], saturated=9)
    drawn = heatmap.heat_map("A run", [*moments[:7], worst, *moments[8:]], most=100)
    assert "NaN from step 501" in drawn  # not the first step of its column, 500
    assert "at most 90.00 % lost" in drawn  # not the mean of its column


def test_what_is_exact_has_no_signal_to_noise_ratio():
    moment = Moment("a", 0.9, 0, 0, 0, "fc", "error", 10, 0, 0, 0, math.inf)
    assert ">exact<" in heatmap.heat_map("A run", [moment], most=9)
    assert " dB" not in heatmap.heat_map("A run", [replace(moment, sqnr_db=math.nan)], most=9)


def test_curves_have_gaps_where_they_are_not_finite():
    values = [1.0, 2.0, math.nan, 3.0, 4.0]
    points = [Point(epoch, value, value - 0.5, value + 0.5) for epoch, value in enumerate(values, start=1)]
    drawn = curves.chart("x", "Loss", {"a<b": points}, curves.styles_of(["a<b"]))
    [line] = re.findall(r'class="line" d="([^"]+)"', drawn)
    assert line.count("M") == 2
    assert line.count("L") == 2
    assert "a&lt;b: not finite in epoch 3" in drawn
    everything = [Point(1, math.nan, math.nan, math.nan)]
    assert "<path" not in curves.chart("x", "Loss", {"a": everything}, curves.styles_of(["a"]))


def test_a_loss_that_explodes_has_a_logarithmic_axis():
    points = [Point(epoch, 10.0**epoch, 10.0**epoch, 10.0**epoch) for epoch in range(1, 31)]
    drawn = curves.chart("x", "Loss", {"a": points}, curves.styles_of(["a"]), can_be_log=True)
    assert "Loss, logarithmic" in drawn
    [line] = re.findall(r'class="line" d="(.+?)"', drawn)
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.-]+)", line)]
    steps = [a - b for a, b in itertools.pairwise(heights)]
    assert max(steps) - min(steps) < 0.25  # a straight line, rounded to tenths
    assert all(0 <= y <= 260 for y in heights)


def test_as_many_schemes_as_there_are_differ_in_style():
    styles = curves.styles_of(SCHEMES)
    assert len(set(styles.values())) == len(SCHEMES) + 1


def test_a_large_run_gives_a_page_that_stays_small(tmp_path, report):
    path = write_run(tmp_path / "run", seeds=3, epochs=60, scheme=tuple(SCHEMES)[:6])
    write_layers(path, num_moments=200, layers=[f"stage{n}.conv" for n in range(20)])
    report(path)
    assert (path / "report.html").stat().st_size < 300_000
