"""Scaled formats against the definition, bit for bit: every mode and carrier, groups of every shape."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from oracle import SEED, as_array, assert_same, expected, reference_options
from scaled_cases import (
    CARRIERS,
    FAMILIES,
    FEW,
    FLOATING,
    FORMATS,
    INTEGERS,
    NESTED,
    ZERO_POINTS,
    assert_equal_scales,
    check,
    given,
    numbers,
    seed_for,
    spread,
)

import lowprec
from lowprec import reference
from lowprec.formats import parse
from lowprec.modes import Rounding

OTHERS = ("to_odd", "down", "stochastic_midpoint")
"""Modes of other kinds."""


def grid_of_modes() -> Iterator[object]:
    """Every mode with every carrier and kind of format; most of them where there is time."""
    for carrier in CARRIERS:
        for rounding in Rounding:
            for formats in (FLOATING, INTEGERS, ZERO_POINTS):
                few = (rounding == "nearest_even" and carrier in (torch.float64, torch.bfloat16)) or (
                    carrier == torch.float32
                    and (rounding in FEW or (rounding in OTHERS and formats == INTEGERS))
                )
                marks = () if few else pytest.mark.exhaustive
                kind = {FLOATING: "floating", INTEGERS: "integers", ZERO_POINTS: "zero_points"}[formats]
                yield pytest.param(formats, rounding, carrier, marks=marks, id=f"{kind}-{rounding}-{carrier}")


def grid_of_formats() -> Iterator[object]:
    """Every format in float32, one of each kind in the other carriers; the rest where there is time."""
    for carrier in CARRIERS:
        for format in FORMATS:
            few = carrier == torch.float32 or format in FAMILIES
            yield pytest.param(format, carrier, marks=() if few else pytest.mark.exhaustive)


@pytest.mark.parametrize(("formats", "rounding", "carrier"), list(grid_of_modes()))
def test_equal_to_the_definition(formats: tuple[str, ...], rounding: str, carrier: torch.dtype) -> None:
    x = spread(carrier)
    for format in formats:
        check(x, format, rounding)
    if Rounding(rounding).takes_random_bits and carrier == torch.float32:
        check(x, formats[0], rounding, 7)
        check(x, formats[1], rounding, 1)


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_scales_are_those_of_the_definition(format: str, carrier: torch.dtype) -> None:
    x = spread(carrier)
    got = lowprec.scales(x, format)
    assert_equal_scales(numbers(got), reference.scales(as_array(x), format))
    given = lowprec.quantize(x, format, scale=got)
    assert_same(given, lowprec.quantize(x, format))
    if isinstance(got, tuple) and "zero_point" not in format and format != "uint8":
        assert_same(lowprec.quantize(x, format, scale=(None, got[1])), given)


@pytest.mark.parametrize(("format", "carrier"), list(grid_of_formats()))
def test_codes_are_those_of_the_definition(format: str, carrier: torch.dtype) -> None:
    x = spread(carrier)
    if not parse(format).has_nan:
        with pytest.raises(ValueError, match="no code for it"):
            lowprec.encode(x, format)
        x = x.where(~x.isnan(), 0.5)
    for rounding in FEW if carrier == torch.float32 else FEW[:1]:
        options = reference_options(x, rounding)
        codes, scales = lowprec.encode(x, format, rounding=rounding, **seed_for(rounding))
        want, of_groups = reference.encode(as_array(x), format, **options)
        assert_same(codes, torch.from_numpy(want))
        assert_equal_scales(numbers(scales), of_groups)
        assert_equal_scales(numbers(scales), numbers(lowprec.scales(x, format)))
        got = lowprec.decode(codes, format, scales=scales, dtype=carrier)
        assert_same(got, lowprec.quantize(x, format, rounding=rounding, **seed_for(rounding)))


@pytest.mark.parametrize("rounding", ["nearest_even", "down"])
@pytest.mark.parametrize("format", ["nvfp4", "int8", "uint8"])
def test_where_overflow_fires(format: str, rounding: str) -> None:
    """It follows from the quotient, whatever the carrier makes of the product."""
    x = spread(torch.float32)
    fired = reference.overflowed(as_array(x), format, **reference_options(x, rounding))
    assert fired.any()
    flags = torch.ops.lowprec.overflowed(x, None, format, rounding, 32)
    np.testing.assert_array_equal(flags.numpy(), fired)


@pytest.mark.parametrize("dimensions", range(1, 6))
def test_every_axis(dimensions: int) -> None:
    shape = (5, 2, 3, 2, 4)[:dimensions] if dimensions > 1 else (37,)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(dimensions)) * 5
    for axis in range(-dimensions, dimensions):
        for size in (2, 3, ""):
            check(x, f"scaled<e2m1,e4m3fn,group{size}@{axis},amax>".replace("@-1,", ","))
        check(x, f"scaled<fixed8f0<symmetric>,float32,channel{axis},amax>")
        check(
            x,
            f"scaled<e2m1,scaled<e4m3fn,float32,channel{axis},amax>,group2@{axis},amax>".replace("@-1,", ","),
        )
        check(x, f"scaled<ufixed8f0,float32,group2@{axis},amax,zero_point>".replace("@-1,", ","))
    for granularity in ["block2", "block3x2", "block2x1x3", "channel0&-1"][: dimensions + (dimensions > 1)]:
        if granularity.count("x") < dimensions and ("&" not in granularity or dimensions > 1):
            check(x, f"scaled<e4m3fn,bfloat16,{granularity},amax>")


@pytest.mark.parametrize("format", FAMILIES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 5), (1, 1, 1), (2, 0, 3)])
def test_no_element_and_one(format: str, shape: tuple[int, ...]) -> None:
    if shape == () and format == "nvfp4":
        format = "scaled<e2m1,scaled<e4m3fn,float32,amax>,amax>"
    x = torch.full(shape, -2.7)
    check(x, format)
    codes, scales = lowprec.encode(x, format)
    want, of_groups = reference.encode(x.numpy(), format)
    assert_same(codes, torch.from_numpy(want))
    assert_equal_scales(numbers(scales), of_groups)
    assert_same(lowprec.decode(codes, format, scales=scales), lowprec.quantize(x, format))


@pytest.mark.parametrize("format", FAMILIES)
def test_strides_change_no_bit(format: str) -> None:
    x = torch.randn(6, 5, 34, generator=torch.Generator().manual_seed(1)) * 9
    want = lowprec.quantize(x, format)
    assert_same(want, expected(x, format))
    for order in ((2, 0, 1), (1, 2, 0), (2, 1, 0)):
        back = tuple(order.index(d) for d in range(3))
        permuted = x.permute(order).contiguous().permute(back)
        assert_same(lowprec.quantize(permuted, format).contiguous(), want)
        assert_equal_scales(numbers(lowprec.scales(permuted, format)), numbers(lowprec.scales(x, format)))
    wide = torch.zeros(6, 5, 68)
    wide[..., ::2] = x
    assert_same(lowprec.quantize(wide[..., ::2], format).contiguous(), want)
    held = lowprec.scales(wide[..., ::2], format)
    assert_same(lowprec.quantize(wide[..., ::2], format, scale=held).contiguous(), want)
    codes, scales = lowprec.encode(wide[..., ::2], format)
    assert_same(lowprec.decode(codes, format, scales=scales), want)


@pytest.mark.parametrize("format", [*FAMILIES, "scaled<e2m1,e4m3fn,group16@0,amax>"])
def test_threads_change_no_bit(format: str) -> None:
    x = torch.randn(300, 411, generator=torch.Generator().manual_seed(2)) * 11
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found = lowprec.scales(x, format)
            values = lowprec.quantize(x, format, rounding="stochastic", seed=SEED)
            static = lowprec.quantize(x, format, rounding="stochastic", seed=SEED, scale=found)
            codes, _ = lowprec.encode(x, format, rounding="stochastic", seed=SEED)
            results.append((numbers(found), values, static, codes))
    finally:
        torch.set_num_threads(before)
    assert_same(results[0][1], results[0][2])
    for other in results[1:]:
        assert_equal_scales(other[0], results[0][0])
        for got, want in zip(other[1:], results[0][1:], strict=True):
            assert_same(got, want)
    part = x[:9]
    assert_same(lowprec.quantize(part, format), expected(part, format))


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "uint8"])
def test_a_nan_changes_no_other_element(format: str) -> None:
    x = spread(torch.float32)
    x[0, 2] = 0
    want = lowprec.quantize(x, format)
    for at in ((0, 2), (0, 0), (4, 3)):
        with_nan = x.clone()
        assert with_nan[at] == 0
        with_nan[at] = math.nan
        got = lowprec.quantize(with_nan, format)
        assert got[at].isnan()
        got[at] = want[at]
        assert_same(got, want)


@pytest.mark.parametrize("format", FAMILIES)
def test_values_that_the_carrier_lacks(format: str) -> None:
    """Infinities past the range, multiples of its least value below it; -0 where the element has it."""
    x = torch.tensor([60000, -60000, 1, -1, 0, -0.0, math.inf, 3e-5], dtype=torch.float16)
    for size in (2.0**60, 1900.0, 2.0**-20, 3 * 2.0**-26, 2.0**-60):
        scale: object = np.array([size])
        name = format
        if format == "nvfp4":
            name, scale = NESTED, (np.array([1.0]), np.array([size]))
        elif format == "uint8":
            scale = (np.array([size]), np.array([100]))
        for rounding in ("nearest_even", "stochastic"):
            assert_same(*given(x, name, scale, rounding))


def test_decoding_every_code_over_every_scale() -> None:
    codes = torch.arange(16, dtype=torch.uint8).repeat(256, 1)
    patterns = torch.arange(256, dtype=torch.uint8)
    for name, dtype in (("e4m3fn", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)):
        scales = patterns.view(dtype)
        taken = ((scales.float() > 0) & scales.float().isfinite()) | (
            scales.float().isnan() & (patterns < 128)
        )
        for carrier in CARRIERS:
            known = scales[taken][:, None]
            got = lowprec.decode(
                codes[: len(known)], f"scaled<e2m1,{name},channel0,amax>", scales=known, dtype=carrier
            )
            dtype_of_array = as_array(got).dtype
            want = reference.decode(
                codes[: len(known)].numpy(), f"scaled<e2m1,{name},channel0,amax>", dtype=dtype_of_array,
                scales=numbers(known), carrier=str(carrier)[6:],
            )  # fmt: skip
            assert_same_bits(as_array(got), want)
            assert got.isnan().any()
