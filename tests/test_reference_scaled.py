"""Scaled formats by the reference: scales, values and codes worked out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
from comparison import assert_same_bits

from lowprec import reference

INF, NAN = math.inf, math.nan
INT8, INT4, UINT8 = "int8", "int4", "uint8"
SEVENTH = 9586981 * 2.0**-26
"""The float32 next to 1/7, which is larger."""
OVER = "scaled<e2m1,{},amax>"


class TestScales:
    """A dozen numbers by hand; 1/7 lies between two float32 numbers, and so on."""

    @pytest.mark.parametrize(
        ("format", "x", "scale"),
        [
            (INT8, [1.0, -254.0], 2.0),
            (INT4, [1.0], SEVENTH),
            ("scaled<fixed4f0<symmetric>,bfloat16,amax>", [1.0], 146 * 2.0**-10),  # 1/7 is 146.3 of them
            ("scaled<fixed4f0<symmetric>,float16,amax>", [1.0], 1170 * 2.0**-13),  # 1170.3
            (OVER.format("e4m3fn"), [1.0], 11 / 64),  # 1/6 is 10.7 of these steps
            (OVER.format("e5m2"), [1.0], 5 / 32),  # 5.3
            (OVER.format("e4m3fn"), [6 * 1.0625], 1.0),  # a tie, to the even mantissa
            (OVER.format("e4m3fn"), [6 * 1.1875], 1.25),
            (OVER.format("e4m3fn"), [1e6], 448.0),
            (OVER.format("e4m3fn"), [464 * 6.0], 448.0),
            (OVER.format("e5m2"), [3e38], 57344.0),
            (OVER.format("float16"), [1e9], 65504.0),
            (OVER.format("e4m3fn"), [6 * 2.0**-10], 2.0**-9),  # half the least one: its tie goes to 0
            (OVER.format("e4m3fn"), [2.0**-149], 2.0**-9),
            (OVER.format("bfloat16"), [2.0**-149], 2.0**-133),
            (OVER.format("float32"), [0.0], 2.0**-149),
            (OVER.format("e5m2"), [INF, NAN], 2.0**-16),
        ],
    )
    def test_the_largest_magnitude_over_the_largest_value(
        self, format: str, x: list[float], scale: float
    ) -> None:
        assert_same_bits(reference.scales(np.float32(x), format), [scale])

    @pytest.mark.parametrize(
        ("rule", "largest", "exponent"),
        [
            ("floor", 6.0, 0), ("ceil", 6.0, 1), ("rceil", 6.0, 0), ("even", 6.0, 0),
            ("floor", 6.5, 0), ("ceil", 6.5, 1), ("rceil", 6.5, 1), ("even", 6.5, 0),
            ("floor", 7.0, 0), ("ceil", 7.0, 1), ("rceil", 7.0, 1), ("even", 7.0, 1),
            ("floor", 4.0, 0), ("ceil", 4.0, 0), ("rceil", 4.0, 0), ("even", 4.0, 0),
        ],
    )  # fmt: skip
    def test_powers_of_two_by_each_rule(self, rule: str, largest: float, exponent: int) -> None:
        for scale in ("e8m0", "float32", "bfloat16", "float16", "e5m2", "e4m3fn"):
            got = reference.scales(np.float32([largest, 1, -2]), f"scaled<e2m1,{scale},{rule}>")
            assert_same_bits(got, [2.0**exponent])

    @pytest.mark.parametrize(
        ("scale", "least", "largest"),
        [("e8m0", -127, 127), ("float32", -149, 127), ("bfloat16", -133, 127), ("float16", -24, 15),
         ("e5m2", -16, 15), ("e4m3fn", -9, 8)],
    )  # fmt: skip
    def test_powers_of_two_are_clamped(self, scale: str, least: int, largest: int) -> None:
        x = np.array([[2.0**-1074], [0], [NAN], [1e300], [2.0 ** (largest + 2)], [2.0 ** (least + 1)]])
        got = reference.scales(x, f"scaled<e2m1,{scale},channel0,floor>")
        assert_same_bits(got[:, 0], 2.0 ** np.array([least, least, least, largest, largest, least]))

    def test_two_levels(self) -> None:
        x = np.zeros((1, 64))
        x[0, [3, 20, 40]] = 2688, -3, 6 * 1.0625
        inner, outer = reference.scales(x, "nvfp4")
        assert_same_bits(outer, [[1.0]])
        assert_same_bits(inner, [[448, 0.5, 1.0, 2.0**-9]])
        inner, outer = reference.scales(np.float32([1.0]), "nvfp4")  # 1/2688 is 12782640.8 steps
        assert_same_bits(outer, [12782641 * 2.0**-35])
        assert_same_bits(inner, [448.0])
        inner, outer = reference.scales(np.zeros(17), "nvfp4")
        assert_same_bits(outer, [2.0**-149])
        assert_same_bits(inner, [2.0**-9, 2.0**-9])

    def test_the_outer_level_has_groups_of_groups(self) -> None:
        format = "scaled<e2m1,scaled<e4m3fn,bfloat16,group2,amax>,group2,amax>"
        x = np.array([[2688.0, 0, 6, 0, 6, 0, 0, 12]])
        inner, outer = reference.scales(x, format)
        # 2/448 is 146.3 steps of 2^-15: 1/448 of them is what 6 wants.
        assert_same_bits(outer, [[1.0, 146 * 2.0**-15]])
        assert_same_bits(inner, [[448, 1, 224, 448]])

    @pytest.mark.parametrize(
        ("x", "scale", "zero"),
        [
            ([-1.0, 254.0], 1.0, 1),
            ([-0.5, 254.5], 1.0, 0),  # a tie, to the even integer
            ([-1.5, 253.5], 1.0, 2),
            ([510.0, 3.0], 2.0, 0),  # zero is always within the range
            ([-255.0, -1.0], 1.0, 255),
            ([INF, NAN, 0.0], 2.0**-149, 0),
            ([2.0**-149, -(2.0**-149)], 2.0**-149, 1),
            ([1e300, -1e300], (2 - 2.0**-23) * 2.0**127, 255),
        ],
    )
    def test_zero_points(self, x: list[float], scale: float, zero: int) -> None:
        got, zeros = reference.scales(np.array(x), UINT8)
        assert_same_bits(got, [scale])
        assert zeros.tolist() == [zero]

    def test_a_range_is_not_rounded_before_it_is_divided(self) -> None:
        # Over 255 it is a tie between 2^24 and 2^24 + 2 of float32, which goes to the even 2^24.
        tie = 255.0 * (2**24 + 1)
        assert_same_bits(reference.scales(np.array([tie, 0]), UINT8)[0], [2.0**24])
        low = -(2.0**-80)  # which float64 does not see beside it
        assert_same_bits(reference.scales(np.array([tie, low]), UINT8)[0], [2.0**24 + 2])


class TestValues:
    @pytest.mark.parametrize(
        ("format", "x", "want"),
        [
            (INT8, [254.0, 1, -1, 3, -3, 5, -0.0], [254.0, 0, 0, 4, -4, 4, 0]),
            (INT4, [1.0, 0.5, -1], [1.0, 3 * SEVENTH, -1]),  # 7 of them are 1 + 3*2^-26
            # 2.909, 2.5 (a tie, to the even code of 2), 5.8
            (OVER.format("e4m3fn"), [1.0, 0.5, 55 / 128, -1.0], [66 / 64, 33 / 64, 22 / 64, -66 / 64]),
            # 2.90, -0.22
            (OVER.format("e4m3fn"), [1e6, 1300.0, -100.0, -0.0], [2688.0, 1344.0, -0.0, -0.0]),
            ("scaled<e5m2,float32,amax>", [INF, -INF, 57344.0], [INF, -INF, 57344.0]),
            ("scaled<e5m2<saturate_all>,float32,amax>", [INF, 114688.0], [114688.0, 114688.0]),
            ("scaled<e4m3fn<infinity>,float32,amax>", [INF, 448.0, NAN], [NAN, 448.0, NAN]),
            (OVER.format("float32"), [INF, -INF, 12.0], [12.0, -12.0, 12.0]),
            ("nvfp4", [1.0, -1.0, 0.5], [1.0, -1.0, 3 * 89478487 * 2.0**-29]),
            (UINT8, [-0.5, 254.5, -0.0], [0.0, 254.0, 0.0]),
            (UINT8, [-1.5, 253.5, 0.5, 1.5], [-2.0, 253.0, 0.0, 2.0]),
            (UINT8, [-255.0, INF, -INF, NAN], [-255.0, 0.0, -255.0, NAN]),
        ],
    )  # fmt: skip
    def test_to_nearest_even(self, format: str, x: list[float], want: list[float]) -> None:
        got = reference.quantize(np.float32(x), format)
        assert_same_bits(got, np.float32(want))

    def test_the_product_is_rounded_once_to_the_carrier(self) -> None:
        # 6 of 1/7's float32 are 57521886 * 2^-26, halfway between two float32 numbers.
        down = {"rounding": "toward_zero"}
        assert reference.quantize(np.float32([1]), INT4, **down)[0] == 14380472 * 2.0**-24
        assert reference.quantize(np.float64([1]), INT4, **down)[0] == 57521886 * 2.0**-26
        assert reference.quantize(np.float64([1]), "nvfp4")[0] == 1 + 5 * 2.0**-28

    def test_it_is_not_rounded_twice_to_bfloat16(self) -> None:
        # 3 of these are 257/128 + 2^-23; float32 would make a tie of it, which goes to 2.
        scale = np.array([5614251 * 2.0**-23])
        got = reference.quantize(np.float32([2.0]), OVER.format("float32"), carrier="bfloat16", scale=scale)
        assert got.tolist() == [2.015625]

    def test_it_may_leave_the_range_of_the_carrier(self) -> None:
        format = "scaled<e4m3fn,float32,amax>"
        x = np.float16([60000, -60000, 1, -1])
        got = reference.quantize(x, format, scale=np.array([256.0]))  # 234.4 of them are 240
        assert_same_bits(got, np.float16([61440, -61440, 1, -1]))
        wide = reference.quantize(x, format, scale=np.array([144.0]))  # 416.7 of them are 416
        assert_same_bits(wide, np.float16([59904, -59904, 1.125, -1.125]))
        assert_same_bits(reference.quantize(x, format, scale=np.array([2.0**-60]))[:2], np.float16([0, -0.0]))
        up = reference.quantize(x, format, scale=np.array([1900.0]), rounding="away")
        assert_same_bits(up, np.float16([60800, -60800, 1900 * 2.0**-9, -1900 * 2.0**-9]))
        far = reference.quantize(x, format, scale=np.array([2.0**60]), rounding="away")
        assert_same_bits(far, np.float16([INF, -INF, INF, -INF]))

    def test_a_negative_value_that_the_carrier_lacks_is_zero_where_there_is_one_zero(self) -> None:
        x, scale = np.float16([-1.0]), np.array([2.0**-60])
        assert_same_bits(reference.quantize(x, INT8, scale=scale), np.float16([0.0]))
        zero_point = (scale, np.array([200]))
        assert_same_bits(reference.quantize(x, UINT8, scale=zero_point), np.float16([0.0]))

    @pytest.mark.parametrize(
        ("rounding", "want"),
        [
            ("nearest_even", [0, 2, -2]), ("nearest_away", [1, 2, -2]), ("nearest_zero", [0, 1, -1]),
            ("nearest_odd", [1, 1, -1]), ("nearest_up", [1, 2, -1]), ("nearest_down", [0, 1, -2]),
            ("toward_zero", [0, 1, -1]), ("away", [1, 2, -2]), ("up", [1, 2, -1]), ("down", [0, 1, -2]),
            ("to_odd", [1, 1, -1]),
        ],
    )  # fmt: skip
    def test_zero_points_shift_no_decision(self, rounding: str, want: list[int]) -> None:
        """The integer that is rounded is the quotient's, whatever is added to it."""
        for zero in (2, 3, 128):
            scale = np.array([1.0]), np.array([zero])
            got = reference.quantize(np.array([0.5, 1.5, -1.5]), UINT8, scale=scale, rounding=rounding)
            assert_same_bits(got, np.float64(want))

    def test_stochastic_rounding_sees_the_exact_quotient(self) -> None:
        x = np.float32([SEVENTH / 2, SEVENTH / 2])
        draw = {"rounding": "stochastic", "scale": np.array([SEVENTH])}
        words = np.uint32([2**31 - 1, 2**31])
        assert_same_bits(reference.quantize(x, INT4, words=words, **draw), np.float32([0, SEVENTH]))
        below = np.nextafter(x, np.float32(0))  # a part in 9586981 less
        # floor(2^31 * (1 - 1/9586981)) = floor(2^31 - 223.99998) of 2^32 words go up
        covered = math.floor(Fraction(float(below[0])) / Fraction(SEVENTH) * 2**32)
        assert covered == 2**31 - 224
        words = np.uint32([2**32 - covered - 1, 2**32 - covered])
        assert_same_bits(reference.quantize(below, INT4, words=words, **draw), np.float32([0, SEVENTH]))
        draw["random_bits"] = 1
        assert_same_bits(reference.quantize(below, INT4, words=words, **draw), np.float32([0, 0]))

    def test_overflow(self) -> None:
        x = np.array([7.5, 7.49, -7.5, 8.0, INF, -INF, NAN])
        scale = np.array([1.0])
        fired = [True, False, True, True, True, True, False]
        assert reference.overflowed(x, INT4, scale=scale).tolist() == fired
        fired = [False, False, True, False, True, True, False]
        assert reference.overflowed(x, INT4, scale=scale, rounding="down").tolist() == fired
        zero_point = scale, np.array([248])  # 7 above zero, 248 below
        fired = [True, False, False, True, True, True, False]
        assert reference.overflowed(x, UINT8, scale=zero_point).tolist() == fired
        assert_same_bits(reference.quantize(x, UINT8, scale=zero_point), [7, 7, -8, 7, 7, -248, NAN])


class TestCodes:
    def test_by_hand(self) -> None:
        codes, scale = reference.encode(np.float32([254, 1, -1, -254]), INT8)
        assert (codes.dtype, codes.tolist(), scale.tolist()) == (np.uint8, [127, 0, 0, 0x81], [2.0])
        codes, (scale, zero) = reference.encode(np.float32([-1.5, 253.5, 0]), UINT8)
        assert (codes.tolist(), scale.tolist(), zero.tolist()) == ([0, 255, 2], [1.0], [2])
        codes, (inner, outer) = reference.encode(np.float32([2688, -0.0, -448]), "nvfp4")
        assert (codes.tolist(), inner.tolist(), outer.tolist()) == ([7, 8, 10], [448.0], [1.0])
        codes, scale = reference.encode(np.float32([7.0, NAN]), "mxfp8_e4m3")
        assert (codes.tolist(), scale.tolist()) == ([0x7E, 0x7F], [2.0**-6])

    def test_a_nan_among_the_scales_makes_its_groups_nan(self) -> None:
        codes = np.uint8([[9, 4], [7, 2]])
        for format, scales in (
            ("scaled<e2m1,e4m3fn,channel0,amax>", np.array([[NAN], [2.0]])),
            ("scaled<e2m1,e8m0,channel0>", np.array([[NAN], [2.0]])),
            ("scaled<ufixed4f0,float32,channel0,amax,zero_point>",
             (np.array([[NAN], [2.0]]), np.array([[0], [1]]))),
            ("scaled<e2m1,scaled<e4m3fn,float32,channel0,amax>,channel0,amax>",
             (np.array([[1.0], [2.0]]), np.array([[NAN], [1.0]]))),
        ):  # fmt: skip
            got = reference.decode(codes, format, scales=scales)
            assert np.isnan(got[0]).all()
            assert_same_bits(got[1], np.float32([12, 2]))
