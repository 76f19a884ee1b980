"""``lowprec verify``: what it finds, shows and writes, and how it goes on after an interruption."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from lowprec.app.interrupt import Interrupted
from lowprec.app.verify import command, grids, kernel, peers, scaled_peers, state
from lowprec.app.verify.claim import CLAIMS, Part
from lowprec.app.verify.comparison import Asked, Outcome
from lowprec.app.verify.job import plan
from lowprec.app.verify.progress import Bar, Lines
from lowprec.app.verify.report import readme_table, report, with_table
from lowprec.app.verify.setting import Setting
from lowprec.app.verify.state import Finding, State
from lowprec.formats import NAMED, Scaled, parse
from lowprec.modes import Rounding

ROOT = Path(__file__).parents[2]
NEAREST = Setting(Rounding.NEAREST_EVEN)
WORD = Setting(Rounding.STOCHASTIC, 8, 0x9E3779B9)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modes and one carrier, so that few kernels are compiled."""
    for module in (grids, peers):
        monkeypatch.setattr(module, "settings", lambda format=None: (NEAREST, WORD))
    monkeypatch.setattr(grids, "seeded_settings", lambda format: (WORD,))
    monkeypatch.setattr(grids, "holders", lambda format: [torch.float32])


def fake(*names: str, work: Callable[..., Outcome] | None = None) -> list[Part]:
    """Parts that find everything right at once."""
    right = work or (lambda tick: Outcome(inputs=10, results=20))
    return [Part(CLAIMS["patterns"], name, 3, 1.0, right) for name in names]


# What is found


@pytest.mark.usefixtures("few")
def test_a_format_is_verified_and_the_report_written(lowprec_command, tmp_path) -> None:
    result = lowprec_command("verify", "e2m1", "--json", "found.json")
    assert result.exit_code == 0, result.output
    assert "lowprec.reference" in result.stdout
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["wrong"] == 0
    claims = {row["claim"] for row in found["rows"]}
    assert {"reference", "patterns", "seeds", "flush", "threads", "ml_dtypes", "gfloat"} == claims
    assert all(row["results"] > 100 or "missing" in row for row in found["rows"])
    assert found["lowprec"] in readme_table(found)
    assert not (tmp_path / "runs" / "verify" / "state.json").exists()


@pytest.mark.usefixtures("few")
def test_scaled_formats_are_verified() -> None:
    for part in plan(["nvfp4", "int8", "uint8", "scaled<e4m3fn,float32,amax>"]):
        outcome = part.work(lambda share: None)
        assert outcome.mismatches == []
        assert outcome.results > 100


def test_sums_of_squares_are_left_to_the_reference() -> None:
    parts = plan(["scaled<e2m1,e8m0,group32,mse>"])
    assert [part.claim.name for part in parts] == ["reference", "flush", "threads"]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("setting", "name"), [(NEAREST, "e4m3fn"), (WORD, "e4m3fn"), (NEAREST, "bfp4<group32>")]
)
def test_one_wrong_result_is_shown_and_ends_with_one(lowprec_command, monkeypatch, setting, name) -> None:
    right = kernel.quantize

    def wrong(x, format, asked, *, seed=None):
        got = right(x, format, asked, seed=seed)
        return torch.where((x == 0.75) & (asked == setting), 0.8125, got)

    monkeypatch.setattr(kernel, "quantize", wrong)
    result = lowprec_command("verify", name)
    assert result.exit_code == 1
    line = f"{name} in float32, {setting}: 0x3f400000 = 0.75 must give 0.75, got 0.8125"
    assert line in result.stdout.replace("\n", " ")
    assert re.search(rf"reference {re.escape(name)}: \d+ of [\d,]+ results are wrong", result.stderr)


@pytest.mark.usefixtures("few")
def test_a_kernel_that_flushes_or_depends_on_threads_is_found(monkeypatch) -> None:
    right, threads = kernel.quantize, torch.get_num_threads

    def wrong(x, format, setting, *, seed=None):
        got = right(x * 1.0, format, setting)  # arithmetic, which flushes
        return got + (threads() == 3) * (x == 1)

    monkeypatch.setattr(kernel, "quantize", wrong)
    flushed, on_threads = (
        work(parse("binary32"), lambda share: None) for work in (grids.without_subnormals, grids.on_threads)
    )
    with kernel.flushed() as possible:
        assert bool(flushed.wrong) == possible != bool(flushed.missing)
    assert {m.input for m in on_threads.mismatches} == {"0x3f800000 = 1.0"}


@pytest.mark.usefixtures("few")
def test_the_word_of_a_wrong_element_is_shown(monkeypatch) -> None:
    right = kernel.quantize

    def wrong(x, format, setting, *, seed=None):
        return right(x, format, setting, seed=None if seed is None else seed + 1)

    monkeypatch.setattr(kernel, "quantize", wrong)
    outcome = grids.with_seeds(parse("e4m3fn"), lambda share: None)
    assert re.fullmatch(r"0x[0-9a-f]{8}", outcome.mismatches[0].word)
    assert f"word {outcome.mismatches[0].word}" in str(outcome.mismatches[0])


def test_a_package_that_is_not_installed_is_named(monkeypatch) -> None:
    monkeypatch.setattr(peers.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError))
    parts = list(peers.peer_parts(parse("e2m1")))
    findings = [Finding(part, part.work(lambda share: None), 0.1) for part in parts]
    assert [f.outcome.missing for f in findings] == ["not installed"] * 2
    assert readme_table(report(findings, state.identity())).count("| not installed |") == 2


def test_packages_that_know_scaled_formats_are_oracles(monkeypatch) -> None:
    assert list(scaled_peers.scaled_peer_parts(parse("nvfp4"))) == []
    assert list(scaled_peers.scaled_peer_parts(parse("scaled<e2m1,e8m0,group16>"))) == []
    assert list(scaled_peers.scaled_peer_parts(parse("scaled<e5m2,e8m0,group32>"))) == []
    ceil = scaled_peers.scaled_peer_parts(parse("scaled<e2m1,e8m0,group32,ceil>"))
    assert [part.claim.name for part in ceil] == ["torchao"]
    monkeypatch.setattr(scaled_peers, "_MODES", [NEAREST])
    parts = list(scaled_peers.scaled_peer_parts(parse("mxfp4")))
    for outcome in (part.work(lambda share: None) for part in parts):
        assert outcome.missing or outcome.results > 20_000
        assert outcome.mismatches == []
    right = kernel.quantize
    monkeypatch.setattr(kernel, "quantize", lambda x, *rest: right(x, *rest).where(x != 1.0, 1.5))
    for outcome in (part.work(lambda share: None) for part in parts):
        assert outcome.missing or {m.input for m in outcome.mismatches} == {"0x3f800000 = 1.0"}
    monkeypatch.setattr(peers.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError))
    assert {part.work(lambda share: None).missing for part in parts} == {"not installed"}


def test_the_plan_covers_every_named_format_and_five_on_all_numbers() -> None:
    assert {part.format for part in plan(exhaustive=True)} == {*NAMED, "fixed8f6"}
    assert {part.format for part in plan()} == {name for name in NAMED if not isinstance(parse(name), Scaled)}
    parts = plan(exhaustive=True)
    assert len({part.key for part in parts}) == len(parts)
    swept = [part for part in parts if part.claim.name in ("all", "proof")]
    assert {part.format for part in swept} == {"e4m3fn", "e5m2", "binary16", "bfloat16", "fixed8f6"}
    assert sum(part.claim.name == "all" for part in swept) == 5
    assert {part.format for part in plan(["e2m1"], exhaustive=True)} == {"e2m1"}


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["e4m3"], "`format` must say which e4m3, got 'e4m3'"),
        (["e2m1", "e2m1"], "`format` must be named once, got 'e2m1'"),
        (["fixedf-1000<unbounded>"], "`format` must be exact in some carrier"),
        (["bfp8", "--exhaustive"], "`format` must round single float32 numbers for --exhaustive"),
        (["--json", "no/such/folder.json"], "`--json` must be a file in an existing folder"),
        (["--resume"], "`--resume` must follow an interrupted verification in this folder"),
    ],
)
def test_bad_options_end_with_one_sentence(lowprec_command, options, message) -> None:
    result = lowprec_command("verify", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_one_verification_in_a_folder_at_a_time(lowprec_command, tmp_path) -> None:
    folder = tmp_path / state.FOLDER
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        result = lowprec_command("verify", "e2m1")
    assert result.exit_code == 2
    assert "must have no other verification running" in result.stderr


# Interrupted, and resumed


def test_an_interrupted_run_goes_on(lowprec_command, monkeypatch, tmp_path) -> None:
    done, interrupted = [], [True]

    def work(tick) -> Outcome:
        done.append(len(done))
        if len(done) == 2 and interrupted[0]:
            raise Interrupted
        return Outcome(inputs=10, results=20)

    monkeypatch.setattr(command, "plan", lambda names, exhaustive: fake("a", "b", "c", work=work))
    result = lowprec_command("verify", "bfp8<group32>", "--exhaustive", "--json", "found.json")
    assert result.exit_code == 130
    assert 'Go on with: lowprec verify "bfp8<group32>" --exhaustive --resume' in result.stderr
    assert not (tmp_path / "found.json").exists()

    result = lowprec_command("verify", "bfp8<group32>", "--exhaustive", "--resume", "--json", "found.json")
    assert result.exit_code == 0, result.stderr
    assert "1 parts are finished." in result.stderr
    assert len(done) == 4  # a, b interrupted; b, c
    rows = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["format"], row["inputs"]) for row in rows] == [("a", 10), ("b", 10), ("c", 10)]


def test_ctrl_c_is_looked_at_within_a_part(lowprec_command, monkeypatch) -> None:
    import signal

    def work(tick) -> Outcome:
        signal.raise_signal(signal.SIGINT)
        tick(0.5)
        return Outcome()

    monkeypatch.setattr(command, "plan", lambda names, exhaustive: fake("a", work=work))
    assert lowprec_command("verify").exit_code == 130


def test_a_wrong_part_is_not_kept(lowprec_command, monkeypatch, tmp_path) -> None:
    found = iter([Outcome(results=1, wrong=1), Interrupted()])

    def work(tick) -> Outcome:
        if isinstance(outcome := next(found), Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(command, "plan", lambda names, exhaustive: fake("a", "b", work=work))
    assert lowprec_command("verify").exit_code == 130
    assert not (tmp_path / state.FOLDER / "state.json").exists()


def stored(folder: Path) -> Path:
    """A state with one part."""
    State(folder).record(Finding(*fake("a"), Outcome(1, 2), 3.0))
    return folder / "state.json"


def test_a_state_comes_back_whole(tmp_path) -> None:
    asked, outcome = Asked(parse("e2m1"), NEAREST), Outcome(inputs=5)
    outcome.add(torch.ones(2), torch.ones(2), torch.zeros(2).double().numpy(), of=asked)
    finding = Finding(*fake("a"), outcome, 2.5)
    State(tmp_path).record(finding)
    resumed = State.resumed(tmp_path)
    assert len(resumed) == 1
    assert resumed.finding(finding.part) == finding
    assert resumed.finding(*fake("b")) is None


@pytest.mark.parametrize("name", ["lowprec", "kernel sources", "package sources", "numba", "processor"])
def test_a_state_of_other_code_is_never_used(tmp_path, monkeypatch, name: str) -> None:
    stored(tmp_path)
    other = {**state.identity(), name: "other"}
    monkeypatch.setattr(state, "identity", lambda: other)
    with pytest.raises(ValueError, match=f"verification of the same {name}, got"):
        State.resumed(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {}}'])
def test_a_damaged_state_is_refused(tmp_path, text: str) -> None:
    stored(tmp_path).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="`--resume` must follow an interrupted verification whose state is"):
        State.resumed(tmp_path)


# What is shown


def test_a_line_now_and_then(capsys, monkeypatch) -> None:
    monkeypatch.setattr("lowprec.app.verify.progress.SECONDS_BETWEEN_LINES", 0.0)
    first, second = fake("a", "b")
    with Lines(2.0) as lines:
        lines.begin(first)
        lines.end(Finding(first, Outcome(results=2000, wrong=1000), 0.0))
        lines.begin(second)
        lines.at(0.5)
    said = capsys.readouterr().err.splitlines()
    assert said == ["patterns a: 1,000 of 2,000 results are wrong", "75 %: patterns b"]


def test_the_bar_reaches_its_end(capsys) -> None:
    [part] = fake("a")
    with Bar(1.0) as bar:
        bar.begin(part)
        bar.at(0.5)
        bar.end(Finding(part, Outcome(results=2, wrong=1), 0.0))
    shown = capsys.readouterr().err
    assert "100 %" in shown
    assert "1 of 2 results are wrong" in shown


@pytest.mark.skipif(not (ROOT / "docs" / "verify.json").exists(), reason="no report is committed")
def test_the_readme_shows_the_committed_report() -> None:
    found = json.loads((ROOT / "docs" / "verify.json").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_table(text, found) == text
    inputs = sum(row["inputs"] for row in found["rows"] if row["claim"] == "proof")
    edited = text.replace(f"| {inputs:,} |", "| 1 |")
    assert edited != text
    assert with_table(edited, found) == text


@pytest.mark.parametrize(
    "text", ["", "<!-- verify -->\n", "<!-- /verify -->", "<!-- /verify --><!-- verify -->\n"]
)
def test_a_readme_without_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`readme` must have a line <!-- verify --> and a line"):
        with_table(text, report([], {}))


def test_a_report_with_wrong_results_is_not_shown() -> None:
    wrong = report([Finding(*fake("a"), Outcome(results=3, wrong=1), 1.0)], {})
    with pytest.raises(ValueError, match="`found` must be without wrong results, got 1"):
        with_table("<!-- verify -->\n<!-- /verify -->", wrong)
