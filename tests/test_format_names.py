"""From names and torch dtypes to formats, and back."""

import re

import numpy as np
import pytest
from hypothesis import given

from lowprec.formats import (
    NAMED,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
    parse,
    resolve,
)
from lowprec.testing import strategies


def floating(*widths, **options):
    """A FloatingPoint; short, for the tables below."""
    return FloatingPoint(*widths, **options)


@given(strategies.formats())
def test_parse_reads_back_str(format):
    assert parse(str(format)) == format


@pytest.mark.parametrize("name", NAMED)
def test_named_formats_are_called_what_they_are(name):
    assert str(parse(name)) == name


def test_named_formats_are_different_ones():
    assert len({parse(name) for name in NAMED}) == len(NAMED)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("binary64", floating(11, 52)),
        ("binary32", floating(8, 23)),
        ("tf32", floating(8, 10)),
        ("binary16", floating(5, 10)),
        ("bfloat16", floating(8, 7)),
        ("e5m2", floating(5, 2)),
        ("e5m2ieee", floating(5, 2)),
        ("e5m2fnuz", floating(5, 2, specials="fnuz", bias=16)),
        ("e4m3fn", floating(4, 3, specials="fn")),
        ("e4m3fnuz", floating(4, 3, specials="fnuz", bias=8)),
        ("e4m3fnuz<bias11>", floating(4, 3, specials="fnuz", bias=11)),
        ("e4m3ieee<saturate,bias9>", floating(4, 3, bias=9, overflow="saturate")),
        ("e4m3ieee<bias9,saturate>", floating(4, 3, bias=9, overflow="saturate")),
        ("e4m3fn<nosubnormals,infinity,bias8>",
         floating(4, 3, specials="fn", subnormals=False, overflow="infinity", bias=8)),
        ("e3m4", floating(3, 4)),
        ("e3m2", floating(3, 2, specials="finite")),
        ("e2m3", floating(2, 3, specials="finite")),
        ("e2m1", floating(2, 1, specials="finite")),
        ("e2m1finite", floating(2, 1, specials="finite")),
        ("e2m1<bias2>", floating(2, 1, specials="finite", bias=2)),
        ("e2m1ieee", floating(2, 1)),
        ("e2m1<fn>", floating(2, 1, specials="fn")),
        ("e2m1<bias2,fn>", floating(2, 1, specials="fn", bias=2)),
        ("e8m10ieee<saturate>", floating(8, 10, overflow="saturate")),
        ("binary16<bias-2>", floating(5, 10, bias=-2)),
        ("fixed8f7", FixedPoint(8, 7)),
        ("fixed8f7<saturate>", FixedPoint(8, 7)),
        ("fixed16f-3<symmetric>", FixedPoint(16, -3, symmetric=True)),
        ("fixed4f9<wrap>", FixedPoint(4, 9, overflow="wrap")),
        ("ufixed8f6", FixedPoint(8, 6, signed=False)),
        ("ufixed1f0<wrap>", FixedPoint(1, 0, signed=False, overflow="wrap")),
        ("fixedf6<unbounded>", FixedPoint(None, 6, overflow="unbounded")),
        ("fixedf-6<unbounded>", FixedPoint(None, -6, overflow="unbounded")),
        ("bfp8", BlockFloatingPoint(8)),
        ("bfp8<tensor>", BlockFloatingPoint(8, PerTensor())),
        ("bfp4<channel-1>", BlockFloatingPoint(4, PerChannel(-1))),
        ("bfp4<channel0&2>", BlockFloatingPoint(4, PerChannel((0, 2)))),
        ("bfp9<group>", BlockFloatingPoint(9, PerGroup())),
        ("bfp9<group16@contraction>", BlockFloatingPoint(9, PerGroup(16, "contraction"))),
        ("bfp8<block16x16>", BlockFloatingPoint(8, PerBlock((16, 16)))),
        ("bfp8<block3>", BlockFloatingPoint(8, PerBlock((3,)))),
        ("bfp8<exponent8>", BlockFloatingPoint(8, exponent_bits=8)),
        ("bfp8<group32,exponent8>", BlockFloatingPoint(8, PerGroup(32), exponent_bits=8)),
        ("bfp8<exponent8,group32>", BlockFloatingPoint(8, PerGroup(32), exponent_bits=8)),
    ],
)  # fmt: skip
def test_parse(name, want):
    assert parse(name) == want
    assert resolve(name) == want


@pytest.mark.parametrize(
    "name",
    [
        "", "e4m3fn<", "e4m3fn>", "e4m3fn<>", "e4m3fn<saturate", "e4m3fn<saturate,>", "e4m3fn<,>",
        "e4m3fn<saturate,infinity>", "e4m3fn<bias1,bias1>", "e4m3fn<bias1,bias2>", "e4m3fn<bias>",
        "e4m3fn<nosubnormals,nosubnormals>", "e4m3fn<subnormals>", "e4m3fn<fn>", "e4m3fn<round>",
        " e4m3fn", "E4M3FN", "e4m3uz", "e2m1<fn,fn>", "e2m1finite<fn>", "e2m1ieee<fn>", "tf32<>",
        "fixed8", "fixed8f4<signed>", "fixed8f4<symmetric,symmetric>", "fixed8f4<wrap,saturate>",
        "fixed-8f4", "ufixed8", "vfixed8f4", "fixed8f", "bfp8<group32,tensor>",
        "bfp8<group32,group32>", "bfp8<channel>", "bfp8<group@x>", "bfp8<row>", "bfp8<block>",
        "bfp8<block16x>", "bfp8<block-2x2>", "bfp8<exponent>", "bfp8<exponent8,exponent8>",
        "bfp8<saturate>", "int9000",
    ],
)  # fmt: skip
def test_unknown_names(name):
    message = f"`format` must be a known name, got {name!r}. Did you mean "
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(name)


def test_an_unknown_name_suggests_the_nearest_three():
    with pytest.raises(ValueError, match=r"Did you mean bfloat16, \S+, \S+\? "):
        parse("bfloat61")


def test_a_name_without_specials_suggests_two():
    with pytest.raises(ValueError, match=r"Did you mean e3m5ieee or e3m5fn\?"):
        parse("e3m5")


def test_e4m3_is_two_formats():
    message = r"`format` must say which e4m3, got 'e4m3'. Use 'e4m3fn' .* or 'e4m3ieee'"
    with pytest.raises(ValueError, match=message):
        parse("e4m3")


@pytest.mark.parametrize("name", ["e2m1fn", "e2m3fn", "e3m2fn", "e2m1fn<bias2>"])
def test_names_that_elsewhere_stand_for_formats_without_nan(name):
    plain = name[:4]
    message = rf"got '{name}'. That one is '{plain}'; with the all-ones code as NaN it is '{plain}<fn>'"
    with pytest.raises(ValueError, match=message):
        parse(name)


@pytest.mark.parametrize("name", [None, 8, ["e4m3fn"]])
def test_names_are_strings(name):
    with pytest.raises(TypeError, match="`name` must be a string, got"):
        parse(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fixed99f4", "`word_bits` must lie between 2 and 32, got 99"),
        ("fixedf4", "`overflow` must be 'unbounded' where word_bits is None, got 'saturate'"),
        ("fixedf4<wrap>", "`overflow` must be 'unbounded' where word_bits is None, got 'wrap'"),
        ("fixed8f4<unbounded>", "`word_bits` must be None where overflow is 'unbounded', got 8"),
        ("fixed8f4<infinity>", "`overflow` must be 'saturate', 'wrap' or 'unbounded' in fixed point"),
        ("fixed8f4<symmetric,wrap>", "`symmetric` must be False where overflow is 'wrap', got True"),
        ("e4m3fn<wrap>", "`overflow` must be 'saturate', 'saturate_all' or 'infinity' in floating"),
        ("e2m1<infinity>", "`overflow` must be 'saturate' where every code is a finite number"),
        ("bfp8<group0>", "`size` must be at least 1, got 0"),
        ("bfp8<block0x2>", "`shape` must name at least one size, and none below 1"),
        ("bfp8<exponent12>", "`exponent_bits` must lie between 2 and 11, got 12"),
    ],
)  # fmt: skip
def test_a_name_of_bad_numbers_or_contradictions(name, message):
    with pytest.raises(ValueError, match=message):
        parse(name)


DTYPES = [
    ("float8_e4m3fn", "e4m3fn"), ("float8_e4m3fnuz", "e4m3fnuz"), ("float8_e5m2", "e5m2"),
    ("float8_e5m2fnuz", "e5m2fnuz"), ("float16", "binary16"), ("bfloat16", "bfloat16"),
    ("float32", "binary32"), ("float64", "binary64"),
]  # fmt: skip


class TestResolve:
    @pytest.mark.parametrize(("dtype", "name"), DTYPES)
    def test_torch_dtypes(self, dtype, name):
        torch = pytest.importorskip("torch", reason="what is tested")
        format, info = resolve(getattr(torch, dtype)), torch.finfo(getattr(torch, dtype))
        assert format == parse(name)
        assert (format.bits, format.max, format.min) == (info.bits, info.max, info.min)
        assert format.smallest_normal == info.smallest_normal
        # torch.finfo gives 0.125 for e5m2fnuz, whose next number after 1 is 1.25.
        assert format.eps == (0.25 if dtype == "float8_e5m2fnuz" else info.eps)

    @pytest.mark.parametrize("dtype", ["int8", "complex64", "bool"])
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
