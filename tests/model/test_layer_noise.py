"""Noise of layers: one for a weight in each forward of the model, the same under checkpointing."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import lowprec
from lowprec import Cast, Scheme
from lowprec.nn.lent_seeds import LentSeeds

NOISY_WEIGHT = Scheme(weight=Cast("fixed8f3", "stochastic"))
"""A unit input makes the rounded weight visible."""


class Twice(nn.Module):
    """One layer read twice; on the unit matrix it gives what the two readings saw."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return self.layer(x).t(), self.layer(x).t()


@pytest.fixture
def twice():
    torch.manual_seed(0)
    return lowprec.convert(Twice(), NOISY_WEIGHT)


def test_a_layer_read_twice_has_one_weight_in_each_forward(twice):
    first, second = twice(torch.eye(8))
    assert torch.equal(first, second)
    again, _ = twice(torch.eye(8))
    assert not torch.equal(first, again), "the next forward has other noise"
    assert not torch.equal(first, twice.layer.weight)


def test_its_input_has_other_noise_at_each_reading():
    torch.manual_seed(0)
    model = lowprec.convert(Twice(), Scheme(input=Cast("fixed8f3", "stochastic")))
    with torch.no_grad():
        model.layer.weight.copy_(torch.eye(8))
    first, second = model(torch.full((8, 8), 0.3))
    assert not torch.equal(first, second)


def test_calls_of_a_part_of_the_model_are_forwards_of_their_own(twice):
    readings = [twice.layer(torch.eye(8)) for _ in range(2)]
    with torch.no_grad():
        twice.layer.weight.add_(0.0)
    readings.append(twice.layer(torch.eye(8)))
    readings.append(twice(torch.eye(8))[0].t())
    readings.append(twice.layer(torch.eye(8)))
    for number, reading in enumerate(readings):
        assert not any(torch.equal(reading, other) for other in readings[:number])


def test_a_forward_that_raises_ends(twice):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        twice(torch.ones(3, 3))
    a, b = twice.layer(torch.eye(8)), twice.layer(torch.eye(8))
    assert not torch.equal(a, b)


def test_noise_repeats_after_manual_seed(twice):
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append([twice(torch.eye(8))[0] for _ in range(3)])
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)


def test_layers_do_not_share_noise():
    model = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(0.3)
    seen = []
    for layer in lowprec.convert(model, NOISY_WEIGHT):
        layer.register_forward_hook(lambda _, __, output: seen.append(output))
    model(torch.eye(32))
    layers = [seen[0].t(), model[1](torch.eye(32)).t()]
    assert 0.4 < (layers[0] == layers[1]).double().mean() < 0.9


@pytest.mark.parametrize("name", ["bfp8-sr", "fixed8-sr"])
def test_eval_uses_eval_rounding_and_draws_nothing(name):
    torch.manual_seed(0)
    model = lowprec.convert(nn.Sequential(nn.Linear(5, 4)), name).eval()
    x = torch.randn(100, 5)
    before = torch.get_rng_state()
    y = model(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(y, model(x))
    plain = lowprec.convert(nn.Sequential(nn.Linear(5, 4)), name.removesuffix("-sr"))
    plain.load_state_dict(model.state_dict())
    assert torch.equal(y, plain(x))
    assert not torch.equal(y, model.train()(x))


class Network(nn.Module):
    """Layers before, within and after a region that may be checkpointed; one is read in both."""

    def __init__(self):
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.shared = nn.Linear(6, 6)
        self.after = nn.Linear(6, 3)
        self.wrap = lambda function, x: function(x)

    def region(self, x):
        return self.shared(torch.relu(self.shared(x)))

    def forward(self, x):
        x = self.shared(self.before(x))
        return self.after(self.wrap(self.region, x))


def gradients(wrap_region, wrap_model=None, forwards=1):
    """Gradients of all parameters from equal parameters, inputs and noise."""
    torch.manual_seed(0)
    model = lowprec.convert(Network(), "bfp8-sr")
    model.wrap = wrap_region
    x = torch.randn(forwards, 7, 6, requires_grad=True)
    torch.manual_seed(1)
    losses = []
    for part in x:
        y = model(part) if wrap_model is None else wrap_model(model, part)
        losses.append(y.square().sum())
    torch.stack(losses).sum().backward()
    return [x.grad, *(p.grad for p in model.parameters())]


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("forwards", [1, 2])
def test_checkpointing_a_region_changes_no_gradient(use_reentrant, forwards):
    def wrap(function, x):
        return checkpoint(function, x, use_reentrant=use_reentrant)

    want = gradients(lambda function, x: function(x), forwards=forwards)
    assert all(gradient.abs().sum() > 0 for gradient in want)
    assert_equal(gradients(wrap, forwards=forwards), want)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_the_whole_model_changes_no_gradient(use_reentrant):
    def wrap(model, x):
        return checkpoint(model, x, use_reentrant=use_reentrant)

    want = gradients(lambda function, x: function(x))
    assert_equal(gradients(lambda function, x: function(x), wrap), want)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_single_layers_outside_a_model(use_reentrant):
    results = []
    for wrapped in (False, True):
        torch.manual_seed(2)
        layers = [lowprec.nn.Linear(5, 5, scheme="bfp8-sr") for _ in range(2)]
        x = torch.randn(3, 5, requires_grad=True)
        y = x
        for layer in (layers[0], layers[1], layers[0]):
            y = checkpoint(layer, y, use_reentrant=use_reentrant) if wrapped else layer(y)
        y.square().sum().backward()
        results.append([x.grad, *(layer.weight.grad for layer in layers)])
    assert_equal(*results)


def test_what_is_remembered_for_the_backward_is_bounded(monkeypatch):
    monkeypatch.setattr("lowprec.nn.lent_seeds.REMEMBERED", 3)
    model = lowprec.convert(Twice(), NOISY_WEIGHT)
    for _ in range(10):
        model(torch.eye(8))
    assert len(model.layer._lent[torch.device("cpu")]) == 3


def test_the_last_reading_with_a_seed_counts_and_the_oldest_is_forgotten(monkeypatch):
    monkeypatch.setattr("lowprec.nn.lent_seeds.REMEMBERED", 4)
    lent, kept = LentSeeds(torch.device("cpu")), {}
    for number, drawn in enumerate([5, 6, 5, 7, 8, 5, 9, 10, -1, 6, 6, 5]):
        lent.lend(torch.tensor([drawn]), torch.tensor([number]))
        kept[number] = drawn
        kept.pop(number - 4, None)
        for sought in range(-2, 11):
            known = [n for n, key in kept.items() if key == sought]
            want = torch.tensor([known[-1] if known else sought])
            assert torch.equal(lent.seed_for(torch.tensor([sought])), want)


def test_no_reading_is_remembered_where_no_backward_can_follow(twice):
    with torch.inference_mode():
        twice(torch.eye(8))
    assert not twice.layer._lent
    first, second = twice(torch.eye(8))
    assert torch.equal(first, second)
    with torch.inference_mode():
        twice(torch.eye(8))
    assert len(twice.layer._lent[torch.device("cpu")]) == 1


def test_layers_of_lowprec_nn_take_a_scheme_and_torch_options():
    layer = lowprec.nn.Linear(5, 4, bias=False, scheme="fp8-hybrid")
    x = torch.randn(3, 5)
    want = lowprec.functional.linear(x, layer.weight, scheme="fp8-hybrid")
    assert torch.equal(layer(x), want)
    conv = lowprec.nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, scheme="fp8-hybrid")
    x = torch.randn(3, 2, 8, 8)
    want = lowprec.functional.conv2d(x, conv.weight, conv.bias, 2, 1, groups=2, scheme="fp8-hybrid")
    assert torch.equal(conv(x), want)


def test_an_unknown_scheme_of_a_layer_is_an_error():
    with pytest.raises(ValueError, match="`scheme` must be one of bf16"):
        lowprec.nn.Linear(2, 2, scheme="fp4")
