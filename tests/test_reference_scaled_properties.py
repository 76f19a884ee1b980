"""Scaled formats by the reference: codes, scales that are given, what a search finds, properties."""

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
        with pytest.raises(TypeError, match="`format` must be a Scaled format, got"):
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
