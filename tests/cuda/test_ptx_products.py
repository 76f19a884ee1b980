"""The CUDA twins of simulated matrix products, compiled for devices that are not there."""

import re
from types import SimpleNamespace

import pytest
from ptx import CAPABILITIES, assemble, assembler, text_of
from ptx_flow import Instruction, blocks_of, inner_loops
from simulator import SIMULATED

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from lowprec import Arithmetic
from lowprec.kernels import exact_sums
from lowprec.kernels.multiply import kind_of, numbers_of_last

pytestmark = [
    pytest.mark.ptx,
    pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing"),
]

# An arithmetic, the carrier of operands and result, what is known of the operands, and the type of sums.
CASES = {
    "drawn": (Arithmetic("bfloat16", rounding="stochastic"), "bfloat16", ("e4m3fn",), "float64"),
    "known operands": (Arithmetic("e6m9ieee"), "float32", ("e4m3fn",), "float32"),
}
FURTHER = {
    "any operands": (Arithmetic("e4m3fn"), "float32", (), "float64"),
    "pairwise": (
        Arithmetic("binary16", order="pairwise", rounding="stochastic", chunk=7), "float32", (), "float64",
    ),
    "Kahan": (Arithmetic("bfloat16", compensation="kahan", multiply="e5m2"), "float32", (), "float64"),
    "wrapped": (Arithmetic("fixed12f6<wrap>"), "float32", (), "float64"),
    "blocks": (Arithmetic("e6m9ieee", chunk="block"), "float32", ("e4m3fn",), "float32"),
}  # fmt: skip
BIASED = {"drawn", "Kahan", "wrapped"}


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a device: numba-cuda asks the driver for one when a function calls another."""
    from numba.cuda import dispatcher

    device = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)


def constants_of(name: str) -> tuple[tuple, dict]:
    """What ``products.multiplying`` is called with for a case."""
    from lowprec.kernels.cuda import multiply
    from lowprec.kernels.cuda.wrapping import NEVER

    arithmetic, carrier, formats, computed = (CASES | FURTHER)[name]
    measure = multiply.measure_of(carrier, formats)
    path, fold = multiply._path(arithmetic, measure, measure, 1 << 20)
    kind, _ = kind_of(arithmetic, path, carrier)
    assert kind.carrier == computed
    last, bias, folds = (
        numbers_of_last(arithmetic).family,
        carrier if name in BIASED else None,
        fold is not NEVER,
    )
    assert folds == (name == "wrapped")
    return (kind, last, carrier, carrier, bias), {"folds_terms": folds, "folds_bias": folds}


def twin_of(name: str):
    """The kernel of a case."""
    from lowprec.kernels.cuda import products

    constants, folding = constants_of(name)
    return products.multiplying(*constants, **folding)


def opcodes(instructions: list[Instruction]) -> list[str]:
    """Their names."""
    return [one.opcode for one in instructions]


def every(text: str) -> list[str]:
    """The names of all instructions."""
    return [code for blocks in blocks_of(text) for block in blocks for code in opcodes(block.instructions)]


def loops_over_k(text: str) -> list[list[str]]:
    """The names of the instructions of innermost loops that read shared memory."""
    found = map(opcodes, inner_loops(text))
    return [codes for codes in found if any(code.startswith("ld.shared") for code in codes)]


def check_text(name: str, text: str) -> None:
    """Roundings stay apart, and the loop over k does nothing slow."""
    codes = every(text)
    # No decision of these kernels asks for a fused multiply-add, and every product names its rounding; so
    # between a product and a sum there is the rounding that the decision puts there.
    assert not [code for code in codes if code.startswith("fma.r")]
    assert {code for code in codes if re.match(r"mul\..*f(32|64)", code)} <= {"mul.rn.f32", "mul.rn.f64"}
    computed = "f64" if (CASES | FURTHER)[name][3] == "float64" else "f32"
    assert f"mul.rn.{computed}" in codes
    assert not [code for code in codes if ".ftz" in code or ".approx" in code]
    loops = loops_over_k(text)
    if name != "pairwise":  # it adds pairs in a loop further inside
        assert loops
    for inside in loops:
        assert not [code for code in inside if re.match(r"(div|rem|call)\b", code)]
        assert not [code for code in inside if "local" in code]
        if computed == "f32" and name != "blocks":  # a block's sum is scaled in binary64
            assert not [code for code in inside if "f64" in code]


def check_sizes(name: str, text: str, capability: tuple[int, int], folder) -> None:
    """Few enough registers for two blocks of 256 threads at least, in memory of their own."""
    if assembler() is None:
        pytest.skip("needs ptxas, of nvidia-cuda-nvcc")
    made = assemble(text, capability, folder)
    assert made.registers <= 96
    assert made.spilled == 0
    assert made.stack == (512 if name == "pairwise" else 0)  # LEVELS sums of binary64


@pytest.mark.parametrize("name", CASES)
def test_every_capability_has_the_kernel(name: str, tmp_path) -> None:
    twin = twin_of(name)
    for capability in CAPABILITIES:
        text = text_of(twin, capability)
        check_text(name, text)
        check_sizes(name, text, capability, tmp_path)


@pytest.mark.parametrize("name", FURTHER)
def test_further_orders_have_one(name: str, tmp_path) -> None:
    text = text_of(twin_of(name))
    check_text(name, text)
    check_sizes(name, text, CAPABILITIES[1], tmp_path)


def constants_of_exact() -> tuple:
    """What ``quire.summing`` is called with."""
    kind, *_ = exact_sums.kind_of(Arithmetic("exact"), "float32")
    return kind, kind.step, "float32", "float32", "float32", 24


def test_exact_sums_have_one(tmp_path) -> None:
    """A thread's limbs are all that it has in memory of its own."""
    from lowprec.kernels.cuda import quire

    text = text_of(quire.summing(*constants_of_exact()))
    codes = every(text)
    assert not [code for code in codes if code.startswith("fma.r")]
    assert {code for code in codes if re.match(r"mul\..*f(32|64)", code)} == {"mul.rn.f64"}
    if assembler() is None:
        pytest.skip("needs ptxas, of nvidia-cuda-nvcc")
    made = assemble(text, CAPABILITIES[1], tmp_path)
    assert made.registers <= 96
    assert (made.stack, made.spilled) == (24 * 8, 0)


TWINS = {
    "multiplying": [constants_of(name)[0] for name in CASES | FURTHER],
    "quire.summing": [constants_of_exact()],
}
"""Constants for each function of products.py and quire.py that makes kernels."""
