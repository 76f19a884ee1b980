"""The table of codes: every family against the definition."""

import math

import pytest
from explore_families import FAMILIES, OWN

from lowprec import explore, reference
from lowprec.explore.codes import element_of
from lowprec.formats import TabledFormat, resolve


@pytest.mark.parametrize("format", [f for f in FAMILIES if f != "binary16"], ids=str)
def test_every_code_has_the_value_that_the_definition_gives(format):
    element = element_of(resolve(format))
    table = explore.table(format)
    size = element.table.codes_listed if isinstance(element, TabledFormat) else 2**element.bits
    assert len(table) == size
    for code, row in enumerate(table):
        expected = reference.value_of(code, element)
        assert int(row["code"], 16) == int(row["bits"].replace(" ", ""), 2) == code
        assert row["value"] == expected or (math.isnan(row["value"]) and math.isnan(expected))
        assert math.copysign(1, row["value"]) == math.copysign(1, expected) or math.isnan(expected)


def kinds(format) -> dict[str, int]:
    """How many codes are of each kind."""
    found = explore.table(format)["kind"]
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("e5m2", {"zero": 2, "subnormal": 6, "normal": 240, "infinity": 2, "NaN": 6}),
        ("e4m3fnuz", {"zero": 1, "subnormal": 14, "normal": 240, "NaN": 1}),
        ("e2m1<nosubnormals>", {"zero": 2, "unused": 2, "normal": 12}),
        ("fixed4f2<symmetric>", {"zero": 1, "normal": 14, "unused": 1}),
        ("bfp4", {"zero": 1, "normal": 14, "unused": 1}),
        ("posit6", {"zero": 1, "normal": 62, "NaN": 1}),
        ("ternary", {"normal": 2, "zero": 1}),
        ("binary6p3uf", {"zero": 1, "subnormal": 3, "normal": 59, "NaN": 1}),
        (OWN, {"normal": 6, "zero": 2, "infinity": 2, "NaN": 1}),
    ],
)
def test_the_kinds_of_codes(format, expected):
    assert kinds(format) == expected


@pytest.mark.parametrize(
    ("format", "row", "caption"),
    [
        ("e4m3fn", ("0x39", "0 0111 001", 1.125, "normal"), "bits: sign, exponent, mantissa"),
        ("ufixed4f2", ("0x7", "01 11", 1.75, "normal"), "bits: integer and fraction, without a sign"),
        ("fixed4f0", ("0xf", "1111", -1.0, "normal"), "bits: integer and fraction, two's complement"),
        ("mxfp4", ("0x7", "0 11 1", 6.0, "normal"), "The elements of mxfp4, over the scale 1."),
        ("bfp4", ("0x1", "00 01", 0.25, "normal"), "The elements of bfp4, over a group whose largest"),
        ("posit8", ("0x40", "0 1000000", 1.0, "normal"), "bits: sign, then regime"),
        ("log3f2", ("0x00", "0 000 00", 1.0, "normal"), "bits: sign, integer and fraction of the logarithm"),
        ("binary6p3uf", ("0x20", "1000 00", 1.0, "normal"), "bits: exponent, mantissa"),
    ],
)
def test_rows_and_captions(format, row, caption):
    table = explore.table(format)
    assert row in table.rows
    assert caption in table.caption


def test_all_codes_of_sixteen_bits_are_listed():
    assert len(explore.table("binary16")) == 2**16


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (
            "binary32",
            r"`format` must have at most 16 bits, got 'binary32'\. Of wider ones, lowprec\.finfo and",
        ),
        ("bfp24", "`format` must have at most 16 bits, got 'bfp24'"),
        ("fixedf4<unbounded>", r"`format` must have codes of a certain width, .* Give word_bits\."),
        ("e4m3", r"`format` must say which e4m3, got 'e4m3'"),
    ],
)
def test_what_has_no_table_is_refused(format, message):
    with pytest.raises(ValueError, match=message):
        explore.table(format)
