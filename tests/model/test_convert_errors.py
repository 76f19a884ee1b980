"""What cannot be converted, reverted or prepared is an error that names it and changes nothing."""

import pytest
import torch
from torch import nn

import lowprec
from lowprec import Rule, Scheme


class OwnLinear(nn.Linear):
    """A subclass, whose forward nobody knows."""


class OwnEncoderLayer(nn.TransformerEncoderLayer):
    """A subclass, which may use torch's fused operator."""


class OwnMatrix(nn.Module):
    """A parameter that may enter a product."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(2, 2))


UNSIMULATED = {
    "LSTM": lambda: nn.LSTM(2, 2),
    "GRU": lambda: nn.GRU(2, 2),
    "RNNCell": lambda: nn.RNNCell(2, 2),
    "OwnEncoderLayer": lambda: OwnEncoderLayer(2, 1, 4),
    "Bilinear": lambda: nn.Bilinear(2, 2, 2),
    "LazyLinear": lambda: nn.LazyLinear(2),
    "ParametrizedLinear": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    "OwnLinear": lambda: OwnLinear(2, 2),
    "OwnMatrix": lambda: OwnMatrix(),
}
WITHOUT_PRODUCTS = {
    "Embedding": lambda: nn.Embedding(3, 2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(3, 2),
    "LayerNorm": lambda: nn.LayerNorm((2, 2)),
    "BatchNorm1d": lambda: nn.BatchNorm1d(2),
    "GroupNorm": lambda: nn.GroupNorm(1, 2),
    "PReLU": lambda: nn.PReLU(),
    "Dropout": lambda: nn.Dropout(),
}


def beside(layer):
    """A model with a layer that could be simulated and one inside a container."""
    return nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"inner": layer}))


def assert_unconverted(model):
    assert not any(hasattr(part, "scheme") for part in model.modules())
    hooks = [h for m in model.modules() for h in (*m._forward_pre_hooks.values(), *m._forward_hooks.values())]
    assert not any(hook.__module__.startswith("lowprec") for hook in hooks)
    assert not any(type(part).__module__.startswith("lowprec") for part in model.modules())


@pytest.mark.parametrize("name", UNSIMULATED)
def test_a_layer_whose_products_are_not_simulated_is_named(name):
    model = beside(UNSIMULATED[name]())
    with pytest.raises(ValueError, match=rf"got '1\.inner: {name}, .*exclude=\('1\.inner(\.matrix)?',\)"):
        lowprec.convert(model, "bfp8")
    assert_unconverted(model)
    pattern = type(model[1]["inner"]).__name__
    for exclude in (("1.inner",), (pattern,), ["1.*"]):
        lowprec.convert(model, "bfp8", exclude=exclude)
        assert isinstance(model[0], lowprec.nn.Linear)
        lowprec.revert(model)
        assert_unconverted(model)


@pytest.mark.parametrize("name", WITHOUT_PRODUCTS)
def test_a_layer_without_products_is_left_alone(name):
    layer = WITHOUT_PRODUCTS[name]()
    lowprec.convert(beside(layer), "bfp8")
    assert type(layer).__module__.startswith("torch")


def test_the_whole_model_is_named_by_its_type():
    with pytest.raises(
        ValueError, match=r"\(model\): OwnMatrix, whose parameter matrix .*exclude=\('matrix',\)"
    ):
        lowprec.convert(OwnMatrix(), "bfp8")


def linear_model():
    return nn.Sequential(nn.Linear(2, 2))


def converted():
    return lowprec.convert(linear_model(), "bfp8")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: lowprec.convert(m, "fp4"), ValueError, "`scheme` must be one of bf16, fp8-hybrid"),
        (lambda m: lowprec.convert(m, 4), TypeError, "`scheme` must be a Scheme or a name, got 4"),
        (lambda m: lowprec.convert(3, "bfp8"), TypeError, "`model` must be a torch.nn.Module"),
        (lambda m: lowprec.convert(m, "bfp8", exclude="0"), TypeError, r"sequence of names.*\('0',\)"),
        (lambda m: lowprec.convert(m, "bfp8", exclude=("fc",)), ValueError,
         r"`exclude` must match some layer or parameter, rules likewise, got \['fc'\]"),
        (lambda m: lowprec.convert(m, "bfp8", exclude=(":first",)), ValueError,
         "`model` must have a layer to simulate"),
        (lambda m: lowprec.convert(m, Scheme(rules=(Rule("Conv9d", None),))), ValueError,
         r"got \['Conv9d'\]"),
        (lambda m: lowprec.convert(m.append(nn.ReLU()), Scheme(rules=(Rule("ReLU", {"input": None}),))),
         ValueError, r"match some layer or parameter, rules likewise, got \['ReLU'\]"),
        (lambda m: lowprec.convert(nn.ReLU(), "bfp8"), ValueError, "`model` must have a layer to sim"),
        (lambda m: lowprec.revert(m), ValueError, "`model` must be converted.*lowprec.convert first"),
        (lambda m: lowprec.revert("model"), TypeError, "`model` must be a torch.nn.Module"),
        (lambda m: lowprec.describe(None), TypeError, "`model` must be a torch.nn.Module"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_an_error_and_changes_nothing(call, kind, message):
    model = linear_model()
    with pytest.raises(kind, match=message):
        call(model)
    assert_unconverted(model)


def test_converting_twice_is_an_error():
    model = converted()
    for again in (model, nn.Sequential(nn.Linear(2, 2), model)):
        with pytest.raises(ValueError, match=r"`model` must not hold simulated layers yet.*revert first"):
            lowprec.convert(again, "fp8-hybrid")
    assert type(again[0]) is nn.Linear
    assert model[0].scheme == lowprec.SCHEMES["bfp8"]


def test_prepare_changes_nothing_where_it_fails():
    model = beside(nn.LSTM(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"1\.inner: LSTM"):
        lowprec.prepare(model, optimizer, "fixed8")
    model = linear_model()
    with torch.no_grad():
        model[0].weight.fill_(0.3)
    inner = torch.optim.LBFGS(model.parameters())
    with pytest.raises(TypeError, match="`optimizer` must step once on each gradient"):
        lowprec.prepare(model, inner, "fixed8")
    with pytest.raises(TypeError, match="`optimizer` must be a torch optimizer, got <class 'dict'>"):
        lowprec.prepare(model, {}, "fixed8")
    assert_unconverted(model)
    assert torch.equal(model[0].weight, torch.full((2, 2), 0.3))


def test_a_format_that_the_weights_dtype_cannot_hold():
    model = nn.Sequential(nn.Linear(2, 2)).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="`format` must be exact in the carrier bfloat16"):
        lowprec.prepare(model, optimizer, Scheme(input="bfp8", stored_weight="binary16"))
    assert_unconverted(model)
    lowprec.convert(model, Scheme(input="binary16"))
    with pytest.raises(ValueError, match="`format` must be exact in the carrier bfloat16"):
        model(torch.ones(1, 2).bfloat16())
