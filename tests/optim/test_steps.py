"""LowPrecision's steps against the same steps written out, bit for bit."""

import itertools

import pytest
import torch
from torch import nn

from lowprec import Cast
from lowprec.optim import LowPrecision

WEIGHT, MASTER, GRADIENT, STATE = range(4)
"""Roles within a stream."""

OPTIMIZERS = {
    "sgd": lambda p, **k: torch.optim.SGD(p, lr=0.1, **k),
    "momentum": lambda p, **k: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, **k),
    "nesterov": lambda p, **k: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, **k
    ),
    "adam": lambda p, **k: torch.optim.Adam(p, lr=0.01, weight_decay=0.01, **k),
    "amsgrad": lambda p, **k: torch.optim.Adam(p, lr=0.01, amsgrad=True, **k),
    "adamw": lambda p, **k: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, **k),
}
NEAREST = {"weight": "fixed8f6", "gradient": "e5m2", "state": "bfp8", "master": "bfloat16"}
CASTS = {
    "nearest": NEAREST,
    "stochastic": {role: Cast(format, "stochastic") for role, format in NEAREST.items()},
    "weight alone": {"weight": Cast("fixed8f6", "stochastic", random_bits=5)},
    "gradient alone": {"gradient": Cast("fixed8f7", "toward_zero"), "gradient_scale": 0.25},
    "master alone": {"master": "bfloat16", "weight": None},
    "scale alone": {"gradient_scale": 1 / 3},
    "no casts": {},
}


def rounded(x, cast, stream, seed):
    """``x`` under a cast; the stream is that of a step, a parameter and a role."""
    if cast is None:
        return x.clone()
    cast = cast if isinstance(cast, Cast) else Cast(cast)
    noise = torch.tensor([seed]) if cast.rounding == "stochastic" else None
    return torch.ops.lowprec.quantize(
        x, noise, str(cast.format), str(cast.rounding), cast.random_bits or 32, stream
    )


class Plain:
    """The documented order of steps around torch's own optimizer, one parameter after another."""

    def __init__(
        self, make, start, *, weight=None, gradient=None, state=None, master=None, gradient_scale=1.0, seed
    ):
        self.casts = {WEIGHT: weight, GRADIENT: gradient, STATE: state, MASTER: master}
        self.scale, self.seed, self.steps = gradient_scale, seed, 0
        self.p = [nn.Parameter(x.clone()) for x in start]
        self.inner = make(self.p, foreach=False)
        self.master = [self.q(p.detach(), MASTER, n) for n, p in enumerate(self.p)]
        self.round_weights(range(len(self.p)))

    def q(self, x, role, number, *, cast=None):
        stream = (self.steps << 32) | (number << 6) | role
        return rounded(x, self.casts[role] if cast is None else cast, stream, self.seed)

    @torch.no_grad()
    def round_weights(self, numbers):
        for n in numbers:
            self.p[n].copy_(self.q(self.p[n], WEIGHT, n))

    @torch.no_grad()
    def step(self, gradients):
        self.steps += 1
        stepped = [n for n, g in enumerate(gradients) if g is not None]
        for p in self.p:
            p.grad = None
        for n in stepped:
            self.p[n].grad = self.q(gradients[n] * self.scale, GRADIENT, n)
            if self.casts[MASTER] is not None:
                self.p[n].copy_(self.master[n])
        self.inner.step()
        for n in stepped:
            self.round_state(n)
            if self.casts[MASTER] is not None:
                self.master[n] = self.q(self.p[n], MASTER, n)
        self.round_weights(stepped)

    def round_state(self, n):
        state = self.casts[STATE]
        for index, name in enumerate(sorted(self.inner.state[self.p[n]])):
            cast = state.get(name) if isinstance(state, dict) else state
            if cast is not None and name != "step":
                value = self.inner.state[self.p[n]][name]
                stream = (self.steps << 32) | (n << 6) | (STATE + index)
                value.copy_(rounded(value, cast, stream, self.seed))


def tensors(shapes, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


SHAPES = [(5, 4), (4,), (), (2, 3, 3, 3)]


def compare(make, options, *, steps=25, foreach=False, dtype=torch.float32, gaps=False):
    """Run both, and compare weights, gradients, states and masters after every step."""
    start = [x.to(dtype) for x in tensors(SHAPES, 0)]
    parameters = [nn.Parameter(x.clone()) for x in start]
    inner = make(parameters, foreach=foreach)
    optimizer = LowPrecision(inner, seed=11, **options)
    plain = Plain(make, start, seed=11, **options)
    for step in range(steps):
        gradients = [g.to(dtype) for g in tensors(SHAPES, step + 1, scale=0.3)]
        if gaps:
            gradients[step % len(SHAPES)] = None
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()
        plain.step(gradients)
        for p, want in zip(parameters, plain.p, strict=True):
            assert torch.equal(p, want)
            assert p.dtype == dtype
            assert p.grad is want.grad is None or torch.equal(p.grad, want.grad)
            for name, value in plain.inner.state[want].items():
                if value is None:  # no momentum
                    assert inner.state[p][name] is None
                else:
                    assert torch.equal(inner.state[p][name], value), name
        if plain.casts[MASTER] is not None:
            for p, want in zip(parameters, plain.master, strict=True):
                assert torch.equal(optimizer.master_weights[p], want)
        else:
            assert optimizer.master_weights == {}
    return parameters, start


@pytest.mark.parametrize("casts", CASTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_the_steps_written_out(name, casts):
    parameters, start = compare(OPTIMIZERS[name], CASTS[casts])
    assert all(not torch.equal(p, x) for p, x in zip(parameters, start, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_foreach_gives_the_same_bits(name):
    compare(OPTIMIZERS[name], CASTS["stochastic"], foreach=True)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("momentum", torch.bfloat16),
        ("adamw", torch.bfloat16),
        ("momentum", torch.float16),
        ("momentum", torch.float64),
        ("adamw", torch.float64),
    ],
)
def test_parameters_of_other_carriers(name, dtype):
    options = CASTS["stochastic"]
    if dtype == torch.float16:
        options = {**options, "master": Cast("fixed11f8", "stochastic")}  # it cannot hold bfloat16
    compare(OPTIMIZERS[name], options, dtype=dtype)


@pytest.mark.parametrize("name", ["nesterov", "adam"])
def test_parameters_without_a_gradient_are_left_alone(name):
    compare(OPTIMIZERS[name], CASTS["stochastic"], gaps=True)


def test_state_by_name():
    state = {"exp_avg": "e4m3fn", "exp_avg_sq": Cast("bfloat16", "stochastic")}
    compare(OPTIMIZERS["adam"], {"state": state})
    compare(OPTIMIZERS["amsgrad"], {"state": {"max_exp_avg_sq": Cast("e5m2", "stochastic")}})


def test_without_casts_it_is_the_inner_optimizer():
    start = tensors(SHAPES, 0)
    runs = []
    for wrap in (False, True):
        parameters = [nn.Parameter(x.clone()) for x in start]
        optimizer = OPTIMIZERS["adam"](parameters)
        stepping = LowPrecision(optimizer) if wrap else optimizer
        for step in range(20):
            for p, g in zip(parameters, tensors(SHAPES, step + 1), strict=True):
                p.grad = g
            stepping.step()
        runs.append(parameters)
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


def test_a_run_by_hand():
    """Every number is a short binary fraction, so that the order of steps shows in the digits."""
    p = nn.Parameter(torch.tensor([0.8125]))
    inner = torch.optim.SGD([p], lr=0.5, momentum=0.5)
    optimizer = LowPrecision(
        inner, weight="fixed8f2", gradient="fixed8f3", state="fixed8f2", master="fixed8f4", gradient_scale=2
    )
    # construction: master fixed8f4(0.8125), then weight fixed8f2 of it
    assert (p.item(), optimizer.master_weights[p].item()) == (0.75, 0.8125)
    p.grad = torch.tensor([0.1796875])
    optimizer.step()
    assert p.grad.item() == 0.375  # of 2 · 0.1796875 = 0.359375
    assert inner.state[p]["momentum_buffer"].item() == 0.5  # a tie, after it has moved the weight
    assert optimizer.master_weights[p].item() == 0.625  # 0.8125 - 0.5 · 0.375
    assert p.item() == 0.5  # a tie between 0.5 and 0.75, to even
    p.grad = torch.tensor([0.0])
    optimizer.step()
    assert inner.state[p]["momentum_buffer"].item() == 0.25
    assert optimizer.master_weights[p].item() == p.item() == 0.5  # 0.625 - 0.5 · 0.25


def test_no_two_uses_of_noise_share_a_stream():
    """Equal values rounded in different steps, parameters and roles go different ways."""
    seen = []
    half = Cast("fixed8f0", "stochastic")
    parameters = [nn.Parameter(torch.full((256,), 0.5)) for _ in range(2)]
    optimizer = LowPrecision(
        torch.optim.SGD(parameters, lr=0.0), weight=half, gradient=half, master=half, seed=0
    )
    seen += [p.detach().clone() for p in parameters]
    seen += [m.clone() for m in optimizer.master_weights.values()]
    for _ in range(2):
        for p in parameters:
            p.grad = torch.full((256,), 0.5)
        with torch.no_grad():
            for m in optimizer.master_weights.values():
                m.fill_(0.5)
        optimizer.step()
        for p in parameters:
            seen += [p.detach().clone(), p.grad.clone(), optimizer.master_weights[p].clone()]
    for a, b in itertools.combinations(seen, 2):
        assert 0.3 < (a == b).double().mean() < 0.7


def test_equal_seeds_give_equal_runs_and_other_seeds_others():
    ends = []
    for seed in (3, 3, 4):
        parameters = [nn.Parameter(x) for x in tensors(SHAPES, 0)]
        optimizer = LowPrecision(OPTIMIZERS["adam"](parameters), seed=seed, **CASTS["stochastic"])
        for step in range(3):
            for p, g in zip(parameters, tensors(SHAPES, step), strict=True):
                p.grad = g
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_global_generator_is_drawn_from_at_construction_alone():
    parameters = [nn.Parameter(x) for x in tensors(SHAPES, 0)]
    inner = OPTIMIZERS["adam"](parameters)
    torch.manual_seed(0)
    first = LowPrecision(inner, **CASTS["stochastic"])
    state = torch.get_rng_state()
    for p in parameters:
        p.grad = torch.ones_like(p)
    for _ in range(3):
        first.step()
    first.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    again = LowPrecision(inner, **CASTS["stochastic"])
    assert torch.equal(first.state_dict()["lowprec"]["seed"], again.state_dict()["lowprec"]["seed"])
    state = torch.get_rng_state()
    LowPrecision(inner, seed=3, **CASTS["stochastic"])
    assert torch.equal(torch.get_rng_state(), state)
