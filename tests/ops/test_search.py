"""The scale rule mse: which candidate is better, where it hangs on the last bit. Against exact fractions."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracle import assert_same, expected
from scaled_cases import spread
from torch import Tensor

import lowprec
from lowprec.formats import Codebook, parse
from lowprec.formats.carriers import CARRIERS
from lowprec.formats.format import floor_log2
from lowprec.ops import search

ELEMENTS = (
    "e2m1",
    "e4m3fn",
    "e5m2",
    "fixed8f6<symmetric>",
    "e5m30ieee",
    "normalfloat4",
    "codebook<-1,-0.25,0.25,1>",
)


def squares(x: Tensor, rounded: Tensor) -> list[Fraction | float]:
    """The squared error of each row; infinite where a value is."""
    return [
        sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(row, other, strict=True)), Fraction(0))
        if np.isfinite(other).all()
        else np.inf
        for row, other in zip(x.tolist(), rounded.tolist(), strict=True)
    ]


def scaled(element: str):
    """A format of the element."""
    return parse(f"scaled<{element},{'e8m0' if element.startswith(('e', 'fixed')) else 'float32'},mse>")


def rows_that_nearly_tie(format, carrier: str, unit: Fraction) -> list[list[tuple[Fraction, ...]]]:
    """Numbers, and what two candidates make of them: their errors differ by two neighbors of a carrier.

    They are the smallest numbers that are not zero after rounding, or of all; others cancel.
    """
    values = [Fraction(format.element.smallest_subnormal), Fraction(0), Fraction(format.element.max)]
    if isinstance(format.element, Codebook):
        values = [Fraction(value) for value in format.element.values()]
    small, most = min(abs(v) for v in values if v) * unit, max(values) * unit
    if 0 in values:
        none, first = Fraction(0), Fraction(2) ** (floor_log2(small) - 1)
        near = first * (1 + Fraction(2) ** (1 - CARRIERS[carrier].precision))
    else:
        none, first, near = -small, Fraction(0), Fraction(2) ** CARRIERS[carrier].lowest_exponent
    others = [(3 * most, most, small), (3 * most, small, most), (small, most, none), (small, none, most)]
    rows = []
    for one, two in ((first, near), (near, first), (near, near)):
        for size in (0, 3, 20):
            row = [(one, small, none), (two, none, small), *others * size]
            rows.append(row + [(Fraction(0),) * 3] * (82 - len(row)))
    return rows + [[tuple(-v for v in cell) for cell in row] for row in rows]


@pytest.mark.parametrize(("largest", "others", "scale"), [(7.5, 0.0, 2.0), (6.0, 0.5, 1.0), (4.0, 0.25, 0.5)])
def test_each_of_three_scales_may_be_best(largest: float, others: float, scale: float) -> None:
    x = torch.full((32,), others)
    x[5] = -largest
    (found,) = torch.ops.lowprec.scales(x, "scaled<e2m1,e8m0,group32,mse>")
    assert found.float().item() == scale


@pytest.mark.parametrize("digits", [24, 53])
def test_parts_are_integers_of_27_bits_over_powers_of_two(digits: int) -> None:
    x = torch.tensor(
        [0.0, -0.0, 1.0, -3.0, math.pi, -(2.0**-1074), 2.0**-1030 * math.e, -sys.float_info.max],
        dtype=torch.float64,
    )
    if digits == 24:
        x = x.clamp(-(2.0**127), 2.0**127).float().double()
    sums = [Fraction(0)] * len(x)
    for integers, exponents in search._parts(x, digits):
        assert integers.abs().max() <= 1 << 27
        for i, (integer, exponent) in enumerate(zip(integers.tolist(), exponents.tolist(), strict=True)):
            sums[i] += integer * Fraction(2) ** exponent
    assert sums == [Fraction(value) for value in x.tolist()]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("element", ELEMENTS)
def test_values_are_those_of_the_reference(element: str, carrier: str) -> None:
    format = str(scaled(element)).replace(",mse", ",group4,mse")
    if parse(format).missing_in(CARRIERS[carrier]) is None:
        x = spread(getattr(torch, carrier))[:, :10]
        assert_same(lowprec.quantize(x, format), expected(x, format, "nearest_even"))


@pytest.mark.parametrize(
    ("room", "many"), [(57, 14), (20, 3), (57, 8)]
)  # windows of bits; elements at a time
@pytest.mark.parametrize("carrier", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("element", ELEMENTS)
def test_the_last_bit_decides(
    element: str, carrier: str, room: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_ROOM", room)
    monkeypatch.setattr(search, "_ON_CPU", many)
    format = scaled(element)
    exponent = format.highest_group_exponent
    rows = rows_that_nearly_tie(format, carrier, Fraction(2) ** exponent)
    cells = [[[float(v) for v in cell] for cell in row] for row in rows]
    x, other, best = torch.tensor(cells, dtype=torch.float64).unbind(-1)
    got = search._is_closer(x, other, best, torch.full((len(rows),), exponent), format, carrier)
    want = [a < b for a, b in zip(squares(x, other), squares(x, best), strict=True)]
    assert got.tolist() == want
    assert 0 < sum(want) < len(want)


@pytest.mark.parametrize(
    "ends", [(1.0, np.inf), (np.inf, 1.0), (np.inf, -np.inf), (np.nan, 1.0), (1.0, np.nan)]
)
def test_what_did_not_stay_finite_is_worst(ends: tuple[float, float]) -> None:
    other, best = (torch.tensor([[3.0, end]], dtype=torch.float64) for end in ends)
    x = torch.tensor([[3.0, 1e300]], dtype=torch.float64)
    got = search._is_closer(x, other, best, torch.tensor([0]), scaled("e5m2"), "float64")
    assert got.tolist() == [np.isfinite(ends[0])]


@pytest.mark.parametrize("value", [0.3, -5.0, 0.0, math.inf])
def test_a_number_alone_is_rounded_as_in_a_vector(value: float) -> None:
    x = torch.tensor(value)
    y = lowprec.quantize(x, "scaled<e2m1,e8m0,mse>")
    assert y.shape == ()
    assert torch.equal(y.reshape(1), lowprec.quantize(x.reshape(1), "scaled<e2m1,e8m0,mse>"))
