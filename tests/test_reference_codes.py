"""Codes by the reference: bit patterns worked out by hand, round trips, what has no code."""

import math

import numpy as np
import pytest
from comparison import assert_same_bits, words_like
from hard_formats import modes_of
from hard_inputs import hard_values

from lowprec import reference
from lowprec.formats import (
    NAMED,
    BlockFloatingPoint,
    FixedPoint,
    GroupedFormat,
    PerGroup,
    Scaled,
    TabledFormat,
    parse,
)

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("e4m3fn", {0x00: 0.0, 0x80: -0.0, 0x01: 2.0**-9, 0x38: 1.0, 0xB8: -1.0, 0x7E: 448, 0x7F: NAN}),
        ("e4m3ieee", {0x77: 240, 0x78: INF, 0xF8: -INF, 0x7C: NAN, 0x80: -0.0}),
        ("e5m2", {0x7B: 57344, 0x7C: INF, 0xFC: -INF, 0x7E: NAN, 0x3C: 1.0, 0x03: 3 * 2.0**-16}),
        ("e4m3fnuz", {0x00: 0.0, 0x80: NAN, 0x7F: 240, 0xFF: -240, 0x40: 1.0, 0x81: -(2.0**-10)}),
        ("e2m1", {0x0: 0.0, 0x8: -0.0, 0x1: 0.5, 0x7: 6, 0xF: -6}),
        ("e3m0ieee", {0x0: 0.0, 0x1: 0.25, 0x3: 1.0, 0x7: INF, 0xE: -8, 0xF: -INF}),
        ("e2m0fn", {0x0: 0.0, 0x1: 1.0, 0x2: 2.0, 0x3: NAN}),
        ("binary16", {0x3C00: 1.0, 0x7BFF: 65504, 0x7C00: INF, 0x7E00: NAN, 0x8000: -0.0, 0x0001: 2.0**-24}),
        ("binary32", {0x3F800000: 1.0, 0x7FC00000: NAN, 0x00000001: 2.0**-149}),
        ("binary64", {0x3FF << 52: 1.0, 0x7FF8 << 48: NAN, 1: 5e-324, 0x8000 << 48: -0.0}),
        ("e3m2<nosubnormals>", {0x00: 0.0, 0x20: -0.0, 0x04: 0.25, 0x05: 0.3125, 0x24: -0.25}),
        ("fixed8f4", {0x00: 0.0, 0x01: 1 / 16, 0x7F: 127 / 16, 0x80: -8.0, 0xFF: -1 / 16}),
        ("fixed3f-2", {0x3: 12.0, 0x4: -16.0, 0x7: -4.0}),
        ("ufixed4f1", {0x0: 0.0, 0x7: 3.5, 0x8: 4.0, 0xF: 7.5}),
        ("fixed8f0<symmetric>", {0x81: -127.0}),
        ("fixed8f0<wrap>", {0x80: -128.0}),
    ],
)
def test_patterns(name: str, pairs: dict[int, float]) -> None:
    format = parse(name)
    for code, value in pairs.items():
        assert reference.code_of(value, format) == code
        assert_same_bits(np.float64(reference.value_of(code, format)), value)


@pytest.mark.parametrize(
    ("name", "codes", "value"),
    [
        ("e5m2", [0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF], NAN),
        ("e4m3fn", [0x7F, 0xFF], NAN),
        ("e3m2<nosubnormals>", [0x01, 0x02, 0x03], 0.0),
        ("e3m2<nosubnormals>", [0x21, 0x22, 0x23], -0.0),
        ("e3m2fnuz<nosubnormals>", [0x01, 0x03, 0x21, 0x23], 0.0),
        ("fixed8f0<symmetric>", [0x80], -128.0),
    ],
)
def test_codes_that_no_value_has(name: str, codes: list[int], value: float) -> None:
    for code in codes:
        assert_same_bits(np.float64(reference.value_of(code, parse(name))), value)


@pytest.mark.parametrize("name", [*NAMED, "e3m2<nosubnormals>", "e5m2fnuz<infinity>", "ufixed8f4<wrap>"])
def test_decoded_codes_are_what_quantize_gives(name: str) -> None:
    format = parse(name)
    dtype = "float64" if name in ("binary64", "posit32") else "float32"
    x = hard_values(format, dtype)
    x = x[:: 1 + x.size // 100]
    if not format.has_nan:
        x = x[np.isfinite(x)]
    x = x.reshape(1, -1)
    for rounding in modes_of(format):
        noise = {"words": words_like(x)} if rounding.is_stochastic else {}
        want = reference.quantize(x, format, rounding=rounding, **noise)
        if isinstance(format, GroupedFormat):
            codes, scales = reference.encode(x, format, rounding=rounding, **noise)
            first = scales[0] if isinstance(scales, tuple) else scales
            assert first.dtype == (np.float64 if isinstance(format, Scaled) else x.dtype)
            assert_same_bits(reference.decode(codes, format, dtype=dtype, scales=scales), want)
        else:
            codes = reference.encode(x, format, rounding=rounding, **noise)
            assert_same_bits(reference.decode(codes, format, dtype=dtype), want)
        assert codes.shape == x.shape
        assert codes.dtype.kind == "u"
        narrower = codes.itemsize * 4  # bits of the next smaller type
        assert codes.itemsize == 1 or narrower < format.bits
        assert format.bits <= codes.itemsize * 8


@pytest.mark.parametrize("name", [name for name in NAMED if parse(name).bits <= 8])
def test_every_code_of_eight_bits_comes_back(name: str) -> None:
    format = parse(name)
    if isinstance(format, GroupedFormat):
        format = format.in_group(0)
    codes = set(range(format.table.codes_listed if isinstance(format, TabledFormat) else 1 << format.bits))
    if isinstance(format, FixedPoint) and format.symmetric:
        codes.remove(1 << (format.bits - 1))  # which no value has
    for code in codes:
        value = reference.value_of(code, format)
        canonical = reference.code_of(NAN, format) if math.isnan(value) else code
        assert reference.code_of(value, format) == canonical


def test_blocks() -> None:
    x = np.float32([[1.3, -0.7, 0.0, 6.0], [-24.0, 5.0, 0.0, -0.0], [0, 0, 2.0**-149, 0]])
    format = BlockFloatingPoint(4, PerGroup(2))
    codes, scales = reference.encode(x, format)
    # Steps are a quarter of the scale: 1.3 is 5 steps, -0.7 is -3, 6 is 6, -24 is -6, 5 is 1.
    least = 2.0**-147  # the step is then the smallest float32
    assert_same_bits(scales, [[1, 4], [16, least], [least, least]])
    assert codes.tolist() == [[5, 13, 0, 6], [10, 1, 0, 0], [0, 0, 1, 0]]
    want = [[1.25, -0.75, 0, 6], [-24, 4, 0, 0], [0, 0, 2.0**-149, 0]]
    assert_same_bits(reference.decode(codes, format, scales=scales), want)


def test_scaled() -> None:
    x = np.float32(
        [[1.3, -0.7, 0.0, 6.0], [-24.0, 5.0, 0.0, -0.0], [2.0**-149, 0, -INF, 1], [2, 0, 2.0**127, 0]]
    )
    x[3, 1] = np.finfo(np.float32).max
    format = parse("scaled<e2m1,e8m0,group2>")
    codes, scales = reference.encode(x, format)
    # Scales are 2 to the exponent of the largest, less 2: 2^-2 and 1, 4 and the least, that and 2^-2, ...
    assert_same_bits(scales, 2.0 ** (np.array([[125, 127], [129, 0], [0, 125], [252, 252]]) - 127))
    # 5.2 and -2.8 times the scale, 0 and 6, -6 and 1.25, then what is too small or too large.
    assert codes.tolist() == [[7, 13, 0, 7], [15, 2, 0, 8], [0, 0, 15, 6], [0, 7, 6, 0]]
    want = [[1.5, -0.75, 0, 6], [-24, 4, 0, -0.0], [0, 0, -1.5, 1], [0, 1.5 * 2.0**127, 2.0**127, 0]]
    assert_same_bits(reference.decode(codes, format, scales=scales), want)


def test_a_scale_that_is_nan() -> None:
    codes, scales = np.uint8([0, 7, 0, 15]), np.array([NAN, 2.0**127])
    values = reference.decode(codes, "scaled<e2m1,e8m0,group2>", dtype=np.float64, scales=scales)
    assert_same_bits(values, [NAN, NAN, 0.0, -6 * 2.0**127])
    narrow = reference.decode(codes, "scaled<e2m1,e8m0,group2>", scales=scales)
    assert_same_bits(narrow, np.float32([NAN, NAN, 0.0, -INF]))


@pytest.mark.parametrize(
    ("name", "shape", "scales"),
    [
        ("bfp8", (), ()),
        ("bfp8", (3, 4), (1, 1)),
        ("bfp8", (0, 4), (0, 1)),
        ("bfp8<group3>", (2, 7), (2, 3)),
        ("bfp8<group>", (2, 7), (2, 1)),
        ("bfp8<channel0>", (2, 3, 4), (2, 1, 1)),
        ("bfp8<block2x3>", (5, 4, 7), (5, 2, 3)),
        ("scaled<e2m1,e8m0>", (), ()),
        ("mxfp4", (0, 4), (0, 1)),
        ("mxint8", (2, 33), (2, 2)),
        ("scaled<e4m3fn,e8m0,block2x3>", (5, 4, 7), (5, 2, 3)),
    ],
)
def test_there_is_a_scale_for_each_tile(name: str, shape: tuple[int, ...], scales: tuple[int, ...]) -> None:
    codes, of_groups = reference.encode(np.ones(shape, np.float64), name)
    assert of_groups.shape == scales
    format = parse(name)
    if isinstance(format, Scaled):
        assert_same_bits(of_groups, np.full(scales, 2.0**-format.element_exponent))
    else:
        assert_same_bits(of_groups, np.ones(scales))
    assert_same_bits(reference.decode(codes, name, dtype="float64", scales=of_groups), np.ones(shape))


class TestErrors:
    @pytest.mark.parametrize(
        "name", ["e2m1", "e3m0ieee", "fixed8f4", "bfp8", "fixed8f4<wrap>", "mxfp4", "mxint8"]
    )
    def test_nan_where_there_is_none(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"`value` must be a number in .*no code for NaN"):
            reference.encode(np.float32([1.0, NAN]), name)

    def test_wrapped_infinities_are_nan(self) -> None:
        with pytest.raises(ValueError, match="no code for NaN"):
            reference.encode(np.float32([INF]), "fixed8f4<wrap>")

    @pytest.mark.parametrize(
        ("value", "name"),
        [(449.0, "e4m3fn"), (INF, "e4m3fn"), (0.1, "e5m2"), (-0.0, "fixed8f4"), (-0.0, "e4m3fnuz"),
         (8.0, "fixed8f4"), (-INF, "fixed8f4"), (0.125, "e3m2<nosubnormals>")],
    )  # fmt: skip
    def test_no_value_of_the_format(self, value: float, name: str) -> None:
        with pytest.raises(ValueError, match=f"`value` must be a value of {name}, got {value}"):
            reference.code_of(value, parse(name))

    def test_formats_without_codes(self) -> None:
        unbounded = FixedPoint(None, 4, overflow="unbounded")
        for function in (reference.code_of, reference.value_of):
            with pytest.raises(ValueError, match="`format` must be bounded to have codes"):
                function(1, unbounded)
            with pytest.raises(TypeError, match="`format` must be a FloatingPoint, FixedPoint, Posit or Tab"):
                function(1, BlockFloatingPoint(8))
        with pytest.raises(ValueError, match="`format` must be bounded to have codes"):
            reference.encode(np.float32([1]), unbounded)

    def test_decode(self) -> None:
        codes = np.uint16([256])
        with pytest.raises(ValueError, match="`code` must lie between 0 and 255, got 256"):
            reference.decode(codes, "e4m3fn")
        with pytest.raises(ValueError, match="exact in the carrier float16"):
            reference.decode(codes, "bfloat16", dtype=np.float16)
        with pytest.raises(
            TypeError, match=r"`dtype` must be float16, float32 or float64, got <class 'numpy.int64'>"
        ):
            reference.decode(codes, "bfloat16", dtype=np.int64)
        with pytest.raises(
            ValueError, match=r"`scales` must be None for a format without groups, got \(1,\)"
        ):
            reference.decode(codes, "bfloat16", scales=np.float32([1]))
        for scales, got in ((None, "None"), (np.float32([1, 1]), r"\(2,\)")):
            with pytest.raises(ValueError, match=rf"`scales` must have the shape \(1,\), got {got}"):
                reference.decode(codes, "bfp8", scales=scales)
