"""LowPrecision where a torch optimizer is expected: closures, schedulers, groups, hooks, errors."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from lowprec import Cast, FloatingPoint, quantize
from lowprec.optim import LowPrecision


def parameter(*values):
    return nn.Parameter(torch.tensor(values or (0.3, -0.7)))


def sgd(p, lr=0.1, **options):
    return torch.optim.SGD([p], lr=lr, **options)


def test_it_is_a_torch_optimizer_and_shows_the_inner_one():
    p = parameter()
    inner = torch.optim.Adam([p], lr=0.25)
    optimizer = LowPrecision(inner, weight="fixed8f6", state=Cast("bfp8", "stochastic"))
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is inner.param_groups
    assert optimizer.state is inner.state
    assert optimizer.defaults is inner.defaults
    text = repr(optimizer)
    assert text.startswith("LowPrecision(state=bfp8 stochastic, weight=fixed8f6 nearest_even)\nAdam")
    optimizer.param_groups[0]["lr"] = 0.5
    assert inner.param_groups[0]["lr"] == 0.5


def test_weights_are_rounded_at_construction():
    p = parameter(0.3, -0.7, 5.0)
    LowPrecision(sgd(p), weight="fixed8f6")
    assert torch.equal(p, quantize(torch.tensor([0.3, -0.7, 5.0]), "fixed8f6"))
    assert p.requires_grad
    assert p.grad_fn is None


def test_a_closure_is_called_once_at_the_rounded_weights_with_gradients():
    p = parameter()
    optimizer = LowPrecision(sgd(p), weight="fixed8f6", master="bfloat16")
    calls = []

    def closure():
        calls.append((torch.is_grad_enabled(), p.detach().clone()))
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        before = p.detach().clone()
        with torch.no_grad():
            loss = optimizer.step(closure)
        grad_enabled, at = calls[-1]
        assert grad_enabled
        assert torch.equal(at, before)
        assert torch.equal(at, quantize(at, "fixed8f6"))
        assert loss.item() == before.square().sum().item()
        assert not torch.equal(p, before)
    assert len(calls) == 3


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=10),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (step + 1)),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)], [2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_schedulers_act_as_on_the_inner_optimizer(name, make):
    histories = []
    for wrap in (False, True):
        p = parameter()
        options = {"momentum": 0.9} if make is torch.optim.SGD else {}
        optimizer = make([p], lr=0.1, **options)
        if wrap:
            optimizer = LowPrecision(optimizer, weight="fixed8f6", seed=0)
        scheduler, history = SCHEDULERS[name](optimizer), []
        for _ in range(8):
            p.grad = torch.ones(2)
            optimizer.step()
            scheduler.step(*[1.0] * (name == "ReduceLROnPlateau"))
            history.append({k: v for k, v in optimizer.param_groups[0].items() if k != "params"})
        histories.append(history)
    assert histories[0] == histories[1]
    assert histories[0][0] != histories[0][-1]


@pytest.mark.parametrize("name", ["StepLR", "CosineAnnealingLR", "LambdaLR", "SequentialLR"])
def test_schedulers_drive_the_inner_optimizer_after_loading(name):
    """Both ways of going on: a new scheduler that is loaded, and one that was there before."""
    p = parameter()
    optimizer = LowPrecision(sgd(p, momentum=0.9), weight="fixed8f6", seed=0)
    scheduler = SCHEDULERS[name](optimizer)

    def rates(optimizer, scheduler, steps=4):
        history = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            history.append(optimizer.optimizer.param_groups[0]["lr"])
        return history

    rates(optimizer, scheduler)
    saved = copy.deepcopy([optimizer.state_dict(), scheduler.state_dict()])
    want = rates(optimizer, scheduler)
    assert len(set(want)) > 1
    fresh = LowPrecision(sgd(parameter(), lr=9.0, momentum=0.9), weight="fixed8f6", seed=1)
    again = SCHEDULERS[name](fresh)
    for other, follower in ((fresh, again), (optimizer, scheduler)):
        other.load_state_dict(saved[0])
        follower.load_state_dict(saved[1])
        assert rates(other, follower) == want


def test_hooks_of_state_dicts_run_once():
    p, calls = parameter(), []
    optimizer = LowPrecision(sgd(p), weight="fixed8f6")
    optimizer.register_state_dict_pre_hook(lambda _: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "note": "mine"})
    optimizer.register_state_dict_post_hook(lambda _, state: calls.append(f"saved {state['note']}"))
    optimizer.register_load_state_dict_pre_hook(lambda _, state: state.update(seen=True))
    optimizer.register_load_state_dict_pre_hook(lambda _, state: calls.append(f"loading {state['seen']}"))
    optimizer.register_load_state_dict_post_hook(lambda _: calls.append("loaded"))
    state = optimizer.state_dict()
    assert state["note"] == "mine"
    before = sorted(state)
    optimizer.load_state_dict(state)
    assert calls == ["before saving", "saved mine", "loading True", "loaded"]
    assert sorted(state) == before, "what is loaded is left as it is"


def test_hooks_of_torch_optimizers_run_once_a_step():
    p, calls = parameter(), []
    optimizer = LowPrecision(sgd(p), weight="fixed8f6")
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    p.grad = torch.ones(2)
    optimizer.step()
    assert calls == ["before", "after"]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    p = parameter()
    optimizer = LowPrecision(sgd(p), weight="fixed8f6")
    p.grad = torch.ones(2)
    optimizer.zero_grad(set_to_none)
    assert p.grad is None if set_to_none else p.grad.tolist() == [0.0, 0.0]


def test_a_later_parameter_group_is_rounded_and_stepped():
    p, q = parameter(), parameter(0.4)
    optimizer = LowPrecision(sgd(p, momentum=0.9), weight="fixed8f6", master="bfloat16", seed=0)
    optimizer.add_param_group({"params": [q], "lr": 0.5})
    assert q.item() == 26 / 64
    assert optimizer.master_weights[q].item() == quantize(torch.tensor([0.4]), "bfloat16").item()
    p.grad, q.grad = torch.zeros(2), torch.tensor([0.25])
    optimizer.step()
    # the master 0.400390625 less 0.5 · 0.25
    assert optimizer.master_weights[q].item() == 0.275390625
    assert q.item() == 18 / 64


def test_a_group_that_cannot_be_rounded_is_not_added():
    p = parameter()
    optimizer = LowPrecision(sgd(p), weight="binary16")
    wrong = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="`format` must be exact in the carrier bfloat16"):
        optimizer.add_param_group({"params": [wrong]})
    assert len(optimizer.param_groups) == 1
    p.grad = torch.ones(2)
    optimizer.step()


def test_a_parameter_that_is_frozen_later_keeps_its_bits_and_goes_on_when_it_thaws():
    p, q = parameter(), parameter()
    inner = torch.optim.Adam([p, q], lr=0.1)
    optimizer = LowPrecision(inner, weight=Cast("fixed8f6", "stochastic"), state="bfp8", seed=0)

    def step():
        optimizer.zero_grad()
        sum((x * x).sum() for x in (p, q) if x.requires_grad).backward()
        optimizer.step()

    step()
    q.requires_grad_(False)
    kept = [q.detach().clone(), inner.state[q]["exp_avg"].clone()]
    step()
    assert torch.equal(q, kept[0])
    assert torch.equal(inner.state[q]["exp_avg"], kept[1])
    q.requires_grad_(True)
    step()
    assert not torch.equal(q, kept[0])
    assert (inner.state[p]["step"], inner.state[q]["step"]) == (3, 2)


def test_frozen_parameters_keep_their_bits_after_construction():
    p, frozen = parameter(), parameter(0.3)
    frozen.requires_grad_(False)
    optimizer = LowPrecision(torch.optim.Adam([p, frozen], lr=0.1), weight="fixed8f6", state="bfp8")
    p.grad = torch.ones(2)
    optimizer.step()
    assert frozen.item() == 19 / 64
    assert frozen not in optimizer.state


def test_a_parameter_without_dimensions_keeps_its_step_counter():
    p = nn.Parameter(torch.tensor(0.5))
    optimizer = LowPrecision(torch.optim.Adam([p], lr=0.01), state="fixed8f7", weight="fixed8f7")
    for _ in range(3):
        p.grad = torch.tensor(0.3)
        optimizer.step()
    state = optimizer.state[p]
    assert state["step"].item() == 3
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[name], quantize(state[name], "fixed8f7"))


def test_a_weight_that_overflows_to_nan_keeps_its_master():
    p = parameter(300.0, 500.0)
    format = FloatingPoint(4, 3, specials="fn", overflow="infinity")  # 448 is its largest value
    optimizer = LowPrecision(sgd(p, lr=1.0), weight=format, master="binary32")
    assert p[1].isnan()
    for _ in range(3):
        p.grad = torch.tensor([1.0, 20.0])
        optimizer.step()
    assert optimizer.master_weights[p].tolist() == [297.0, 440.0]
    assert p.tolist() == [288.0, 448.0]


def test_gradient_scale_acts_without_a_gradient_cast_and_before_one():
    for cast, want in ((None, 0.075), ("fixed8f4", 0.0625)):
        p = parameter(0.0)
        optimizer = LowPrecision(sgd(p, lr=1.0), gradient=cast, gradient_scale=0.25)
        p.grad = torch.tensor([0.3])
        optimizer.step()
        assert p.grad.item() == pytest.approx(want)
        assert p.item() == -p.grad.item()


def test_amp_scaler_is_not_needed_but_a_disabled_one_does_no_harm():
    p = parameter()
    optimizer = LowPrecision(sgd(p), weight="fixed8f6")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler = torch.amp.GradScaler("cpu", enabled=False)
    before = p.detach().clone()
    scaler.scale(p.sum()).backward()
    scaler.step(optimizer)
    assert not torch.equal(p, before)


def test_autograd_notices_that_a_step_has_changed_the_weights():
    p = parameter()
    optimizer = LowPrecision(sgd(p, lr=0.0), weight="fixed8f6")
    loss = p.square().sum()
    p.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_nothing_outlives_the_optimizer():
    p = parameter()
    optimizer = LowPrecision(sgd(p), weight="fixed8f6", master="bfloat16")
    seen = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert seen() is None


def adam(p=None):
    return torch.optim.Adam([parameter() if p is None else p])


INTEGERS = nn.Parameter(torch.ones(2, dtype=torch.int32), requires_grad=False)
NARROW = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: LowPrecision([parameter()]), TypeError, "`optimizer` must be a torch optimizer"),
        (lambda: LowPrecision(torch.optim.LBFGS([parameter()])), TypeError,
         "`optimizer` must step once on each gradient, and not be wrapped yet.*LBFGS"),
        (lambda: LowPrecision(LowPrecision(adam())), TypeError, "not be wrapped yet.*LowPrecision"),
        (lambda: LowPrecision(adam(), gradient_scale="1"), TypeError, "`gradient_scale` must be a number"),
        (lambda: LowPrecision(adam(), gradient_scale=True), TypeError, "`gradient_scale` must be a number"),
        (lambda: LowPrecision(adam(), gradient_scale=0), ValueError, "`gradient_scale` must be positive"),
        (lambda: LowPrecision(adam(), gradient_scale=float("inf")), ValueError, "positive and finite"),
        (lambda: LowPrecision(adam(), weight="fixed8"), ValueError, "`format` must be a known name"),
        (lambda: LowPrecision(adam(), weight=8), TypeError, "`format` must be a format, a name or"),
        (lambda: LowPrecision(adam(), gradient=Cast("e5m2", clip_gradient=True)), ValueError,
         "`gradient` must not clip gradients"),
        (lambda: LowPrecision(adam(), state={"exp_avg": "fixed8"}), ValueError, "be a known name"),
        (lambda: LowPrecision(adam(), state={"": "bfp8"}), ValueError, "`state` must map names of states"),
        (lambda: LowPrecision(adam(), state={3: "bfp8"}), ValueError, r"names of states.*got \[3\]"),
        (lambda: LowPrecision(adam(), seed=1.5), TypeError, "`seed` must be an integer"),
        (lambda: LowPrecision(adam(), seed=2**64), ValueError, "`seed` must fit into 64 bits"),
        (lambda: LowPrecision(adam(INTEGERS)), TypeError, "`x` must be float32, bfloat16"),
        (lambda: LowPrecision(adam(NARROW), master="binary16"), ValueError,
         "`format` must be exact in the carrier bfloat16"),
        (lambda: LowPrecision(adam(NARROW), state={"exp_avg": "binary16"}), ValueError,
         "`format` must be exact in the carrier bfloat16"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_an_error(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_sparse_gradients_are_an_error():
    embedding = nn.Embedding(3, 2, sparse=True)
    optimizer = LowPrecision(torch.optim.SGD(embedding.parameters(), lr=0.1), weight="fixed8f6")
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match=r"`grad` must be dense, got torch\.sparse_coo"):
        optimizer.step()


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (adam, "exp_average", r"`state` must name states of the optimizer \(exp_avg, exp_avg_sq\), got"),
        (adam, "step", r"states of the optimizer \(exp_avg, exp_avg_sq\), got \['step'\]"),
        (sgd, "momentum_buffer", r"states of the optimizer \(none\), got \['momentum_buffer'\]"),
    ],
)
def test_an_unknown_state_is_an_error_at_the_first_step(make, name, message):
    p = parameter()
    optimizer = LowPrecision(make(p), state={name: "bfp8"}, weight="fixed8f6")
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert torch.equal(p, quantize(p.detach(), "fixed8f6")), "the step itself is whole"


def test_a_state_that_exists_only_for_a_later_parameter_is_no_error():
    p, q = parameter(), parameter()
    inner = torch.optim.SGD([{"params": [p]}, {"params": [q], "momentum": 0.9}], lr=0.1)
    optimizer = LowPrecision(inner, state={"momentum_buffer": "fixed8f2"})
    p.grad = torch.ones(2)
    optimizer.step()
    q.grad = torch.full((2,), 0.3)
    optimizer.step()
    assert inner.state[q]["momentum_buffer"].tolist() == [0.25, 0.25]
