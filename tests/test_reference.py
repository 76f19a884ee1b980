"""The reference against other packages and against lists of values; its arguments and errors."""

import math
from fractions import Fraction
from itertools import product
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from comparison import assert_same_bits, words_like
from hard_inputs import all_bfloat16, hard_values
from peer_cases import PEER_CASES, PeerCase

from lowprec import reference
from lowprec.formats import (
    NAMED,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Format,
    parse,
)
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
ALL_ONES = 2**32 - 1

SMALL_FORMATS = [
    FloatingPoint(exponent_bits, mantissa_bits, specials=specials, overflow=overflow, bias=bias)
    for exponent_bits, mantissa_bits, bias in [
        (1, 1, None), (1, 3, 2), (2, 0, None), (2, 1, 3), (3, 2, None), (3, 0, -4), (4, 3, 11),
    ]
    for specials, overflow in product(("ieee", "fn"), ("infinity", "saturate", "saturate_all"))
]  # fmt: skip
FIXED_FORMATS = [parse(name) for name in ("fixed2f0", "fixed4f1<symmetric>", "fixed5f-3", "fixed4f9")]

GFLOAT_FORMATS = [
    format
    for format in SMALL_FORMATS
    if not format.has_infinity or (format.overflow != "saturate" and format.exponent_bits > 1)
]
"""gfloat saturates finite values and infinities alike, and wants a normal value in each format."""


def randomness(x: npt.NDArray[np.floating], rounding: Rounding) -> dict[str, object]:
    """The extra arguments that a mode needs."""
    return {"words": words_like(x)} if rounding is Rounding.STOCHASTIC else {}


class TestAgainstOtherPackages:
    @pytest.mark.parametrize(
        ("name", "dtype"),
        [
            ("e4m3fn<infinity>", "float8_e4m3fn"),
            ("e4m3ieee", "float8_e4m3"),
            ("e3m4ieee", "float8_e3m4"),
            ("e5m2", "float8_e5m2"),
            ("bfloat16", "bfloat16"),
        ],
    )
    @pytest.mark.parametrize("inputs", ["bfloat16", "hard"])
    def test_nearest_even_is_the_cast_of_ml_dtypes(self, name, dtype, inputs):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")
        x = all_bfloat16() if inputs == "bfloat16" else hard_values(parse(name))
        with np.errstate(all="ignore"):
            want = x.astype(getattr(ml_dtypes, dtype)).astype(np.float32)
        assert_same_bits(reference.quantize(x, name), want)

    @pytest.mark.parametrize("inputs", ["bfloat16", "hard"])
    def test_saturation_differs_from_ml_dtypes_only_past_the_range(self, inputs):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")
        x = all_bfloat16() if inputs == "bfloat16" else hard_values(parse("e4m3fn"))
        with np.errstate(all="ignore"):
            cast = x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
        past = np.isnan(cast) & ~np.isnan(x)
        want = np.where(past, np.copysign(np.float32(448), x), cast)
        assert_same_bits(reference.quantize(x, "e4m3fn"), want)
        np.testing.assert_array_equal(reference.overflowed(x, "e4m3fn"), past)

    @pytest.mark.parametrize("inputs", ["bfloat16", "hard"])
    def test_binary16_is_the_cast_of_numpy(self, inputs):
        x = all_bfloat16() if inputs == "bfloat16" else hard_values(parse("binary16"))
        with np.errstate(all="ignore"):
            want = x.astype(np.float16).astype(np.float32)
        assert_same_bits(reference.quantize(x, "binary16"), want)

    def test_float64_to_binary32_and_binary16_is_the_cast_of_numpy(self):
        floats = np.concatenate([hard_values(parse("binary16")), all_bfloat16()[::17]])
        with np.errstate(all="ignore"):
            floats = floats.astype(np.float64)
            near = [np.nextafter(floats, end) for end in (-INF, INF)]
            x = np.concatenate([floats, *near, floats * (1 + 2.0**-24)])
        x = np.concatenate([x, [1e300, -1e300, 2.0**-150, 3 * 2.0**-150]])
        for name, dtype in (("binary32", np.float32), ("binary16", np.float16)):
            with np.errstate(all="ignore"):
                want = x.astype(dtype).astype(np.float64)
            assert_same_bits(reference.quantize(x, name), want)

    @pytest.mark.parametrize("format", GFLOAT_FORMATS, ids=str)
    def test_every_mode_is_that_of_gfloat(self, format):
        gfloat = pytest.importorskip("gfloat", reason="an oracle; extra `test`")
        info = gfloat_info(gfloat, format)
        x = hard_values(format)
        x = x[~np.isnan(x)] if info.num_nans == 0 else x
        saturate = format.overflow != "infinity"
        mode = gfloat.RoundMode

        def rounded(rounding, bits=0, words=None):
            words = np.zeros(x.shape, np.int64) if words is None else words
            return [
                gfloat.round_float(info, value, rounding, saturate, word, bits)
                for value, word in zip(x.tolist(), words.tolist(), strict=True)
            ]

        assert_same_bits(reference.quantize(x, format), rounded(mode.TiesToEven))
        # gfloat lets a finite value saturate toward zero, as we do, but lets no infinity stay.
        truncated = reference.quantize(x, format, rounding="toward_zero")
        assert_same_bits(truncated, rounded(mode.TowardZero))
        for bits in (1, 3, 8):
            words = words_like(x, bits)
            got = reference.quantize(x, format, rounding="stochastic", random_bits=bits, words=words)
            assert_same_bits(got, rounded(mode.StochasticFastest, bits, words >> (32 - bits)))


def gfloat_info(gfloat: ModuleType, format: FloatingPoint) -> object:
    """A floating-point format in the terms of gfloat."""
    ieee = format.specials == "ieee"
    return gfloat.types.FormatInfo(
        str(format),
        format.bits,
        format.mantissa_bits + 1,
        bias=format.bias,
        is_signed=True,
        domain=gfloat.types.Domain.Extended if ieee else gfloat.types.Domain.Finite,
        has_nz=True,
        num_high_nans=2**format.mantissa_bits - 1 if ieee else 1,
        has_subnormals=True,
        is_twos_complement=False,
    )


class TestAgainstTheListOfValues:
    """Small formats: the neighbours are found by looking through all magnitudes."""

    @staticmethod
    def continued(format: FloatingPoint | FixedPoint) -> list[Fraction]:
        """All magnitudes, and some past the largest, by their codes."""
        if isinstance(format, FloatingPoint):
            return [format.magnitude(code) for code in range(format.largest_code + 40)]
        step = Fraction(2) ** -format.fraction_bits
        return [code * step for code in range(format.largest_integer + 40)]

    @pytest.mark.parametrize("format", SMALL_FORMATS[::6] + SMALL_FORMATS[3::6] + FIXED_FORMATS, ids=str)
    def test_finite_values(self, format):
        line = self.continued(format)
        x = hard_values(format)
        x = x[np.abs(x) < float(line[-1])]
        word = 0xB504F333
        for value in x.tolist():
            code = max(code for code, magnitude in enumerate(line) if magnitude <= abs(value))
            low, high = line[code], line[code + 1]
            near = reference.neighbours(Fraction(abs(value)), format)
            fraction = (Fraction(abs(value)) - low) / (high - low)
            assert near == (low, high, fraction, code % 2 == 0)
            to_low, to_high = abs(value) - low, high - abs(value)
            goes_up = {
                "nearest_even": to_high < to_low or (to_high == to_low and code % 2 == 1),
                "toward_zero": False,
                "stochastic": math.floor(fraction * 2**32) + word >= 2**32,
            }
            for rounding, up in goes_up.items():
                got = reference.quantize_scalar(
                    value,
                    format,
                    rounding=rounding,
                    word=word if rounding == "stochastic" else None,
                )
                want = high if up else low
                limit = Fraction(format.max if value > 0 else -format.min)
                if want <= limit or rounding == "toward_zero":
                    sign = math.copysign(1, value) if want or format.has_signed_zero else 1
                    assert_same_bits(np.array(got), sign * float(min(want, limit)))
                elif format.overflow == "infinity":
                    wanted = math.copysign(INF, value) if format.has_infinity else NAN
                    assert_same_bits(np.array(got), wanted)
                else:
                    assert got == math.copysign(float(limit), value)


class TestUnchanged:
    @pytest.mark.parametrize("rounding", Rounding)
    @pytest.mark.parametrize("name", [n for n in NAMED if n != "binary32"])
    def test_every_value_of_a_format(self, name, rounding):
        x = parse(name).values()[:: 1 if parse(name).bits <= 8 else 23].astype(np.float32)
        if isinstance(parse(name), BlockFloatingPoint):
            x = np.concatenate([x.reshape(-1, 1), np.ones((x.size, 1), np.float32)], axis=1)
        got = reference.quantize(x, name, rounding=rounding, **randomness(x, rounding))
        assert_same_bits(got, x)
        assert not reference.overflowed(x, name, rounding=rounding, **randomness(x, rounding)).any()

    @pytest.mark.parametrize("bits", [1, 7, 32])
    @pytest.mark.parametrize("word", [0, 1, 1 << 31, ALL_ONES])
    def test_no_word_moves_a_value(self, word, bits):
        x = np.concatenate([parse("e5m2").values(), [-0.0, INF, -INF]]).astype(np.float32)
        words = np.full(x.shape, word, np.uint32)
        got = reference.quantize(x, "e5m2", rounding="stochastic", words=words, random_bits=bits)
        assert_same_bits(got, x)


@pytest.mark.parametrize("case", PEER_CASES, ids=lambda case: case.name)
def test_what_other_packages_get_wrong(case: PeerCase):
    for word in (0, ALL_ONES) if case.rounding == "stochastic" else (None,):
        words = None if word is None else np.full(case.input.shape, word, np.uint32)
        got = reference.quantize(case.input, case.format, rounding=case.rounding, words=words)
        assert_same_bits(got, case.want)


class TestShapesAndTypes:
    @pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3)])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("name", ["e4m3fn", "fixed8f4", "bfp8"])
    def test_shape_and_dtype_are_kept(self, shape, dtype, name):
        x = np.full(shape, 0.5, dtype)
        assert_same_bits(reference.quantize(x, name), x)
        fired = reference.overflowed(x, name)
        assert fired.shape == shape
        assert fired.dtype == np.bool_

    def test_strides_do_not_matter(self):
        x = hard_values(parse("fixed8f4"))[:400].reshape(20, 20).T
        words = words_like(x)
        arguments = {"rounding": "stochastic", "words": words}
        got = reference.quantize(x, "e4m3fn", **arguments)
        assert_same_bits(got, reference.quantize(x.copy(), "e4m3fn", **arguments))

    def test_float64_is_rounded_once(self):
        # Through float32 this would be a tie, and 1.0.
        x = np.array([1 + 2.0**-11 + 2.0**-40])
        assert reference.quantize(x, "binary16") == 1 + 2.0**-10

    def test_scalars_agree_with_arrays(self):
        x = all_bfloat16()[::37]
        got = [reference.quantize_scalar(value, parse("e5m2")) for value in x.tolist()]
        assert_same_bits(reference.quantize(x, "e5m2"), got)


class TestErrors:
    X = np.float32([0.3])
    WORDS = np.uint32([0])

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"x": [0.3]}, TypeError, r"`x` must be a float32 or float64 array, got \[0.3\]"),
            ({"x": np.array([1])}, TypeError, r"`x` must be a float32 .*int64"),
            ({"format": 3}, TypeError, "`format` must be a format, a name"),
            ({"format": "e11m52ieee"}, ValueError, "`format` must be exact in the carrier float32"),
            ({"carrier": "bfloat16", "format": "binary16"}, ValueError, "the carrier bfloat16"),
            ({"carrier": "int8"}, ValueError, "`carrier` must be one of bfloat16, float32"),
            ({"rounding": "up"}, ValueError, "`rounding` must be a known name, got 'up'"),
            ({"rounding": "stochastic"}, ValueError, "`words` must be given for stochastic"),
            ({"words": WORDS}, ValueError, "`words` must be None for nearest_even rounding"),
            ({"random_bits": 3}, ValueError, "`random_bits` must be None for nearest_even"),
        ],
    )
    def test_quantize(self, arguments, error, message):
        for function in (reference.quantize, reference.overflowed):
            with pytest.raises(error, match=message):
                function(**{"x": self.X, "format": "e4m3fn", **arguments})

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"words": [0]}, TypeError, r"`words` must be a uint32 array, got \[0\]"),
            ({"words": np.int32([0])}, TypeError, "`words` must be a uint32 array, got dtype"),
            ({"words": np.uint32([0, 0])}, ValueError, r"the shape \(1,\) of `x`, got \(2,\)"),
            ({"random_bits": 0}, ValueError, "`random_bits` must lie between 1 and 32, got 0"),
            ({"random_bits": 33}, ValueError, "`random_bits` must lie between 1 and 32, got 33"),
            ({"random_bits": 1.0}, TypeError, "`random_bits` must be an integer, got 1.0"),
        ],
    )
    def test_stochastic(self, arguments, error, message):
        with pytest.raises(error, match=message):
            reference.quantize(self.X, "e4m3fn", rounding="stochastic", **{"words": self.WORDS, **arguments})

    def test_a_format_of_another_family(self):
        class Other(Format):
            bits = max = min = smallest_normal = smallest_subnormal = eps = has_signed_zero = 0
            magnitudes = missing_in = _on_grid = None

        with pytest.raises(TypeError, match="`format` must be floating, fixed or block"):
            reference.quantize(self.X, Other())

    def test_scalars(self):
        with pytest.raises(TypeError, match="`format` must be a FloatingPoint or FixedPoint"):
            reference.quantize_scalar(0.3, BlockFloatingPoint(4))
        with pytest.raises(ValueError, match="`word` must be given for stochastic"):
            reference.quantize_scalar(0.3, FixedPoint(4, 1), rounding="stochastic")
        with pytest.raises(ValueError, match="`word` must lie between 0 and 4294967295"):
            reference.quantize_scalar(0.3, FixedPoint(4, 1), rounding="stochastic", word=2**32)
