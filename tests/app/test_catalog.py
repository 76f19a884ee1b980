"""The portrait of a format tells its values, all of them or the right ones."""

import io

import pytest
from rich.console import Console

from lowprec.app.catalog import listing, portrait
from lowprec.formats import NAMED, parse


def drawn(name: str, width: int = 80) -> str:
    """The portrait as text."""
    console = Console(width=width, file=io.StringIO())
    console.print(portrait(parse(name), console))
    return console.file.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "e4m3fn",
        "e4m3fnuz",
        "e5m2",
        "e2m1",
        "fixed8f7",
        "ufixed6f2",
        "bfp4",
        "e1m2fn",
        "e2m1<fn>",
        "mxfp4",
        "mxfp8_e5m2",
        "mxint8",
    ],
)
@pytest.mark.parametrize("width", [60, 80, 200])
def test_all_values_of_a_narrow_format_are_there_exactly(name, width):
    format = parse(name)
    lines = drawn(name, width).splitlines()
    cells = [cell for line in lines if line.startswith("0x") for cell in line.split()[1:]]
    assert [float(cell) for cell in cells] == [v for v in format.values() if v >= 0]


def test_codes_of_absent_subnormals_are_shown_as_zeros():
    text = drawn("e2m1<nosubnormals>", 81).splitlines()
    row = next(line for line in text if line.startswith("0x0"))
    assert row.split()[1:] == ["0", "0", "1", "1.5", "2", "3", "4", "6"]
    line = text[text.index("Number line: how many values lie in each cell") + 1]
    assert sum(sign != " " for sign in line) == 13


def test_an_unsigned_format_has_nothing_below_zero():
    text = drawn("ufixed4f0", 81)
    assert "There are no negative values." in text
    lines = text.splitlines()
    line = lines[lines.index("Number line: how many values lie in each cell") + 1]
    assert sum(sign != " " for sign in line) == 16
    assert line[0] != " "


def test_an_unbounded_format_has_properties_only():
    text = drawn("fixedf2<unbounded>")
    assert "The values are all multiples of 0.25, without end." in text
    assert "bits" not in text
    assert "Number line" not in text


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("e2m1", ["infinity no", "NaN no", "subnormals yes", "signed zero yes", "bias 1"]),
        ("e4m3fnuz", ["infinity no", "NaN yes", "signed zero no", "bias 8", "overflow saturate"]),
        ("e5m2<nosubnormals>", ["infinity yes", "subnormals no", "overflow infinity"]),
        ("fixed8f4<wrap>", ["NaN no", "overflow wrap"]),
        ("bfp8<exponent8>", ["block exponent -127 to 128"]),
        ("mxfp4", ["element e2m1", "scale e8m0, by the rule floor, for each group32", "bits 4"]),
    ],
)
def test_the_properties(name, facts):
    lines = [" ".join(line.split()) for line in drawn(name).splitlines()]
    assert set(facts) <= set(lines)


@pytest.mark.parametrize("name", NAMED)
def test_every_named_format_has_a_portrait(name):
    assert drawn(name, 60).splitlines()[0].strip() == name


def test_a_wide_format_shows_its_landmarks():
    text = drawn("binary32")
    for landmark in ("1.401298464324817e-45", "1.1754943508222875e-38", "3.4028234663852886e+38"):
        assert landmark in text
    assert "0x3f800000" in text
    assert "…" in text


def test_the_widest_format_is_drawn_too():
    assert "1.7976931348623157e+308" in drawn("binary64")


def test_the_lines_count_the_values():
    text = drawn("e2m1<fn>", 81).splitlines()
    line = text[text.index("Number line: how many values lie in each cell") + 1]
    format = parse("e2m1<fn>")
    assert sum(sign != " " for sign in line) == len(format.values())
    assert line == line[::-1]


def test_two_s_complement_has_one_more_below_zero():
    text = drawn("fixed4f0", 81)
    assert "The negative values mirror them, and -8.0 comes below." in text
    lines = text.splitlines()
    line = lines[lines.index("Number line: how many values lie in each cell") + 1]
    assert sum(sign != " " for sign in line) == 16


def test_the_listing_has_every_name():
    for width in (30, 60, 80, 120):
        console = Console(width=width, file=io.StringIO())
        console.print(listing(console))
        text = console.file.getvalue()
        assert "…" not in text
        rows = [line.strip("│ ").split() for line in text.splitlines() if line.startswith("│")]
        assert [row[0] for row in rows] == list(NAMED)
        expected = f"{parse('bfloat16').eps:.6g}"
        row = rows[list(NAMED).index("bfloat16")]
        assert row[-1] == "16" if width == 30 else row[-3] == expected, row
