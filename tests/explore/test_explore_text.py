"""Pictures as text: the same numbers, within the width, with and without other signs than ASCII's."""

import pytest
import torch
from explore_families import FAMILIES

from lowprec.explore import text
from lowprec.explore.codes import element_of
from lowprec.explore.rounding import noise
from lowprec.explore.terminal import Line, logarithmic_chart
from lowprec.formats import resolve

DATA = torch.randn(8, 32, generator=torch.Generator().manual_seed(3))
FORMS = {
    "number_line": lambda f, **o: text.number_line(f, **o),
    "logarithmic": lambda f, **o: text.number_line(f, log=True, **o),
    "spacing": lambda f, **o: text.spacing(f, **o),
    "relative_error": lambda f, **o: text.relative_error(f, **o),
    "histogram": lambda f, **o: text.histogram(DATA, f, **o),
    "code_usage": lambda f, **o: text.code_usage(DATA, f, **o),
    "staircase": lambda f, **o: text.staircase(f, ["nearest_even", "stochastic"], **o),
    "stochastic": lambda f, **o: text.stochastic(f, at=resolve(f).max / 2, count=16, **o),
}


@pytest.mark.parametrize("format", FAMILIES, ids=str)
@pytest.mark.parametrize("form", [name for name in FORMS if name != "stochastic"])
def test_every_family_fits_the_width(form, format):
    for width, ascii in ((60, True), (81, False)):
        shown = FORMS[form](format, width=width, ascii=ascii)
        assert shown.isascii() or not ascii
        assert max(map(len, shown.splitlines())) <= width, shown
        assert all(line == line.rstrip() for line in shown.splitlines())


def test_lines_count_values():
    cells = text.number_line("e2m1", width=81, ascii=True).splitlines()[0]
    assert sum(sign != " " for sign in cells) == 15
    both = text.number_line(["e2m1", "ufixed3f0"], width=81).splitlines()
    assert [line.split()[0] for line in both[:2]] == ["e2m1", "ufixed3f0"]
    assert both[2].split() == ["-7", "0", "7"]


def test_histograms_and_codes():
    x = torch.tensor([0.0, 0.5, 0.5, -6.0])
    lines = text.histogram(x, "e2m1", width=60, ascii=True).splitlines()
    assert lines[0] == "e2m1: 4 values"
    shares = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert shares["0.5"] == "50.00%"
    assert (shares["-6"], shares["0"], shares["6"]) == ("25.00%", "25.00%", "0.00%")
    assert lines[1:][8].count("#") == max(line.count("#") for line in lines)
    octaves = text.histogram(torch.tensor([1e-4, 0.01, 1.0, 1e6]), "e4m3fn").splitlines()
    assert octaves[1] == "to zero 25.00%, subnormal 25.00%, normal 25.00%, overflow 25.00%"
    assert octaves[2] == "smallest 0.001953, normal 0.01562, max 448"
    usage = text.code_usage(x, "e2m1", ascii=True).splitlines()
    assert usage[0] == "e2m1: entropy 1.50 of 4 bits, 19% of codes used"
    assert usage[1][::4] == "=       =@"


def test_charts_have_a_letter_for_each_format():
    shown = text.spacing(["binary64", "ternary"], width=60).splitlines()
    assert shown[-1] == "a binary64  b ternary"
    assert any("a" in line.partition("|")[2] for line in shown)
    assert any("b" in line.partition("|")[2] for line in shown)


def test_staircases_show_ties():
    rows = {line.split()[0]: line.split()[1:] for line in text.staircase("e2m1", width=80).splitlines()[1:]}
    place = rows["input"].index("0.25")
    assert (rows["nearest_even"][place], rows["nearest_away"][place]) == ("0", "0.5")
    assert rows["stochastic"][place] == "0.25"


def test_stochastic_rows():
    shown = text.stochastic("e4m3fn", random_bits=1, count=64).splitlines()
    assert shown[0] == "e4m3fn, stochastic, 1 random bits, 1 to 1.125"
    assert [line.split()[1] for line in shown[2:]] == [
        "0", "-0.125", "-0.25", "-0.375", "0", "-0.125", "-0.25", "-0.375",
    ]  # fmt: skip


@pytest.mark.parametrize("format", [f for f in FAMILIES if str(f) != "binary"] + ["ufixed8f8"], ids=str)
def test_stochastic_finds_a_place_in_every_family(format):
    found = noise(format, "stochastic", None, None, 2, 0)
    largest = element_of(resolve(format)).max
    assert 0 <= found.near < found.far <= largest
    assert found.near <= (1.0 if largest > 1 else largest / 2) < found.far
    assert f"{found.near:g} to {found.far:g}" in text.stochastic(format, count=2)


def test_a_chart_without_positive_numbers_is_refused():
    with pytest.raises(ValueError, match=r"`formats` must have distances to draw, got \['nothing'\]"):
        logarithmic_chart([Line("nothing", [0.0], [1.0])], 60, ("magnitude", "distance"))


@pytest.mark.parametrize("show", [text.histogram, text.code_usage])
def test_data_without_the_dimension_of_groups_is_refused(show):
    for format in ("mxfp4", "mxfp8_e4m3"):
        with pytest.raises(ValueError, match=f"`data` must have a dimension for each that {format} has gr"):
            show(torch.tensor(1.0), format)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"width": 20}, ValueError, "`width` must lie between 40 and 1000, got 20"),
        ({"width": 60.0}, TypeError, "`width` must be an integer, got 60.0"),
        ({"ascii": 1}, TypeError, "`ascii` must be True or False, got 1"),
    ],
)
def test_errors(form, options, error, message):
    with pytest.raises(error, match=message):
        FORMS[form]("e2m1", **options)
