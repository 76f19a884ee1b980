"""Threads, forks and flushing: however the work is shared, the bits are the same."""

import ctypes.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit
from oracle import ROUNDINGS, SEED, STOCHASTIC, assert_same, expected, spread
from torch import Tensor

import lowprec
from lowprec.kernels import elementwise, grouped, threads
from lowprec.kernels.elementwise import SERIAL_BELOW
from lowprec.kernels.memory import at
from lowprec.modes import Rounding

PACKAGE = Path(lowprec.__file__).parent
FORMATS = ["e4m3fn", "fixed8f4", "bfp8", "bfp8<group16>", "bfp8<group1000>", "bfp8<group3@0>",
           "bfp8<channel0>", "bfp8<channel-1>", "bfp8<block16x16>"]  # fmt: skip
SHAPES = [
    (SERIAL_BELOW - 1,), (SERIAL_BELOW,), (SERIAL_BELOW + 1,), (100_003,), (3, 50_021),
    (50_021, 3), (311, 307), (7, 2, 61, 83),
]  # fmt: skip


NO_OPENMP = Path("no library")


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    """Leave torch with the number of threads that it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["openmp", "python"])
def layer(request: pytest.FixtureRequest) -> Iterator[str]:
    """Either kind of threads; on a system where torch has no OpenMP, only Python's."""
    if request.param == "openmp" and threads.layer() == "Python threads":
        pytest.skip("torch has no OpenMP runtime of that name here")
    library = threads._library
    if request.param == "python":
        threads.use_openmp_of(NO_OPENMP)
    yield request.param
    threads.use_openmp_of(library)


def results(x: Tensor, rounding: str, count: int) -> list[Tensor]:
    """Every format's values and flags by so many threads."""
    torch.set_num_threads(count)
    seed = torch.tensor([SEED - 2**64]) if rounding == STOCHASTIC else None
    operators = torch.ops.lowprec.quantize, torch.ops.lowprec.overflowed
    formats = [format for format in FORMATS if x.dim() > 1 or "block" not in format]
    return [run(x, seed, format, rounding, 32) for format in formats for run in operators]


@pytest.mark.usefixtures("layer")
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
        for x in (spread(307, 311).T, spread(60_000, 2, dtype=torch.bfloat16)[:, 0]):
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
        def share(kernel, calls, count):
            if count > 1:
                pytest.fail(f"{count} threads")
            threads.share(kernel, calls, count)

        for module in (elementwise, grouped):
            monkeypatch.setattr(module, "share", share)
        for format in ("e4m3fn", "bfp8<channel0>", "int8"):
            torch.set_num_threads(2)
            lowprec.quantize(spread(1, SERIAL_BELOW - 1), format)
            torch.set_num_threads(1)
            lowprec.quantize(spread(1, SERIAL_BELOW), format)
            torch.set_num_threads(3)
            with pytest.raises(pytest.fail.Exception, match="3 threads"):
                lowprec.quantize(spread(1, SERIAL_BELOW), format)


@njit("void(int64, int64)", nogil=True)
def count_up(address: int, place: int) -> None:
    """A kernel that adds 1 to one of the integers that begin at an address."""
    at(address, np.int64)[place] += 1


def failing(number: int, failure: int) -> None:
    """A kernel in Python that fails on one number."""
    if number == failure:
        raise KeyError(number)


class TestSharing:
    @pytest.mark.parametrize("units", [1, 2, 3, 7, 64])
    @pytest.mark.parametrize("parts", [1, 2, 5, 100])
    def test_ranges_make_up_all_units(self, units: int, parts: int) -> None:
        ranges = threads.ranges(units, parts)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == units
        assert all(first < last for first, last in ranges)
        assert all(one[1] == other[0] for one, other in pairwise(ranges))
        assert len(ranges) == min(units, parts)

    @pytest.mark.parametrize("calls", [1, 2, 3, 1000])
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_every_call_is_made_once(self, calls: int, count: int, layer: str) -> None:
        done = np.zeros(calls, np.int64)
        threads.share(count_up, [(done.ctypes.data, place) for place in range(calls)], count)
        assert done.tolist() == [1] * calls

    @pytest.mark.parametrize("failure", [0, 5, 11])
    @pytest.mark.parametrize("count", [1, 3])
    def test_a_failure_in_any_python_thread_reaches_the_caller(self, failure: int, count: int) -> None:
        library = threads._library
        threads.use_openmp_of(NO_OPENMP)
        try:
            with pytest.raises(KeyError, match=str(failure)):
                threads.share(failing, [(number, failure) for number in range(12)], count)
        finally:
            threads.use_openmp_of(library)

    def test_torch_and_kernels_share_threads_on_linux(self) -> None:
        if sys.platform != "linux":
            pytest.skip("other builds of torch may have another runtime")
        running = Path("/proc/self/task")
        torch.set_num_threads(4)
        x = torch.randn(1 << 20)
        x.add_(1)  # torch starts its workers
        with_torch = {*running.iterdir()}
        lowprec.quantize(x, "e4m3fn")
        assert threads.layer() == "the OpenMP threads of torch"
        assert {*running.iterdir()} <= with_torch  # none is new; idle ones may end

    def test_a_library_without_openmp_means_python_threads(self) -> None:
        library = threads._library
        try:
            for other in (NO_OPENMP, Path(ctypes.util.find_library("c") or NO_OPENMP)):
                threads.use_openmp_of(other)
                assert threads.layer() == "Python threads"
        finally:
            threads.use_openmp_of(library)

    def test_callers_from_several_python_threads(self, layer: str) -> None:
        torch.set_num_threads(3)
        tensors = [spread(3, 32_345, seed=seed) for seed in range(4)]
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


def script(body: str, layer: str, **environment: str) -> str:
    """What a fresh interpreter prints for a script; a child that hangs or dies is a failure."""
    finished = subprocess.run(
        [sys.executable, "-c", PREAMBLE.format(python=layer == "python") + body],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


PREAMBLE = """
import os, sys, threading, torch, lowprec
from pathlib import Path
from lowprec.kernels import threads
if {python}:
    threads.use_openmp_of(Path("no library"))
torch.set_num_threads(3)
x = torch.randn(7, 19001, generator=torch.Generator().manual_seed(0))
def run():
    return [lowprec.quantize(x, format, rounding="stochastic", seed=7) for format in ("e5m2", "bfp8")]
def agree(results):  # not by an operator of torch, which a forked child may wait for forever
    return all((a.numpy() == b.numpy()).all() for a, b in zip(results, want, strict=True))
want = run()
ours = sum(t.name.startswith("lowprec") for t in threading.enumerate())
assert ours == (2 if threads.layer() == "Python threads" else 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_and_a_forked_loader_worker_give_the_same_bits(layer: str) -> None:
    body = """
for locked in (False, True):
    if locked:  # as if another thread were just making a pool
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
    assert script(body, layer).split() == ["17", "17", "True", "True"]


def test_two_python_threads_on_the_workqueue_layer(layer: str) -> None:
    body = """
answers = []
def work():
    answers.extend(agree(run()) for _ in range(20))
workers = [threading.Thread(target=work) for _ in range(2)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(len(answers), all(answers))
"""
    assert script(body, layer, NUMBA_THREADING_LAYER="workqueue").split() == ["40", "True"]


SUBNORMAL = {  # for each carrier: formats with values, or ties, among its subnormals, and some without
    torch.float32: ["binary32", "e8m7ieee<bias133>", "fixed8f130", "e4m3fn", "fixed8f4", "bfp8",
                    "bfp8<group4>", "bfp8<channel0>"],
    torch.bfloat16: ["bfloat16", "e8m2fn<bias131>", "fixed7f133", "e4m3fn", "fixed8f4", "bfp4<group4>"],
    torch.float16: ["binary16", "e3m2<bias20>", "fixed8f24", "e4m3fn", "fixed8f4", "bfp4<group4>"],
    torch.float64: ["binary64", "e11m30ieee<bias1044>", "fixed8f1074", "e4m3fn", "fixed8f4",
                    "bfp4<group4>"],
}  # fmt: skip
PATTERNS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def subnormal(dtype: torch.dtype) -> Tensor:
    """Small magnitudes of both signs, half of them subnormal, then some larger ones; rows of four."""
    pattern = PATTERNS[dtype.itemsize]
    normal = int(torch.tensor(torch.finfo(dtype).smallest_normal, dtype=dtype).view(pattern))
    count = SERIAL_BELOW // 2
    small = torch.arange(1, count + 1).mul(2 * normal // count or 1).to(pattern).view(dtype)
    return torch.cat([small, -small, spread(count).nan_to_num(0.5, 1.0, -1.0).to(dtype)]).view(-1, 4)


def same_patterns(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors hold the same bits."""
    return torch.equal(x.view(PATTERNS[x.itemsize]), y.view(PATTERNS[y.itemsize]))


def results_of(x: Tensor, format: str, rounding: str, *, complete: bool) -> list[Tensor]:
    """Values and, if complete, flags, codes, scales, and the values that those are decoded to."""
    noise = {"seed": SEED} if Rounding(rounding).is_stochastic else {}
    values = lowprec.quantize(x, format, rounding=rounding, **noise)
    if not complete:
        return [values]
    words = torch.tensor([SEED - 2**64]) if noise else None
    fired = torch.ops.lowprec.overflowed(x, words, format, rounding, 32)
    codes = lowprec.encode(x, format, rounding=rounding, **noise)
    coded = codes if isinstance(codes, tuple) else (codes, None)
    decoded = lowprec.decode(coded[0], format, scales=coded[1], dtype=x.dtype)
    return [values, fired, decoded, *(part for part in coded if part is not None)]


@pytest.mark.parametrize(
    ("dtype", "rounding", "complete"),
    [(dtype, "nearest_even", False) for dtype in SUBNORMAL]
    + [(torch.float32, STOCHASTIC, False)]
    + [
        pytest.param(dtype, rounding, True, marks=pytest.mark.exhaustive)
        for dtype in SUBNORMAL
        for rounding in Rounding
    ],
    ids=str,
)
def test_flushing_subnormals_to_zero_changes_nothing(dtype, rounding, complete, layer, monkeypatch) -> None:
    """The flag belongs to a thread and is inherited by those it starts, so all of this is in one."""
    monkeypatch.setattr(threads, "_pools", {})
    x = subnormal(dtype)

    def everything() -> dict[str, list[Tensor]]:
        return {f: results_of(x, f, rounding, complete=complete) for f in SUBNORMAL[dtype]}

    def flushed() -> tuple[bool, dict[str, list[Tensor]]]:
        if not torch.set_flush_denormal(True):
            return False, {}
        effective = (torch.full((5,), 1e-40).mul_(1.0) == 0).all().item()
        return effective, everything()

    torch.set_num_threads(1)
    want = everything()
    assert want[SUBNORMAL[dtype][0]][0].count_nonzero() > x.numel() * 0.9  # this format keeps subnormals
    torch.set_num_threads(3)
    with ThreadPoolExecutor(1) as pool:
        effective, got = pool.submit(flushed).result()
    if not effective:
        pytest.skip("this processor cannot flush subnormals to zero")
    for format, wanted in want.items():
        for one, other in zip(got[format], wanted, strict=True):
            assert same_patterns(one, other), format
