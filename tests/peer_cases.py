"""What other simulators are known to get wrong, as a table: input, format, rounding, what is right.

A stochastic case holds for every random word: its inputs are values of the format.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

INF, NAN = np.inf, np.nan
TINY = 2.0**-149
"""The smallest positive float32."""


class PeerCase(NamedTuple):
    """An input and its result."""

    name: str
    input: npt.NDArray[np.float32]
    format: str
    rounding: str
    want: npt.NDArray[np.float32]


def _case(name: str, input: npt.ArrayLike, format: str, rounding: str, want: npt.ArrayLike) -> PeerCase:
    """Lists of numbers as float32 arrays."""
    inputs, wanted = (np.asarray(numbers, np.float32) for numbers in (input, want))
    return PeerCase(name, inputs, format, rounding, wanted)


def _in_every_mode(name: str, values: npt.ArrayLike, format: str) -> list[PeerCase]:
    """Values of the format, which no mode may change."""
    modes = ("nearest_even", "toward_zero", "stochastic")
    return [_case(f"{name}, {mode}", values, format, mode, values) for mode in modes]


_NAN_PATTERNS = np.uint32([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001, 0xFF800001]).view(np.float32)
_LARGEST = float(np.finfo(np.float32).max)
_TOP = 127 * 2.0**121  # the largest bfp8 value where E = 127
_UP = 2.0**-23  # one unit in the last place of 1.0 in float32

PEER_CASES: list[PeerCase] = [
    # 1. Four rules for a tie in one package; here each goes to the even code.
    _case("float tie, even below", [1 + 2**-11, -1 - 2**-11], "binary16", "nearest", [1, -1]),
    _case("float tie, even above", [1 + 3 * 2**-11], "binary16", "nearest_even", [1 + 2**-9]),
    _case("fixed tie at zero", [1 / 32, -1 / 32], "fixed8f4", "nearest_even", [0.0, 0.0]),
    _case("fixed tie, even above", [3 / 32, -3 / 32], "fixed8f4", "nearest_even", [1 / 8, -1 / 8]),
    _case(
        "block tie, both signs",
        [1, 0.125, -0.125, 0.375, -0.375, 0.625, -0.625],
        "bfp4",
        "nearest_even",
        [1, 0, 0, 0.5, -0.5, 0.5, -0.5],
    ),
    # 2. Infinities, NaN and the largest value.
    _case("binary16 overflow", [70000, -70000], "binary16", "nearest_even", [INF, -INF]),
    _case("binary16 largest", [65504, 65519, 65520], "binary16", "nearest", [65504, 65504, INF]),
    _case("binary16 infinity", [INF, -INF], "binary16", "nearest_even", [INF, -INF]),
    _case("binary16 toward zero", [70000, INF], "binary16", "toward_zero", [65504, INF]),
    _case("e4m3fn largest", [448, 464, 480, -1e30], "e4m3fn", "nearest", [448, 448, 448, -448]),
    _case("e4m3fn infinity", [INF, -INF], "e4m3fn", "nearest_even", [448, -448]),
    *(
        _case(f"{format} NaN, {mode}", _NAN_PATTERNS, format, mode, [NAN] * _NAN_PATTERNS.size)
        for format in ("binary16", "bfloat16", "binary32", "e4m3fn", "fixed8f4", "bfp8")
        for mode in ("nearest_even", "toward_zero", "stochastic")
    ),
    # 3. As many mantissa bits as the carrier has.
    *_in_every_mode("whole mantissa", [3.0, -3.0, 1 + _UP, TINY, -_LARGEST, 0.0, -0.0], "binary32"),
    *_in_every_mode("whole mantissa, fewer exponents", [3.0, 1 + _UP, -2 + _UP], "e5m23ieee"),
    # 4. The sign of zero, and subnormals by a float addition that rounds once too often.
    _case("sign of zero", [-0.0, 0.0, -1e-30, 1e-30], "e4m3fn", "nearest", [-0.0, 0.0, -0.0, 0.0]),
    _case("sign of zero, truncated", [-(2.0**-25)], "binary16", "toward_zero", [-0.0]),
    _case("no sign of zero", [-0.0, -1e-30], "fixed8f4", "nearest_even", [0.0, 0.0]),
    _case("subnormal tie", [2.0**-25, 3 * 2.0**-25], "binary16", "nearest_even", [0, 2.0**-23]),
    _case(
        "just above and below a subnormal tie",
        [2.0**-25 * (1 + _UP), 2.0**-25 * (1 - _UP / 2), -(2.0**-25) * (1 + _UP)],
        "binary16",
        "nearest_even",
        [2.0**-24, 0.0, -(2.0**-24)],
    ),
    # 5. Values of the format that do not survive; float32 has no bit left for x + 0.5.
    *_in_every_mode("no spare bit", [4194304.5, -4194304.5, 8388607.5], "fixed25f1"),
    *_in_every_mode("odd multiples", [1 / 16, -3 / 16, 7 + 15 / 16, -8.0], "fixed8f4"),
    # 6. Large exponents, and the last axis.
    _case(
        "block above 2^126",
        [2.0**126, -(2.0**127), 1.5 * 2.0**127, _LARGEST, -_LARGEST, 1.0],
        "bfp8",
        "nearest_even",
        [2.0**126, -(2.0**127), 1.5 * 2.0**127, _TOP, -_TOP, 0.0],
    ),
    _case(
        "block along the last axis",
        [[1.0, 64.0], [0.3, 3.0]],
        "bfp4<channel-1>",
        "nearest_even",
        [[1.0, 64.0], [0.25, 0.0]],
    ),
    _case(
        "block along the first axis",
        [[1.0, 64.0], [0.3, 3.0]],
        "bfp4<channel0>",
        "nearest_even",
        [[0.0, 64.0], [0.5, 3.0]],
    ),
    # 7. Nothing at all.
    _case("empty", np.empty((0, 3)), "e4m3fn", "nearest_even", np.empty((0, 3))),
    _case("empty block", np.empty((0, 3)), "bfp8<group2>", "nearest_even", np.empty((0, 3))),
    _case("no dimension", 0.3, "e4m3fn", "nearest_even", 0.3125),
]
