"""The CUDA twins of elementwise kernels as PTX: compiled, looked at and assembled without a device."""

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import CAPABILITIES, check_kernel, compiled
from ptx_flow import blocks_of, depths

from lowprec import Rounding
from lowprec.formats import resolve
from lowprec.kernels import cpu
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.specialize import compiled_mode, is_listed

pytestmark = compiled

# Every place of a unit and every ending, lists of both kinds, posits; each mode and carrier with several.
FORMATS = (
    "e4m3fn", "e5m2<saturate>", "e8m3fn<bias140>", "e8m0ieee", "binary8p4ue", "fixed8f4", "fixed8f4<wrap>",
    "posit8", "log4f3", "ternary",
)  # fmt: skip
CARRIERS = ("float32", "bfloat16", "float64", "float16")


def constants(format: str, rounding: Rounding, carrier: str, kind=cpu.VALUES, dimensions=1, bits=32):
    """What ``elementwise.quantize`` specializes its kernel for."""
    _, depth, ending = describe(resolve(format), rounding, bits, carrier)
    mode = compiled_mode(MODES[rounding], depth, flags=kind == cpu.FLAGS)
    return carrier, mode, depth, ending, kind, bits == 32, dimensions


def _chosen() -> list[tuple]:
    """Constants of each format with some of the modes, so that each mode comes with some of the formats."""
    modes, found = list(Rounding), {}
    for turn, format in enumerate(FORMATS):
        for step in range(4):
            rounding = modes[(4 * turn + step) % 15]
            kind = cpu.FLAGS if (turn + step) % 7 == 6 else cpu.VALUES
            bits = 5 if rounding.is_stochastic and step == 2 and rounding != "stochastic_equal" else 32
            carrier = "float32" if "140" in format or "m0" in format else CARRIERS[(turn + step) % 4]
            dimensions = {9: 16, 18: 64}.get(4 * turn + step, (1, 1, 4)[(turn + step) % 3])
            found[constants(format, rounding, carrier, kind, dimensions, bits)] = None
    return list(found)


TWINS = {
    "quantizing": list(dict.fromkeys([
        *(constants("e4m3fn", Rounding(mode), "float32") for mode in ("nearest_even", "stochastic")),
        *_chosen(),
    ])),
    "encoding": [
        ("float32", cpu.CODES, True, "uint8"), ("float64", cpu.DECODED, True, "uint16"),
        ("bfloat16", cpu.CODES, False, "uint8"), ("float32", cpu.DECODED, False, "uint32"),
        ("float32", cpu.CODES, False, "uint8", 5), ("float16", cpu.DECODED, False, "uint8", 5),
        ("float32", cpu.CODES, False, "uint8", 7), ("float32", cpu.DECODED, False, "uint8", 7),
    ],
}  # fmt: skip
"""Constants for each function of elementwise.py that makes a kernel."""
EVERY = [(name, values) for name, cases in TWINS.items() for values in cases]


def check(name: str, values: tuple, capability: tuple[int, int], folder) -> None:
    """Compile and look at a kernel."""
    from lowprec.kernels.cuda import elementwise

    quantizes = name == "quantizing"
    listed = quantizes and is_listed(values[2])
    wide = "float64" in values or (listed and cpu.is_drawn(values[1]))
    many = quantizes and values[-1] > 4  # so many dimensions lie in memory, and a loop goes through them
    ptx = check_kernel(
        getattr(elementwise, name)(*values), capability, folder, registers=96 if wide else 64,
        stack=64 * values[-1] if many else 0, doubles=wide, fused=wide and listed,
        depth=2 if quantizes else 1,
    )  # fmt: skip
    if not (listed or many or not quantizes):
        most = 3 if cpu.is_drawn(values[1]) else 2  # a counter gives the words of four elements
        assert max(max(depths(blocks)) for blocks in blocks_of(ptx)) <= most, "a decision loops"


@pytest.mark.parametrize("turn", range(len(EVERY)))
def test_every_kernel_compiles_and_is_assembled(turn: int, tmp_path) -> None:
    check(*EVERY[turn], CAPABILITIES[turn % 4], tmp_path)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", TWINS)
def test_each_capability(name: str, capability: tuple[int, int], tmp_path) -> None:
    for values in TWINS[name][:2]:
        check(name, values, capability, tmp_path)
