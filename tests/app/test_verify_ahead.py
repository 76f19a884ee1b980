"""Compiling ahead: which kernels, by how many interpreters, and what stops it."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar, Self

import pytest
import torch

from lowprec.app.interrupt import Interrupted
from lowprec.app.verify import ahead, command, kernel
from lowprec.app.verify.claim import CLAIMS, Part
from lowprec.app.verify.comparison import Outcome
from lowprec.app.verify.inputs import holders
from lowprec.app.verify.setting import settings
from lowprec.formats import parse

NAMES = ["e4m3fn", "binary64", "bfp8", "fixed8f4", "e2m1"]


class Here:
    """In the place of a pool: jobs are done at once, in this process."""

    pools: ClassVar[list["Here"]] = []
    work: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, workers: int, context: Any, initializer: Callable[[], None]) -> None:
        self.workers, self.jobs, self.stopped = workers, [], False
        self.method = context.get_start_method()
        Here.pools.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *job: Any) -> "Future[None]":
        assert function is ahead.compile_kernels
        self.jobs.append(job)
        future: Future[None] = Future()
        try:
            future.set_result(Here.work(*job) if Here.work else None)
        except BrokenProcessPool as error:
            future.set_exception(error)
        return future

    def shutdown(self, *, cancel_futures: bool) -> None:
        self.stopped = cancel_futures


@pytest.fixture(autouse=True)
def _pool(monkeypatch) -> Iterator[None]:
    """No interpreters are started; torch has two threads."""
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(Here, "pools", [])
    monkeypatch.setattr(Here, "work", None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_format_in_every_carrier_once() -> None:
    ahead.compile_ahead(NAMES)
    (pool,) = Here.pools
    assert (pool.workers, pool.method) == (2, "spawn")
    assert sorted(pool.jobs, key=str) == sorted(
        ((name, carrier) for name in NAMES for carrier in holders(parse(name))), key=str
    )


def test_never_more_interpreters_than_memory_is_likely_for() -> None:
    torch.set_num_threads(7)
    ahead.compile_ahead(NAMES)
    assert Here.pools[0].workers == ahead.MOST


def test_nothing_where_it_saves_nothing(monkeypatch) -> None:
    ahead.compile_ahead(NAMES[: ahead.FEW - 1])
    torch.set_num_threads(1)
    ahead.compile_ahead(NAMES)
    torch.set_num_threads(2)
    monkeypatch.setattr(ahead.dispatch, "cache_folder", lambda: None)
    ahead.compile_ahead(NAMES)
    assert Here.pools == []


def test_ctrl_c_stops_it(monkeypatch) -> None:
    monkeypatch.setattr(
        Here, "work", lambda *job: signal.raise_signal(signal.SIGINT) if job == last else None
    )
    last = (NAMES[-1], holders(parse(NAMES[-1]))[-1])
    with pytest.raises(Interrupted):
        ahead.compile_ahead(NAMES)
    assert Here.pools[0].stopped


def test_a_killed_interpreter_is_said_and_no_reason_to_stop(monkeypatch, capsys) -> None:
    def killed(*job: Any) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(Here, "work", killed)
    ahead.compile_ahead(NAMES)
    assert "An interpreter was killed" in capsys.readouterr().err


def test_all_settings_are_compiled(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        kernel, "quantize", lambda x, format, setting: seen.append((x.dtype, format, setting))
    )
    ahead.compile_kernels("e2m1", torch.bfloat16)
    assert seen == [(torch.bfloat16, parse("e2m1"), setting) for setting in settings()]


def test_what_is_stopped_while_compiling_says_how_to_go_on(lowprec_command, monkeypatch) -> None:
    part = Part(CLAIMS["patterns"], "a", 3, 1.0, lambda tick: Outcome(inputs=10, results=20))
    monkeypatch.setattr(command, "plan", lambda names, exhaustive: [part])

    def stopped(formats: list[str]) -> None:
        assert formats == ["a"]
        raise Interrupted

    monkeypatch.setattr(command, "compile_ahead", stopped)
    result = lowprec_command("verify")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].endswith("Go on with: lowprec verify")  # nothing to resume
