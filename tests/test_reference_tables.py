"""The reference against tables worked out by hand: overflow, stochastic, fixed point, blocks."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from comparison import assert_same_bits

from lowprec import reference
from lowprec.formats import BlockFloatingPoint, PerBlock, PerChannel, PerGroup, parse

INF, NAN = math.inf, math.nan
ALL_ONES = 2**32 - 1
UP = 2.0**-23  # one unit in the last place of 1.0 in float32
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}
"""Of each carrier."""


class TestOverflow:
    # e4m3fn: max 448, the next value would be 480 with an odd code, the midpoint 464.
    # e4m3ieee: max 240, next 256 with an even code, midpoint 248.
    @pytest.mark.parametrize(
        ("name", "x", "want", "fired"),
        [
            ("e4m3fn", [464, 464 * (1 + UP), 1e30, INF], [448, 448, 448, 448], [0, 1, 1, 1]),
            ("e4m3fn<saturate_all>", [464, 465, 1e30, INF], [448, 448, 448, 448], [0, 1, 1, 1]),
            ("e4m3fn<infinity>", [464, 465, 1e30, INF], [448, NAN, NAN, NAN], [0, 1, 1, 1]),
            ("e4m3ieee", [247.9, 248, 1e30, INF], [240, INF, INF, INF], [0, 1, 1, 0]),
            ("e4m3ieee<saturate>", [247.9, 248, 1e30, INF], [240, 240, 240, INF], [0, 1, 1, 0]),
            ("e4m3ieee<saturate_all>", [247.9, 248, 9e9, INF], [240, 240, 240, 240], [0, 1, 1, 1]),
            # Without mantissa bits codes are exponents: e3m0ieee ends at 2^3, the even 6.
            ("e3m0ieee", [12, 12 * (1 + UP), INF], [8, INF, INF], [0, 1, 0]),
            ("fixed8f4", [7.96, 7.96875, 1e30, INF], [7.9375] * 4, [0, 1, 1, 1]),
        ],
    )
    def test_decided_after_rounding(self, name, x, want, fired):
        x, want, fired = np.float32(x), np.float32(want), np.array(fired, bool)
        assert_same_bits(reference.quantize(x, name), want)
        np.testing.assert_array_equal(reference.overflowed(x, name), fired)
        if name.startswith("e"):
            assert_same_bits(reference.quantize(-x, name), -want)
            np.testing.assert_array_equal(reference.overflowed(-x, name), fired)

    def test_two_complement_is_lopsided(self):
        x = np.float32([-8, -8.03125, -8.04, -INF, 8, INF])
        assert_same_bits(reference.quantize(x, "fixed8f4"), [-8, -8, -8, -8, 7.9375, 7.9375])
        np.testing.assert_array_equal(reference.overflowed(x, "fixed8f4"), [0, 0, 1, 1, 1, 1])
        want = [-7.9375] * 4 + [7.9375] * 2
        assert_same_bits(reference.quantize(x, "fixed8f4<symmetric>"), want)
        fired = reference.overflowed(x, "fixed8f4<symmetric>")
        np.testing.assert_array_equal(fired, [1, 1, 1, 1, 1, 1])

    @pytest.mark.parametrize("name", ["e4m3fn", "e4m3fn<infinity>", "e5m2", "fixed8f4", "bfp4"])
    def test_toward_zero_overflows_from_infinity_only(self, name):
        format = parse(name)
        x = np.float32([3e38, format.max * 1.01, INF, NAN])
        x = x[1:] if name == "bfp4" else x
        fired = reference.overflowed(x, name, rounding="toward_zero")
        kept = name == "e5m2"
        np.testing.assert_array_equal(fired, [False] * (x.size - 2) + [not kept, False])
        got = reference.quantize(x, name, rounding="toward_zero")
        assert_same_bits(got[:-2], [format.max] * (x.size - 2))

    def test_stochastic_between_the_largest_and_the_next_value(self):
        x = np.float32([456, -456, 480, 448])  # a quarter of the way from 448 to 480; the next; max
        for word, fired in ((0xBFFFFFFF, False), (0xC0000000, True), (ALL_ONES, True)):
            words = np.full(4, word, np.uint32)
            arguments = {"rounding": "stochastic", "words": words}
            want = [fired, fired, True, False]
            np.testing.assert_array_equal(reference.overflowed(x, "e4m3fn", **arguments), want)
            got = reference.quantize(x, "e4m3fn<infinity>", **arguments)
            edge = NAN if fired else 448
            assert_same_bits(got, [edge, -edge, NAN, 448])

    def test_nan_and_the_zeros_do_not_fire(self):
        assert not reference.overflowed(np.float32([NAN, 0.0, -0.0]), "fixed8f4").any()


class TestStochastic:
    @pytest.mark.parametrize("bits", [1, 2, 5, 8])
    @pytest.mark.parametrize("value", [1.0, 1.03125, 1.0625, 1.1, 1.12, 1.125 - UP, 0.0001, 0.3, 463.0])
    def test_the_count_of_words_that_round_up(self, value, bits):
        """The probability is floor(fraction * 2**bits) / 2**bits, for both signs."""
        value = float(np.float32(value))
        format = parse("e4m3ieee<bias6>")  # goes to 480, so that no input overflows
        near = reference.neighbors(Fraction(value), format)
        words = (np.arange(2**bits, dtype=np.uint64) << (32 - bits)).astype(np.uint32)
        noise_below = words | np.uint32(2 ** (32 - bits) - 1)  # these bits are not looked at
        for sign, drawn in product((1, -1), (words, noise_below)):
            x = np.full(drawn.shape, sign * value, np.float32)
            arguments = {"rounding": "stochastic", "random_bits": bits, "words": drawn}
            got = reference.quantize(x, format, **arguments)
            ups = int((got == sign * float(near.upper)).sum())
            assert ups == math.floor(near.fraction * 2**bits)
            assert ups + int((got == sign * float(near.lower)).sum()) == 2**bits

    def test_thirty_two_bits_are_the_default(self):
        # 1 + 2^-3 * 3 * 2^-20: up from the word 2^32 - 3 * 2^12 on.
        x = np.full(2, 1 + 3 * 2.0**-23, np.float32)
        words = np.uint32([2**32 - 3 * 2**12 - 1, 2**32 - 3 * 2**12])
        for arguments in ({}, {"random_bits": 32}):
            got = reference.quantize(x, "e4m3fn", rounding="stochastic", words=words, **arguments)
            assert_same_bits(got, [1.0, 1.125])

    def test_what_lies_below_the_random_bits_is_cut_off(self):
        # Far below the smallest subnormal floor(fraction * 2^32) is 0, and no word rounds up.
        x = np.float32([2.0**-9 * 2.0**-33, 2.0**-9 * 2.0**-32, -(2.0**-149)])
        words = np.full(3, ALL_ONES, np.uint32)
        got = reference.quantize(x, "e4m3fn", rounding="stochastic", words=words)
        assert_same_bits(got, [0.0, 2.0**-9, -0.0])


class TestFixedPointTable:
    """fixed4f1: words -8 … 7, halves, -4.0 … 3.5."""

    X = (
        0.24,
        0.25,
        0.26,
        0.75,
        1.25,
        -0.25,
        -0.75,
        -1.25,
        3.74,
        3.75,
        -4.25,
        -4.3,
        -0.2,
        0.0,
        -0.0,
    )
    NEAREST = (0, 0, 0.5, 1, 1, 0, -1, -1, 3.5, 3.5, -4, -4, 0, 0, 0)
    CUT = (0, 0, 0, 0.5, 1, 0, -0.5, -1, 3.5, 3.5, -4, -4, 0, 0, 0)

    def test_nearest_even(self):
        assert_same_bits(reference.quantize(np.float32(self.X), "fixed4f1"), self.NEAREST)

    def test_toward_zero(self):
        got = reference.quantize(np.float32(self.X), "fixed4f1", rounding="toward_zero")
        assert_same_bits(got, self.CUT)

    def test_stochastic(self):
        # 0.35 lies 0.7 of the way from 0 to 0.5: up where the word is at least 0.3 * 2^32.
        x = np.float32([0.35, 0.35, -0.35, -0.35, 0.5, -3.9])
        words = np.uint32([0.29 * 2**32, 0.31 * 2**32, 0.29 * 2**32, 0.31 * 2**32, ALL_ONES, 0])
        got = reference.quantize(x, "fixed4f1", rounding="stochastic", words=words)
        assert_same_bits(got, [0, 0.5, 0, -0.5, 0.5, -3.5])

    def test_negative_fraction_bits(self):
        x = np.float32([3, 4, 5, 12, 20, 56, 59, 60, -60, -64, -68, -100])  # steps of 8: -64 … 56
        want = [0, 0, 8, 16, 16, 56, 56, 56, -64, -64, -64, -64]
        assert_same_bits(reference.quantize(x, "fixed4f-3"), want)


class TestBlockTable:
    """bfp4: mantissas -7 … 7; the step is 2^(E - 2)."""

    def test_one_group(self):
        # The largest magnitude, 5.5, has E = 2: steps of 1, the range -7 … 7.
        x = np.float32([5.5, 0.5, 1.5, -0.5, -1.5, -2.6, 0.49, -0.0])
        assert_same_bits(reference.quantize(x, "bfp4"), [6, 0, 2, 0, -2, -3, 0, 0])
        got = reference.quantize(x, "bfp4", rounding="toward_zero")
        assert_same_bits(got, [5, 0, 1, 0, -1, -2, 0, 0])

    def test_past_the_range_saturates_and_keeps_the_exponent(self):
        x = np.float32([1.874, 1.875, 1.99, -1.99, 0.125, 0.126])
        assert_same_bits(reference.quantize(x, "bfp4"), [1.75, 1.75, 1.75, -1.75, 0, 0.25])
        np.testing.assert_array_equal(reference.overflowed(x, "bfp4"), [0, 1, 1, 1, 0, 0])
        cut = reference.overflowed(x, "bfp4", rounding="toward_zero")
        np.testing.assert_array_equal(cut, [0] * 6)

    def test_just_below_a_power_of_two(self):
        x = np.float32([8 * (1 - UP / 2), 1.0])  # floor(log2) is 2, however near to 8
        assert_same_bits(reference.quantize(x, "bfp4"), [7, 1])
        assert_same_bits(reference.quantize(np.float32([8, 1]), "bfp4"), [8, 0])

    def test_nan_and_infinities_have_no_say(self):
        x = np.float32([[1.3, NAN, INF, -INF], [NAN, INF, -INF, 0.0], [0.0, -0.0, 1e-45, NAN]])
        format = BlockFloatingPoint(4, PerChannel(0))
        least = SMALLEST["float32"]
        want = [[1.25, NAN, 1.75, -1.75], [NAN, 7 * least, -7 * least, 0], [0, 0, least, NAN]]
        assert_same_bits(reference.quantize(x, format), np.float32(want))
        fired = [[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
        np.testing.assert_array_equal(reference.overflowed(x, format), fired)

    @pytest.mark.parametrize("carrier", SMALLEST)
    def test_the_step_is_at_least_the_smallest_of_the_carrier(self, carrier):
        least = SMALLEST[carrier]
        floats = np.dtype("float32" if carrier == "bfloat16" else carrier).type
        x = floats([5 * least, 3 * least, INF])  # 8 bits would reach 16 times lower
        got = reference.quantize(x, "bfp8", carrier=carrier)
        assert_same_bits(got, [5 * least, 3 * least, 127 * least])
        x = floats([100 * least, 3 * least, INF])  # 4 bits have steps of 16
        got = reference.quantize(x, "bfp4", carrier=carrier)
        assert_same_bits(got, [96 * least, 0, 112 * least])
        got = reference.quantize(floats([0, -0.0, -INF]), "bfp4", carrier=carrier)
        assert_same_bits(got, [0, 0, -7 * least])

    def test_the_largest_exponent_of_float64(self):
        x = np.array([1.5 * 2.0**1023, 2.0**1020, -INF])
        want = [1.5 * 2.0**1023, 0, -1.75 * 2.0**1023]
        assert_same_bits(reference.quantize(x, "bfp4"), want)

    def test_a_narrow_exponent_is_clamped(self):
        # Three bits hold E from -3 to 4: steps from 2^-5 to 4.
        x = np.float32([[100, 60, -3, 1.9, -1e9, INF], [0.1, 0.02, -0.05, 1e-9, 0, NAN]])
        want = [[28, 28, -4, 0, -28, 28], [3 / 32, 1 / 32, -2 / 32, 0, 0, NAN]]
        assert_same_bits(reference.quantize(x, "bfp4<group,exponent3>"), want)
        fired = [[1, 1, 0, 0, 1, 1], [0] * 6]
        np.testing.assert_array_equal(reference.overflowed(x, "bfp4<group,exponent3>"), fired)
        zeros = np.float32([0, INF, -0.0])  # with the least exponent
        assert_same_bits(reference.quantize(zeros, "bfp4<exponent3>"), [0, 7 / 32, 0])

    @pytest.mark.parametrize("carrier", SMALLEST)
    def test_more_exponents_than_the_carrier_has_change_nothing(self, carrier):
        least = SMALLEST[carrier]
        floats = np.dtype("float32" if carrier == "bfloat16" else carrier).type
        x = floats([[5 * least, 3 * least, INF], [1.3, -7, 0.01]])
        got = reference.quantize(x, "bfp8<group,exponent11>", carrier=carrier)
        if carrier == "float64":  # -1023, and steps 2^6 times smaller
            assert_same_bits(got[0], [0, 0, 127 * 2.0**-1029])
            assert_same_bits(got[1], reference.quantize(x, "bfp8<group>")[1])
        else:
            assert_same_bits(got, reference.quantize(x, "bfp8<group>", carrier=carrier))

    @pytest.mark.parametrize(
        ("granularity", "want"),
        [
            (PerBlock((2, 2)), [[2, 8, 0, 0, 48], [2, 0, 0, 32, 0]]),
            (PerBlock((1, 3)), [[2, 8, 2, 0, 48], [1.0, 0.5, 3, 32, 0]]),
            (PerBlock((3, 9)), [[0, 8, 0, 0, 48], [0, 0, 0, 32, 0]]),
            (PerGroup(2), [[2, 8, 1.25, 0.25, 48], [1.25, 0.25, 0, 32, 0.3125]]),
            (PerGroup(), [[0, 8, 0, 0, 48], [0, 0, 0, 32, 0]]),
            (PerGroup(2, 0), [[1.25, 8, 1.5, 0, 48], [1.25, 0, 3, 32, 0]]),
            (PerChannel(1), [[1.25, 8, 1.5, 0, 48], [1.25, 0, 3, 32, 0]]),
            (PerChannel((0, 1)), [[1.25, 8, 1.25, 0.3125, 48], [1.25, 0.3125, 3, 32, 0.3125]]),
        ],
        ids=str,
    )
    def test_granularities(self, granularity, want):
        x = np.float32([[1.2, 8, 1.3, 0.3, 48], [1.2, 0.3, 3, 32, 0.3]])
        got = reference.quantize(x, BlockFloatingPoint(4, granularity))
        assert_same_bits(got, want)

    def test_a_group_does_not_notice_the_others(self):
        rng = np.random.default_rng(3)
        x = (rng.standard_normal((3, 5, 7)) * 2.0 ** rng.integers(-9, 9, (3, 5, 7))).astype("f4")
        got = reference.quantize(x, BlockFloatingPoint(5, PerGroup(3, 1)))
        for i, start, k in product(range(3), (0, 3), range(7)):
            group = x[i, start : start + 3, k]
            assert_same_bits(got[i, start : start + 3, k], reference.quantize(group, "bfp5"))
