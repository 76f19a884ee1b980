"""What record counts, against exact arithmetic that shares no code with it."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import lowprec
from lowprec import Cast, Scheme
from lowprec.kernels import counting as kernel
from lowprec.kernels.limits import limits_of
from lowprec.ops.counting import count, count_update, scale_exponents
from lowprec.ops.gradients import overflowed
from lowprec.ops.quantize import make_spec
from lowprec.optim import LowPrecision

INF, NAN = math.inf, math.nan
SPECIAL = [
    0.0, -0.0, 1.0, -1.5, 448.0, 464.0, -464.0, 465.0, 500.0, -1e9, 1e30, INF, -INF, NAN, -NAN, 2.0**-9,
    2.0**-10, -(2.0**-10), 3 * 2.0**-11, 2.0**-24, -(2.0**-30), 2.0**-126, 2.0**-130, -(2.0**-149), 1e-40,
    2.0**-300, 5e-324, 3.14159, 17.3, -0.07,
]  # fmt: skip
CARRIERS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def log2_floor(x):
    """floor(log2) of a positive number, from its Fraction alone."""
    exact = Fraction(x)
    guess = exact.numerator.bit_length() - exact.denominator.bit_length()
    return guess if Fraction(2) ** guess <= exact else guess - 1


def counted_exactly(x, y):
    """All that x and y tell, element by element."""
    pairs = list(zip(x.double().flatten().tolist(), y.double().flatten().tolist(), strict=True))
    finite = [(Fraction(a), Fraction(b)) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    return {
        "size": len(pairs),
        "underflowed": sum(b == 0 and a != 0 for a, b in pairs),
        "nan": sum(math.isnan(b) for _, b in pairs),
        "infinite": sum(math.isinf(b) for _, b in pairs),
        "zeros": sum(a == 0 for a, _ in pairs),
        "given_nan": sum(math.isnan(a) for a, _ in pairs),
        "given_infinite": sum(math.isinf(a) for a, _ in pairs),
        "signal": float(sum(a * a for a, _ in finite)),
        "error": float(sum((a - b) ** 2 for a, b in finite)),
        "exponents": Counter(log2_floor(abs(a)) for a, _ in pairs if math.isfinite(a) and a != 0),
    }


def check(found, x, y):
    """Counts are exact; sums are of one rounding for each of few terms."""
    want = counted_exactly(x, y)
    for name in ("signal", "error"):
        assert getattr(found, name) == pytest.approx(want.pop(name), rel=1e-14, abs=0.0)
    assert {name: getattr(found, name) for name in want} == want


def counts_of(x, y, spec, seed=None):
    return count(x, y, seed, spec, 0)


@pytest.mark.parametrize("dtype", CARRIERS, ids=str)
def test_every_count_of_special_values_in_every_carrier(dtype):
    x = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)
    spec = make_spec("e4m3fn", "nearest_even", None)
    y = lowprec.quantize(x, "e4m3fn")
    found = counts_of(x, y, spec)
    check(found, x, y)
    # 464 is a tie that goes to 448, the even code; e4m3fn has no infinity
    assert found.saturated == sum(abs(v) > 464 for v in x.double().tolist())
    assert found.given_infinite >= 2
    assert found.given_nan == 2


def test_results_that_are_infinite_are_counted_and_not_summed():
    x = torch.tensor([1.0, 1e6, -INF, NAN, 3.3])
    y = lowprec.quantize(x, "e5m2")
    found = counts_of(x, y, make_spec("e5m2", "nearest_even", None))
    check(found, x, y)
    # an infinity that stays one has not overflowed
    assert (found.saturated, found.infinite, found.nan) == (1, 2, 1)
    assert found.signal == 1.0 + float(np.float32(3.3)) ** 2


@pytest.mark.parametrize(
    ("format", "rounding"),
    [
        ("e4m3fn", "nearest_even"), ("e5m2", "stochastic"), ("e5m2", "toward_zero"), ("fixed8f4", "up"),
        ("fixed8f4<wrap>", "nearest_even"), ("posit8", "nearest_even"), ("e3m2", "stochastic"),
    ],
)  # fmt: skip
def test_saturation_is_where_overflow_fires(format, rounding):
    spec = make_spec(format, rounding, None)
    largest = float(lowprec.finfo(format).max)
    near = torch.linspace(0.9 * largest, 1.3 * largest, 4001)
    x = torch.cat([near, -near, torch.tensor([*SPECIAL, largest, -largest])]).float()
    seed = torch.tensor([7]) if spec.is_stochastic else None
    y = lowprec.quantize(x, format, rounding=rounding, seed=seed)
    found = counts_of(x, y, spec, seed)
    assert found.saturated == int(overflowed(x, seed, spec).sum())
    if spec.is_stochastic:
        sure, possible = limits_of(format, rounding, 32, "float32")
        assert sure != possible  # so that noise decided


def test_scaled_formats_count_their_groups():
    torch.manual_seed(0)
    x = torch.randn(4, 64) * torch.tensor([1e-3, 1.0, 50.0, 0.0])[:, None]
    x[1, 0] = 7.0  # past the largest, 6, at the scale 1
    spec = make_spec("mxfp4", "nearest_even", None)
    y = lowprec.quantize(x, "mxfp4")
    found = counts_of(x, y, spec)
    check(found, x, y)
    assert found.saturated == int(overflowed(x, None, spec).sum()) > 0
    largest = x.view(8, 32).abs().amax(1).tolist()
    want = Counter(max(log2_floor(a) - 2, -127) if a else -127 for a in largest)
    assert scale_exponents(x, "mxfp4") == want
    given = torch.full((4, 2), 4.0)
    assert scale_exponents(x, "mxfp4", [given]) == {2: 8}
    assert scale_exponents(x, "e4m3fn") == {}


def test_groups_of_block_floating_point_count_by_their_shared_exponent():
    x = torch.tensor([[3.0, NAN, -7.0], [0.1, 0.0, INF], [0.0, -0.0, NAN]])
    assert scale_exponents(x, "bfp8<channel0>") == {2: 1, -4: 1}
    assert scale_exponents(torch.empty(0, 3), "bfp8<channel0>") == {}


def test_scales_of_scales_are_multiplied():
    x = torch.full((1, 32), 6.0 * 2.0**5)
    first, second = (level.double() for level in lowprec.scales(x, "nvfp4"))
    product = float(first.flatten()[0] * second.flatten()[0])
    assert scale_exponents(x, "nvfp4") == {log2_floor(product): 2}


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (257,), (40, 70, 90)])
def test_shapes_of_every_kind(shape):
    torch.manual_seed(1)
    x = torch.randn(shape) * 100
    y = lowprec.quantize(x, "e4m3fn")
    found = counts_of(x, y, make_spec("e4m3fn", "nearest_even", None))
    assert found.size == x.numel() == found.zeros + sum(found.exponents.values())
    a, b = x.double().numpy(), y.double().numpy()
    assert found.signal == pytest.approx(np.square(a).sum(), rel=1e-12)
    assert found.error == pytest.approx(np.square(a - b).sum(), rel=1e-12)
    assert found.saturated == (np.abs(a) > 464).sum()
    fields = np.frexp(np.abs(a[a != 0]))[1] - 1
    assert found.exponents == Counter(fields.tolist())


def test_neither_threads_nor_strides_change_a_count():
    torch.manual_seed(2)
    x = torch.randn(64, 32, 80) * torch.logspace(-45, 38, 80)
    spec = make_spec("e4m3fn", "nearest_even", None)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(counts_of(x, lowprec.quantize(x, "e4m3fn"), spec))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]  # sums bit for bit
    y = lowprec.quantize(x, "e4m3fn")
    wide = torch.zeros(64, 32, 160)
    wide[:, :, ::2] = x
    others = [
        (x.transpose(0, 2), y.transpose(0, 2)),
        (x.transpose(0, 1).contiguous().transpose(0, 1), y),
        (wide[:, :, ::2], y),
        (-x._neg_view(), y),
    ]
    for a, b in others:
        other = counts_of(a, b, spec)
        assert other.signal == pytest.approx(found[0].signal, rel=1e-12)
        assert other.error == pytest.approx(found[0].error, rel=1e-12)
        names = [n for n in other._fields if n not in ("signal", "error")]
        assert [getattr(other, n) for n in names] == [getattr(found[0], n) for n in names]
    row = torch.tensor([1.0, 2.0**-130])
    assert counts_of(row.expand(3, 2), row.expand(3, 2), spec).exponents == {0: 3, -130: 3}


def test_flushing_subnormals_changes_no_count():
    x = torch.tensor([2.0**-130, 1e-40, 0.0, 1.0])
    y = torch.tensor([2.0**-130, 0.0, 0.0, 1.0])
    arguments = (x.data_ptr(), y.data_ptr(), "float32", (4,), (1,), (1,))
    want = kernel.count(*arguments)
    assert torch.set_flush_denormal(True)
    try:
        found = kernel.count(*arguments)
    finally:
        torch.set_flush_denormal(False)
    assert (found.underflowed, found.zeros, found.signal, found.error) == (1, 1, want.signal, want.error)
    assert (found.exponents == want.exponents).all()


def test_updates_that_are_thrown_away():
    before = torch.tensor([1.0, 1.0, 1.0, 0.0, 2.0, NAN, 1.0])
    moved = torch.tensor([1.01, 1.5, 1.0, -0.0, INF, 1.0, 0.98])
    after = lowprec.quantize(moved, "fixed8f4")
    found = count_update(before, moved, after)
    assert (found.moved, found.lost) == (3, 2)
    steps = [float(np.float32(v)) - 1.0 for v in (1.01, 1.5, 0.98)]
    assert found.update == pytest.approx(sum(s * s for s in steps))
    assert found.lost_update == pytest.approx(steps[0] ** 2 + steps[2] ** 2)


@pytest.mark.parametrize("master", [None, "fixed16f12"])
def test_lost_updates_of_what_an_optimizer_keeps(master):
    p = nn.Parameter(torch.tensor([0.5, 0.5, 0.5]))
    model = nn.ParameterDict({"p": p})
    optimizer = LowPrecision(torch.optim.SGD([p], lr=1.0), weight="fixed8f4", master=master)
    p.grad = torch.tensor([0.01, 0.25, 0.0])
    with lowprec.record(model, optimizer) as recording:
        optimizer.step()
        weight = recording.counters["p", "stored_weight"]
        optimizer.step()
    after = recording.counters["p", "stored_weight"]
    if master is None:
        assert (weight.moved, weight.lost, weight.stalled) == (2, 1, 0.5)
        assert weight.update_lost == pytest.approx(0.01 / math.hypot(0.01, 0.25), rel=1e-6)
        assert (after.moved, after.lost) == (4, 2)
        assert optimizer._begun == {}
    else:  # what the weight loses, the master keeps
        assert (after.moved, after.lost, after.update_lost) == (0, 0, 0.0)
        kept = recording.counters["p", "master"]
        assert (kept.moved, kept.lost) == (4, 0)


def test_compensated_weights_lose_nothing():
    p = nn.Parameter(torch.tensor([0.5]))
    optimizer = LowPrecision(torch.optim.SGD([p], lr=1.0), weight="e4m3fn", compensation="kahan")
    p.grad = torch.tensor([0.01])
    with lowprec.record(nn.ParameterDict({"p": p}), optimizer) as recording:
        optimizer.step()
    assert recording.counters["p", "stored_weight"].moved == 0
    assert set(recording.by_role()) == {"stored_weight", "compensation"}


def test_sqnr_knows_no_nan_and_no_infinity():
    model = lowprec.convert(nn.Sequential(nn.Linear(1, 1)), Scheme(input=Cast("fixed8f4")))
    x = torch.tensor([[1.01], [INF], [NAN], [0.5], [1e5]])
    with lowprec.record(model) as recording:
        model(x)
    counters = recording.counters["0", "input"]
    big, one = Fraction(float(np.float32(1e5))), Fraction(float(np.float32(1.01)))
    signal, error = big**2 + one**2 + Fraction(1, 4), (big - Fraction(127, 16)) ** 2 + (one - 1) ** 2
    assert counters.sqnr == pytest.approx(10 * math.log10(signal / error), rel=1e-12)
    assert (counters.given_nan, counters.given_infinite, counters.saturated) == (1, 1, 2)
    assert counters.exponents == ((-1, 1), (0, 1), (16, 1))


def test_sqnr_at_its_ends():
    assert lowprec.Counters(1, signal=1.0).sqnr == INF
    assert math.isnan(lowprec.Counters(1).sqnr)
    assert math.isnan(lowprec.Counters(1, signal=INF, error=1.0).sqnr)
    assert math.isnan(lowprec.Counters(1, signal=1.0, error=INF).sqnr)
    assert lowprec.Counters(4, 0, 0, 1, infinite=1).not_finite == 0.5
    assert math.isnan(lowprec.Counters(1, update=INF, lost_update=INF).update_lost)


def test_counters_add_and_are_compared_by_their_first_numbers():
    one = lowprec.Counters(2, signal=1.0, moved=1, exponents=((0, 1), (3, 1)))
    total = one + lowprec.Counters(3, 1, error=0.5, scales=((2, 1),), exponents=((-1, 1), (3, 2)))
    assert repr(total) == "Counters(count=5, saturated=1, underflowed=0, nan=0)"
    assert (total.signal, total.error, total.moved) == (1.0, 0.5, 1)
    assert (total.exponents, total.scales) == (((-1, 1), (0, 1), (3, 3)), ((2, 1),))
    assert one == lowprec.Counters(2)
    assert hash(one) == hash(lowprec.Counters(2))
    assert one != lowprec.Counters(2, 1)
    assert one != 2
