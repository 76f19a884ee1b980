"""Scaled formats against torchao's MXTensor and NVFP4Tensor: equal, or it is told why not."""

import importlib
import logging
import math
import warnings
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from torch import Tensor

import lowprec
from lowprec import PerGroup, Scaled
from lowprec.formats import parse

ELEMENTS: dict[str, Any] = {
    "mxfp8_e4m3": torch.float8_e4m3fn,
    "mxfp8_e5m2": torch.float8_e5m2,
    "mxfp6_e3m2": "fp6_e3m2",
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp4": torch.float4_e2m1fn_x2,
}
RULES = ("floor", "ceil", "even", "rceil")
POWERS = torch.tensor([2.0**exponent for exponent in range(-149, 128)])
PARTS = torch.tensor([1.0, -0.96875, 0.8125, -0.7, 0.5, -0.34375, 0.1, -0.03, 0.007, 0.0, -0.0] + 21 * [0.01])
ZERO, FAR = torch.zeros(()), torch.tensor(math.inf)
ONE_LEVEL = "scaled<e2m1,e4m3fn,group16,amax>"


class Torchao(NamedTuple):
    """Its modules."""

    mx: ModuleType
    config: ModuleType
    nvfp4: ModuleType


@pytest.fixture(scope="module")
def torchao() -> Iterator[Torchao]:
    """Imported quietly: what it has to say at import is not our affair."""
    pytest.importorskip("torchao", reason="an oracle; extra `bench`")
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(action="ignore"):
        names = ("mx_tensor", "config", "nvfp4_tensor")
        yield Torchao(*(importlib.import_module(f"torchao.prototype.mx_formats.{name}") for name in names))
    logging.disable(logging.NOTSET)


class Stored(NamedTuple):
    """What a package stores, and the values that it stands for."""

    codes: Tensor
    scales: Tensor
    values: Tensor


def microscaled(torchao: Torchao, x: Tensor, name: str, rule: str) -> Stored:
    """MXTensor."""
    mode = torchao.config.ScaleCalculationMode[rule.upper()]
    made = torchao.mx.MXTensor.to_mx(x, ELEMENTS[name], 32, scaling_mode=mode)
    codes = made.qdata.view(torch.uint8)
    if name == "mxfp4":
        codes = torch.stack([codes & 15, codes >> 4], -1).view(x.shape)
    return Stored(codes, made.scale.view(torch.uint8).view(-1), made.dequantize())


def nvfp4(torchao: Torchao, x: Tensor, *, levels: int = 2) -> Stored:
    """NVFP4Tensor; with two levels its scale of the tensor is checked to be ours."""
    outer = None
    if levels == 2:
        outer = torchao.nvfp4.per_tensor_amax_to_scale(x.abs().max())
    made = torchao.nvfp4.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=outer)
    codes = torch.stack([made.qdata & 15, made.qdata >> 4], -1).view(x.shape)
    return Stored(codes, made.scale.float(), made.dequantize())


def ours(x: Tensor, name: str, rule: str) -> Stored:
    """This package, with the same rule."""
    format = Scaled(parse(name).element, "e8m0", PerGroup(32), scale_rule=rule)
    codes, scales = lowprec.encode(x, format)
    return Stored(codes, scales.view(torch.uint8).view(-1), lowprec.quantize(x, format))


def hard_maxima() -> Tensor:
    """Groups with the powers of two of float32 as maxima, what turns a scale rule, and their neighbors."""
    turns = torch.tensor([1.0, 1.25, 1.5, 1.75, 1.875, 1.9375, 1.96875])
    tops = (POWERS[:, None] * turns).flatten()
    near = [torch.nextafter(tops, end) for end in (ZERO, FAR)]
    tops = torch.cat([tops, *near, torch.tensor([torch.finfo(torch.float32).max])])
    tops = torch.unique(tops[(tops > 0) & tops.isfinite()])
    return tops[:, None] * PARTS


def random_groups() -> Tensor:
    """Groups of many sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.exp2(torch.randint(-60, 60, (2048, 1), generator=generator))
    return torch.randn(2048, 32, generator=generator) * sizes


def assert_stored(got: Stored, want: Stored, at: Tensor) -> None:
    """Equal codes, scales and values in some groups; of values the sign of zero too."""
    assert torch.equal(got.codes[at], want.codes[at])
    assert torch.equal(got.scales[at], want.scales[at])
    assert_same_bits(got.values[at].float().numpy(), want.values[at].float().numpy())


def above_top(x: Tensor, name: str) -> Tensor:
    """Groups whose maximum is more than max times a power of two by less than 2^-18 of it."""
    top = parse(name).max
    fraction = torch.frexp(x.abs().amax(1).double() / top).mantissa
    return (fraction > 0.5) & (fraction < 0.5 + 2.0**-19)


class TestMicroscaled:
    @pytest.mark.parametrize("carrier", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("name", ELEMENTS)
    def test_equal_above_the_least_scale(
        self, name: str, rule: str, carrier: torch.dtype, torchao: Torchao
    ) -> None:
        x = torch.cat([hard_maxima(), random_groups()]).to(carrier)
        x = x[x.isfinite().all(1)]
        want, got = microscaled(torchao, x, name, rule), ours(x, name, rule)
        at = got.scales > 0
        if rule == "rceil":
            at &= ~above_top(x, name)
        assert at.sum() > 2000
        assert_stored(got, want, at)

    @pytest.mark.parametrize("rule", ["floor", "ceil", "even"])
    @pytest.mark.parametrize("name", ELEMENTS)
    def test_the_least_scale(self, name: str, rule: str, torchao: Torchao) -> None:
        """torchao stores the scale 2^-127 but divides by 2^-126: its values are half of what they should be.

        OCP MX 1.0, 6.3: each element is the value divided by the very scale that is stored.
        """
        x = hard_maxima()
        want, got = microscaled(torchao, x, name, rule), ours(x, name, rule)
        at = got.scales == 0
        assert torch.equal(want.scales[at], got.scales[at])
        elements = lowprec.quantize(x[at].double() * 2.0**126, parse(name).element)
        assert_same_bits(want.values[at].double().numpy(), (elements * 2.0**-127).numpy())
        assert (want.values[at] != got.values[at]).any()
        right = lowprec.quantize(x[at].double() * 2.0**127, parse(name).element) * 2.0**-127
        assert_same_bits(got.values[at].double().numpy(), right.numpy())

    @pytest.mark.parametrize("name", ELEMENTS)
    def test_the_least_scale_under_rceil(self, name: str, torchao: Torchao) -> None:
        """torchao stores the scale 2^-127 but divides by 1: such groups become zeros."""
        x = hard_maxima()
        want, got = microscaled(torchao, x, name, "rceil"), ours(x, name, "rceil")
        at = got.scales == 0
        assert not want.values[at].any()
        top = x[at].abs().amax(1)
        assert got.values[at].any(1)[top > 2.0**-127 * parse(name).smallest_subnormal].all()

    @pytest.mark.parametrize("name", ELEMENTS)
    def test_rceil_just_above_the_largest_value(self, name: str, torchao: Torchao) -> None:
        """torchao takes the ceiling of a float32 logarithm, which for A just above max·2^k is k itself.

        The scale must be the least power of two that leaves A/scale at most max, or the maximum saturates.
        """
        top = parse(name).max
        exponents = [k for k in range(-100, 128) if abs(k) >= 5 and top * 2.0**k < 2.0**127]
        tops = torch.nextafter(torch.tensor([top * 2.0**k for k in exponents]), FAR)
        x = tops[:, None] * PARTS
        want, got = microscaled(torchao, x, name, "rceil"), ours(x, name, "rceil")
        powers = torch.exp2(got.scales.double() - 127)
        assert (tops.double() / powers <= top).all()
        assert (tops.double() / (powers / 2) > top).all()
        assert torch.equal(want.scales.int(), got.scales.int() - 1)

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("name", ELEMENTS)
    def test_zeros(self, name: str, rule: str, torchao: Torchao) -> None:
        """Both give a group of zeros the least scale, and zeros of their signs."""
        x = torch.zeros(2, 32)
        x[1, ::2] = -0.0
        assert_stored(ours(x, name, rule), microscaled(torchao, x, name, rule), torch.ones(2) > 0)

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("name", ELEMENTS)
    def test_a_nan(self, name: str, rule: str, torchao: Torchao) -> None:
        """torchao makes the whole group NaN by its scale; here a NaN touches no other element."""
        x = random_groups()[:1] + 1
        x[0, 7] = math.nan
        want = microscaled(torchao, x, name, rule)
        assert want.scales.tolist() == [255]
        assert want.values.isnan().all()
        format = Scaled(parse(name).element, "e8m0", PerGroup(32), scale_rule=rule)
        got, plain = lowprec.quantize(x, format), lowprec.quantize(x.nan_to_num(0.0), format)
        assert got[0, 7].isnan()
        assert torch.equal(got.nan_to_num(0.0), plain)

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("name", ELEMENTS)
    def test_an_infinity(self, name: str, rule: str, torchao: Torchao) -> None:
        """torchao lets an infinity set the scale, which turns the others to zeros; here finite ones do."""
        x = torch.linspace(-2, 2, 32)[None].clone()
        x[0, 7] = math.inf
        want = microscaled(torchao, x, name, rule)
        assert want.scales >= 127 + 100
        assert not want.values[0, 8:].any()
        format = Scaled(parse(name).element, "e8m0", PerGroup(32), scale_rule=rule)
        got, plain = lowprec.quantize(x, format), lowprec.quantize(x.where(x.isfinite(), 0.0), format)
        assert torch.equal(got[0, 8:], plain[0, 8:])
        assert got[0, 7] >= plain.max()


def spread(seed: int = 1) -> Tensor:
    """Groups whose scales are normal numbers of e4m3fn, under a scale of the tensor that has many bits."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(128, 256, generator=generator) * torch.exp2(
        torch.randint(-4, 3, (128, 1), generator=generator)
    )
    x[0, 0] = 20.1
    return x


def exact(x: Tensor, scales: Tensor) -> Tensor:
    """Quotients by scales of groups of 16, in float64, which tells each from a tie."""
    return x.double() / scales.double().repeat_interleave(16, -1)


class TestNvfp4:
    def test_codes_and_scales(self, torchao: Torchao) -> None:
        x = spread()
        want = nvfp4(torchao, x)
        codes, (scales, outer) = lowprec.encode(x, "nvfp4")
        assert float(outer) == float(torchao.nvfp4.per_tensor_amax_to_scale(x.abs().max()))
        normal = (x.view(128, -1, 16).abs().amax(-1) / (6 * outer)) >= 2.0**-6
        assert normal.float().mean() > 0.9
        assert torch.equal(scales.float()[normal], want.scales[normal])
        assert torch.equal(codes.view(128, -1, 16)[normal], want.codes.view(128, -1, 16)[normal])

    def test_values_are_rounded_once(self, torchao: Torchao) -> None:
        """torchao rounds the product of both scales to float32, and its product with the element again."""
        x = spread()
        want, got = nvfp4(torchao, x), lowprec.quantize(x, "nvfp4")
        codes, (scales, outer) = lowprec.encode(x, "nvfp4")
        elements = lowprec.decode(codes, "e2m1").double()
        wide = scales.double().repeat_interleave(16, -1)
        assert torch.equal(got, (elements * wide * outer.double()).float())
        same = (scales.float() == want.scales).repeat_interleave(16, -1)
        twice = (elements * (wide * outer.double()).float()).float()
        assert torch.equal(want.values[same], twice[same])
        assert 0.01 < float((want.values != got)[same].float().mean()) < 0.5
        assert torch.allclose(want.values[same], got[same], rtol=2.0**-22, atol=0)

    @pytest.mark.parametrize("levels", [1, 2])
    def test_subnormal_scales(self, levels: int, torchao: Torchao) -> None:
        """torchao clamps scales to 2^-6, the least normal one; e4m3fn has more, down to 2^-9."""
        wanted = torch.tensor([1.0, *(2.0**-9 * n for n in (0.25, 1, 2, 3, 4, 5, 6, 7, 8, 9))])
        x = 6 * wanted[:, None] * torch.tensor([1.0, -0.7, *[0.3] * 14])
        x[0, 0] = 2688.0 if levels == 2 else 6.0  # the scale of the tensor is 1
        want = nvfp4(torchao, x, levels=levels)
        scales = lowprec.scales(x, "nvfp4" if levels == 2 else ONE_LEVEL)
        scales = (scales[0] if levels == 2 else scales).float().flatten()
        assert torch.equal(scales[1:], wanted[1:].clamp(min=2.0**-9))
        assert torch.equal(want.scales.flatten(), scales.clamp(min=2.0**-6))

    def test_scales_are_exact_quotients(self, torchao: Torchao) -> None:
        """torchao rounds A / 6, and that over the scale of the tensor, to float32 first: ties are made."""
        lower = torch.arange(8, 126, dtype=torch.uint8)
        lower, upper = (codes.view(torch.float8_e4m3fn).double() for codes in (lower, lower + 1))
        differ = 0
        for top in (50.6256, 77.8223, 89.2348):
            outer = torch.tensor(top) / 2688
            middle = (6 * outer.double() * (lower + upper) / 2).float()
            near = [middle, torch.nextafter(middle, ZERO), torch.nextafter(middle, FAR)]
            x = torch.zeros(3 * len(middle) + 1, 16)
            x[:-1, 0], x[-1, 0] = torch.cat(near), top
            want = nvfp4(torchao, x).scales.flatten()[:-1]
            scales, of_tensor = lowprec.scales(x, "nvfp4")
            got = scales.float().flatten()[:-1]
            assert float(of_tensor) == float(outer)
            for a, ours_, low, high in zip(
                x[:-1, 0].tolist(),
                got.tolist(),
                lower.repeat(3).tolist(),
                upper.repeat(3).tolist(),
                strict=True,
            ):
                quotient = Fraction(a) / (6 * Fraction(float(outer)))
                tie = (Fraction(low) + Fraction(high)) / 2
                assert quotient != tie
                assert ours_ == (low if quotient < tie else high)
            differ += int((want != got).sum())
        assert differ > 0

    @pytest.mark.parametrize("levels", [1, 2])
    def test_elements_are_exact_quotients(self, levels: int, torchao: Torchao) -> None:
        """torchao multiplies by the rounded inverse of the scale: what lies next to a tie goes astray."""
        ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=torch.float64)
        scales = torch.arange(8, 126, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
        outer = (
            (torch.tensor(77.8223) / 2688).double() if levels == 2 else torch.ones((), dtype=torch.float64)
        )
        middle = (ties * (scales * outer)[:, None]).float()
        near = torch.cat([middle, torch.nextafter(middle, ZERO), torch.nextafter(middle, FAR)], 1)
        x = torch.cat([(6 * scales * outer).float()[:, None], near[:, :15]], 1)
        x = torch.cat([x, torch.cat([(6 * scales * outer).float()[:, None], near[:, 6:]], 1)])
        x = torch.cat([x, torch.zeros(1, 16)])
        x[-1, 0] = 77.8223 if levels == 2 else 6.0
        want = nvfp4(torchao, x, levels=levels)
        codes, of_groups = lowprec.encode(x, "nvfp4" if levels == 2 else ONE_LEVEL)
        inner, of_tensor = of_groups if levels == 2 else (of_groups, torch.ones(()))
        product = inner.double() * of_tensor.double()
        right = lowprec.encode(exact(x, product), "e2m1")
        assert torch.equal(codes, right)
        same = (inner.float() == want.scales).repeat_interleave(16, -1)
        assert (want.codes != codes)[same].any()

    def test_a_tensor_of_zeros(self, torchao: Torchao) -> None:
        """torchao divides by a scale of zero and gives NaN; here the scale is the least one."""
        x = torch.zeros(2, 16)
        assert nvfp4(torchao, x).values.isnan().all()
        assert_same_bits(lowprec.quantize(x, "nvfp4").numpy(), x.numpy())

    def test_a_tensor_of_tiny_numbers(self, torchao: Torchao) -> None:
        """The inverse of torchao's scale is infinite: all become the largest of their groups."""
        x = torch.linspace(0.1, 1, 32).view(2, 16) * 1e-38
        want, got = nvfp4(torchao, x), lowprec.quantize(x, "nvfp4")
        assert (want.codes == 7).all()
        assert torch.allclose(got, x, rtol=0.2, atol=0)

    def test_a_nan_and_an_infinity(self, torchao: Torchao) -> None:
        """In torchao they set the scale of the tensor, and nothing is left; here they touch no other."""
        x = spread()
        for special in (math.nan, math.inf):
            y = x.clone()
            y[3, 5] = special
            assert nvfp4(torchao, y).values.isnan()[3].all()
            got, plain = lowprec.quantize(y, "nvfp4"), lowprec.quantize(y.where(y.isfinite(), 0.0), "nvfp4")
            others = y.isfinite()
            assert torch.equal(got[others], plain[others])


def test_one_level_is_equal_on_scales_that_are_normal(torchao: Torchao) -> None:
    """The product of an element and one scale is exact, so values are equal too."""
    x = spread()
    want, got = nvfp4(torchao, x, levels=1), lowprec.quantize(x, ONE_LEVEL)
    normal = (x.view(128, -1, 16).abs().amax(-1) / 6 >= 2.0**-6).repeat_interleave(16, -1)
    assert normal.float().mean() > 0.9
    assert_same_bits(np.asarray(got[normal]), np.asarray(want.values[normal]))
