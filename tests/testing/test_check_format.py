"""check_format: what passes, what is refused, what its report and its error say."""

import re
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch

from lowprec.formats import TabledFormat
from lowprec.testing import FormatError, Report, check_format
from lowprec.testing.failure import Check, same, shown

FORMATS = [
    "e4m3fn", "e5m2<saturate_all>", "e4m3fnuz<infinity>", "e3m2<nosubnormals>", "e8m0ieee", "binary8p3ue",
    "fixed8f6<symmetric>", "ufixed8f4", "fixedf4<unbounded>",
    "bfp4<group16>", "bfp6<block2x3>", "mxfp4", "int8", "uint8", "nf4",
    "posit8", "log4f3", "binary", "codebook<-3,-1,0.5,7>",
]  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_formats_of_every_family_pass(format):
    report = check_format(format)
    assert report.subject == format
    assert report.cases["strides change no bit"] > 0
    assert any(name in report.cases for name in ("nearest", "scales follow the rule"))


@dataclass(frozen=True)
class Thirds(TabledFormat):
    """A format of one's own, with boundaries and a parity of its own, an infinity and NaN."""

    def code_values(self):
        return [0.0, 0.375, 0.75, 1.0, float("inf"), -0.375, -0.75, -1.0, -float("inf"), float("nan"), -0.0]

    def boundaries(self):
        return [Fraction(k, 6) for k in (-5, -3, -1, 1, 3, 5)]

    def is_even(self, index):
        return index % 2 == 1

    def __str__(self):
        return "near-thirds"


def test_a_format_of_ones_own_passes():
    report = check_format(Thirds())
    assert report.cases["ties"] > 0
    assert report.cases["infinities follow the overflow rule"] > 0


def test_a_torch_dtype_stands_for_its_format():
    assert check_format(torch.float8_e5m2).subject == "e5m2"


@pytest.mark.slow
@pytest.mark.parametrize("format", ["e4m3fn", "bfp4<group16>", "mxfp4", "posit8", Thirds()], ids=str)
def test_all_modes_of_all_carriers(format):
    assert check_format(format, exhaustive=True).cases.total() > 1_000_000


def test_carriers_are_chosen():
    twice = check_format("e2m1", carriers=["float32", "float32"]).cases.total()
    assert twice > 1.9 * check_format("e2m1").cases.total()


def test_carriers_that_cannot_be():
    with pytest.raises(TypeError, match="`carriers` must be a sequence of names, got 'float32'"):
        check_format("e4m3fn", carriers="float32")
    with pytest.raises(ValueError, match="`carriers` must name some of bfloat16, .*, got 'int8'"):  # noqa: RUF043
        check_format("e4m3fn", carriers=["int8"])
    with pytest.raises(ValueError, match="`format` must be exact in the carrier float16"):
        check_format("bfloat16", carriers=["float16"])
    with pytest.raises(ValueError, match="`format` must be exact in a carrier, got 'fixedf-1000<"):
        check_format("fixedf-1000<unbounded>")


def test_an_unknown_family_is_refused():
    class Other:
        """No format."""

    with pytest.raises(TypeError, match="`format` must be a format, a name or a torch dtype"):
        check_format(Other())


def test_the_report_is_a_line_for_each_property():
    report = Report("mine")
    report.count("ties", 1200)
    report.count("nearest")
    lines = ["mine: 1,201 cases of 2 properties", "    1,200  ties", "        1  nearest"]
    assert str(report).splitlines() == lines


def test_an_error_shows_numbers_in_both_notations():
    error = FormatError("ties", "e4m3fn", {"input": 0.5, "got": float("nan"), "want": 1})
    assert error.broken == "ties"
    assert str(error) == "ties: e4m3fn\n  input  0.5 (0x1.0000000000000p-1)\n  got    nan\n  want   1"
    assert isinstance(error, AssertionError)


def test_what_is_raised_within_is_a_counterexample():
    check = Check(Report("mine"), "mine")
    message = re.compile("codes: mine.*ValueError: no code.*no error", re.DOTALL)
    with pytest.raises(FormatError, match=message), check.running("codes", input=3):
        raise ValueError("no code")
    with pytest.raises(FormatError, match="want  a ValueError"):
        check.raises("refused", lambda: 7)


def test_bits_are_compared():
    assert same(float("nan"), float("nan"))
    assert not same(0.0, -0.0)
    assert not same(float("nan"), 0.0)
    assert shown(0.25) == "0.25 (0x1.0000000000000p-2)"


@dataclass(frozen=True)
class Uneven(TabledFormat):
    """Values whose parity or boundaries are those that a test gives it."""

    parity: tuple[bool, ...] = ()
    moved: int = 0

    def code_values(self):
        return [0, 0.25, 0.5, 1, 2, -0.25, -0.5, -1, -2]

    def is_even(self, index):
        return self.parity[index] if self.parity else super().is_even(index)

    def boundaries(self):
        own = list(super().boundaries())
        own[-1] += self.moved
        return own


def test_a_parity_that_does_not_alternate_is_found():
    check_format(Uneven())
    with pytest.raises(FormatError, match=r"(?s)one neighbor is even.*got +neither"):
        check_format(Uneven(parity=(False,) * 9))


def test_a_boundary_beyond_its_neighbors_is_found():
    with pytest.raises(FormatError, match=r"(?s)a boundary between neighbors.*want +between 1.0 and 2.0"):
        check_format(Uneven(moved=2))


WIDE = pytest.param("posit17", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["codebook<-1,-0.25,0.25,1>", "codebook<-1,-0.75,0.5,1>", WIDE])
def test_formats_that_are_not_their_own_mirror_and_wide_posits_pass(name):
    check_format(name)
