"""Scaled formats by the reference: scales and values worked out by hand, found by search, properties."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from comparison import assert_same_bits, words_like

from lowprec import reference
from lowprec.formats import parse
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
INT8, INT4, UINT8 = "int8", "int4", "uint8"
SEVENTH = 9586981 * 2.0**-26
"""The float32 next to 1/7, which is larger."""
OVER = "scaled<e2m1,{},amax>"
FORMATS = (
    "nvfp4", INT8, INT4, UINT8, "mxfp4", "mxfp8_e5m2", "mxint8",
    "scaled<e4m3fn,float32,channel0,amax>",
    "scaled<e5m2,bfloat16,group4,amax>",
    "scaled<e3m2,float16,group3@0,amax>",
    "scaled<e2m1,e4m3fn,group4,amax>",
    "scaled<e2m3,e5m2,block2x3,rceil>",
    "scaled<e4m3fnuz,e4m3fn,group4,even>",
    "scaled<e4m3fn<infinity>,float32,group5,floor>",
    "scaled<fixed8f3<symmetric>,e4m3fn,group4,ceil>",
    "scaled<e2m1,scaled<e5m2,bfloat16,channel0,amax>,group4,amax>",
    "scaled<fixed4f0<symmetric>,scaled<binary16,float32,block1x2,amax>,group3,amax>",
    "scaled<ufixed4f0,float16,group5@0,amax,zero_point>",
    "scaled<ufixed16f0,float32,channel1,amax,zero_point>",
)  # fmt: skip


def spread(dtype: type = np.float32) -> npt.NDArray[np.floating]:
    """Numbers of every magnitude that the dtype has, zeros, a NaN and infinities."""
    generator = np.random.default_rng(3)
    limits = np.finfo(dtype)
    with np.errstate(over="ignore", under="ignore"):
        rows = generator.standard_normal((6, 11)) * np.exp2(generator.integers(-9, 9, (6, 11)))
        rows[4] = np.minimum(np.abs(rows[4]) / 99, 1) * float(limits.max)
        rows[5] *= float(limits.smallest_subnormal)
        x = rows.astype(dtype)
    x[3] = 0
    x[0, :4], x[3, 7], x[2, 10] = [0.0, -0.0, NAN, INF], -INF, -INF
    return x


def noise_like(x: npt.NDArray[np.floating], rounding: str) -> dict[str, npt.NDArray[np.uint32]]:
    """Words, where the mode takes them."""
    return {"words": words_like(x)} if Rounding(rounding).is_stochastic else {}


def parts(stored: object) -> tuple[npt.NDArray, ...]:
    """Scales as a tuple in any case."""
    return stored if isinstance(stored, tuple) else (stored,)


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

    @pytest.mark.parametrize("carrier", ["float32", "bfloat16", "float16", "float64"])
    @pytest.mark.parametrize("format", FORMATS)
    def test_decoding_gives_what_quantize_gives(self, format: str, carrier: str) -> None:
        dtype = np.dtype("float32" if carrier == "bfloat16" else carrier)
        parsed, x = parse(format), spread(dtype.type)
        if carrier == "bfloat16":
            x = reference.quantize(x, "bfloat16<saturate>")
        if parsed.missing_in(CARRIERS[carrier]):
            with pytest.raises(ValueError, match=f"be exact in the carrier {carrier}"):
                reference.quantize(x, format, carrier=carrier)
            return
        if not parsed.has_nan:
            with pytest.raises(ValueError, match="It has no code for NaN"):
                reference.encode(x, format, carrier=carrier)
            x = np.where(np.isnan(x), dtype.type(0.5), x)
        if "<infinity>" in format:
            x = np.where(np.isfinite(x), x, dtype.type(0.5))
        for rounding in Rounding:
            options = {"rounding": rounding, "carrier": carrier, **noise_like(x, rounding)}
            want = reference.quantize(x, format, **options)
            codes, stored = reference.encode(x, format, **options)
            got = reference.decode(codes, format, dtype=dtype, scales=stored, carrier=carrier)
            assert_same_bits(got, want)
            if rounding not in ("down", "stochastic"):
                continue
            for one, other in zip(parts(stored), parts(reference.scales(x, format)), strict=True):
                assert_same_bits(one, other)
            again = reference.encode(x, format, scale=stored, **options)
            np.testing.assert_array_equal(again[0], codes)
            assert_same_bits(reference.quantize(x, format, scale=stored, **options), want)
            np.testing.assert_array_equal(
                reference.overflowed(x, format, scale=stored, **options),
                reference.overflowed(x, format, **options),
            )

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


class TestGiven:
    def test_the_inner_level_may_follow_from_the_elements(self) -> None:
        x = np.float32([[6.0] * 16 + [1.0] * 16])
        outer = np.array([[0.25]])
        codes, (inner, kept) = reference.encode(x, "nvfp4", scale=(None, outer))
        assert_same_bits(kept, outer)
        assert_same_bits(inner, [[4.0, 0.6875]])  # 2/3 is 10.7 steps of 2^-4
        assert codes.tolist() == [[7] * 32]

    @pytest.mark.parametrize("format", [name for name in FORMATS if "nvfp4" in name or "scaled<" in name[1:]])
    def test_an_outer_level_that_would_be_found_changes_nothing(self, format: str) -> None:
        x = spread()
        inner, outer = reference.scales(x, format)
        want = reference.quantize(x, format)
        assert_same_bits(reference.quantize(x, format, scale=(None, outer)), want)
        assert_same_bits(reference.quantize(x, format, scale=(inner, outer)), want)

    @pytest.mark.parametrize(
        ("format", "scale", "error", "message"),
        [
            (INT8, 2.0, TypeError, "`scale` must be a float64 array, got 2.0"),
            (INT8, np.float32([2]), TypeError, "`scale` must be a float64 array, got .*float32"),
            (INT8, np.ones(2), ValueError, r"`scale` must have the shape \(1,\), got \(2,\)"),
            (INT8, np.array([0.1]), ValueError, "`scale` must be positive values of binary32, got 0.1"),
            (INT8, np.array([0.0]), ValueError, "be positive values of binary32, got 0.0"),
            (INT8, np.array([-1.0]), ValueError, "be positive values of binary32, got -1.0"),
            (INT8, np.array([INF]), ValueError, "be positive values of binary32, got inf"),
            (INT8, np.array([NAN]), ValueError, "be positive values of binary32, got nan"),
            ("mxfp4", np.array([3.0]), ValueError, "be positive values of e8m0, got 3.0"),
            ("mxfp4", np.array([2.0**128]), ValueError, "be positive values of e8m0, got 3.4"),
            ("mxfp4", np.array([2.0**-128]), ValueError, "be positive values of e8m0, got 2.9"),
            ("mxfp4", np.array([0.0]), ValueError, "be positive values of e8m0, got 0.0"),
            ("nvfp4", np.ones(1), TypeError, "`scale` must be a pair for nvfp4"),
            ("nvfp4", (np.ones(1), None), TypeError, "`scale` must be a float64 array, got None"),
            ("nvfp4", (np.array([0.3]), np.ones(1)), ValueError, "be positive values of e4m3fn, got 0.3"),
            (UINT8, np.ones(1), TypeError, "`scale` must be a pair for uint8"),
            (UINT8, (None, np.zeros(1, int)), TypeError, "`scale` must be a float64 array, got None"),
            (UINT8, (np.ones(1), np.ones(1)), TypeError, "hold zero points as an array of int.*float64"),
            (UINT8, (np.ones(1), np.ones((1, 1), int)), ValueError, r"have zero points of the shape \(1,\)"),
            (UINT8, (np.ones(1), np.array([256])), ValueError, "have zero points from 0 to 255, got 256"),
            (UINT8, (np.ones(1), np.array([-1])), ValueError, "have zero points from 0 to 255, got -1"),
            ("e2m1", np.ones(1), ValueError, "`scale` must be None for e2m1"),
            ("bfp8", np.ones(1), ValueError, "`scale` must be None for bfp8"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, format: str, scale: object, error: type, message: str) -> None:
        x = np.float32([1.0])
        for function in (reference.quantize, reference.overflowed, reference.encode):
            with pytest.raises(error, match=message):
                function(x, format, scale=scale)

    def test_what_decode_refuses(self) -> None:
        codes = np.uint8([1])
        with pytest.raises(TypeError, match="`scales` must be a float64 array, got None"):
            reference.decode(codes, INT8)
        with pytest.raises(TypeError, match="`scales` must be a float64 array, got None"):
            reference.decode(codes, "nvfp4", scales=(None, np.ones(1)))
        with pytest.raises(ValueError, match=r"`scales` must have the shape \(1,\), got \(3,\)"):
            reference.decode(codes, INT8, scales=np.ones(3))
        with pytest.raises(
            ValueError, match=r"`scales` must be None for a format without groups, got \(1,\)"
        ):
            reference.decode(codes, "e2m1", scales=np.ones(1))
        with pytest.raises(TypeError, match="`format` must be scaled"):
            reference.scales(np.ones(1), "bfp8")


class TestSearch:
    """Values and scales found among all that there are."""

    @pytest.mark.parametrize("scale", ["e4m3fn", "e5m2"])
    def test_scales_are_the_nearest_ones(self, scale: str) -> None:
        values = [Fraction(v) for v in parse(scale).values() if v > 0]
        x = np.exp2(np.random.default_rng(0).uniform(-20, 20, (300, 1))).astype(np.float32)
        got = reference.scales(x, f"scaled<e2m1,{scale},channel0,amax>")
        for number, found in zip(x[:, 0].tolist(), got[:, 0].tolist(), strict=True):
            wanted = Fraction(number) / 6
            distance = min(abs(value - wanted) for value in values)
            assert abs(Fraction(found) - wanted) == distance

    @pytest.mark.parametrize(
        "format", ["nvfp4", "int4", OVER.format("float16"), "scaled<e3m2,bfloat16,amax>"]
    )
    def test_values_are_the_nearest_ones_and_directed_modes_enclose(self, format: str) -> None:
        x = np.random.default_rng(1).standard_normal(200) * 3  # in float64 no product is rounded
        scale = math.prod(
            Fraction(float(part.ravel()[0])) for part in parts(reference.scales(x[:16], format))
        )
        values = sorted(Fraction(v) * scale for v in parse(format).values())
        nearest = reference.quantize(x[:16], format)
        down = reference.quantize(x[:16], format, rounding="down")
        for number, near, below in zip(x[:16].tolist(), nearest.tolist(), down.tolist(), strict=True):
            exact = min(max(Fraction(number), values[0]), values[-1])
            assert abs(Fraction(near) - exact) == min(abs(value - exact) for value in values)
            assert Fraction(below) == max([v for v in values if v <= Fraction(number)], default=values[0])

    def test_zero_points_reach_every_integer(self) -> None:
        x = np.linspace(-3.0, 7.2, 1000)
        codes, (scale, zero) = reference.encode(x, "scaled<ufixed4f0,float32,amax,zero_point>")
        assert sorted(set(codes.tolist())) == list(range(16))
        s, z = Fraction(float(scale[0])), int(zero[0])
        for number, code in zip(x.tolist(), codes.tolist(), strict=True):
            distances = [abs((k - z) * s - Fraction(number)) for k in range(16)]
            assert distances[code] == min(distances)


class TestProperties:
    @pytest.mark.parametrize("format", FORMATS)
    def test_a_nan_changes_no_other_element(self, format: str) -> None:
        x = spread()
        x[1, 5] = 0
        want = reference.quantize(x, format)
        x[1, 5] = NAN
        got = reference.quantize(x, format)
        assert np.isnan(got[1, 5])
        got[1, 5] = want[1, 5]
        assert_same_bits(got, want)

    @pytest.mark.parametrize("format", [f for f in FORMATS if "zero_point" not in f and f != UINT8])
    def test_what_is_symmetric_is_mirrored(self, format: str) -> None:
        x = spread()
        mirrored = {"up": "down", "down": "up", "nearest_up": "nearest_down", "nearest_down": "nearest_up"}
        signed = parse(format).has_signed_zero
        for rounding in Rounding:
            noise = noise_like(x, rounding)
            got = reference.quantize(-x, format, rounding=mirrored.get(rounding, rounding), **noise)
            want = -reference.quantize(x, format, rounding=rounding, **noise)
            assert_same_bits(got, want if signed else want + np.float32(0))

    @pytest.mark.parametrize("format", ["nvfp4", INT8, UINT8, "scaled<e4m3fn,bfloat16,group4,amax>"])
    def test_powers_of_two_move_through(self, format: str) -> None:
        x = np.random.default_rng(2).standard_normal((3, 40))
        want = reference.quantize(x, format)
        for exponent in (-5, 7):
            assert_same_bits(reference.quantize(x * 2.0**exponent, format), want * 2.0**exponent)

    @pytest.mark.parametrize("format", FORMATS)
    def test_zero_stays(self, format: str) -> None:
        x = spread()
        for rounding in Rounding:
            got = reference.quantize(x, format, rounding=rounding, **noise_like(x, rounding))
            zeros = np.copysign(0.0, x[x == 0]) if parse(format).has_signed_zero else np.abs(x[x == 0])
            assert_same_bits(got[x == 0], zeros)

    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 0, 3)])
    def test_no_element(self, format: str, shape: tuple[int, ...]) -> None:
        x = np.empty(shape, np.float32)
        codes, stored = reference.encode(x, format)
        assert codes.shape == reference.quantize(x, format).shape == shape
        assert parts(stored)[0].size == 0

    def test_a_number_alone(self) -> None:
        for format, want in ((INT8, 127.0), (UINT8, 255.0), ("scaled<e4m3fn,e8m0>", 448.0)):
            for function in (reference.quantize, reference.scales):
                got = parts(function(np.array(want), format))[0]
                assert got.shape == ()
                assert got == (want if function is reference.quantize else 1.0)
