"""The search: planted formats are found, the winner is the best of all, ties and budgets."""

import importlib
import math

import numpy as np
import pytest
import torch

from lowprec import explore, reference
from lowprec.explore.search import METRICS
from lowprec.formats import FixedPoint, FloatingPoint, Logarithmic, PerGroup, Posit, Scaled

search = importlib.import_module("lowprec.explore.search")  # the function has its name in the package
GENERATOR = torch.Generator().manual_seed(8)
NORMAL = torch.randn(4, 64, generator=GENERATOR)


def drawn_from(format, count=500) -> torch.Tensor:
    """Values of a format, every one of them at least once."""
    values = torch.tensor(format.values())
    more = values[torch.randint(len(values), (count,), generator=GENERATOR)]
    return torch.cat([values, more]).float()


@pytest.mark.parametrize(
    "planted",
    [
        FloatingPoint(3, 2, bias=7),
        FloatingPoint(3, 2, bias=-20, specials="finite"),
        FloatingPoint(2, 3, bias=40, specials="finite"),
        FixedPoint(6, 9),
        FixedPoint(6, -3),
        FixedPoint(6, 2, signed=False),
        Posit(6, 1),
        Posit(6, 3),
        Logarithmic(3, 2),
    ],
    ids=str,
)
def test_a_planted_format_is_found_without_error(planted):
    data = drawn_from(planted)
    found = explore.search(data, 6)
    assert found["SQNR (dB)"][0] == math.inf
    assert torch.equal(torch.isin(data, torch.tensor(found.best.values()).float()), data == data)
    assert type(found.best) is type(planted)
    assert found.best.bits == 6
    if getattr(planted, "specials", "finite") == "finite":
        assert found.best == planted


def test_of_equally_good_formats_the_narrowest_and_simplest_is_best():
    assert str(explore.search(drawn_from(FixedPoint(4, 1)), 8).best) == "fixed4f1"
    assert str(explore.search(torch.tensor([-1.0, 0.0, 1.0]), 6).best) == "fixed2f0"
    assert str(explore.search(torch.tensor([-1.0, 0.0, 1.0]), 6, families=["posit"]).best) == "posit2es0"
    assert str(explore.search(torch.zeros(4), 4).best) == "fixed2f0"
    grid = torch.tensor([0.5, 1.0, 2.0, 4.0])  # three bits have but three powers of two
    assert str(explore.search(grid, 6, families="floating").best) == "e2m1"


def every_format(bits: int) -> list:
    """Fixed and floating point of a width with ranges far past what could be of use."""
    found = [FixedPoint(bits, places) for places in range(-6, 14)]
    for e in range(1, bits):
        found += [FloatingPoint(e, bits - 1 - e, bias=b, specials="finite") for b in range(-8, 2**e + 12)]
    return [
        *found,
        *(Posit(bits, es) for es in range(4)),
        *(Logarithmic(i, bits - 1 - i) for i in range(1, bits)),
    ]


def error_of(metric: str, x: np.ndarray, y: np.ndarray) -> float:
    """A metric by its name."""
    error = np.abs(y - x)
    relative = error[x != 0] / np.abs(x[x != 0])
    return {
        "sqnr": float((error**2).sum()),
        "mean_absolute": float(error.mean()),
        "max_absolute": float(error.max()),
        "mean_relative": float(relative.mean()),
    }[metric]


@pytest.mark.parametrize("metric", METRICS)
def test_what_was_left_out_could_not_win(metric):
    data = torch.cat([NORMAL.flatten()[:60], torch.tensor([0.0, 40.0, 1e-3])])
    x = data.double().numpy()
    errors = {f: error_of(metric, x, reference.quantize(x, f)) for f in every_format(5)}
    found = explore.search(data, 5, metric=metric)
    assert errors[found.best] == pytest.approx(min(errors.values()), rel=1e-9)
    if metric != "sqnr":
        column = found[metric.replace("_", " ")]
        assert list(column) == sorted(column)
        assert column[0] == pytest.approx(min(errors.values()), rel=1e-6)
    else:
        assert list(found["SQNR (dB)"]) == sorted(found["SQNR (dB)"], reverse=True)


def test_scales_are_counted_in_the_budget():
    uneven = NORMAL * torch.tensor([1.0, 100.0, 0.01, 1e4]).reshape(4, 1)
    plain = explore.search(uneven, 5, metric="mean_relative")
    grouped = explore.search(uneven, 5, metric="mean_relative", scaled=PerGroup(16))
    assert isinstance(grouped.best, Scaled)
    assert grouped.best.bits == 4
    assert grouped["bits"][0] == 4.5  # e8m0 over 16
    assert grouped["mean relative"][0] < plain["mean relative"][0]
    wider = explore.search(uneven, 5.5, metric="mean_relative", scaled="group16")
    assert (wider.best.bits, wider["bits"][0]) == (5, 5.5)
    channels = explore.search(uneven, 6, scaled=["tensor", "channel0"], families=["fixed"], rows=100)
    names = channels["format"]  # 32 bits over 64 values, and over 256
    assert "scaled<fixed5f3<symmetric>,float32,channel0,amax>" in names
    assert "scaled<fixed5f3<symmetric>,float32,amax>" in names
    assert max(channels["bits"]) <= 6


def test_a_share_below_a_hundredth_of_a_bit_is_no_obstacle():
    x = torch.randn(100, 100, generator=GENERATOR)
    found = explore.search(x, 4, scaled="tensor", rows=100)
    assert "scaled<fixed4f2<symmetric>,float32,amax>" in found["format"]


def test_nan_infinities_and_other_tensors_have_no_say():
    expected = explore.search(NORMAL, 4)
    dirty = torch.cat([NORMAL.flatten(), torch.tensor([math.nan, math.inf, -math.inf])])
    assert explore.search(dirty, 4).best == expected.best
    parts = {"a": NORMAL[:1], "b": NORMAL[1:], "n": torch.tensor(3)}
    assert explore.search(parts, 4)["format"] == expected["format"]
    assert explore.search(parts, 4)["SQNR (dB)"] == pytest.approx(expected["SQNR (dB)"], rel=1e-12)


@pytest.mark.slow
def test_carriers_of_16_bits_hold_what_is_found():
    half = explore.search(NORMAL.half() * 2**-10, 8)
    half.best.check_carrier("float16")


def test_carriers_hold_what_is_found():
    tiny = explore.search(NORMAL.double() * 2.0**-1060, 6)
    assert tiny.best.max < 2.0**-1050
    huge = explore.search(NORMAL.double() * 2.0**1020, 6)
    assert huge["SQNR (dB)"][0] > 20
    with pytest.raises(ValueError, match="`families` must have a format that the data's dtype holds"):
        explore.search(NORMAL.bfloat16(), 16, families=["fixed"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bits": 1}, ValueError, "`bits` must lie between 2 and 16, got 1"),
        ({"bits": math.nan}, ValueError, "`bits` must lie between 2 and 16, got nan"),
        ({"bits": "6"}, TypeError, "`bits` must be a number, got '6'"),
        ({"families": ["fixed", "float"]}, ValueError, "`families` must be some of fixed, floating"),
        ({"families": []}, ValueError, "`families` must be some of"),
        ({"families": 3}, TypeError, "`families` must be a sequence of names, got 3"),
        ({"metric": "l2"}, ValueError, "`metric` must be one of sqnr, mean_absolute, max_absolute"),
        ({"scaled": "row"}, ValueError, "`scaled` must name granularities, got 'row'. Examples are 'tensor'"),
        ({"scaled": "exponent8"}, ValueError, "`scaled` must name granularities, got 'exponent8'"),
        ({"scaled": "channel7"}, ValueError, "`scaled` must name granularities that fit into the shape"),
        ({"scaled": [3]}, TypeError, "`scaled` must be granularities or their names, got 3"),
        ({"scaled": 3}, TypeError, "`scaled` must be granularities or their names, got 3"),
        ({"rows": 0}, ValueError, "`rows` must lie between 1 and 1000, got 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        explore.search(NORMAL, **options)


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_cut_off_is_a_bound_of_the_error(metric):
    data = torch.cat([NORMAL.flatten()[:60], torch.tensor([0.0, 40.0, 1e-3])])
    trial = search._Trial({"": data}, metric)
    x = data.double().numpy()
    scale = 2.0 ** (trial.unit * {"sqnr": 2, "mean_relative": 0}.get(metric, 1))
    ranged = [f for f in every_format(4) if isinstance(f, FixedPoint | FloatingPoint)]
    for format in ranged:
        bound = trial.cut_off(format)
        assert bound <= trial.error(format) * (1 + 1e-12)
        clipped = error_of(metric, x, x.clip(format.min, format.max))
        assert bound * scale == pytest.approx(clipped, rel=1e-9)
