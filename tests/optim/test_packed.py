"""States in the bits of their formats: the same steps, in less memory."""

import copy
import io

import pytest
import torch
from torch import nn

import lowprec
from lowprec import Cast
from lowprec.optim import SGD, AdamW, LowPrecision

SHAPES = [(40, 64), (64,), (3, 3, 2, 2), (1,)]
COUNT = sum(torch.Size(shape).numel() for shape in SHAPES)
NOISY = {name: Cast(name, "stochastic") for name in ("e4m3fn", "fixed5f3", "bfp8<group32>")}
STATES = {
    "8 bits": (NOISY["e4m3fn"], 8),
    "5 bits": (NOISY["fixed5f3"], 5),
    "groups": (NOISY["bfp8<group32>"], None),
    "4 bits, by look-up": ("nf4", None),
    "by name": ({"exp_avg": Cast("mxfp4", "stochastic"), "exp_avg_sq": "bfloat16"}, None),
}


def make(kind, state, *, store, seed=3, **options):
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    return parameters, kind(parameters, state=state, store=store, seed=seed, **options)


def step(parameters, optimizer, number):
    generator = torch.Generator().manual_seed(50 + number)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step()


def assert_alike(packed, parameters, plain, others):
    for p, q in zip(parameters, others, strict=True):
        assert torch.equal(p.view(torch.int32), q.view(torch.int32))
        states = packed.unpacked_state(p)
        assert set(states) == {name for name in plain.state[q] if name != "step"}
        for name, value in states.items():
            assert torch.equal(value.view(torch.int32), plain.state[q][name].view(torch.int32)), name


@pytest.mark.parametrize("name", STATES)
def test_the_same_steps(name):
    state, bits = STATES[name]
    casts = {"weight": Cast("e5m2", "stochastic"), "master": "bfloat16", "gradient": "e5m2"}
    parameters, optimizer = make(AdamW, state, store="packed", **casts)
    others, plain = make(AdamW, state, store="values", **casts)
    for number in range(8):
        step(parameters, optimizer, number)
        step(others, plain, number)
        assert_alike(optimizer, parameters, plain, others)
        if number == 2:  # saved and loaded
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            _, optimizer = make(AdamW, state, store="packed", seed=9, **casts)
            for p, q in zip([p for _, p in optimizer.numbered_parameters()], parameters, strict=True):
                p.data.copy_(q)
            parameters = [p for _, p in optimizer.numbered_parameters()]
            optimizer.load_state_dict(torch.load(file, weights_only=True))
        if number == 4:
            parameters, optimizer = copy.deepcopy((parameters, optimizer))
    assert plain.state_nbytes == 4 * 2 * COUNT + 4 * len(SHAPES)
    if bits is not None:
        counted = sum(-(-torch.Size(shape).numel() * bits // 8) for shape in SHAPES)
        assert optimizer.state_nbytes == 2 * counted + 4 * len(SHAPES)
    assert optimizer.state_nbytes < 0.55 * plain.state_nbytes


@pytest.mark.parametrize(
    "inner",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.RMSprop(p, 0.01, centered=True, momentum=0.5),
        lambda p: torch.optim.Adagrad(p, 0.1),
        lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, foreach=True),
    ],
)
def test_any_optimizer(inner):
    def kind(parameters, **options):
        return LowPrecision(inner(parameters), **options)

    parameters, optimizer = make(kind, NOISY["e4m3fn"], store="packed")
    others, plain = make(kind, NOISY["e4m3fn"], store="values")
    for number in range(4):
        step(parameters, optimizer, number)
        step(others, plain, number)
        assert_alike(optimizer, parameters, plain, others)


def test_states_without_a_cast_and_excluded_parameters_stay_values():
    p, q = (nn.Parameter(torch.ones(16)) for _ in range(2))
    optimizer = AdamW([p, q], state={"exp_avg": "e4m3fn"}, exclude=[q], store="packed")
    step([p, q], optimizer, 0)
    assert set(optimizer.unpacked_state(p)) == {"exp_avg"}
    assert set(optimizer.state[p]) == {"step", "exp_avg_sq"}
    assert optimizer.unpacked_state(q) == {}
    assert set(optimizer.state[q]) == {"step", "exp_avg", "exp_avg_sq"}


def test_recording_sees_what_is_packed():
    model = nn.Linear(4, 3)
    optimizer = SGD(model.parameters(), 0.1, 0.9, state="e4m3fn", store="packed")
    with lowprec.record(model, optimizer) as recording:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert {role for _, role in recording.counters} == {"state"}


def test_a_state_without_a_cast_is_unknown_by_name():
    p = nn.Parameter(torch.ones(3))
    optimizer = SGD([p], 0.1, 0.9, state={"momentum": "e4m3fn"}, store="packed")
    p.grad = torch.ones(3)
    with pytest.raises(ValueError, match=r"`state` must name states of the optimizer \(momentum_buffer\)"):
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "bits"}, "`store` must be 'values' or 'packed', got 'bits'"),
        ({"store": "packed"}, "`state` must have a cast where store is 'packed', got None"),
        (
            {"store": "packed", "state": {"momentum_buffer": "binary32"}},
            "`state.momentum_buffer` must have codes of at most 16 bits where store is 'packed'",
        ),
    ],
)
def test_what_cannot_be_packed(options, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        SGD([nn.Parameter(torch.ones(3))], 0.1, 0.9, **options)


def test_a_group_that_cannot_be_packed_is_not_added():
    optimizer = SGD([nn.Parameter(torch.ones(3))], 0.1, state="e4m3fn", store="packed")
    with pytest.raises(ValueError, match="`state` must have codes of at most 16 bits"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]}, casts={"state": "binary32"})
    assert len(optimizer.param_groups) == 1


def test_nan_without_a_code_changes_nothing():
    p, q = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = SGD([p, q], 0.1, 0.9, state="fixed8f4", store="packed")
    step([p, q], optimizer, 0)
    before = copy.deepcopy(([p, q], optimizer.state_dict()))
    p.grad, q.grad = torch.ones(4), torch.tensor([1.0, torch.nan, 1, 1])
    with pytest.raises(ValueError, match="`grad` must hold no NaN where a packed state has no code for it"):
        optimizer.step()
    assert torch.equal(p, before[0][0])
    assert torch.equal(q, before[0][1])
    after = optimizer.state_dict()["lowprec"]
    assert after["step"] == before[1]["lowprec"]["step"]
    for number, states in after["packed"].items():
        for name, tensors in states.items():
            for got, want in zip(tensors, before[1]["lowprec"]["packed"][number][name], strict=True):
                assert torch.equal(got, want)


def test_nan_with_a_code_is_kept():
    p = nn.Parameter(torch.ones(4))
    optimizer = SGD([p], 0.1, 0.9, state="e4m3fn", store="packed")
    p.grad = torch.tensor([1.0, torch.nan, 1, 1])
    optimizer.step()
    assert optimizer.unpacked_state(p)["momentum_buffer"].isnan().tolist() == [False, True, False, False]


def test_states_of_somebody_else():
    p = nn.Parameter(torch.ones(4))
    optimizer = SGD([p], 0.1, 0.9, state="e4m3fn", store="packed")
    with pytest.raises(ValueError, match="`p` must be a parameter of the optimizer"):
        optimizer.unpacked_state(torch.ones(4))


def test_a_state_dict_that_does_not_fit():
    def trained(size, state="e4m3fn", store="packed"):
        p = nn.Parameter(torch.ones(size))
        optimizer = SGD([p], 0.1, 0.9, state=state, store=store)
        step([p], optimizer, 0)
        return optimizer

    optimizer = trained(4)
    with pytest.raises(ValueError, match="`state_dict` must have the store packed, got 'values'"):
        optimizer.load_state_dict(trained(4, store="values").state_dict())
    with pytest.raises(ValueError, match="have 4 bytes of momentum_buffer for parameter 0, got 5"):
        optimizer.load_state_dict(trained(5).state_dict())
    damaged = trained(4).state_dict()
    damaged["lowprec"]["packed"][0]["velocity"] = damaged["lowprec"]["packed"][0].pop("momentum_buffer")
    damaged["lowprec"]["packed"][1] = {"momentum_buffer": [torch.zeros(4, dtype=torch.uint8)]}
    with pytest.raises(ValueError, match="hold packed states of this optimizer, got 'momentum_buffer of 1'"):
        optimizer.load_state_dict(damaged)


def test_a_failed_inner_step_leaves_the_groups_alone(monkeypatch):
    p, q = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = SGD([p, q], 0.1, 0.9, state="e4m3fn", store="packed")

    def fails():
        raise RuntimeError("out of memory")

    monkeypatch.setattr(optimizer.optimizer, "step", fails)
    p.grad = torch.ones(4)
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    assert optimizer.param_groups[0]["params"] == [p, q]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_shapes_orders_and_carriers(dtype):
    results = []
    for store in ("values", "packed"):
        generator = torch.Generator().manual_seed(0)
        start = [
            torch.randn(shape, generator=generator).to(dtype) for shape in [(), (0, 3), (4, 3, 5, 5), (6, 7)]
        ]
        start[2], start[3] = start[2].to(memory_format=torch.channels_last), start[3].T
        parameters = [nn.Parameter(x) for x in start]
        optimizer = AdamW(parameters, 0.01, state=Cast("e5m2", "stochastic"), seed=1, store=store)
        for _ in range(3):
            for p in parameters:
                p.grad = torch.randn(p.shape, generator=generator).to(dtype)
            optimizer.step()
        results.append(parameters)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
    assert [p.stride() for p in results[0]] == [p.stride() for p in results[1]]
