"""The rounding decisions and the random words compile for CUDA as they are, without a device."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from numba import cuda, from_dtype, int64, types, uint32, uint64
from ptx import named_device

from lowprec.kernels import groups, scalar
from lowprec.kernels.numbers import MODES
from lowprec.kernels.philox import philox, word_at
from lowprec.kernels.specialize import WIDTHS, specialized

pytestmark = pytest.mark.ptx

COMPUTE_CAPABILITY = (8, 0)
EXACT = {"cvt.rn.f32.u32", "cvt.rn.f32.s32", "cvt.rn.f64.u64"}
"""An integer as a float shows its leading bit. Anything else could round, contract or flush."""
ADDED = {"add.f32", "sub.f32", "add.f64", "sub.f64"}
"""The shorter way to nearest even: these round to nearest even, and with no product there is none to fuse."""
DEPTHS = (scalar.ABOVE, scalar.WITHIN, scalar.DEEP, scalar.EITHER)
ENDINGS = (scalar.PLAIN, scalar.CLAMPED, scalar.GENERAL, scalar.WRAPPED)


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    """Name a device for all of them."""
    with named_device(COMPUTE_CAPABILITY):
        yield


def compiled(function: Callable[..., object], *arguments: types.Type) -> tuple[list[str], object]:
    """The instructions of a device function and the type of its result."""
    ptx, result = cuda.compile_ptx(function, arguments, device=True, cc=COMPUTE_CAPABILITY)
    assert f".target sm_{COMPUTE_CAPABILITY[0]}{COMPUTE_CAPABILITY[1]}" in ptx
    return re.findall(r"^\t(?:@!?%\w+ )?([a-z][\w.]*)\s", ptx, re.MULTILINE), result


def on_floats(instructions: list[str]) -> set[str]:
    """The instructions that read or write floating-point numbers."""
    return {i for i in instructions if re.search(r"\.b?f(16|32|64)", i)}


def decisions(carrier: str, mode: int, depth: int, ending: int, *, full: bool = True) -> dict[str, Any]:
    """All decisions for these constants, for the CUDA compiler."""
    return specialized(carrier, mode, depth, ending, full=full, compiler=cuda.jit(device=True))


def pattern_type(carrier: str) -> types.Type:
    """What holds a pattern."""
    return from_dtype(np.dtype(WIDTHS[carrier].unsigned))


def check_decisions(
    carrier: str, mode: int, depth: int, ending: int, *, full: bool, floats: set[str] = EXACT
) -> None:
    """Values and flags need integers only, but for these instructions."""
    made, pattern = decisions(carrier, mode, depth, ending, full=full), pattern_type(carrier)
    for name in ("quantize_bits", "overflow_fired"):
        numbers = types.UniTuple(pattern, scalar.COUNT)
        instructions, result = compiled(made[name].py_func, pattern, uint32, numbers)
        assert result == pattern
        assert on_floats(instructions) <= floats


EVERY_CONSTANT = [  # every mode; each carrier, depth and ending with several of them
    (list(WIDTHS)[turn % 4], mode, DEPTHS[mode % 4], ENDINGS[(turn + 1) % 4])
    for mode in MODES.values()
    for turn in [mode + mode // 4]
]


@pytest.mark.parametrize(("carrier", "mode", "depth", "ending"), EVERY_CONSTANT)
def test_a_rounding_decision_needs_only_integers(carrier: str, mode: int, depth: int, ending: int) -> None:
    check_decisions(carrier, mode, depth, ending, full=mode % 2 == 0)


@pytest.mark.parametrize("ending", [scalar.PLAIN, scalar.CLAMPED, scalar.GENERAL])
@pytest.mark.parametrize("carrier", ["float16", "float64"])
def test_the_shorter_way_to_nearest_even_only_adds(carrier: str, ending: int) -> None:
    check_decisions(carrier, scalar.NEAREST_EVEN, scalar.QUICK, ending, full=True, floats=ADDED)


@pytest.mark.exhaustive
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("carrier", ["float32", "float64"])  # the narrow ones differ in a number only
def test_every_rounding_decision_needs_only_integers(carrier: str, depth: int, ending: int) -> None:
    for rounding, mode in MODES.items():
        for full in (True, False) if rounding.takes_random_bits else (True,):
            check_decisions(carrier, mode, depth, ending, full=full)


@pytest.mark.parametrize("carrier", ["float16", "float64"])
def test_codes_and_groups_need_only_integers(carrier: str) -> None:
    made, pattern = (
        decisions(carrier, scalar.NEAREST_EVEN, scalar.EITHER, scalar.CLAMPED),
        pattern_type(carrier),
    )
    signed = from_dtype(np.dtype(WIDTHS[carrier].signed))
    numbers, block = types.UniTuple(pattern, scalar.COUNT), types.UniTuple(int64, groups.BLOCK_COUNT)
    for name, arguments, result in (
        ("floating_code", (pattern, numbers), pattern),
        ("floating_bits", (pattern, numbers), pattern),
        ("integer_code", (pattern, numbers), pattern),
        ("integer_bits", (pattern, numbers), pattern),
        ("code_of_element", (pattern, uint32, numbers), pattern),
        ("value_of_code", (pattern, uint32, numbers), pattern),
        ("finite_magnitude", (pattern,), pattern),
        ("unit_field", (pattern, block), None),  # an exponent, as wide as the block's numbers
        ("group_numbers", (signed, block), numbers),
    ):
        instructions, returned = compiled(made[name].py_func, *arguments)
        assert returned == (result or returned), name
        assert returned in types.integer_domain or result == numbers, name
        assert on_floats(instructions) <= EXACT, name


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (word_at, (uint64, uint64, uint64), uint32),
        (philox, (uint32,) * 6, types.UniTuple(uint32, 4)),
    ],
)
def test_a_random_word_needs_only_integers(function, arguments, result) -> None:
    instructions, returned = compiled(function.py_func, *arguments)
    assert returned == result
    assert on_floats(instructions) == set()
