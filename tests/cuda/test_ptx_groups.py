"""Kernels of formats with groups, and of their scales, compiled for devices that are not there."""

import re
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import CAPABILITIES, check_kernel, compiled, text_of
from ptx_flow import inner_loops
from twins import made_by

from lowprec.formats import resolve
from lowprec.kernels.blocks import INTEGERS, QUOTIENTS
from lowprec.kernels.cpu import CODES, DECODED, FLAGS, VALUES
from lowprec.kernels.groups import BOTH, POSITIVE
from lowprec.kernels.numbers import MODES, describe_block, describe_quotients, describe_scale
from lowprec.kernels.philox import MULTIPLIERS
from lowprec.modes import Rounding

pytestmark = compiled
MOST_REGISTERS = 88
"""So that a multiprocessor holds two blocks of 256 threads at least."""
Case = tuple[str, tuple]


def elements(
    format: str, rounding: str, carrier: str, kind: int = VALUES, code: str = "uint32", state: str = ""
) -> Case:
    """What ``groups.quantize`` makes the kernel for that writes elements."""
    parsed, mode = resolve(format), Rounding(rounding)
    if getattr(parsed, "levels", ()):
        _, family = describe_quotients(parsed, mode, 32)
    else:
        _, family = describe_block(parsed, mode, 32, carrier)
    return "groups.rounding", (carrier, MODES[mode], kind, code, True, family, state, 1)


def powers(arithmetic: int) -> Case:
    """What ``scales.make_powers`` makes its kernel for."""
    _, family = describe_block(resolve("mxfp4"), Rounding.NEAREST_EVEN, 32, "float32")
    return "scales.powers", ("float32", family._replace(arithmetic=arithmetic))


def quotients(carrier: str) -> Case:
    """What makes scales of e4m3fn."""
    _, depth, ending = describe_scale(resolve("nvfp4").levels[0])
    return "scales.quotients", (carrier, depth, ending)


INTEGER: dict[str, Case] = {
    "maxima": ("groups.collecting", ("float32", "uint32", BOTH, 1)),
    "maxima of float64 in four dimensions": ("groups.collecting", ("float64", "uint64", POSITIVE, 4)),
    "mxfp4": elements("mxfp4", "nearest_even", "float32"),
    "mxfp8 by words": elements("mxfp8_e4m3", "stochastic", "bfloat16", state="uint32"),
    "flags": elements("bfp8<group32>", "toward_zero", "float16", FLAGS),
    "codes": elements("mxfp4", "nearest_even", "float32", CODES, "uint8", "uint8"),
    "values of codes": elements("mxfp4", "nearest_even", "float32", DECODED, "uint8", "uint8"),
    "powers of two": powers(INTEGERS),
    "powers of two in binary64": powers(QUOTIENTS),
}
DIVIDING: dict[str, Case] = {
    "nvfp4": elements("nvfp4", "nearest_even", "float32", state="uint64"),
    "nvfp4 by words": elements("nvfp4", "stochastic", "float32", state="uint64"),
    "codes over zero points": elements("uint8", "to_odd", "float32", CODES, "uint8", "uint64"),
    "nf4 in float64": elements("nf4", "nearest_even", "float64", state="uint64"),
    "scales": quotients("float32"),
    "zero points": ("scales.affine", ("bfloat16",)),
}
EXACT_CONVERSIONS = {"cvt.rn.f32.u32", "cvt.rn.f32.s32", "cvt.rn.f64.u64", "cvt.rn.f64.s64"}
"""An integer as a float shows its leading bit."""
EXACT = {"nvfp4 by words", "nf4 in float64", "scales", "zero points"}
"""Whose quotients are needed to more bits than the hardware's rounding has."""
TWINS: dict[str, list[tuple]] = {}
"""Constants for each function of groups.py and scales.py that makes a kernel."""
for _function, _constants in (INTEGER | DIVIDING).values():
    TWINS.setdefault(_function, []).append(_constants)


def floats(used: list[str]) -> set[str]:
    """The instructions on floating-point numbers."""
    return {i for i in used if re.search(r"\.f(16|32|64)", i)}


def check(name: str, capability: tuple[int, int], folder: Path) -> list[str]:
    """It compiles, and is assembled without spills; the names of its instructions, in their order."""
    function, constants = (INTEGER | DIVIDING)[name]
    divides = name in DIVIDING  # in binary64; of an exact quotient's rest an element times its scale is exact
    doubles = divides or "float64" in constants or function == "scales.powers"
    ptx = check_kernel(
        made_by(function, constants), capability, folder, registers=MOST_REGISTERS, doubles=doubles,
        fused=divides, exact=divides,
        depth=3 if function.startswith("groups.") else 1,  # runs, their groups, elements
    )  # fmt: skip
    return re.findall(r"^\t(?:@!?%\w+ )?([a-z][\w.]*)\s", ptx, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in INTEGER if name != "mxfp4"])
def test_powers_of_two_need_only_integers(name: str, tmp_path: Path) -> None:
    used = check(name, CAPABILITIES[list(INTEGER).index(name) % len(CAPABILITIES)], tmp_path)
    assert floats(used) <= EXACT_CONVERSIONS


@pytest.mark.parametrize("name", DIVIDING)
def test_quotients_are_rounded_once(name: str, tmp_path: Path) -> None:
    """What is left of an exact quotient is the only product that a sum is fused with."""
    used = check(name, CAPABILITIES[list(DIVIDING).index(name) % len(CAPABILITIES)], tmp_path)
    divisions, fused = used.count("div.rn.f64"), sum(i.startswith("fma") for i in used)
    assert divisions > 0
    assert fused == (divisions if name in EXACT else 0)
    assert not any(i.startswith("rcp") for i in used)


def test_words_of_small_groups_are_drawn_outside_of_the_loop_over_elements() -> None:
    """One call of Philox is for four elements, which another loop writes."""
    loops = inner_loops(text_of(made_by(*INTEGER["mxfp8 by words"])))
    texts = ["\n".join(map(str, loop)) for loop in loops]
    names = str(MULTIPLIERS[0] - 2**32), "st.global", "st.shared", "ld.shared"
    found = [tuple(name in text for name in names) for text in texts]
    assert (True, False, True, False) in found
    assert (False, True, False, True) in found


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_capability(capability: tuple[int, int], tmp_path: Path) -> None:
    used = check("mxfp4", capability, tmp_path)
    assert sum(i.startswith("shfl.sync") for i in used) > 0
    assert floats(used) <= EXACT_CONVERSIONS
