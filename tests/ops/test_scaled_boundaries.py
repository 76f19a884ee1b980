"""Scaled formats where a rounded division would be wrong: around every boundary, ties between scales."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracle import as_array, assert_same, expected, tensor_of
from scaled_cases import CARRIERS, FEW, NESTED, assert_equal_scales, given, numbers
from torch import Tensor

import lowprec
from lowprec import reference
from lowprec.formats import Scaled, parse
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.formats.scaled import SCALES
from lowprec.kernels import dispatch
from lowprec.modes import Rounding, ScaleRule

Fractions = list[Fraction]
STATIC = (
    "scaled<e4m3fn,float32,amax>", "scaled<e5m2,bfloat16,amax>", "scaled<e2m1,e4m3fn,amax>",
    "scaled<e3m2,float16,amax>", "scaled<e2m1,e5m2,amax>", "int8", "int4", "uint8", "nvfp4<tensor>",
    "scaled<fixed8f3<symmetric>,float16,amax>", "scaled<ufixed4f0,float16,amax,zero_point>",
    "scaled<binary16,float32,amax>", "scaled<fixed16f0<symmetric>,float32,amax>",
)  # fmt: skip


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


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("name", STATIC)
def test_around_every_boundary(name: str, carrier: torch.dtype) -> None:
    for seed in range(3):
        format, x, scale = static_case(name, carrier, seed)
        if parse(format).missing_in(RANGES[str(carrier)[6:]]):
            return
        for rounding in FEW if carrier in (torch.float32, torch.float64) else FEW[:1]:
            assert_same(*given(x, format, scale, rounding))


@pytest.mark.exhaustive
@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("rounding", Rounding)
def test_around_every_boundary_in_every_mode(rounding: str, carrier: torch.dtype) -> None:
    for name in STATIC:
        for seed in range(20):
            format, x, scale = static_case(name, carrier, seed)
            if not parse(format).missing_in(RANGES[str(carrier)[6:]]):
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
                if parse(format).missing_in(RANGES[str(carrier)[6:]]):
                    continue
                got = numbers(lowprec.scales(x, format))
                assert_equal_scales(got, reference.scales(as_array(x), format))
