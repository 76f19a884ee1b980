"""What is excluded is left alone: by products and, with prepare, by the optimizer."""

import copy
import pickle

import pytest
import torch
from torch import nn

import lowprec
from lowprec import Cast, Rule, Scheme
from lowprec.optim import LowPrecision

OFF_GRID = 3.3  # no value of fixed8f7, which ends at 0.992


def filled() -> nn.Sequential:
    """Three layers whose every parameter lies off the grid."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(OFF_GRID)
    return model


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """With a momentum, so that there is state."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    """Some steps on inputs of their own."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 2, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("2",), {"2.weight", "2.bias"}),
        (("BatchNorm1d",), {"1.weight", "1.bias"}),
        (("*.bias",), {"0.bias", "1.bias", "2.bias"}),
        (("0", "1.weight"), {"0.weight", "0.bias", "1.weight"}),
    ],
)
def test_the_optimizer_leaves_excluded_parameters_alone(exclude, left):
    model = filled()
    model, optimizer = lowprec.prepare(model, sgd(model), "fixed8", exclude=exclude)
    for name, p in model.named_parameters():
        assert (p == torch.tensor(OFF_GRID)).all() == (name in left), name
    with lowprec.record(model, optimizer) as recording:
        train(model, optimizer)
    roles = {"stored_weight", "gradient"}
    touched = {name for name, role in recording.counters if role in roles}
    assert touched == {name for name, _ in model.named_parameters()} - left


def test_a_rule_leaves_alone_as_exclude_does():
    model = filled()
    scheme = Scheme(weight="fixed8f7", stored_weight="fixed8f7", rules=(Rule(":last"),))
    model, _ = lowprec.prepare(model, sgd(model), scheme)
    assert type(model[2]) is nn.Linear
    assert (model[2].weight == OFF_GRID).all()
    assert (model[0].weight < 1).all()


def test_a_weight_tied_to_a_converted_layer_is_not_left_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model[0].weight.data.fill_(OFF_GRID)
    model, _ = lowprec.prepare(model, sgd(model), "fixed8", exclude=("1",))
    assert (model[0].weight < 1).all()


def test_excluded_parameters_train_as_without_casts():
    plain, model = filled(), filled()
    inner = sgd(plain)
    optimizer = LowPrecision(sgd(model), weight="fixed8f7", state="fixed8f7", exclude=model.parameters())
    train(plain, inner)
    train(model, optimizer)
    for want, got in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(want, got)


def test_the_gradient_scale_reaches_excluded_parameters():
    p = nn.Parameter(torch.ones(2))
    optimizer = LowPrecision(
        torch.optim.SGD([p], lr=1.0), weight="fixed8f7", gradient_scale=0.25, exclude=[p]
    )
    p.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(p, torch.full((2,), 0.75))


def test_what_is_excluded_is_part_of_the_state():
    model = filled()
    state = LowPrecision(sgd(model), weight="fixed8f7", exclude=[model[2].weight]).state_dict()
    other = LowPrecision(sgd(model), weight="fixed8f7")
    with pytest.raises(ValueError, match=r"`state_dict` must exclude the parameters \[\], got \[4\]"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match="`exclude` must hold parameters of the optimizer, got '1 tens"):
        LowPrecision(sgd(model), exclude=[torch.zeros(2)])


class ClassToken(nn.Module):
    """A root that owns a parameter of three dimensions."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.full((1, 1, 2), OFF_GRID))
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x) + self.token[0]


def test_a_parameter_of_the_root_can_be_excluded():
    message = r"`model` must hold only layers that can be simulated, .* token of 3 .*exclude=\('token',\)"
    with pytest.raises(ValueError, match=message):
        lowprec.convert(ClassToken(), "bfp8")
    model = ClassToken()
    model, optimizer = lowprec.prepare(model, sgd(model), "fixed8", exclude=("token",))
    assert isinstance(model.layer, lowprec.nn.Linear)
    assert (model.token == OFF_GRID).all()
    train(model, optimizer)


def test_the_optimizer_must_be_the_models():
    model, other = filled(), filled()
    with pytest.raises(ValueError, match="`optimizer` must hold parameters of the model only, got '6 oth"):
        lowprec.prepare(model, sgd(other), "bfp8")
    assert type(model[0]) is nn.Linear


def test_a_scheme_without_noise_leaves_the_global_generator_alone():
    model = filled()
    before = torch.get_rng_state()
    lowprec.prepare(model, sgd(model), "fp8-hybrid")
    assert torch.equal(torch.get_rng_state(), before)
    model = filled()
    lowprec.prepare(model, sgd(model), "bfp8-sr")
    assert not torch.equal(torch.get_rng_state(), before)


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 20, bias=False), nn.Linear(20, 20, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.a(x), self.b(x)


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_layers_that_share_a_weight_read_it_with_one_noise(copied):
    model = copied(lowprec.convert(Tied(), Scheme(weight=Cast("bfp4", "stochastic"))))
    eye = torch.eye(20)
    a, b = model(eye)
    assert torch.equal(a, b)
    assert not torch.equal(model(eye)[0], a)
    lowprec.revert(model)
    assert set(model.b.__dict__) == set(nn.Linear(1, 1).__dict__)


class TestMaster:
    """With a master copy the weights can be written to from outside."""

    @staticmethod
    def prepared(seed=0):
        torch.manual_seed(seed)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.125, momentum=0.5)
        scheme = Scheme(stored_weight="bfloat16", master="binary32", input="bfloat16")
        return lowprec.prepare(model, optimizer, scheme)

    @pytest.mark.parametrize("way", ["load_state_dict", "data", "no_grad"])
    def test_a_written_weight_is_the_new_master(self, way):
        model, optimizer = self.prepared()
        x = torch.ones(4, 3)
        model(x).sum().backward()
        optimizer.step()
        half = torch.full_like(model.weight, 0.5)
        if way == "load_state_dict":
            model.load_state_dict({"weight": half, "bias": model.bias.detach().clone()})
        elif way == "data":
            model.weight.data.copy_(half)
        else:
            with torch.no_grad():
                model.weight.copy_(half)
        momentum = optimizer.state[model.weight]["momentum_buffer"].clone()
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        want = half - 0.125 * (0.5 * momentum + model.weight.grad)
        assert torch.equal(optimizer.master_weights[model.weight], want)
        assert torch.equal(model.weight, lowprec.quantize(want, "bfloat16"))

    @pytest.mark.parametrize("model_first", [True, False])
    def test_loading_in_either_order_goes_on_bit_for_bit(self, model_first):
        model, optimizer = self.prepared()
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))

        def step(model, optimizer):
            optimizer.zero_grad()
            model(x).square().sum().mul(0.01).backward()
            optimizer.step()

        for _ in range(5):
            step(model, optimizer)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        step(model, optimizer)
        other, its_optimizer = self.prepared(seed=7)
        loads = [(other, saved[0]), (its_optimizer, saved[1])]
        for target, state in loads if model_first else reversed(loads):
            target.load_state_dict(state)
        step(other, its_optimizer)
        for want, got in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(want, got)
        masters = optimizer.master_weights.values(), its_optimizer.master_weights.values()
        for want, got in zip(*masters, strict=True):
            assert torch.equal(want, got)


def test_what_is_excluded_need_not_be_trained():
    model = filled()
    head = torch.optim.SGD(model[2].parameters(), lr=0.1)
    model, optimizer = lowprec.prepare(model, head, "fixed8", exclude=("0", "1"))
    train(model, optimizer)
    assert (model[0].weight == OFF_GRID).all()
    assert (model[2].weight < 1).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda cast: Scheme(state=cast),
        lambda cast: Scheme(state={"exp_avg": cast}),
        lambda cast: lowprec.Operands(input=cast),
        lambda cast: Scheme(grad_input=lowprec.Operands(error=cast)),
    ],
)
def test_gradients_cannot_be_clipped_where_there_are_none(make):
    with pytest.raises(ValueError, match="must not clip gradients"):
        make(Cast("e5m2", clip_gradient=True))


def test_a_state_that_is_not_whole_is_an_error():
    optimizer = LowPrecision(sgd(filled()), weight="fixed8f7")
    state = optimizer.state_dict()
    del state["lowprec"]["seen"]
    with pytest.raises(ValueError, match="`state_dict` must be whole, got 'one without seen'"):
        optimizer.load_state_dict(state)
