"""How the error of a sum grows with its length: the bounds of the textbooks, held against exact sums.

To nearest, a rounding multiplies by 1 + d, |d| <= u = 2^-(m+1). So a sum whose terms are rounded at most
r times each is off by at most (1 + u)^r - 1 times the sum of their magnitudes (Higham, Accuracy and
Stability of Numerical Algorithms, chapter 4): r is k in order, log2 k in pairs, and the length of a chunk
plus their number in chunks.
"""

from fractions import Fraction

import numpy as np
import pytest
from product_cases import multiplied

from lowprec import Arithmetic

LENGTHS = [2**4, 2**7, 2**10, 2**13, 1000, 4097]
CHUNK = 64


def factors(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of eight bits between 1/2 and 1, of which the first two are 1."""
    rng = np.random.default_rng(count)
    drawn = rng.integers(128, 256, (2, count)).astype(np.float32) / 256
    drawn[:, 0] = 1
    return drawn[0].reshape(1, 1, count), drawn[1].reshape(1, count, 1)


def exact(a: np.ndarray, b: np.ndarray) -> Fraction:
    """The sum of the products, all of which are positive."""
    whole = [int(256 * x) * int(256 * y) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    return Fraction(sum(whole), 2**16)


def error(arithmetic: Arithmetic, count: int) -> Fraction:
    """Of a sum of so many products, relative to it."""
    a, b = factors(count)
    want = exact(a, b)
    return abs(Fraction(multiplied(a, b, arithmetic).item()) - want) / want


def unit_roundoff(arithmetic: Arithmetic) -> Fraction:
    """Half of the distance from 1 to the next value."""
    return Fraction(1, 2 ** (arithmetic.accumulate.mantissa_bits + 1))


@pytest.mark.parametrize("name", ["bfloat16", "binary16"])
@pytest.mark.parametrize("count", LENGTHS)
def test_errors_are_within_those_of_so_many_roundings(name: str, count: int) -> None:
    """In order, in pairs and in chunks; the bound of pairs is far smaller than that of sums in order."""
    halvings, chunks = (count - 1).bit_length(), -(-count // CHUNK)
    for arithmetic, roundings in (
        (Arithmetic(name), count),
        (Arithmetic(name, order="pairwise"), halvings),
        (Arithmetic(name, chunk=CHUNK), min(count, CHUNK) + chunks),
    ):
        bound = (1 + unit_roundoff(arithmetic)) ** roundings - 1
        assert error(arithmetic, count) <= bound, arithmetic.describe()


@pytest.mark.parametrize(("name", "count"), [(name, k) for name in ("bfloat16", "binary16") for k in LENGTHS])
def test_the_error_of_compensated_sums_hardly_grows(name: str, count: int) -> None:
    """2u + O(k u^2), with the constants.

    Let t = s + y + e be a step's sum. Here s >= |y| > 0 or s = 0, so c = e exactly (Dekker's fast sum).
    The next y is p - e rounded, p - e + d with |d| <= u |p - e|. So t - e grows by p + d in each step, and
    in the end is off by the sum of all d. Let M be the largest of all t, S the exact sum: |e| <= u M, and
    |t - S| <= u M + u (S + (k - 1) u M). This holds for the t that is M as well, so that
    M (1 - u - (k - 1) u^2) <= S (1 + u).
    """
    arithmetic = Arithmetic(name, compensation="kahan")
    u = unit_roundoff(arithmetic)
    left = 1 - u - (count - 1) * u**2
    assert left > 0
    largest = (1 + u) / left
    bound = u * largest + u * (1 + (count - 1) * u * largest)
    assert error(arithmetic, count) <= bound
    if count * u < 1:
        assert bound < 3 * u + count * u**2 * 3


def test_sums_in_order_stop_and_the_others_do_not() -> None:
    """From 2^8 on, half of a last place of bfloat16 is 1 or more, and products are less: nothing changes."""
    count = 2**13
    a, b = factors(count)
    total = exact(a, b)
    assert total > 4000
    assert multiplied(a, b, Arithmetic("bfloat16")).item() <= 256
    assert error(Arithmetic("bfloat16"), count) > Fraction(9, 10)
    for options in ({"order": "pairwise"}, {"compensation": "kahan"}):
        assert error(Arithmetic("bfloat16", **options), count) < Fraction(5, 100)
    chunked = Arithmetic("bfloat16", chunk=CHUNK)
    assert Fraction(1, 100) < error(chunked, count) < Fraction(1, 2)


@pytest.mark.statistical
def test_stochastic_sums_follow_the_exact_one() -> None:
    """The mean of 256 is off by less than 6 %, with a probability of more than 1 - 10^-7.

    Whatever came before, a rounding's error has the mean 0 and is one of two numbers that are a last place
    apart: at most 8, as long as sums stay below 2^11. So the sum of all 256 2^11 errors is beyond L with a
    probability of at most 2 exp(-2 L^2 / (256 2^11 8^2)) (Hoeffding and Azuma).
    """
    count, columns = 2**11, 256
    a, b = factors(count)
    wide = np.ascontiguousarray(np.broadcast_to(b, (1, count, columns)))
    sums = multiplied(a, wide, Arithmetic("bfloat16", rounding="stochastic"), seed=1)
    total = float(exact(a, b))
    limit = 0.06 * columns * total
    assert 2 * np.exp(-2 * limit**2 / (columns * count * 64)) < 1e-7
    assert sums.max() < 2**11
    assert abs(sums.mean() - total) < 0.06 * total
    assert multiplied(a, b, Arithmetic("bfloat16")).item() <= 256
