"""Compensated weight updates: what rounding loses is kept and added to the next update."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from optim.optimizers import OPTIMIZERS
from optim.plain_steps import Plain, same, tensors
from torch import nn

import lowprec
from lowprec import Cast, quantize
from lowprec.optim import LowPrecision

SHAPES = [(3, 2), (4,), ()]
NOISY = {"weight": Cast("bfloat16", "stochastic"), "gradient": Cast("e5m2", "stochastic")}
NEAREST = {"weight": "bfloat16", "state": "bfloat16"}
COARSE = {"weight": Cast("e4m3fn", "stochastic", random_bits=7)}


def wrapped(make, casts, *, seed=11, dtype=torch.float32):
    start = tensors(SHAPES, 0, dtype=dtype)
    inner = make([nn.Parameter(x.clone()) for x in start], foreach=False)
    return LowPrecision(inner, compensation="kahan", seed=seed, **casts), start


def step(optimizer, number, *, dtype=torch.float32):
    gradients = tensors(SHAPES, number + 1, scale=0.03, dtype=dtype)
    if number % 4 == 3:
        gradients[number % len(SHAPES)] = None
    for (_, p), grad in zip(optimizer.numbered_parameters(), gradients, strict=True):
        p.grad = None if grad is None else grad.clone()
    optimizer.step()
    return gradients


@pytest.mark.parametrize("casts", [NOISY, NEAREST, COARSE], ids=["noisy", "nearest", "coarse"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "nadam", "lion"])
def test_a_hundred_steps_equal_the_steps_written_out(name, casts):
    optimizer, start = wrapped(OPTIMIZERS[name], casts)
    counters = ["mu_product"] if name == "nadam" else []
    plain = Plain(
        OPTIMIZERS[name], start, casts=casts, compensated=True, seed=11, counters=counters, foreach=False
    )
    for number in range(100):
        plain.step(step(optimizer, number))
        plain.assert_equal(optimizer)
    assert any(c.count_nonzero() for c in optimizer.compensations.values())


def test_another_carrier():
    optimizer, start = wrapped(OPTIMIZERS["momentum"], NOISY, dtype=torch.float64)
    plain = Plain(OPTIMIZERS["momentum"], start, casts=NOISY, compensated=True, seed=11, foreach=False)
    for number in range(20):
        plain.step(step(optimizer, number, dtype=torch.float64))
        plain.assert_equal(optimizer)


def test_a_run_by_hand():
    """e2m1 has 1, 1.5, 2 and, below 1, halves."""
    p = nn.Parameter(torch.tensor([2.0]))
    optimizer = LowPrecision(torch.optim.SGD([p], lr=1.0), weight="e2m1", compensation="kahan")
    lost = optimizer.compensations[p]
    history = []
    for _ in range(3):
        p.grad = torch.tensor([-0.5])
        optimizer.step()
        history.append((p.item(), lost.item()))
    # 2 + 0.5 is a tie, to the even code of 2; then 2 + 1 is 3, and nothing is lost
    assert history == [(2.0, 0.5), (3.0, 0.0), (4.0, -0.5)]


def test_what_is_changed_between_steps_starts_anew():
    p = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
    optimizer = LowPrecision(torch.optim.SGD([p], lr=2.0**-10), weight="bfloat16", compensation="kahan")
    p.grad = torch.ones(3)
    optimizer.step()
    assert p.tolist() == [1.0, 1.0, 1.0]
    assert optimizer.compensations[p].tolist() == [-(2.0**-10)] * 3
    with torch.no_grad():
        p[1] = 0.0  # pruned
        p[2] = float("nan")
    p.grad = torch.tensor([0.0, 2.0**-9, 0.0])
    optimizer.step()
    assert p[:2].tolist() == [1.0, -(2.0**-19)]
    assert p[2].isnan()
    assert optimizer.compensations[p][:2].tolist() == [-(2.0**-10), 0.0]


@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_copies_go_on_with_the_same_bits(how):
    optimizer, _ = wrapped(OPTIMIZERS["adamw"], NOISY)
    for number in range(5):
        step(optimizer, number)
    if how == "deepcopy":
        other = copy.deepcopy(optimizer)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(optimizer))
    else:
        file = io.BytesIO()
        torch.save([optimizer.state_dict(), [p for _, p in optimizer.numbered_parameters()]], file)
        file.seek(0)
        state, parameters = torch.load(file, weights_only=True)
        other, _ = wrapped(OPTIMIZERS["adamw"], NOISY, seed=5)
        with torch.no_grad():
            for (_, p), saved in zip(other.numbered_parameters(), parameters, strict=True):
                p.copy_(saved)
        other.load_state_dict(state)
    for number in range(5, 9):
        step(optimizer, number)
        step(other, number)
    for (_, p), (_, q) in zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True):
        assert p is not q
        assert same(p, q)
        assert same(optimizer.compensations[p], other.compensations[q])


def test_a_state_dict_without_compensations_is_an_error():
    optimizer, _ = wrapped(OPTIMIZERS["sgd"], NOISY)
    plain = LowPrecision(OPTIMIZERS["sgd"]([nn.Parameter(x) for x in tensors(SHAPES, 0)]), **NOISY)
    with pytest.raises(ValueError, match=r"`state_dict` must hold compensations of the shapes \{0: \(3, 2\)"):
        optimizer.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match=r"`state_dict` must hold compensations of the shapes \{\}, got"):
        plain.load_state_dict(optimizer.state_dict())


def test_its_roundings_share_no_noise():
    """Where every rounding is of a half, two of the three agree in about half of all elements."""
    seen = []

    class Watched(LowPrecision):
        def _round(self, x, spec, out, *rest):
            if self._step:
                ones = torch.full_like(x, 0.5)
                super()._round(ones, spec, ones, *rest)
                seen.append(ones)
            super()._round(x, spec, out, *rest)

    parameters = [nn.Parameter(torch.ones(256)) for _ in range(2)]
    inner = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    half = Cast("fixed8f0", "stochastic")
    optimizer = Watched(inner, weight=half, gradient=half, state=half, compensation="kahan", seed=0)
    for _ in range(2):
        for p in parameters:
            p.grad = torch.ones(256)
        optimizer.step()
    assert len(seen) == 2 * 2 * 5
    for a, b in itertools.combinations(seen, 2):
        assert 0.3 < (a == b).double().mean() < 0.7


def test_parameters_without_a_weight_cast_are_not_compensated():
    p, q, r = (nn.Parameter(torch.ones(2)) for _ in range(3))
    inner = torch.optim.SGD([{"params": [p, q]}, {"params": [r]}], lr=0.1)
    optimizer = LowPrecision(
        inner, weight="bfloat16", compensation="kahan", groups={1: {"weight": None}}, exclude=[q]
    )
    for x in (p, q, r):
        x.grad = torch.ones(2)
    optimizer.step()
    assert list(optimizer.compensations) == [p]
    assert torch.equal(q, r)
    assert torch.equal(r, torch.full((2,), 0.9))
    assert torch.equal(p, quantize(torch.full((2,), 0.9), "bfloat16"))


def test_a_recording_counts_what_is_lost():
    model = nn.Linear(3, 2)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = LowPrecision(inner, weight="bfloat16", compensation="kahan")
    model(torch.ones(1, 3)).sum().backward()
    with lowprec.record(model, optimizer) as recording:
        optimizer.step()
    counts = {role: counters.count for role, counters in recording.by_role().items()}
    assert counts == {"stored_weight": 8, "compensation": 16}


def one(**options):
    p = nn.Parameter(torch.ones(2))
    return LowPrecision(torch.optim.SGD([p], lr=0.1), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "bfloat16", "compensation": "neumaier"}, "`compensation` must be None or 'kahan', got"),
        ({"weight": "bfloat16", "compensation": True}, "`compensation` must be None or 'kahan', got True"),
        ({"compensation": "kahan"}, "`compensation` must be None where weights have no cast"),
        ({"weight": "bfloat16", "master": "binary32", "compensation": "kahan"},
         "`compensation` must be None where weights have a master"),
        ({"weight": "bfloat16", "compensation": "kahan", "groups": {0: {"master": "binary32"}}},
         "`compensation` must be None where weights have a master"),
    ],
)  # fmt: skip
def test_what_cannot_be_compensated_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        one(**options)


def test_a_later_group_cannot_have_a_master():
    optimizer = one(weight="bfloat16", compensation="kahan")
    group = {"params": [nn.Parameter(torch.ones(2))]}
    with pytest.raises(ValueError, match="`compensation` must be None where weights have a master"):
        optimizer.add_param_group(group, casts={"master": "binary32"})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group(group)
    assert len(optimizer.compensations) == 2
