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
from lowprec.kernels.sums import DRAWN, NORMAL, RAISED
from lowprec.modes import Rounding
from lowprec.reference.elements import Stepped

FORMATS = [
    "e2m1", "e4m3fn", "e5m2", "bfloat16", "binary16", "e6m9ieee", "binary32", "fixed8f4", "fixed8f4<wrap>",
    "e4m3fnuz", "ufixed6f2", "e3m0ieee", "binary8p3se", "e4m3fn<nosubnormals>",
]  # fmt: skip
TYPES = {"float32": np.float32, "float64": np.float64}
WORDS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x9E3779B9]


def decided(
    carrier: str, format: Any, mode: Rounding, random_bits: int | None, odd: bool, **known: Any
) -> Any:
    """What rounds x + y by a word, in plain Python; None where it is in doubt."""
    numbers, (number, depth, ending, full) = _numbers(format, mode, random_bits, carrier, **known)
    names = specialized(carrier, number, depth, ending, full=full, odd=odd, compiler=lambda f: f)
    doubtful = names["is_doubtful"] if depth in (DRAWN, NORMAL) else lambda *_: False
    unsigned = names["U"]

    def rounded(x: Any, y: Any, word: int) -> float | None:
        """The sum."""
        with np.errstate(all="ignore"):
            bits, ceiling = names["bits_of_sum"](x, y), np.uint32(2**32 - 1 - word)
            result = names["quantize_bits"](bits, ceiling, tuple(numbers))
            if doubtful(bits, ceiling, tuple(numbers)):
                return None
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
    quick = decided("float64", format, mode, random_bits, odd=True, depth=RAISED)
    element, tried = Stepped(format), 0
    for x, y in pairs("float64", format, 26):
        if not all(_is_multiple(v, format.lowest_exponent - 52) for v in (x, y)):
            continue
        for word in WORDS:
            want = _exact(element, float(x), float(y), mode, random_bits or 32, word)
            assert repr(quick(x, y, word)) == repr(want), (x, y, word)
            tried += 1
    assert tried > 100


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "bfloat16", "e6m9ieee<saturate>", "e2m1", "e8m21ieee"])
def test_sums_in_the_middle_are_rounded_by_additions(name: str) -> None:
    """To nearest even wherever nothing was lost, and of what came from an overflow; reached or not."""
    format, mode, tried = resolve(name), Rounding.NEAREST_EVEN, 0
    element = Stepped(format)
    for carrier, precision in (("float32", 24), ("float64", 53)):
        rounded = decided(carrier, format, mode, None, odd=False, middle=True)
        unreached = decided(carrier, format, mode, None, odd=False, middle=True, reached=False)
        largest = min(format.max, 2.0**99)
        for x, y in pairs(carrier, format, precision):
            number = TYPES[carrier]
            if abs(float(x)) > largest and np.isfinite(x):
                x = number(np.copysign(largest, x))
            exact = not np.isfinite(x) or (
                abs(float(x)) + abs(float(y)) < 2.0**99
                and Fraction(float(x)) + Fraction(float(y)) == Fraction(float(x + y))
                and _is_multiple(x + y, -110)
            )
            if exact and (np.isnan(y) or np.isnan(x) or format.has_infinity or np.isfinite(x)):
                want = _exact(element, float(x), float(y), mode, 32, 0)
                if not (np.isinf(x) and format.overflow == "saturate"):
                    assert repr(rounded(x, y, 0)) == repr(want), (x, y)
                    tried += 1
                if abs(float(x)) + abs(float(y)) < format.max / 2 or np.isnan(x):
                    assert repr(unreached(x, y, 0)) == repr(want), (x, y)
    assert tried > 20


@pytest.mark.parametrize("random_bits", [None, 5])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "bfloat16", "e6m9ieee<saturate>", "e6m13ieee"])
def test_drawn_sums_that_binary32_has_no_doubt_of_are_right(name: str, random_bits: int | None) -> None:
    """Whatever it lost; and it doubts little but where a word just makes a whole with what is cut."""
    format, mode = resolve(name), Rounding.STOCHASTIC
    element, drop = Stepped(format), 23 - format.mantissa_bits
    for depth in (DRAWN, NORMAL):
        rounded, tried, doubts = (
            decided("float32", format, mode, random_bits, False, middle=True, depth=depth),
            0,
            0,
        )
        rng = np.random.default_rng(1)
        for x, y in pairs("float32", format, 26):
            total = abs(float(x) + float(y))
            if not 0 < total < 2.0**99 or (
                depth == NORMAL and total < max(format.smallest_normal, 2.0**-103)
            ):
                continue
            if not (_is_multiple(x, -110) and _is_multiple(y, -110)):
                continue
            # Words about the one that makes a whole with what is cut, and others.
            _, exponent = np.frexp(max(total, format.smallest_normal))
            place = 2.0 ** (int(exponent) - 1 - format.mantissa_bits)
            whole = int((1 - total / place % 1) * 2**32)
            near = [whole + step for step in (-(3 << (32 - drop)), -1, 0, 1, 3 << (32 - drop))]
            for word in [*WORDS, *near, int(rng.integers(2**32))]:
                word %= 2**32
                got = rounded(x, y, word)
                want = _exact(element, float(x), float(y), mode, random_bits or 32, word)
                assert got is None or repr(got) == repr(want), (x, y, word)
                tried, doubts = tried + 1, doubts + (got is None)
        assert 0 < doubts < tried / 2
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
