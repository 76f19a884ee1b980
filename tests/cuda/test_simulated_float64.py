"""Products of float64 operands of which nothing else is known, run by Numba's simulator: the CPU's bits."""

import pytest
import torch
from simulator import same_bits, simulated

from lowprec import Arithmetic
from lowprec.ops.products import make_sums

pytestmark = simulated


def multiplied(a, b, arithmetic: Arithmetic, *, bias=None, seed=None, stream=0, formats=None) -> torch.Tensor:
    """What the operator does on a CUDA tensor, here with what lies on the CPU."""
    from lowprec.ops.cuda.products import product

    return product(a, b, bias, seed, arithmetic, stream, 1, formats)


WIDE = [
    Arithmetic("e4m3fn"),
    Arithmetic("binary32", order="pairwise", rounding="stochastic"),
    Arithmetic("bfloat16", compensation="kahan", chunk=5, chunk_accumulate="e9m30ieee"),
    Arithmetic("fixed12f6<wrap>", rounding="toward_zero"),
    Arithmetic("exact"),
    Arithmetic("exact", chunk=4, chunk_accumulate="e6m9ieee", multiply="e8m23ieee"),
]


@pytest.mark.parametrize("arithmetic", WIDE, ids=lambda a: a.describe())
def test_float64_of_few_bits(arithmetic: Arithmetic) -> None:
    """Numbers of 26 bits from one end of binary32's range to the other; a bias of any number of bits."""
    generator = torch.Generator().manual_seed(8)
    a, b = (
        torch.randint(1 << 25, 1 << 26, (1, *shape), generator=generator).double()
        for shape in ((3, 9), (9, 4))
    )
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    a, b = a * -(2.0**-29), b * torch.tensor([2.0**-24, -(2.0**-26), 2.0**-30, 2.0**-52])
    if "wrap" in str(arithmetic.final):  # whose every bit counts
        bias = bias.float().double()
    else:
        a[0, 0, :3] = torch.tensor([2.0**-151, (2.0**26 - 1) * 2.0**102, torch.nan])
        b[0, :3, 0] = torch.tensor([(2.0**26 - 1) * 2.0**102, -(2.0**-149), torch.inf])
    seed = torch.tensor([11])
    want = torch.ops.lowprec.product(a, b, bias, seed, make_sums(arithmetic).key, 3)
    got = multiplied(a, b, arithmetic, bias=bias, seed=seed, stream=3, formats=["posit8"])
    assert same_bits(got, want)


ONE = torch.ones(1, 1, 1, dtype=torch.float64)


@pytest.mark.parametrize("wrong", [1 + 2.0**-26, 2.0**128, 2.0**-152, -0.1])
def test_float64_of_more_bits_is_refused(wrong: float) -> None:
    """Whichever operand has it; all are looked at."""
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    x[0, 1, 2] = wrong
    for a, b in ((x, torch.ones_like(x).mT), (torch.ones_like(x), x.mT)):
        for formats in (None, ["e4m3fn", "mxfp4"], ["binary64"]):
            with pytest.raises(
                ValueError, match="`input` must be values of e8m25ieee where products or sums"
            ):
                multiplied(a, b, WIDE[0], formats=formats)
        multiplied(a, b, WIDE[0], formats=["e4m3fn"])  # the caller knows better


@pytest.mark.parametrize("wrong", [2.0**512, 2.0**-511 * (1 + 2.0**-52)])
def test_a_bias_of_float64_may_not_be_all_of_it(wrong: float) -> None:
    with pytest.raises(ValueError, match="`bias` must be values of e10m52ieee where products or sums"):
        multiplied(ONE, ONE, WIDE[0], bias=torch.tensor([wrong], dtype=torch.float64))
