"""The reference against tables worked out by hand: every mode, at ties and beside them, both signs."""

import math

import numpy as np
import pytest
from comparison import assert_same_bits

from lowprec import reference
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
ALL_ONES, HALF = 2**32 - 1, 1 << 31
UP = 2.0**-23  # one unit in the last place of 1.0 in float32

MIRRORED = {"up": "down", "down": "up", "nearest_up": "nearest_down", "nearest_down": "nearest_up"}
"""The mode that does to -x what this one does to x; the others treat both alike."""

DETERMINISTIC = [mode for mode in Rounding if not mode.is_stochastic]


def check(x: list[float], name: str, rounding: str, want: list[float], word: int | None = None) -> None:
    """Compare for both signs, that is, the mirrored mode for the other sign."""
    positive = np.float32(x)
    words = None if word is None else np.full(positive.shape, word, np.uint32)
    got = reference.quantize(positive, name, rounding=rounding, words=words)
    assert_same_bits(got, want)
    other = MIRRORED.get(rounding, rounding)
    negative = reference.quantize(-positive, name, rounding=other, words=words)
    zero = 0.0 if "fnuz" in name or "fixed" in name else -0.0
    assert_same_bits(negative, [-value if value else zero for value in want])


#             0|¼      ¼|½      ¼|½   0|¼   1|1¼     1|1¼  next to it   3½|4     3½|4  3½|4
FLOATS = [1 / 8, 3 / 8, 0.3, 0.2, 1.125, 1.2, 1.125 - UP, 3.75, 3.6, 3.75 + 4 * UP, 4.0, 5.0]
ROUNDED_FLOATS = {
    "nearest_even": [0, 0.5, 0.25, 0.25, 1, 1.25, 1, INF, 3.5, INF, INF, INF],
    "nearest_away": [0.25, 0.5, 0.25, 0.25, 1.25, 1.25, 1, INF, 3.5, INF, INF, INF],
    "nearest_zero": [0, 0.25, 0.25, 0.25, 1, 1.25, 1, 3.5, 3.5, INF, INF, INF],
    "nearest_odd": [0.25, 0.25, 0.25, 0.25, 1.25, 1.25, 1, 3.5, 3.5, INF, INF, INF],
    "nearest_up": [0.25, 0.5, 0.25, 0.25, 1.25, 1.25, 1, INF, 3.5, INF, INF, INF],
    "nearest_down": [0, 0.25, 0.25, 0.25, 1, 1.25, 1, 3.5, 3.5, INF, INF, INF],
    "toward_zero": [0, 0.25, 0.25, 0, 1, 1, 1, 3.5, 3.5, 3.5, 3.5, 3.5],
    "away": [0.25, 0.5, 0.5, 0.25, 1.25, 1.25, 1.25, INF, INF, INF, INF, INF],
    "up": [0.25, 0.5, 0.5, 0.25, 1.25, 1.25, 1.25, INF, INF, INF, INF, INF],
    "down": [0, 0.25, 0.25, 0, 1, 1, 1, 3.5, 3.5, 3.5, 3.5, 3.5],
    "to_odd": [0.25, 0.25, 0.25, 0.25, 1.25, 1.25, 1.25, 3.5, 3.5, 3.5, 3.5, 3.5],
}
FIRED_FLOATS = {  # of 3.75, 3.6, above 3.75, 4, 5
    "nearest_even": [1, 0, 1, 1, 1], "nearest_away": [1, 0, 1, 1, 1],
    "nearest_zero": [0, 0, 1, 1, 1], "nearest_odd": [0, 0, 1, 1, 1],
    "nearest_up": [1, 0, 1, 1, 1], "nearest_down": [0, 0, 1, 1, 1],
    "toward_zero": [0, 0, 0, 0, 0], "away": [1, 1, 1, 1, 1], "up": [1, 1, 1, 1, 1],
    "down": [0, 0, 0, 0, 0], "to_odd": [0, 0, 0, 0, 0],
}  # fmt: skip


class TestFloatingPoint:
    """e2m2ieee: 0 ¼ ½ ¾ 1 1¼ 1½ 1¾ 2 2½ 3 3½, codes 0 … 11, infinity at 12, where 4 would be."""

    @pytest.mark.parametrize("rounding", DETERMINISTIC)
    def test_every_mode(self, rounding: str) -> None:
        check(FLOATS, "e2m2ieee", rounding, ROUNDED_FLOATS[rounding])
        check([0.0, INF, NAN, 2.5], "e2m2ieee", rounding, [0.0, INF, NAN, 2.5])

    @pytest.mark.parametrize("rounding", DETERMINISTIC)
    def test_saturation_and_the_flag(self, rounding: str) -> None:
        want = np.minimum(ROUNDED_FLOATS[rounding], 3.5).tolist()
        check([*FLOATS, INF], "e2m2ieee<saturate>", rounding, [*want, INF])
        check([*FLOATS, INF], "e2m2ieee<saturate_all>", rounding, [*want, 3.5])
        for sign, mode in ((1, rounding), (-1, MIRRORED.get(rounding, rounding))):
            for name, infinite in (("e2m2ieee", 0), ("e2m2ieee<saturate_all>", 1)):
                x = np.float32([*FLOATS[-5:], INF, NAN]) * sign
                fired = reference.overflowed(x, name, rounding=mode)
                np.testing.assert_array_equal(fired, [*FIRED_FLOATS[rounding], infinite, 0])

    @pytest.mark.parametrize(
        ("rounding", "want"),
        # e4m3fn: 448 has an even code; what would come next is 480, the tie 464, NaN's code odd.
        [
            ("nearest_even", [448, NAN, NAN]), ("nearest_away", [NAN, NAN, NAN]),
            ("nearest_zero", [448, NAN, NAN]), ("nearest_odd", [NAN, NAN, NAN]),
            ("nearest_up", [NAN, NAN, NAN]), ("nearest_down", [448, NAN, NAN]),
            ("toward_zero", [448, 448, 448]), ("to_odd", [448, 448, 448]),
            ("away", [NAN, NAN, NAN]), ("up", [NAN, NAN, NAN]), ("down", [448, 448, 448]),
        ],
    )  # fmt: skip
    def test_nan_for_overflow(self, rounding: str, want: list[float]) -> None:
        check([464, 464 + 2.0**-15, 1e9, INF], "e4m3fn<infinity>", rounding, [*want, NAN])

    @pytest.mark.parametrize(
        ("rounding", "want"),
        # e3m0ieee: 0 ¼ ½ 1 2 4 8; codes count exponents: ¼ is odd, ½ even, 1 odd, … 8 even, infinity odd.
        [
            ("nearest_even", [0, 0.5, 0.5, 2, 8, 8]), ("nearest_odd", [0.25, 0.25, 1, 1, 4, INF]),
            ("to_odd", [0.25, 0.25, 1, 1, 4, 8]), ("nearest_zero", [0, 0.25, 0.5, 1, 4, 8]),
            ("nearest_away", [0.25, 0.5, 1, 2, 8, INF]),
        ],
    )  # fmt: skip
    def test_without_mantissa_bits_exponents_decide_what_is_even(
        self, rounding: str, want: list[float]
    ) -> None:
        check([0.125, 0.375, 0.75, 1.5, 6, 12], "e3m0ieee", rounding, want)

    @pytest.mark.parametrize(
        ("rounding", "want"),
        # Zero and 1 are neighbors and both even.
        [
            ("nearest_even", [0, 0, 1, 0, 1]), ("nearest_odd", [0, 1, 1, 0, 1.25]),
            ("nearest_away", [0, 1, 1, 0, 1.25]), ("nearest_zero", [0, 0, 1, 0, 1]),
            ("nearest_up", [0, 1, 1, 0, 1.25]), ("nearest_down", [0, 0, 1, 0, 1]),
            ("toward_zero", [0, 0, 0, 0, 1]), ("to_odd", [1, 1, 1, 1, 1.25]),
            ("away", [1, 1, 1, 1, 1.25]), ("up", [1, 1, 1, 1, 1.25]), ("down", [0, 0, 0, 0, 1]),
        ],
    )  # fmt: skip
    def test_without_subnormals(self, rounding: str, want: list[float]) -> None:
        x = [0.5 - UP, 0.5, 0.5 + UP, 2.0**-149, 1.125]
        check(x, "e2m2ieee<nosubnormals>", rounding, want)
        check(x, "e2m2fnuz<nosubnormals,bias1>", rounding, want)

    def test_without_subnormals_the_fraction_is_that_of_the_smallest_normal(self) -> None:
        for word, up in ((0xC0000000 - 1, False), (0xC0000000, True)):
            check([0.25], "e2m2ieee<nosubnormals>", "stochastic", [1.0 if up else 0.0], word)


FIXED = [0.25, 0.75, 0.3, -0.25, -0.75, -0.3, 3.75, 3.8, -4.25, -4.3]
ROUNDED_FIXED = {
    "nearest_even": [0, 1, 0.5, 0, -1, -0.5, 3.5, 3.5, -4, -4],
    "nearest_away": [0.5, 1, 0.5, -0.5, -1, -0.5, 3.5, 3.5, -4, -4],
    "nearest_zero": [0, 0.5, 0.5, 0, -0.5, -0.5, 3.5, 3.5, -4, -4],
    "nearest_odd": [0.5, 0.5, 0.5, -0.5, -0.5, -0.5, 3.5, 3.5, -4, -4],
    "nearest_up": [0.5, 1, 0.5, 0, -0.5, -0.5, 3.5, 3.5, -4, -4],
    "nearest_down": [0, 0.5, 0.5, -0.5, -1, -0.5, 3.5, 3.5, -4, -4],
    "toward_zero": [0, 0.5, 0, 0, -0.5, 0, 3.5, 3.5, -4, -4],
    "away": [0.5, 1, 0.5, -0.5, -1, -0.5, 3.5, 3.5, -4, -4],
    "up": [0.5, 1, 0.5, 0, -0.5, 0, 3.5, 3.5, -4, -4],
    "down": [0, 0.5, 0, -0.5, -1, -0.5, 3.5, 3.5, -4, -4],
    "to_odd": [0.5, 0.5, 0.5, -0.5, -0.5, -0.5, 3.5, 3.5, -4, -4],
}
# In integers, modulo 16: 8 becomes -8, and -9 becomes 7.
WRAPPED_FIXED = {
    "nearest_even": [-4, -4, -4, 3.5],
    "nearest_away": [-4, -4, 3.5, 3.5],
    "nearest_zero": [3.5, -4, -4, 3.5],
    "nearest_odd": [3.5, -4, 3.5, 3.5],
    "nearest_up": [-4, -4, -4, 3.5],
    "nearest_down": [3.5, -4, 3.5, 3.5],
    "toward_zero": [3.5, 3.5, -4, -4],
    "away": [-4, -4, 3.5, 3.5],
    "up": [-4, -4, -4, -4],
    "down": [3.5, 3.5, 3.5, 3.5],
    "to_odd": [3.5, 3.5, 3.5, 3.5],
}


class TestFixedPoint:
    """fixed4f1: halves from -4 to 3.5; negative values are rounded as their magnitudes are."""

    @pytest.mark.parametrize("rounding", DETERMINISTIC)
    def test_every_mode(self, rounding: str) -> None:
        x, want = np.float32(FIXED), ROUNDED_FIXED[rounding]
        assert_same_bits(reference.quantize(x, "fixed4f1", rounding=rounding), want)
        got = reference.quantize(x, "fixed4f1<symmetric>", rounding=rounding)
        assert_same_bits(got, np.maximum(want, -3.5))
        got = reference.quantize(x, "fixed4f1<wrap>", rounding=rounding)
        assert_same_bits(got, [*want[:6], *WRAPPED_FIXED[rounding]])

    @pytest.mark.parametrize("rounding", DETERMINISTIC)
    def test_past_the_ends_the_flag_is_raised(self, rounding: str) -> None:
        x = np.float32([3.75, 3.8, -4.25, -4.3])
        wraps = np.array(WRAPPED_FIXED[rounding]) * x < 0
        fired = reference.overflowed(x, "fixed4f1<wrap>", rounding=rounding)
        np.testing.assert_array_equal(fired, wraps)  # the sign turns where the value wraps
        stops = {
            "toward_zero": [0, 0, 0, 0],
            "to_odd": [0, 0, 0, 0],
            "up": [1, 1, 0, 0],
            "down": [0, 0, 1, 1],
        }
        fired = reference.overflowed(x, "fixed4f1", rounding=rounding)
        np.testing.assert_array_equal(fired, stops.get(rounding, wraps))

    @pytest.mark.parametrize(
        ("x", "want"),
        [(8.0, 0), (7.5, -0.5), (12.0, -4), (-12.0, -4), (-8.0, 0), (1e30, 0), (-100.3, -4.5 + 8)],
    )
    def test_wrapping_goes_round_and_round(self, x: float, want: float) -> None:
        assert_same_bits(reference.quantize(np.float64([x]), "fixed4f1<wrap>"), [want])
        got = reference.quantize(np.float64([x]), "ufixed4f1<wrap>")
        assert_same_bits(got, [want + 8 if want < 0 else want])

    def test_infinities(self) -> None:
        x = np.float32([INF, -INF, NAN])
        for name, want, fired in [
            ("fixed4f1", [3.5, -4, NAN], [1, 1, 0]),
            ("ufixed4f1", [7.5, 0, NAN], [1, 1, 0]),
            ("fixed4f1<wrap>", [NAN, NAN, NAN], [1, 1, 0]),
            ("fixedf1<unbounded>", [INF, -INF, NAN], [0, 0, 0]),
        ]:
            for rounding in DETERMINISTIC:
                assert_same_bits(reference.quantize(x, name, rounding=rounding), want)
                np.testing.assert_array_equal(reference.overflowed(x, name, rounding=rounding), fired)

    @pytest.mark.parametrize("rounding", DETERMINISTIC)
    def test_below_zero_an_unsigned_format_has_zero_only(self, rounding: str) -> None:
        x = np.float32([-0.1, -0.3, -5, -0.0])
        assert_same_bits(reference.quantize(x, "ufixed4f1", rounding=rounding), [0, 0, 0, 0])
        small = rounding in ("away", "down")
        near = small or rounding.startswith("nearest")
        far = rounding not in ("toward_zero", "up", "to_odd")
        fired = reference.overflowed(x, "ufixed4f1", rounding=rounding)
        np.testing.assert_array_equal(fired, [small, near, far, False])

    def test_unbounded(self) -> None:
        x = np.float64([2.0**60 + 2.0**10, 1e300, -0.75, 1e-300, -1e-300])
        for rounding, want in (
            ("nearest_even", [-1, 0, 0]),
            ("away", [-1, 0.5, -0.5]),
            ("up", [-0.5, 0.5, 0]),
        ):
            got = reference.quantize(x, "fixedf1<unbounded>", rounding=rounding)
            assert_same_bits(got, [*x[:2], *want])
            assert not reference.overflowed(x, "fixedf1<unbounded>", rounding=rounding).any()


# e2m2ieee, steps of ¼ below 2: how much of the way, and the lower neighbor.
FRACTIONS = [1 + 2.0**-4, 1 + 3 * 2.0**-4, 1.125, 1 + 2.0**-23, 1.25 - 2.0**-23]  # ¼ ¾ ½ 2^-21 1-2^-21


class TestStochastic:
    @pytest.mark.parametrize(
        ("rounding", "word", "up"),
        [
            ("stochastic", 0, [0, 0, 0, 0, 0]),
            ("stochastic", HALF - 1, [0, 1, 0, 0, 1]),
            ("stochastic", HALF, [0, 1, 1, 0, 1]),
            ("stochastic", ALL_ONES - 2**11, [1, 1, 1, 0, 1]),  # one word short of 2^32 - 2^11
            ("stochastic", ALL_ONES - 2**11 + 1, [1, 1, 1, 1, 1]),
            ("stochastic", 2**11 - 1, [0, 0, 0, 0, 0]),
            ("stochastic", 2**11, [0, 0, 0, 0, 1]),
            ("stochastic_midpoint", HALF - 1, [0, 1, 0, 0, 1]),
            ("stochastic_midpoint", HALF, [0, 1, 1, 0, 1]),
            ("stochastic_nearest", HALF - 1, [0, 1, 0, 0, 1]),
            ("stochastic_nearest", HALF, [0, 1, 1, 0, 1]),
            ("stochastic_equal", 0, [0, 0, 0, 0, 0]),
            ("stochastic_equal", HALF - 1, [0, 0, 0, 0, 0]),
            ("stochastic_equal", HALF, [1, 1, 1, 1, 1]),
            ("stochastic_equal", ALL_ONES, [1, 1, 1, 1, 1]),
        ],
    )
    def test_all_bits_of_a_word(self, rounding: str, word: int, up: list[int]) -> None:
        check(FRACTIONS, "e2m2ieee", rounding, [1.25 if goes else 1.0 for goes in up], word)

    @pytest.mark.parametrize(
        ("rounding", "fractions"),
        # With two bits, of numbers 0 1 2 3: from which fraction in 32nds on does each go up?
        [
            ("stochastic", [None, 24, 16, 8]),  # frac cut to quarters, + r/4 >= 1
            ("stochastic_midpoint", [28, 20, 12, 4]),  # frac + (r + ½)/4 >= 1
            # To nearest quarters, ties to even: 4/32 to 0, 12/32 to 2, 20/32 to 2, 28/32 to 4.
            ("stochastic_nearest", [28, 21, 12, 5]),
            ("stochastic_equal", [None, None, 1, 1]),
        ],
    )
    def test_two_bits(self, rounding: str, fractions: list[int | None]) -> None:
        x = 1 + np.arange(32, dtype=np.float32) / 128  # 32nds of a step
        bits = {"random_bits": 2} if rounding != "stochastic_equal" else {}
        for number, first in enumerate(fractions):
            for below in (0, 2**30 - 1):  # bits of the word that are not looked at
                words = np.full(x.shape, (number << 30) + below, np.uint32)
                want = [1.25 if first is not None and i >= first else 1.0 for i in range(32)]
                for sign in (1, -1):
                    got = reference.quantize(sign * x, "e2m2ieee", rounding=rounding, words=words, **bits)
                    assert_same_bits(got, [sign * value for value in want])

    @pytest.mark.parametrize(
        ("rounding", "word", "want"),
        [
            # Far below one part in 2^32: what is cut off is lost, what is not cut off is not.
            ("stochastic", ALL_ONES, [0, 0, 0.25]),
            ("stochastic_midpoint", ALL_ONES, [0, 0.25, 0.25]),
            ("stochastic_nearest", ALL_ONES, [0, 0, 0.25]),  # half of 2^-32 goes to the even 0
            ("stochastic_equal", HALF, [0.25, 0.25, 0.25]),
        ],
    )
    def test_below_the_last_bit(self, rounding: str, word: int, want: list[float]) -> None:
        check([2.0**-40, 2.0**-35, 2.0**-34], "e2m2ieee", rounding, want, word)

    def test_the_tie_below_the_last_bit_goes_to_the_even_number(self) -> None:
        # Just above half of 2^-32, and 3/2 of it, which lies between the numbers 1 and 2.
        x = [2.0**-35 * (1 + UP), 3 * 2.0**-35]
        for word, want in ((ALL_ONES, [0.25, 0.25]), (ALL_ONES - 1, [0, 0.25]), (ALL_ONES - 2, [0, 0])):
            check(x, "e2m2ieee", "stochastic_nearest", want, word)

    @pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode.is_stochastic])
    def test_from_the_next_value_on_each_word_overflows(self, rounding: str) -> None:
        for word in (0, HALF, ALL_ONES):
            words = np.full(4, word, np.uint32)
            x = np.float32([4, -4, 1e9, -5])
            got = reference.quantize(x, "e2m2ieee", rounding=rounding, words=words)
            assert_same_bits(got, [INF, -INF, INF, -INF])
            assert reference.overflowed(x, "e2m2ieee", rounding=rounding, words=words).all()
