"""All roundings before a step, and all after it, in one pass each give the bits of one after the other."""

import copy

import pytest
import torch
from optim.optimizers import OPTIMIZERS
from torch import nn

import lowprec
from lowprec import Cast
from lowprec.kernels.updates import UNIT
from lowprec.optim import LowPrecision, low_precision
from lowprec.optim.around import Around

SHAPES = [(UNIT + 3,), (70, 60), (), (3, 3, 3, 3), (2 * UNIT,), (0,)]
NOISY = Cast("e5m2", "stochastic")
CASTS = {
    "nothing": {},
    "all": {"weight": NOISY, "gradient": NOISY, "state": NOISY, "master": NOISY},
    "master": {"weight": "e4m3fn", "master": Cast("bfloat16", "stochastic"), "gradient_scale": 0.3},
    "gradient": {"gradient": NOISY, "gradient_scale": 0.3},
    "state": {"state": Cast("fixed8f6", "stochastic"), "weight": "bfloat16"},
}


@pytest.fixture
def passes(monkeypatch):
    """How many parameters were settled in one pass, for each step."""
    taken = []
    settle = Around.settle

    def counting(self, kept, *rest):
        taken.append(len(kept))
        settle(self, kept, *rest)

    monkeypatch.setattr(Around, "settle", counting)
    return taken


@pytest.fixture(autouse=True)
def _torchs_own_steps(monkeypatch):
    """No step is one pass."""
    monkeypatch.setattr(low_precision, "is_possible", lambda _: False)


def parameters_of(shapes=SHAPES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def give_gradients(parameters, step, *, skip=()):
    generator = torch.Generator().manual_seed(100 + step)
    for number, p in enumerate(parameters):
        g = torch.randn(p.shape, generator=generator).to(p.dtype)
        if step == 3 and g.numel() > 2:
            g.view(-1)[:3] = torch.tensor([float("nan"), float("inf"), -0.0])
        p.grad = None if number in skip else g.as_strided(p.shape, p.stride()) if p.numel() else g


def one_after_the_other(optimizer):
    """Have an optimizer round so."""
    optimizer._divided = lambda touched, after: ([], touched)
    return optimizer


def pair(make, casts, **options):
    """Two optimizers and their parameters, of which the second rounds one after the other."""
    (mine, optimizer), (others, other) = ((p, LowPrecision(make(p), seed=7, **casts)) for p in
                                          (parameters_of(**options), parameters_of(**options)))  # fmt: skip
    return mine, optimizer, others, one_after_the_other(other)


def bits(x):
    return x.detach().reshape(-1).clone().view(torch.uint8) if x.numel() else x


def assert_alike(optimizer, other):
    pairs = zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True)
    for (n, p), (_, q) in pairs:
        tensors = [(p, q)] + ([(p.grad, q.grad)] if q.grad is not None else [])
        assert set(optimizer.state[p]) == set(other.state[q])
        states = ((optimizer.state[p][name], value) for name, value in other.state[q].items())
        tensors += [both for both in states if isinstance(both[1], torch.Tensor)]
        if q in other.master_weights:
            tensors.append((optimizer.master_weights[p], other.master_weights[q]))
            tensors.append((optimizer._digests[n], other._digests[n]))
        for got, want in tensors:
            assert torch.equal(bits(got), bits(want))


@pytest.mark.parametrize("casts", CASTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equal_to_one_after_the_other(name, casts, passes):
    mine, optimizer, others, other = pair(OPTIMIZERS[name], CASTS[casts])
    for step in range(5):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step, skip={step} if step > 2 else ())
            each.step()
        assert_alike(optimizer, other)
    assert passes[::2] == [len(SHAPES)] * 3 + [len(SHAPES) - 1] * 2
    assert not any(passes[1::2])


@pytest.mark.parametrize("name", ["momentum", "rmsprop", "nadam"])
def test_float64_threads_copies_and_foreach(name):
    make = lambda p: OPTIMIZERS[name](p, foreach=True)  # noqa: E731
    options = {"dtype": torch.float64, "shapes": [(5 * UNIT,), (7,), (3, 0)]}
    mine, optimizer, others, other = pair(make, CASTS["all"], **options)
    threads = torch.get_num_threads()
    try:
        for step in range(6):
            for each, parameters, shift in ((optimizer, mine, 0), (other, others, 1)):
                torch.set_num_threads(1 + (step + shift) % 3)
                give_gradients(parameters, step)
                each.step()
            assert_alike(optimizer, other)
            if step == 3:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            if step == 4:
                optimizer = copy.deepcopy(optimizer)
                mine = [p for _, p in optimizer.numbered_parameters()]
    finally:
        torch.set_num_threads(threads)


def test_groups_excluded_parameters_and_parameters_of_other_kinds(passes):
    shapes = [(50,), (60, 2), (UNIT + 1,), (8, 9), (4, 5, 6, 7), (30,)]

    def make():
        p = parameters_of(shapes)
        p[3].data = p[3].data.T  # not contiguous
        p[4].data = p[4].data.to(memory_format=torch.channels_last)
        p[5].data = p[5].data.bfloat16()
        groups = [{"params": p[:1]}, {"params": p[1:2], "lr": 0.5}, {"params": p[2:]}]
        inner = torch.optim.RMSprop(groups, lr=0.1, momentum=0.5)
        own = {0: {"state": {"square_avg": None, "momentum_buffer": "e5m2"}}, 1: {"weight": "bfp8"}}
        options = {"weight": NOISY, "state": NOISY, "gradient": "e4m3fn", "gradient_scale": 0.5}
        return p, LowPrecision(inner, groups=own, exclude=[p[2]], seed=2, master="bfloat16", **options)

    (mine, optimizer), (others, other) = make(), make()
    one_after_the_other(other)
    for step in range(4):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step)
            each.step()
        assert_alike(optimizer, other)
    assert passes[::2] == [2] * 4


@pytest.mark.parametrize("name", ["rmsprop", "lion"])
def test_edits_between_steps(name):
    casts = {"weight": "e5m2", "master": NOISY}
    mine, optimizer, others, other = pair(OPTIMIZERS[name], casts, shapes=[(UNIT + 9,), (5,), (2 * UNIT,)])
    for step in range(6):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step % 3)
            if step == 2:
                parameters[0].data[UNIT + 4] = 3.0  # which no version counter sees
            if step == 4:
                parameters[2].data.mul_(2.0)
            each.step()
        assert_alike(optimizer, other)
    assert float(optimizer.master_weights[mine[0]][UNIT + 4]) > 2.0


def test_taking_turns_with_steps_in_one_pass(monkeypatch):
    casts = CASTS["all"]
    mine, optimizer, others, other = pair(OPTIMIZERS["adamw"], casts, shapes=[(UNIT + 9,), (5,)])
    for step in range(8):
        for each, parameters in ((optimizer, mine), (other, others)):
            if each is optimizer:
                monkeypatch.setattr(low_precision, "is_possible", lambda _, step=step: step in (1, 2, 5, 6))
            else:
                monkeypatch.setattr(low_precision, "is_possible", lambda _: False)
            if step in (2, 5):
                parameters[1].data[2] = 0.5
            give_gradients(parameters, step % 3)
            each.step()
        assert_alike(optimizer, other)


def test_memory_that_is_shared_is_rounded_in_order(passes):
    def make():
        memory = torch.linspace(-1, 1, 24)
        p = [nn.Parameter(memory[:16]), nn.Parameter(memory[8:]), nn.Parameter(memory[4:20].view(4, 4).T)]
        return p, LowPrecision(torch.optim.RMSprop(p, lr=0.1), weight=NOISY, gradient="e5m2", seed=2)

    (mine, optimizer), (others, other) = make(), make()
    one_after_the_other(other)
    for step in range(3):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step)
            each.step()
        assert_alike(optimizer, other)
    assert not any(passes)


def test_a_state_of_another_type_or_place_is_rounded_on_its_own(passes):
    class Odd(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {})

        def step(self, closure=None):
            wide, same, turned = self.param_groups[0]["params"]
            self.state[wide]["sum"] = wide.grad.double() * 0.3
            self.state[same]["sum"] = same.grad * 0.3  # new memory in each step
            self.state[turned]["sum"] = (turned.grad * 0.3).T.contiguous().T
            for p in (wide, same, turned):
                p.data.sub_(self.state[p]["sum"])

    casts = {"state": NOISY, "weight": "bfloat16"}
    mine, optimizer, others, other = pair(Odd, casts, shapes=[(9,), (UNIT + 1,), (4, 6)])
    for step in range(4):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step % 3)
            each.step()
        assert_alike(optimizer, other)
    assert passes[::2] == [1] * 4


def test_a_scaler_s_scale_and_skipped_steps():
    mine, optimizer, others, other = pair(OPTIMIZERS["rmsprop"], CASTS["all"], shapes=[(100,), (3, 4)])
    for step in range(5):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step)
            each.grad_scale, each.found_inf = torch.tensor(2.0**step + 0.1), torch.tensor(float(step == 3))
            each.step()
        assert_alike(optimizer, other)
    assert optimizer.skipped_steps == other.skipped_steps == 1


def test_a_scale_that_changes_and_one_that_float32_does_not_hold():
    mine, optimizer, others, other = pair(OPTIMIZERS["rmsprop"], CASTS["gradient"], shapes=[(100,)])
    for step, scale in enumerate((0.3, 1.0, 0.7, 0.3, 1e300)):
        for each, parameters in ((optimizer, mine), (other, others)):
            each.gradient_scale = scale
            give_gradients(parameters, step % 3)
            each.step()
        assert_alike(optimizer, other)


def test_versions_tell_autograd_of_every_write():
    (p,) = parameters_of([(5,)])
    optimizer = LowPrecision(torch.optim.RMSprop([p], lr=0.1), seed=0, **CASTS["all"])
    for step in range(2):
        give_gradients([p], step)
        tensors = [p, p.grad, *optimizer.master_weights.values()]
        tensors += [optimizer.state[p]["square_avg"]] if step else []
        before = [t._version for t in tensors]
        optimizer.step()
        assert all(t._version > version for t, version in zip(tensors, before, strict=True))


def test_recording_and_compensation_are_left_to_one_after_the_other(passes):
    model = nn.Linear(4, 3)
    optimizer = LowPrecision(torch.optim.RMSprop(model.parameters()), seed=0, **CASTS["all"])
    with lowprec.record(model, optimizer) as recording:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert {"stored_weight", "gradient", "state"} <= {role for _, role in recording.counters}
    compensated = LowPrecision(torch.optim.RMSprop(model.parameters()), weight=NOISY, compensation="kahan")
    compensated.step()
    assert not any(passes)
