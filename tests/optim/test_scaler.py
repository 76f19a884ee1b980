"""Dynamic loss scales: torch.amp.GradScaler around LowPrecision."""

import copy

import pytest
import torch
from optim.plain_steps import Plain, same, tensors
from torch import nn

from lowprec import Cast
from lowprec.optim import LowPrecision

NOISY = {
    "weight": Cast("fixed8f6", "stochastic"),
    "gradient": Cast("e5m2", "stochastic"),
    "state": Cast("bfp8", "stochastic"),
    "master": Cast("bfloat16", "stochastic"),
}
KAHAN = {"weight": Cast("bfloat16", "stochastic"), "compensation": "kahan"}
SHAPES = [(3, 2), (4,)]
SCALE = 2.0**10


def adamw(p, **options):
    return torch.optim.AdamW(p, lr=0.01, **options)


def momentum(p, **options):
    return torch.optim.SGD(p, lr=0.1, momentum=0.9, **options)


def made(make=adamw, *, dtype=torch.float32, inner=None, **options):
    """An optimizer and a scaler."""
    parameters = [nn.Parameter(x) for x in tensors(SHAPES, 0, dtype=dtype)]
    optimizer = LowPrecision(make(parameters, **(inner or {})), seed=11, **(options or NOISY))
    return optimizer, torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=3)


def backward(optimizer, scaler, number, *, broken=False):
    """A scaled loss whose gradients are numbers of our choice."""
    optimizer.zero_grad()
    parameters = [p for _, p in optimizer.numbered_parameters()]
    gradients = tensors(SHAPES, number + 1, scale=0.3, dtype=parameters[0].dtype)
    loss = sum((p * g).sum() for p, g in zip(parameters, gradients, strict=True))
    scaler.scale(loss).backward()
    if broken:
        parameters[1].grad[2] = float("inf")
    return gradients


def everything(optimizer):
    """A copy of weights, states and what is kept, but for the count of skipped steps."""
    state = copy.deepcopy(optimizer.state_dict())
    state["lowprec"].pop("skipped_steps")
    return state, [p.detach().clone() for _, p in optimizer.numbered_parameters()]


def assert_same(first, second):
    """Equal nests of plain values and tensors, bit for bit."""
    if isinstance(first, torch.Tensor):
        assert same(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    else:
        assert first == second


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize(
    ("make", "inner"), [(adamw, {}), (momentum, {}), (momentum, {"foreach": True}), (adamw, {"fused": True})]
)
def test_steps_are_those_on_unscaled_gradients(make, inner, unscaled):
    optimizer, scaler = made(make, inner=inner)
    start = tensors(SHAPES, 0)
    plain = Plain(make, start, casts=NOISY, seed=11, **(inner or {"foreach": False}))
    scales = set()
    for number in range(8):
        scales.add(scaler.get_scale())
        gradients = backward(optimizer, scaler, number)
        if unscaled:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        plain.step(gradients)
        plain.assert_equal(optimizer)
    assert scales == {SCALE, 2 * SCALE, 4 * SCALE}
    assert optimizer.skipped_steps == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_scale_that_is_no_power_of_two_is_taken_off_as_torch_does_it(dtype):
    pair = [made(momentum, dtype=dtype, gradient_scale=0.3, gradient=NOISY["gradient"])[0] for _ in range(2)]
    for number in range(4):
        for optimizer, unscaled in zip(pair, (False, True), strict=True):
            scaler = torch.amp.GradScaler("cpu", init_scale=1000.7)
            backward(optimizer, scaler, number)
            if unscaled:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
    assert_same(everything(pair[0]), everything(pair[1]))


def test_gradients_are_unscaled_then_clipped_then_rounded():
    p = nn.Parameter(torch.zeros(2))
    optimizer = LowPrecision(torch.optim.SGD([p], lr=1.0), gradient="fixed8f4")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((p * torch.tensor([3.0, 4.0])).sum()).backward()
    assert p.grad.tolist() == [12.0, 16.0]
    scaler.unscale_(optimizer)
    assert p.grad.tolist() == [3.0, 4.0]
    norm = nn.utils.clip_grad_norm_([p], 1.0)
    assert norm.item() == 5.0
    scaler.step(optimizer)
    assert p.grad.tolist() == [10 / 16, 13 / 16], "0.6 and 0.8 on the grid of sixteenths"
    assert p.tolist() == [-10 / 16, -13 / 16]


@pytest.mark.parametrize("options", [NOISY, KAHAN], ids=["master", "kahan"])
@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("inner", [{}, {"fused": True}])
def test_a_skipped_step_changes_nothing_and_is_counted(options, unscaled, inner):
    optimizer, scaler = made(inner=inner, **options)
    twin, other = made(inner=inner, **options)
    for number in range(6):
        broken = number in (2, 3)
        before = everything(optimizer)
        backward(optimizer, scaler, number, broken=broken)
        if unscaled:
            scaler.unscale_(optimizer)
        assert scaler.step(optimizer) is None
        scaler.update()
        if broken:
            assert_same(everything(optimizer), before)
        else:
            backward(twin, other, number)
            other.step(twin)
            other.update()
    assert optimizer.skipped_steps == optimizer.state_dict()["lowprec"]["skipped_steps"] == 2
    assert twin.skipped_steps == 0
    assert scaler.get_scale() == SCALE / 4
    assert_same(everything(optimizer), everything(twin))


def test_the_count_of_skipped_steps_is_saved_and_copied():
    optimizer, scaler = made()
    backward(optimizer, scaler, 0, broken=True)
    scaler.step(optimizer)
    assert optimizer.skipped_steps == 1
    assert copy.deepcopy(optimizer).skipped_steps == 1
    other, _ = made()
    other.load_state_dict(optimizer.state_dict())
    assert other.skipped_steps == 1


def test_half_precision_gradients_are_unscaled_as_in_fused_optimizers():
    p = nn.Parameter(torch.ones(2, dtype=torch.float16))
    optimizer = LowPrecision(torch.optim.SGD([p], lr=1.0), gradient="fixed11f8")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((p * 0.25).sum()).backward()
    scaler.step(optimizer)
    assert p.tolist() == [0.75, 0.75]


def test_a_scheduler_goes_on_after_a_skipped_step():
    optimizer, scaler = made()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    backward(optimizer, scaler, 0, broken=True)
    scaler.step(optimizer)
    scheduler.step()
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.005


def test_a_closure_under_a_scaler_is_an_error():
    optimizer, scaler = made()
    backward(optimizer, scaler, 0)
    with pytest.raises(ValueError, match="`closure` must be None under a GradScaler"):
        scaler.step(optimizer, lambda: 0.0)


def test_a_disabled_scaler_takes_a_closure():
    optimizer, _ = made()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert scaler.step(optimizer, lambda: 2.5) == 2.5
