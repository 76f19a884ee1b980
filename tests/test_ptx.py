"""The rounding decisions and the random words compile for CUDA as they are, without a device."""

import inspect
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from numba import cuda, int32, types, uint32, uint64
from numba.cuda import dispatcher

from lowprec.kernels import scalar
from lowprec.kernels.philox import philox, word_at

pytestmark = pytest.mark.ptx

COMPUTE_CAPABILITY = (8, 0)
SIGNED = {"mantissa_bits", "lowest"}
EXACT = {"cvt.rn.f32.u32"}
"""A significand as a float shows its leading bit. Anything else could round, contract or flush."""


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a device: numba-cuda asks the driver for one when a function calls another."""
    device = SimpleNamespace(compute_capability=COMPUTE_CAPABILITY)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)


def compiled(function: Callable[..., object], *arguments: types.Type) -> tuple[list[str], object]:
    """The instructions of a device function and the type of its result."""
    ptx, result = cuda.compile_ptx(function, arguments, device=True, cc=COMPUTE_CAPABILITY)
    assert f".target sm_{COMPUTE_CAPABILITY[0]}{COMPUTE_CAPABILITY[1]}" in ptx
    return re.findall(r"^\t(?:@!?%\w+ )?([a-z][\w.]*)\s", ptx, re.MULTILINE), result


def on_floats(instructions: list[str]) -> set[str]:
    """The instructions that read or write floating-point numbers."""
    return {i for i in instructions if re.search(r"\.b?f(16|32|64)", i)}


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("mode", [scalar.NEAREST_EVEN, scalar.TOWARD_ZERO, scalar.STOCHASTIC])
@pytest.mark.parametrize("decision", [scalar.quantize_bits, scalar.overflow_fired])
def test_a_rounding_decision_needs_only_integers(decision, mode: int, deep: bool) -> None:
    def specialized(bits, randomness, numbers):
        return decision(bits, randomness, mode, deep, *numbers)

    names = list(inspect.signature(decision.py_func).parameters)
    assert names[2:4] == ["mode", "deep"]
    assert set(names[4:]) >= SIGNED
    numbers = types.Tuple([int32 if name in SIGNED else uint32 for name in names[4:]])
    instructions, result = compiled(specialized, uint32, uint32, numbers)
    assert result == uint32
    assert on_floats(instructions) <= (EXACT if deep else set())


@pytest.mark.parametrize(
    ("function", "arguments", "result", "floats"),
    [
        (scalar.block_step, (uint32, int32, int32), int32, EXACT),
        (scalar.block_limit, (int32, int32), uint32, set()),
        (scalar.power_bits, (int32,), uint32, set()),
        (word_at, (uint64, uint64, uint64), uint32, set()),
        (philox, (uint32,) * 6, types.UniTuple(uint32, 4), set()),
    ],
)
def test_a_helper_needs_only_integers(function, arguments, result, floats: set[str]) -> None:
    instructions, returned = compiled(function.py_func, *arguments)
    assert returned == result
    assert on_floats(instructions) == floats
