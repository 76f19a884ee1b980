"""Kernels of formats with groups, compiled for devices that are not there, and assembled."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulator import SIMULATED

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")
if SIMULATED:
    pytest.skip("the simulator has no compiler", allow_module_level=True)

from numba.cuda import dispatcher
from ptx import CAPABILITIES, assemble, assembler, text_of
from ptx_loops import inner_loops

from lowprec.formats import resolve
from lowprec.kernels.blocks import INTEGERS, QUOTIENTS
from lowprec.kernels.cpu import CODES, DECODED, FLAGS, VALUES
from lowprec.kernels.cuda import groups, scales
from lowprec.kernels.groups import BOTH, POSITIVE
from lowprec.kernels.numbers import MODES, describe_block, describe_quotients, describe_scale
from lowprec.kernels.philox import MULTIPLIERS
from lowprec.modes import Rounding

pytestmark = [
    pytest.mark.ptx,
    pytest.mark.skipif(assembler() is None, reason="needs ptxas, which nvidia-cuda-nvcc has"),
]
MOST_REGISTERS = 88
"""So that a multiprocessor holds two blocks of 256 threads at least."""


def elements(
    format: str, rounding: str, carrier: str, kind: int = VALUES, code: str = "uint32", state: str = ""
):
    """The kernel that writes elements."""
    parsed, mode = resolve(format), Rounding(rounding)
    if getattr(parsed, "levels", ()):
        _, family = describe_quotients(parsed, mode, 32)
    else:
        _, family = describe_block(parsed, mode, 32, carrier)
    return groups.rounding(carrier, MODES[mode], kind, code, True, family, state, 1)


def powers(arithmetic: int):
    """The kernel that makes powers of two."""
    _, family = describe_block(resolve("mxfp4"), Rounding.NEAREST_EVEN, 32, "float32")
    return scales.powers("float32", family._replace(arithmetic=arithmetic))


def quotients(carrier: str):
    """The kernel that makes scales of e4m3fn."""
    _, depth, ending = describe_scale(resolve("nvfp4").levels[0])
    return scales.quotients(carrier, depth, ending)


INTEGER: dict[str, Callable[[], object]] = {
    "maxima": lambda: groups.collecting("float32", "uint32", BOTH, 1),
    "maxima of float64 in four dimensions": lambda: groups.collecting("float64", "uint64", POSITIVE, 4),
    "mxfp4": lambda: elements("mxfp4", "nearest_even", "float32"),
    "mxfp8 by words": lambda: elements("mxfp8_e4m3", "stochastic", "bfloat16", state="uint32"),
    "flags": lambda: elements("bfp8<group32>", "toward_zero", "float16", FLAGS),
    "codes": lambda: elements("mxfp4", "nearest_even", "float32", CODES, "uint8", "uint8"),
    "values of codes": lambda: elements("mxfp4", "nearest_even", "float32", DECODED, "uint8", "uint8"),
    "powers of two": lambda: powers(INTEGERS),
    "powers of two in binary64": lambda: powers(QUOTIENTS),
}
DIVIDING: dict[str, Callable[[], object]] = {
    "nvfp4": lambda: elements("nvfp4", "nearest_even", "float32", state="uint64"),
    "nvfp4 by words": lambda: elements("nvfp4", "stochastic", "float32", state="uint64"),
    "codes over zero points": lambda: elements("uint8", "to_odd", "float32", CODES, "uint8", "uint64"),
    "nf4 in float64": lambda: elements("nf4", "nearest_even", "float64", state="uint64"),
    "scales": lambda: quotients("float32"),
    "zero points": lambda: scales.affine("bfloat16"),
}
EXACT_CONVERSIONS = {"cvt.rn.f32.u32", "cvt.rn.f32.s32", "cvt.rn.f64.u64", "cvt.rn.f64.s64"}
"""An integer as a float shows its leading bit."""
EXACT = {"nvfp4 by words", "nf4 in float64", "scales", "zero points"}
"""Whose quotients are needed to more bits than the hardware's rounding has."""


def instructions(ptx: str) -> list[str]:
    """The names of all instructions, in their order."""
    return re.findall(r"^\t(?:@!?%\w+ )?([a-z][\w.]*)\s", ptx, re.MULTILINE)


def floats(used: list[str]) -> set[str]:
    """The instructions on floating-point numbers."""
    return {i for i in used if re.search(r"\.f(16|32|64)", i)}


def check(twin, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """It compiles and is assembled without spills, and no inner loop divides integers of 64 bits."""
    device = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    ptx = text_of(twin, capability)
    made = assemble(ptx, capability, folder)
    assert made.registers <= MOST_REGISTERS
    assert (made.stack, made.spilled) == (0, 0)
    loops = inner_loops(ptx)
    assert loops
    for loop in loops:
        assert not re.search(r"\b(div|rem)\.[su]64", loop)
    return instructions(ptx)


@pytest.mark.parametrize("name", [name for name in INTEGER if name != "mxfp4"])
def test_powers_of_two_need_only_integers(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    capability = CAPABILITIES[list(INTEGER).index(name) % len(CAPABILITIES)]
    used = check(INTEGER[name](), capability, monkeypatch, tmp_path)
    assert floats(used) <= EXACT_CONVERSIONS


@pytest.mark.parametrize("name", DIVIDING)
def test_quotients_are_rounded_once(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is left of an exact quotient is the only product that a sum is fused with."""
    capability = CAPABILITIES[list(DIVIDING).index(name) % len(CAPABILITIES)]
    used = check(DIVIDING[name](), capability, monkeypatch, tmp_path)
    divisions, fused = used.count("div.rn.f64"), sum(i.startswith("fma") for i in used)
    assert divisions > 0
    assert fused == (divisions if name in EXACT else 0)
    assert not any(i.startswith(("div.full", "div.approx", "rcp")) or ".ftz" in i for i in used)


def test_words_of_small_groups_are_drawn_outside_of_the_loop_over_elements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One call of Philox is for four elements, which another loop writes."""
    device = SimpleNamespace(compute_capability=CAPABILITIES[1])
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    loops = inner_loops(text_of(INTEGER["mxfp8 by words"](), CAPABILITIES[1]))
    drawing = [str(MULTIPLIERS[0] - 2**32) in loop for loop in loops]
    writing, keeping, kept = (
        [name in loop for loop in loops] for name in ("st.global", "st.shared", "ld.shared")
    )
    found = list(zip(drawing, writing, keeping, kept, strict=True))
    assert (True, False, True, False) in found
    assert (False, True, False, True) in found


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_capability(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used = check(INTEGER["mxfp4"](), capability, monkeypatch, tmp_path)
    assert sum(i.startswith("shfl.sync") for i in used) > 0
    assert floats(used) <= EXACT_CONVERSIONS
