"""Fractions of the unit by a product: the word that tips the balance is the reference's."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from decisions import decided
from hard_inputs import tipping_number
from oracle import SEED, words_for

import lowprec
from lowprec import reference
from lowprec.formats import parse
from lowprec.kernels import scalar
from lowprec.kernels.numbers import describe
from lowprec.modes import Rounding

STOCHASTIC = Rounding.STOCHASTIC
FORMATS = ["fixed8f94", "fixed8f95", "fixed8f-110", "e5m2", "e4m3fn", "e5m2<nosubnormals>", "binary16"]


def below_the_unit(format: str) -> np.ndarray:
    """Magnitudes below a format's unit, those of the carrier's ends and subnormals among them."""
    generator = np.random.default_rng(0)
    numbers, _, _ = describe(parse(format), STOCHASTIC, 32, "float32")
    unit = float(numbers[scalar.UNIT :][:1].view(np.float32)[0])
    ends = np.array([unit, unit / 2, unit / 3, unit * 2.0**-31, unit * 2.0**-32, 2.0**-126, 2.0**-149])
    some = np.concatenate([ends, unit * generator.random(20) * 2.0 ** -generator.integers(0, 34, 20)])
    x = some.astype(np.float32)
    around = np.concatenate([x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(np.inf))])
    return np.concatenate([around, -around])


@pytest.mark.parametrize(
    ("format", "carrier", "rounding", "random_bits", "quick"),
    [
        ("fixed8f94", "float32", "stochastic", 32, True),
        ("fixed8f95", "float32", "stochastic", 32, False),  # flushed subnormals would be missed
        ("e5m2", "float32", "stochastic", 7, True),
        ("fixed8f4<wrap>", "float32", "stochastic", 32, False),
        ("e5m2", "float32", "stochastic_midpoint", 32, False),
        ("e5m2", "float64", "stochastic", 32, False),
        ("e5m2", "bfloat16", "stochastic", 32, False),
    ],
)
def test_where_a_product_is_taken(format, carrier, rounding, random_bits, quick):
    _, depth, _ = describe(parse(format), Rounding(rounding), random_bits, carrier)
    assert (depth == scalar.QUICK) == quick


@pytest.mark.parametrize("random_bits", [32, 9])
@pytest.mark.parametrize("format", FORMATS)
def test_words_that_tip_the_balance(format, random_bits):
    parsed = parse(format)
    x, words = [], []
    for value in below_the_unit(format):
        first = tipping_number(float(value), parsed, STOCHASTIC, random_bits)
        numbers = {max(first - 1, 0), min(first, 2**random_bits - 1), 0, 2**random_bits - 1}
        x += [value] * len(numbers)
        words += [number << (32 - random_bits) for number in sorted(numbers)]
    array, noise = np.array(x, np.float32), np.array(words, np.uint32)
    got, _ = decided(array, "float32", parsed, STOCHASTIC, noise, random_bits)
    options = {"rounding": STOCHASTIC, "carrier": "float32", "words": noise, "random_bits": random_bits}
    assert_same_bits(got, reference.quantize(array, parsed, **options))


@pytest.mark.parametrize("flushed", [False, True])
def test_compiled_also_where_subnormals_are_flushed(flushed):
    def compiled():
        if flushed and not torch.set_flush_denormal(True):
            return None
        return {f: lowprec.quantize(x[f], f, rounding=STOCHASTIC, seed=SEED) for f in FORMATS}

    x = {f: torch.from_numpy(np.tile(below_the_unit(f), 30)) for f in FORMATS}
    with ThreadPoolExecutor(1) as pool:  # the flag is a thread's
        got = pool.submit(compiled).result()
    if got is None:
        pytest.skip("this processor cannot flush subnormals to zero")
    for format, y in got.items():
        words = words_for((x[format].numel(),))
        options = {"rounding": STOCHASTIC, "carrier": "float32", "words": words}
        assert_same_bits(y.numpy(), reference.quantize(x[format].numpy(), format, **options))
