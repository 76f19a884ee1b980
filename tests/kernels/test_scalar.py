"""Stochastic rounding exactly: with every word counted, no distribution is estimated."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hard_inputs import hard_values
from numba import njit
from oracle import assert_same

import lowprec
from lowprec import reference
from lowprec.formats import FixedPoint, FloatingPoint, parse
from lowprec.kernels import scalar
from lowprec.kernels.dispatch import _element_params
from lowprec.modes import Rounding

Words = npt.NDArray[np.uint32]
Patterns = npt.NDArray[np.uint32]

FORMATS = ["e4m3fn", "e5m2", "binary16", "binary32", "e8m0ieee", "e3m0ieee", "e8m7ieee<bias133>",
           "fixed8f4", "fixed4f-100", "fixed8f130", "fixed25f0"]  # fmt: skip


@njit
def _round_all(bits, ceilings, params, deep, out):
    """quantize_bits of every pattern (rows) with every word (columns)."""
    for i in range(bits.size):
        for j in range(ceilings.size):
            out[i, j] = scalar.quantize_bits(
                bits[i], ceilings[j], scalar.STOCHASTIC, deep, np.int32(params[0]),
                np.int32(params[1]), params[2], params[3], params[4], params[5], params[6],
                params[7], params[8], params[9], params[10], params[11],
            )  # fmt: skip


def rounded(x: npt.NDArray[np.float32], words: Words, name: str, random_bits: int = 32) -> Patterns:
    """The patterns of every x (rows) rounded with every word (columns)."""
    params = _element_params(parse(name), Rounding.STOCHASTIC, random_bits)
    out = np.empty((x.size, words.size), np.uint32)
    # Below the exponent of binary32's smallest normal value the leading bit has to be looked for.
    _round_all(x.view(np.uint32), ~words, params, np.int32(params[1]) < 1, out)
    return out


def all_words(bits: int) -> Words:
    """Every word of which only the top ``bits`` are set."""
    return (np.arange(1 << bits, dtype=np.uint64) << np.uint64(32 - bits)).astype(np.uint32)


def within(format: FloatingPoint | FixedPoint) -> npt.NDArray[np.float32]:
    """Hard values of a format between its ends, so that no input overflows."""
    x = hard_values(format)
    x = x[np.isfinite(x) & (np.abs(x) < min(format.max, -format.min))]
    return x[:: max(x.size // 600, 1)]


def neighbors(x: np.float32, format: FloatingPoint | FixedPoint) -> tuple[float, float, Fraction]:
    """The two values x can become, the one nearer zero first, and the part of the way covered."""
    near = reference.neighbors(Fraction(float(abs(x))), format)
    sign = np.copysign(1.0, x)
    return sign * float(near.lower), sign * float(near.upper), near.fraction


@pytest.mark.parametrize("random_bits", range(1, 9))
@pytest.mark.parametrize("name", FORMATS)
def test_of_all_words_as_many_round_up_as_the_fraction_says(name: str, random_bits: int) -> None:
    format, words = parse(name), all_words(random_bits)
    unseen = np.uint32((1 << (32 - random_bits)) - 1)  # bits of a word that are not looked at
    x = within(format)
    got = rounded(x, words, name, random_bits)
    np.testing.assert_array_equal(rounded(x, words | unseen, name, random_bits), got)
    for value, results in zip(x, got.view(np.float32), strict=True):
        low, high, fraction = neighbors(value, format)
        ups = int(fraction * words.size)
        assert np.count_nonzero(results == np.float32(low)) == words.size - ups
        assert np.count_nonzero(results == np.float32(high)) == ups


@pytest.mark.parametrize("random_bits", [16, 32])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("e4m3fn", [1 + 2**-4, 1 + 2**-19, 1.1249999, 0.3, -0.3, 5e-4, 2**-25, 440.1, -1e-9]),
        ("binary16", [1 + 2**-23, 1.0009765 - 2**-20, 3e-8, 6e-8, -6e-5]),
        ("fixed8f4", [0.03, -0.03, 7.9, -7.99, 2**-19, 1e-40]),
        ("e8m7ieee<bias133>", [1e-38, 1.1e-38, 3e-42, 1e-45, -2.3e-41]),
        ("binary32", [1e-45, 3.3, -1.17549435e-38]),
    ],
)
def test_with_all_upper_halves_of_a_word(name: str, values: list[float], random_bits: int) -> None:
    x, words = np.float32(values), all_words(16)
    got = rounded(x, words, name, random_bits).view(np.float32)
    for value, results in zip(x, got, strict=True):
        low, high, fraction = neighbors(value, parse(name))
        stay = words.size - int(fraction * words.size)
        # More noise never means less rounding up: the first words stay, the last ones go.
        assert (results[:stay] == np.float32(low)).all()
        assert (results[stay:] == np.float32(high)).all()


@pytest.mark.parametrize("random_bits", [1, 5, 32])
@pytest.mark.parametrize("name", FORMATS)
def test_negative_values_mirror_positive_ones(name: str, random_bits: int) -> None:
    format, words = parse(name), all_words(8) | np.uint32(0x5A5A5A)
    x = np.abs(within(format))
    up, down = rounded(x, words, name, random_bits), rounded(-x, words, name, random_bits)
    sign = np.uint32(0x80000000 if format.has_signed_zero else 0)
    np.testing.assert_array_equal(down, np.where(up == 0, sign, up | np.uint32(1 << 31)))


@pytest.mark.parametrize("random_bits", [1, 7, 32])
@pytest.mark.parametrize("name", FORMATS)
def test_no_word_moves_a_value_of_the_format(name: str, random_bits: int) -> None:
    format = parse(name)
    x = np.array([v for v in hard_values(format) if format.contains(float(v))], np.float32)
    assert x.size > 4
    words = np.uint32([0, 1, 1 << 30, (1 << 31) - 1, 1 << 31, 2**32 - 2, 2**32 - 1])
    got = rounded(x, words, name, random_bits)
    np.testing.assert_array_equal(got, np.repeat(x.view(np.uint32)[:, None], words.size, axis=1))


@pytest.mark.parametrize("random_bits", [1, 3, 32])
def test_between_the_largest_and_the_next_value_words_decide_on_overflow(random_bits: int) -> None:
    # From 448 to 480, the value that would come next, in quarters.
    x, words = np.float32([448, 456, 464, 472, 480, 481]), all_words(8)
    got = rounded(x, words, "e4m3fn<infinity>", random_bits).view(np.float32)
    part = {1: [0, 0, 128, 128, 256, 256]}.get(random_bits, [0, 64, 128, 192, 256, 256])
    np.testing.assert_array_equal(np.isnan(got).sum(axis=1), part)
    assert (got[~np.isnan(got)] == 448).all()


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["e4m3fn", "fixed8f4", "bfp8"])
def test_the_mean_of_many_roundings_is_the_value(name: str) -> None:
    size = 1 << 20
    x = torch.full((size,), 1.03, dtype=torch.float32)
    got = lowprec.quantize(x, name, rounding="stochastic", seed=20)
    values, counts = torch.unique(got, return_counts=True)
    low, high = values.tolist()
    assert low < 1.03 < high
    probability = (x[0].item() - low) / (high - low)
    deviations = (counts[1].item() - size * probability) / (size * probability * (1 - probability)) ** 0.5
    assert abs(deviations) < 4
    # Rounding errors of neighbors, and of elements a tile apart, have nothing to do with each other.
    errors = (got - x).double()
    for lag in (1, 256, 1024):
        correlation = (errors[:-lag] * errors[lag:]).mean() - errors.mean() ** 2
        assert abs(correlation / errors.var()) < 5 / size**0.5


def test_the_kernels_round_as_the_decision_does() -> None:
    """The loop around the decision changes nothing: the same patterns for the same words."""
    x = within(parse("e4m3fn"))
    words = reference.random_words(3, 0, x.shape)
    want = [rounded(x[i : i + 1], words[i : i + 1], "e4m3fn")[0, 0] for i in range(x.size)]
    got = lowprec.quantize(torch.from_numpy(x), "e4m3fn", rounding="stochastic", seed=3)
    assert_same(got, torch.from_numpy(np.uint32(want).view(np.float32)))
