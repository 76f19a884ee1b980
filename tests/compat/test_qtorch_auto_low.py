"""lower and sequential_lower: the outputs, errors and keys of QPyTorch, and what it gets wrong done right."""

import copy
import pickle

import pytest
import torch
from compat.peer import qpytorch
from torch import nn

import lowprec.compat.qtorch as ours
from lowprec.compat.qtorch import FixedPoint, FloatingPoint
from lowprec.compat.qtorch.auto_low import lower, sequential_lower
from lowprec.compat.qtorch.auto_low.lowering import LAYER_TYPES
from lowprec.compat.qtorch.quant import fixed_point_quantize

NUMBERS = (FixedPoint(6, 3), FloatingPoint(4, 2), "nearest", "nearest")


class Block(nn.Module):
    """Layers in attributes, in a list and in a dict, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.steps = nn.ModuleList([nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)])
        self.heads = nn.ModuleDict({"flat": nn.Flatten(), "tanh": nn.Tanh(), "linear": nn.Linear(36, 3)})

    def forward(self, x):
        x = self.conv(x) * self.scale
        for step in self.steps:
            x = step(x)
        for head in self.heads.values():
            x = head(x)
        return x


def network():
    """The same weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.ZeroPad2d(1), nn.ReflectionPad2d(1), Block(), nn.Dropout(0.0), nn.LogSoftmax(1))


def outputs_and_gradients(model):
    """What a model gives, and the gradients of its input and parameters."""
    x = torch.randn(5, 2, 2, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = model(x)
    g = torch.linspace(-3, 3, y.numel()).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad(y, [x, *model.parameters()], g)]


def assert_same(got, want):
    """Equal tensors in equal order."""
    assert len(got) == len(want)
    assert all(map(torch.equal, got, want))


KINDS = [
    ["conv"],
    ["conv", "linear"],
    ["pad", "pool"],
    ["activation", "normalization"],
    ["dropout"],
    list(LAYER_TYPES),
]


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("how", ["lower", "sequential_lower"])
def test_outputs_errors_and_keys_are_qpytorchs(how, kinds):
    results, keys = [], []
    for q in (ours, qpytorch()):
        model = network()
        numbers = (q.FixedPoint(6, 3), q.FloatingPoint(4, 2), "nearest", "nearest")
        lowered = getattr(q.auto_low, how)(model, kinds, *numbers) or model
        results.append(outputs_and_gradients(lowered))
        keys.append(list(lowered.state_dict()))
    assert keys[0] == keys[1]
    assert_same(*results)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_both_ways_round_alike_and_change_what_they_say(kinds):
    model, untouched = network(), network()
    wrapped = sequential_lower(model, kinds, *NUMBERS)
    assert_same(outputs_and_gradients(model), outputs_and_gradients(untouched))
    assert lower(model, kinds, *NUMBERS) is None
    assert list(model.state_dict()) == list(untouched.state_dict())
    assert_same(outputs_and_gradients(model), outputs_and_gradients(wrapped))
    plain = outputs_and_gradients(untouched)
    assert not all(map(torch.equal, outputs_and_gradients(model), plain))


def test_the_layers_are_the_exact_types_qpytorch_lists():
    lists = qpytorch().auto_low.auto_low.LAYERS_TYPES
    assert {kind: set(types) for kind, types in lists.items()} == LAYER_TYPES


def test_there_are_so_many_layer_types():
    counts = {kind: len(types) for kind, types in LAYER_TYPES.items()}
    assert counts == {
        "conv": 8,
        "linear": 2,
        "pool": 18,
        "pad": 8,
        "activation": 21,
        "normalization": 9,
        "dropout": 4,
        "loss": 16,
    }


def test_a_layer_and_its_rounding_stand_in_the_layers_place():
    lowered = sequential_lower(network(), ["linear"], *NUMBERS)
    wrapped = lowered[2].heads["linear"]
    assert isinstance(wrapped, nn.Sequential)
    assert [type(part) for part in wrapped] == [nn.Linear, ours.quant.Quantizer]
    assert "2.heads.linear.0.weight" in lowered.state_dict()
    alone = sequential_lower(nn.ReLU(), ["activation"], *NUMBERS)
    assert torch.equal(alone(torch.tensor([0.3])), torch.tensor([0.25]))


def test_without_kinds_nothing_is_rounded():
    model = network()
    lower(model, [], *NUMBERS)
    assert_same(
        outputs_and_gradients(sequential_lower(model, [], *NUMBERS)), outputs_and_gradients(network())
    )


class Shared(nn.Module):
    """One layer at two places."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Sequential(self.first)

    def forward(self, x):
        return self.second(self.first(x))


def test_a_shared_layer_is_rounded_once_and_stays_shared():
    model = Shared()
    lowered = sequential_lower(model, ["linear"], FixedPoint(6, 3), forward_rounding="nearest")
    assert lowered.second[0] is lowered.first
    assert len(list(lowered.parameters())) == 2
    calls = []
    lower(model, ["linear"], FixedPoint(6, 3), forward_rounding="nearest")
    (hook,) = model.first._forward_hooks.values()
    hook.quantizers[0].register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 3)
    assert torch.equal(model(x), lowered(x))
    assert len(calls) == 2


def test_copies_and_pickles_of_a_lowered_model_are_their_own():
    model = network()
    lower(model, ["linear", "conv"], *NUMBERS)
    want = outputs_and_gradients(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(outputs_and_gradients(twin), want)
        with torch.no_grad():
            twin[2].heads["linear"].weight.zero_()
        assert not torch.equal(outputs_and_gradients(twin)[0], want[0])
        assert_same(outputs_and_gradients(model), want)
    lowered = sequential_lower(network(), ["linear", "conv"], *NUMBERS)
    assert_same(outputs_and_gradients(pickle.loads(pickle.dumps(lowered))), want)


def test_keywords_and_several_inputs_reach_the_layer():
    for how in (lower, sequential_lower):
        loss = nn.MSELoss()
        loss = how(loss, ["loss"], FixedPoint(6, 3), forward_rounding="nearest") or loss
        assert loss(torch.tensor([1.0]), target=torch.tensor([0.4])) == 0.375
        layer = nn.Bilinear(2, 2, 1)
        lowered = how(layer, ["linear"], FixedPoint(6, 3), forward_rounding="nearest") or layer
        x = torch.ones(1, 2)
        value = nn.functional.bilinear(x, x, layer.weight, layer.bias)
        assert torch.equal(lowered(x, input2=x), fixed_point_quantize(value, 6, 3, rounding="nearest"))


def test_the_indices_of_pooling_are_left_alone():
    x = torch.tensor([[[0.3, 0.9, 0.8, 0.1]]])
    for how in (lower, sequential_lower):
        pool, back = nn.MaxPool1d(2, return_indices=True), nn.MaxUnpool1d(2)
        pool = how(pool, ["pool"], FixedPoint(6, 3), forward_rounding="nearest") or pool
        back = how(back, ["pool"], FixedPoint(6, 3), forward_rounding="nearest") or back
        values, indices = pool(x)
        assert values.flatten().tolist() == [0.875, 0.75]
        assert indices.flatten().tolist() == [1, 2]
        assert back(values, indices).flatten().tolist() == [0, 0.875, 0.75, 0]


def test_a_second_call_rounds_after_the_first_and_before_other_hooks():
    layer, seen = nn.Identity(), []
    model = nn.Sequential(layer, nn.ReLU())
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    lower(model, ["activation"], FixedPoint(8, 1), forward_rounding="nearest")
    lower(model, ["activation"], FixedPoint(8, 0), forward_rounding="nearest")
    assert model(torch.tensor([0.3])).item() == 0  # 0.3, 0.5, 0; the other way round it would be 0 too
    assert model(torch.tensor([1.3])).item() == 2  # 1.3, 1.5, 2; the other way round 1
    assert seen[1].item() == 2


def test_a_lowered_transformer_layer_rounds_in_eval_too():
    layer = nn.TransformerEncoderLayer(4, 1, 8, dropout=0.0, batch_first=True).eval()
    x = torch.randn(1, 3, 4)
    before = layer(x)
    lower(layer, ["linear"], FixedPoint(4, 1), forward_rounding="nearest")
    with torch.no_grad():
        assert not torch.allclose(layer(x), before, atol=0.01)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda how: how(network(), "conv"),
            TypeError,
            r"`layer_types` must be a list of kinds, got 'conv'. Write \['",
        ),
        (
            lambda how: how(network(), ["Conv"]),
            ValueError,
            "`layer_types` must hold kinds among conv, linear, .*got 'Conv'",
        ),
        (lambda how: how(torch.relu, ["conv"]), TypeError, "`model` must be a torch.nn.Module, got"),
        (lambda how: how(network(), ["conv"], 8), TypeError, "`forward_number` must be a FixedPoint,"),
    ],
)
@pytest.mark.parametrize("how", [lower, sequential_lower])
def test_wrong_arguments_are_refused(how, call, error, message):
    with pytest.raises(error, match=message):
        call(how)
