"""Saving, loading, copying: the steps that follow have the same bits."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import lowprec
from lowprec import Cast
from lowprec.optim import LowPrecision

MAKE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}
NOISY = {
    "weight": Cast("fixed8f6", "stochastic"),
    "gradient": Cast("e5m2", "stochastic"),
    "state": Cast("bfp8", "stochastic", random_bits=9),
    "master": Cast("bfloat16", "stochastic"),
}


def training(name, *, seed=None, **options):
    """A converted model and its optimizer."""
    torch.manual_seed(0)
    model = lowprec.convert(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), "bfp8-sr")
    return model, LowPrecision(MAKE[name](model.parameters()), seed=seed, **(options or NOISY))


def train(model, optimizer, steps, scheduler=None):
    for step in range(steps):
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_equal(model, optimizer, other_model, other_optimizer):
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        assert p is not q
        assert torch.equal(p, q)
        assert torch.equal(optimizer.master_weights[p], other_optimizer.master_weights[q])
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, other_optimizer.state[q][key]), key


@pytest.mark.parametrize("name", MAKE)
def test_save_load_step_equals_step(name, tmp_path):
    model, optimizer = training(name)
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    train(model, optimizer, 5, scheduler)
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "noise": torch.get_rng_state(),
    }
    torch.save(saved, tmp_path / "run.pt")
    train(model, optimizer, 5, scheduler)

    torch.manual_seed(99)
    other, fresh = training(name)
    again = lr_scheduler.StepLR(fresh, 2)
    loaded = torch.load(tmp_path / "run.pt", weights_only=True)
    other.load_state_dict(loaded["model"])
    fresh.load_state_dict(loaded["optimizer"])
    again.load_state_dict(loaded["scheduler"])
    torch.set_rng_state(loaded["noise"])
    train(other, fresh, 5, again)
    assert_equal(model, optimizer, other, fresh)


def test_loading_takes_up_the_seed_the_step_and_the_masters():
    model, optimizer = training("sgd", seed=5)
    train(model, optimizer, 3)
    other, fresh = training("sgd", seed=6)
    fresh.load_state_dict(optimizer.state_dict())
    own = fresh.state_dict()["lowprec"]
    assert (own["seed"].tolist(), own["step"], own["gradient_scale"]) == ([5], 3, 1.0)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(optimizer.master_weights[p], fresh.master_weights[q])
        assert optimizer.master_weights[p] is not fresh.master_weights[q]


def test_a_state_dict_holds_formats_as_text():
    _, optimizer = training("adam", weight="fixed8f6", state={"exp_avg": Cast("e4m3fn", "stochastic")})
    assert optimizer.state_dict()["lowprec"]["formats"] == {
        "weight": ["fixed8f6", "nearest_even", 32],
        "state.exp_avg": ["e4m3fn", "stochastic", 32],
    }


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_of_model_and_optimizer_go_on_alike(name, how):
    model, optimizer = training(name)
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    train(model, optimizer, 3, scheduler)
    pair = (model, optimizer)
    if how == "deepcopy":
        other, copied = copy.deepcopy(pair)
    elif how == "pickle":
        other, copied = pickle.loads(pickle.dumps(pair))
    else:
        buffer = io.BytesIO()
        torch.save(pair, buffer)
        buffer.seek(0)
        other, copied = torch.load(buffer, weights_only=False)
    assert repr(copied) == repr(optimizer)
    for m, o in ((model, optimizer), (other, copied)):
        torch.manual_seed(7)
        train(m, o, 4)
    assert_equal(model, optimizer, other, copied)
    copied.register_step_post_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": "fixed8f5"}, "`state_dict` must have the formats .*fixed8f5"),
        ({"weight": Cast("fixed8f6", "toward_zero")}, "`state_dict` must have the formats"),
        ({"master": None}, "`state_dict` must have the formats"),
        ({"gradient_scale": 0.5}, "`state_dict` must have the gradient_scale 0.5, got 1.0"),
        ({"state": {"momentum_buffer": NOISY["state"]}}, "`state_dict` must have the formats"),
    ],
)
def test_a_state_dict_of_other_casts_is_an_error(change, message):
    _, optimizer = training("sgd", **NOISY)
    saved = optimizer.state_dict()
    _, other = training("sgd", **{**NOISY, **change})
    before = other.state_dict()["lowprec"]["seed"].clone()
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(saved)
    assert torch.equal(other.state_dict()["lowprec"]["seed"], before)


def test_a_state_dict_from_elsewhere_is_an_error():
    _, optimizer = training("sgd")
    message = "`state_dict` must come from a LowPrecision optimizer of this version"
    for wrong in (optimizer.optimizer.state_dict(), {"lowprec": {"version": 0}}, {}):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(wrong)


@pytest.mark.parametrize("damage", [lambda m: m.pop(0), lambda m: m.update({0: torch.ones(3)})])
def test_a_state_dict_with_other_masters_is_an_error(damage):
    _, optimizer = training("sgd")
    saved = optimizer.state_dict()
    damage(saved["lowprec"]["masters"])
    with pytest.raises(ValueError, match=r"hold masters of the shapes \{0: \(5, 6\), 1"):
        optimizer.load_state_dict(saved)


def test_a_state_dict_for_other_parameters_is_torchs_error():
    _, optimizer = training("sgd", weight="fixed8f6")
    other = LowPrecision(MAKE["sgd"]([nn.Parameter(torch.ones(2))]), weight="fixed8f6")
    with pytest.raises(ValueError, match="parameter group"):
        other.load_state_dict(optimizer.state_dict())
