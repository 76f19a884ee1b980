"""What other simulators are known to get wrong, as a table: input, format, rounding, what is right.

The letter that a name begins with says which kind of mistake it is; ``CLASSES`` lists them. A stochastic
case without a word holds for every random word: its inputs are values of the format, or far past it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CLASSES = {
    "a": "the exponent by a logarithm in floating point",
    "b": "ties by additions in floating point",
    "c": "subnormals by shifting: the sign of zero and the lowest bits are lost",
    "d": "infinities, NaN and zeros as if they were numbers",
    "e": "overflow decided before rounding",
    "i": "rounded twice, through a narrower type",
    "k": "an option accepted and ignored",
}
"""Mistakes that show in single results. The others are what a run shows: f two devices that differ,
g noise that is private, shared or cannot be repeated, h sizes in 32 bits, j the state of optimizers."""

INF, NAN = np.inf, np.nan
TINY = 2.0**-149
"""The smallest positive float32."""
ALL_ONES = 2**32 - 1


class PeerCase(NamedTuple):
    """An input and its result."""

    name: str
    input: npt.NDArray[np.floating]
    format: str
    rounding: str
    want: npt.NDArray[np.floating]
    word: int | None = None
    """The random word of every element, None for any."""
    random_bits: int | None = None


def _case(
    name: str,
    input: npt.ArrayLike,
    format: str,
    rounding: str,
    want: npt.ArrayLike,
    *,
    dtype: str = "float32",
    word: int | None = None,
    random_bits: int | None = None,
) -> PeerCase:
    """Lists of numbers as arrays."""
    inputs, wanted = (np.asarray(numbers, dtype) for numbers in (input, want))
    return PeerCase(name, inputs, format, rounding, wanted, word, random_bits)


def _in_every_mode(name: str, values: npt.ArrayLike, format: str) -> list[PeerCase]:
    """Values of the format, which no mode may change."""
    modes = ("nearest_even", "toward_zero", "to_odd", "stochastic")
    return [_case(f"{name}, {mode}", values, format, mode, values) for mode in modes]


_NAN_PATTERNS = np.uint32([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001, 0xFF800001]).view(np.float32)
_LARGEST = float(np.finfo(np.float32).max)
_TOP = 127 * 2.0**121  # the largest bfp8 value where E = 127
_UP = 2.0**-23  # one unit in the last place of 1.0 in float32
_BELOW = 1 - _UP / 2  # the float32 below 1
_JUST_BELOW = [2.0**k * _BELOW for k in (4, 8, 16, 64, 126)]
"""Their logarithm to base 2, rounded to float32, is the integer above."""

_A = [
    _case("a truncation just below a power of two", [1023.99994], "binary16", "toward_zero", [1023.5]),
    _case(
        "a truncation just below powers of two",
        _JUST_BELOW,
        "bfloat16",
        "toward_zero",
        [2.0**k * (1 - 2.0**-8) for k in (4, 8, 16, 64, 126)],
    ),
    _case(
        "a block exponent just below powers of two",
        [[x, x / 3] for x in _JUST_BELOW],
        "bfp4<group>",
        "nearest_even",
        [[7 * 2.0 ** (k - 3), 3 * 2.0 ** (k - 3)] for k in (4, 8, 16, 64, 126)],
    ),
    _case("a block exponent in float16", [7.996, 1.0], "bfp4", "nearest_even", [7, 1], dtype="float16"),
    _case(
        "a block above 2^126",
        [2.0**126, -(2.0**127), 1.5 * 2.0**127, _LARGEST, -_LARGEST, 1.0],
        "bfp8",
        "nearest_even",
        [2.0**126, -(2.0**127), 1.5 * 2.0**127, _TOP, -_TOP, 0.0],
    ),
]
_B = [
    # Four rules for a tie in one package; here the mode says which.
    _case("b float tie, even below", [1 + 2**-11, -1 - 2**-11], "binary16", "nearest", [1, -1]),
    _case("b float tie, even above", [1 + 3 * 2**-11], "binary16", "nearest_even", [1 + 2**-9]),
    _case("b float tie between two and a half ulps", [1.1875], "e4m3fn", "nearest_even", [1.25]),
    _case(
        "b float tie, away", [1 + 2**-11, -1 - 2**-11], "binary16", "nearest_away", [1 + 2**-10, -1 - 2**-10]
    ),
    _case("b negative ties, zero", [1.125, -1.125, -1.375], "e5m2", "nearest_zero", [1, -1, -1.25]),
    _case("b negative ties, away", [1.125, -1.125, -1.375], "e5m2", "nearest_away", [1.25, -1.25, -1.5]),
    _case("b nearly a tie", [1.1250001, -1.1249999], "e5m2", "nearest_zero", [1.25, -1]),
    _case("b nearly a tie, away", [1.1250001, -1.1249999], "e5m2", "nearest_away", [1.25, -1]),
    _case("b just below one half", [0.49999999999999994], "fixed8f0", "nearest_away", [0], dtype="float64"),
    _case(
        "b just below half a step", [2**-10 * (1 - 2**-53)], "e4m3fn", "nearest_away", [0], dtype="float64"
    ),
    _case("b fixed tie at zero", [1 / 32, -1 / 32], "fixed8f4", "nearest_even", [0.0, 0.0]),
    _case("b fixed tie, even above", [3 / 32, -3 / 32], "fixed8f4", "nearest_even", [1 / 8, -1 / 8]),
    _case(
        "b block tie, both signs",
        [1, 0.125, -0.125, 0.375, -0.375, 0.625, -0.625],
        "bfp4",
        "nearest_even",
        [1, 0, 0, 0.5, -0.5, 0.5, -0.5],
    ),
    # Values of the format that do not survive; float32 has no bit left for x + 0.5.
    *_in_every_mode("b no spare bit", [4194304.5, -4194304.5, 8388607.5], "fixed25f1"),
    *_in_every_mode("b odd multiples", [1 / 16, -3 / 16, 7 + 15 / 16, -8.0], "fixed8f4"),
    *_in_every_mode("b values with an even code", [1.0, -1.0, 1.5, 2.0], "e5m2"),
    _case("b down is not toward zero", [-1.1, 1.1, -0.01], "fixed8f4", "down", [-1.125, 1.0625, -0.0625]),
]
_C = [
    _case("c sign of zero", [-0.0, 0.0, -1e-30, 1e-30], "e4m3fn", "nearest", [-0.0, 0.0, -0.0, 0.0]),
    _case("c sign of zero, truncated", [-(2.0**-25)], "binary16", "toward_zero", [-0.0]),
    _case("c sign of zero, up", [-TINY, -0.0, TINY], "e4m3fn", "up", [-0.0, -0.0, 2.0**-9]),
    _case("c sign of zero, stochastic", [-1e-30, -0.0], "e4m3fn", "stochastic", [-0.0, -0.0], word=0),
    _case("c no sign of zero", [-0.0, -1e-30], "fixed8f4", "nearest_even", [0.0, 0.0]),
    _case("c no sign of zero in a block", [-0.0, -1e-30, 1.0], "bfp8", "nearest_even", [0.0, 0.0, 1.0]),
    _case("c no sign of zero, fnuz", [-0.0, -1e-30], "e4m3fnuz", "nearest_even", [0.0, 0.0]),
    _case("c subnormal tie", [2.0**-25, 3 * 2.0**-25], "binary16", "nearest_even", [0, 2.0**-23]),
    _case(
        "c just above and below a subnormal tie",
        [2.0**-25 * (1 + _UP), 2.0**-25 * (1 - _UP / 2), -(2.0**-25) * (1 + _UP)],
        "binary16",
        "nearest_even",
        [2.0**-24, 0.0, -(2.0**-24)],
    ),
    _case("c far below the smallest", [TINY, -TINY], "e4m3fn", "away", [2.0**-9, -(2.0**-9)]),
    _case("c far below the smallest, odd", [TINY, -TINY], "fixed8f4", "to_odd", [1 / 16, -1 / 16]),
    _case("c far below the smallest, float64", [5e-324], "e4m3fn", "up", [2.0**-9], dtype="float64"),
    _case(
        "c without subnormals chance decides below the smallest normal",
        [2.0**-8, 3 * 2.0**-8],  # a quarter and three quarters of it
        "e4m3fn<nosubnormals>",
        "stochastic",
        [0.0, 2.0**-6],
        word=1 << 31,
    ),
]
_D = [
    _case("d binary16 overflow", [70000, -70000], "binary16", "nearest_even", [INF, -INF]),
    _case("d binary16 infinity", [INF, -INF], "binary16", "nearest_even", [INF, -INF]),
    _case("d e4m3fn infinity", [INF, -INF], "e4m3fn", "nearest_even", [448, -448]),
    _case("d infinity, stochastic", [INF, -INF], "e5m2", "stochastic", [INF, -INF]),
    _case("d infinity where there is none, stochastic", [INF, -INF], "e2m1", "stochastic", [6, -6]),
    *(
        _case(f"d {format} NaN, {mode}", _NAN_PATTERNS, format, mode, [NAN] * _NAN_PATTERNS.size)
        for format in ("binary16", "bfloat16", "binary32", "e4m3fn", "e2m1", "e5m2fnuz", "fixed8f4", "bfp8")
        for mode in ("nearest_even", "toward_zero", "stochastic")
    ),
    _case("d a NaN in a block", [NAN, 1.0, INF, 0.3], "bfp4", "nearest_even", [NAN, 1.0, 1.75, 0.25]),
    _case("d a block of zeros", [0.0, -0.0], "bfp8", "nearest_even", [0.0, 0.0], dtype="float16"),
    _case(
        "d a block of tiny ones", [2.0**-24, 0.0], "bfp8", "nearest_even", [2.0**-24, 0.0], dtype="float16"
    ),
    # As many mantissa bits as the carrier has.
    *_in_every_mode("d whole mantissa", [3.0, -3.0, 1 + _UP, TINY, -_LARGEST, 0.0, -0.0], "binary32"),
    *_in_every_mode("d whole mantissa, fewer exponents", [3.0, 1 + _UP, -2 + _UP], "e5m23ieee"),
    _case("d empty", np.empty((0, 3)), "e4m3fn", "nearest_even", np.empty((0, 3))),
    _case("d empty block", np.empty((0, 3)), "bfp8<group2>", "nearest_even", np.empty((0, 3))),
    _case("d no dimension", 0.3, "e4m3fn", "nearest_even", 0.3125),
]
_E = [
    _case("e binary16 largest", [65504, 65519, 65520], "binary16", "nearest", [65504, 65504, INF]),
    _case(
        "e binary16 past it", [65535, 65536, -100000, 131071], "binary16", "nearest", [INF, INF, -INF, INF]
    ),
    _case(
        "e e4m3ieee past it", [247, 248, 256, -300, 511], "e4m3ieee", "nearest", [240, INF, INF, -INF, INF]
    ),
    _case("e binary16 toward zero", [70000, INF], "binary16", "toward_zero", [65504, INF]),
    _case("e directed", [65505, -65505], "binary16", "up", [INF, -65504]),
    _case("e e4m3fn largest", [448, 464, 480, -1e30], "e4m3fn", "nearest", [448, 448, 448, -448]),
    _case("e e4m3fn as ml_dtypes", [464, 464.00003, INF], "e4m3fn<infinity>", "nearest", [448, NAN, NAN]),
    _case(
        "e stochastic below the next value", [65520], "binary16", "stochastic", [65504], word=(1 << 31) - 1
    ),
    _case("e stochastic up to the next value", [65520], "binary16", "stochastic", [INF], word=1 << 31),
    _case("e a block keeps its exponent", [1.999, -1.999, 0.5], "bfp4", "nearest_even", [1.75, -1.75, 0.5]),
]
_I = [
    # Through float32, or through bfloat16, each would be a tie.
    _case(
        "i float64", [1 + 2.0**-11 + 2.0**-40], "binary16", "nearest_even", [1 + 2.0**-10], dtype="float64"
    ),
    _case(
        "i float64, fixed", [0.5 + 2.0**-40, -0.5 - 2.0**-40], "fixed8f0", "nearest", [1, -1], dtype="float64"
    ),
    _case("i float64, block", [1.0, 0.125 + 2.0**-40], "bfp4", "nearest", [1, 0.25], dtype="float64"),
    _case("i float32", [1.0625 + _UP, 1.0625 - _UP], "e4m3fn", "nearest", [1.125, 1.0]),
    _case("i float64 overflow", [65520 - 2.0**-30], "binary16", "nearest", [65504], dtype="float64"),
    _case("i float64 past float32", [1e300, -1e-300], "e4m3fn", "nearest", [448, -0.0], dtype="float64"),
    _case("i float16", [1.0625 + 2.0**-10], "e4m3fn", "nearest_even", [1.125], dtype="float16"),
]
_K = [
    _case("k one random bit", [1.06, 1.07], "e4m3fn", "stochastic", [1, 1.125], word=ALL_ONES, random_bits=1),
    _case("k all random bits", [1.06, 1.07], "e4m3fn", "stochastic", [1.125, 1.125], word=ALL_ONES),
    _case(
        "k block along the last axis",
        [[1.0, 64.0], [0.3, 3.0]],
        "bfp4<channel-1>",
        "nearest_even",
        [[1.0, 64.0], [0.25, 0.0]],
    ),
    _case(
        "k block along the first axis",
        [[1.0, 64.0], [0.3, 3.0]],
        "bfp4<channel0>",
        "nearest_even",
        [[0.0, 64.0], [0.5, 3.0]],
    ),
    _case("k subnormals", [0.004, 0.01], "e4m3fn<nosubnormals>", "nearest_even", [0.0, 2.0**-6]),
    _case("k bias", [500.0, 0.001], "e4m3fn<bias6>", "nearest_even", [512.0, 0.0]),
    _case("k symmetric", [-8.0], "fixed8f4<symmetric>", "nearest_even", [-7.9375]),
    _case("k wrap", [8.0, -8.0625], "fixed8f4<wrap>", "nearest_even", [-8.0, 7.9375]),
]

PEER_CASES: list[PeerCase] = [*_A, *_B, *_C, *_D, *_E, *_I, *_K]
