"""Posits by the reference against their standard: bit strings written down and cut, and tables by hand."""

import math
from bisect import bisect_left, bisect_right
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from comparison import assert_same_bits
from hard_inputs import hard_values
from posit_strings import rounded, value

from lowprec import reference
from lowprec.formats import Posit
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
SMALL = list(product(range(2, 11), range(4)))
"""Widths of codes and exponents of formats that are covered completely."""
TIES = ("even", "away", "zero", "odd", "up", "down")

# By hand. With es = 2, posit8 has the fields s rr ee fff around 1 and one more r for each factor of 16.
TABLES = {
    Posit(8, 2): {
        0x00: 0.0, 0x01: 2.0**-24, 0x02: 2.0**-20, 0x03: 2.0**-18, 0x04: 2.0**-16, 0x05: 2.0**-15,
        0x20: 2.0**-4, 0x30: 0.25, 0x38: 0.5, 0x3C: 0.75, 0x3F: 0.9375, 0x40: 1.0, 0x41: 1.125, 0x47: 1.875,
        0x48: 2.0, 0x4D: 3.25, 0x50: 4.0, 0x58: 8.0, 0x5F: 15.0, 0x60: 16.0, 0x61: 20.0, 0x70: 256.0,
        0x7C: 65536.0, 0x7D: 2.0**18, 0x7E: 2.0**20, 0x7F: 2.0**24,
        0x80: NAN, 0x81: -(2.0**24), 0xC0: -1.0, 0xBF: -1.125, 0xFF: -(2.0**-24),
    },
    Posit(16, 2): {
        0x0001: 2.0**-56, 0x0002: 2.0**-52, 0x3800: 0.5, 0x4000: 1.0, 0x4001: 1 + 2.0**-11,
        0x4C91: 2 * (1 + 1169 / 2048), 0x5000: 4.0, 0x6000: 16.0, 0x7FFE: 2.0**52, 0x7FFF: 2.0**56,
        0x8000: NAN, 0x8001: -(2.0**56), 0xB36F: -2 * (1 + 1169 / 2048), 0xFFFF: -(2.0**-56),
    },
    Posit(16, 1): {
        0x0001: 2.0**-28, 0x3000: 0.5, 0x4000: 1.0, 0x5000: 2.0, 0x5922: 2 * (1 + 2338 / 4096), 0x6000: 4.0,
        0x7FFF: 2.0**28, 0x8000: NAN, 0xC000: -1.0,
    },
    Posit(8, 0): {
        0x00: 0.0, 0x01: 1 / 64, 0x02: 1 / 32, 0x03: 3 / 64, 0x20: 0.5, 0x40: 1.0, 0x41: 1 + 1 / 32,
        0x60: 2.0, 0x69: 3.125, 0x70: 4.0, 0x7C: 16.0, 0x7D: 24.0, 0x7E: 32.0, 0x7F: 64.0,
        0x80: NAN, 0xC0: -1.0, 0x97: -3.125,
    },
    Posit(2, 2): {0: 0.0, 1: 1.0, 2: NAN, 3: -1.0},
    Posit(3, 2): {1: 1 / 16, 2: 1.0, 3: 16.0, 4: NAN, 5: -16.0, 6: -1.0, 7: -1 / 16},
}  # fmt: skip


@pytest.mark.parametrize("format", TABLES, ids=str)
def test_tables(format: Posit) -> None:
    codes, values = np.array([*TABLES[format]], np.uint16), np.array([*TABLES[format].values()])
    assert_same_bits(reference.decode(codes, format, dtype="float64"), values)
    assert reference.encode(values, format).tolist() == codes.tolist()
    for code, number in TABLES[format].items():
        assert_same_bits(np.float64(reference.value_of(code, format)), number)
        assert reference.code_of(number, format) == code
        assert math.isnan(number) or format.contains(number)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        # Pi, e, a third and the like, rounded by hand: the fraction in units of the last of its bits.
        ("posit8", [(math.pi, 3.25), (math.e, 2.75), (1 / 3, 0.34375), (0.1, 0.1015625), (100.0, 96.0)]),
        ("posit16", [(math.pi, 2 * (1 + 1169 / 2048)), (0.1, (1 + 1229 / 2048) / 16), (1e6, 999424)]),
        ("posit8es0", [(math.pi, 3.125), (0.7, 0.703125), (33.0, 32.0), (48.0, 32.0), (50.0, 64.0)]),
        # Ties: to the even code. Past the last value, and below the first, nothing turns into 0 or NaR.
        ("posit8", [(1.0625, 1.0), (1.1875, 1.25), (2.0**22, 2.0**20), (5e6, 2.0**24), (1e30, 2.0**24)]),
        ("posit8", [(2.0**-22, 2.0**-20), (2.0**-22 * 0.99, 2.0**-24), (1e-30, 2.0**-24), (0.0, 0.0)]),
        ("posit2", [(1e-30, 1.0), (0.3, 1.0), (7.0, 1.0)]),
        ("posit3", [(4.0, 1.0), (4.1, 16.0), (0.25, 1.0), (0.2, 1 / 16)]),
    ],
)  # fmt: skip
def test_rounding_by_hand(name: str, pairs: list[tuple[float, float]]) -> None:
    x, want = np.array(pairs).T
    assert_same_bits(reference.quantize(x, name), want)
    assert_same_bits(reference.quantize(-x, name), 0.0 - want)


def floats_around(points: list[Fraction]) -> np.ndarray:
    """Each point, which is a float64 number, and its neighbors, of either sign."""
    exact = np.array([float(point) for point in points])
    assert [Fraction(x) for x in exact.tolist()] == points
    x = np.concatenate([exact, np.nextafter(exact, INF), np.nextafter(exact, -INF)])
    return np.unique(np.concatenate([x, -x]))


@pytest.mark.parametrize(("bits", "es"), SMALL)
class TestEveryCode:
    def test_values(self, bits: int, es: int) -> None:
        format = Posit(bits, es)
        for code in range(2**bits):
            exact = value(code, bits, es)
            got = reference.value_of(code, format)
            assert reference.code_of(got, format) == code
            if exact is None:
                assert math.isnan(got)
                continue
            assert Fraction(got) == exact
            assert format.contains(got)
            if exact >= 0:
                assert format.magnitude(code) == exact
        signed = [value((code - 2 ** (bits - 1)) % 2**bits, bits, es) for code in range(1, 2**bits)]
        assert signed == sorted(signed)  # codes are ordered as integers of two's complement are
        assert format.values().tolist() == signed
        assert format.max == signed[-1] == -format.min
        assert format.smallest_subnormal == signed[2 ** (bits - 1)]
        middle = 2 ** (bits - 2)
        assert bits == 2 or format.eps == value(middle + 1, bits, es) - 1

    def test_nothing_between_is_a_value(self, bits: int, es: int) -> None:
        format = Posit(bits, es)
        points = [value(code, bits + 1, es) for code in range(1, 2**bits, 2)]
        assert not any(format.contains(float(point)) for point in points)
        values = format.values()
        for x in (np.nextafter(values, INF), np.nextafter(values, -INF)):
            assert not any(map(format.contains, x.tolist()))

    def test_nearest(self, bits: int, es: int) -> None:
        """All posits of one more bit, which are the values and the ties, and both sides of each."""
        format = Posit(bits, es)
        x = floats_around([value(code, bits + 1, es) for code in range(2**bits)])
        x = np.concatenate([x, [format.max * 1.5, 1e300, 5e-324, -format.max * 2]])
        want = np.array([rounded(Fraction(number), bits, es) for number in x.tolist()])
        assert_same_bits(reference.encode(x, format).astype(np.int64), want)
        points = np.array([float(value(code, bits + 1, es)) for code in range(1, 2**bits, 2)])
        points = np.concatenate([points, -points])
        for tie in TIES:
            want = [rounded(Fraction(number), bits, es, tie) for number in points.tolist()]
            assert reference.encode(points, format, rounding=f"nearest_{tie}").tolist() == want


@pytest.mark.parametrize(("bits", "es"), [(2, 2), (3, 0), (5, 1), (6, 2), (8, 2), (8, 0)])
def test_directed_and_stochastic_modes_go_by_value(bits: int, es: int) -> None:
    format = Posit(bits, es)
    x = hard_values(format, "float64")
    x = x[np.isfinite(x)]
    codes = {value(code, bits, es): code for code in range(2**bits) if code != 2 ** (bits - 1)}
    values = sorted(codes)
    for mode in Rounding:
        if mode.startswith("nearest"):
            continue
        for word, random_bits in (
            ((0, 32), (0x5555AAAA, 5), (2**32 - 1, 32)) if mode.is_stochastic else ((0, 32),)
        ):
            want = []
            for number in map(Fraction, x.tolist()):
                low = values[max(bisect_right(values, number) - 1, 0)]
                high = values[min(bisect_left(values, number), len(values) - 1)]
                near, far = sorted((low, high), key=abs)
                part = (number - near) / (far - near) if far != near else Fraction(0)
                drawn = Fraction(word >> (32 - random_bits), 2**random_bits)
                covered = math.floor(part * 2**random_bits), round(part * 2**random_bits)
                goes_far = {
                    "toward_zero": False,
                    "away": True,
                    "up": far == high,
                    "down": far == low,
                    "to_odd": codes[far] % 2 == 1,
                    "stochastic": Fraction(covered[0], 2**random_bits) + drawn >= 1,
                    "stochastic_midpoint": part + drawn + Fraction(1, 2 ** (random_bits + 1)) >= 1,
                    "stochastic_nearest": Fraction(covered[1], 2**random_bits) + drawn >= 1,
                    "stochastic_equal": word >= 2**31,
                }[mode]  # fmt: skip
                want.append(float(far if goes_far else near))
            options = {"words": np.full(x.shape, word, np.uint32)} if mode.is_stochastic else {}
            if mode.takes_random_bits:
                options["random_bits"] = random_bits
            assert_same_bits(reference.quantize(x, format, rounding=mode, **options), want)


@pytest.mark.parametrize(("bits", "es"), [(16, 2), (16, 1), (16, 0), (32, 2), (32, 3), (12, 5), (24, 4)])
def test_wide_ones_around_hard_numbers(bits: int, es: int) -> None:
    format = Posit(bits, es)
    x = hard_values(format, "float64")
    x = x[np.isfinite(x)][:: max(1, x.size // 800)]
    for tie in TIES:
        want = [rounded(Fraction(number), bits, es, tie) for number in x.tolist()]
        got = reference.encode(x, format, rounding=f"nearest_{tie}")
        assert got.dtype == (np.uint16 if bits <= 16 else np.uint32)
        assert got.tolist() == want
    values = reference.decode(got, format, dtype="float64")
    assert_same_bits(values, [float(value(code, bits, es)) for code in want])
    assert_same_bits(reference.quantize(x, format, rounding="nearest_down"), values)


class TestSpecials:
    @pytest.mark.parametrize("rounding", Rounding)
    def test_infinities_and_nan_are_not_real(self, rounding: Rounding) -> None:
        x = np.array([INF, -INF, NAN])
        words = {"words": np.full(3, 2**31, np.uint32)} if rounding.is_stochastic else {}
        assert_same_bits(reference.quantize(x, "posit16", rounding=rounding, **words), [NAN] * 3)
        assert reference.encode(x, "posit16", rounding=rounding, **words).tolist() == [0x8000] * 3
        assert reference.overflowed(x, "posit16", rounding=rounding, **words).tolist() == [True, True, False]

    @pytest.mark.parametrize("rounding", Rounding)
    def test_zero_has_no_sign_and_the_ends_hold(self, rounding: Rounding) -> None:
        x = np.array([0.0, -0.0, 64.0, -64.0, 64.01, -64.01, 1e300, -1e300])
        words = {"words": np.full(8, 2**32 - 1, np.uint32)} if rounding.is_stochastic else {}
        got = reference.quantize(x, "posit8es0", rounding=rounding, **words)
        assert_same_bits(got, [0.0, 0.0, 64, -64, 64, -64, 64, -64])
        near = {"toward_zero": (False, False), "to_odd": (False, False), "up": (True, False),
                "down": (False, True)}.get(rounding, (True, True))  # fmt: skip
        fired = reference.overflowed(x, "posit8es0", rounding=rounding, **words)
        assert fired.tolist() == [False] * 4 + [*near, *near]

    def test_what_has_no_code(self) -> None:
        for number in (INF, -INF, -0.0, 1.0625, 2.0**25, 2.0**-25):
            with pytest.raises(ValueError, match=f"`value` must be a value of posit8, got {number}"):
                reference.code_of(number, Posit(8))
        with pytest.raises(ValueError, match="`code` must lie between 0 and 255, got 256"):
            reference.value_of(256, Posit(8))

    def test_a_scalar(self) -> None:
        assert reference.quantize_scalar(math.pi, Posit(8)) == 3.25
        assert reference.quantize_scalar(-5e-324, Posit(32)) == -(2.0**-120)


class TestFormat:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((1,), ValueError, "`word_bits` must lie between 2 and 32, got 1"),
            ((33,), ValueError, "`word_bits` must lie between 2 and 32, got 33"),
            ((8.0,), TypeError, "`word_bits` must be an integer, got 8.0"),
            ((8, -1), ValueError, "`exponent_bits` must lie between 0 and 5, got -1"),
            ((8, 6), ValueError, "`exponent_bits` must lie between 0 and 5, got 6"),
            ((8, True), TypeError, "`exponent_bits` must be an integer, got True"),
        ],
    )
    def test_what_is_refused(self, arguments: tuple, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            Posit(*arguments)

    def test_too_many_values_to_list(self) -> None:
        with pytest.raises(ValueError, match="`bits` must be at most 16 to list all values, got 17"):
            Posit(17).values()

    @pytest.mark.parametrize(("bits", "es"), [(2, 0), (8, 2), (16, 2), (32, 2), (20, 3), (9, 5)])
    def test_carriers_hold_all_values_as_normal_numbers(self, bits: int, es: int) -> None:
        format = Posit(bits, es)
        largest = format.highest_exponent
        digits = max(bits - 3 - es, 0) + 1
        for carrier in CARRIERS.values():
            held = digits <= carrier.precision and largest < carrier.highest_exponent
            assert (format.missing_in(carrier) is None) == held
        with pytest.raises(
            ValueError, match=r"exact in the carrier bfloat16 \(28 significant bits, it has 8\)"
        ):
            Posit(32).check_carrier("bfloat16")
        with pytest.raises(ValueError, match="its normal numbers do not reach from the smallest value to"):
            Posit(6, 2).check_carrier("float16")
