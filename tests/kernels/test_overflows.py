"""Overflows of sums inside products, counted as often as the definition has them."""

from fractions import Fraction

import numpy as np
import pytest
from product_cases import operand, raw

from lowprec import Arithmetic
from lowprec.kernels import overflows
from lowprec.reference import products
from lowprec.reference.elements import Stepped

COUNTED = [
    Arithmetic("e2m1", rounding="stochastic", multiply="fixed6f3<wrap>", order="pairwise", chunk=7),
]
MORE = [
    Arithmetic("fixed6f2<wrap>", chunk=5, chunk_accumulate="fixed5f2<wrap>"),
    Arithmetic("fixed8f0<wrap>"),
    Arithmetic("ufixed4f2"),
    Arithmetic("fixed6f2<wrap>", rounding="stochastic", random_bits=7),
    Arithmetic("e3m2", order="pairwise"),
]


def defined(
    a: np.ndarray, b: np.ndarray, arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> list[bool]:
    """Of every sum of the definition, whether it overflows."""
    found = []
    plain = products._rounded

    def rounded(x, format, arithmetic, word, rounding=None):
        if rounding is None:  # a sum, not a product
            bits = arithmetic.random_bits or 32
            decide = Stepped(format).decided if isinstance(x, Fraction) else Stepped(format).quantized
            found.append(decide(x, arithmetic.rounding, bits, word)[1])
        return plain(x, format, arithmetic, word, rounding)

    monkeypatch.setattr(products, "_rounded", rounded)
    products.product(a, b, arithmetic, seed=9 if arithmetic.is_stochastic else None, stream=3)
    return found


def assert_counted(arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a product of odd sizes, by any number of threads."""
    rng = np.random.default_rng(8)
    a, b = raw(rng, 2, 3, 23), raw(rng, 2, 23, 9)
    a[0, 0, 3], b[1, 4, 2] = 0.0, -0.0
    fired = defined(a, b, arithmetic, monkeypatch)
    assert 0 < sum(fired) < len(fired)
    for threads in (1, 3):
        monkeypatch.setattr(overflows, "SERIAL_BELOW", 0 if threads > 1 else 1 << 15)
        counted = overflows.count(operand(a), operand(b), arithmetic, seed=9, stream=3, threads=threads)
        assert counted == (len(fired), sum(fired))


@pytest.mark.parametrize("arithmetic", COUNTED, ids=lambda a: a.describe())
def test_every_sum_that_overflows_is_counted(arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of chunks and those that pairwise sums have by themselves, too."""
    assert_counted(arithmetic, monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("arithmetic", MORE, ids=lambda a: a.describe())
def test_sums_of_further_arithmetics_are_counted(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of format, order and mode."""
    assert_counted(arithmetic, monkeypatch)


def test_nothing_sums_to_nothing() -> None:
    """No products, no sums."""
    empty = np.empty((2, 3, 0), np.float32), np.empty((2, 0, 4), np.float32)
    assert overflows.count(*map(operand, empty), COUNTED[0]) == (0, 0)


@pytest.mark.parametrize(
    "arithmetic",
    [
        Arithmetic("exact"),
        Arithmetic("bfloat16", compensation="kahan"),
        Arithmetic("bfloat16", chunk="block", chunk_accumulate="binary32"),
        Arithmetic("binary32", rounding="stochastic"),
        Arithmetic("bfloat16", rounding="stochastic", chunk=4, chunk_accumulate="binary32"),
    ],
    ids=lambda a: a.describe(),
)
def test_sums_of_which_binary64_has_too_few_bits_are_not_counted(arithmetic: Arithmetic) -> None:
    """Nor are exact, compensated and block sums; and no number stands for them."""
    ones = np.ones((1, 2, 8), np.float32), np.ones((1, 8, 2), np.float32)
    assert overflows.count(*map(operand, ones), arithmetic) is None


def test_sums_that_only_integers_know_are_not_counted() -> None:
    """The product itself is computed modulo a power of two; one by one its sums have too many bits."""
    a = np.array([[[2.0**70, 1.0 + 2.0**-20]]], np.float64)
    arithmetic = Arithmetic("fixed16f0<wrap>", rounding="toward_zero")
    assert overflows.count(operand(a), operand(a.reshape(1, 2, 1)), arithmetic) is None
