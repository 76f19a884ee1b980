"""The CUDA twin of single operations as PTX: compiled, looked at and assembled without a device."""

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import CAPABILITIES, check_kernel, compiled
from twins import made_by

from lowprec import Rounding
from lowprec.formats import resolve
from lowprec.kernels.exact import ADD, DIVIDE, FUSE, MULTIPLY, ROOT
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.operate import is_quick
from lowprec.kernels.specialize import compiled_mode

pytestmark = compiled


def constants(operation: int, carrier: str, format: str, mode: str, bits: int = 32) -> tuple:
    """What ``elementary.operate`` makes its kernel for."""
    parsed, rounding = resolve(format), Rounding(mode)
    _, depth, ending = describe(parsed, rounding, bits, "float64")
    wanted = compiled_mode(MODES[rounding], depth, flags=False)
    return operation, carrier, wanted, depth, ending, bits == 32, is_quick(parsed, rounding, bits)


TWINS = {
    "operating": [
        constants(FUSE, "float64", "e4m3fn", "stochastic"),
        constants(ADD, "float32", "e4m3fn", "nearest_even"),
        constants(MULTIPLY, "bfloat16", "e5m2<saturate>", "down"),
        constants(DIVIDE, "float64", "posit8", "nearest_even"),
        constants(ROOT, "float16", "normalfloat4", "toward_zero"),
        constants(MULTIPLY, "float64", "e4m3fn", "stochastic", 5),
        constants(FUSE, "float32", "binary32", "stochastic"),
        constants(DIVIDE, "float32", "fixed8f4<wrap>", "nearest_even"),
        constants(ROOT, "float64", "binary64", "to_odd"),
        constants(FUSE, "float32", "e4m3fn", "nearest_even"),
    ]
}
"""Constants for each function of elementary.py that makes a kernel."""
EVERY = TWINS["operating"]


@pytest.mark.parametrize("turn", range(len(EVERY)))
def test_every_kernel_compiles_and_is_assembled(turn: int, tmp_path) -> None:
    check_kernel(
        made_by("elementary.operating", EVERY[turn]), CAPABILITIES[turn % 4], tmp_path, registers=128,
        doubles=True, fused=True, depth=1,
    )  # fmt: skip
