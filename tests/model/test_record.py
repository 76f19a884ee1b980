"""record counts exactly what the given model and optimizer rounded."""

import copy

import pytest
import torch
from torch import nn

import lowprec
from lowprec import Cast, Counters, Operands, Scheme
from lowprec.ops.observation import observers
from lowprec.optim import LowPrecision

INF, NAN = float("inf"), float("nan")
HARD = [1.0, 449.0, 464.0, 465.0, -1e9, INF, NAN, 2.0**-10, -(2.0**-11), 2.0**-12, 0.0, -0.0]
"""For e4m3fn: 464 is the last value that rounds to the largest, 2**-10 a tie that goes to zero."""
HARD_COUNTS = Counters(count=12, saturated=3, underflowed=3, nan=1)


def unit_layer(scheme, size=1):
    """A converted linear layer with the unit matrix as its weight."""
    model = nn.Sequential(nn.Linear(size, size, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(size))
    return lowprec.convert(model, scheme)


def column(values):
    return torch.tensor(values)[:, None].requires_grad_()


def test_input_weight_and_output():
    model = unit_layer(Scheme(input="e4m3fn"))
    with lowprec.record(model) as recording:
        model(column(HARD))
    assert recording.counters == {("0", "input"): HARD_COUNTS}
    model = unit_layer(Scheme(output="e4m3fn"))
    with lowprec.record(model) as recording:
        model(column(HARD))
    assert recording.counters == {("0", "output"): HARD_COUNTS}
    model = unit_layer(Scheme(weight="e4m3fn"), size=12)
    with torch.no_grad():
        model[0].weight[0] = torch.tensor(HARD)
    with lowprec.record(model) as recording:
        model(torch.zeros(1, 12))
        model(torch.zeros(1, 12))
    once = Counters(144, HARD_COUNTS.saturated, HARD_COUNTS.underflowed, HARD_COUNTS.nan)
    assert recording.counters == {("0", "weight"): once + once}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_carriers(dtype):
    model = unit_layer(Scheme(input="e4m3fn", output="e4m3fn")).to(dtype)
    with lowprec.record(model) as recording:
        model(column(HARD).detach().to(dtype))
    assert recording.counters["0", "input"] == HARD_COUNTS
    assert recording.counters["0", "output"] == Counters(12, nan=1)


def test_error_at_its_loss_scale():
    model = unit_layer(Scheme(error="e4m3fn", loss_scale=2.0**9))
    error = torch.tensor(HARD)[:, None] * 2.0**-9
    y = model(column([0.0] * 12))
    with lowprec.record(model) as recording:
        y.backward(error)
    assert recording.counters == {("0", "error"): HARD_COUNTS}


def test_split_products_count_every_rounding():
    scheme = Scheme(input="e4m3fn", error="e5m2", grad_weight=Operands(input="bfp8"))
    model = unit_layer(scheme)
    with lowprec.record(model) as recording:
        model(column([500.0, 1.0])).sum().backward()
    assert recording.counters == {
        ("0", "input"): Counters(2, 1, 0, 0) + Counters(2, 0, 1, 0),
        ("0", "error"): Counters(2) + Counters(2),
    }


def test_optimizer_roles_by_parameter_name():
    model = unit_layer("bf16", size=12)
    p = model[0].weight
    inner = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    optimizer = LowPrecision(inner, weight="fixed8f7", gradient="e4m3fn", state="e5m2", master="fixed8f4")
    p.grad = torch.zeros(12, 12)
    p.grad[0] = torch.tensor(HARD)
    with lowprec.record(model, optimizer) as recording:
        optimizer.step()
    counters = recording.counters
    assert set(counters) == {("0.weight", role) for role in ("gradient", "state", "master", "stored_weight")}
    assert counters["0.weight", "gradient"] == Counters(144, 3, 3, 1)
    assert counters["0.weight", "state"] == Counters(144, 0, 0, 1)
    # five gradients became ±448, and their weights lie past both formats, as eleven ones past the second
    assert counters["0.weight", "master"] == Counters(144, 5, 0, 1)
    assert counters["0.weight", "stored_weight"] == Counters(144, 16, 0, 1)


def test_state_and_master_saturate_and_underflow():
    p = nn.Parameter(torch.tensor([0.0, 0.0, 0.5, 0.0]))
    model = nn.Module()
    model.register_parameter("p", p)
    optimizer = LowPrecision(
        torch.optim.SGD([p], lr=1.0, momentum=0.9), state="e4m3fn", master="fixed8f4", weight="fixed8f2"
    )
    p.grad = torch.tensor([1000.0, 2.0**-12, 0.0, 0.125])
    with lowprec.record(model, optimizer) as recording:
        optimizer.step()
    # torch moves p by the unrounded momentum, of which e4m3fn then keeps 448 and 0
    assert recording.counters == {
        ("p", "state"): Counters(4, 1, 1, 0),
        ("p", "master"): Counters(4, 1, 1, 0),
        ("p", "stored_weight"): Counters(4, 1, 2, 0),
    }
    assert p.tolist() == [-32.0, 0.0, 0.5, 0.0]


def test_stochastic_counts_are_of_the_very_noise():
    model = unit_layer(Scheme(input=Cast("e4m3fn", "stochastic")))
    x = torch.full((1000, 1), 464.0)  # half way between 448 and the next value
    x[500:] = 2.0**-10  # half way between 0 and the smallest value
    with lowprec.record(model) as recording:
        torch.manual_seed(0)
        y = model(x)
    counters = recording.counters["0", "input"]
    assert counters.underflowed == (y == 0).sum()
    assert 200 < counters.saturated < 300
    assert 200 < counters.underflowed < 300


def test_only_this_model_and_this_optimizer_are_counted():
    model = unit_layer(Scheme(input="e4m3fn"))
    twins = [copy.deepcopy(model), unit_layer(Scheme(input="e4m3fn"))]
    optimizers = [
        LowPrecision(torch.optim.SGD(m.parameters(), lr=0.0), weight="fixed8f4", gradient="e5m2")
        for m in (model, twins[0])
    ]

    def step():
        for m in (model, *twins):
            m(column([500.0])).sum().backward()
        lowprec.functional.linear(column([500.0]), torch.ones(1, 1), scheme=Scheme(input="e4m3fn"))
        lowprec.quantize(torch.tensor([500.0]), "e4m3fn")
        for optimizer in optimizers:
            optimizer.step()

    with lowprec.record(model) as recording:
        step()
    assert recording.counters == {("0", "input"): Counters(1, 1)}
    with lowprec.record(model, optimizers[0]) as recording:
        step()
    assert recording.counters == {
        ("0", "input"): Counters(1, 1),
        ("0.weight", "gradient"): Counters(1),
        ("0.weight", "stored_weight"): Counters(1),
    }
    with lowprec.record(twins[1], optimizers[1]) as recording:
        step()
    assert set(recording.counters) == {
        ("0", "input"), ("parameter 0", "gradient"), ("parameter 0", "stored_weight"),
    }  # fmt: skip


def test_names_are_those_within_the_given_model():
    inner = unit_layer(Scheme(input="e4m3fn"))
    outer = nn.ModuleDict({"body": inner})
    outer["quantizer"] = lowprec.Quantizer("e4m3fn", "e5m2")
    with (
        lowprec.record(outer) as whole,
        lowprec.record(inner) as part,
        lowprec.record(inner[0]) as layer,
    ):
        outer["quantizer"](inner(column([500.0]))).sum().backward()
    count = Counters(1, 1)
    assert whole.counters == {
        ("body.0", "input"): count, ("quantizer", "input"): Counters(1), ("quantizer", "error"): Counters(1),
    }  # fmt: skip
    assert part.counters == {("0", "input"): count}
    assert layer.counters == {("(model)", "input"): count}


def test_nested_records_and_reading_while_recording():
    model = unit_layer(Scheme(input="e4m3fn"))
    with lowprec.record(model) as outer:
        model(column([500.0]))
        assert outer.counters == {("0", "input"): Counters(1, 1)}
        with lowprec.record(model) as inner:
            model(column([1.0, 2.0]))
        model(column([500.0]))
    assert inner.counters == {("0", "input"): Counters(2)}
    assert outer.counters == outer.counters == {("0", "input"): Counters(4, 2)}
    assert outer.by_role() == {"input": Counters(4, 2)}
    assert outer.by_role()["input"].saturation == 0.5


def test_by_role_adds_layers_and_empty_counters_have_no_fractions():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    lowprec.convert(model, Scheme(input="e4m3fn", weight="e4m3fn"))
    with lowprec.record(model) as recording:
        model(torch.ones(3, 2))
    assert recording.by_role() == {"input": Counters(12), "weight": Counters(8)}
    assert (Counters().saturation, Counters().underflow) == (0.0, 0.0)
    assert Counters(8, 1, 4).underflow == 0.5


def test_counting_changes_no_bit_and_stops_at_the_end_of_the_block():
    model = unit_layer("bfp8-sr", size=4)
    x = torch.randn(3, 4)
    torch.manual_seed(0)
    want = model(x)
    torch.manual_seed(0)
    with lowprec.record(model) as recording:
        assert torch.equal(model(x), want)
    counters = recording.counters
    model(x)
    assert recording.counters == counters
    assert observers == []


def test_nobody_watches_after_an_exception():
    model = unit_layer("bfp8")
    with pytest.raises(ZeroDivisionError), lowprec.record(model):
        _ = 1 / 0
    assert observers == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "`model` must be a torch.nn.Module"),
        ((nn.Linear(1, 1), torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1)),
         "`optimizer` must be a LowPrecision optimizer or None, .* Wrap it with lowprec.optim.LowPr"),
    ],
)  # fmt: skip
def test_arguments_of_another_type_are_errors(arguments, message):
    with pytest.raises(TypeError, match=message), lowprec.record(*arguments):
        pass
    assert observers == []
