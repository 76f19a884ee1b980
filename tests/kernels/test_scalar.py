"""Stochastic rounding exactly: with every word counted, no distribution is estimated."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hard_inputs import hard_values
from oracle import assert_same, with_word

import lowprec
from lowprec import reference
from lowprec.formats import FixedPoint, FloatingPoint, parse
from lowprec.modes import Rounding

Words = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float32]

FORMATS = ["e4m3fn", "e5m2", "binary16", "binary32", "e8m0ieee", "e3m0ieee", "bfloat16<bias133>",
           "e3m2<nosubnormals>", "fixed8f4", "fixed4f-100", "fixed8f130", "fixed25f0"]  # fmt: skip
MODES = ["stochastic", "stochastic_midpoint", "stochastic_nearest"]
EVERYWHERE = [(name, "stochastic") for name in FORMATS] + [("e5m2", mode) for mode in MODES[1:]]


def rounded(
    x: Floats, words: Words, name: str, random_bits: int = 32, rounding: str = "stochastic"
) -> Floats:
    """Every x (rows) rounded with every word (columns)."""
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    columns = [with_word(tensor, name, rounding, word, random_bits).numpy() for word in words.tolist()]
    return np.stack(columns, axis=1)


def all_words(bits: int) -> Words:
    """Every word of which only the top ``bits`` are set."""
    return (np.arange(1 << bits, dtype=np.uint64) << np.uint64(32 - bits)).astype(np.uint32)


def within(format: FloatingPoint | FixedPoint) -> Floats:
    """Hard values of a format between its ends, so that no input overflows."""
    x = hard_values(format)
    x = x[np.isfinite(x) & (np.abs(x) < min(format.max, -format.min))]
    return x[:: max(x.size // 300, 1)]


def neighbors(x: np.float32, format: FloatingPoint | FixedPoint) -> tuple[float, float, Fraction]:
    """The two values x can become, the one nearer zero first, and the part of the way covered."""
    near = reference.neighbors(Fraction(float(abs(x))), format)
    sign = np.copysign(1.0, x)
    return sign * float(near.lower), sign * float(near.upper), near.fraction


def ups_of(fraction: Fraction, outcomes: int, rounding: str) -> int:
    """Of so many equally likely words, how many send a value up: its part, as the mode rounds that."""
    part = fraction * outcomes
    if rounding == "stochastic_midpoint":
        return math.floor(part + Fraction(1, 2))
    return round(part) if rounding == "stochastic_nearest" else math.floor(part)


@pytest.mark.parametrize("random_bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("name", "rounding"), EVERYWHERE)
def test_of_all_words_as_many_round_up_as_the_fraction_says(
    name: str, rounding: str, random_bits: int
) -> None:
    format, words = parse(name), all_words(random_bits)
    unseen = np.uint32((1 << (32 - random_bits)) - 1)  # bits of a word that are not looked at
    x = within(format)
    got = rounded(x, words, name, random_bits, rounding)
    again = rounded(x, words | unseen, name, random_bits, rounding)
    np.testing.assert_array_equal(again.view(np.uint32), got.view(np.uint32))
    for value, results in zip(x, got, strict=True):
        low, high, fraction = neighbors(value, format)
        ups = ups_of(fraction, words.size, rounding)
        assert np.count_nonzero(results == np.float32(low)) == words.size - ups
        assert np.count_nonzero(results == np.float32(high)) == ups


@pytest.mark.parametrize("random_bits", [16, 32])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("e4m3fn", [1 + 2**-4, 1 + 2**-19, 1.1249999, 0.3, -0.3, 5e-4, 2**-25, 440.1, -1e-9]),
        ("binary16", [1 + 2**-23, 1.0009765 - 2**-20, 3e-8, 6e-8, -6e-5]),
        ("fixed8f4", [0.03, -0.03, 7.9, -7.99, 2**-19, 1e-40]),
        ("bfloat16<bias133>", [1e-38, 1.1e-38, 3e-42, 1e-45, -2.3e-41]),
        ("binary32", [1e-45, 3.3, -1.17549435e-38]),
    ],
)
def test_with_one_in_eight_of_all_upper_halves_of_a_word(
    name: str, values: list[float], random_bits: int
) -> None:
    x, words = np.float32(values), all_words(16)[5::8]
    got = rounded(x, words, name, random_bits)
    for value, results in zip(x, got, strict=True):
        low, high, fraction = neighbors(value, parse(name))
        # More noise never means less rounding up: the first words stay, the last ones go.
        goes = words.astype(np.uint64) + math.floor(fraction * 2**random_bits) * 2 ** (32 - random_bits)
        np.testing.assert_array_equal(results, np.where(goes >= 2**32, np.float32(high), np.float32(low)))


@pytest.mark.parametrize("random_bits", [1, 5, 32])
@pytest.mark.parametrize(("name", "rounding"), EVERYWHERE)
def test_negative_values_mirror_positive_ones(name: str, rounding: str, random_bits: int) -> None:
    format, words = parse(name), all_words(5) | np.uint32(0x5A5A5A)
    x = np.abs(within(format))
    up = rounded(x, words, name, random_bits, rounding)
    down = rounded(-x, words, name, random_bits, rounding)
    mirrored = -up if format.has_signed_zero else 0 - up
    np.testing.assert_array_equal(down.view(np.uint32), mirrored.view(np.uint32))


@pytest.mark.parametrize("random_bits", [1, 7, 32])
@pytest.mark.parametrize(("name", "rounding"), EVERYWHERE)
def test_no_word_moves_a_value_of_the_format(name: str, rounding: str, random_bits: int) -> None:
    format = parse(name)
    x = np.array([v for v in hard_values(format)[::2] if format.contains(float(v))], np.float32)
    assert x.size > 4
    words = np.uint32([0, 1, 1 << 30, (1 << 31) - 1, 1 << 31, 2**32 - 2, 2**32 - 1])
    got = rounded(x, words, name, random_bits, rounding).view(np.uint32)
    np.testing.assert_array_equal(got, np.repeat(x.view(np.uint32)[:, None], words.size, axis=1))


@pytest.mark.parametrize("random_bits", [1, 3, 32])
def test_between_the_largest_and_the_next_value_words_decide_on_overflow(random_bits: int) -> None:
    # From 57344 to 65536, the value that would come next, in quarters.
    x, words = np.float32([57344, 59392, 61440, 63488, 65536, 65537]), all_words(8)
    got = rounded(x, words, "e5m2", random_bits)
    part = {1: [0, 0, 128, 128, 256, 256]}.get(random_bits, [0, 64, 128, 192, 256, 256])
    np.testing.assert_array_equal(np.isinf(got).sum(axis=1), part)
    assert (got[np.isfinite(got)] == 57344).all()


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("name", "rounding"),
    [("e4m3fn", "stochastic"), ("fixed8f4", "stochastic"), ("bfp8", "stochastic")]
    + [("e5m2", mode) for mode in (*MODES[1:], "stochastic_equal")],
)
def test_the_mean_of_many_roundings_is_the_value(name: str, rounding: str) -> None:
    size = 1 << 20
    x = torch.full((size,), 1.03, dtype=torch.float32)
    got = lowprec.quantize(x, name, rounding=rounding, seed=20)
    values, counts = torch.unique(got, return_counts=True)
    low, high = values.tolist()
    assert low < 1.03 < high
    probability = (x[0].item() - low) / (high - low) if Rounding(rounding).takes_random_bits else 0.5
    deviations = (counts[1].item() - size * probability) / (size * probability * (1 - probability)) ** 0.5
    assert abs(deviations) < 4
    # Rounding errors of neighbors, and of elements a tile apart, have nothing to do with each other.
    errors = (got - x).double()
    for lag in (1, 256, 1024):
        correlation = (errors[:-lag] * errors[lag:]).mean() - errors.mean() ** 2
        assert abs(correlation / errors.var()) < 5 / size**0.5


def test_an_operator_gives_each_element_its_own_word() -> None:
    x = within(parse("e4m3fn"))
    words = reference.random_words(3, 0, x.shape)
    want = [rounded(x[i : i + 1], words[i : i + 1], "e4m3fn")[0, 0] for i in range(x.size)]
    got = lowprec.quantize(torch.from_numpy(x), "e4m3fn", rounding="stochastic", seed=3)
    assert_same(got, torch.from_numpy(np.float32(want)))
