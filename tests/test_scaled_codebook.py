"""Codebooks over scales: nf4, fp4 and others, by quotients looked up among all values."""

from fractions import Fraction

import numpy as np
import pytest
from comparison import assert_same_bits, words_like

from lowprec import reference
from lowprec.formats import Codebook, PerGroup, Scaled, parse
from lowprec.formats.codebook import FLOAT_OF_TWELFTHS, NORMAL_FLOAT
from lowprec.modes import Rounding

MODES = [mode for mode in Rounding if not mode.is_stochastic]
NAMES = (
    "nf4",
    "fp4",
    "scaled<codebook<-1,0,0.5,3>,float32,group64,amax>",
    "scaled<binary,float32,group64,amax>",
)


def wide_and_narrow() -> np.ndarray:
    """Groups of 64, among them values and boundaries times a scale, zeros, and what has no finite number."""
    random = np.random.default_rng(3)
    x = random.standard_normal((12, 64)) * 2.0 ** random.integers(-60, 60, (12, 1))
    x = x.astype(np.float32)
    x[0], x[1] = 0, 2.0**-149
    ends = np.repeat(np.float32([1, 7, 0.3]), 64).reshape(3, 64)
    middles = np.add(NORMAL_FLOAT[1:], NORMAL_FLOAT[:-1]) / 2
    ends[:, 1:16], ends[:, 17:33] = middles * ends[:, :1], NORMAL_FLOAT * ends[:, :1]
    ends[:, 33:49] = -ends[:, 17:33]
    x[2:5] = ends
    x[5, :3] = np.nan, np.inf, -np.inf
    x[6] = np.float32(3e38) * np.sign(x[6])
    return x


def rounded(quotient: Fraction, values: list[Fraction], mode: Rounding) -> Fraction:
    """The value that a quotient becomes, of ascending ones."""
    if quotient in values or not values[0] < quotient < values[-1]:
        return min(values, key=lambda value: abs(value - quotient))
    low, high = max(v for v in values if v < quotient), min(v for v in values if v > quotient)
    even, odd = (low, high) if values.index(low) % 2 == 0 else (high, low)
    smaller, larger = sorted((low, high), key=abs)
    if low == -high:
        smaller = larger = low if quotient < 0 else high
    ways = {"even": even, "odd": odd, "zero": smaller, "toward_zero": smaller, "away": larger, "up": high,
            "down": low, "to_odd": odd}  # fmt: skip
    if not mode.startswith("nearest"):
        return ways[mode]
    if quotient - low != high - quotient:
        return low if quotient - low < high - quotient else high
    tie = mode.removeprefix("nearest_")
    return high if quotient == 0 and tie != "down" else ways[tie]


@pytest.mark.parametrize("name", NAMES)
def test_quotients_looked_up(name: str) -> None:
    x = wide_and_narrow()
    format = parse(name)
    values = [Fraction(value) for value in format.element.values().tolist()]
    scales = reference.scales(x, format)
    with np.errstate(over="ignore", under="ignore"):
        for group, scale in zip(x, scales[:, 0], strict=True):
            largest = Fraction(float(np.abs(group[np.isfinite(group)]).max()))
            nearest = np.float32(float(largest / values[-1]))  # float64 has 29 bits to spare: no tie here
            assert scale == max(nearest, 2.0**-149)
        for mode in MODES:
            want = []
            for number, scale in zip(x.ravel().tolist(), np.repeat(scales, 64).tolist(), strict=True):
                if not np.isfinite(number):
                    end = format.max if number > 0 else format.min
                    want.append(np.float32(end * scale) if number == number else np.nan)
                    continue
                value = rounded(Fraction(number) / Fraction(scale), values, mode)
                want.append(np.float32(float(value) * scale))  # a product of 24 bits and 24 is exact
            got = reference.quantize(x, format, rounding=mode)
            assert_same_bits(got, np.array(want).reshape(x.shape) + 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_codes_come_back(name: str) -> None:
    x = wide_and_narrow()
    x[5, 0] = 0  # there is no code for NaN
    for mode in MODES:
        codes, scales = reference.encode(x, name, rounding=mode)
        assert codes.max() < parse(name).element.table.codes_listed
        want = reference.quantize(x, name, rounding=mode)
        assert_same_bits(reference.decode(codes, name, scales=scales), want)


def test_by_hand() -> None:
    x = np.float32([[4, -4, 2, 1, -0.25, 0, -0.0, np.nan, np.inf, -np.inf]])
    format = Scaled(Codebook([-1, -0.25, 0.5, 2]), "float32", PerGroup(), scale_rule="amax")
    got = reference.quantize(x, format)  # the scale is 2, the midpoints times it -1.25, 0.25 and 2.5
    assert_same_bits(got, [[4, -2, 1, 1, -0.5, -0.5, -0.5, np.nan, 4, -2]])
    assert_same_bits(reference.scales(x, format), [[2.0]])
    assert reference.overflowed(x, format)[0].tolist() == [False, True] + [False] * 6 + [True] * 2
    toward = reference.overflowed(x, format, rounding="toward_zero")
    assert toward[0].tolist() == [False] * 8 + [True] * 2
    given = reference.quantize(x, format, scale=np.array([[0.5]]))
    assert_same_bits(given, [[1, -0.5, 1, 1, -0.125, -0.125, -0.125, np.nan, 1, -0.5]])


def test_elements() -> None:
    assert parse("nf4").element.entries == NORMAL_FLOAT
    assert parse("fp4").element.entries == FLOAT_OF_TWELFTHS
    for entries in (NORMAL_FLOAT, FLOAT_OF_TWELFTHS):
        assert [float(np.float32(entry)) for entry in entries] == [*entries]
    twelfths = [0, 0.0625, 8, 12, 4, 6, 2, 3]
    want = [k / 12 for k in twelfths] + [-k / 12 for k in twelfths[1:]]
    np.testing.assert_allclose(FLOAT_OF_TWELFTHS, want, rtol=2.0**-24)
    assert list(NORMAL_FLOAT) == sorted(NORMAL_FLOAT)
    assert (parse("nf4").bits, parse("fp4").bits, parse("nf4").precision, parse("fp4").max) == (4, 4, 24, 1)
    assert parse("nf4").granularity == PerGroup(64)


def test_stochastic_modes_are_refused() -> None:
    x = np.ones((1, 64), np.float32)
    for mode in (mode for mode in Rounding if mode.is_stochastic):
        for function in (reference.quantize, reference.overflowed, reference.encode):
            with pytest.raises(ValueError, match=f"deterministic for nf4 in float32, got '{mode}'"):
                function(x, "nf4", rounding=mode, words=words_like(x))


def test_codes_past_the_list() -> None:
    scales = np.ones((1, 1))
    assert reference.decode(np.uint8([[14]]), "fp4", scales=scales)[0, 0] == -np.float32(0.25)
    with pytest.raises(ValueError, match="`codes` must lie between 0 and 14 for fp4, got 15"):
        reference.decode(np.uint8([[3, 15]]), "fp4", scales=scales)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, -1], "e8m0"), "`element` must be floating or fixed point over scales of e8m0, got 'codebook"),
        (([1, -2], "float32"), "`element` must have a largest magnitude that is positive, got -2.0"),
        (([0.1, 1], "float32"), "`element` must have at most 24 significant bits, got 0.1. Round"),
        (([1 + 2.0**-18, 2], "nested"), "`element` must have at most 18 significant bits, got 1.000003"),
        (([1, 2.0**53 * (1 - 2.0**-24)], "float32"), "`element` must have midpoints of at most 52"),
        (([2.0**-150, 2.0**-149], "float32"), "`element` must have values that binary32 has over"),
        (([2.0**129, 2.0**128], "float32"), "`element` must have values that binary32 has over"),
    ],
)  # fmt: skip
def test_elements_that_are_refused(arguments: tuple, message: str) -> None:
    entries, scale = arguments
    if scale == "nested":
        scale = "scaled<e4m3fn,float32,amax>"
    with pytest.raises(ValueError, match=message):
        Scaled(Codebook(entries), scale, scale_rule="floor" if scale == "e8m0" else "amax")


def test_rules_that_are_refused() -> None:
    with pytest.raises(ValueError, match="`scale_rule` must not be 'even' for a codebook, got 'even'"):
        Scaled("ternary", "float32", scale_rule="even")
    with pytest.raises(TypeError, match="a FloatingPoint, a FixedPoint or a Codebook, got Posit"):
        Scaled("posit8", "float32", scale_rule="amax")
    with pytest.raises(ValueError, match="must be an unsigned integer that saturates where zero_point"):
        Scaled("ternary", "float32", scale_rule="amax", zero_point=True)
