"""Wrapping sums of integers, bit for bit as the definition says, and when they are none."""

import numpy as np
import pytest
from product_cases import assert_same, multiplied

from lowprec import Arithmetic
from lowprec.kernels.integers import Word, word_of
from lowprec.kernels.operands import Measure
from lowprec.reference import product

WRAPPING = [
    Arithmetic("fixed8f2<wrap>"),
    Arithmetic("fixed12f6<wrap>", rounding="down", chunk=5),
    Arithmetic("ufixed8f2<wrap>", order="pairwise", chunk=7),
    Arithmetic("fixed16f4<wrap>", multiply="fixed20f4<wrap>", compensation="kahan"),
    Arithmetic("fixed16f6<wrap>", rounding="stochastic", chunk=4, chunk_accumulate="fixed9f4<wrap>"),
    Arithmetic("fixed24f10<wrap>"),
]
EIGHT_BITS = Measure(6, 0, 7)  # integers of a magnitude below 128


def integers(rng: np.random.Generator, shape: tuple[int, ...], bits: int, low: int) -> np.ndarray:
    """Multiples of 2^low, some of them zeros of either sign."""
    x = rng.integers(-(1 << bits), 1 << bits, shape) * rng.integers(0, 2, shape)
    return np.ldexp(x * rng.choice([-1.0, 1.0], shape), low).astype(np.float32)


@pytest.mark.parametrize("arithmetic", WRAPPING, ids=lambda a: a.describe())
def test_sums_wrap_as_if_every_one_were_wrapped(arithmetic: Arithmetic) -> None:
    """Of odd sizes, in blocks and threads of any number; zeros are +0."""
    rng = np.random.default_rng(3)
    a, b = integers(rng, (2, 5, 23), 9, -3), integers(rng, (2, 23, 19), 11, 1)
    a[0, 0], b[1, :, 0] = -0.0, 0.0
    measures = Measure(5, -3, 9), Measure(11, 1, 11)
    assert word_of(arithmetic, *measures) is not None
    seed = 5 if arithmetic.is_stochastic else None
    want = product(a, b, arithmetic, seed=seed)
    assert len(np.unique(want)) > 30
    for options in ({}, {"threads": 3, "block": (2, 7, 0)}, {"block": (1, 1, 0)}):
        assert_same(multiplied(a, b, arithmetic, seed=seed or 0, **options), want, arithmetic.describe())


def test_integers_of_any_size_wrap() -> None:
    """Only their last 32 bits matter, and those that a format keeps."""
    assert word_of(Arithmetic("fixed32f0<wrap>"), EIGHT_BITS, EIGHT_BITS) == Word(0, 32, True, 0)
    assert word_of(Arithmetic("ufixed8f2<wrap>"), Measure(9, 3, 7), EIGHT_BITS) == Word(5, 8, False, -2)
    assert word_of(Arithmetic("ufixed8f2<wrap>"), Measure(30, 20, 7), EIGHT_BITS) == Word(8, 8, False, -2)
    a, b = np.float64([[[2.0**40 + 1, -3.0]]]), np.float64([[[2.0**11 + 1], [2.0**30 + 5]]])
    for name in ("fixed32f0<wrap>", "ufixed32f0<wrap>", "fixed2f0<wrap>"):
        assert_same(multiplied(a, b, Arithmetic(name)), product(a, b, Arithmetic(name)))


def test_what_is_rounded_or_is_no_number_is_not_summed_as_integers() -> None:
    """The other loops do those."""
    wraps, eight = Arithmetic("fixed16f4<wrap>"), EIGHT_BITS
    assert word_of(wraps, eight, Measure(3, -4, 7)) is not None
    assert word_of(wraps, eight, Measure(3, -5, 7)) is None  # half of a step
    assert word_of(wraps, Measure(61, 0, 7), eight) is not None
    assert word_of(wraps, Measure(62, 0, 7), eight) is None  # more bits than are kept
    assert word_of(wraps, eight, eight._replace(is_finite=False)) is None
    assert word_of(wraps, eight._replace(has_nan=True), eight) is None
    for other in (
        Arithmetic("fixed16f4"),
        Arithmetic("e5m2"),
        Arithmetic("fixed16f4<wrap>", multiply="fixed16f4"),
        Arithmetic("fixed16f4<wrap>", multiply="fixed15f4<wrap>"),  # whose overflows the sums would see
        Arithmetic("fixed16f4<wrap>", chunk=4, chunk_accumulate="fixed17f4<wrap>"),
        Arithmetic("fixed16f4<wrap>", chunk=4, chunk_accumulate="binary32"),
    ):
        assert word_of(other, eight, eight) is None
    a = np.float32([[[1, np.nan, np.inf]]])
    found = multiplied(
        a[..., :2], np.ones((1, 2, 1), np.float32), Arithmetic("fixed12f6<wrap>", rounding="toward_zero")
    )
    assert np.isnan(found).all()
