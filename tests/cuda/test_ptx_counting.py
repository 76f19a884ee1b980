"""The CUDA kernel of count, compiled for devices that are not there."""

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import CAPABILITIES, check_kernel, compiled

pytestmark = compiled
TWINS = {"counting": [("float32", 1), ("bfloat16", 4), ("float64", 1)]}


EVERYWHERE, *OTHERS = TWINS["counting"]
CASES = [*((EVERYWHERE, one) for one in CAPABILITIES), *((other, CAPABILITIES[2]) for other in OTHERS)]


@pytest.mark.parametrize(("constants", "capability"), CASES, ids=str)
def test_squares_are_rounded_before_they_are_added(constants, capability, tmp_path) -> None:
    from lowprec.kernels.cuda import counting

    twin = counting.counting(*constants)
    ptx = check_kernel(twin, capability, tmp_path, registers=96, doubles=True, depth=4)
    assert ptx.count("mul.rn.f64") >= 2
