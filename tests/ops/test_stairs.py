"""Short lists over scales far from the ends of binary32: steps times scales decide as quotients do."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from oracle import assert_same, expected

import lowprec
from lowprec.formats import Codebook, Scaled, parse
from lowprec.kernels import blocks, grouped
from lowprec.modes import Rounding

NAMES = {
    "nf4": "nf4",
    "fp4": "fp4",
    "ternary": "scaled<ternary,float32,group64,amax>",
    "uneven": "scaled<codebook<-0.3125,0,0.125,7>,float32,group64,amax>",
    "one sign": "scaled<codebook<0,0.25,1>,float32,group64,amax>",
    "bfloat16 scales": "scaled<normalfloat4,bfloat16,group64,amax>",
    "ceil": "scaled<normalfloat4,float32,group64,ceil>",
    "ragged": "scaled<normalfloat4,float32,group91,amax>",
}
FAST = [
    "nearest_even",
    "nearest_odd",
    "nearest_away",
    "nearest_zero",
    "nearest_up",
    "nearest_down",
    "toward_zero",
]


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How the elements of each call were computed."""
    seen: list[int] = []
    block = blocks.block

    def spy(*arguments: object) -> object:
        """Remember the family's arithmetic."""
        seen.extend(a.arithmetic for a in arguments if isinstance(a, blocks.Family))
        return block(*arguments)

    grouped._kernel.cache_clear()
    monkeypatch.setattr(blocks, "block", spy)
    return seen


def around(format: Scaled, rows: int = 24) -> torch.Tensor:
    """Groups of 64: the numbers next to each boundary and value times the group's scale."""
    element = format.element
    assert isinstance(element, Codebook)
    bounds = sorted({*element.boundaries(), *map(Fraction, element.table.finite)})
    random = np.random.default_rng(5)
    groups = []
    for scale in (random.integers(1 << 23, 1 << 24, rows) * 2.0 ** random.integers(-50, 40, rows)).tolist():
        largest = np.float32(scale) * np.float32(element.max)
        exact = np.float32(float(lowprec.scales(torch.full((64,), float(largest)), format)[0]))
        near = [np.float32(float(bound * Fraction(float(exact)))) for bound in bounds]
        beside = [np.nextafter(number, np.float32(way)) for number in near for way in (-np.inf, np.inf)]
        numbers = random.permutation(np.array([*near, *beside])[: 64 * 2])
        for part in (numbers[:62], numbers[62:124]):
            row = np.concatenate([[largest, -0.0], part])
            groups.append(np.resize(row, 64))
    return torch.from_numpy(np.array(groups, np.float32).clip(-float(2**100), float(2**100)))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_next_to_every_step(name: str, families: list[int]) -> None:
    x = around(parse(name))
    x = torch.cat([x, torch.zeros(1, 64), -torch.zeros(1, 64), torch.full((1, 64), torch.nan)])
    x[3, 5], x[4, 7], x[5, 9] = torch.inf, -torch.inf, torch.nan
    for rounding in FAST:
        assert_same(lowprec.quantize(x, name, rounding=rounding), expected(x, name, rounding))
    assert set(families) == {blocks.STAIRS}


def test_other_modes_divide(families: list[int]) -> None:
    x = around(parse("nf4"))
    for mode in (Rounding.UP, Rounding.DOWN, Rounding.AWAY, Rounding.TO_ODD):
        assert_same(lowprec.quantize(x, "nf4", rounding=mode), expected(x, "nf4", str(mode)))
    assert set(families) == {blocks.QUOTIENTS}


@pytest.mark.parametrize(
    "name",
    [
        "scaled<binary,float32,group64,amax>",  # without a zero
        "scaled<normalfloat4,float32,group32,amax>",  # groups too short to pay
        "scaled<normalfloat4,float32,group64@0,amax>",  # across rows
    ],
)
def test_other_lists_divide(name: str, families: list[int]) -> None:
    x = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    x[3, 5], x[4, 7], x[5, 9] = torch.inf, -torch.inf, torch.nan
    assert_same(lowprec.quantize(x, name), expected(x, name))
    assert set(families) == {blocks.QUOTIENTS}


def test_given_scales_whose_steps_leave_the_range(families: list[int]) -> None:
    name = "scaled<codebook<-4,-1.5,0,1.5,4>,float32,group64,amax>"
    scale = torch.tensor([[3e38], [2.0**120], [1e30]])
    x = torch.tensor([0.0, -0.0, 3.4e38, -3.4e38, 1e38, -1e38, 2.3e38, -2.3e38, 1e30, torch.inf, -torch.inf])
    x = x.repeat(6)[:64].repeat(3, 1)
    got = lowprec.quantize(x, name, scale=scale)
    want = [
        [rounded(number, step) for number in row]
        for row, step in zip(x.tolist(), scale.tolist(), strict=True)
    ]
    assert_same(got, torch.tensor(want))
    assert set(families) == {blocks.STAIRS}


def rounded(number: float, scale: list[float]) -> float:
    """A float32 number to the nearest of five values times a scale."""
    step, largest = Fraction(scale[0]), 2.0**128 - 2.0**104
    finite = Fraction(max(-largest, min(largest, number)))
    value = min((-4.0, -1.5, 0.0, 1.5, 4.0), key=lambda v: abs(Fraction(v) - finite / step))
    if abs(number) == np.inf:
        value = 4.0 * np.sign(number)
    with np.errstate(over="ignore"):
        return float(np.float32(float(Fraction(value) * step)))


def test_threads_strides_and_flushing() -> None:
    x = around(parse("nf4"), 1100)  # more than 2^16 elements, for more than one thread
    x[7] = 0
    want = lowprec.quantize(x, "nf4")
    assert_same(want, expected(x, "nf4", "nearest_even"))
    assert_same(lowprec.quantize(x.T.contiguous().T, "nf4"), want)
    assert_same(lowprec.quantize(x.repeat_interleave(2, 1)[:, ::2], "nf4"), want)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert_same(lowprec.quantize(x, "nf4"), want)
    torch.set_num_threads(threads)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        flushed = lowprec.quantize(x, "nf4")
    finally:
        torch.set_flush_denormal(False)
    assert_same(flushed, want)
