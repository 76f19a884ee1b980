"""Threads, forks and flushing: however the work is shared, the bits are the same."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from oracle import ROUNDINGS, SEED, STOCHASTIC, assert_same, expected, spread
from torch import Tensor

import lowprec
from lowprec.kernels import threads
from lowprec.kernels.dispatch import SERIAL_BELOW

PACKAGE = Path(lowprec.__file__).parent
FORMATS = ["e4m3fn", "fixed8f4", "bfp8", "bfp8<group16>", "bfp8<group1000>", "bfp8<group3@0>",
           "bfp8<channel0>", "bfp8<channel-1>"]  # fmt: skip
SHAPES = [
    (SERIAL_BELOW - 1,), (SERIAL_BELOW,), (SERIAL_BELOW + 1,), (100_003,), (3, 50_021),
    (50_021, 3), (211, 307), (7, 2, 41, 83),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    """Leave torch with the number of threads that it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(x: Tensor, rounding: str, count: int) -> list[Tensor]:
    """Every format's values and flags by so many threads."""
    torch.set_num_threads(count)
    seed = torch.tensor([SEED - 2**64]) if rounding == STOCHASTIC else None
    operators = torch.ops.lowprec.quantize, torch.ops.lowprec.overflowed
    return [run(x, seed, format, rounding, 32) for format in FORMATS for run in operators]


class TestCounts:
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_one_two_and_five_threads_give_equal_bits(self, shape: tuple[int, ...], rounding: str) -> None:
        x = spread(*shape)
        alone = results(x, rounding, 1)
        for count in (2, 5):
            for got, want in zip(results(x, rounding, count), alone, strict=True):
                assert_same(got, want)

    def test_strided_and_narrow(self) -> None:
        for x in (spread(307, 211).T, spread(60_000, 2, dtype=torch.bfloat16)[:, 0]):
            x = x if x.dim() > 1 else x.reshape(-1, 3)
            for rounding in ROUNDINGS:
                alone = results(x, rounding, 1)
                for got, want in zip(results(x, rounding, 5), alone, strict=True):
                    assert_same(got, want)

    def test_shared_work_equals_the_reference(self) -> None:
        torch.set_num_threads(5)
        x = spread(3, SERIAL_BELOW // 3 + 5)
        for format in ("bfp8", "bfp8<channel0>"):
            got = lowprec.quantize(x, format, rounding=STOCHASTIC, seed=SEED)
            assert_same(got, expected(x, format, STOCHASTIC))

    def test_alone_for_small_tensors_and_for_one_thread(self, monkeypatch) -> None:
        monkeypatch.setattr(threads, "_pool", lambda workers: pytest.fail(f"{workers} workers"))
        torch.set_num_threads(2)
        lowprec.quantize(spread(SERIAL_BELOW - 1), "e4m3fn")
        torch.set_num_threads(1)
        lowprec.quantize(spread(SERIAL_BELOW), "e4m3fn")
        torch.set_num_threads(3)
        with pytest.raises(pytest.fail.Exception, match="2 workers"):
            lowprec.quantize(spread(SERIAL_BELOW), "e4m3fn")


class TestSharing:
    @pytest.mark.parametrize("units", [1, 2, 3, 7, 64])
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_every_unit_is_done_once(self, units: int, count: int) -> None:
        parts: list[tuple[int, int, int]] = []
        threads.share(lambda *part: parts.append(part), units, count)
        parts.sort()
        assert parts[0][0] == 0
        assert parts[-1][1] == units
        assert all(one[1] == other[0] for one, other in pairwise(parts))
        assert {number for _, _, number in parts} <= set(range(min(units, count)))

    @pytest.mark.parametrize("failing", [0, 5, 11])
    def test_a_failure_in_any_thread_reaches_the_caller(self, failing: int) -> None:
        def work(first: int, last: int, number: int) -> None:
            if first <= failing < last:
                raise KeyError(failing)

        with pytest.raises(KeyError, match=str(failing)):
            threads.share(work, 12, 3)

    def test_callers_from_several_python_threads(self) -> None:
        torch.set_num_threads(3)
        tensors = [spread(3, 12_345, seed=seed) for seed in range(4)]
        want = {
            format: [lowprec.quantize(x, format, rounding=STOCHASTIC, seed=5) for x in tensors]
            for format in FORMATS
        }
        barrier = threading.Barrier(len(tensors))

        def work(number: int) -> None:
            barrier.wait(60)
            for _ in range(5):
                for format in FORMATS:
                    got = lowprec.quantize(tensors[number], format, rounding=STOCHASTIC, seed=5)
                    assert_same(got, want[format][number])

        with ThreadPoolExecutor(len(tensors)) as pool:
            for future in [pool.submit(work, number) for number in range(len(tensors))]:
                future.result(60)


def script(body: str, **environment: str) -> str:
    """What a fresh interpreter prints for a script; a child that hangs or dies is a failure."""
    finished = subprocess.run(
        [sys.executable, "-c", PREAMBLE + body],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


PREAMBLE = """
import os, sys, threading, torch, lowprec
torch.set_num_threads(3)
x = torch.randn(7, 9001, generator=torch.Generator().manual_seed(0))
def run():
    return [lowprec.quantize(x, format, rounding="stochastic", seed=7) for format in ("e5m2", "bfp8")]
def agree(results):
    return all(map(torch.equal, results, want))
want = run()
assert sum(t.name.startswith("lowprec") for t in threading.enumerate()) == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_and_a_forked_loader_worker_give_the_same_bits() -> None:
    body = """
for locked in (False, True):
    if locked:  # as if another thread were just making a pool
        from lowprec.kernels import threads
        threads._lock.acquire()
    child = os.fork()
    if child == 0:
        ours = agree(run()) and agree(run())
        os._exit(17 if ours and torch.get_num_threads() == 3 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if locked:
        threads._lock.release()
class Quantized(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return run()[index]
loader = torch.utils.data.DataLoader(
    Quantized(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
)
print(agree(loader), agree(run()))
"""
    assert script(body).split() == ["17", "17", "True", "True"]


def test_two_python_threads_on_the_workqueue_layer() -> None:
    body = """
answers = []
def work():
    answers.extend(agree(run()) for _ in range(20))
workers = [threading.Thread(target=work) for _ in range(2)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(len(answers), all(answers))
"""
    assert script(body, NUMBA_THREADING_LAYER="workqueue").split() == ["40", "True"]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_flushing_subnormals_to_zero_changes_nothing(rounding: str, monkeypatch) -> None:
    """The flag belongs to a thread and is inherited by those it starts, so all of this is in one."""
    monkeypatch.setattr(threads, "_pools", {})
    formats = ["e4m3fn", "binary32", "e8m7ieee<bias133>", "fixed8f130", "fixed8f4", "bfp8",
               "bfp8<group4>"]  # fmt: skip
    small = torch.arange(1, SERIAL_BELOW + 1, dtype=torch.int32) * 251
    x = torch.cat([small, small + 2**31 - 2**32]).view(torch.float32)  # both signs
    seed = SEED if rounding == STOCHASTIC else None
    torch.set_num_threads(1)
    want = [lowprec.quantize(x, format, rounding=rounding, seed=seed) for format in formats]
    assert want[1].count_nonzero() == x.numel()
    torch.set_num_threads(3)

    def flushed() -> tuple[bool, list[Tensor]]:
        if not torch.set_flush_denormal(True):
            return False, []
        effective = (x[:5].clone().mul_(1.0) == 0).all().item()
        got = [lowprec.quantize(x, format, rounding=rounding, seed=seed) for format in formats]
        return effective, got

    with ThreadPoolExecutor(1) as pool:
        effective, got = pool.submit(flushed).result()
    if not effective:
        pytest.skip("this processor cannot flush subnormals to zero")
    for one, other in zip(got, want, strict=True):
        assert_same(one, other)
