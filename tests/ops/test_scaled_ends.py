"""Groups whose scales lie at the ends of what there is, beside others that take the fast way."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import lowprec
from lowprec import reference

INF = math.inf


def quantized(x: torch.Tensor, format: str, *, flushed: bool, **options: Any) -> np.ndarray:
    """What kernels give where the hardware takes subnormals for what they are, or for zeros."""
    if not torch.set_flush_denormal(flushed):
        pytest.skip("this processor does not flush subnormals")
    try:
        return lowprec.quantize(x, format, **options).numpy()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    "format",
    ["scaled<e4m3fn,e8m0,group2@0>", "bfp8<group2@0>", "scaled<e4m3fn,float32,channel1,amax>",
     "scaled<e5m2,float32,group2@0,amax>", "scaled<e2m1,scaled<e4m3fn,float32,amax>,group2@0,amax>"],
)  # fmt: skip
@pytest.mark.parametrize("rounding", ["nearest_even", "up", "stochastic"])
@pytest.mark.parametrize("flushed", [False, True], ids=["subnormals", "flushed"])
def test_groups_without_a_finite_number_beside_others(format: str, rounding: str, flushed: bool) -> None:
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    x[:, 3], x[0, 3] = 0, INF  # nothing but an infinity: over the least scale that there is
    x[:2, 7] = torch.tensor([0.0, -INF])
    x[2:, 5] = 0
    x[2:, 9] = torch.tensor([-0.0, math.nan])
    noise, words = {}, {}
    if rounding == "stochastic":
        noise, words = {"seed": 3}, {"words": reference.random_words(3, 0, tuple(x.shape))}
    got = quantized(x, format, flushed=flushed, rounding=rounding, **noise)
    want = reference.quantize(x.numpy(), format, rounding=rounding, **words)
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), np.argwhere(~same)


@pytest.mark.parametrize("exponent", [-149, -140, -130, -126, -100, -61, -59, 59, 61, 100, 120, 127])
@pytest.mark.parametrize("format", ["scaled<e4m3fn,e8m0,group2@0>", "bfp8<group2@0>",
                                    "scaled<e4m3fn,float32,group2@0,amax>"])  # fmt: skip
@pytest.mark.parametrize("flushed", [False, True], ids=["subnormals", "flushed"])
def test_one_group_near_the_ends_beside_others(format: str, exponent: int, flushed: bool) -> None:
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(1))
    column = torch.tensor([1, 0x155555, 0x7, 0], dtype=torch.float64).numpy() * 2.0 ** (exponent - 20)
    x[:, 11] = torch.from_numpy(column.astype(np.float32))
    got = quantized(x, format, flushed=flushed)
    want = reference.quantize(x.numpy(), format)
    same = got.view(np.uint32) == want.view(np.uint32)
    assert same.all(), np.argwhere(~same)
