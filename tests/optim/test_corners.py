"""What an optimizer meets beside the ordinary: edits, odd gradients, odd groups, odd options."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lowprec.ops.digest import digest
from lowprec.ops.torch_arithmetic import steady_roots
from lowprec.optim import SGD, AdamW, LowPrecision, low_precision


def ones(*shape):
    return nn.Parameter(torch.ones(*shape))


EDITS = {
    "turned": (torch.eye(2), lambda w: w.flip(0)),
    "negated": (torch.tensor([0.5, -0.25, -0.125, 0.75]), torch.neg),
    "permuted": (torch.arange(8.0), lambda w: w[torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])]),
    "doubled": (torch.ones(16), lambda w: 2 * w),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("one_pass", [True, False])
def test_edits_that_keep_sums_are_noticed(name, one_pass, monkeypatch):
    start, edit = EDITS[name]
    if not one_pass:
        monkeypatch.setattr(low_precision, "is_possible", lambda _: False)
    p = nn.Parameter(start.clone())
    optimizer = SGD([p], 0.1, weight="bfloat16", master="binary32")
    for _ in range(2):
        p.grad = torch.zeros_like(p)
        optimizer.step()
        p.data.copy_(edit(p.data))
    want = edit(edit(start))
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(p, want)
    assert torch.equal(optimizer.master_weights[p], want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_digests_tell_random_signs_apart(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (4000, 4), generator=generator).to(dtype) * 2 - 1
    sums = torch.stack([digest(row) for row in x]).flatten()
    kinds = {tuple(row.tolist()): int(number) for row, number in zip(x, sums, strict=True)}
    assert len(kinds) == len(set(kinds.values())) == 16
    assert torch.equal(digest(torch.zeros(3, dtype=dtype)), digest(-torch.zeros(3, dtype=dtype)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_step_inside_a_compiled_function():
    p, q = ones(5), ones(5)
    optimizer, other = (SGD([w], 0.1, 0.9, weight="bfloat16", master="bfloat16") for w in (p, q))

    def step(w, chosen):
        (w * w).sum().backward()
        chosen.step()
        chosen.zero_grad()

    compiled = torch.compile(step, backend="eager")
    for _ in range(3):
        compiled(p, optimizer)
        step(q, other)
        assert torch.equal(p, q)


@pytest.mark.parametrize("beta", [0.0, 0.5 + 1e-12, 0.5, 0.5 - 1e-12])
def test_ends_of_interpolation(beta, runs):
    generator = torch.Generator().manual_seed(0)
    p, q = ones(1000), ones(1000)
    optimizer = AdamW([p], betas=(beta, 0.9))
    other = torch.optim.AdamW([q], betas=(beta, 0.9), foreach=False)
    for number in range(4):
        gradient = torch.randn(1000, generator=generator) if number != 1 else -torch.zeros(1000)
        p.grad, q.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        other.step()
        for mine, wanted in ((p, q), (optimizer.state[p]["exp_avg"], other.state[q]["exp_avg"])):
            assert torch.equal(mine.view(torch.int32), wanted.view(torch.int32))
    assert runs == ([1, 1, 1] if beta else [])


def test_parameters_that_share_memory(runs):
    a, b = ones(4), ones(4)
    b.data = a.data
    optimizer = SGD([a, b], 0.01, weight="e4m3fn")
    for _ in range(3):
        a.grad, b.grad = torch.full((4,), 3.2), torch.full((4,), 3.2)
        optimizer.step()
    assert runs == []
    assert a.tolist() == [0.8125] * 4


@pytest.mark.parametrize("make", [SGD, lambda p, lr, **k: LowPrecision(torch.optim.RMSprop(p, lr), **k)])
def test_one_gradient_for_two_parameters_is_scaled_once_for_each(make):
    a, b = ones(4), ones(4)
    optimizer = make([a, b], 1.0, gradient_scale=0.5)
    a.grad = b.grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(a, b)
    assert torch.equal(a.grad, torch.full((4,), 0.5))


def test_gradients_that_cannot_be_written_to():
    expanded, negated, plain = ones(4), ones(4), ones(4)
    optimizer = SGD([expanded, negated, plain], 1.0, gradient="e4m3fn", gradient_scale=0.5)
    expanded.grad = torch.tensor(2.0).expand(4)
    negated.grad = torch._neg_view(torch.full((4,), -2.0))
    plain.grad = torch.full((4,), 2.0)
    optimizer.step()
    assert expanded.tolist() == negated.tolist() == plain.tolist() == [0.0] * 4


def test_rates_of_numpy_are_left_to_torch(runs):
    p, q = nn.Parameter(torch.linspace(0, 1, 1000)), nn.Parameter(torch.linspace(0, 1, 1000))
    optimizer = AdamW([p], lr=np.float32(0.1), weight_decay=0.1)
    other = torch.optim.AdamW([q], lr=np.float32(0.1), weight_decay=0.1, foreach=False)
    for _ in range(3):
        p.grad, q.grad = torch.ones(1000), torch.ones(1000)
        optimizer.step()
        other.step()
    assert torch.equal(p, q)
    assert runs == []


def test_options_that_change_while_training():
    p, q = ones(4), ones(4)
    optimizer, other = SGD([p], 0.1), torch.optim.SGD([q], 0.1, foreach=False)
    for decay in (0.0, np.float32(0.0), np.float32(0.5), 0.5, 0):
        for each, w in ((optimizer, p), (other, q)):
            each.param_groups[0]["weight_decay"] = decay
            w.grad = torch.ones(4)
            each.step()
        assert torch.equal(p, q)
    p, q = ones(4), ones(4)
    optimizer, other = AdamW([p]), torch.optim.AdamW([q], foreach=False)
    for betas in ((0.9, 0.99), [0.9, 0.99], [0.5, 0.9], (0.1, 0.2)):
        for each, w in ((optimizer, p), (other, q)):
            each.param_groups[0]["betas"] = betas
            w.grad = torch.ones(4)
            each.step()
        assert torch.equal(p, q)


def test_a_rate_that_float32_does_not_hold_is_torchs_error():
    p = ones(4)
    optimizer = SGD([p], 0.1, weight="bfloat16")
    p.grad = torch.ones(4)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 1e39
    with pytest.raises(RuntimeError, match="overflow"):
        optimizer.step()


def test_steps_that_somebody_watches_or_replaces_are_torchs(runs):
    p = ones(4)
    optimizer = SGD([p], 0.1)
    inner, calls = optimizer.optimizer, []
    p.grad = torch.ones(4)
    handle = register_optimizer_step_post_hook(lambda *_: calls.append("hook"))
    try:
        optimizer.step()
    finally:
        handle.remove()
    assert calls == ["hook", "hook"]  # of the inner one and of ours
    step = inner.step
    inner.step = lambda: (calls.append("step"), step())[1]
    optimizer.step()
    assert calls[2:] == ["step"]
    assert runs == []


class Counting(torch.optim.Optimizer):
    """Momentum whose rate falls with a count in its groups."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1, "count": 0})

    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] += 1
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.mul_(0.9).add_(p.grad)
                p.data.sub_(momentum * group["lr"] / group["count"])


def test_packed_states_of_an_optimizer_that_writes_to_its_groups():
    results = []
    for store in ("values", "packed"):
        parameters = [ones(4), ones(3)]
        optimizer = LowPrecision(Counting(parameters), state="e5m2", store=store)
        for _ in range(4):
            for p in parameters:
                p.grad = torch.ones_like(p)
            optimizer.step()
        assert optimizer.param_groups[0]["count"] == 4
        results.append([p.tolist() for p in parameters])
    assert results[0] == results[1]


def test_float64_blocks_are_packed():
    results = []
    for store in ("values", "packed"):
        p = nn.Parameter(torch.ones(6, dtype=torch.float64))
        optimizer = SGD([p], 0.1, 0.9, state="bfp8", store=store)
        for number in range(3):
            p.grad = torch.linspace(-1, number, 6, dtype=torch.float64)
            optimizer.step()
        results.append(p.tolist())
    assert results[0] == results[1]


@pytest.mark.parametrize("state", [{}, {"momentum_buffer": None}])
def test_nothing_to_pack_is_an_error(state):
    with pytest.raises(ValueError, match="`state` must have a cast where store is 'packed'"):
        SGD([ones(4)], 0.1, 0.9, state=state, store="packed")


def test_formats_that_do_not_fit_a_shape_change_nothing():
    model = nn.Linear(4, 4)
    before = copy.deepcopy(model.state_dict())
    for casts in ({"weight": "bfp8<channel1>"}, {"state": "bfp8<block2x2>"}, {"gradient": "bfp8<block2x2>"}):
        with pytest.raises(ValueError, match="must"):
            SGD(model.parameters(), **casts)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    optimizer = SGD([ones(4, 4)], weight="bfp8<block2x2>")
    later = nn.Parameter(torch.randn(4, 4))
    start = later.detach().clone()
    with pytest.raises(ValueError, match="must"):
        optimizer.add_param_group({"params": [later, ones(4)]})
    assert len(optimizer.param_groups) == 1
    assert torch.equal(later, start)


def test_what_is_refused_later_as_at_first():
    optimizer = SGD([ones(4)])
    with pytest.raises(ValueError, match="`param_group` must not be differentiable"):
        optimizer.add_param_group({"params": [ones(4)], "differentiable": True})
    for exclude in (3, None, torch.ones(4)):
        with pytest.raises(TypeError, match="`exclude` must be a sequence of parameters"):
            SGD([ones(4)], exclude=exclude)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", None, "`state_dict` must hold a seed of 64 bits, got None"),
        ("seed", torch.tensor([1.5]), r"`state_dict` must hold a seed of 64 bits, got tensor\(\[1.5"),
        ("step", "x", "`state_dict` must hold an integer step, got 'x'"),
    ],
)
def test_a_damaged_state_dict_changes_nothing(name, value, message):
    optimizer = SGD([ones(4)], 0.1, weight="e5m2")
    damaged = optimizer.state_dict()
    damaged["param_groups"][0]["lr"] = 5.0
    damaged["lowprec"][name] = value
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(damaged)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_the_first_step_finds_square_roots_steady(monkeypatch):
    """Else two threads may be the first to call MKL, and one of them gets other roots that once."""
    calls = []
    monkeypatch.setattr(low_precision, "steady_roots", lambda: calls.append(torch.ones(8).sqrt()))
    LowPrecision(torch.optim.Adam([ones(4)]), weight="e5m2")
    assert len(calls) == 1


def test_the_first_call_of_a_root_is_on_one_thread(monkeypatch):
    seen, root = [], torch.Tensor.sqrt
    monkeypatch.setattr(torch.Tensor, "sqrt", lambda x: (seen.append((x.dtype, x.numel())), root(x))[1])
    steady_roots.__wrapped__()
    assert {dtype for dtype, _ in seen} == {torch.float32, torch.float64}
    assert max(size for _, size in seen) <= 16  # torch gives a second thread nothing below thousands
