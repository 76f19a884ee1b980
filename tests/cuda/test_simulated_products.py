"""The CUDA twins of simulated matrix products, run by Numba's simulator: the CPU's bits."""

import numpy as np
import pytest
import torch
from product_cases import hard, raw
from simulator import queue, same_bits, simulated

from lowprec import Arithmetic
from lowprec.ops.products import make_sums, _operand

pytestmark = simulated


def twin(a, b, arithmetic, *, bias=None, bias_step=1, seed=7, stream=0, grid=(3, (5, 2)), formats=("", "", "")):
    """What the CUDA twin makes of a product."""
    from lowprec.kernels.cuda.multiply import multiply

    out = torch.full((a.shape[0], a.shape[1], b.shape[2]), torch.nan, dtype=a.dtype)
    noise = torch.tensor([seed])
    row = None if bias is None else _operand(bias.expand(1, 1, -1))
    multiply(queue(grid), _operand(a), _operand(b), out.data_ptr(), str(a.dtype).removeprefix("torch."), arithmetic, bias=row, bias_step=bias_step, noise=(noise.data_ptr(), stream), formats=formats)
    return out


def of_cpu(a, b, arithmetic, *, bias=None, bias_step=1, seed=7, stream=0):
    """What the CPU kernel makes of it."""
    return torch.ops.lowprec.product(a, b, bias, torch.tensor([seed]), make_sums(arithmetic).key, stream, bias_step)


def check(a, b, arithmetic, **options):
    """Both agree."""
    own = {name: options.pop(name) for name in ("grid", "formats") if name in options}
    assert same_bits(twin(a, b, arithmetic, **own, **options), of_cpu(a, b, arithmetic, **options)), arithmetic.describe()

def test_try():
    rng = np.random.default_rng(0)
    import time
    for ar in (Arithmetic("e4m3fn"), Arithmetic("bfloat16", chunk=5), Arithmetic("binary16", order="pairwise"), Arithmetic("binary16", rounding="stochastic", order="pairwise", chunk=7),Arithmetic("bfloat16", compensation="kahan"),Arithmetic("binary32", rounding="stochastic", compensation="kahan"), Arithmetic("e5m2", rounding="stochastic", multiply="e4m3fn")):
        a, b = torch.from_numpy(raw(rng, 2, 3, 13)), torch.from_numpy(raw(rng, 2, 13, 5))
        t=time.time()
        c=of_cpu(a,b,ar, bias=b[0,0]); t1=time.time(); 
        check(a, b, ar, bias=b[0,0]); print(ar.describe(), t1-t, time.time()-t1)
