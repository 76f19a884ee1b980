"""How formats, casts and schemes show themselves in a notebook."""

from html.parser import HTMLParser

import pytest
from explore_families import FAMILIES, OWN

from lowprec import Cast, Operands, Rule, Scheme
from lowprec.formats import NAMED, Codebook, resolve
from lowprec.formats.properties import properties


class Cells(HTMLParser):
    """The texts of cells and captions."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def cells(thing) -> list[str]:
    """What a notebook shows."""
    return Cells(thing._repr_html_()).found


@pytest.mark.parametrize("format", [*FAMILIES, *NAMED, "fixedf3<unbounded>"], ids=str)
def test_every_format_has_its_properties(format):
    known = resolve(format)
    shown = cells(known)
    pairs = dict(zip(shown[3::2], shown[4::2], strict=False))
    assert shown[0] == str(known)
    assert pairs["eps"] == repr(known.eps)
    assert pairs["NaN"] == ("yes" if known.has_nan else "no")
    if str(known) != "fixedf3<unbounded>":
        assert (pairs["bits"], pairs["max"]) == (str(known.bits), repr(known.max))


def test_what_families_have_besides():
    facts = {
        "e4m3fn": ("bias", "7"),
        "bfp8<group16>": ("group", "group16"),
        "bfp8<exponent8>": ("block exponent", "-127 to 128"),
        "mxfp4": ("scale", "e8m0, by the rule floor, for each group32"),
        "nvfp4": ("element", "e2m1"),
    }
    for format, fact in facts.items():
        assert fact in properties(resolve(format)).rows
    assert "of a group whose scale is 1" in cells(resolve("mxfp4"))
    long = Codebook([k / 7 for k in range(1, 200)])
    assert len(cells(long)[0]) == 60
    assert cells(OWN)[0] == str(OWN)


def test_casts_and_schemes():
    assert cells(Cast("e2m1"))[3:] == ["format", "e2m1", "rounding", "nearest_even"]
    noisy = Cast("e2m1", "stochastic", random_bits=4, eval_rounding="up")
    assert cells(noisy)[5:] == ["rounding", "stochastic", "random bits", "4", "eval rounding", "up"]
    scheme = Scheme(
        input="e4m3fn<saturate_all>",
        grad_weight=Operands(error="bfloat16"),
        state={"exp_avg": "bfp8"},
        loss_scale=64,
        rules=[Rule("head.*", None), Rule("Conv2d", {"weight": "e2m1", "output": None})],
    )
    assert cells(scheme)[3:] == [
        "input", "e4m3fn nearest_even", "grad_weight: error", "bfloat16 nearest_even", "state: exp_avg",
        "bfp8 nearest_even", "loss scale", "64", "rule for head.*", "left alone", "rule for Conv2d",
        "weight: e2m1, output: none",
    ]  # fmt: skip
