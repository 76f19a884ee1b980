"""What is drawn: lines, data, labels, for every family; and every error."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from explore_families import FAMILIES, OWN
from matplotlib.figure import Figure

from lowprec import explore, reference
from lowprec.explore.codes import element_of
from lowprec.explore.ladder import runs
from lowprec.explore.stairs import probability
from lowprec.formats import parse, resolve
from lowprec.modes import Rounding

GENERATOR = torch.Generator().manual_seed(3)
DATA = torch.randn(8, 32, generator=GENERATOR)
DATA[0, :3] = torch.tensor([0.0, 100.0, 1e-5])
by_family = pytest.mark.parametrize("format", FAMILIES, ids=str)


def axes():
    """Axes of a figure that nobody shows."""
    return Figure(figsize=(7, 3)).subplots()


def drawn(ax):
    """The axes after their figure was drawn, which fails where a label or number makes no sense."""
    ax.figure.draw_without_rendering()
    return ax


def marks(ax) -> list[float]:
    """Where the marks of a number line are."""
    return [segment[0][0] for segment in ax.collections[0].get_segments()]


class TestNumberLine:
    @by_family
    def test_a_mark_for_each_value(self, format):
        values = element_of(resolve(format)).values()
        ax = drawn(explore.number_line(format, ax=axes()))
        if len(values) > 256:
            assert ax.collections[0].get_array().count() > 0
        else:
            assert marks(ax) == values.tolist()

    def test_shades_count_every_value(self):
        ax = explore.number_line(["binary16"], limits=(-8.0, 8.0), ax=axes())
        counts = np.exp2(ax.collections[0].get_array().filled(0)) - 1
        values = parse("binary16").values()
        # the cell from a to b has the values above a up to b; -8 itself is that of no cell
        assert counts.sum() == pytest.approx(np.count_nonzero((values >= -8) & (values <= 8)) - 1, abs=1.5)

    def test_logarithmic_lines_have_the_positive_values(self):
        ax = drawn(explore.number_line(["e2m1", "e5m2"], log=True, ax=axes()))
        assert ax.get_xscale() == "log"
        assert marks(ax) == [0.5, 1, 1.5, 2, 3, 4, 6]
        assert [label.get_text() for label in ax.get_yticklabels()] == ["e2m1", "e5m2"]
        shaded = drawn(explore.number_line(["e2m1", "binary32"], log=True, ax=axes()))
        assert shaded.collections[1].get_array().count() > 300

    @pytest.mark.parametrize(
        ("formats", "options", "error", "message"),
        [
            ([], {}, ValueError, r"`formats` must name 1 to 7 formats, got \[\]"),
            ([f"fixed{n}f0" for n in range(2, 10)], {}, ValueError, "`formats` must name 1 to 7 formats"),
            (3, {}, TypeError, "`formats` must be formats, names or torch dtypes, got 3"),
            ("fixedf4<unbounded>", {}, ValueError, "`format` must have a largest value"),
            ("e2m1", {"limits": 3}, TypeError, "`limits` must be two numbers, got 3"),
            ("e2m1", {"limits": (2, 1)}, ValueError, "`limits` must be two finite numbers, the smaller"),
            ("e2m1", {"limits": (0, 1), "log": True}, ValueError, "`limits` must be two positive numbers"),
            ("e2m1", {"log": 1}, TypeError, "`log` must be True or False, got 1"),
            ("binary64", {}, ValueError, "`limits` must be given for ranges past"),
            ("e2m1", {"ax": 3}, TypeError, "`ax` must be Axes of Matplotlib or None, got 3"),
        ],
    )
    def test_errors(self, formats, options, error, message):
        with pytest.raises(error, match=message):
            explore.number_line(formats, **options)


@by_family
def test_spacing_is_the_distance_of_neighbors(format):
    values = element_of(resolve(format)).values()
    positive = values[values > 0]
    ax = drawn(explore.spacing(format, ax=axes()))
    (line,) = ax.lines
    x, y = line.get_data()
    for low, high, step in runs(resolve(format)):
        inside = values[(values >= low) & (values < high)]
        following = values[np.searchsorted(values, inside, side="right")]
        if low:
            assert np.allclose(following - inside, step, rtol=1e-12)
            assert low in x
    assert max(x) == positive[-1]
    assert len(x) == len(y)
    assert ax.get_xlabel() == "magnitude"


def test_runs_of_wide_formats_have_no_gap():
    for name in ("binary32", "posit32", "binary64", "log5f10", "fixed32f0"):
        found = runs(parse(name))
        assert all(a.high == b.low for a, b in pairwise(found))
        assert found[-1].high == parse(name).max
    assert runs(parse("binary32"))[2] == (2.0**-125, 2.0**-124, 2.0**-148)


@by_family
def test_relative_errors_are_those_of_the_worst_magnitudes(format):
    element = element_of(resolve(format))
    x, y = drawn(explore.relative_error(format, ax=axes())).lines[0].get_data()
    for low, high, step in runs(resolve(format))[1:3]:
        middle = (Fraction(low) + Fraction(step) / 2) if low else None
        if middle is None or element.bits > 8:
            continue
        at = float(step / 2 / low)
        assert any(abs(a - low) < 1e-12 and abs(b - at) < 1e-12 for a, b in zip(x, y, strict=True))
        assert high > low
    if getattr(element, "overflow", "") == "saturate":
        past = x > element.max
        expected = [1 - element.max / value for value in x[past]]
        assert y[past] == pytest.approx(expected, rel=1e-9)


@by_family
def test_histograms_count_every_value(format):
    ax = drawn(explore.histogram(DATA, format, ax=axes()))
    heights = sum(bar.get_height() for bar in ax.patches)
    assert ax.get_ylabel() == "values"
    if "zero" in ax.get_title(loc="left"):
        assert heights == DATA.numel() - int((DATA == 0).sum())
    else:
        assert heights == DATA.numel()


def test_histograms_of_few_values_have_their_counts():
    ax = explore.histogram(DATA, "e2m1", ax=axes())
    y = reference.quantize(DATA.numpy(), "e2m1")
    assert [bar.get_height() for bar in ax.patches] == [(y == v).sum() for v in parse("e2m1").values()]
    left, right = ax.patches[-1].get_x(), ax.patches[-1].get_x() + ax.patches[-1].get_width()
    assert (left, right) == (5, 7)  # what becomes 6, were it not the last


def test_histograms_of_magnitudes_tell_what_becomes_of_them():
    ax = drawn(explore.histogram(DATA * 8, "e4m3fn", ax=axes()))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    number = DATA.numel()
    assert labels[0] == f"to zero {1 / number:.2%}"
    assert labels[-1] == f"overflow {1 / number:.2%}"
    names = [text.get_text() for text in ax.texts]
    assert sorted(names) == ["max", "normal", "smallest"]
    assert ax.get_title(loc="left").startswith("e4m3fn: 256 values, 0.39% of them zero")
    wide = explore.histogram(DATA, "binary32", ax=axes())
    assert wide.texts[0].get_text().startswith("← smallest")


def test_histograms_of_groups_are_over_their_scales():
    x = torch.tensor([[4.0, 1.0], [64.0, 16.0]])
    for format in ("scaled<e2m1,e8m0,group2>", "bfp5<group2>"):
        counts = [bar.get_height() for bar in explore.histogram(x, format, ax=axes()).patches]
        assert sorted(counts)[-2:] == [2, 2]
    nothing = explore.histogram(torch.zeros(3), "e4m3fn", ax=axes())
    assert "100.00% of them zero" in nothing.get_title(loc="left")


@by_family
def test_code_usage_counts_every_value(format):
    ax = drawn(explore.code_usage(DATA, format, ax=axes()))
    assert sum(bar.get_height() for bar in ax.patches) == DATA.numel()
    assert len(ax.patches) <= 256
    comparison = explore.compare(format, DATA)
    assert f"entropy {comparison['entropy'][0]:.2f} of" in ax.get_title(loc="left")


def test_code_usage_is_in_the_order_of_values():
    ax = explore.code_usage(torch.tensor([-6.0, -0.0, 0.0, 0.0, 6.0]), "e2m1", ax=axes())
    assert [bar.get_height() for bar in ax.patches] == [1, *[0] * 6, 1, 2, *[0] * 6, 1]
    with pytest.raises(ValueError, match="`format` must have at most 16 bits"):
        explore.code_usage(DATA, "binary32", ax=axes())
    with pytest.raises(ValueError, match="`format` must have a largest value"):
        explore.histogram(DATA, "fixedf4<unbounded>", ax=axes())


@by_family
def test_staircases_are_the_definition(format):
    element = element_of(resolve(format))
    shown = ["nearest_even", "up", "toward_zero", "stochastic"]
    ax = drawn(explore.staircase(format, shown, ax=axes()))
    assert [panel.get_title() for panel in ax.child_axes] == shown
    for panel in ax.child_axes[:3]:
        x, y = panel.lines[1].get_data()
        there = ~np.isnan(x)
        expected = reference.quantize(x[there].astype(np.float64), element, rounding=panel.get_title())
        assert np.array_equal(y[there], expected, equal_nan=True)
    x, y = ax.child_axes[3].lines[1].get_data()
    inside = (x >= element.min) & (x <= element.max) & np.isfinite(y)
    assert np.allclose(x[inside], y[inside], rtol=1e-6, atol=1e-9)


def test_all_modes_and_their_ties():
    ax = drawn(explore.staircase("e2m1", ax=axes()))
    assert [panel.get_title() for panel in ax.child_axes] == [str(mode) for mode in Rounding]
    even, away = (dict(zip(*panel.lines[2].get_data(), strict=True)) for panel in ax.child_axes[:2])
    assert [even[x] for x in (-0.75, -0.25, 0.25, 0.75)] == [-1, 0, 0, 1]
    assert [away[x] for x in (-0.75, -0.25, 0.25, 0.75)] == [-1, -0.5, 0.5, 1]


@pytest.mark.parametrize("bits", [1, 2, 5])
@pytest.mark.parametrize("mode", [mode for mode in Rounding if mode.is_stochastic])
def test_probabilities_are_those_of_all_words(mode, bits):
    near = reference.neighbors
    for k in range(32):
        share = Fraction(k, 32)
        gap = near(Fraction(8 + share) / 8, parse("e4m3fn"))
        words = [(word << 27) for word in range(32)]
        ups = sum(reference.rounds_up(gap, mode, random_bits=bits, word=word) for word in words)
        if mode is not Rounding.STOCHASTIC_EQUAL or share:
            assert probability(gap.fraction, mode, bits) == Fraction(ups, 32)


class TestStochastic:
    def test_exact_lines_and_measured_marks_agree(self):
        ax = drawn(explore.stochastic("e4m3fn", random_bits=3, count=4096, ax=axes()))
        bias, measured_bias, variance, measured_variance = (line.get_ydata() for line in ax.lines[:4])
        # six standard deviations of a mean of 4096 outcomes
        assert np.abs(np.subtract(bias, measured_bias)).max() < 6 * 0.5 / 64
        assert np.abs(np.subtract(variance, measured_variance)).max() < 6 * 0.5 / 64
        assert max(variance) == 0.25
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["bias, exact", "bias, measured", "variance, exact", "variance, measured"]
        assert ax.get_xlabel() == "input, from 1 (0) to 1.125 (1)"

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (("e2m1", "up"), {}, ValueError, "`rounding` must be stochastic, got 'up'. Draw the others"),
            (("e2m1",), {"at": 6.0}, ValueError, "`at` must lie from 0 to below the largest value 6, got 6"),
            (("e2m1",), {"at": -1.0}, ValueError, "`at` must lie from 0"),
            (("binary",), {"at": 0.5}, ValueError, "`at` must have a value of the format that is not"),
            (("e2m1",), {"count": 1}, ValueError, "`count` must lie between 2 and"),
            (("e2m1",), {"random_bits": 33}, ValueError, "`random_bits` must lie between 1 and 32"),
        ],
    )
    def test_errors(self, arguments, options, error, message):
        with pytest.raises(error, match=message):
            explore.stochastic(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("e2m1", []), ValueError, r"`roundings` must name at least one mode, got \[\]"),
        (("e2m1", 3), TypeError, "`roundings` must be rounding modes or their names, got 3"),
        (("e2m1", "best"), ValueError, "`roundings` must be a known name, got 'best'"),
        (("binary64",), ValueError, "`format` must have values that float64 has numbers between"),
        (("fixedf1<unbounded>",), ValueError, "`format` must have a largest value"),
    ],
)
def test_staircases_that_cannot_be_drawn(arguments, error, message):
    with pytest.raises(error, match=message):
        explore.staircase(*arguments)


def test_a_new_figure_is_as_wide_as_a_notebook():
    from matplotlib import pyplot

    pyplot.switch_backend("Agg")
    ax = explore.staircase("ternary", "nearest")
    assert ax.figure.get_size_inches()[0] == 7.0
    pyplot.close(ax.figure)
    assert math.isfinite(OWN.max)
