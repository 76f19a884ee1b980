"""OptimLP: plain steps and QPyTorch's bit for bit; closures, schedulers, saving, copies, and refusals."""

import copy
import io
import pickle
from types import SimpleNamespace

import pytest
import torch
from compat.peer import qpytorch
from torch import nn
from torch.optim import SGD, Adam, AdamW

import lowprec.compat.qtorch as ours
from lowprec.compat.qtorch import BlockFloatingPoint, FixedPoint, FloatingPoint
from lowprec.compat.qtorch.optim import OptimLP
from lowprec.compat.qtorch.quant import fixed_point_quantize, quantizer
from lowprec.optim import LowPrecision

INNER = {
    "SGD": lambda p: SGD(p, lr=0.1),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "Nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: Adam(p, lr=0.02, weight_decay=1e-2),
}
ROLES = {
    "weight": ("weight_quant",),
    "gradient": ("grad_quant", "weight_quant"),
    "momentum": ("momentum_quant", "weight_quant"),
    "accumulator": ("acc_quant",),
    "all": ("weight_quant", "grad_quant", "momentum_quant", "acc_quant"),
}


def nearest(q, number, *arguments):
    """A function that rounds to nearest."""
    return q.quant.quantizer(forward_number=getattr(q, number)(*arguments), forward_rounding="nearest")


def functions(q, roles):
    """The functions of roles: a number of each kind, and a wide accumulator."""
    known = {
        "weight_quant": nearest(q, "FixedPoint", 8, 6),
        "grad_quant": nearest(q, "FloatingPoint", 5, 4),
        "momentum_quant": nearest(q, "FloatingPoint", 6, 9),
        "acc_quant": nearest(q, "FixedPoint", 16, 14),
    }
    return {role: known[role] for role in roles}


def small_model(seed=0):
    """Two layers, one of them without a gradient."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model.unused = nn.Parameter(torch.randn(5) / 3)
    return model


def backward(model, step):
    """The gradients of one step."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, generator=generator)
    model.zero_grad()
    loss = model(x).square().mean() + model[0].weight.sum() / 50
    loss.backward()
    return loss


def steps(model, optimizer, first, last):
    """Train from one step to another; the optimizer, for its state."""
    for step in range(first, last):
        backward(model, step)
        optimizer.step()
    return optimizer


def assert_same_model(model, other):
    """Equal bits of all parameters."""
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


def assert_same_state(optimizer, other, model, twin):
    """Equal bits of all states and accumulators, QPyTorch's or ours."""
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        mine, yours = optimizer.optim.state[p], other.optim.state[q]
        assert mine.keys() == yours.keys()
        for name, value in mine.items():
            assert value is yours[name] is None or torch.equal(value, yours[name]), name
        if optimizer.acc_quant is not None:
            assert torch.equal(optimizer.weight_acc[p], other.weight_acc[q])


@pytest.mark.parametrize("roles", ROLES.values(), ids=ROLES)
@pytest.mark.parametrize("inner", INNER)
def test_a_hundred_steps_are_qpytorchs(inner, roles):
    trained = []
    for q in (ours, qpytorch()):
        model = small_model()
        optimizer = q.optim.OptimLP(INNER[inner](model.parameters()), **functions(q, roles), grad_scaling=0.5)
        if "grad_quant" not in roles:
            optimizer.grad_scaling = 1.0  # which QPyTorch ignores then
        trained.append((steps(model, optimizer, 0, 100), model))
    (mine, model), (theirs, twin) = trained
    assert_same_model(model, twin)
    assert_same_state(mine, theirs, model, twin)


@pytest.mark.parametrize("accumulated", [False, True])
def test_a_hundred_steps_of_momentum_are_the_plain_ones(accumulated):
    model, plain = small_model(), small_model()
    q = SimpleNamespace(**functions(ours, ROLES["all"]))
    acc_quant = q.acc_quant if accumulated else None
    optimizer = OptimLP(
        INNER["momentum"](model.parameters()), q.weight_quant, 0.5, q.grad_quant, q.momentum_quant, acc_quant
    )
    parameters = list(plain.parameters())
    accumulators = [p.detach().clone() for p in parameters]
    buffers = [None] * len(parameters)
    for step in range(100):
        backward(model, step)
        optimizer.step()
        backward(plain, step)
        with torch.no_grad():
            for i, p in enumerate(parameters):
                value = accumulators[i] if accumulated else p.clone()
                if p.grad is not None:
                    gradient = q.grad_quant(p.grad * 0.5).add(value, alpha=1e-2)
                    buffers[i] = gradient if buffers[i] is None else buffers[i].mul(0.9).add(gradient)
                    value = value.add(buffers[i], alpha=-0.1)
                    buffers[i] = q.momentum_quant(buffers[i])
                if accumulated:
                    value = accumulators[i] = q.acc_quant(value)
                p.copy_(q.weight_quant(value))
    assert_same_model(model, plain)
    for p, buffer in zip(model.parameters(), buffers, strict=True):
        if buffer is not None:
            assert torch.equal(optimizer.state[p]["momentum_buffer"], buffer)


def test_nothing_is_rounded_before_the_first_step():
    model, untouched = small_model(), small_model()
    optimizer = OptimLP(SGD(model.parameters(), lr=0.1), **functions(ours, ROLES["all"]))
    assert_same_model(model, untouched)
    assert all(torch.equal(p, acc) for p, acc in optimizer.weight_acc.items())
    steps(model, optimizer, 0, 1)
    grid = FixedPoint(8, 6).native
    assert all(grid.contains(value) for p in model.parameters() for value in p.flatten().tolist())


def test_one_seed_gives_the_same_bits_with_noise_everywhere():
    def trained(seed):
        model = small_model()
        noisy = quantizer(FixedPoint(8, 6))
        optimizer = OptimLP(
            INNER["momentum"](model.parameters()), noisy, 1.0, noisy, noisy, quantizer(FixedPoint(16, 14))
        )
        torch.manual_seed(seed)
        return steps(model, optimizer, 0, 5) and model

    assert_same_model(trained(1), trained(1))
    assert not torch.equal(trained(1)[0].weight, trained(2)[0].weight)


@pytest.mark.parametrize(
    "name", ["AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "ASGD", "Rprop"]
)
def test_any_optimizer_that_steps_once_is_wrapped(name):
    model = small_model()
    model.scalar = nn.Parameter(torch.tensor(0.3))
    optimizer = OptimLP(getattr(torch.optim, name)(model.parameters()), **functions(ours, ROLES["all"]))
    for step in range(3):
        backward(model, step)
        model.scalar.grad = torch.tensor(0.1)
        optimizer.step()
    coarse = FloatingPoint(6, 9).native
    states = [
        (n, v)
        for p in model.parameters()
        for n, v in optimizer.state[p].items()
        if v is not None and v.shape == p.shape
    ]
    rounded = [
        all(map(coarse.contains, v.flatten().tolist()))
        for n, v in states
        if n not in {"step", "mu_product", "eta", "mu"}
    ]
    assert len(rounded) >= 3
    assert all(rounded)
    assert optimizer.state[model.scalar]["step"] == 3


def test_the_counters_of_a_parameter_without_dimensions_are_no_momenta():
    scalar = nn.Parameter(torch.tensor(0.3))
    optimizer = OptimLP(torch.optim.NAdam([scalar]), momentum_quant=torch.zeros_like)
    for _ in range(2):
        scalar.grad = torch.tensor(0.1)
        optimizer.step()
    state = optimizer.state[scalar]
    assert state["step"] == 2
    assert state["mu_product"] > 0
    assert state["exp_avg"] == state["exp_avg_sq"] == 0


def test_amsgrads_maximum_is_a_momentum():
    model = small_model()
    coarse = nearest(ours, "FloatingPoint", 6, 2)
    optimizer = OptimLP(Adam(model.parameters(), amsgrad=True), momentum_quant=coarse)
    steps(model, optimizer, 0, 3)
    for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        value = optimizer.state[model[0].weight][name]
        assert torch.equal(value, coarse(value)), name


def test_a_closure_is_called_once_and_its_loss_returned():
    model, twin = small_model(), small_model()
    optimizers = [
        OptimLP(SGD(m.parameters(), lr=0.1), nearest(ours, "FixedPoint", 8, 6)) for m in (model, twin)
    ]
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        return backward(model, 0)

    loss = optimizers[0].step(closure)
    want = backward(twin, 0)
    assert optimizers[1].step() is None
    assert calls == [True]
    assert torch.equal(loss, want)
    assert_same_model(model, twin)


def test_gradients_are_scaled_without_a_gradient_function_too():
    model, twin = small_model(), small_model()
    scaled = OptimLP(SGD(model.parameters(), lr=1.0), grad_scaling=0.25)
    plain = SGD(twin.parameters(), lr=0.25)
    steps(model, scaled, 0, 3)
    steps(twin, plain, 0, 3)
    assert_same_model(model, twin)


@pytest.mark.parametrize("inner", INNER)
def test_saving_loading_and_stepping_is_stepping(inner):
    roles = functions(ours, ROLES["all"])
    model = small_model()
    optimizer = steps(model, OptimLP(INNER[inner](model.parameters()), **roles), 0, 5)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    steps(model, optimizer, 5, 9)

    twin = small_model(seed=1)
    other = OptimLP(INNER[inner](twin.parameters()), **roles)
    twin.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    steps(twin, other, 5, 9)
    assert_same_model(model, twin)
    assert_same_state(optimizer, other, model, twin)


def test_a_scheduler_drives_the_inner_optimizer_after_loading_too():
    model = small_model()
    optimizer = OptimLP(INNER["momentum"](model.parameters()))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.load_state_dict(optimizer.state_dict())
    steps(model, optimizer, 0, 1)
    scheduler.step()
    assert optimizer.optim.param_groups[0]["lr"] == 0.05
    assert optimizer.param_groups is optimizer.optim.param_groups


def test_a_state_dict_of_the_inner_optimizer_loads_where_there_are_no_accumulators():
    model = small_model()
    inner = steps(model, INNER["momentum"](model.parameters()), 0, 2)
    wrapped = OptimLP(INNER["momentum"](model.parameters()))
    wrapped.load_state_dict(inner.state_dict())
    weight = model[0].weight
    assert torch.equal(wrapped.state[weight]["momentum_buffer"], inner.state[weight]["momentum_buffer"])


@pytest.mark.parametrize("make", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_and_pickles_step_alike(make):
    model = small_model()
    optimizer = steps(
        model, OptimLP(INNER["momentum"](model.parameters()), **functions(ours, ROLES["all"])), 0, 3
    )
    twin, other = make((model, optimizer))
    steps(model, optimizer, 3, 6)
    steps(twin, other, 3, 6)
    assert_same_model(model, twin)
    assert_same_state(optimizer, other, model, twin)


def test_weights_written_between_steps_become_their_accumulators():
    model, twin = small_model(), small_model(seed=1)
    optimizer = OptimLP(SGD(model.parameters(), lr=0.1), **functions(ours, ("weight_quant", "acc_quant")))
    steps(model, optimizer, 0, 2)
    model.load_state_dict(twin.state_dict())
    other = OptimLP(SGD(twin.parameters(), lr=0.1), **functions(ours, ("weight_quant", "acc_quant")))
    steps(model, optimizer, 0, 3)
    steps(twin, other, 0, 3)
    assert_same_model(model, twin)


def test_a_weight_that_is_nan_leaves_the_other_accumulators_alone():
    weight = nn.Parameter(torch.tensor([float("nan"), 0.3]))
    weight.grad = torch.zeros(2)
    optimizer = OptimLP(SGD([weight], lr=0.1), **functions(ours, ("weight_quant", "acc_quant")))
    for _ in range(2):
        optimizer.step()
    assert weight[1] == fixed_point_quantize(torch.tensor(0.3), 8, 6, rounding="nearest")
    assert optimizer.weight_acc[weight][1] == fixed_point_quantize(
        torch.tensor(0.3), 16, 14, rounding="nearest"
    )
    assert weight[0].isnan()


def test_a_group_added_later_has_accumulators():
    model = small_model()
    optimizer = OptimLP(SGD(model[0].parameters(), lr=0.1), **functions(ours, ROLES["all"]))
    optimizer.add_param_group({"params": list(model[2].parameters())})
    steps(model, optimizer, 0, 2)
    assert set(optimizer.weight_acc) == {*model[0].parameters(), *model[2].parameters()}
    optimizer.zero_grad()
    assert model[2].weight.grad is None
    assert repr(optimizer).startswith("OptimLP(weight_quant, grad_quant, momentum_quant, acc_quant)\nSGD")


def test_a_block_of_weights_has_the_dimension_of_its_rows():
    model = small_model()
    optimizer = OptimLP(SGD(model.parameters(), lr=0.1), nearest(ours, "BlockFloatingPoint", 4, 0))
    steps(model, optimizer, 0, 1)
    weight = model[0].weight.detach()
    assert torch.equal(weight, ours.quant.block_quantize(weight, 4, 0, "nearest"))
    assert BlockFloatingPoint(4, 0).native.granularity.tiles(weight.shape) == (1, 3)


def test_sparse_gradients_pass_but_are_not_rounded():
    layer = nn.Embedding(4, 2, sparse=True)
    before = layer.weight.detach().clone()
    layer(torch.tensor([1])).sum().backward()
    OptimLP(SGD(layer.parameters(), lr=1.0), grad_scaling=0.5).step()
    assert torch.equal(layer.weight[1], before[1] - 0.5)
    optimizer = OptimLP(SGD(layer.parameters(), lr=1.0), grad_quant=nearest(ours, "FixedPoint", 8, 6))
    with pytest.raises(TypeError, match="`grad` must be dense for grad_quant, got torch"):
        optimizer.step()


def weights():
    """A parameter to optimize."""
    return [nn.Parameter(torch.ones(2))]


def loaded(saved, **roles):
    """Load a state_dict into an OptimLP of two weights."""
    OptimLP(SGD(weights(), lr=0.1), **functions(ours, roles)).load_state_dict(saved)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: OptimLP(weights()), TypeError, "`optim` must be a torch optimizer, got <class 'list'>"),
        (lambda: OptimLP(torch.optim.LBFGS(weights())), TypeError, "`optim` must step once on each gradient"),
        (
            lambda: OptimLP(OptimLP(AdamW(weights()))),
            TypeError,
            "`optim` must step once .* not be wrapped yet",
        ),
        (
            lambda: OptimLP(LowPrecision(AdamW(weights()))),
            TypeError,
            "`optim` must step once .* not be wrapped",
        ),
        (lambda: OptimLP(AdamW(weights()), grad_scaling="1"), TypeError, "`grad_scaling` must be a number"),
        (
            lambda: OptimLP(AdamW(weights()), grad_scaling=0),
            ValueError,
            "`grad_scaling` must be positive and fin",
        ),
        (
            lambda: OptimLP(AdamW(weights()), weight_quant=FixedPoint(8, 6)),
            TypeError,
            r"`weight_quant` must be a function from tensor to tensor.* Make one with quantizer",
        ),
        (
            lambda: loaded(SGD(weights(), lr=0.1).state_dict(), acc_quant=None),
            ValueError,
            r"`state_dict` must hold accumulators of the shapes \[\(2,\)\], got \[\]. Only an OptimLP",
        ),
        (
            lambda: loaded(
                OptimLP(SGD(weights(), lr=0.1), **functions(ours, ROLES["accumulator"])).state_dict()
            ),
            ValueError,
            r"`state_dict` must hold accumulators of the shapes \[\], got \[\(2,\)\]. Give acc_quant",
        ),
        (
            lambda: loaded(SGD(weights(), lr=0.1).state_dict() | {"OptimLP": {"seen": []}}),
            ValueError,
            r"`OptimLP` must hold accumulators and seen, got",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
