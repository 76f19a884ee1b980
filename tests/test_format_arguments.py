"""What formats, granularities and carriers accept, and every error they raise."""

import re
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from lowprec.errors import type_error, value_error
from lowprec.formats import (
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
    Scaled,
    parse,
)
from lowprec.formats.carriers import CARRIERS
from lowprec.formats.format import exact_float


def floating(*widths, **options):
    """Builds a FloatingPoint later; short, for the table below."""
    return lambda: FloatingPoint(*widths, **options)


def fixed(*widths, **options):
    """Builds a FixedPoint later."""
    return lambda: FixedPoint(*widths, **options)


def block(*arguments, **options):
    """Builds a BlockFloatingPoint later."""
    return lambda: BlockFloatingPoint(*arguments, **options)


class TestConstructors:
    @pytest.mark.parametrize(
        ("build", "error", "message"),
        [
            (floating(0, 3), ValueError, "`exponent_bits` must lie between 1 and 11, got 0"),
            (floating(12, 3), ValueError, "`exponent_bits` must lie between 1 and 11, got 12"),
            (floating(4.0, 3), TypeError, "`exponent_bits` must be an integer, got 4.0"),
            (floating(True, 3), TypeError, "`exponent_bits` must be an integer, got True"),
            (floating(4, -1), ValueError, "`mantissa_bits` must lie between 0 and 52, got -1"),
            (floating(4, 53), ValueError, "`mantissa_bits` must lie between 0 and 52, got 53"),
            (floating(4, 3, bias=2048), ValueError, "`bias` must lie between -1023 and 2047"),
            (floating(4, 3, bias="7"), TypeError, "`bias` must be an integer, got '7'"),
            (floating(4, 3, bias=1073), ValueError, "`bias` must keep every value within float64"),
            (floating(11, 3, bias=9), ValueError, "`bias` must keep every value within float64"),
            (floating(11, 3, specials="fn"), ValueError, "`bias` must keep every value .* got 1023"),
            # Its smallest value fits, the last places of its small normal values do not.
            (floating(4, 3, bias=1073, subnormals=False), ValueError, "`bias` must keep every value"),
            (floating(1, 0), ValueError, "`exponent_bits` must leave a finite value .* Widen a field"),
            (floating(1, 0, specials="fn"), ValueError, "`exponent_bits` must leave a finite value"),
            (floating(1, 3, subnormals=False), ValueError,
             "`subnormals` must be True where every finite value is subnormal, got False. Widen the"),
            (floating(4, 3, subnormals=0), TypeError, "`subnormals` must be True or False, got 0"),
            (floating(4, 3, specials="ocp"), ValueError,
             "`specials` must be a known name, got 'ocp'. Choose one of: ieee, fn, fnuz, finite."),
            (floating(4, 3, specials=None), TypeError, "`specials` must be a string, got None"),
            (floating(4, 3, overflow="clip"), ValueError,
             "`overflow` must be a known name, got 'clip'. Choose one of: saturate, "),
            (floating(4, 3, overflow=1), TypeError, "`overflow` must be a string, got 1"),
            (floating(4, 3, overflow="wrap"), ValueError,
             "`overflow` must be 'saturate', 'saturate_all' or 'infinity' in floating .* got 'wrap'"),
            (floating(4, 3, overflow="unbounded"), ValueError,
             "`overflow` must be 'saturate', 'saturate_all' or 'infinity' in floating point"),
            (floating(4, 3, specials="finite", overflow="infinity"), ValueError,
             "`overflow` must be 'saturate' where every code is a finite number, got 'infinity'. There"),
            (fixed(1, 0), ValueError, "`word_bits` must lie between 2 and 32, got 1"),
            (fixed(33, 0), ValueError, "`word_bits` must lie between 2 and 32, got 33"),
            (fixed(0, 0, signed=False), ValueError, "`word_bits` must lie between 1 and 32, got 0"),
            (fixed(33, 0, signed=False), ValueError, "`word_bits` must lie between 1 and 32, got 33"),
            (fixed("8", 0), TypeError, "`word_bits` must be an integer, got '8'"),
            (fixed(8, 1075), ValueError, "`fraction_bits` must lie between -1023 and 1074, got 1075"),
            (fixed(8, -1024), ValueError, "`fraction_bits` must lie between -1023 and 1074, got -1024"),
            (fixed(8, -1017), ValueError, "`fraction_bits` must keep every value within float64"),
            (fixed(8, 0.5), TypeError, "`fraction_bits` must be an integer, got 0.5"),
            (fixed(8, 4, signed=1), TypeError, "`signed` must be True or False, got 1"),
            (fixed(8, 4, symmetric=1), TypeError, "`symmetric` must be True or False, got 1"),
            (fixed(8, 4, overflow="infinity"), ValueError,
             "`overflow` must be 'saturate', 'wrap' or 'unbounded' in fixed point, got 'infinity'"),
            (fixed(8, 4, overflow="saturate_all"), ValueError,
             "`overflow` must be 'saturate', 'wrap' or 'unbounded' in fixed point"),
            (fixed(8, 4, overflow="no"), ValueError, "`overflow` must be a known name, got 'no'"),
            (fixed(8, 4, overflow="unbounded"), ValueError,
             "`word_bits` must be None where overflow is 'unbounded', got 8. Leave out"),
            (fixed(None, 4), ValueError,
             "`overflow` must be 'unbounded' where word_bits is None, got 'saturate'"),
            (fixed(None, 4, overflow="wrap"), ValueError,
             "`overflow` must be 'unbounded' where word_bits is None, got 'wrap'"),
            (fixed(None, 4, signed=False, overflow="unbounded"), ValueError,
             "`signed` must be True where overflow is 'unbounded', got False"),
            (fixed(8, 4, signed=False, symmetric=True), ValueError,
             "`symmetric` must be False where signed is False, got True. An unsigned format"),
            (fixed(8, 4, symmetric=True, overflow="wrap"), ValueError,
             "`symmetric` must be False where overflow is 'wrap', got True. Only a format that"),
            (fixed(None, 4, symmetric=True, overflow="unbounded"), ValueError,
             "`symmetric` must be False where overflow is 'unbounded', got True"),
            (block(1), ValueError, "`word_bits` must lie between 2 and 25, got 1"),
            (block(26), ValueError, "`word_bits` must lie between 2 and 25, got 26"),
            (block(8.0), TypeError, "`word_bits` must be an integer, got 8.0"),
            (block(8, "group32"), TypeError,
             "`granularity` must be a PerTensor, PerChannel, PerGroup or PerBlock, got 'group32'"),
            (lambda: Scaled("e2m1", "e8m0", 32), TypeError,
             "`granularity` must be a PerTensor, PerChannel, PerGroup or PerBlock, got 32"),
            (block(8, exponent_bits=1), ValueError, "`exponent_bits` must lie between 2 and 11, got 1"),
            (block(8, exponent_bits=12), ValueError, "`exponent_bits` must lie between 2 and 11"),
            (block(8, exponent_bits=8.0), TypeError, "`exponent_bits` must be an integer, got 8.0"),
            (lambda: PerChannel(0.0), TypeError, "`axis` must be an integer, got 0.0"),
            (lambda: PerChannel([0]), TypeError, r"`axis` must be an integer, got \[0\]"),
            (lambda: PerChannel(()), ValueError, r"`axis` must name at least one axis, .* got \(\)"),
            (lambda: PerChannel((0, 0)), ValueError,
             "`axis` must name at least one axis, and none twice"),
            (lambda: PerGroup(0), ValueError, "`size` must be at least 1, got 0"),
            (lambda: PerGroup(True), TypeError, "`size` must be an integer or None, got True"),
            (lambda: PerGroup(2.0), TypeError, "`size` must be an integer or None, got 2.0"),
            (lambda: PerGroup(2, "rows"), TypeError, "`axis` must be an integer, got 'rows'"),
            (lambda: PerBlock(16), TypeError, "`shape` must be a tuple of integers, got 16"),
            (lambda: PerBlock([16, 16]), TypeError, r"`shape` must be a tuple of integers, got \[16"),
            (lambda: PerBlock((16, 2.0)), TypeError, "`shape` must be a tuple of integers"),
            (lambda: PerBlock((16, True)), TypeError, "`shape` must be a tuple of integers"),
            (lambda: PerBlock(()), ValueError, r"`shape` must name at least one size, .* got \(\)"),
            (lambda: PerBlock((16, 0)), ValueError, "`shape` must name at least one size, and none"),
        ],
    )  # fmt: skip
    def test_errors(self, build, error, message):
        with pytest.raises(error, match=message):
            build()

    def test_exact_float_refuses_what_float64_does_not_hold(self):
        assert exact_float(Fraction(3, 4)) == 0.75
        with pytest.raises(OverflowError, match=r"1/3|Fraction\(1, 3\)"):
            exact_float(Fraction(1, 3))


def ends(format):
    """The least and the largest magnitudes, as many as there are mantissas in two exponents."""
    if isinstance(format, FixedPoint):
        return [float(magnitude) for magnitude in format.magnitudes()]
    count, last = 2 << format.mantissa_bits, format.largest_code
    codes = {*range(min(count, last + 1)), *range(max(0, last - count), last + 1)}
    return [float(format.magnitude(code)) for code in codes]


class TestCarriers:
    @pytest.mark.parametrize(
        ("name", "carriers"),
        [
            ("e4m3fn", "bfloat16 float16 float32 float64"),
            ("e5m2", "bfloat16 float16 float32 float64"),
            ("e5m2fnuz", "bfloat16 float16 float32 float64"),
            ("e2m1", "bfloat16 float16 float32 float64"),
            ("bfloat16", "bfloat16 float32 float64"),
            ("binary16", "float16 float32 float64"),
            ("tf32", "float32 float64"),
            ("binary32", "float32 float64"),
            ("binary64", "float64"),
            ("e5m7ieee", "bfloat16 float16 float32 float64"),
            ("e5m7fn", "bfloat16 float32 float64"),
            ("e5m8ieee", "float16 float32 float64"),
            ("e5m11ieee", "float32 float64"),
            ("e5m23ieee", "float32 float64"),
            ("e5m24ieee", "float64"),
            ("e8m0fn", "bfloat16 float32 float64"),
            ("e8m0fn<bias126>", "float64"),
            ("e8m7fn", "float64"),
            ("e8m6fn<bias128>", "bfloat16 float32 float64"),
            ("e8m6ieee<bias129>", "float32 float64"),
            ("e2m7ieee<bias150>", "float64"),
            ("e2m7ieee<bias143>", "float32 float64"),
            ("e11m2ieee", "float64"),
            ("binary32<nosubnormals>", "float32 float64"),
            ("e8m23ieee<nosubnormals,bias128>", "float64"),
            ("fixed8f7", "bfloat16 float16 float32 float64"),
            ("fixed9f0", "bfloat16 float16 float32 float64"),
            ("fixed10f0", "float16 float32 float64"),
            ("fixed12f0", "float16 float32 float64"),
            ("fixed13f0", "float32 float64"),
            ("fixed25f0", "float32 float64"),
            ("fixed26f0", "float64"),
            ("ufixed8f0", "bfloat16 float16 float32 float64"),
            ("ufixed9f0<wrap>", "float16 float32 float64"),
            ("ufixed25f0", "float64"),
            ("fixed8f24", "bfloat16 float16 float32 float64"),
            ("fixed8f25", "bfloat16 float32 float64"),
            ("fixed8f133", "bfloat16 float32 float64"),
            ("fixed8f134", "float32 float64"),
            ("fixed8f150", "float64"),
            ("fixed8f-8", "bfloat16 float16 float32 float64"),
            ("fixed8f-9", "bfloat16 float32 float64"),
            ("ufixed8f-8", "bfloat16 float16 float32 float64"),
            ("ufixed8f-9", "bfloat16 float32 float64"),
            ("fixed8f-120", "bfloat16 float32 float64"),
            ("fixed8f-121", "float64"),
            ("fixed8f-121<symmetric>", "bfloat16 float32 float64"),
            ("fixed8f-122<symmetric>", "float64"),
            ("fixedf24<unbounded>", "bfloat16 float16 float32 float64"),
            ("fixedf25<unbounded>", "bfloat16 float32 float64"),
            ("fixedf134<unbounded>", "float32 float64"),
            ("fixedf150<unbounded>", "float64"),
            ("fixedf-5<unbounded>", "bfloat16 float16 float32 float64"),
            ("fixedf-6<unbounded>", "bfloat16 float32 float64"),
            ("fixedf-105<unbounded>", "bfloat16 float64"),
            ("fixedf-121<unbounded>", "float64"),
            ("fixedf-972<unbounded>", ""),
            ("bfp9", "bfloat16 float16 float32 float64"),
            ("bfp10<exponent8>", "float16 float32 float64"),
            ("bfp12", "float16 float32 float64"),
            ("bfp13", "float32 float64"),
            ("bfp25", "float32 float64"),
        ],
    )
    def test_who_holds_what(self, name, carriers):
        format, holders = parse(name), carriers.split()
        remedy = f"Pass a {' or '.join(holders)} tensor." if holders else "No carrier holds it."
        for carrier in ("bfloat16", "float16", "float32", "float64"):
            if carrier in holders:
                format.check_carrier(carrier)
                continue
            message = rf"`format` must be exact in the carrier {carrier} \(.*{re.escape(remedy)}"
            with pytest.raises(ValueError, match=message):
                format.check_carrier(carrier)

    @pytest.mark.parametrize(
        ("name", "missing"),
        [
            ("binary16", "11 significant bits, it has 8"),
            ("e3m7ieee<bias140>", "its smallest value 2^-133 is too large"),
            ("e9m3ieee<bias130>", "its largest value is too small"),
            ("fixed16f3", "15 significant bits, it has 8"),
            ("ufixed16f3", "16 significant bits, it has 8"),
            ("fixed8f140", "its smallest value 2^-133 is too large"),
            ("fixed8f-121", "its largest value is too small"),
            ("fixedf140<unbounded>", "its smallest value 2^-133 is too large"),
            ("fixedf-121<unbounded>", "its largest value is too small"),
            ("bfp16", "15 significant bits, it has 8"),
        ],
    )
    def test_the_error_says_what_is_missing(self, name, missing):
        with pytest.raises(ValueError, match=re.escape(f"bfloat16 ({missing}), got '{name}'")):
            parse(name).check_carrier("bfloat16")

    @pytest.mark.parametrize("carrier", ["float16", "float32", "float64"])
    def test_carriers_are_what_numpy_says(self, carrier):
        limits, ours = np.finfo(carrier), CARRIERS[carrier]
        assert ours.precision == limits.nmant + 1
        assert 2.0**ours.lowest_exponent == limits.smallest_subnormal
        assert 2.0**ours.highest_exponent == limits.max / (2 - limits.eps)

    @pytest.mark.parametrize("carrier", ["float16", "float32", "bfloat16"])
    def test_a_carrier_holds_a_format_if_every_value_is_exact_in_it(self, carrier):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")
        dtype = np.dtype(getattr(ml_dtypes, carrier, carrier))
        widths = product((2, 5, 8), (0, 2, 7, 8), (-20, 0, 3, 120), ("fn", "fnuz"), (True, False))
        formats = [
            FloatingPoint(e, m, bias=(1 << (e - 1)) + bias, specials=specials, subnormals=subnormals)
            for e, m, bias, specials, subnormals in widths
        ]
        points = [*range(-124, -117), *range(-11, -6), *range(22, 27), *range(131, 152)]
        formats += [FixedPoint(8, f, signed=signed) for f, signed in product(points, (True, False))]
        held = 0
        for format in formats:
            values = np.array([*ends(format), format.min])
            with np.errstate(over="ignore", under="ignore"):
                is_exact = bool((values.astype(dtype).astype(np.float64) == values).all())
            assert (format.missing_in(CARRIERS[carrier]) is None) == is_exact, str(format)
            held += is_exact
        assert 0 < held < len(formats)


class TestGranularities:
    @pytest.mark.parametrize(
        ("granularity", "shape", "tiles"),
        [
            (PerTensor(), (2, 3), (2, 3)),
            (PerTensor(), (), ()),
            (PerTensor(), (0, 3), (0, 3)),
            (PerChannel(0), (4, 3, 2), (1, 3, 2)),
            (PerChannel(-1), (4, 3, 2), (4, 3, 1)),
            (PerChannel((0, -1)), (4, 3, 2), (1, 3, 1)),
            (PerGroup(2), (4, 5), (1, 2)),
            (PerGroup(99), (4, 5), (1, 99)),
            (PerGroup(2, 0), (4, 5), (2, 1)),
            (PerGroup(None, 0), (4, 5), (4, 1)),
            (PerGroup(), (4, 0), (1, 1)),
            (PerBlock((16, 8)), (3, 40, 40), (1, 16, 8)),
            (PerBlock((16, 8)), (40, 4), (16, 8)),
            (PerBlock((16,)), (2, 40), (1, 16)),
            (PerBlock((2, 2)), (0, 3), (2, 2)),
        ],
    )
    def test_tiles(self, granularity, shape, tiles):
        assert granularity.tiles(shape) == tiles

    @pytest.mark.parametrize("granularity", [PerChannel(2), PerChannel(-3), PerGroup(2, 2)])
    def test_an_axis_that_is_not_there(self, granularity):
        message = "`axis` must lie within the 2 dimensions of the tensor, got"
        with pytest.raises(ValueError, match=message):
            granularity.tiles((4, 5))

    @pytest.mark.parametrize("shape", [(), (5,)])
    def test_more_sizes_than_dimensions(self, shape):
        message = rf"`shape` must have no more sizes than the {len(shape)} dimensions .* got \(2, 2\)"
        with pytest.raises(ValueError, match=message):
            PerBlock((2, 2)).tiles(shape)

    @pytest.mark.parametrize(
        ("granularity", "name"),
        [
            (PerTensor(), "tensor"),
            (PerChannel(-1), "channel-1"),
            (PerChannel((0, 2)), "channel0&2"),
            (PerGroup(), "group"),
            (PerGroup(32), "group32"),
            (PerGroup(32, 0), "group32@0"),
            (PerGroup(None, "contraction"), "group@contraction"),
            (PerBlock((16, 16)), "block16x16"),
        ],
    )
    def test_names(self, granularity, name):
        assert str(granularity) == name

    def test_one_dimension_by_two_names(self):
        with pytest.raises(ValueError, match=r"`axis` must name no dimension twice, got \(1, -1\)"):
            PerChannel((1, -1)).tiles((4, 5))

    def test_contraction_is_settled_by_a_product(self):
        group = PerGroup(2, "contraction")
        message = "`axis` must be an integer outside a product, got 'contraction'. Only the casts"
        with pytest.raises(ValueError, match=message):
            group.tiles((4, 5))
        assert group.along(0) == PerGroup(2, 0)
        assert PerGroup(2, 1).along(0) == PerGroup(2, 1)
        assert BlockFloatingPoint(8, group).along(-2) == BlockFloatingPoint(8, PerGroup(2, -2))
        per_channel = BlockFloatingPoint(8, PerChannel(0))
        assert per_channel.along(1) is per_channel


def test_how_errors_are_worded():
    error = value_error("seeds", "be at least 1", 0)
    assert isinstance(error, ValueError)
    assert str(error) == "`seeds` must be at least 1, got 0."
    error = type_error("name", "be a string", None, "Pass a name.")
    assert isinstance(error, TypeError)
    assert str(error) == "`name` must be a string, got None. Pass a name."
