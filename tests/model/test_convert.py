"""convert, revert, describe and prepare: classes change, and nothing else."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import lowprec
from lowprec import Cast, Operands, Rule, Scheme
from lowprec.functional import conv2d, linear


def network():
    """Layers of several types, one Parameter in two layers, one layer in two places."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("stem", nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    model.add_module("flat", nn.Flatten())
    model.add_module("fc1", nn.Linear(16, 16))
    model.add_module("fc2", nn.Linear(16, 16))
    model.add_module("again", model.fc1)
    model.add_module("norm", nn.LayerNorm((4, 4)[0] * 4))
    model.add_module("head", nn.Linear(16, 3))
    model.fc2.weight = model.fc1.weight
    return model


def batch():
    return torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def output(model):
    torch.manual_seed(2)
    return model(batch())


def state_of(module):
    """Everything a module's parts hold, but for tensors by identity."""
    return [
        (name, type(part), {key: id(value) for key, value in vars(part).items()})
        for name, part in module.named_modules()
    ]


def test_keys_parameters_and_tied_weights_stay():
    model = network()
    keys, parameters = list(model.state_dict()), list(model.parameters())
    assert lowprec.convert(model, "bfp8-sr") is model
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert model.fc1.weight is model.fc2.weight
    assert model.again is model.fc1
    assert isinstance(model.head, lowprec.nn.Linear)
    assert isinstance(model.stem[0], lowprec.nn.Conv2d)
    assert isinstance(model.head, nn.Linear)
    model.load_state_dict(network().state_dict())


@pytest.mark.parametrize(
    ("dtype", "scheme"),
    [
        (torch.float32, "fp8-hybrid"),
        (torch.bfloat16, "fp8-hybrid"),
        (torch.float16, "bfp8"),
        (torch.float64, "fp8-hybrid"),
    ],
)
def test_each_layer_computes_what_the_functional_does(dtype, scheme):
    model, want = network().to(dtype), batch().to(dtype)
    conv = model.stem[0]
    want = model.stem[2](model.stem[1](conv2d(want, conv.weight, conv.bias, scheme=scheme))).flatten(1)
    for name in ("fc1", "fc2", "again"):
        layer = model.get_submodule(name)
        want = linear(want, layer.weight, layer.bias, scheme=scheme)
    want = linear(model.norm(want), model.head.weight, model.head.bias, scheme=scheme)
    got = lowprec.convert(model, scheme)(batch().to(dtype))
    assert got.dtype == dtype
    assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_carriers_train(dtype):
    model = network().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.5)
    model, optimizer = lowprec.prepare(model, optimizer, "fixed8-sr")
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch().to(dtype)), torch.tensor([0, 1, 2, 0, 1]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    for p in model.parameters():
        assert p.dtype == p.grad.dtype == dtype
        assert torch.equal(p, lowprec.quantize(p.detach(), "fixed8f7"))


def test_tied_weights_gather_both_gradients():
    model = lowprec.convert(network(), "bfp8")
    output(model).sum().backward()
    tied = model.fc1.weight.grad.clone()
    apart = network()
    apart.fc2.weight = nn.Parameter(apart.fc2.weight.detach().clone())
    apart.again = copy.deepcopy(apart.fc1)
    lowprec.convert(apart, "bfp8")
    output(apart).sum().backward()
    total = sum(layer.weight.grad for layer in (apart.fc1, apart.fc2, apart.again))
    assert torch.allclose(tied, total)


@pytest.mark.parametrize("name", ["bfp8", "bfp8-sr"])
def test_pickle_deepcopy_and_torch_save(name):
    model = lowprec.convert(network(), name)
    want = output(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
    ]
    for copied in copies:
        assert torch.equal(output(copied), want)
        assert copied.fc1.weight is copied.fc2.weight
        assert copied.fc1.weight is not model.fc1.weight
        lowprec.revert(copied)
        assert type(copied.head) is nn.Linear
    assert isinstance(model.head, lowprec.nn.Linear)


def test_a_state_dict_goes_to_and_from_plain_models(tmp_path):
    model = lowprec.convert(network(), "bfp8-sr")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    plain = network()
    plain.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))


def test_an_optimizer_made_before_goes_on():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    output(model).sum().backward()
    optimizer.step()
    lowprec.convert(model, "bfp8")
    before = [p.detach().clone() for p in model.parameters()]
    output(model).sum().backward()
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_hooks_stay():
    model, calls = network(), []
    model.register_forward_pre_hook(lambda *_: calls.append("before the model"))
    model.head.register_forward_hook(lambda *_: calls.append("after the head"))
    lowprec.convert(model, "bfp8")
    output(model)
    lowprec.revert(model)
    output(model)
    assert calls == ["before the model", "after the head"] * 2


def test_revert_restores_exactly():
    model = network()
    before, want = state_of(model), output(model.eval())
    model.train()
    lowprec.convert(model, "bfp8-sr")
    output(model)
    assert lowprec.revert(model) is model
    # tensors, modules and hook tables are those of before; numbers and bools may be equal objects
    assert [(n, t, sorted(a)) for n, t, a in state_of(model)] == [(n, t, sorted(a)) for n, t, a in before]
    assert state_of(model) == before
    for part in model.modules():
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._forward_hooks_always_called)
        assert not any(hooks)
    model.load_state_dict(network().state_dict())
    assert torch.equal(output(model.eval()), want)


def test_parts_converted_apart_are_reverted_together():
    model = network()
    lowprec.convert(model.stem, "bfp8")
    lowprec.convert(model.head, "fp8-hybrid")
    lowprec.revert(model)
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())
    lowprec.convert(model, "bfp8")
    lowprec.revert(model.stem)
    assert type(model.stem[0]) is nn.Conv2d
    assert isinstance(model.head, lowprec.nn.Linear)


def test_a_model_may_be_a_single_layer():
    layer = lowprec.convert(nn.Linear(4, 2), "bfp8-sr")
    assert not torch.equal(layer(torch.eye(4)), layer(torch.eye(4)))
    assert type(lowprec.revert(layer)) is nn.Linear


def test_convert_does_not_touch_the_weights_and_prepare_rounds_them():
    model, plain = network(), network()
    lowprec.convert(model, "fixed8")
    assert torch.equal(model.head.weight, plain.head.weight)
    lowprec.revert(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, wrapped = lowprec.prepare(model, optimizer, "fixed8")
    assert isinstance(wrapped, lowprec.optim.LowPrecision)
    assert wrapped.optimizer is optimizer
    assert torch.equal(model.head.weight, lowprec.quantize(plain.head.weight, "fixed8f7"))


def test_prepare_hands_every_optimizer_role_on():
    casts = {"stored_weight": "fixed8f6", "gradient": "e5m2", "master": "bfloat16"}
    scheme = Scheme(input="bfp8", state={"exp_avg": "e4m3fn"}, **casts)
    model = nn.Linear(2, 2)
    model, optimizer = lowprec.prepare(model, torch.optim.Adam(model.parameters()), scheme, seed=5)
    assert optimizer.state_dict()["lowprec"]["seed"].tolist() == [5]
    assert optimizer.state_dict()["lowprec"]["formats"] == {
        "weight": ["fixed8f6", "nearest_even", 32],
        "gradient": ["e5m2", "nearest_even", 32],
        "master": ["bfloat16", "nearest_even", 32],
        "state.exp_avg": ["e4m3fn", "nearest_even", 32],
    }


def casts_of(model):
    return {row.name: dict(row.casts) for row in lowprec.describe(model).rows}


def test_rules_by_type_pattern_first_last_and_order():
    rules = (
        Rule("Linear", {"input": "e5m2", "output": "bfloat16"}),
        Rule("fc*", {"input": Cast("e5m2", "toward_zero")}),
        Rule(":first", {"weight": None}),
        Rule(":last", None),
        Rule("stem", {"error": "fixed8f7"}),
    )
    scheme = Scheme(input="bfp8", weight="bfp8", rules=rules)
    model = lowprec.convert(network(), scheme, exclude=["head"])
    nearest, zero = "nearest_even", "toward_zero"
    assert casts_of(model) == {
        "stem.0": {"input": f"bfp8 {nearest}", "error": f"fixed8f7 {nearest}"},
        "stem.1": {},
        "fc1": {"input": f"e5m2 {zero}", "weight": f"bfp8 {nearest}", "output": f"bfloat16 {nearest}"},
        "fc2": {},  # the last one that no other rule excludes
        "norm": {},
        "head": {},
    }


def test_exclude_by_type_name_pattern_and_container():
    for pattern, left in (
        ("Linear", {"fc1", "fc2", "head"}),
        ("_ConvNd", {"stem.0"}),
        ("fc?", {"fc1", "fc2"}),
        ("stem", {"stem.0"}),
        ("head", {"head"}),
    ):
        model = lowprec.convert(network(), "bfp8", exclude=(pattern,))
        untouched = {name for name, casts in casts_of(model).items() if not casts}
        assert untouched - {"stem.1", "norm"} == left
        excluded = [model.get_submodule(name) for name in left]
        assert all(type(layer) in (nn.Linear, nn.Conv2d) for layer in excluded)


def test_describe_prints_a_table():
    scheme = Scheme(
        input="e4m3fn", error="e5m2", loss_scale=1024, grad_weight=Operands(input="bfloat16"),
        rules=(Rule("stem", None),),
    )  # fmt: skip
    text = str(lowprec.describe(lowprec.convert(network(), scheme)))
    casts = (
        "input e4m3fn nearest_even; error e5m2 nearest_even; "
        "grad_weight.input bfloat16 nearest_even; loss scale 1024"
    )
    assert text.splitlines() == [
        "stem.0  Conv2d       left alone",
        "stem.1  BatchNorm2d  left alone",
        f"fc1     Linear       {casts}",
        f"fc2     Linear       {casts}",
        "norm    LayerNorm    left alone",
        f"head    Linear       {casts}",
    ]
    assert str(lowprec.describe(nn.ReLU())) == ""
    assert str(lowprec.describe(nn.Linear(1, 1))) == "(model)  Linear  left alone"
