"""Products in blocks by their CUDA twin, run by Numba's simulator: the CPU's bits."""

import pytest
import torch
from simulator import same_bits, simulated
from waiting import NeverWaits

from lowprec import Arithmetic
from lowprec.formats import resolve
from lowprec.ops.blocks import Blocks, element_of
from lowprec.ops.products import make_sums

pytestmark = simulated

BINARY32 = Arithmetic("binary32", chunk="block")
DRAWN = {"rounding": "stochastic", "random_bits": 16, "chunk_accumulate": "e8m20ieee"}
CASES = {
    "MX": ("mxfp8_e4m3", 32, Arithmetic("bfloat16", chunk="block", chunk_accumulate="binary32")),
    "NVFP4": ("nvfp4", 16, BINARY32),
    "drawn": ("scaled<e2m1,e4m3fn,group8>", 8, Arithmetic("bfloat16", chunk="block", **DRAWN)),
    "block floating point": ("bfp8<group16>", 16, BINARY32),
}


def along(format: str, axis: int) -> str:
    """The format with groups along an axis."""
    return str(resolve(format).along(axis))


def operands(format: str, dtype: torch.dtype):
    """Two batches of matrices in groups along their contraction, and what blocks.py says of them."""
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(2, 3, 40, generator=generator).to(dtype)
    b = (torch.randn(2, 40, 4, generator=generator) * 50).to(dtype)
    if not format.startswith("bfp"):  # which has no code for NaN
        a[0, 0, 3], b[0, 2, 1] = torch.nan, torch.inf
    a[1, 1] = 0
    rounded, scales, elements = [], [], []
    for x, axis in ((a, 2), (b, 1)):
        name = along(format, axis)
        rounded.append(torch.ops.lowprec.quantize(x, None, name, "nearest_even", 32))
        scales.append(torch.ops.lowprec.block_scales(x, name, axis))
        elements.append(element_of(name))
    (of_a, tensor_a), (of_b, tensor_b) = scales
    return *rounded, elements, [of_a, of_b, tensor_a, tensor_b]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_blocks_give_the_bits_of_the_cpu(name: str, dtype: torch.dtype) -> None:
    from lowprec.ops.cuda.products import product

    format, size, arithmetic = CASES[name]
    a, b, elements, scales = operands(format, dtype)
    bias, seed = b[0, 0], torch.tensor([11])
    key = make_sums(arithmetic).key
    want = torch.ops.lowprec.product(a, b, bias, seed, key, 5, 1, "", size, elements, scales)
    with NeverWaits():
        got = product(a, b, bias, seed, arithmetic, 5, 1, None, Blocks(size, elements, scales))
    assert same_bits(got, want)


@pytest.mark.parametrize("name", ["MX", "NVFP4", "block floating point"])
def test_scales_are_found_as_on_the_cpu(name: str) -> None:
    """Between the operators that take groups' scales there is only what moves them."""
    from lowprec.ops.cuda.products import block_scales

    for axis, shape in ((2, (2, 3, 40)), (1, (2, 40, 4))):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(6))
        format = along(CASES[name][0], axis)
        with NeverWaits():
            scales = block_scales(x, format, axis)
        for got, want in zip(scales, torch.ops.lowprec.block_scales(x, format, axis), strict=True):
            assert same_bits(got, want)


@pytest.mark.parametrize("name", ["MX", "NVFP4", "block floating point"])
def test_float64_in_blocks(name: str) -> None:
    from lowprec.ops.cuda.products import product

    format, size, arithmetic = CASES[name]
    a, b, elements, scales = operands(format, torch.float64)
    want = torch.ops.lowprec.product(
        a, b, None, None, make_sums(arithmetic).key, 0, 1, "", size, elements, scales
    )
    blocks = Blocks(size, elements, scales)
    assert same_bits(product(a, b, None, None, arithmetic, 0, 1, None, blocks), want)
    scales[1][0, 1, 2] = 2.0**128
    with pytest.raises(ValueError, match="`input` must have groups whose scales lie between"):
        product(a, b, None, None, arithmetic, 0, 1, None, blocks)


def test_numbers_that_are_no_elements_over_scales_are_refused() -> None:
    from lowprec.ops.cuda.products import product

    format, size, arithmetic = CASES["MX"]
    a, b, elements, scales = operands(format, torch.float64)
    for x in (a, b):
        kept = x[1, 0, 0].item()
        x[1, 0, 0] = 1 / 3
        with pytest.raises(ValueError, match="`input` must be values of e9m23ieee where products or sums"):
            product(a, b, None, None, arithmetic, 0, 1, None, Blocks(size, elements, scales))
        x[1, 0, 0] = kept
