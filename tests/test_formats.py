"""Formats as values: names, properties, and what makes two of them equal."""

import copy
import dataclasses
import math
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
from hard_inputs import hard_values
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lowprec.formats import (
    NAMED,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Format,
    PerChannel,
    PerGroup,
    PerTensor,
    parse,
    resolve,
)
from lowprec.modes import Overflow, Specials

EXAMPLES = [
    *NAMED, "e2m0fn", "e3m0ieee", "e1m2ieee", "e4m3fn<infinity,bias-3>", "e3m2<fn,bias5>", "e2m1<fn>",
    "fixed6f2<symmetric>", "fixed8f-5", "fixed4f9", "bfp2<channel0&2>", "bfp5<group@0>",
]  # fmt: skip
SMALL = [name for name in EXAMPLES if parse(name).bits <= 8]


@st.composite
def floating_points(draw: st.DrawFn) -> FloatingPoint:
    """Any floating-point format whose values are float64 numbers."""
    exponent_bits = draw(st.integers(1, 11))
    mantissa_bits = draw(st.integers(0 if exponent_bits > 1 else 1, 40))
    lowest = 2**exponent_bits - 1024
    bias = draw(st.none() | st.integers(lowest, 1075 - mantissa_bits))
    if exponent_bits == 11 and bias is None:
        bias = lowest
    specials = draw(st.sampled_from(Specials))
    overflow = draw(st.none() | st.sampled_from(Overflow))
    return FloatingPoint(exponent_bits, mantissa_bits, bias=bias, specials=specials, overflow=overflow)


fixed_points = st.builds(FixedPoint, st.integers(2, 32), st.integers(-960, 1074), symmetric=st.booleans())
axes = st.integers(-9, 9)
granularities = (
    st.builds(PerTensor)
    | st.builds(PerChannel, axes | st.lists(axes, min_size=1, unique=True).map(tuple))
    | st.builds(PerGroup, st.none() | st.integers(1, 99), axes | st.just("contraction"))
)
blocks = st.builds(BlockFloatingPoint, st.integers(2, 25), granularities)
formats = floating_points() | fixed_points | blocks


class TestNames:
    @given(formats)
    def test_parse_reads_back_str(self, format):
        assert parse(str(format)) == format

    @pytest.mark.parametrize("name", NAMED)
    def test_named_formats_are_called_what_they_are(self, name):
        assert str(parse(name)) == name

    @pytest.mark.parametrize(
        ("name", "want"),
        [
            ("binary32", FloatingPoint(8, 23)),
            ("binary16", FloatingPoint(5, 10)),
            ("bfloat16", FloatingPoint(8, 7)),
            ("e5m2", FloatingPoint(5, 2)),
            ("e5m2ieee", FloatingPoint(5, 2)),
            ("e4m3fn", FloatingPoint(4, 3, specials="fn")),
            ("e4m3ieee<saturate,bias9>", FloatingPoint(4, 3, bias=9, overflow="saturate")),
            ("binary16<bias-2>", FloatingPoint(5, 10, bias=-2)),
            ("fixed8f7", FixedPoint(8, 7)),
            ("fixed16f-3<symmetric>", FixedPoint(16, -3, symmetric=True)),
            ("bfp8", BlockFloatingPoint(8)),
            ("bfp8<tensor>", BlockFloatingPoint(8, PerTensor())),
            ("bfp4<channel-1>", BlockFloatingPoint(4, PerChannel(-1))),
            ("bfp4<channel0&2>", BlockFloatingPoint(4, PerChannel((0, 2)))),
            ("bfp9<group>", BlockFloatingPoint(9, PerGroup())),
            ("bfp9<group16@contraction>", BlockFloatingPoint(9, PerGroup(16, "contraction"))),
        ],
    )
    def test_parse(self, name, want):
        assert parse(name) == want
        assert resolve(name) == want

    @pytest.mark.parametrize(
        "name",
        [
            "", "e4m3fn<", "e4m3fn>", "e4m3fn<>", "e4m3fn<saturate", "e4m3fn<saturate,>",
            "e4m3fn<saturate,infinity>", "e4m3fn<bias1,bias1>", "e4m3fn<round>", " e4m3fn",
            "E4M3FN", "fixed8", "fixed8f4<signed>", "fixed8f4<symmetric,symmetric>", "fixed-8f4",
            "bfp8<group32,tensor>", "bfp8<channel>", "bfp8<group@x>", "bfp8<row>", "int9000",
        ],
    )  # fmt: skip
    def test_unknown_names(self, name):
        message = f"`format` must be a known name, got {name!r}. Did you mean "
        with pytest.raises(ValueError, match=re.escape(message)):
            parse(name)

    def test_an_unknown_name_suggests_the_nearest_three(self):
        with pytest.raises(ValueError, match=r"Did you mean bfloat16, \S+, \S+\?$"):
            parse("bfloat61")

    def test_a_name_without_specials_suggests_both(self):
        with pytest.raises(ValueError, match=r"Did you mean e3m4ieee or e3m4fn\?"):
            parse("e3m4")

    def test_e4m3_is_two_formats(self):
        message = r"`format` must say which e4m3, got 'e4m3'. Use 'e4m3fn' .* or 'e4m3ieee'"
        with pytest.raises(ValueError, match=message):
            parse("e4m3")

    @pytest.mark.parametrize("name", [None, 8, ["e4m3fn"]])
    def test_names_are_strings(self, name):
        with pytest.raises(TypeError, match="`name` must be a string, got"):
            parse(name)

    def test_a_name_of_bad_numbers(self):
        with pytest.raises(ValueError, match="`word_bits` must lie between 2 and 32, got 99"):
            parse("fixed99f4")
        with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
            parse("bfp8<group0>")


class TestResolve:
    @pytest.mark.parametrize(
        ("dtype", "name"),
        [
            ("float8_e4m3fn", "e4m3fn"), ("float8_e5m2", "e5m2"), ("float16", "binary16"),
            ("bfloat16", "bfloat16"), ("float32", "binary32"),
        ],
    )  # fmt: skip
    def test_torch_dtypes(self, dtype, name):
        torch = pytest.importorskip("torch", reason="what is tested")
        format, info = resolve(getattr(torch, dtype)), torch.finfo(getattr(torch, dtype))
        assert format == parse(name)
        assert (format.bits, format.max, format.min) == (info.bits, info.max, info.min)
        assert (format.eps, format.smallest_normal) == (info.eps, info.smallest_normal)

    @pytest.mark.parametrize("dtype", ["float64", "int8", "float8_e4m3fnuz"])
    def test_other_torch_dtypes(self, dtype):
        torch = pytest.importorskip("torch", reason="what is tested")
        message = rf"`format` must be one of torch.float8_e4m3fn, .*, got torch.{dtype}"
        with pytest.raises(ValueError, match=message):
            resolve(getattr(torch, dtype))

    def test_a_format_is_itself(self):
        format = FixedPoint(8, 4)
        assert resolve(format) is format

    @pytest.mark.parametrize("other", [None, 8, np.float32, np.dtype("f4"), FixedPoint])
    def test_anything_else(self, other):
        with pytest.raises(TypeError, match="`format` must be a format, a name or a torch dtype"):
            resolve(other)


class TestAgainstOtherPackages:
    NAMES = (
        ("e4m3fn", "float8_e4m3fn"), ("e4m3ieee", "float8_e4m3"), ("e3m4ieee", "float8_e3m4"),
        ("e5m2", "float8_e5m2"), ("bfloat16", "bfloat16"),
    )  # fmt: skip

    @pytest.mark.parametrize(("name", "dtype"), [*NAMES, ("binary16", "float16")])
    def test_properties_and_values(self, name, dtype):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")
        format = parse(name)
        dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
        info = ml_dtypes.finfo(dtype)
        for key in ("bits", "max", "min", "eps", "smallest_normal", "smallest_subnormal"):
            assert getattr(format, key) == float(getattr(info, key)), key
        codes = np.arange(1 << format.bits).astype(f"u{dtype.itemsize}")
        with np.errstate(invalid="ignore"):  # signaling NaN
            decoded = codes.view(dtype).astype(np.float64)
        assert_array_equal(format.values(), np.unique(decoded[np.isfinite(decoded)]))
        assert format.has_infinity == np.isinf(decoded).any()
        assert format.has_nan == np.isnan(decoded).any()

    def test_binary32(self):
        format, info = parse("binary32"), np.finfo(np.float32)
        for key in ("bits", "max", "min", "eps", "smallest_normal", "smallest_subnormal"):
            assert getattr(format, key) == float(getattr(info, key)), key


class TestProperties:
    @pytest.mark.parametrize("name", [name for name in EXAMPLES if parse(name).bits <= 16])
    def test_values(self, name):
        format = parse(name)
        values = format.values()
        assert values.dtype == np.float64
        assert (np.diff(values) > 0).all()
        assert (values == 0).sum() == 1
        assert not np.signbit(values[values == 0]).any()
        assert (values[0], values[-1]) == (format.min, format.max)
        assert values[values > 0][0] == format.smallest_subnormal
        assert_array_equal([float(m) for m in format.magnitudes()], values[values >= 0])
        if isinstance(format, FloatingPoint):
            assert values.size == 2 * format.largest_code + 1
        elif isinstance(format, FixedPoint):
            assert values.size == 2**format.word_bits - format.symmetric
        else:
            assert values.size == 2**format.word_bits - 1

    @pytest.mark.parametrize("name", SMALL)
    def test_contains_its_values_and_nothing_between(self, name):
        format = parse(name)
        values = set(format.values().tolist())
        for x in [*hard_values(format), *values]:
            want = float(x) in values and (format.has_signed_zero or x != 0 or not np.signbit(x))
            assert format.contains(x) == want, x

    @given(formats)
    def test_ends_belong_and_their_outer_neighbours_do_not(self, format):
        for end in (format.max, format.min, format.smallest_subnormal):
            assert format.contains(end)
        assert not format.contains(math.nextafter(format.max, math.inf))
        assert not format.contains(math.nextafter(format.min, -math.inf))
        assert not format.contains(Fraction(format.smallest_subnormal) / 2)
        assert 0 < format.smallest_subnormal <= format.smallest_normal

    @pytest.mark.parametrize("kind", [int, float, np.int8, np.int64, np.float32, np.float64, Fraction])
    def test_contains_takes_every_kind_of_number(self, kind):
        assert FixedPoint(8, 2).contains(kind(3))
        assert not FixedPoint(8, 2).contains(kind(33))

    def test_contains_is_exact(self):
        assert not parse("e5m2").contains(10**400)
        assert not FixedPoint(8, 2).contains(Fraction(1, 3))
        assert not parse("fixed32f-60").contains(2**60 + 1)  # equal to a value as a float
        for x in (math.inf, -math.inf, math.nan, np.float32("inf")):
            assert not parse("e5m2").contains(x)

    @pytest.mark.parametrize("x", ["0.5", None, 1j, np.zeros(1), []])
    def test_contains_takes_numbers_only(self, x):
        with pytest.raises(TypeError, match="`x` must be a real number, got"):
            parse("e5m2").contains(x)

    def test_hand_made(self):
        # e2m1 "ieee": field 0 gives 0, 0.5; 1 gives 1, 1.5; 2 gives 2, 3; 3 is not finite.
        assert FloatingPoint(2, 1).values().tolist() == [
            -3,
            -2,
            -1.5,
            -1,
            -0.5,
            0,
            0.5,
            1,
            1.5,
            2,
            3,
        ]
        # "fn" has 4 besides; its neighbour 6 is the all-ones NaN.
        assert FloatingPoint(2, 1, specials="fn").max == 4
        # Without mantissa bits: zero and powers of two.
        assert FloatingPoint(2, 0).values().tolist() == [-2, -1, 0, 1, 2]
        assert not FloatingPoint(2, 0).has_nan
        assert FloatingPoint(2, 0, specials="fn").values().tolist() == [-2, -1, 0, 1, 2]
        assert FixedPoint(3, 1).values().tolist() == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5]
        assert FixedPoint(3, 1, symmetric=True).min == -1.5
        assert FixedPoint(2, -4).values().tolist() == [-32, -16, 0, 16]
        assert BlockFloatingPoint(3).values().tolist() == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]

    def test_wide_formats_do_not_list_their_values(self):
        with pytest.raises(ValueError, match="`bits` must be at most 16 to list all values, got 32"):
            parse("binary32").values()

    def test_bits(self):
        assert [parse(n).bits for n in ("e4m3fn", "binary32", "fixed16f8", "bfp4")] == [
            8,
            32,
            16,
            4,
        ]

    @given(floating_points(), st.integers(-3, 3))
    def test_shifted_floating_point(self, format, exponent):
        try:
            shifted = format.shifted(exponent)
        except ValueError:
            return  # past the ends of float64
        assert shifted.max == math.ldexp(format.max, -exponent)
        assert shifted.smallest_subnormal == math.ldexp(format.smallest_subnormal, -exponent)
        assert dataclasses.replace(shifted, bias=format.bias) == format

    def test_shifted_fixed_point(self):
        format = FixedPoint(8, 7, symmetric=True)
        assert format.shifted(3) == FixedPoint(8, 10, symmetric=True)
        assert format.shifted(3).max == format.max / 8


class TestValueSemantics:
    @given(formats)
    def test_copies_and_pickles_are_equal(self, format):
        for twin in (copy.deepcopy(format), pickle.loads(pickle.dumps(format))):
            assert twin == format
            assert hash(twin) == hash(format)
            assert (str(twin), repr(twin)) == (str(format), repr(format))

    @pytest.mark.parametrize("name", EXAMPLES)
    def test_frozen(self, name):
        format = parse(name)
        assert isinstance(format, Format)
        field = dataclasses.fields(format)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(format, field, 3)

    def test_equal_if_they_mean_the_same(self):
        assert FloatingPoint(5, 2) == FloatingPoint(5, 2, bias=15, overflow="infinity")
        assert FloatingPoint(4, 3, specials="fn") == parse("e4m3fn<saturate>")
        assert FloatingPoint(4, 3, specials="fn") == FloatingPoint(4, 3, specials=Specials.FN)
        assert PerChannel((0,)) == PerChannel(0)
        assert len({parse(name) for name in EXAMPLES}) == len(EXAMPLES)

    def test_replace(self):
        assert dataclasses.replace(parse("e4m3fn"), overflow="infinity") == parse("e4m3fn<infinity>")
        assert dataclasses.replace(FixedPoint(8, 4), symmetric=True) == parse("fixed8f4<symmetric>")

    def test_options_are_keyword_only(self):
        with pytest.raises(TypeError, match="positional"):
            FloatingPoint(4, 3, 7)
        with pytest.raises(TypeError, match="positional"):
            FixedPoint(8, 4, True)
