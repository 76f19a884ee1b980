"""Every optimizer a hundred steps long, against the steps written out in exact fractions, bit for bit."""

import copy
import io
import pickle

import pytest
import torch
from optim.optimizers import FUSED, OPTIMIZERS, ROUNDED
from optim.plain_steps import Plain, same, tensors
from torch import nn

from lowprec import Cast, quantize
from lowprec.optim import LowPrecision

SHAPES = [(3, 2), (4,), ()]
NOISY = {
    "weight": Cast("fixed8f6", "stochastic"),
    "gradient": Cast("e5m2", "stochastic"),
    "state": Cast("bfloat16", "stochastic", random_bits=9),
    "master": Cast("bfloat16", "stochastic"),
}
NEAREST = {"weight": "e4m3fn", "gradient": "e5m2", "state": "bfp8", "master": "bfloat16"}
COUNTERS = {"nadam": ["mu_product"], "asgd": ["eta", "mu"]}
ALIKE = sorted(set(OPTIMIZERS) - {"nadam", "radam", "asgd"})
"""Those whose foreach steps have the bits of the others, in float32."""


def wrapped(name, *, casts=None, dtype=torch.float32, options=None, **inner):
    """An optimizer of a few parameters, and their starting values."""
    start = tensors(SHAPES, 0, dtype=dtype)
    parameters = [nn.Parameter(x.clone()) for x in start]
    casts = NOISY if casts is None else casts
    return LowPrecision(OPTIMIZERS[name](parameters, **inner), seed=11, **casts, **(options or {})), start


def step(optimizer, number, *, dtype=torch.float32):
    """A step on the gradients of that number; every fifth lacks one."""
    gradients = tensors(SHAPES, number + 1, scale=0.3, dtype=dtype)
    if number % 5 == 4:
        gradients[number % len(SHAPES)] = None
    for (_, p), grad in zip(optimizer.numbered_parameters(), gradients, strict=True):
        p.grad = None if grad is None else grad.clone()
    optimizer.step()
    return gradients


def compare(name, casts, *, steps, dtype=torch.float32, inner=None):
    """Run both."""
    inner = inner or {"foreach": False}
    optimizer, start = wrapped(name, casts=casts, dtype=dtype, **inner)
    counters = COUNTERS.get(name, ())
    plain = Plain(OPTIMIZERS[name], start, casts=casts, seed=11, counters=counters, **inner)
    plain.assert_equal(optimizer)
    for number in range(steps):
        plain.step(step(optimizer, number, dtype=dtype))
        plain.assert_equal(optimizer)
    assert all(p.isfinite().all() for p in plain.p)
    return optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_hundred_steps(name):
    compare(name, NOISY, steps=100)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_to_nearest(name):
    compare(name, NEAREST, steps=20)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_foreach(name):
    compare(name, NOISY, steps=10, inner={"foreach": True})


@pytest.mark.parametrize("name", FUSED)
def test_fused(name):
    compare(name, NOISY, steps=10, inner={"fused": True})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["nadam", "asgd", "adagrad", "rprop"])
def test_other_carriers(name, dtype):
    compare(name, NOISY, steps=10, dtype=dtype)


@pytest.mark.parametrize("name", ALIKE)
def test_foreach_steps_have_the_bits_of_single_ones(name):
    pair = [wrapped(name, foreach=foreach)[0] for foreach in (False, True)]
    for number in range(10):
        for optimizer in pair:
            step(optimizer, number)
    for (_, p), (_, q) in zip(*(optimizer.numbered_parameters() for optimizer in pair), strict=True):
        assert same(p, q)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_state_of_a_parameters_shape_is_rounded_and_no_other(name):
    optimizer, _ = wrapped(name, casts={"state": "fixed8f4"})
    step(optimizer, 0)
    known = set()
    for _, p in optimizer.numbered_parameters():
        states = {k: v for k, v in optimizer.state[p].items() if isinstance(v, torch.Tensor)}
        for state in ROUNDED[name]:
            assert same(states[state], quantize(states[state], "fixed8f4")), state
        known |= states.keys()
    scalars = known - set(ROUNDED[name])
    assert scalars == {"step", *COUNTERS.get(name, ())} & known
    lonely = next(p for _, p in optimizer.numbered_parameters() if p.dim() == 0)
    want = OPTIMIZERS[name]([nn.Parameter(torch.tensor(0.5))])
    want.param_groups[0]["params"][0].grad = torch.tensor(0.3)
    want.step()
    for state in scalars:
        assert same(optimizer.state[lonely][state], want.state[want.param_groups[0]["params"][0]][state])


@pytest.mark.parametrize("name", sorted(name for name in ROUNDED if ROUNDED[name]))
def test_states_by_name(name):
    first = ROUNDED[name][0]
    compare(name, {"state": {first: NOISY["state"]}}, steps=5)
    optimizer, _ = wrapped(name, casts={"state": {"step": "bfp8"}})
    with pytest.raises(ValueError, match=rf"`state` must name states of the optimizer \({first}.*'step'"):
        step(optimizer, 0)


def after(how, optimizer, name, dtype):
    """The same optimizer again, through a file or a copy."""
    if how == "deepcopy":
        return copy.deepcopy(optimizer)
    if how == "pickle":
        return pickle.loads(pickle.dumps(optimizer))
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), [p for _, p in optimizer.numbered_parameters()]], file)
    file.seek(0)
    state, parameters = torch.load(file, weights_only=True)
    other, _ = wrapped(name, dtype=dtype)
    with torch.no_grad():
        for (_, p), saved in zip(other.numbered_parameters(), parameters, strict=True):
            p.copy_(saved)
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_go_on_with_the_same_bits(name, how, dtype):
    optimizer, _ = wrapped(name, dtype=dtype)
    torch.manual_seed(3)
    noise = torch.get_rng_state()
    for number in range(3):
        step(optimizer, number, dtype=dtype)
    other = after(how, optimizer, name, dtype)
    for number in range(3, 7):
        step(optimizer, number, dtype=dtype)
        step(other, number, dtype=dtype)
    assert torch.equal(torch.get_rng_state(), noise), "the global generator is left alone"
    pairs = zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True)
    for (_, p), (_, q) in pairs:
        assert p is not q
        assert same(p, q)
        assert same(optimizer.master_weights[p], other.master_weights[q])
        for state, value in optimizer.state[p].items():
            tensor = isinstance(value, torch.Tensor)
            assert same(value, other.state[q][state]) if tensor else value == other.state[q][state], state


def test_states_that_exist_at_construction_are_rounded_then():
    p = nn.Parameter(torch.ones(2))
    inner = torch.optim.Adagrad([p], lr=0.1, initial_accumulator_value=0.3)
    LowPrecision(inner, state="fixed8f2")
    assert inner.state[p]["sum"].tolist() == [0.25, 0.25]
    q = nn.Parameter(torch.ones(2))
    started = torch.optim.SGD([q], lr=0.1, momentum=0.9)
    q.grad = torch.full((2,), 0.3)
    started.step()
    LowPrecision(started, state="fixed8f2")
    assert started.state[q]["momentum_buffer"].tolist() == [0.25, 0.25]


def test_a_capturable_optimizer_is_refused_by_torch_itself_on_the_cpu():
    p = nn.Parameter(torch.ones(2))
    optimizer = LowPrecision(torch.optim.Adam([p], capturable=True), weight="bfloat16")
    p.grad = torch.ones(2)
    with pytest.raises(AssertionError, match="capturable=True"):
        optimizer.step()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (torch.optim.SparseAdam, TypeError, "`optimizer` must take dense gradients.*SparseAdam"),
        (torch.optim.LBFGS, TypeError, "`optimizer` must step once on each gradient.*LBFGS"),
        (lambda p: torch.optim.SGD(p, differentiable=True), ValueError,
         "`optimizer` must not be differentiable, got True. Roundings have no derivative"),
    ],
)  # fmt: skip
def test_optimizers_that_cannot_be_wrapped(make, kind, message):
    with pytest.raises(kind, match=message):
        LowPrecision(make([nn.Parameter(torch.ones(2))]), weight="bfloat16")


def test_a_sparse_gradient_stops_a_step_before_anything_has_changed():
    dense, embedding = nn.Parameter(torch.ones(2)), nn.Embedding(3, 2, sparse=True)
    inner = torch.optim.SGD([dense, *embedding.parameters()], lr=0.1)
    optimizer = LowPrecision(inner, weight="bfloat16", master="binary32", gradient_scale=0.5)
    (embedding(torch.tensor([1])).sum() + dense.sum()).backward()
    before = copy.deepcopy(optimizer.state_dict()["lowprec"])
    with pytest.raises(TypeError, match=r"`grad` must be dense, got torch\.sparse_coo"):
        optimizer.step()
    assert dense.grad.tolist() == [1.0, 1.0]
    assert optimizer.state_dict()["lowprec"]["step"] == before["step"] == 0


class Crowded(torch.optim.SGD):
    """More states than there are streams."""

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p].update({f"state{n:02}": torch.ones_like(p) for n in range(59)})


def test_more_states_than_streams_are_an_error():
    p = nn.Parameter(torch.ones(2))
    optimizer = LowPrecision(Crowded([p], lr=0.1), state="bfloat16")
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match="`optimizer` must have at most 58 states, got 59"):
        optimizer.step()


class Mixed(torch.optim.SGD):
    """A state of another type than its parameter."""

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p]["narrow"] = torch.ones_like(p, dtype=torch.float16)


def test_a_state_that_cannot_hold_the_format_is_an_error():
    p = nn.Parameter(torch.ones(2))
    optimizer = LowPrecision(Mixed([p], lr=0.1), state="bfloat16")
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match="`format` must be exact in the carrier float16"):
        optimizer.step()
