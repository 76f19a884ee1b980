"""Logarithmic numbers, proven with integers alone: x < 2^(k/n) where x^n < 2^k. No logarithm, no root."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from comparison import assert_same_bits
from hard_inputs import hard_values

from lowprec import reference
from lowprec.formats import Logarithmic
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
FORMATS = [Logarithmic(*widths) for widths in ((2, 0), (1, 1), (3, 1), (4, 3), (2, 5), (8, 4), (4, 7))]
FINE = [Logarithmic(4, 11), Logarithmic(5, 10)]
"""So fine that their powers have tens of thousands of digits: looked at in places."""
CASES = [(format, held) for format in FORMATS for held in CARRIERS.values() if not format.missing_in(held)]


def is_below(x: Fraction, k: int, n: int) -> bool:
    """Whether a positive number is less than 2^(k/n), by its n-th power."""
    return x.numerator**n << max(-k, 0) < x.denominator**n << max(k, 0)


def largest(format: Logarithmic) -> int:
    """The largest logarithm in units of its last place."""
    return 2 ** (format.integer_bits + format.fraction_bits - 1) - 1


def half_a_place(x: Fraction, precision: int) -> Fraction:
    """Half the distance of neighbors above a number of so many bits that is no power of two, or is one."""
    exponent = 0
    while x >= 2:
        x, exponent = x / 2, exponent + 1
    while x < 1:
        x, exponent = 2 * x, exponent - 1
    return Fraction(2) ** (exponent - precision)


def check_value(x: Fraction, k: int, n: int, precision: int) -> None:
    """A value is the number of the carrier nearest to 2^(k/n)."""
    if k % n == 0:
        assert x == Fraction(2) ** (k // n)
        return
    assert not is_below(x + half_a_place(x, precision), k, n)
    assert is_below(x - half_a_place(x, precision), k, n)
    units = x / half_a_place(x, precision) / 2
    assert units.denominator == 1  # it is such a number


class TestValues:
    @pytest.mark.parametrize(("format", "carrier"), CASES, ids=lambda part: getattr(part, "name", str(part)))
    def test_the_nearest_numbers(self, format, carrier) -> None:
        values = list(format.values_in(carrier))
        top = largest(format)
        positive = values[len(values) // 2 + 1 :]
        assert values == [*(-value for value in reversed(positive)), 0, *positive]
        assert len(positive) == 2 * top + 1
        for k, value in zip(range(-top, top + 1), positive, strict=True):
            check_value(value, k, 2**format.fraction_bits, carrier.precision)
        assert all(low < high for low, high in pairwise(values))

    @pytest.mark.parametrize("format", FINE, ids=str)
    def test_the_nearest_numbers_of_fine_formats(self, format) -> None:
        top, n = largest(format), 2**format.fraction_bits
        positive = format.values_in(CARRIERS["float64"])[2 * top + 2 :]
        for k in (1, 2, 3, n // 2 - 1, n // 2, n // 2 + 1, n - 1, -1, 5 * n // 7, top, -top):
            check_value(positive[k + top], k, n, 53)

    @pytest.mark.parametrize("format", [*FORMATS, *FINE], ids=str)
    def test_octaves_repeat(self, format) -> None:
        positive = [value for value in format.values_in(CARRIERS["float64"]) if value > 0]
        n = 2**format.fraction_bits
        assert all(2 * low == high for low, high in zip(positive, positive[n:], strict=False))

    def test_by_hand(self) -> None:
        root = math.sqrt(2)
        values = [0.0, 0.5**1.5, 0.5, root / 2, 1.0, root, 2.0, 2 * root]
        assert_same_bits(Logarithmic(2, 1).values(), [-value for value in values[:0:-1]] + values)
        assert Logarithmic(2, 1).max == 2 * root == -Logarithmic(2, 1).min
        assert Logarithmic(2, 1).smallest_subnormal == Logarithmic(2, 1).smallest_normal == 0.5**1.5
        assert Logarithmic(2, 1).eps == root - 1
        assert (Logarithmic(2, 1).bits, Logarithmic(4, 3).bits) == (4, 8)


class TestBoundaries:
    @pytest.mark.parametrize("format", FORMATS, ids=str)
    def test_no_float_lies_between_them_and_powers(self, format) -> None:
        boundaries, top = format.boundaries(), largest(format)
        positive = boundaries[len(boundaries) // 2 + 1 :]
        assert list(boundaries) == [*(-b for b in reversed(positive)), 0, 0, *positive]
        odd = range(-2 * top + 1, 2 * top, 2)
        for k, boundary in zip(odd, positive, strict=True):
            self.check(boundary, k, 2 ** (format.fraction_bits + 1))

    @pytest.mark.parametrize("format", FINE, ids=str)
    def test_those_of_fine_formats(self, format) -> None:
        boundaries, top, n = format.boundaries(), largest(format), 2 ** (format.fraction_bits + 1)
        positive = boundaries[len(boundaries) // 2 + 1 :]
        for k in (1, 3, n // 2 + 1, n - 1, -1, 2 * top - 1, 1 - 2 * top):
            self.check(positive[(k - (1 - 2 * top)) // 2], k, n)

    @staticmethod
    def check(boundary: Fraction, k: int, n: int) -> None:
        """The float64 numbers, hence those of every carrier, lie on the same side of both."""
        near = float(boundary)
        towards = INF if near < boundary else 0.0
        below, above = sorted((near, math.nextafter(near, towards)))
        assert Fraction(below) < boundary < Fraction(above)
        assert is_below(Fraction(below), k, n)
        assert not is_below(Fraction(above), k, n)


@pytest.mark.parametrize(("format", "carrier"), CASES, ids=lambda part: getattr(part, "name", str(part)))
def test_nearest_rounds_the_logarithm(format, carrier) -> None:
    x = hard_values(format, carrier.name)
    x = x[np.isfinite(x) & (x != 0)]
    x = x[:: 1 + x.size // 250]
    values, top, n = format.values_in(carrier), largest(format), 2 ** (format.fraction_bits + 1)
    positive = values[len(values) // 2 + 1 :]
    want = []
    for number in x.tolist():
        low, high = -top, top
        while low < high:  # the largest k with 2^((2k - 1)/n) below the magnitude, or else the least
            middle = (low + high + 1) // 2
            if is_below(abs(Fraction(number)), 2 * middle - 1, n):
                high = middle - 1
            else:
                low = middle
        want.append(math.copysign(float(positive[low + top]), number))
    for tie in ("even", "zero", "down"):
        got = reference.quantize(x, format, rounding=f"nearest_{tie}", carrier=carrier.name)
        assert_same_bits(got, want)
    codes = reference.encode(x, format, carrier=carrier.name)
    assert_same_bits(reference.decode(codes, format, dtype=x.dtype, carrier=carrier.name), want)


def test_modes_go_by_value() -> None:
    format = Logarithmic(2, 1)  # whose values around 2 are 2^0.5, 2, 2^1.5 and whose least one is 2^-1.5
    low, high, least = math.sqrt(2), 2.0, 0.5**1.5
    middle, tiny = (low + high) / 2, least / 4
    want = {
        "toward_zero": (low, 0.0), "away": (high, least), "up": (high, least), "down": (low, 0.0),
        # The positions of 2^0.5 and 2 are 12 and 13, those of 0 and the least value 7 and 8.
        "to_odd": (high, 0.0), "nearest_even": (high, least), "nearest_down": (high, least),
    }  # fmt: skip
    for mode, values in want.items():
        got = reference.quantize(np.array([middle, tiny]), format, rounding=mode)
        assert_same_bits(got, values)
    for number, word in ((0, 0), (1, 0), (2, 0), (3, 1)):  # a quarter of the way, and two bits
        words = np.full(1, number << 30, np.uint32)
        got = reference.quantize(np.array([tiny]), format, rounding="stochastic", random_bits=2, words=words)
        assert_same_bits(got, [least if word else 0.0])


def test_codes() -> None:
    format = Logarithmic(2, 1)
    root = math.sqrt(2)
    # By hand: a sign, then the logarithm in halves, in two's complement of three bits.
    pairs = {
        0b0000: 1.0, 0b0001: root, 0b0010: 2.0, 0b0011: 2 * root, 0b0100: 0.0, 0b0101: 0.5**1.5,
        0b0110: 0.5, 0b0111: root / 2, 0b1000: -1.0, 0b1011: -2 * root, 0b1100: NAN, 0b1111: -root / 2,
    }  # fmt: skip
    for code, number in pairs.items():
        assert_same_bits(np.float64(reference.value_of(code, format)), number)
        assert reference.code_of(number, format) == code
    narrow = reference.value_of(1, format, carrier="bfloat16")
    assert narrow == 1.4140625
    assert reference.code_of(narrow, format, carrier="bfloat16") == 1
    for number in (narrow, INF, -0.0):
        with pytest.raises(ValueError, match=f"`value` must be a value of log2f1, got {number}"):
            reference.code_of(number, format)


@pytest.mark.parametrize("rounding", Rounding)
def test_ends(rounding: Rounding) -> None:
    x = np.array([0.0, -0.0, 8.0, -8.0, 8.01, -1e300, INF, -INF, NAN])
    words = {"words": np.full(9, 2**32 - 1, np.uint32)} if rounding.is_stochastic else {}
    got = reference.quantize(x, Logarithmic(3, 0), rounding=rounding, **words)
    assert_same_bits(got, [0.0, 0.0, 8, -8, 8, -8, 8, -8, NAN])
    above = rounding not in ("toward_zero", "to_odd", "down")
    below = rounding not in ("toward_zero", "to_odd", "up")
    fired = reference.overflowed(x, Logarithmic(3, 0), rounding=rounding, **words)
    assert fired.tolist() == [False] * 4 + [above, below, True, True, False]


class TestFormat:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((0, 3), ValueError, "`integer_bits` must lie between 1 and 9, got 0"),
            ((11, 3), ValueError, "`integer_bits` must lie between 1 and 9, got 11"),
            ((4.0, 3), TypeError, "`integer_bits` must be an integer, got 4.0"),
            ((4, -1), ValueError, "`fraction_bits` must lie between 0 and 11, got -1"),
            ((4, 12), ValueError, "`fraction_bits` must lie between 0 and 11, got 12"),
            ((4, None), TypeError, "`fraction_bits` must be an integer, got None"),
            ((1, 0), ValueError, "`fraction_bits` must make 3 to 16 bits with the others, got 2"),
            ((5, 11), ValueError, "`fraction_bits` must make 3 to 16 bits with the others, got 17"),
        ],
    )
    def test_what_is_refused(self, arguments: tuple, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            Logarithmic(*arguments)

    @pytest.mark.parametrize(
        ("widths", "names"),
        [
            ((4, 5), "bfloat16 float16 float32 float64"),
            ((4, 6), "float16 float32 float64"),
            ((4, 8), "float16 float32 float64"),
            ((4, 9), "float32 float64"),
            ((5, 3), "bfloat16 float32 float64"),
            ((7, 3), "bfloat16 float32 float64"),
            ((8, 3), "float64"),
            ((9, 0), "float64"),
        ],
    )
    def test_carriers(self, widths: tuple[int, int], names: str) -> None:
        held = [
            name for name, carrier in CARRIERS.items() if Logarithmic(*widths).missing_in(carrier) is None
        ]
        assert " ".join(held) == names

    def test_carriers_that_do_not_hold_it(self) -> None:
        with pytest.raises(ValueError, match=r"carrier bfloat16 \(8 places, it has 7\).*Pass a float16 or"):
            Logarithmic(4, 6).check_carrier("bfloat16")
        with pytest.raises(ValueError, match="its normal numbers do not reach from the smallest value to"):
            Logarithmic(9, 3).check_carrier("float32")
