"""Scaled formats of every kind, tensors that are hard for them, and scales as numbers."""

import math

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from oracle import SEED, as_array, assert_same, expected, reference_options
from torch import Tensor

import lowprec
from lowprec import reference
from lowprec.formats import parse
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.modes import Rounding

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


NESTED = "scaled<e2m1,scaled<e4m3fn,float32,amax>,amax>"


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
    if parse(format).missing_in(RANGES[str(x.dtype)[6:]]):
        with pytest.raises(ValueError, match="be exact in the carrier"):
            lowprec.quantize(x, format)
        return
    noise = seed_for(rounding) | ({"random_bits": random_bits} if random_bits else {})
    got = lowprec.quantize(x, format, rounding=rounding, **noise)
    assert_same(got, expected(x, format, rounding, random_bits))


def given(x: Tensor, format: str, scale: object, rounding: str) -> tuple[Tensor, Tensor]:
    """What the kernel and what the definition make of numbers over given scales."""
    got = lowprec.quantize(x, format, rounding=rounding, scale=of_torch(scale), **seed_for(rounding))
    want = reference.quantize(as_array(x), format, scale=scale, **reference_options(x, rounding))
    return got, torch.from_numpy(want).to(x.dtype)
