"""In which type sums are computed: where rounding them first changes nothing, and where it would."""

from fractions import Fraction

import numpy as np
import pytest
from product_cases import assert_defined, multiplied, path, raw

from lowprec import Arithmetic
from lowprec.formats import FixedPoint, FloatingPoint
from lowprec.kernels.operands import Measure
from lowprec.kernels.paths import Path, check_bias, path_of, rounds_alike
from lowprec.kernels.sums import ADDED, RAISED
from lowprec.kernels.wide import WIDE as PAIRED
from lowprec.modes import Rounding
from lowprec.reference.elements import Stepped

EIGHT = Measure(3, -9, 8)
NEAREST = [mode for mode in Rounding if mode.startswith("nearest")]


def differing(format: FloatingPoint, other: int, precision: int, exponents: range) -> int:
    """How many sums a mode of ties rounds otherwise if they are rounded to ``precision`` bits first.

    The terms are all values of a format, and all numbers of ``other`` bits with these exponents.
    """
    element, first = Stepped(format), Stepped(FloatingPoint(11, precision - 1))
    values = [Fraction(v) for v in format.values()]
    products = {
        Fraction(significand) * Fraction(2) ** (e - other + 1)
        for significand in range(1 << (other - 1), 1 << other)
        for e in exponents
    }
    count = 0
    for value in values:
        for product in products:
            total = value + product
            between = Fraction(first.exactly(total, Rounding.NEAREST_EVEN, 32, 0)) if total else total
            if between != total:
                once = [element.exactly(total, mode, 32, 0) for mode in NEAREST]
                count += once != [element.exactly(between, mode, 32, 0) for mode in NEAREST]
    return count


# Formats of m bits, products of P: what is asked of the precision decides, and one bit less is too few.
WIDE = FloatingPoint(4, 1)  # m = 2, of a range too wide for q to hold any sum
NARROW = FloatingPoint(2, 2, specials="finite")  # m = 3


@pytest.mark.parametrize(
    ("format", "other", "exponents"),
    [(WIDE, 2, range(-7, 9)), (WIDE, 1, range(-7, 9)), (NARROW, 5, range(-7, 6)), (NARROW, 6, range(-8, 5))],
)
def test_sums_to_nearest_may_be_rounded_to_enough_bits_first(
    format: FloatingPoint, other: int, exponents: range
) -> None:
    """The least precision that the conditions allow changes nothing, in any mode that only breaks ties."""
    own, unit = format.mantissa_bits + 1, format.lowest_exponent - format.mantissa_bits
    top = int(np.log2(format.max))
    low = exponents[0] - other + 1
    least = next(q for q in range(1, 40) if rounds_alike(q, own, other, low, unit, top))
    assert differing(format, other, least, exponents) == 0


@pytest.mark.parametrize(
    ("format", "other", "precision"),
    [
        (WIDE, 2, 4),  # q = 2 m: 1 + a quarter of a half
        (WIDE, 5, 8),  # P > m, and a range that q does not span: a product on a tie, and a small value
        (NARROW, 5, 6),  # q < m + P + 1
    ],
)
def test_the_conditions_refuse_what_would_change_a_sum(
    format: FloatingPoint, other: int, precision: int
) -> None:
    """There are sums that fewer bits round otherwise."""
    exponents = range(-9, 9)
    unit = format.lowest_exponent - format.mantissa_bits
    own, top = format.mantissa_bits + 1, int(np.log2(format.max))
    assert not rounds_alike(precision, own, other, exponents[0] - other + 1, unit, top)
    assert differing(format, other, precision, exponents) > 0


def narrow(shape: tuple[int, ...], bits: int, exponents: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Numbers of so many significant bits, all of which are used."""
    rng = np.random.default_rng(seed)
    significands = rng.integers(1 << (bits - 1), 1 << bits, shape) | 1
    scale = np.exp2(rng.integers(exponents[0], exponents[1] + 1, shape) - bits + 1.0)
    return (significands * scale * rng.choice([-1, 1], shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("arithmetic", "bits", "exponents", "expected"),
    [
        (Arithmetic("bfloat16"), 4, (-3, 3), Path("float32", odd=False)),  # P = m = 8
        (Arithmetic("bfloat16"), 5, (-3, 3), Path("float32", odd=True)),  # P = 10 > m, and a wide range
        (Arithmetic("e4m3fn"), 5, (-3, 3), Path("float32", odd=False)),  # P > m, a range of 18 bits
        (Arithmetic("e4m3fn"), 10, (-3, 3), Path("float32", odd=True)),  # m + P = 24
        (Arithmetic("e4m3fn"), 12, (-3, 3), Path("float32", odd=True)),  # P = 24
        (Arithmetic("e4m3fn"), 13, (-3, 3), Path("float64", odd=False)),
        (Arithmetic("e4m3fn", rounding="up"), 4, (-9, 8), Path("float32", odd=True)),
        (Arithmetic("e4m3fn", rounding="up"), 2, (-3, 3), Path("float32", odd=False)),  # all sums exact
        (Arithmetic("binary16"), 5, (0, 3), Path("float32", odd=False)),  # 2 m = 22
        (Arithmetic("e8m11ieee"), 5, (0, 3), Path("float32", odd=True)),  # 2 m = 24
        (Arithmetic("binary32"), 4, (-3, 3), Path("float64", odd=False)),
        (Arithmetic("binary32"), 24, (-3, 3), Path("float64", odd=True)),
        (Arithmetic("e8m21ieee"), 4, (-3, 3), Path("float32", odd=True)),  # m + 2 = 24
        (Arithmetic("e8m22ieee"), 4, (-3, 3), Path("float64", odd=False)),
        (Arithmetic("e4m3fn"), 4, (-80, -60), Path("float64", odd=False)),  # products would be subnormal
        (Arithmetic("bfloat16"), 4, (50, 61), Path("float64", odd=False)),  # sums would overflow
        (Arithmetic("fixed16f8<wrap>"), 4, (-6, 3), Path("float32", odd=True)),
        (Arithmetic("fixed16f8<wrap>"), 4, (0, 12), Path("float64", odd=False)),
    ],
    ids=str,
)
def test_operands_choose_the_type(
    arithmetic: Arithmetic, bits: int, exponents: tuple[int, int], expected: Path
) -> None:
    """Significant bits and exponents, whatever the format that they were rounded to."""
    a, b = narrow((1, 9, 20), bits, exponents), narrow((1, 20, 9), bits, exponents, 1)
    found = path(a, b, arithmetic)
    assert (found.carrier, found.odd or found.is_doubtful) == expected[:2]


def test_what_no_type_computes_exactly_is_refused() -> None:
    """Products of more than 53 bits; wrapped sums of which the low bits would be lost."""
    fine, wide = Measure(0, -10, 11), Measure(0, -52, 53)
    assert path_of(Arithmetic("e4m3fn"), wide, Measure(3, 3, 1)).carrier == "float64"
    with pytest.raises(ValueError, match="have exact products in float64"):
        path_of(Arithmetic("e4m3fn"), wide, fine)
    with pytest.raises(ValueError, match="have exact products in float64"):
        path_of(Arithmetic("e4m3fn"), Measure(0, -600, 2), Measure(0, -600, 2))
    wraps = Arithmetic(FixedPoint(16, 8, overflow="wrap"))
    with pytest.raises(ValueError, match="wrap sums whose every bit is known"):
        path_of(wraps, Measure(110, 0, 24), Measure(0, -23, 24))
    assert path_of(wraps, Measure(60, 0, 24), Measure(0, -23, 24)).depth == PAIRED
    with pytest.raises(ValueError, match="`bias` must have sums in fixed16f8<wrap> whose every bit is known"):
        check_bias(wraps, Measure(60, 0, 24))


def test_operands_without_a_number_are_no_obstacle() -> None:
    """Zeros, infinities and NaN only."""
    a = np.array([[[0.0, np.inf, np.nan, -0.0]]], np.float32)
    assert_defined(a, np.zeros((1, 4, 3), np.float32), Arithmetic("e4m3fn"))
    assert_defined(
        np.zeros((1, 3, 4), np.float32), raw(np.random.default_rng(0), 1, 4, 3), Arithmetic("e4m3fn")
    )


@pytest.mark.parametrize("shift", [-52, -51, 0, 42, 43])
def test_numbers_in_the_middle_of_binary32_are_rounded_by_additions(shift: int) -> None:
    """Up to its ends bfloat16's subnormals and largest values play no part.

    Products are multiples of 2^(2 shift - 8), and sums below 2^(2 shift + 14).
    """
    a, b = narrow((1, 4, 12), 4, (-1, 0)), narrow((1, 12, 5), 4, (-1, 0), 1)
    a, b = np.ldexp(a, shift), np.ldexp(b, shift)
    assert path(a, b, Arithmetic("bfloat16")).middle == (-51 <= shift <= 42)
    assert_defined(a, b, Arithmetic("bfloat16"))


def test_drawn_sums_are_raised_where_binary64_holds_them() -> None:
    """Down to 52 binades below the smallest normal value, which is 2^-6."""
    drawn = Arithmetic("e4m3fn", rounding="stochastic", order="pairwise")
    assert path_of(drawn, Measure(3, -40, 24), Measure(0, -18, 8)).depth == RAISED
    assert path_of(drawn, Measure(3, -41, 24), Measure(0, -18, 8)).depth is None
    assert path_of(Arithmetic("e4m3fn", rounding="up"), Measure(3, -40, 24), Measure(0, -18, 8)).depth is None


def test_sums_are_bounded_by_how_many_terms_there_are() -> None:
    """Drawn and compensated ones, too, which may grow with every rounding; none of them overflows then."""
    for options in ({"rounding": "stochastic"}, {"compensation": "kahan"}, {"rounding": "up"}):
        arithmetic = Arithmetic("bfloat16", **options)
        found = path_of(arithmetic, EIGHT, EIGHT, 512)
        assert (found.carrier, found.middle, found.reached) == ("float32", True, False)
        assert path_of(arithmetic, EIGHT, EIGHT, 1 << 25).carrier == "float64"
        chunked = Arithmetic("bfloat16", chunk=512, **options)
        assert path_of(chunked, EIGHT, EIGHT, 1 << 25).carrier == "float32"
    assert path_of(Arithmetic("binary16"), EIGHT, EIGHT).reached
    ones = np.ones((1, 1, 1200), np.float32)  # 2^15 times 2 reaches 65536 = 2^16 in binary16
    for options in ({}, {"rounding": "stochastic"}):
        arithmetic = Arithmetic("binary16", **options)
        y = multiplied(ones * 256, ones.reshape(1, 1200, 1), arithmetic, seed=1)
        assert path(ones * 256, ones.reshape(1, 1200, 1), arithmetic).reached
        assert np.isinf(y).all()


def test_wrapped_sums_keep_every_bit_above_the_step_of_a_large_term() -> None:
    """An overflow leaves nothing of them, so a term of more bits than a sum and its rest have is refused."""
    half = Arithmetic("fixed16f1<wrap>", rounding="toward_zero")
    assert path_of(half, Measure(10, 0, 4), EIGHT).carrier == "float32"
    assert path_of(half, Measure(60, 57, 4), Measure(0, 0, 1)).depth == PAIRED
    with pytest.raises(ValueError, match="wrap sums whose every bit is known"):
        path_of(half, Measure(116, 113, 4), Measure(0, 0, 1))


def test_steps_are_done_again_where_the_carrier_is_in_doubt() -> None:
    """Ties of sums that lost something; words that make a whole with what is cut, or just do not."""
    rng = np.random.default_rng(6)
    count = 40
    a = np.ones((1, 2, count), np.float32)
    a[0, :, 1::2] = rng.choice([2.0**-8, 2.0**-8 * (1 + 2.0**-20), -(2.0**-8), 2.0**-30], (2, count // 2))
    b = rng.choice([1, -1, 1 + 2.0**-23, 1 - 2.0**-24], (1, count, 9)).astype(np.float32)
    assert path(a, b, Arithmetic("bfloat16")).depth == ADDED
    assert_defined(a, b, Arithmetic("bfloat16"))
    a, b = np.round(raw(rng, 1, 4, 64) * 8) / 8, np.round(raw(rng, 1, 64, 20) * 8) / 8
    drawn = Arithmetic("e6m13ieee", rounding="stochastic")  # of which one in 2^9 steps is in doubt
    assert path(a, b, drawn).is_doubtful
    assert_defined(a, b, drawn, seed=4)


def test_infinities_keep_sums_out_of_the_middle() -> None:
    """Additions would make numbers of them; so would products that overflow."""
    a, b = narrow((1, 4, 12), 4, (-1, 0)), narrow((1, 12, 5), 4, (-1, 0), 1)
    big = Arithmetic("bfloat16", multiply="e5m2")
    assert path(a, b, big).middle
    assert not path(a * np.float32(2.0**15), b, big).middle
    assert_defined(a * np.float32(2.0**17), b, big)
    a[0, 0, 3] = -np.inf
    assert not path(a, b, Arithmetic("bfloat16")).middle
    assert_defined(a, b, Arithmetic("bfloat16"))


def test_sums_that_are_often_ties_are_not_done_again() -> None:
    """Terms of few bits more than the accumulator lie in the middle of two values too often."""
    few, many = Measure(8, -9, 4), Measure(2, -50, 24)
    for arithmetic in (Arithmetic("e6m5ieee"), Arithmetic("e6m5ieee", chunk=64)):
        often = path_of(arithmetic, few, Measure(15, -16, 3))
        assert (often.carrier, often.odd, often.is_doubtful) == ("float32", True, False)
        assert path_of(arithmetic, Measure(2, -20, 11), many).is_doubtful
