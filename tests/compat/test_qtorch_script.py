"""A whole training script in QPyTorch's idiom runs with its imports changed and nothing else."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from compat.peer import HERE, qpytorch

TEXT = (Path(__file__).parent / "qpytorch_training.txt").read_text(encoding="utf-8")
IMPORTS = (
    (r"^import qtorch$", f"import {HERE} as qtorch"),
    (r"^from qtorch( |\.)", rf"from {HERE}\1"),
)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small layers do not gain from several threads, which wait for one another on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def function(text):
    """The script's ``train``."""
    namespace = {"__name__": "script"}
    exec(compile(text, "<script>", "exec"), namespace)
    return namespace["train"]


def ported():
    """The script with its import lines changed, and no others."""
    text = TEXT
    for pattern, replacement in IMPORTS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    changed = [
        (old, new) for old, new in zip(TEXT.splitlines(), text.splitlines(), strict=True) if old != new
    ]
    assert len(changed) == 5
    assert all(re.match("(import|from) qtorch", old) for old, _ in changed)
    return text


@cache
def ours(rounding, seed):
    """What the ported script gives."""
    return function(ported())(rounding, seed)


def assert_same(got, want):
    """Equal bits of losses, accuracy, weights, momenta and accumulators."""
    assert torch.equal(got[0], want[0])
    assert got[1] == want[1]
    assert got[2].keys() == want[2].keys()
    for name in got[2]:
        assert torch.equal(got[2][name], want[2][name]), name
    for mine, theirs in zip(got[3] + got[4], want[3] + want[4], strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_it_learns_and_one_seed_gives_the_same_bits_twice(rounding):
    first = ours(rounding, 0)
    assert_same(function(ported())(rounding, 0), first)
    losses, correct = first[:2]
    assert losses[-4:].mean() < losses[:4].mean() / 2
    assert correct > 0.9


def test_another_seed_gives_other_bits():
    assert not torch.equal(ours("stochastic", 0)[0], ours("stochastic", 1)[0])


def test_untouched_it_gives_the_same_bits_with_qpytorch_itself():
    qpytorch()
    assert_same(ours("nearest", 0), function(TEXT)("nearest", 0))


def test_untouched_it_learns_as_much_with_qpytorchs_noise():
    qpytorch()
    losses, correct = function(TEXT)("stochastic", 0)[:2]
    assert losses[-4:].mean() < losses[:4].mean() / 2
    assert correct > 0.9
