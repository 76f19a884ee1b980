"""The CUDA kernel that counts overflows of sums, compiled for devices that are not there."""

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import CAPABILITIES, check_kernel, compiled

from lowprec import Arithmetic
from lowprec.kernels.operands import Measure
from lowprec.kernels.overflows import plan_of

pytestmark = compiled


def constants_of(arithmetic: Arithmetic, carrier: str) -> tuple[object, ...]:
    """What ``overflows.firing`` is called with."""
    ones = Measure(0, 0, 1)
    plan = plan_of(arithmetic, ones, ones, 1, 8)
    families = [None if each is None else each.family for each in plan[:3]]
    return *families, carrier, carrier, plan.pairwise


DRAWN = Arithmetic(
    "fixed7f2<wrap>",
    rounding="stochastic",
    multiply="e2m1",
    chunk=5,
    chunk_accumulate="e6m9ieee",
    order="pairwise",
)
TWINS = {"firing": [constants_of(DRAWN, "bfloat16"), constants_of(Arithmetic("fixed8f4"), "float64")]}
EVERYWHERE, *OTHERS = TWINS["firing"]
CASES = [*((EVERYWHERE, one) for one in CAPABILITIES), *((other, CAPABILITIES[2]) for other in OTHERS)]


@pytest.mark.parametrize(("constants", "capability"), CASES, ids=str)
def test_products_are_rounded_before_they_are_added(constants, capability, tmp_path) -> None:
    from lowprec.kernels.cuda import overflows

    twin = overflows.firing(*constants)
    stack = 8 * 64 if constants[-1] else 0
    ptx = check_kernel(twin, capability, tmp_path, registers=128, stack=stack, doubles=True, depth=4)
    assert ptx.count("mul.rn.f64") >= 1
