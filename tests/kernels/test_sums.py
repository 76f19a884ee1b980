"""Every rounding of an exact sum, decided in binary32 and binary64, without a compiler."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lowprec.arithmetic import digits, guard_bits
from lowprec.formats import resolve
from lowprec.formats.carriers import CARRIERS
from lowprec.kernels.multiply import _numbers
from lowprec.kernels.specialize import specialized
from lowprec.modes import Rounding
from lowprec.reference.elements import Stepped

FORMATS = [
    "e2m1", "e4m3fn", "e5m2", "bfloat16", "binary16", "e6m9ieee", "binary32", "fixed8f4", "fixed8f4<wrap>",
    "e4m3fnuz", "ufixed6f2", "e3m0ieee", "binary8p3se", "e4m3fn<nosubnormals>",
]  # fmt: skip
TYPES = {"float32": np.float32, "float64": np.float64}
WORDS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x9E3779B9]


def decided(
    carrier: str, format: Any, mode: Rounding, random_bits: int | None, odd: bool, middle: bool = False
) -> Any:
    """What rounds x + y by a word, in plain Python."""
    numbers, (number, depth, ending, full) = _numbers(format, mode, random_bits, carrier, middle=middle)
    names = specialized(carrier, number, depth, ending, full=full, odd=odd, compiler=lambda f: f)
    unsigned = names["U"]

    def rounded(x: Any, y: Any, word: int) -> float:
        """The sum."""
        with np.errstate(all="ignore"):
            bits = names["bits_of_sum"](x, y)
            result = names["quantize_bits"](bits, np.uint32(2**32 - 1 - word), tuple(numbers))
        return float(unsigned(result).view(TYPES[carrier]))

    return rounded


def pairs(carrier: str, format: Any, precision: int) -> list[tuple[Any, Any]]:
    """A value of the format, and a term of the carrier's full precision, such as make sums hard."""
    rng = np.random.default_rng(0)
    number = TYPES[carrier]
    found = []
    for value in (format.max, format.smallest_normal, 1.0, 0.0, format.smallest_subnormal):
        value = value if format.contains(value) else format.max
        ulp = max(value * format.eps, format.smallest_subnormal) if hasattr(format, "eps") else 1.0
        for part in (0.5, 2.0**-30, 1.5):
            for off in (0.0, 2.0 ** (1 - precision), -(2.0**-precision)):
                term = number(ulp * part * (1 + off))
                found.append((number(value), term) if len(found) % 3 else (number(-value), term))
                found.append((number(value), -term))
    found += [(number(0), number(-0.0)), (number(-0.0), number(-0.0)), (number(1), number(-1))]
    found += [(number(np.inf), number(-np.inf)), (number(np.inf), number(1)), (number(np.nan), number(1))]
    for _ in range(6):
        found.append((number(format.max * rng.uniform(-1, 1)), number(rng.standard_normal())))
    return found


@pytest.mark.parametrize("mode", list(Rounding), ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_a_sum_rounded_to_odd_and_then_to_a_format_is_the_exact_one_rounded(
    name: str, mode: Rounding
) -> None:
    """Terms need not be values of the format: the sum decides."""
    format, random_bits = resolve(name), 5 if mode.takes_random_bits else None
    tried = 0
    for carrier, precision in (("float32", 24), ("float64", 53)):
        if digits(format) + guard_bits(mode, random_bits) > precision or format.missing_in(_space(carrier)):
            continue
        rounded, element = decided(carrier, format, mode, random_bits, odd=True), Stepped(format)
        for index, (x, y) in enumerate(pairs(carrier, format, precision)):
            if carrier == "float32" and 2.0**126 < abs(float(x) + float(y)) < np.inf:
                continue  # which paths.py leaves to float64
            word = WORDS[index % len(WORDS)]
            got = rounded(x, y, word)
            want = _exact(element, float(x), float(y), mode, random_bits or 32, word)
            assert repr(got) == repr(want), (carrier, x, y, word)
            tried += 1
    assert tried > 50


@pytest.mark.parametrize("random_bits", [None, 5, 1])
@pytest.mark.parametrize(
    "name", ["e2m1", "e4m3fn", "e5m2", "bfloat16", "e6m9ieee<saturate>", "e4m3fnuz", "e3m0ieee"]
)
def test_drawn_sums_may_be_raised_by_the_smallest_normal_value(name: str, random_bits: int | None) -> None:
    """Where binary64 holds them so: by an addition of the word, and by what other sums are decided by."""
    format, mode = resolve(name), Rounding.STOCHASTIC
    quick = decided("float64", format, mode, random_bits, odd=True, middle=True)
    element, tried = Stepped(format), 0
    for x, y in pairs("float64", format, 26):
        if not all(_is_multiple(v, format.lowest_exponent - 52) for v in (x, y)):
            continue
        for word in WORDS:
            want = _exact(element, float(x), float(y), mode, random_bits or 32, word)
            assert repr(quick(x, y, word)) == repr(want), (x, y, word)
            tried += 1
    assert tried > 100


def _is_multiple(x: Any, exponent: int) -> bool:
    """Whether a number is one of 2 to the exponent, or none at all."""
    return not np.isfinite(x) or (Fraction(float(x)) / Fraction(2) ** exponent).denominator == 1


def _space(carrier: str) -> Any:
    """A carrier."""
    return CARRIERS[carrier]


def _exact(element: Stepped, x: float, y: float, mode: Rounding, bits: int, word: int) -> float:
    """The exact sum rounded once."""
    if not (np.isfinite(x) and np.isfinite(y)):
        return element.quantized(x + y, mode, bits, word)[0]
    total = Fraction(x) + Fraction(y)
    if total != 0:
        return element.exactly(total, mode, bits, word)
    negative = np.signbit(x) and np.signbit(y)
    if mode is Rounding.DOWN and not (x == 0 and y == 0 and not np.signbit(x) and not np.signbit(y)):
        negative = True
    return element.quantized(-0.0 if negative else 0.0, mode, bits, word)[0]
