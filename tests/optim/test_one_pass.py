"""Steps in one pass over memory give the bits of the same steps one after the other."""

import copy
import inspect

import pytest
import torch
from torch import nn

import lowprec
from lowprec import Cast
from lowprec.kernels.updates import UNIT
from lowprec.ops import torch_arithmetic
from lowprec.optim import SGD, AdamW, LowPrecision, algorithms, low_precision, one_pass

SHAPES = [(UNIT + 3,), (70, 60), (64,), (), (3, 3, 3, 3), (2 * UNIT,), (0,)]
NOISY = Cast("e5m2", "stochastic")
CASTS = {
    "nothing": {},
    "all": {"weight": NOISY, "gradient": NOISY, "state": NOISY, "master": NOISY},
    "master": {"weight": "e5m2", "master": "bfloat16", "gradient_scale": 0.3},
    "gradient": {"gradient": NOISY, "gradient_scale": 0.5},
}
OPTIMIZERS = {
    "sgd": lambda p, **k: torch.optim.SGD(p, lr=0.1, **k),
    "nesterov": lambda p, **k: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True, **k),
    "momentum up": lambda p, **k: torch.optim.SGD(p, 0.1, 0.9, dampening=0.2, maximize=True, **k),
    "adamw": lambda p, **k: torch.optim.AdamW(p, 0.01, **k),
    "amsgrad": lambda p, **k: torch.optim.Adam(p, 0.01, (0.4, 0.99), weight_decay=0.1, amsgrad=True, **k),
    "adam up": lambda p, **k: torch.optim.Adam(p, 0.01, maximize=True, decoupled_weight_decay=True, **k),
}


def parameters_of(seed=0, dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def give_gradients(parameters, step, *, skip=()):
    generator = torch.Generator().manual_seed(100 + step)
    for number, p in enumerate(parameters):
        g = torch.randn(p.shape, generator=generator).to(p.dtype)
        p.grad = None if number in skip else g


def bits(x):
    return x.detach().contiguous().view(torch.uint8) if x.dim() else x.detach().reshape(1).view(torch.uint8)


def assert_alike(optimizer, other):
    """Equal weights, gradients, states and masters."""
    pairs = zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True)
    for (_, p), (_, q) in pairs:
        tensors = [(p, q), (p.grad, q.grad)]
        tensors += [(optimizer.state[p][name], other.state[q][name]) for name in other.state[q]]
        if q in other.master_weights:
            tensors.append((optimizer.master_weights[p], other.master_weights[q]))
        for got, want in tensors:
            assert (got is None) == (want is None)
            if got is not None:
                assert torch.equal(bits(got), bits(want))


def one_after_the_other(monkeypatch, optimizer):
    """Have an optimizer take its steps so, and only this one."""
    possible = low_precision.is_possible
    monkeypatch.setattr(
        low_precision, "is_possible", lambda inner: inner is not optimizer.optimizer and possible(inner)
    )


@pytest.mark.parametrize("casts", CASTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equal_to_one_after_the_other(name, casts, runs, monkeypatch):
    shapes = SHAPES[:-1]  # one of no elements is left to torch
    mine, others = parameters_of(shapes=shapes), parameters_of(shapes=shapes)
    optimizer = LowPrecision(OPTIMIZERS[name](mine), seed=7, **CASTS[casts])
    other = LowPrecision(OPTIMIZERS[name](others), seed=7, **CASTS[casts])
    one_after_the_other(monkeypatch, other)
    for step in range(5):
        for parameters in (mine, others):
            give_gradients(parameters, step, skip={step} if step > 2 else ())
        optimizer.step()
        other.step()
        assert_alike(optimizer, other)
    stateless = name == "sgd"
    assert runs == ([len(shapes)] * 3 if stateless else [len(shapes)] * 2) + [len(shapes) - 1] * 2


@pytest.mark.parametrize("name", ["momentum up", "amsgrad"])
def test_float64_threads_and_other_rates(name, runs, monkeypatch):
    mine, others = (parameters_of(dtype=torch.float64, shapes=[(5 * UNIT,), (7,)]) for _ in range(2))
    casts = {"weight": NOISY, "state": "bfloat16"}
    optimizer = LowPrecision(OPTIMIZERS[name](mine), seed=1, **casts)
    other = LowPrecision(OPTIMIZERS[name](others), seed=1, **casts)
    one_after_the_other(monkeypatch, other)
    threads = torch.get_num_threads()
    try:
        for step in range(6):
            torch.set_num_threads(1 + step % 3)
            for each, parameters in ((optimizer, mine), (other, others)):
                give_gradients(parameters, step)
                each.param_groups[0]["lr"] = 0.1 / (step + 1)
                each.step()
            assert_alike(optimizer, other)
            if step == 3:  # groups and states are other objects then
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    finally:
        torch.set_num_threads(threads)
    assert len(runs) == 5


def test_casts_by_group_and_excluded_parameters(runs, monkeypatch):
    def make():
        p = parameters_of(shapes=[(50,), (60,), (70,)])
        inner = torch.optim.SGD([{"params": p[:2]}, {"params": p[2:], "lr": 1.0}], lr=0.1, momentum=0.5)
        groups = {1: {"weight": "e5m2", "state": None}}
        return p, LowPrecision(inner, weight=NOISY, state=NOISY, groups=groups, exclude=[p[0]], seed=2)

    (mine, optimizer), (others, other) = make(), make()
    one_after_the_other(monkeypatch, other)
    for step in range(4):
        for each, parameters in ((optimizer, mine), (other, others)):
            give_gradients(parameters, step)
            each.step()
        assert_alike(optimizer, other)
    assert runs == [3, 3, 3]


def test_edited_weights_become_their_masters(runs, monkeypatch):
    casts = {"weight": "e5m2", "master": NOISY}
    mine, others = parameters_of(shapes=[(UNIT + 9,)]), parameters_of(shapes=[(UNIT + 9,)])
    optimizer, other = SGD(mine, 0.01, seed=3, **casts), SGD(others, 0.01, seed=3, **casts)
    one_after_the_other(monkeypatch, other)
    for step in range(5):
        for each, (p,) in ((optimizer, mine), (other, others)):
            if step == 2:
                p.data[UNIT + 4] = 3.0  # which no version counter sees
            give_gradients([p], step)
            each.step()
        assert_alike(optimizer, other)
    assert abs(float(optimizer.master_weights[mine[0]][UNIT + 4]) - 3.0) < 0.5
    assert len(runs) == 5


@pytest.mark.parametrize(
    ("change", "make"),
    {
        "foreach": (lambda p: None, lambda p: torch.optim.SGD(p, 0.1, foreach=True)),
        "another optimizer": (lambda p: None, lambda p: torch.optim.RMSprop(p, 0.1)),
        "a rate in a tensor": (lambda p: None, lambda p: torch.optim.SGD(p, torch.tensor(0.1))),
        "a hook": (lambda p: None, lambda p: hooked(torch.optim.SGD(p, 0.1))),
        "16 bits": (lambda p: p.data.bfloat16(), lambda p: torch.optim.SGD(p, 0.1)),
        "another order": (lambda p: p.data.T.contiguous().T, lambda p: torch.optim.SGD(p, 0.1)),
        "no elements": (lambda p: p.data[:0], lambda p: torch.optim.SGD(p, 0.1)),
    }.values(),
)  # fmt: skip
def test_what_is_left_to_torch(change, make, runs):
    p = nn.Parameter(torch.randn(6, 5))
    changed = change(p)
    p = p if changed is None else nn.Parameter(changed)
    optimizer = LowPrecision(make([p]), weight=Cast("e5m2", "stochastic"), seed=0)
    for step in range(2):
        before = p.detach().clone()
        give_gradients([p], step)
        optimizer.step()
        assert p.numel() == 0 or not torch.equal(p, before)
    assert runs == []


def hooked(optimizer):
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


def test_formats_with_groups_are_left_to_torch(runs):
    p = nn.Parameter(torch.randn(6, 5))
    optimizer = SGD([p], 0.1, weight="bfp8", seed=0)
    give_gradients([p], 0)
    optimizer.step()
    assert runs == []


def test_recording_sees_every_role(runs):
    model = nn.Linear(4, 3)
    optimizer = SGD(model.parameters(), 0.1, 0.9, weight=NOISY, gradient=NOISY, state=NOISY, seed=0)
    with lowprec.record(model, optimizer) as recording:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    assert runs == []
    assert {"stored_weight", "gradient", "state"} <= {role for _, role in recording.counters}


def test_another_arithmetic_of_torch_is_left_to_torch(runs, monkeypatch):
    monkeypatch.setattr(one_pass, "root_function", lambda carrier: None)
    p = nn.Parameter(torch.randn(5))
    optimizer = AdamW([p], weight="e5m2", seed=0)
    for step in range(3):
        give_gradients([p], step)
        optimizer.step()
    assert runs == []


@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_roots_come_from_where_torch_takes_them(carrier, monkeypatch):
    address = torch_arithmetic.root_function(carrier)
    monkeypatch.setattr(torch_arithmetic, "LIBRARY", None)
    elsewhere = torch_arithmetic.root_function.__wrapped__(carrier)
    assert elsewhere == (None if address else address)  # without the library there are IEEE's or none


@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_products_that_are_rounded_before_a_sum_would_be_noticed(carrier, monkeypatch):
    y, alpha, exact = torch_arithmetic.telling_product(carrier)
    assert bool((y * alpha - 1 != exact).all())
    found = torch_arithmetic.adds_products_unrounded.__wrapped__
    monkeypatch.setattr(torch.Tensor, "add", lambda x, other, alpha: x + other * alpha)
    assert not found(carrier)


def test_classes_are_wrappers_around_torch_s_own():
    for kind, inner in ((SGD, torch.optim.SGD), (AdamW, torch.optim.AdamW)):
        optimizer = kind(
            [nn.Parameter(torch.ones(2))], lr=0.5, weight_decay=0.25, maximize=True, weight="e5m2"
        )
        assert type(optimizer.optimizer) is inner
        group = optimizer.param_groups[0]
        assert (group["lr"], group["weight_decay"], group["maximize"]) == (0.5, 0.25, True)
        assert repr(optimizer).startswith(f"{kind.__name__}(weight=e5m2")


def test_schedulers_of_the_inner_optimizer_do_not_warn():
    p = nn.Parameter(torch.ones(3))
    optimizer = SGD([p], 0.1, weight="e5m2", seed=0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer.optimizer, 0.5)
    for step in range(2):
        give_gradients([p], step)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.025


def test_the_classes_know_every_option_of_the_wrapper():
    wanted = set(inspect.signature(LowPrecision).parameters) - {"optimizer"}
    assert set(algorithms.Options.__annotations__) == wanted
    with pytest.raises(TypeError, match="unexpected keyword argument 'weights'"):
        SGD([nn.Parameter(torch.ones(2))], weights="e5m2")
