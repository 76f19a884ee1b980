"""Magnitudes of 128 bits rounded to formats and carriers, without a compiler."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lowprec.formats import FixedPoint, Format, resolve
from lowprec.formats.format import floor_log2
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.specialize import specialized
from lowprec.kernels.wide import WIDE
from lowprec.modes import Rounding
from lowprec.reference.elements import Stepped
from lowprec.reference.grid import neighbors

FORMATS = [
    "binary64", "fixed8f4<wrap>", "e3m0ieee", "e4m3fn<nosubnormals>", "binary32", "e2m1", "e4m3fn", "e5m2",
    "bfloat16", "binary16", "fixed8f4", "e4m3fnuz", "ufixed6f2", "fixed32f20", "e8m26ieee<saturate>",
]  # fmt: skip
WORDS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x9E3779B9, 3 << 20]


def decisions(format: Format, mode: Rounding, random_bits: int) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The functions for a format, in plain Python, and its numbers."""
    numbers, _, ending = describe(format, mode, random_bits, "float64")
    full = random_bits == 32
    names = specialized("float64", MODES[mode], WIDE, ending, full=full, compiler=lambda f: f)
    return names, tuple(numbers)


def magnitudes(format: Format) -> list[Fraction]:
    """Around values of a format, ties and what random words decide: next to them, and far below."""
    rng = np.random.default_rng(3)
    smallest, largest = Fraction(format.smallest_subnormal), Fraction(format.max)
    lasts = {smallest, largest * Fraction(1, 3), largest}
    bits = format.bits if isinstance(format, FixedPoint) else format.mantissa_bits + 1
    found = []
    for value in [*lasts, smallest * 3, Fraction(1)]:
        place = max(smallest, Fraction(2) ** (floor_log2(value) - bits + 1))
        whole = value // place
        for part in (
            Fraction(0),
            Fraction(1, 2),
            Fraction(1, 32),
            Fraction(5, 64),
            1 - Fraction(1, 2**32),
            Fraction(int(rng.integers(2**32)), 2**32),
            Fraction(1, 2**33),
        ):
            for off in (Fraction(0), Fraction(1, 2**44), Fraction(-1, 2**44)):
                found += [(whole + part + off) * place, (2 ** (bits - 1) + part + off) * smallest]
    found += (
        [largest * 2**k for k in (1, 3, 60)]
        + [smallest * (2**k + Fraction(7, 2)) for k in (63, 64, 80)]
        + [smallest / 2**k for k in (1, 2, 39, 40, 70, 200)]
    )
    return [x for x in found if x > 0]


def parts_of(x: Fraction) -> tuple[Any, Any, Any]:
    """A magnitude as the kernels take it: two words, the last bit of which is sticky, and a field."""
    lead = floor_log2(x)
    scaled = x / Fraction(2) ** (lead - 127)
    whole = int(scaled)
    whole |= int(scaled != whole)
    return np.uint64(whole >> 64), np.uint64(whole % 2**64), np.int64(lead + 1023)


def assert_rounded(name: str, mode: Rounding, lengths: tuple[int, ...]) -> None:
    """Of both signs, past the ends."""
    format, element = resolve(name), Stepped(resolve(name))
    for random_bits in lengths:
        names, numbers = decisions(format, mode, random_bits)
        for index, x in enumerate(magnitudes(format)):
            if "wrap" in name and x > format.max * 2**100:
                continue
            negative, word = index % 3 == 1, WORDS[index % len(WORDS)]
            with np.errstate(all="ignore"):
                high, low, field = parts_of(x)
                ceiling = np.uint32(2**32 - 1 - word)
                bits = names["quantize_wide"](high, low, field, negative, ceiling, numbers)
            got = float(np.uint64(bits).view(np.float64))
            want = element.exactly(-x if negative else x, mode, random_bits, word)
            assert repr(got) == repr(want), (x, negative, word, random_bits)


@pytest.mark.parametrize("mode", list(Rounding), ids=str)
@pytest.mark.parametrize("name", FORMATS[:4])
def test_a_magnitude_of_any_length_is_rounded_once(name: str, mode: Rounding) -> None:
    """In every mode, with words of 32 bits or fewer."""
    assert_rounded(name, mode, (32, 5) if mode is Rounding.STOCHASTIC_NEAREST else (32,))


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", list(Rounding), ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_a_magnitude_is_rounded_once_to_any_format(name: str, mode: Rounding) -> None:
    """With random words of several lengths."""
    assert_rounded(name, mode, (32, 31, 5, 1) if mode.takes_random_bits else (32,))


def terms(format: Format) -> list[tuple[float, float]]:
    """Pairs of binary64 whose sums lie all over: next to powers of two, below the unit, past the end."""
    rng = np.random.default_rng(4)
    smallest, largest, found = float(format.smallest_subnormal), float(format.max), []
    for value in (1.0, 1.75, largest, largest / 3, smallest, 5 * smallest, float(format.smallest_normal)):
        last = max(value * float(format.eps), smallest)
        for part in (0.5, 1.0, 0.25 + 2.0**-33, 2.0**-32, 1 - 2.0**-32, 2.0**-45, 2.0**-100, 2.0**-140):
            for off in (0.0, 2.0**-52, -(2.0**-53)):
                found += [(value, last * part * (1 + off)), (value, -last * part * (1 + off))]
        found.append((value, last * float(rng.uniform())))
        found.append((value, value * float(rng.uniform(-1, 1))))
    return [(x, y) for x, y in found if y != 0 and x + y != 0]


def assert_added(name: str, mode: Rounding, lengths: tuple[int, ...], every: int = 1) -> None:
    """By the word that makes a whole with the fraction, and by those next to it."""
    format, element = resolve(name), Stepped(resolve(name))
    for random_bits in lengths:
        names, numbers = decisions(format, mode, random_bits)
        for index, (x, y) in enumerate(terms(format)[::every]):
            x, y = (x, y) if index % 2 else (-x, -y)
            total = Fraction(x) + Fraction(y)
            number = int((1 - neighbors(abs(total), format).fraction) * 2**random_bits)
            for near in (number - 1, number, number + 1):
                word = near % 2**random_bits << (32 - random_bits) | 5 % 2 ** (32 - random_bits)
                with np.errstate(all="ignore"):
                    ceiling = np.uint32(2**32 - 1 - word)
                    bits = names["added_exactly"](np.float64(x), np.float64(y), ceiling, numbers)
                got = float(np.uint64(bits).view(np.float64))
                assert repr(got) == repr(element.exactly(total, mode, random_bits, word)), (x, y, word)


@pytest.mark.parametrize("mode", [m for m in Rounding if m.takes_random_bits], ids=str)
def test_sums_are_decided_with_what_they_lose(mode: Rounding) -> None:
    """To 24 bits with 32 random ones."""
    assert_added("binary32", mode, (32,), 3)


def test_deterministic_sums_of_all_bits_are() -> None:
    """To as many as binary64 has itself; also where the second term decides alone."""
    assert_added("e8m52ieee", Rounding.NEAREST_EVEN, (32,), 3)
    assert_added("e8m51ieee", Rounding.DOWN, (32,), 3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", list(Rounding), ids=str)
@pytest.mark.parametrize(
    "name", ["binary32", "e8m30ieee", "binary16", "e8m51ieee", "e8m52ieee", "fixed32f20"]
)
def test_sums_to_any_format_are_decided_with_what_they_lose(name: str, mode: Rounding) -> None:
    """With random words of several lengths."""
    assert_added(name, mode, (32, 31, 27, 1) if mode.takes_random_bits else (32,))
