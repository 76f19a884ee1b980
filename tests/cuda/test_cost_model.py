"""The numbers of docs/concepts/cuda.md are those that the PTX gives."""

import re
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from cost_model import Cost, cost_of, weight
from numba import cuda, types
from ptx import assemble, assembler, compiled, named_device, text_of
from ptx_flow import blocks_of

from lowprec.formats import resolve
from lowprec.kernels.cpu import VALUES
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.philox import words_of
from lowprec.modes import Rounding

pytestmark = [*compiled, pytest.mark.skipif(assembler() is None, reason="needs ptxas")]
PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "cuda.md"
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
CASES = [(carrier, mode) for carrier in SIZES for mode in ("nearest_even", "stochastic")]


def line(carrier: str, mode: str, cost: Cost) -> str:
    """The line of the page's table."""
    numbers = f"{cost.bytes} | {cost.instructions:.0f} | {cost.loads} | {cost.threads}"
    return f"| {carrier} | {mode} | {numbers} | {cost.issued:.2f} | {cost.waited:.2f} | {cost.fraction:.2f} |"


@pytest.mark.parametrize(("carrier", "mode"), CASES)
def test_the_page_says_what_the_ptx_gives(carrier: str, mode: str, tmp_path) -> None:
    from lowprec.kernels.cuda.elementwise import quantizing

    _, depth, ending = describe(resolve("e4m3fn"), Rounding(mode), 32, carrier)
    ptx = text_of(quantizing(carrier, MODES[Rounding(mode)], depth, ending, VALUES, True, 1), (9, 0))
    expected = line(carrier, mode, cost_of(ptx, assemble(ptx, (9, 0), tmp_path), SIZES[carrier]))
    (found,) = re.findall(rf"^\| {carrier} \| {mode} \|.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == expected


def random_word() -> float:
    """The instructions of a random word, of which a counter gives four."""
    with named_device():
        ptx, _ = cuda.compile_ptx(words_of.py_func, (types.uint64,) * 3, device=True, cc=(9, 0))
    every = [one for blocks in blocks_of(ptx) for block in blocks for one in block.instructions]
    return sum(weight(one) for one in every if not re.match(r"(ld|st)\.param|ret", one.opcode)) / 4


def test_the_page_says_what_a_random_word_costs() -> None:
    assert f"a random word takes {random_word():.0f} instructions" in PAGE.read_text(encoding="utf-8")
