"""Checkpoints are whole, or refused, or the one before."""

import os

import pytest
import torch

from lowprec.app import checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def test_what_was_saved_is_loaded(path):
    state = {"weight": torch.tensor([0.1, float("nan")]), "rows": [1, 2.5, None], "name": "a"}
    checkpoint.save(path, state)
    loaded = checkpoint.load(path)
    assert loaded["weight"].numpy().tobytes() == state["weight"].numpy().tobytes()
    assert loaded["rows"] == state["rows"]
    assert list(path.parent.iterdir()) == [path]


DAMAGED = r"have (an undamaged checkpoint|a checkpoint of this version of lowprec).*checkpoint\.pt"


def test_every_flipped_bit_and_every_cut_is_noticed(path):
    checkpoint.save(path, {"weight": torch.zeros(4)})
    content = path.read_bytes()
    for position in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=DAMAGED):
            checkpoint.load(path)
        path.write_bytes(content[:position])
        with pytest.raises(ValueError, match=DAMAGED):
            checkpoint.load(path)
        assert path.read_bytes() == content[:position]


def test_a_missing_checkpoint_is_named(path):
    with pytest.raises(FileNotFoundError, match=r"`--resume` must have a checkpoint, got .*checkpoint\.pt"):
        checkpoint.load(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_one_before(path, monkeypatch, step):
    checkpoint.save(path, {"step": 1})

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path) == {"step": 1}
