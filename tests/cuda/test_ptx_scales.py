"""Kernels of groups and of their scales as PTX: the cases of each function that makes one."""

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import CAPABILITIES, check_kernel, compiled
from twins import made_by

from lowprec.formats import resolve
from lowprec.kernels.blocks import INTEGERS, QUOTIENTS
from lowprec.kernels.cpu import CODES, VALUES
from lowprec.kernels.groups import BOTH, POSITIVE
from lowprec.kernels.numbers import MODES, describe_block, describe_quotients, describe_scale
from lowprec.modes import Rounding

pytestmark = compiled


def rounding(format: str, mode: str, carrier: str, kind=VALUES, code="uint32", state="") -> tuple:
    """What ``groups.quantize`` makes its kernel for."""
    parsed, wanted = resolve(format), Rounding(mode)
    if getattr(parsed, "levels", ()):
        _, family = describe_quotients(parsed, wanted, 32)
    else:
        _, family = describe_block(parsed, wanted, 32, carrier)
    return carrier, MODES[wanted], kind, code, True, family, state, 1


def powers(arithmetic: int) -> tuple:
    """What ``scales.make_powers`` makes its kernel for."""
    _, family = describe_block(resolve("mxfp4"), Rounding.NEAREST_EVEN, 32, "float32")
    return "float32", family._replace(arithmetic=arithmetic)


TWINS = {
    "groups.rounding": [
        rounding("bfp8<group32>", "nearest_even", "float32"),
        rounding("mxfp8_e4m3", "stochastic", "bfloat16", state="uint32"),
        rounding("mxfp4", "toward_zero", "float32", CODES, "uint8", "uint8"),
        rounding("nvfp4", "nearest_even", "float32", state="uint64"),
    ],
    "groups.collecting": [("float32", "uint32", BOTH, 1), ("float64", "uint64", POSITIVE, 1)],
    "scales.powers": [powers(INTEGERS), powers(QUOTIENTS)],
    "scales.quotients": [("float32", *describe_scale(resolve("nvfp4").levels[0])[1:])],
    "scales.affine": [("bfloat16",)],
}
"""Constants for each function that makes a kernel."""
EVERY = [(name, constants) for name, table in TWINS.items() for constants in table]


@pytest.mark.parametrize("turn", range(len(EVERY)))
def test_every_kernel_compiles_and_is_assembled(turn: int, tmp_path) -> None:
    name, constants = EVERY[turn]
    kind = constants[5].arithmetic if name == "groups.rounding" else INTEGERS
    quotients = kind == QUOTIENTS or name in ("scales.quotients", "scales.affine")  # in binary64, exact
    check_kernel(
        made_by(name, constants), CAPABILITIES[turn % 4], tmp_path, registers=96,
        doubles=quotients or "float64" in constants or name == "scales.powers", fused=quotients,
        exact=quotients,  # as quotients.py says: an element times its scale
        depth=3 if name.startswith("groups.") else 1,  # runs, their groups, elements
    )  # fmt: skip
