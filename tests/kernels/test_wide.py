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

FORMATS = [
    "e2m1", "e4m3fn", "e5m2", "bfloat16", "binary16", "binary32", "binary64", "fixed8f4", "fixed8f4<wrap>",
    "e4m3fnuz", "ufixed6f2", "e3m0ieee", "e4m3fn<nosubnormals>", "fixed32f20", "e8m26ieee<saturate>",
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
    found += [largest * 2**k for k in (1, 3, 60)] + [smallest / 2**k for k in (1, 2, 39, 40, 70, 200)]
    return [x for x in found if x > 0]


def parts_of(x: Fraction) -> tuple[Any, Any, Any]:
    """A magnitude as the kernels take it: two words, the last bit of which is sticky, and a field."""
    lead = floor_log2(x)
    scaled = x / Fraction(2) ** (lead - 127)
    whole = int(scaled)
    whole |= int(scaled != whole)
    return np.uint64(whole >> 64), np.uint64(whole % 2**64), np.int64(lead + 1023)


@pytest.mark.parametrize("mode", list(Rounding), ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_a_magnitude_of_any_length_is_rounded_once(name: str, mode: Rounding) -> None:
    """With random words of all lengths, of both signs, past the ends."""
    format, element = resolve(name), Stepped(resolve(name))
    lengths = (32, 5, 1) if mode.takes_random_bits else (32,)
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
