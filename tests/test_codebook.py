"""Codebooks by the reference: hand-made tables in every mode, and all values looked through."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

from lowprec import finfo, reference
from lowprec.formats import Binary, Codebook, Ternary, parse
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
LAST = 2**32 - 1
NEAREST = [mode for mode in Rounding if mode.startswith("nearest")]


def quantized(x: list[float], format: Codebook, mode: str, word: int = 0) -> list[float]:
    """What the reference makes of numbers, one word for all."""
    array = np.array(x)
    words = {"words": np.full(array.shape, word, np.uint32)} if Rounding(mode).is_stochastic else {}
    return reference.quantize(array, format, rounding=mode, **words).tolist()


class TestByHand:
    """Each row: what some numbers become."""

    @pytest.mark.parametrize(
        ("mode", "want"),
        [
            ("nearest_even", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("nearest_away", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("nearest_zero", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("nearest_odd", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("nearest_up", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("nearest_down", [-1, -1, -1, -1, -1, -1, 1, 1, 1, 1]),
            ("toward_zero", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("away", [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]),
            ("up", [-1, -1, 1, 1, 1, 1, 1, 1, 1, 1]),
            ("down", [-1, -1, -1, -1, -1, -1, -1, -1, 1, 1]),
            ("to_odd", [-1, -1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ],
    )
    def test_binary(self, mode: str, want: list[float]) -> None:
        x = [-9.0, -1.0, -0.5, -5e-324, -0.0, 0.0, 5e-324, 0.5, 1.0, 1.5]
        assert quantized(x, Binary(), mode) == want

    @pytest.mark.parametrize(
        ("mode", "want"),
        [
            # The positions of -1, 0 and 1 are 0, 1 and 2: zero is the odd one.
            ("nearest_even", [-1, -1, -1, 0, 0, 0, 1, 1, 1]),
            ("nearest_away", [-1, -1, -1, 0, 0, 0, 1, 1, 1]),
            ("nearest_zero", [-1, -1, 0, 0, 0, 0, 0, 1, 1]),
            ("nearest_odd", [-1, -1, 0, 0, 0, 0, 0, 1, 1]),
            ("nearest_up", [-1, -1, 0, 0, 0, 0, 1, 1, 1]),
            ("nearest_down", [-1, -1, -1, 0, 0, 0, 0, 1, 1]),
            ("toward_zero", [-1, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("away", [-1, -1, -1, -1, 0, 1, 1, 1, 1]),
            ("up", [-1, 0, 0, 0, 0, 1, 1, 1, 1]),
            ("down", [-1, -1, -1, -1, 0, 0, 0, 0, 1]),
            ("to_odd", [-1, 0, 0, 0, 0, 0, 0, 0, 1]),
        ],
    )
    def test_ternary(self, mode: str, want: list[float]) -> None:
        x = [-2.0, -0.75, -0.5, -0.25, -0.0, 0.25, 0.5, 0.75, 1.0]
        got = quantized(x, Ternary(), mode)
        assert got == want
        assert not np.signbit(got)[np.array(want) == 0].any()

    @pytest.mark.parametrize(
        ("mode", "want"),
        [
            # Across zero, without one, and farther on one side: the middle is 1.
            ("nearest_even", [-1, -1, -1, -1, 3]),
            ("nearest_odd", [-1, -1, -1, 3, 3]),
            ("nearest_away", [-1, -1, -1, 3, 3]),
            ("nearest_zero", [-1, -1, -1, -1, 3]),
            ("nearest_up", [-1, -1, -1, 3, 3]),
            ("nearest_down", [-1, -1, -1, -1, 3]),
            ("toward_zero", [-1, -1, -1, -1, -1]),
            ("away", [3, 3, 3, 3, 3]),
            ("up", [3, 3, 3, 3, 3]),
            ("down", [-1, -1, -1, -1, -1]),
            ("to_odd", [3, 3, 3, 3, 3]),
        ],
    )
    def test_across_zero(self, mode: str, want: list[float]) -> None:
        assert quantized([-0.5, -0.0, 0.0, 1.0, 1.25], Codebook([3, -1]), mode) == want

    @pytest.mark.parametrize("mode", Rounding)
    def test_past_the_ends(self, mode: Rounding) -> None:
        """Also where zero is past one, and under every word."""
        codebook = Codebook([2, 1, 1.5])
        x = [-INF, -7.0, -0.0, 0.0, 0.99, 2.01, 1e300, INF]
        for word in (0, 2**31, LAST):
            got = quantized(x, codebook, mode, word)
            assert got == [1.0] * 5 + [2.0] * 3
        words = {"words": np.zeros(8, np.uint32)} if mode.is_stochastic else {}
        below = mode not in ("toward_zero", "to_odd", "up")
        above = mode not in ("toward_zero", "to_odd", "down")
        fired = reference.overflowed(np.array(x), codebook, rounding=mode, **words)
        assert fired.tolist() == [True, *[below] * 4, above, above, True]

    def test_stochastic_across_zero(self) -> None:
        """Of -1 and 3 a positive number becomes 3 with its part of the way, a negative one -1 with its."""
        codebook = Codebook([-1, 3])
        cases = [(0.0, 3, 1), (1.0, 3, 2), (2.0, 3, 3), (-0.5, -1, 7 / 2)]  # of four words, how many
        for x, far, count in cases:
            near = 2 - far
            for bits, number in ((2, n) for n in range(4)):
                words = np.full(1, number << 30, np.uint32)
                got = {
                    mode: reference.quantize(
                        np.array([x]), codebook, rounding=mode, random_bits=bits, words=words
                    )[0]
                    for mode in ("stochastic", "stochastic_midpoint", "stochastic_nearest")
                }
                assert got["stochastic"] == (far if math.floor(count) + number >= 4 else near)
                assert got["stochastic_midpoint"] == (far if count + number + 0.5 >= 4 else near)
                assert got["stochastic_nearest"] == (far if round(count) + number >= 4 else near)
            assert quantized([x], codebook, "stochastic_equal", 2**31 - 1) == [near]
            assert quantized([x], codebook, "stochastic_equal", 2**31) == [far]

    def test_codes_are_positions(self) -> None:
        codebook = Codebook([0.5, -2, 4])
        assert reference.encode(np.float32([-9, 0.4, 3, INF]), codebook).tolist() == [1, 0, 2, 2]
        assert_same_bits(reference.decode(np.uint8([2, 0, 1]), codebook), [4, 0.5, -2])
        assert [reference.code_of(x, codebook) for x in (0.5, -2, 4.0)] == [0, 1, 2]
        with pytest.raises(ValueError, match=r"`codes` must lie between 0 and 2 for codebook<0.5,.*, got 3"):
            reference.decode(np.uint8([0, 3]), codebook)
        with pytest.raises(ValueError, match="`code` must lie between 0 and 2, got 3"):
            reference.value_of(3, codebook)
        with pytest.raises(ValueError, match="no code for NaN"):
            reference.encode(np.float32([NAN]), codebook)
        for x in (0.0, 1.0, INF):
            with pytest.raises(ValueError, match=rf"`value` must be a value of codebook<0.5,-2,4>, got {x}"):
                reference.code_of(x, codebook)


def by_looking_through(x: Fraction, values: list[Fraction], mode: Rounding, word: int) -> Fraction:
    """The value that x becomes, of ascending ones."""
    if x in values or x < values[0] or x > values[-1]:
        return min(values, key=lambda value: abs(value - x))
    low, high = max(v for v in values if v < x), min(v for v in values if v > x)
    even = low if values.index(low) % 2 == 0 else high
    odd = high if even == low else low
    own, other = (low, high) if x < 0 else (high, low)  # in the direction of its sign
    smaller, larger = (own, own) if low == -high else sorted((low, high), key=abs)
    ties = {"even": even, "odd": odd, "away": larger, "zero": smaller, "up": high, "down": low}
    if mode in NEAREST:
        if x - low != high - x:
            return low if x - low < high - x else high
        tie = mode.removeprefix("nearest_")
        return high if x == 0 and tie != "down" else ties[tie]
    if mode.is_stochastic:
        way = 2**32 * (x - other) / (own - other)
        way = {"stochastic": math.floor(way), "stochastic_nearest": round(way)}.get(
            mode, way + Fraction(1, 2)
        )
        goes = word >= 2**31 if mode == "stochastic_equal" else way + word >= 2**32
        return own if goes else other
    return {"toward_zero": smaller, "away": larger, "up": high, "down": low, "to_odd": odd}[mode]


_quarters = st.integers(-40, 40).map(lambda k: k / 4)
_numbers = st.lists(_quarters, min_size=2, max_size=9, unique=True).filter(lambda numbers: max(numbers) > 0)


@given(_numbers, st.lists(st.integers(-90, 90).map(lambda k: k / 8), min_size=5, max_size=5), st.data())
def test_any_codebook_in_every_mode(entries: list[float], x: list[float], data: st.DataObject) -> None:
    codebook = Codebook(entries)
    values = sorted(map(Fraction, entries))
    assert [Fraction(value) for value in codebook.values().tolist()] == values
    for mode in Rounding:
        word = data.draw(st.integers(0, LAST)) if mode.is_stochastic else 0
        want = [float(by_looking_through(Fraction(number), values, mode, word)) for number in x]
        assert quantized(x, codebook, mode, word) == want


class TestArguments:
    @pytest.mark.parametrize(
        ("entries", "error", "message"),
        [
            (3, TypeError, "`entries` must be a sequence of numbers, got 3"),
            ("12", TypeError, "`entries` must be a sequence of numbers, got '12'"),
            (["1", 2], TypeError, "`entries` must hold real numbers, got '1'"),
            ([True, 2], TypeError, "`entries` must hold real numbers, got True"),
            ([1j, 2], TypeError, "`entries` must hold real numbers, got 1j"),
            ([[1, 2], [3, 4]], TypeError, r"`entries` must hold real numbers, got \[1, 2\]"),
            (np.float64(3), TypeError, "`entries` must be a sequence of numbers, got "),
            ([NAN, 2], ValueError, "`entries` must hold finite numbers, and no -0.0, got nan"),
            ([1, INF], ValueError, "`entries` must hold finite numbers, and no -0.0, got inf"),
            ([1, -0.0], ValueError, "`entries` must hold finite numbers, and no -0.0, got -0.0"),
            ([1], ValueError, "`code_values` must hold 2 to 65536 values, got 1"),
            (range(2**16 + 1), ValueError, "`code_values` must hold 2 to 65536 values, got 65537"),
            ([1, 2, 1], ValueError, "`code_values` must hold each value once, got 1.0"),
            ([0, 1, 0], ValueError, "`code_values` must hold each value once, got 0.0"),
            ([0, -1], ValueError, r"`code_values` must hold a positive finite value, got \(0.0,\)"),
            ([1, 2.0**501], ValueError, r"`code_values` must have magnitudes between 2\^-500 and 2\^500"),
            ([1, -(2.0**-501)], ValueError, r"`code_values` must have magnitudes between 2\^-500 and"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, entries: object, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            Codebook(entries)

    @pytest.mark.parametrize(
        "entries",
        [[-1, 0.5], (-1.0, 0.5), np.float32([-1, 0.5]), torch.tensor([-1, 0.5]), {-1: "", 0.5: ""},
         [Fraction(-1), np.float16(0.5)], iter([-1, 0.5])],
    )  # fmt: skip
    def test_any_sequence(self, entries: object) -> None:
        assert Codebook(entries) == Codebook([-1, 0.5])
        assert Codebook([-1, 0.5]).entries == (-1.0, 0.5)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("codebook<>", "must be a known name"), ("codebook", "hold 2 to 65536 values, got 0"),
            ("codebook<1>", "hold 2 to 65536 values, got 1"), ("codebook<1,x>", "must be a known name"),
            ("codebook<1,nan>", "must be a known name"), ("codebook<1,-0>", "and no -0.0, got -0.0"),
            ("codebook<1,,2>", "must be a known name"), ("binary<1>", "must be a known name"),
            ("posit8<es1>", "must be a known name"), ("log4f3<2>", "must be a known name"),
            ("posit", "must be a known name"), ("posit8es", "must be a known name"),
            ("posit1", "`word_bits` must lie between 2 and 32, got 1"),
            ("log4", "must be a known name"), ("log0f3", "`integer_bits` must lie between 1 and"),
        ],
    )  # fmt: skip
    def test_names_of_nothing(self, name: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse(name)


@pytest.mark.parametrize(
    ("format", "name"),
    [
        (Codebook([-1, 1]), "binary"), (Codebook([1, -1]), "codebook<1,-1>"), (Binary(), "binary"),
        (Ternary(), "ternary"), (Codebook([0.1, 1e-30, 2.5e100, -3]), "codebook<0.1,1e-30,2.5e+100,-3>"),
        (Codebook([2**70, 0]), "codebook<1.1805916207174113e+21,0>"),
        (Codebook([1e22, 123456789012345680.0]), "codebook<1e+22,1.2345678901234568e+17>"),
    ],
)  # fmt: skip
def test_is_a_value(format: Codebook, name: str) -> None:
    assert str(format) == name
    assert parse(name) == format
    for same in (pickle.loads(pickle.dumps(format)), copy.deepcopy(format), Codebook(format.entries)):
        assert same == format
        assert hash(same) == hash(format)
        assert str(same) == name
    assert format != Codebook([*format.entries, 17])
    assert Codebook([1, -1]) != Binary()  # the codes differ
    with pytest.raises(AttributeError, match="cannot assign to field 'entries'"):
        format.entries = (1, 2)


def test_limits() -> None:
    info = finfo(Codebook([4, 0.5, -7, 1, 1.75]))
    assert (info.format, info.bits, info.max, info.min) == ("codebook<4,0.5,-7,1,1.75>", 3, 4, -7)
    assert (info.eps, info.smallest_normal, info.smallest_subnormal) == (0.75, 0.5, 0.5)
    assert (info.has_infinity, info.has_nan, info.has_signed_zero) == (False, False, False)
    assert finfo("binary").bits == 1
    assert [finfo(Codebook(range(count))).bits for count in (2, 4, 5, 2**16)] == [1, 2, 3, 16]
    assert finfo(Codebook([0.25, 0.75])).eps == finfo(Codebook([2, 2.5])).eps == 0.5  # none is near 1


def test_contains() -> None:
    assert [Ternary().contains(x) for x in (-1, 0, 1, -0.0, 0.5, 2, INF, NAN)] == [True] * 3 + [False] * 5
    assert [Binary().contains(x) for x in (-1, 0, 0.0, -0.0, 1.0)] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("entries", "carrier", "message"),
    [
        ([1 + 2.0**-8, 0], "bfloat16", "1.00390625 has 9 significant bits, it has 8"),
        ([0.1, 1], "float32", "0.1 has 52 significant bits, it has 24"),
        ([2.0**-25, 1], "float16", "2.9802322387695312e-08 is below its last place"),
        ([3 * 2.0**-150, 1], "float32", "2.10194769.*e-45 is below its last place"),
        ([2.0**128, 1], "float32", r"3.4028.*e\+38 is past its largest value"),
        ([-65536, 1], "float16", "-65536.0 is past its largest value"),
    ],
)
def test_carriers(entries: list[float], carrier: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"`format` must be exact in the carrier {carrier} \({message}\)"):
        Codebook(entries).check_carrier(carrier)
    Codebook(entries).check_carrier("float64")
    dtype = {"bfloat16": np.float32}.get(carrier, carrier)
    with pytest.raises(ValueError, match=message):
        reference.quantize(np.ones(1, dtype), Codebook(entries), carrier=carrier)


@pytest.mark.parametrize("entry", [2**53 + 1, Fraction(1, 3)])
def test_a_number_that_float64_does_not_hold_is_refused(entry):
    with pytest.raises(ValueError, match="`entries` must be float64 numbers, got"):
        Codebook([entry, 1])
    assert Codebook([Fraction(1, 4), 2**60]).entries == (0.25, 2.0**60)


def test_a_number_past_float64_is_refused():
    with pytest.raises(ValueError, match="`entries` must hold finite numbers"):
        Codebook([10**400, 1])
