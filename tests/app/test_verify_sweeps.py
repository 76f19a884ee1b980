"""Passes over all float32 numbers: a wrong kernel is found wherever it errs. Here on parts of the domain."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lowprec.app.interrupt import Interrupted
from lowprec.app.verify import kernel, sweeps
from lowprec.app.verify.comparison import Outcome
from lowprec.app.verify.setting import Setting
from lowprec.app.verify.sweeps import CHUNK, check_provable, sweep_by_oracle, sweep_by_proof
from lowprec.formats import parse
from lowprec.modes import Rounding

E4M3 = parse("e4m3fn")
NEAREST = Setting(Rounding.NEAREST_EVEN)
ONE, MIDPOINT = 0x3F800000, 0x3F880000  # 1.0, and 1.0625 halfway to the next value
NEGATIVE = 0x80000000
AT_ONE = [ONE // CHUNK, ONE // CHUNK + 1]
ENDS = [0, 0x7F800000 // CHUNK, NEGATIVE // CHUNK, 0xFF800000 // CHUNK]
Change = Callable[[np.ndarray, np.ndarray], None]


def ignore(share: float) -> None:
    """Shows nothing."""


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Has the kernel's results changed by a function of patterns and results."""
    right = kernel.quantize_bits

    def patch(change: Change) -> None:
        def quantize_bits(x, out, format, setting):
            right(x, out, format, setting)
            change(x, out)

        monkeypatch.setattr(kernel, "quantize_bits", quantize_bits)

    return patch


def found(chunks: list[int], setting: Setting = NEAREST) -> Outcome:
    """The outcome of the proof on some chunks."""
    return sweep_by_proof(E4M3, setting, ignore, chunks)


def first(outcome: Outcome) -> str:
    """The bits of the first wrong input."""
    assert outcome.wrong >= 1
    return outcome.mismatches[0].input.partition(" ")[0]


def pattern(number: float) -> np.uint32:
    """A number of float32 as its pattern."""
    return np.float32(number).view(np.uint32)


@pytest.mark.parametrize(
    "setting", [NEAREST, Setting(Rounding.DOWN), Setting(Rounding.STOCHASTIC, 8, 1 << 30)]
)
def test_a_right_kernel_is_proven(setting: Setting) -> None:
    outcome = found([*ENDS, *AT_ONE], setting)
    assert (outcome.inputs, outcome.wrong) == (6 * CHUNK, 0)
    assert outcome.results >= 10


def test_one_wrong_result_between_thresholds_is_found(wrong) -> None:
    at = ONE + 12345

    def change(x, out):
        out[x == at] = pattern(1.125)

    wrong(change)
    outcome = found(AT_ONE)
    assert first(outcome) == f"{at:#010x}"
    assert (outcome.wrong, outcome.mismatches[0].expected, outcome.mismatches[0].got) == (1, "1.0", "1.125")


@pytest.mark.parametrize(
    ("at", "result"), [(AT_ONE[1] * CHUNK - 1, 448.0), (AT_ONE[1] * CHUNK, 0.5)], ids=["last", "first"]
)
def test_a_wrong_result_at_the_seam_of_two_chunks_is_found(wrong, at: int, result: float) -> None:
    def change(x, out):
        out[x == at] = pattern(result)

    wrong(change)
    assert first(found(AT_ONE)) == f"{at:#010x}"


def test_a_threshold_one_number_off_is_found(wrong) -> None:
    def change(x, out):
        out[x == MIDPOINT] = pattern(1.125)  # a tie, broken the other way

    wrong(change)
    assert first(found(AT_ONE)) == f"{MIDPOINT:#010x}"


def test_a_wrong_value_between_two_thresholds_is_found(wrong) -> None:
    def change(x, out):
        out[out == pattern(1.0)] = pattern(1.01)  # monotone still

    wrong(change)
    mismatches = found(AT_ONE).mismatches
    assert {(m.expected, m.got[:4]) for m in mismatches} == {("1.0", "1.00")}


def test_a_lost_sign_of_zero_is_found(wrong) -> None:
    def change(x, out):
        out[out == NEGATIVE] = 0

    wrong(change)
    outcome = found(ENDS)
    assert first(outcome) == "0x80000000"
    assert (outcome.mismatches[0].expected, outcome.mismatches[0].got) == ("-0.0", "0.0")


def test_a_swallowed_nan_is_found(wrong) -> None:
    at = 0x7F900001

    def change(x, out):
        out[x == at] = pattern(448)

    wrong(change)
    outcome = found([at // CHUNK])
    assert first(outcome) == f"{at:#010x}"
    assert outcome.mismatches[0].expected == "nan"


def test_an_invented_nan_is_found(wrong) -> None:
    at = ONE + 999

    def change(x, out):
        out[x == at] = 0x7FC00000

    wrong(change)
    assert f"{at:#010x}" in {m.input.partition(" ")[0] for m in found(AT_ONE).mismatches}


def test_an_infinity_that_stays_is_found(wrong) -> None:
    def change(x, out):
        out[x == 0x7F800000] = 0x7F800000

    wrong(change)
    assert first(found(ENDS)) == "0x7f800000"


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "binary16", "bfloat16", "fixed8f6"])
def test_the_oracles_of_the_full_pass_agree(name: str) -> None:
    outcome = sweep_by_oracle(parse(name), ignore, [*ENDS, *AT_ONE])
    assert (outcome.inputs, outcome.results, outcome.wrong) == (6 * CHUNK, 6 * CHUNK, 0)


def test_one_wrong_result_is_found_by_the_full_pass(wrong) -> None:
    def change(x, out):
        out[x == ONE + 1] = 0

    wrong(change)
    outcome = sweep_by_oracle(E4M3, ignore, AT_ONE)
    assert (outcome.results, outcome.wrong) == (2 * CHUNK, 1)
    assert first(outcome) == f"{ONE + 1:#010x}"


def test_a_threshold_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = sweeps.thresholds
    monkeypatch.setattr(sweeps, "thresholds", lambda format, setting: complete(format, setting)[1:])
    with pytest.raises(RuntimeError, match="`thresholds` must list all of e4m3fn, nearest_even"):
        found(AT_ONE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bfp8", "`format` must round single float32 numbers for --exhaustive, got 'bfp8'"),
        ("binary64", "must round single float32 numbers"),
        ("fixed8f4<wrap>", "must keep the order of numbers"),
        ("e4m3fn<infinity>", "must keep the order of numbers"),
        ("binary32", "must have at most 17 bits"),
    ],
)
def test_what_the_proof_does_not_hold_for_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_provable(parse(name))
    with pytest.raises(ValueError, match=message):
        sweep_by_proof(parse(name), NEAREST, ignore, [0])


def test_an_error_on_another_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(kernel, "quantize_bits", broken)
    with pytest.raises(ZeroDivisionError):
        found(AT_ONE)


def test_a_pass_stops_when_asked_to_and_gives_the_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(share: float) -> None:
        raise Interrupted

    threads = torch.get_num_threads()
    with pytest.raises(Interrupted):
        sweep_by_proof(E4M3, NEAREST, stop)
    assert torch.get_num_threads() == threads


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "e4m3fnuz<nosubnormals>", "ufixed8f3"])
def test_all_numbers(name: str) -> None:
    outcome = sweep_by_proof(parse(name), Setting(Rounding.NEAREST_DOWN), ignore)
    assert (outcome.inputs, outcome.mismatches) == (1 << 32, [])
