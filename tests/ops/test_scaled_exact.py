"""Scaled formats against the definition, bit for bit: where a rounded division would be wrong, too."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from oracle import SEED, as_array, assert_same, expected, reference_options, tensor_of
from torch import Tensor

import lowprec
from lowprec import reference
from lowprec.formats import Scaled, parse
from lowprec.formats.scaled import SCALES
from lowprec.kernels import dispatch
from lowprec.modes import Rounding, ScaleRule

Fractions = list[Fraction]
CARRIERS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
FLOATING = (
    "nvfp4",
    "scaled<e4m3fn,float32,amax>",
    "scaled<e5m2,bfloat16,group8,amax>",
    "scaled<e2m1,e4m3fn,group4,amax>",
    "scaled<e3m2,float16,channel0,amax>",
    "scaled<e4m3fn<infinity>,e5m2,block2x7,amax>",
    "scaled<e4m3fnuz,float32,group5,ceil>",
    "scaled<e2m1,scaled<e5m2,bfloat16,channel0,amax>,group4,amax>",
)
INTEGERS = (
    "int8",
    "int4",
    "scaled<fixed8f3<symmetric>,e4m3fn,group8,amax>",
    "scaled<fixed4f0<symmetric>,float16,group3,rceil>",
    "scaled<fixed8f0<symmetric>,scaled<binary16,float32,block1x2,amax>,group7,amax>",
)
ZERO_POINTS = (
    "uint8",
    "scaled<ufixed4f0,bfloat16,group8,amax,zero_point>",
    "scaled<ufixed8f0,float16,channel0,amax,zero_point>",
)
FORMATS = (*FLOATING, *INTEGERS, *ZERO_POINTS)
FAMILIES = (FLOATING[0], INTEGERS[0], ZERO_POINTS[0])
"""One format of each kind that kernels tell apart."""
FEW = ("nearest_even", "stochastic")


def grid_of_modes() -> Iterator[object]:
    """Every mode with every carrier and kind of format; most of them where there is time."""
    for carrier in CARRIERS:
        for rounding in Rounding:
            for formats in (FLOATING, INTEGERS, ZERO_POINTS):
                few = rounding in FEW or (carrier == torch.float32 and formats is INTEGERS)
                marks = () if few else pytest.mark.exhaustive
                kind = {FLOATING: "floating", INTEGERS: "integers", ZERO_POINTS: "zero_points"}[formats]
                yield pytest.param(formats, rounding, carrier, marks=marks, id=f"{kind}-{rounding}-{carrier}")


def spread(carrier: torch.dtype) -> Tensor:
    """Groups of every size of magnitude, both ends of the carrier's range, and the specials."""
    generator = torch.Generator().manual_seed(0)
    limits = torch.finfo(carrier)
    x = torch.randn(7, 23, generator=generator, dtype=torch.float64)
    x[1] *= torch.exp2(torch.randint(-12, 12, (23,), generator=generator))
    x[2] *= limits.tiny
    x[3] = x[3].abs().clamp(max=1) * limits.max
    x[4] = 0
    x[5] *= limits.tiny * limits.eps * 4
    x[6] *= 2.0**-9
    x[4, 20], x[3, 12] = math.inf, limits.max
    x[0, :5] = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf])
    return x.to(carrier)


def numbers(scales: object) -> object:
    """Scales of torch as the reference has them: float64, zero points int64."""
    if isinstance(scales, tuple):
        return tuple(numbers(level) for level in scales)
    if scales is None:
        return None
    return scales.long().numpy() if scales.dtype == torch.int32 else scales.float().double().numpy()


def of_torch(scales: object) -> object:
    """Scales of the reference as the kernels take them: in float32, zero points int32."""
    if isinstance(scales, tuple):
        return tuple(of_torch(level) for level in scales)
    if scales is None:
        return None
    return torch.from_numpy(scales).to(torch.int32 if scales.dtype.kind == "i" else torch.float32)


def assert_equal_scales(got: object, want: object) -> None:
    """Equal numbers, level by level."""
    if isinstance(want, tuple):
        for one, other in zip(got, want, strict=True):
            assert_equal_scales(one, other)
    elif want.dtype.kind == "i":
        np.testing.assert_array_equal(got, want)
    else:
        assert_same_bits(got, want)


def seed_for(rounding: str) -> dict[str, int]:
    """The seed, where the mode takes one."""
    return {"seed": SEED} if Rounding(rounding).is_stochastic else {}


def check(x: Tensor, format: str, rounding: str = "nearest_even", random_bits: int | None = None) -> None:
    """Values are those of the definition."""
    if parse(format).missing_in(lowprec.formats.carriers.CARRIERS[str(x.dtype)[6:]]):
        with pytest.raises(ValueError, match="be exact in the carrier"):
            lowprec.quantize(x, format)
        return
    noise = seed_for(rounding) | ({"random_bits": random_bits} if random_bits else {})
    got = lowprec.quantize(x, format, rounding=rounding, **noise)
    assert_same(got, expected(x, format, rounding, random_bits))


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


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("format", FORMATS)
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


class TestOverflow:
    """Where it fires follows from the quotient, whatever the carrier makes of the product."""

    @pytest.mark.parametrize("rounding", ["nearest_even", "down"])
    @pytest.mark.parametrize("format", ["nvfp4", "int8", "uint8"])
    def test_fires(self, format: str, rounding: str) -> None:
        x = spread(torch.float32)
        options = reference_options(x, rounding)
        fired = reference.overflowed(as_array(x), format, **options)
        assert fired.any()
        flags = torch.ops.lowprec.overflowed(x, *self.arguments(x, format, rounding))
        np.testing.assert_array_equal(flags.numpy(), fired)

    def arguments(self, x: Tensor, format: str, rounding: str) -> tuple[object, ...]:
        """What the operator takes after x."""
        seed = torch.tensor([SEED - 2**64]) if Rounding(rounding).is_stochastic else None
        return seed, format, rounding, 32


# Scales that are given: everything around every boundary.


def boundaries(format: Scaled) -> tuple[Fractions, Fractions]:
    """Values of the element with those next above them, the first past the largest included."""
    if format.zero_point:
        values = [Fraction(k) for k in range(int(format.element.max) + 2)]
    else:
        values = format.element.magnitudes()
        values.append(2 * values[-1] - values[-2])
    step = max(len(values) // 24, 1)
    pairs = [*zip(values[::step], values[1::step], strict=False), (values[-2], values[-1])]
    return [a for a, _ in pairs], [b for _, b in pairs]


def beside(targets: Fractions, carrier: torch.dtype) -> Tensor:
    """The carrier's numbers at, just below and just above each target."""
    at = tensor_of(np.array([float(target) for target in targets]), carrier)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[carrier.itemsize]
    bits = at.view(integers)
    ends = torch.tensor([0, int(torch.tensor(math.inf, dtype=carrier).view(integers))])
    near = torch.cat([bits - 1, bits, bits + 1]).clamp(int(ends[0]), int(ends[1])).view(carrier)
    return torch.cat([near, -near])


def random_scale(name: str, generator: np.random.Generator) -> Fraction:
    """A value of a scale format of moderate size."""
    level = SCALES[name]
    significand = int(generator.integers(1 << level.mantissa_bits, 2 << level.mantissa_bits)) | 1
    return Fraction(significand) / 2 ** (level.mantissa_bits + int(generator.integers(-1, 2)))


def near_boundaries(format: Scaled, carrier: torch.dtype, scale: Fraction) -> Tensor:
    """Numbers around each value, midpoint and arbitrary part of the way, times a scale."""
    lower, upper = boundaries(format)
    parts = (Fraction(0), Fraction(1, 2), Fraction(1, 3))
    targets = [(a + (b - a) * part) * scale for a, b in zip(lower, upper, strict=True) for part in parts]
    return beside(targets, carrier)


STATIC = (
    "scaled<e4m3fn,float32,amax>", "scaled<e5m2,bfloat16,amax>", "scaled<e2m1,e4m3fn,amax>",
    "scaled<e3m2,float16,amax>", "scaled<e2m1,e5m2,amax>", "int8", "int4", "uint8", "nvfp4<tensor>",
    "scaled<fixed8f3<symmetric>,float16,amax>", "scaled<ufixed4f0,float16,amax,zero_point>",
    "scaled<binary16,float32,amax>", "scaled<fixed16f0<symmetric>,float32,amax>",
)  # fmt: skip
NESTED = "scaled<e2m1,scaled<e4m3fn,float32,amax>,amax>"


def static_case(name: str, carrier: torch.dtype, seed: int) -> tuple[str, Tensor, object]:
    """A format, numbers around its boundaries, and the scales that these belong to."""
    generator = np.random.default_rng(seed)
    name = NESTED if name == "nvfp4<tensor>" else name
    format = parse(name)
    assert isinstance(format, Scaled)
    level = "float32" if name in ("int8", "int4", "uint8") else str(format.scale)
    if isinstance(format.scale, Scaled):
        inner, outer = random_scale("e4m3fn", generator), random_scale("float32", generator)
        x = near_boundaries(format, carrier, inner * outer)
        return name, x, (np.array([float(inner)]), np.array([float(outer)]))
    scale = random_scale(level, generator)
    x = near_boundaries(format, carrier, scale)
    if format.zero_point:
        zero = int(generator.integers(0, int(format.element.max) + 1))
        return name, x, (np.array([float(scale)]), np.array([zero]))
    return name, x, np.array([float(scale)])


def given(x: Tensor, format: str, scale: object, rounding: str) -> tuple[Tensor, Tensor]:
    """What the kernel and what the definition make of numbers over given scales."""
    got = lowprec.quantize(x, format, rounding=rounding, scale=of_torch(scale), **seed_for(rounding))
    want = reference.quantize(as_array(x), format, scale=scale, **reference_options(x, rounding))
    return got, torch.from_numpy(want).to(x.dtype)


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("name", STATIC)
def test_around_every_boundary(name: str, carrier: torch.dtype) -> None:
    for seed in range(3):
        format, x, scale = static_case(name, carrier, seed)
        if parse(format).missing_in(lowprec.formats.carriers.CARRIERS[str(carrier)[6:]]):
            return
        for rounding in FEW:
            assert_same(*given(x, format, scale, rounding))


@pytest.mark.exhaustive
@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("rounding", Rounding)
def test_around_every_boundary_in_every_mode(rounding: str, carrier: torch.dtype) -> None:
    for name in STATIC:
        for seed in range(20):
            format, x, scale = static_case(name, carrier, seed)
            if not parse(format).missing_in(lowprec.formats.carriers.CARRIERS[str(carrier)[6:]]):
                assert_same(*given(x, format, scale, rounding))


def test_a_rounded_division_would_be_noticed() -> None:
    """The inputs above show what a division in float32 gets wrong, before anything else is rounded.

    One in float64 gets no boundary of a nearest mode wrong: the boundary times the scale is a float64, too.
    """
    wrong = 0
    for seed in range(3):
        format, x, scale = static_case("scaled<e4m3fn,float32,amax>", torch.float32, seed)
        quotients = (x.numpy() / scale.astype(np.float32)).astype(np.float64)
        planted = reference.quantize(quotients, "e4m3fn") * scale
        want = reference.quantize(x.numpy(), format, scale=scale)
        wrong += int((planted.astype(np.float32) != want).sum())
    assert wrong > 3


class TestThresholds:
    """Numbers whose quotient lies within a part in 2^60 of where a random word begins to round up."""

    FORMAT = "int8"

    def cases(self) -> Iterator[tuple[float, float, int, bool]]:
        """A number, a scale, a word, and whether the number goes up.

        For odd m and t * m = 1 modulo 2^36 the quotient of (t * m - 1) / 2^32 by m, which has the bits of a
        float32 number, lies 1 / (m * 2^32) below t / 2^32; with -1 in place of 1 as much above.
        """
        generator = np.random.default_rng(8)
        for m in (generator.integers(2**22, 2**23, 60) * 2 + 1).tolist():
            for sign in (1, -1):
                t = pow(sign * m, -1, 2**36)
                whole, part = divmod(t, 2**32)
                if whole == 0 or part == 0:
                    continue
                number = (t * m - sign) // 2**32
                assert (t * m - sign) % 2**36 == 0
                yield float(number) / 2**20, m / 2**20, 2**32 - part, sign < 0

    def of_kernel(self, number: float, scale: float, word: int, rounding: str) -> float:
        """What the kernel makes of a number if the random word is this one."""
        x, out = np.float32([number]), np.empty(1, np.float32)
        codes = np.float32([scale]).view(np.uint32)
        dispatch.quantize(
            x.ctypes.data, out.ctypes.data, "float32", (1,), (1,), (1,), self.FORMAT, rounding, word=word,
            scales=(codes,),
        )  # fmt: skip
        return float(out[0])

    @pytest.mark.parametrize("rounding", ["stochastic", "stochastic_midpoint", "stochastic_nearest"])
    def test_the_quotient_is_decided_exactly(self, rounding: str) -> None:
        planted, count = 0, 0
        for number, scale, word, up in self.cases():
            assert np.float32(number) == number
            assert np.float32(scale) == scale
            for draw in (word, word - 1):
                options = {"rounding": rounding, "words": np.uint32([draw])}
                given = np.float32([number])
                want = reference.quantize(given, self.FORMAT, scale=np.array([scale]), **options)
                assert self.of_kernel(number, scale, draw, rounding) == want[0]
                rounded = reference.quantize(np.array([number / scale]), "fixed8f0<symmetric>", **options)
                planted += int(np.float32(rounded[0] * scale) != want[0])
                if rounding == "stochastic" and draw == word:
                    assert (want[0] > number) == up
            count += 1
        assert count > 60
        if rounding == "stochastic":  # the division gives t / 2^32 itself
            assert planted > 20


# Scales by every rule.


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rule", ScaleRule)
def test_maxima_around_every_power_of_two(rule: str, scale: str) -> None:
    powers = torch.tensor([2.0**e for e in range(-149, 128)])
    below = torch.nextafter(powers, torch.zeros(()))
    above = torch.nextafter(powers, powers * 2).clamp(max=3.4e38)
    near = torch.where(powers * 1.75 < math.inf, powers * 1.75, powers)
    parts = torch.tensor([1.0, -0.7, 0.1, 0.0])
    x = torch.cat([powers, below, above, near])[:, None] * parts
    for element in ("e2m1", "e4m3fn", "fixed8f6<symmetric>"):
        format = f"scaled<{element},{scale},group4,{rule}>"
        assert_equal_scales(numbers(lowprec.scales(x, format)), reference.scales(x.numpy(), format))
        assert_same(lowprec.quantize(x[::3], format), expected(x[::3], format))


def test_quotients_next_to_ties_between_scales() -> None:
    """Maxima just at, below and above max times the midpoint of two scales, in float64."""
    generator = np.random.default_rng(4)
    for name, level in SCALES.items():
        step = Fraction(1, 2**level.mantissa_bits)
        ties = [random_scale(name, generator) + step / 4 for _ in range(60)]
        ties += [Fraction(level.max) + step / 2, Fraction(level.smallest_subnormal) / 2]
        ties += [Fraction(level.smallest_subnormal) * Fraction(k, 2) for k in (3, 5, 7)]
        for element, top in (("e2m1", 6), ("e3m2", 28), ("fixed8f0<symmetric>", 127)):
            x = beside([tie * top for tie in ties], torch.float64)[:, None]
            format = f"scaled<{element},{name},channel0,amax>"
            assert_equal_scales(numbers(lowprec.scales(x, format)), reference.scales(x.numpy(), format))


def test_nested_scales_in_every_carrier() -> None:
    generator = torch.Generator().manual_seed(6)
    for carrier in CARRIERS:
        x = (torch.randn(16, 48, generator=generator) * torch.exp2(torch.linspace(-12, 9, 16))[:, None]).to(
            carrier
        )
        for format in (
            "nvfp4",
            "scaled<e2m1,scaled<e4m3fn,float32,group5,amax>,group4,amax>",
            "scaled<e2m1,scaled<e5m2,float16,block2x2,amax>,group8,amax>",
            "scaled<fixed4f0<symmetric>,scaled<bfloat16,e4m3fn,channel0,amax>,group7@0,amax>",
        ):
            got = numbers(lowprec.scales(x, format))
            assert_equal_scales(got, reference.scales(as_array(x), format))


def test_ranges_that_no_float_holds() -> None:
    """Zero points: the sum of both ends is divided before anything is rounded."""
    generator = np.random.default_rng(9)
    high = generator.standard_normal(200) * 2.0 ** generator.integers(-30, 30, 200)
    low = generator.standard_normal(200) * 2.0 ** generator.integers(-30, 30, 200)
    tie = 255.0 * (2**24 + 1)  # 255 times the midpoint of two float32 numbers
    rows = [*zip(low, high, strict=True), (tie, -(2.0**-80)), (tie, 0.0), (-tie, 2.0**-80), (-0.5, 254.5),
            (-1.5, 253.5), (-2.5, 252.5), (1e300, -1e300), (1e-300, -1e-300), (1.0, -1e-40)]  # fmt: skip
    for carrier in CARRIERS:
        x = tensor_of(np.array(rows), carrier)
        for level in SCALES:
            for element in ("ufixed8f0", "ufixed4f0", "ufixed1f0", "ufixed16f0"):
                format = f"scaled<{element},{level},channel0,amax,zero_point>"
                if parse(format).missing_in(lowprec.formats.carriers.CARRIERS[str(carrier)[6:]]):
                    continue
                got = numbers(lowprec.scales(x, format))
                assert_equal_scales(got, reference.scales(as_array(x), format))


# Groups.


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
