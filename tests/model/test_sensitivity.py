"""sensitivity: one layer at a time, the same as by hand, and nothing is left behind."""

import copy
import csv
import io
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import lowprec
from lowprec.single_layer import ALL, Effect, Sensitivity, sensitivity

STOCHASTIC = lowprec.Scheme(weight=lowprec.Cast("fixed8f4", "stochastic"))


def model_of(*scales: float) -> nn.Sequential:
    """Identities, one after the other, whose weights are these numbers."""
    layers = [nn.Linear(2, 2, bias=False) for _ in scales]
    for layer, scale in zip(layers, scales, strict=True):
        layer.weight = nn.Parameter(scale * torch.eye(2))
    return nn.Sequential(*layers)


def total(model: nn.Module) -> torch.Tensor:
    return model(torch.ones(1, 2)).sum()


WEIGHTS = lowprec.Scheme(weight="fixed8f4")


def test_the_layer_that_was_planted_is_ranked_first() -> None:
    # with four bits of fraction 1 and 0.5 are exact; 1.03 becomes 1, and 0.02, below half a step, 0
    result = lowprec.sensitivity(model_of(1.0, 1.03, 0.02, 0.5), total, {"weights": WEIGHTS})
    baseline = 2 * 1.03 * 0.02 * 0.5
    assert result.baseline == pytest.approx(baseline)
    assert [effect.layer for effect in result.ranking] == ["2", "1", "0", "3"]
    assert [effect.change for effect in result.effects] == pytest.approx(
        [0, 2 * 0.02 * 0.5 - baseline, -baseline, 0],
        abs=8 * 2.0**-30,  # eight products, each within half a unit in the last place of 0.02
    )
    assert [effect.parameters for effect in result.effects] == [0.25] * 4
    assert [(e.layer, e.scheme, e.value, e.parameters) for e in result.together] == [(ALL, "weights", 0, 1)]


def test_values_are_those_of_converting_by_hand() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 2)
    ).eval()
    x = torch.randn(6, 1, 4, 4)

    def norm(model: nn.Module) -> float:
        return model(x).norm().item()

    scheme = lowprec.Scheme(input="e4m3fn", weight="e5m2", rules=[lowprec.Rule("3", {"weight": "e2m1"})])
    schemes = {"rules": scheme, "bfp8": "bfp8"}
    result = lowprec.sensitivity(model, norm, schemes, exclude=("4",))
    by_hand = {
        (ALL, name): norm(lowprec.convert(copy.deepcopy(model), s, exclude=("4",)))
        for name, s in schemes.items()
    }
    for name, scheme in schemes.items():
        for layer, other in (("0", "3"), ("3", "0")):
            one = lowprec.convert(copy.deepcopy(model), scheme, exclude=("4",))
            one[int(other)].__class__ = type(model[int(other)])  # plain again
            by_hand[layer, name] = norm(one)
    assert result.baseline == norm(model)
    assert {(e.layer, e.scheme): e.value for e in (*result.effects, *result.together)} == by_hand
    assert len(set(by_hand.values())) == 6
    for effect in (*result.effects, *result.together):
        assert effect.change == effect.value - result.baseline


def test_every_evaluation_draws_the_same_numbers() -> None:
    model, drawn = model_of(0.3, 0.7), []

    def evaluate(model: nn.Module) -> torch.Tensor:
        drawn.append((torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
        return total(model)

    before = torch.get_rng_state()
    first = lowprec.sensitivity(model, evaluate, {"sr": STOCHASTIC}, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(drawn) == 4
    assert len(set(drawn)) == 1
    torch.manual_seed(12)
    assert lowprec.sensitivity(model, evaluate, {"sr": STOCHASTIC}, seed=3) == first
    lowprec.sensitivity(model, evaluate, {"sr": STOCHASTIC}, seed=4)
    assert len(set(drawn)) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].weight.grad = torch.ones(4, 4)
    contents, kept = (
        copy.deepcopy(model.state_dict()),
        [id(t) for t in model.state_dict(keep_vars=True).values()],
    )
    seen = []

    def evaluate(model: nn.Module) -> float:
        seen.append([type(layer).__module__ for layer in model])
        assert all(torch.equal(t, contents[name]) for name, t in model.state_dict().items())
        assert model.training
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        model.eval()
        if fails and len(seen) == 3:
            message = "on purpose"
            raise RuntimeError(message)
        return 1.0

    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            lowprec.sensitivity(model, evaluate, "fp8-hybrid")
    else:
        lowprec.sensitivity(model, evaluate, "fp8-hybrid")
    plain, norm, ours = "torch.nn.modules.linear", "torch.nn.modules.batchnorm", "lowprec.nn.layers"
    every = [(plain, plain), (ours, plain), (plain, ours), (ours, ours)]
    assert seen == [[first, norm, last] for first, last in every[: 3 if fails else 4]]
    assert [type(layer) for layer in model] == [nn.Linear, nn.BatchNorm1d, nn.Linear]
    assert [id(t) for t in model.state_dict(keep_vars=True).values()] == kept
    assert all(torch.equal(t, contents[name]) for name, t in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones(4, 4))
    assert model[2].weight.grad is None
    assert model.training
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert "scheme" not in model[0].__dict__


def test_a_model_that_is_one_layer() -> None:
    result = lowprec.sensitivity(nn.Linear(2, 2), total, "fixed8f4")
    assert [effect.layer for effect in result.effects] == ["(model)"]
    assert result.effects[0].value == result.together[0].value


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("bfp8", ["bfp8"]),
        (lowprec.SCHEMES["bfp8"], ["bfp8"]),
        (WEIGHTS, ["scheme"]),
        (torch.float8_e4m3fn, ["torch.float8_e4m3fn"]),
        (["e4m3fn", lowprec.Cast("e5m2", "up")], ["e4m3fn", "e5m2 up"]),
        ({"mine": lowprec.FixedPoint(8, 4)}, ["mine"]),
    ],
    ids=["name", "named scheme", "scheme", "dtype", "list", "mapping"],
)
def test_schemes_may_be_given_in_many_ways(given, names) -> None:
    result = lowprec.sensitivity(model_of(0.3), total, given)
    assert [effect.scheme for effect in result.together] == names


def test_a_format_rounds_inputs_and_weights() -> None:
    rounded = lowprec.Scheme(input="fixed8f4", weight="fixed8f4")
    results = [lowprec.sensitivity(model_of(0.3, 0.3), total, {"a": s}) for s in ("fixed8f4", rounded)]
    assert results[0] == results[1]


@pytest.mark.parametrize("value", [1, True, 1.0, np.float32(1), np.array([1.0]), torch.ones(1, 1)])
def test_numbers_of_any_kind_are_values(value) -> None:
    assert lowprec.sensitivity(model_of(0.3), lambda _: value, "fixed8f4").baseline == 1


def test_nan_is_a_value_and_ranks_first() -> None:
    values = iter([0.5, 0.1, math.nan, math.inf, math.nan])
    result = lowprec.sensitivity(model_of(1, 1, 1), lambda _: next(values), "fixed8f4")
    assert [effect.layer for effect in result.ranking] == ["1", "2", "0"]
    assert "nan" in str(result)


def test_tables_hold_the_ranking() -> None:
    result = lowprec.sensitivity(model_of(1.0, 1.03, 0.02), total, {"weights": WEIGHTS, "e4m3": "e4m3fn"})
    table = result.table()
    assert table.columns == ("layer", "scheme", "value", "change", "parameters")
    effects = (*result.ranking, *result.together)
    assert list(table["layer"]) == [effect.layer for effect in effects]
    assert str(result).startswith("baseline 0.0412\nlayer ")
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [float(row["value"]) for row in rows] == [effect.value for effect in effects]
    assert result._repr_html_().count("<tr>") == 1 + 8


def test_the_plot_shows_every_value() -> None:
    effects = tuple(Effect(f"layer{i}", s, i / 8, i / 8 - 0.5, 0.1) for s in ("a", "b") for i in range(5))
    lost = Effect("layer5", "b", math.nan, math.nan, 0.1)
    ax = Sensitivity(0.5, (*effects, lost), (Effect(ALL, "a", 0.25, -0.25, 1.0),)).plot(Figure().subplots())
    assert [label.get_text() for label in ax.get_yticklabels()] == [*(f"layer{i}" for i in range(6)), ALL]
    drawn = {
        line.get_label(): [(float(x), round(float(y))) for x, y in line.get_xydata()] for line in ax.lines
    }
    assert drawn["a"] == [*((i / 8, i) for i in range(5)), (0.25, 6)]
    assert drawn["b"] == [(i / 8, i) for i in range(5)]
    assert {x for x, _ in drawn["baseline 0.5"]} == {0.5}
    assert sorted((bar.get_x(), bar.get_width()) for bar in ax.patches if round(bar.get_y() + 0.2) == 6) == [
        (0.5, -0.25)
    ]
    assert [(text.get_text(), round(text.get_position()[1])) for text in ax.texts] == [(" nan", 5)]
    assert (
        len({line.get_marker() for line in ax.lines[:2]} | {line.get_color() for line in ax.lines[:2]}) == 4
    )


def test_the_plot_grows_with_the_layers() -> None:
    heights = []
    for layers in (4, 40):
        effects = tuple(Effect("block." * 8 + str(i), "a", float(i), 0.0, 0.1) for i in range(layers))
        ax = Sensitivity(math.nan, effects, ()).plot()
        heights.append(ax.figure.get_figheight())
        assert max(len(label.get_text()) for label in ax.get_yticklabels()) == 28
    assert 1.5 < heights[0] < 3 < heights[1] < 12


def test_a_converted_model_is_refused() -> None:
    model = lowprec.convert(model_of(1.0), "bfp8")
    with pytest.raises(ValueError, match=r"`model` must not hold simulated layers yet.*Call lowprec\.revert"):
        lowprec.sensitivity(model, total, "bfp8")


def test_what_convert_refuses_is_refused_before_anything_is_evaluated() -> None:
    def evaluate(_: nn.Module) -> float:
        pytest.fail("it was evaluated")

    with pytest.raises(ValueError, match="`model` must hold only layers that can be simulated"):
        lowprec.sensitivity(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)), evaluate, "bfp8")
    with pytest.raises(ValueError, match="`exclude` must match some layer"):
        lowprec.sensitivity(model_of(1.0), evaluate, "bfp8", exclude=("absent",))
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module"):
        lowprec.sensitivity(3, evaluate, "bfp8")


@pytest.mark.parametrize(
    ("value", "got"),
    [(None, "None"), (torch.ones(2), r"\(2,\)"), (np.ones(2), r"\(2,\)"), (1j, "1j")],
)
def test_anything_but_a_number_is_refused(value, got) -> None:
    with pytest.raises(TypeError, match=f"`evaluate` must return one number, got {got}"):
        lowprec.sensitivity(model_of(1.0), lambda _: value, "bfp8")


def test_a_number_as_text_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`evaluate` must return one number, got '0\.5'"):
        lowprec.sensitivity(model_of(1.0), lambda _: "0.5", "bfp8")


@pytest.mark.parametrize(
    ("schemes", "error", "message"),
    [
        (
            "e9",
            ValueError,
            r"`schemes` must be a scheme's name or a format .*got 'e9'\. Known schemes: bf16,",
        ),
        (3, TypeError, "`format` must be"),
        ([], ValueError, "`schemes` must hold at least one scheme"),
        (["bfp8", "bfp8"], ValueError, r"`schemes` must have a name for each scheme.*Pass a mapping"),
        ({1: "bfp8"}, TypeError, r"`schemes` must have strings for names, got \[1\]"),
    ],
)
def test_schemes_that_are_none_are_refused(schemes, error, message) -> None:
    with pytest.raises(error, match=message):
        lowprec.sensitivity(model_of(1.0), total, schemes)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="`evaluate` must be a function of the model, got 3"):
        sensitivity(model_of(1.0), 3, "bfp8")
    for seed in (True, 1.5):
        with pytest.raises(TypeError, match="`seed` must be an integer"):
            sensitivity(model_of(1.0), total, "bfp8", seed=seed)
