"""Scaled formats: OCP's Microscaling and its relatives, against the definition and against ml_dtypes."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hard_formats import MX
from torch import Tensor

import lowprec
from lowprec import PerBlock, PerChannel, PerGroup, PerTensor, Scaled, reference
from lowprec.formats import parse
from lowprec.functional import linear
from lowprec.modes import Rounding, ScaleRule

POWERS = [rule for rule in ScaleRule if rule is not ScaleRule.AMAX]
"""The rules whose scales are powers of two."""

CARRIERS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ELEMENTS = {
    "mxfp8_e4m3": ml_dtypes.float8_e4m3fn,
    "mxfp8_e5m2": ml_dtypes.float8_e5m2,
    "mxfp6_e3m2": ml_dtypes.float6_e3m2fn,
    "mxfp6_e2m3": ml_dtypes.float6_e2m3fn,
    "mxfp4": ml_dtypes.float4_e2m1fn,
}
MIXED = (
    "scaled<e4m3fnuz,e8m0,group8,ceil>",
    "scaled<e5m2,e8m0,group8,rceil>",
    "scaled<e3m0fn,e8m0,group4,even>",
    "scaled<fixed4f2<symmetric>,e8m0,group8,rceil>",
    "scaled<e2m1,e8m0,block2x8,ceil>",
)
KINDS = ("mxfp8_e4m3", "mxint8")
DAILY = {(format, carrier) for format in (*MX, *MIXED) for carrier in CARRIERS
         if carrier == torch.float32 or format in KINDS}  # fmt: skip
"""Every format in float32, and in the other carriers one of each kind that has kernels of its own."""
DAILY_MODES = {*itertools.product(("nearest_even", "stochastic"), CARRIERS), ("up", torch.float32)}
"""What is compiled for them; kernels/test_decisions.py has every mode in every carrier, uncompiled."""


def spread(carrier: torch.dtype) -> Tensor:
    """Groups of every size of magnitude, both ends of the carrier's range, and the specials."""
    generator = torch.Generator().manual_seed(0)
    limits = torch.finfo(carrier)
    x = torch.randn(6, 96, generator=generator, dtype=torch.float64)
    x[1] *= torch.exp2(torch.randint(-12, 12, (96,), generator=generator))
    x[2] *= limits.tiny
    x[3] = x[3].abs().clamp(max=1) * limits.max
    x[4] = 0
    x[5] *= limits.tiny * limits.eps * 4
    x[4, 40], x[3, 32] = math.inf, limits.max
    x[0, :5] = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf])
    return x.to(carrier)


def array(x: Tensor) -> np.ndarray:
    """As the reference takes it."""
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bit by bit, but for NaN."""
    np.testing.assert_array_equal(got, want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(want)[numbers])


def by_definition(x: Tensor, format: str, rounding: str) -> tuple[np.ndarray, dict[str, int]]:
    """What the reference says, and how to ask for it."""
    carrier = str(x.dtype).removeprefix("torch.")
    stochastic = Rounding(rounding).is_stochastic
    words = {"words": reference.random_words(7, 0, tuple(x.shape))} if stochastic else {}
    want = reference.quantize(array(x), format, rounding=rounding, carrier=carrier, **words)
    return want, {"seed": 7} if stochastic else {}


@pytest.mark.parametrize(
    ("format", "rounding", "carrier"),
    [
        pytest.param(format, rounding, carrier, marks=() if few else pytest.mark.exhaustive)
        for format, rounding, carrier in itertools.product((*MX, *MIXED), Rounding, CARRIERS)
        for few in [(format, carrier) in DAILY and (rounding, carrier) in DAILY_MODES]
    ],
)
def test_equal_to_the_definition(format: str, rounding: str, carrier: torch.dtype) -> None:
    x = spread(carrier)
    want, noise = by_definition(x, format, rounding)
    assert_same(array(lowprec.quantize(x, format, rounding=rounding, **noise)), want)


@pytest.mark.parametrize(
    ("format", "carrier"),
    [
        pytest.param(*case, marks=() if case in DAILY else pytest.mark.exhaustive)
        for case in itertools.product((*MX, *MIXED), CARRIERS)
    ],
)
def test_codes_and_scales(format: str, carrier: torch.dtype) -> None:
    x = spread(carrier)
    if not parse(format).has_nan:
        with pytest.raises(ValueError, match="no code for it"):
            lowprec.encode(x, format)
        x = x.where(~x.isnan(), 0.5)
    if format == "scaled<e5m2,e8m0,group8,rceil>":
        x = x.where(x.isfinite(), 0.25)  # an infinity would become one
    codes, scales = lowprec.encode(x, format)
    assert codes.dtype == torch.uint8
    assert scales.dtype == torch.float8_e8m0fnu
    assert_same(array(lowprec.decode(codes, format, scales=scales, dtype=carrier)),
                array(lowprec.quantize(x, format)))  # fmt: skip
    name = str(carrier).removeprefix("torch.")
    wanted, of_groups = reference.encode(array(x), format, carrier=name)
    assert codes.tolist() == wanted.tolist()
    assert scales.double().tolist() == of_groups.tolist()


@pytest.mark.parametrize("format", ["mxfp4", "mxfp8_e5m2", "mxint8"])
def test_every_code_with_every_scale(format: str) -> None:
    bits = parse(format).bits
    codes = torch.arange(2**bits, dtype=torch.uint8).repeat(256, 1)
    count = lowprec.encode(torch.zeros(256, 2**bits), format)[1].shape[1]
    scales = torch.arange(256, dtype=torch.uint8).view(-1, 1).repeat(1, count)
    for carrier in (torch.float32, torch.float16, torch.float64):
        got = lowprec.decode(codes, format, scales=scales.view(torch.float8_e8m0fnu), dtype=carrier)
        powers = np.append(np.ldexp(1.0, np.arange(-127, 128)), np.nan).reshape(-1, 1).repeat(count, 1)
        want = reference.decode(codes.numpy(), format, scales=powers, dtype=array(got).dtype)
        assert_same(array(got), want)
        assert got[255].isnan().all()


@pytest.mark.parametrize("rule", POWERS)
@pytest.mark.parametrize("element", ["e2m1", "e4m3fn", "fixed8f6<symmetric>"])
def test_maxima_around_every_power_of_two(element: str, rule: ScaleRule) -> None:
    powers = torch.tensor([2.0**e for e in range(-149, 128)])
    below = torch.nextafter(powers, torch.zeros(()))
    three = torch.where(powers * 1.5 < math.inf, powers * 1.5, powers)
    maxima = torch.cat([powers, below, three, torch.nextafter(powers, powers * 2).clamp(max=3.4e38)])
    parts = torch.tensor([1.0, -0.875, 0.7, 0.5, -0.3, 0.1, 0.03, 0.0])
    x = maxima[:, None] * parts
    format = f"scaled<{element},e8m0,group8,{rule}>"
    assert_same(lowprec.quantize(x, format).numpy(), reference.quantize(x.numpy(), format))


@pytest.mark.parametrize("format", ELEMENTS)
def test_the_rule_floor_with_the_elements_of_ml_dtypes(format: str) -> None:
    """An oracle of its own: frexp for the scale, a cast of ml_dtypes for the element."""
    x = (
        torch.randn(512, 32, generator=torch.Generator().manual_seed(3))
        * torch.exp2(torch.arange(-256, 256) / 8)[:, None]
    )
    largest = parse(format).max
    emax = math.frexp(largest)[1] - 1
    scale = np.ldexp(1.0, np.frexp(x.abs().amax(1, keepdim=True).double().numpy())[1] - 1 - emax)
    quotients = np.clip((x.double().numpy() / scale), -largest, largest).astype(np.float32)
    want = quotients.astype(ELEMENTS[format]).astype(np.float64) * scale
    assert_same(lowprec.quantize(x, format).double().numpy(), want)


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_a_special_touches_no_other_element(special: float) -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    for format in MX:
        plain = lowprec.quantize(x.where(torch.arange(64) != 7, 0.0), format)
        y = x.clone()
        y[:, 7] = special
        got = lowprec.quantize(y, format)
        assert torch.equal(got[:, :7], plain[:, :7])
        assert torch.equal(got[:, 8:], plain[:, 8:])
        assert got[0, 7].isnan() if math.isnan(special) else got[0, 7].sign() == math.copysign(1, special)


@pytest.mark.parametrize(
    "granularity",
    [PerTensor(), PerChannel(0), PerChannel((0, 2)), PerGroup(5), PerGroup(3, 0), PerGroup(None, 1),
     PerBlock((2, 3)), PerBlock((2, 2, 2))],
    ids=str,
)  # fmt: skip
def test_granularities_threads_and_strides(granularity) -> None:
    format = Scaled("e2m3", "e8m0", granularity)
    x = torch.randn(5, 7, 11, generator=torch.Generator().manual_seed(2)) * 37
    want = reference.quantize(x.numpy(), format)
    assert_same(lowprec.quantize(x, format).numpy(), want)
    strided = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert_same(lowprec.quantize(strided, format).numpy(), want)
    large = torch.randn(60, 40, 50, generator=torch.Generator().manual_seed(4))
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(lowprec.quantize(large, format, rounding="stochastic", seed=5))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("name", MX)
def test_names(name: str) -> None:
    format = parse(name)
    assert isinstance(format, Scaled)
    assert str(format) == name
    assert format == Scaled(MX[name], "e8m0", PerGroup(32))
    assert parse(str(format.element)) == format.element


def test_names_of_others() -> None:
    for rule, group, element in itertools.product(
        POWERS, ("", ",group4@0", ",block2x2"), ("e3m0fn", "e5m2<saturate,bias3>")
    ):
        name = f"scaled<{element},e8m0{group}" + ("" if rule == "floor" else f",{rule}") + ">"
        assert str(parse(name)) == name
    assert parse("scaled<e2m1,e8m0,group32>") == parse("mxfp4")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Scaled("bfp8"), TypeError, "`element` must be a FloatingPoint, a FixedPoint or a Codebook"),
        (lambda: Scaled("fixed8f6"), ValueError, "`element` must be signed, symmetric and saturate"),
        (lambda: Scaled("fixed8f6<wrap>"), ValueError, "`element` must be signed, symmetric"),
        (lambda: Scaled("e4m3fn<nosubnormals>"), ValueError, "`element` must have subnormals"),
        (lambda: Scaled("e2m1", "tf32"), ValueError, "`scale` must be e8m0, float32, float16, bfloat16,"),
        (lambda: Scaled("e2m1", granularity="group32"), TypeError, "`granularity` must be a PerTensor"),
        (lambda: Scaled("e2m1", scale_rule="up"), ValueError, "`scale_rule` must be a known name"),
        (lambda: parse("scaled<e2m1>"), ValueError, "`format` must be a known name"),
        (lambda: parse("mxfp4<group16>"), ValueError, "`format` must be a known name"),
        (lambda: lowprec.quantize(torch.ones(2), "scaled<e8m24ieee,e8m0>"), ValueError,
         "be exact in the carrier float32"),
        (lambda: lowprec.decode(torch.zeros(32, dtype=torch.uint8), "mxfp4", scales=torch.ones(1).int()),
         TypeError, "`scales` must be torch.float8_e8m0fnu or float32"),
        (lambda: lowprec.decode(torch.zeros(32, dtype=torch.uint8), "mxfp4"), ValueError,
         "`scales` must be given for mxfp4, got None"),
        (lambda: lowprec.decode(torch.full((32,), 16, dtype=torch.uint8), "mxfp4",
                                scales=torch.ones(1)), ValueError, "lie below 2^4"),
        (lambda: lowprec.decode(torch.zeros(32, dtype=torch.uint8), "mxfp4",
                                scales=torch.ones(2)), ValueError, "have shape"),
    ],
)  # fmt: skip
def test_errors(build, error, message) -> None:
    with pytest.raises(error) as raised:
        build()
    assert message in str(raised.value)


def test_along_the_contraction() -> None:
    format = "scaled<e4m3fn,e8m0,group4@contraction>"
    x, weight = torch.randn(3, 12), torch.randn(5, 12)
    along = Scaled("e4m3fn", "e8m0", PerGroup(4))
    want = torch.nn.functional.linear(lowprec.quantize(x, along), lowprec.quantize(weight, along))
    assert torch.equal(linear(x, weight, scheme=lowprec.Scheme(input=format, weight=format)), want)


def test_gradient_and_compilation() -> None:
    x = torch.randn(4, 64, requires_grad=True)
    lowprec.quantize(x, "mxfp4").sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    compiled = torch.compile(lambda y: lowprec.quantize(y, "mxfp4") * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x.detach()), lowprec.quantize(x.detach(), "mxfp4") * 2)
