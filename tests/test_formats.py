"""Formats as values: their properties, and what makes two of them equal."""

import copy
import dataclasses
import math
import pickle
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lowprec.formats import (
    NAMED,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Format,
    PerBlock,
    PerChannel,
    PerGroup,
    Posit,
    TabledFormat,
    parse,
)
from lowprec.modes import Overflow, Specials
from lowprec.testing import strategies

EXAMPLES = [
    *NAMED, "e2m0fn", "e3m0ieee", "e1m2ieee", "e1m0fnuz", "e1m0finite", "e4m3fn<infinity,bias-3>",
    "e2m1<fn>", "e3m2<fn,bias5>", "e5m2<nosubnormals>", "e2m2fnuz<nosubnormals,infinity>",
    "e4m3finite", "e4m3ieee<saturate_all>", "fixed6f2<symmetric>", "fixed8f-5", "fixed4f9",
    "ufixed1f0", "ufixed6f2<wrap>", "bfp2<channel0&2>", "bfp5<group@0>", "bfp3<block2,exponent2>",
]  # fmt: skip
BOUNDED = ["floating", "p3109", "fixed", "block", "scaled", "codebook", "posit", "logarithmic"]
SMALL = [name for name in EXAMPLES if parse(name).bits <= 8]


def decoded(format: FloatingPoint) -> list[float]:
    """The finite values of all codes without a sign, in the order of the codes, read off the fields."""
    width, bias, found = format.mantissa_bits, format.bias, []
    top = 2**format.exponent_bits - 1
    for field, mantissa in product(range(top + 1), range(2**width)):
        if field == top and format.specials == "ieee":
            continue
        if field == top and mantissa == 2**width - 1 and format.specials == "fn":
            continue
        part = mantissa / 2**width
        if field:
            found.append(math.ldexp(1 + part, field - bias))
        else:
            found.append(math.ldexp(part, 1 - bias) if format.subnormals else 0.0)
    return found


def has_values(mantissa_bits: int, specials: str, subnormals: bool) -> bool:
    """Whether one exponent bit leaves a value besides zero: its upper field may hold none."""
    if specials == "ieee":
        return mantissa_bits > 0 and subnormals
    return mantissa_bits > 0 or specials != "fn"


class TestFloatingPoint:
    @pytest.mark.parametrize("specials", Specials)
    @pytest.mark.parametrize("subnormals", [True, False])
    def test_values_are_those_of_the_codes(self, specials, subnormals):
        for exponent_bits, mantissa_bits, bias in product(range(1, 5), range(4), (None, -2, 9)):
            if exponent_bits == 1 and not has_values(mantissa_bits, specials, subnormals):
                continue
            format = FloatingPoint(
                exponent_bits, mantissa_bits, bias=bias, specials=specials, subnormals=subnormals
            )
            magnitudes = decoded(format)
            assert len(magnitudes) == format.largest_code + 1
            assert [float(format.magnitude(code)) for code in range(len(magnitudes))] == magnitudes
            want = sorted({sign * m for sign, m in product((-1, 1), magnitudes)})
            assert format.values().tolist() == want

    def test_hand_made(self):
        # e2m1 "ieee": field 0 gives 0, 0.5; 1 gives 1, 1.5; 2 gives 2, 3; 3 is not finite.
        assert upper(FloatingPoint(2, 1)) == [0.5, 1, 1.5, 2, 3]
        # "fn" has 4 besides; its neighbor 6 is the all-ones NaN. "finite" has it too.
        assert upper(FloatingPoint(2, 1, specials="fn")) == [0.5, 1, 1.5, 2, 3, 4]
        assert upper(FloatingPoint(2, 1, specials="finite")) == [0.5, 1, 1.5, 2, 3, 4, 6]
        # "fnuz" has a bias of 2 instead of 1, and all codes but that of -0.
        assert upper(FloatingPoint(2, 1, specials="fnuz")) == [0.25, 0.5, 0.75, 1, 1.5, 2, 3]
        # Without mantissa bits: zero and powers of two.
        assert upper(FloatingPoint(2, 0)) == [1, 2]
        assert upper(FloatingPoint(2, 0, specials="fn")) == [1, 2]
        assert upper(FloatingPoint(2, 0, specials="finite")) == [1, 2, 4]
        assert upper(FloatingPoint(1, 0, specials="finite")) == [2]
        # Without subnormals 0.5 is gone, and the next value after zero is 1.
        flushed = FloatingPoint(2, 1, subnormals=False)
        assert upper(flushed) == [1, 1.5, 2, 3]
        assert (flushed.smallest_subnormal, flushed.smallest_normal) == (1, 1)
        assert [flushed.contains(x) for x in (0.5, -0.5, 0, -0.0, 1)] == [False, False, True, True, True]

    @pytest.mark.parametrize(
        ("name", "infinity", "nan", "signed_zero"),
        [
            ("e4m3ieee", True, True, True), ("e4m0ieee", True, False, True),
            ("e4m3fn", False, True, True), ("e4m0fn", False, True, True),
            ("e4m3fnuz", False, True, False), ("e4m3finite", False, False, True),
            ("fixed8f4", False, False, False), ("ufixed8f4<wrap>", False, False, False),
            ("fixedf4<unbounded>", True, False, False), ("bfp8", False, False, False),
        ],
    )  # fmt: skip
    def test_what_is_not_a_finite_number(self, name, infinity, nan, signed_zero):
        format = parse(name)
        assert (format.has_infinity, format.has_nan) == (infinity, nan)
        assert format.has_signed_zero == signed_zero
        assert format.contains(-0.0) == signed_zero
        assert format.contains(0.0)

    @pytest.mark.parametrize(
        ("specials", "bias", "overflow"),
        [("ieee", 7, "infinity"), ("fn", 7, "saturate"), ("fnuz", 8, "saturate"), ("finite", 7, "saturate")],
    )
    def test_defaults(self, specials, bias, overflow):
        format = FloatingPoint(4, 3, specials=specials)
        assert (format.bias, format.overflow) == (bias, overflow)

    @given(strategies.formats("floating"), st.integers(-3, 3))
    def test_shifted(self, format, exponent):
        try:
            shifted = format.shifted(exponent)
        except ValueError:
            return  # past the ends of float64
        assert Fraction(shifted.max) == Fraction(format.max) * Fraction(2) ** -exponent
        smallest = Fraction(format.smallest_subnormal) * Fraction(2) ** -exponent
        assert Fraction(shifted.smallest_subnormal) == smallest
        assert dataclasses.replace(shifted, bias=format.bias) == format


class TestFixedPoint:
    def test_hand_made(self):
        assert FixedPoint(3, 1).values().tolist() == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5]
        assert FixedPoint(3, 1, symmetric=True).min == -1.5
        assert FixedPoint(2, -4).values().tolist() == [-32, -16, 0, 16]
        assert FixedPoint(3, 1, signed=False).values().tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
        assert FixedPoint(1, -2, signed=False).values().tolist() == [0, 4]
        assert FixedPoint(32, 0, signed=False).max == 2**32 - 1
        assert (FixedPoint(32, 32).max, FixedPoint(32, 32).min) == (0.5 - 2**-32, -0.5)

    def test_unbounded(self):
        format = FixedPoint(None, 1, overflow="unbounded")
        assert (format.max, format.min) == (math.inf, -math.inf)
        assert (format.smallest_normal, format.smallest_subnormal, format.eps) == (0.5, 0.5, 0.5)
        assert format.contains(2**2000 + 1)
        assert format.contains(-(2.0**60))
        assert not format.contains(Fraction(1, 4))
        assert not format.contains(math.inf)
        assert not format.is_bounded
        for read in (lambda: format.bits, format.values, format.magnitudes, lambda: format.largest_integer):
            message = "`format` must be bounded to have codes, got 'fixedf1<unbounded>'"
            with pytest.raises(ValueError, match=message):
                read()

    @pytest.mark.parametrize(
        "name", ["fixed8f7<symmetric>", "fixed8f7<wrap>", "ufixed8f7", "fixedf7<unbounded>"]
    )
    def test_shifted(self, name):
        format = parse(name)
        assert format.shifted(3) == dataclasses.replace(format, fraction_bits=10)
        assert format.shifted(3).max == format.max / 8


class TestBlockFloatingPoint:
    def test_hand_made(self):
        assert upper(BlockFloatingPoint(3)) == [0.5, 1, 1.5]
        assert BlockFloatingPoint(3).min == -1.5

    @pytest.mark.parametrize(
        ("exponent_bits", "ends"),
        [(None, (None, None)), (2, (-1, 2)), (5, (-15, 16)), (8, (-127, 128)), (11, (-1023, 1024))],
    )
    def test_shared_exponents(self, exponent_bits, ends):
        format = BlockFloatingPoint(8, exponent_bits=exponent_bits)
        assert (format.lowest_block_exponent, format.highest_block_exponent) == ends
        if exponent_bits is not None:
            assert ends[1] - ends[0] == 2**exponent_bits - 1

    def test_along_keeps_the_rest(self):
        format = BlockFloatingPoint(8, PerGroup(2, "contraction"), exponent_bits=5)
        assert format.along(-2) == BlockFloatingPoint(8, PerGroup(2, -2), exponent_bits=5)
        for granularity in (PerChannel(0), PerBlock((2, 2))):
            other = BlockFloatingPoint(8, granularity, exponent_bits=5)
            assert other.along(1) is other


def upper(format: Format) -> list[float]:
    """The positive values; the negative ones must mirror them."""
    values = format.values()
    assert_array_equal(values, -values[::-1])
    return values[values > 0].tolist()


class TestAgainstOtherPackages:
    @pytest.mark.parametrize(
        ("name", "dtype"),
        [
            ("e4m3fn", "float8_e4m3fn"), ("e4m3fnuz", "float8_e4m3fnuz"), ("e4m3ieee", "float8_e4m3"),
            ("e4m3fnuz<bias11>", "float8_e4m3b11fnuz"), ("e3m4", "float8_e3m4"),
            ("e5m2", "float8_e5m2"), ("e5m2fnuz", "float8_e5m2fnuz"), ("e3m2", "float6_e3m2fn"),
            ("e2m3", "float6_e2m3fn"), ("e2m1", "float4_e2m1fn"), ("bfloat16", "bfloat16"),
            ("binary16", "float16"),
        ],
    )  # fmt: skip
    def test_properties_and_values(self, name, dtype):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")
        format = parse(name)
        dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
        info = ml_dtypes.finfo(dtype)
        for key in ("bits", "max", "min", "eps", "smallest_normal", "smallest_subnormal"):
            assert getattr(format, key) == float(getattr(info, key)), key
        codes = np.arange(1 << format.bits).astype(f"u{dtype.itemsize}")
        with np.errstate(invalid="ignore"):  # signaling NaN
            numbers = codes.view(dtype).astype(np.float64)
        assert_array_equal(format.values(), np.unique(numbers[np.isfinite(numbers)]))
        assert format.has_infinity == np.isinf(numbers).any()
        assert format.has_nan == np.isnan(numbers).any()
        assert format.has_signed_zero == (numbers[1 << (format.bits - 1)] == 0)
        half = numbers[: format.largest_code + 1]
        assert [float(format.magnitude(code)) for code in range(half.size)] == half.tolist()

    @pytest.mark.parametrize(("name", "dtype"), [("binary32", np.float32), ("binary64", np.float64)])
    def test_wide_ones(self, name, dtype):
        format, info = parse(name), np.finfo(dtype)
        for key in ("bits", "max", "min", "eps", "smallest_normal", "smallest_subnormal"):
            assert getattr(format, key) == float(getattr(info, key)), key


class TestProperties:
    @pytest.mark.parametrize("name", [name for name in EXAMPLES if parse(name).bits <= 16])
    def test_values(self, name):
        format = parse(name)
        values = format.values()
        assert values.dtype == np.float64
        assert (np.diff(values) > 0).all()
        assert (values == 0).sum() == (name != "binary")
        assert not np.signbit(values[values == 0]).any()
        assert (values[0], values[-1]) == (format.min, format.max)
        assert values[values > 0][0] == format.smallest_subnormal
        assert_array_equal([float(m) for m in format.magnitudes()], values[values >= 0])
        if isinstance(format, FloatingPoint):
            flushed = 0 if format.subnormals else 2**format.mantissa_bits - 1
            assert values.size == (1 + (format.min < 0)) * (format.largest_code - flushed) + 1
        elif isinstance(format, FixedPoint):
            assert values.size == 2**format.word_bits - format.symmetric
        elif isinstance(format, Posit):
            assert values.size == 2**format.bits - 1
        elif isinstance(format, TabledFormat):
            assert values.size == format.table.codes_listed - format.has_nan
        else:
            assert_array_equal(values, format.in_group(0).values())

    @pytest.mark.parametrize("name", SMALL)
    def test_contains_its_values_and_nothing_between(self, name):
        format = parse(name)
        values = format.values()
        for x in values.tolist():
            assert format.contains(x), x
        between = (values[1:] + values[:-1]) / 2
        outside = np.concatenate([between, np.nextafter(values, np.inf), np.nextafter(values, -np.inf)])
        for x in [*outside.tolist(), 2 * format.max, math.inf, -math.inf, math.nan]:
            assert not format.contains(x), x

    @given(strategies.formats(BOUNDED))
    def test_ends_belong_and_their_outer_neighbors_do_not(self, format):
        for end in (format.max, format.min, format.smallest_subnormal):
            assert format.contains(end)
        assert not format.contains(math.nextafter(format.max, math.inf))
        assert not format.contains(math.nextafter(format.min, -math.inf))
        assert not format.contains(Fraction(format.smallest_subnormal) / 2)
        assert 0 < format.smallest_subnormal <= format.smallest_normal

    @given(strategies.formats("unbounded"), st.integers())
    def test_unbounded_formats_contain_all_multiples_of_their_step(self, format, multiple):
        step = Fraction(format.smallest_subnormal)
        assert format.contains(multiple * step)
        assert not format.contains((2 * multiple + 1) * step / 2)

    @pytest.mark.parametrize("kind", [int, float, np.int8, np.int64, np.float32, np.float64, Fraction])
    def test_contains_takes_every_kind_of_number(self, kind):
        assert FixedPoint(8, 2).contains(kind(3))
        assert not FixedPoint(8, 2).contains(kind(33))

    def test_contains_is_exact(self):
        assert not parse("e5m2").contains(10**400)
        assert not FixedPoint(8, 2).contains(Fraction(1, 3))
        assert not parse("fixed32f-60").contains(2**60 + 1)  # equal to a value as a float

    @pytest.mark.parametrize("x", ["0.5", None, 1j, np.zeros(1), []])
    def test_contains_takes_numbers_only(self, x):
        with pytest.raises(TypeError, match="`x` must be a real number, got"):
            parse("e5m2").contains(x)

    def test_wide_formats_do_not_list_their_values(self):
        with pytest.raises(ValueError, match="`bits` must be at most 16 to list all values, got 32"):
            parse("binary32").values()

    @pytest.mark.parametrize(
        ("name", "bits", "max", "min", "smallest_normal", "smallest_subnormal", "eps"),
        [
            ("tf32", 19, (2 - 2**-10) * 2.0**127, -(2 - 2**-10) * 2.0**127, 2**-126, 2**-136, 2**-10),
            ("tf32<nosubnormals>", 19, (2 - 2**-10) * 2.0**127, -(2 - 2**-10) * 2.0**127,
             2**-126, 2**-126, 2**-10),
            ("e4m3finite", 8, 480, -480, 2**-6, 2**-9, 2**-3),
            ("e4m3fnuz<bias7>", 8, 480, -480, 2**-6, 2**-9, 2**-3),
            ("e1m0finite", 2, 2, -2, 2, 2, 1),
            ("fixed16f8", 16, 128 - 2**-8, -128, 2**-8, 2**-8, 2**-8),
            ("fixed16f8<symmetric>", 16, 128 - 2**-8, -128 + 2**-8, 2**-8, 2**-8, 2**-8),
            ("ufixed7f8", 7, 127 / 256, 0, 2**-8, 2**-8, 2**-8),
            ("bfp4<exponent8>", 4, 1.75, -1.75, 0.25, 0.25, 0.25),
        ],
    )  # fmt: skip
    def test_by_hand(self, name, bits, max, min, smallest_normal, smallest_subnormal, eps):
        format = parse(name)
        assert (format.bits, format.max, format.min, format.eps) == (bits, max, min, eps)
        assert (format.smallest_normal, format.smallest_subnormal) == (smallest_normal, smallest_subnormal)


class TestValueSemantics:
    @given(strategies.formats())
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
        # Options without an effect: no infinity can come in, there are no subnormals to flush.
        assert FloatingPoint(4, 3, specials="fn", overflow="saturate_all") == parse("e4m3fn")
        assert FloatingPoint(4, 0, subnormals=False) == parse("e4m0ieee")
        assert parse("e4m0ieee<nosubnormals>").subnormals

    def test_different_if_they_do_not(self):
        assert len({parse(name) for name in EXAMPLES}) == len(EXAMPLES)
        assert FloatingPoint(5, 2, overflow="saturate_all") != FloatingPoint(5, 2, overflow="saturate")
        assert FloatingPoint(5, 2, subnormals=False) != FloatingPoint(5, 2)
        assert FixedPoint(8, 4, overflow=Overflow.WRAP) != FixedPoint(8, 4)

    def test_replace(self):
        assert dataclasses.replace(parse("e4m3fn"), overflow="infinity") == parse("e4m3fn<infinity>")
        assert dataclasses.replace(FixedPoint(8, 4), symmetric=True) == parse("fixed8f4<symmetric>")
        assert dataclasses.replace(parse("bfp8"), exponent_bits=8) == parse("bfp8<exponent8>")

    @pytest.mark.parametrize(
        "build",
        [
            lambda: FloatingPoint(4, 3, 7),
            lambda: FixedPoint(8, 4, True),
            lambda: BlockFloatingPoint(8, PerGroup(2), 8),
        ],
    )
    def test_options_are_keyword_only(self, build):
        with pytest.raises(TypeError, match="positional"):
            build()
