"""Limits, retries, and the README's table: the logic around the measuring."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lowprec.app.bench import floors, kernels, packing, peers, readme
from lowprec.app.bench.figure import Figure, Limit, Probe, Unavailable
from lowprec.app.bench.measure import in_turns, take
from lowprec.modes import Rounding

ROOT = Path(__file__).parents[2]
AT_LEAST, AT_MOST = Limit(0.9, at_least=True), Limit(12.0, at_least=False)


def probe(*values: float | Exception, limit: Limit | None = AT_LEAST) -> Probe:
    """Gives one value after the other; an exception is raised; one value too many is an error."""
    left = iter(values)

    def measure() -> float:
        value = next(left)
        if isinstance(value, Exception):
            raise value
        return value

    return Probe("kernels", "e4m3fn", str(id(left)), "copy", measure, limit)


@pytest.mark.parametrize(
    ("limit", "value", "holds"),
    [(AT_LEAST, 0.9, True), (AT_LEAST, 0.89, False), (AT_MOST, 12.0, True), (AT_MOST, 12.1, False),
     (AT_LEAST, float("nan"), False), (AT_MOST, float("nan"), False)],
)  # fmt: skip
def test_a_limit_includes_its_value_and_nan_never_keeps_it(limit, value, holds):
    assert limit.holds(value) is holds
    assert Figure("kernels", "e4m3fn", "", "copy", limit, value).missed is not holds


@pytest.mark.parametrize(
    ("values", "limit", "best", "rounds"),
    [
        ([0.95], AT_LEAST, 0.95, 1),
        ([0.5, 0.95], AT_LEAST, 0.95, 2),
        ([0.5, 0.4, 0.6], AT_LEAST, 0.6, 3),
        ([20, 25, 14], AT_MOST, 14, 3),
        ([20, 11], AT_MOST, 11, 2),
        ([0.1], None, 0.1, 1),
    ],
)
def test_what_misses_is_taken_again_and_the_best_round_counts(values, limit, best, rounds):
    [figure] = take([probe(*values, limit=limit)], 3)
    assert (figure.value, figure.rounds) == (best, rounds)
    assert figure.missed == (limit is not None and not limit.holds(best))


def test_only_what_misses_is_taken_again():
    figures = take([probe(0.95), probe(0.5, 0.92), probe(0.91)], 3)
    assert [figure.value for figure in figures] == [0.95, 0.92, 0.91]
    assert [figure.rounds for figure in figures] == [1, 2, 1]


def test_errors_are_figures_and_not_taken_again():
    [failed, absent] = take([probe(KeyError("planted")), probe(Unavailable("not installed"))], 3)
    assert failed.missed
    assert failed.failure == "KeyError: 'planted'"
    assert not absent.missed
    assert absent.absent == "not installed"
    [later] = take([probe(0.5, KeyError("planted"), 0.7)], 3)
    assert (later.value, later.rounds) == (0.7, 3)


def clock(*pairs: tuple[float, float]) -> Callable[[], float]:
    """A clock that makes two calls in turns take these times."""
    ticks = itertools.chain.from_iterable((0.0, duration) for pair in pairs for duration in pair)
    return lambda: next(ticks)


def test_a_ratio_tells_how_much_longer_the_first_takes(monkeypatch):
    monkeypatch.setattr("time.perf_counter", clock((6, 2), (7, 3), (8, 4)))
    assert in_turns(lambda: None, lambda: None, 3) == 7 / 3


def test_the_calmest_of_disturbed_turns_count_whatever_their_result(monkeypatch):
    disturbed = [(1, 1), (9, 1), (9, 1)]
    calmer, calmest = [(1, 1), (4, 1), (4, 1)], [(2, 1), (3, 1), (3, 1)]
    monkeypatch.setattr("time.perf_counter", clock(*disturbed, *calmest, *calmer))
    assert in_turns(lambda: None, lambda: None, 3) == 3
    monkeypatch.setattr("time.perf_counter", clock(*disturbed, (2, 1), (2, 1), (2, 1)))
    assert in_turns(lambda: None, lambda: None, 3) == 2


@pytest.mark.parametrize(
    ("format", "mode", "carrier", "floor"),
    [
        ("e4m3fn", "nearest_even", "float32", "≥ 0.9"),
        ("fixed8f6", "nearest_even", "float32", "≥ 0.9"),
        ("fixed8f6<wrap>", "nearest_even", "float32", "None"),
        ("fixed8f6", "toward_zero", "float32", "≥ 0.7"),
        ("e4m3fn", "stochastic", "float32", "≥ 0.35"),
        ("e4m3fn", "nearest_even", "float16", "≥ 0.45"),
        ("e4m3fn", "stochastic", "float64", "≥ 0.175"),
        ("bfp8<channel0>", "nearest_even", "float32", "≥ 0.6"),
        ("bfp8<group32>", "nearest_even", "float32", "≥ 0.4"),
        ("bfp8<channel0>", "nearest_even", "bfloat16", "≥ 0.3"),
        ("bfp8<channel0>", "stochastic", "float32", "None"),
        ("bfp8", "nearest_even", "float32", "None"),
        ("bfp8<group32@0>", "nearest_even", "float32", "≥ 0.3"),
        ("mxfp8_e4m3", "nearest_even", "float32", "≥ 0.4"),
        ("mxfp4", "stochastic", "float32", "≥ 0.25"),
        ("mxfp4", "stochastic_equal", "float32", "None"),
        ("scaled<e2m1,e8m0,group32@0>", "nearest_even", "float32", "≥ 0.3"),
        ("scaled<e4m3fn,float32,amax>", "nearest_even", "float32", "≥ 0.4"),
        ("nvfp4", "nearest_even", "float32", "≥ 0.25"),
        ("nvfp4", "stochastic", "float32", "None"),
        ("mxfp8_e4m3", "nearest_even", "bfloat16", "None"),
    ],
)
def test_the_floors_of_kernels(format, mode, carrier, floor):
    assert str(floors.of_kernel(format, Rounding(mode), carrier)) == floor


def test_every_mode_of_floating_point_has_a_floor():
    assert all(floors.of_kernel("e4m3fn", mode, "float32") for mode in Rounding)


def test_every_floor_of_groups_is_that_of_a_row():
    measured = {
        (format, mode) for format, mode, carrier in kernels.rows(complete=True) if carrier == "float32"
    }
    floored = {(format, Rounding.NEAREST_EVEN) for format in floors.GROUPS}
    assert floored | {(format, Rounding.STOCHASTIC) for format in floors.GROUPS_STOCHASTIC} <= measured


def complete_run() -> dict:
    """What the JSON of a complete run holds, in small."""
    figures = [
        Figure(kernels.KERNELS, "e4m3fn away float32", kernels.INTO, "copy", Limit(0.7, at_least=True), 0.83),
        Figure(kernels.KERNELS, "e4m3fn up float32", kernels.INTO, "copy", Limit(0.7, at_least=True), 0.75),
        Figure(kernels.CALLS, "e4m3fn nearest_even", "autograd", "µs", Limit(20, at_least=False), 15.25),
        Figure(kernels.CALLS, "fixed8f6 nearest_even", "autograd", "µs", Limit(20, at_least=False), 17.25),
        Figure(packing.PACKING, "4 bits", "pack", "copy", Limit(0.25, at_least=True), 0.5),
        Figure(
            kernels.KERNELS, "mxfp4 stochastic float32", kernels.INTO, "copy", Limit(0.25, at_least=True), 0.3
        ),
        Figure(peers.PEERS, "lowprec", peers.FLOAT, "copy", value=0.1875),
        Figure(peers.PEERS, "qtorch", peers.FLOAT, "copy", absent="not installed"),
        Figure(peers.PEERS_SCALED, "lowprec", peers.NVFP4, "copy", value=0.125),
        Figure(peers.PEERS_SCALED, "torchao", peers.MXFP8, "copy", value=0.0625),
    ]
    return {
        "effort": {"complete": True, "side": 4096, "repeats": 9},
        "environment": {"processor": "a processor", "threads": "2", "torch": "2.13.0", "numba": "0.68.1"},
        "peers": {"qtorch": "not installed"},
        "figures": [figure.to_value() for figure in figures],
    }


def test_the_readme_shows_packages_and_the_worst_of_each_limit():
    lines = readme.readme_table(json.loads(json.dumps(complete_run()))).splitlines()
    assert "| lowprec | 0.19 | – | – | – | – | – | – | – | 0.12 |" in lines
    assert "| qtorch | not installed | – | – | – | – | – | – | – | – |" in lines
    assert "| torchao | – | – | – | – | – | 0.062 | – | – | – |" in lines
    assert "| pack codes of 4 bits, against a copy of the codes | ≥ 0.25 | 0.50 |" in lines
    assert "| `mxfp4`, stochastic modes, float32 | ≥ 0.25 | 0.30 |" in lines
    assert "| float and fixed point, other deterministic modes, float32 | ≥ 0.7 | 0.75 |" in lines
    assert "| 64 elements, nearest even, autograd: µs | ≤ 20 | 17.2 |" in lines


def test_the_table_replaces_what_stands_between_the_markers():
    text = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"
    once = readme.with_table(text, complete_run())
    assert once.startswith("before\n<!-- bench -->\n| speed")
    assert once.endswith("\n<!-- /bench -->\nafter\n")
    assert "old" not in once
    assert readme.with_table(once, complete_run()) == once


@pytest.mark.parametrize("text", ["", "<!-- bench -->\n", "<!-- /bench -->\n<!-- bench -->\n"])
def test_a_readme_without_markers_is_refused(text):
    with pytest.raises(ValueError, match="`readme` must have a line <!-- bench --> and a line"):
        readme.with_table(text, complete_run())


def test_a_quick_run_makes_no_table():
    quick = complete_run() | {"effort": {"complete": False}}
    with pytest.raises(ValueError, match="`found` must be of a complete run, got"):
        readme.readme_table(quick)


def test_the_readme_shows_the_committed_run():
    committed = ROOT / "docs" / "bench.json"
    if not committed.exists():
        pytest.skip("no run is committed")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.with_table(text, json.loads(committed.read_text(encoding="utf-8"))) == text
