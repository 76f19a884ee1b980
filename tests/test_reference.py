"""The reference against lists of values in every mode; the arguments it takes and refuses."""

import math
from fractions import Fraction
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pytest
from comparison import assert_same_bits, words_like
from hard_formats import modes_of
from hard_inputs import all_bfloat16, hard_values
from peer_cases import PEER_CASES, PeerCase

from lowprec import reference
from lowprec.formats import (
    NAMED,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Format,
    parse,
)
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan
ALL_ONES = 2**32 - 1

LISTED = [
    "e1m1fn", "e1m3ieee<bias2>", "e2m0fnuz", "e2m1", "e2m1fnuz<nosubnormals>", "e3m0fn<bias-4>",
    "e3m0ieee<saturate>", "e3m2<nosubnormals>", "e3m2ieee<nosubnormals,infinity>",
    "e3m2ieee<saturate_all>", "e2m2fnuz<infinity>", "e4m3fn<infinity>", "e4m3ieee<bias11>",
    "fixed2f0", "fixed4f1<symmetric>", "fixed5f-3", "fixed4f9", "fixed3f1<wrap>", "ufixed1f0",
    "ufixed3f2", "ufixed3f-1<wrap>", "fixedf1<unbounded>",
]  # fmt: skip
"""Formats few enough of whose values can be looked through."""


class Entry(NamedTuple):
    """A value of a format continued past its ends."""

    value: Fraction
    is_odd: bool


def line(format: FloatingPoint | FixedPoint) -> list[Entry]:
    """All values, negative ones too, and some past the ends, ascending."""
    if isinstance(format, FloatingPoint):
        codes = range(format.largest_code + 40)
        entries = [Entry(format.magnitude(code), code % 2 == 1) for code in codes]
        if not format.subnormals:  # their codes stand for zero
            entries = entries[:1] + entries[1 << format.mantissa_bits :]
    else:
        entries = [Entry(number * format.step, number % 2 == 1) for number in range(80)]
    return [Entry(-value, is_odd) for value, is_odd in entries[:0:-1]] + entries


def chosen(x: Fraction, low: Entry, high: Entry, rounding: Rounding, word: int, bits: int) -> Fraction:
    """Which of two neighbors on the real line a mode takes, said once more in other words."""
    near, far = sorted((low, high), key=lambda entry: abs(entry.value))
    odd, even = (low, high) if low.is_odd else (high, low)
    if not low.is_odd and not high.is_odd:  # zero and the smallest normal: the latter counts as odd
        odd, even = far, near
    ways = {
        "even": even, "odd": odd, "zero": near, "toward_zero": near, "away": far, "up": high,
        "down": low, "to_odd": odd,
    }  # fmt: skip
    if rounding.startswith("nearest_"):
        left, right = x - low.value, high.value - x
        if left != right:
            return min((left, low.value), (right, high.value))[1]
        return ways[rounding.removeprefix("nearest_")].value
    if not rounding.is_stochastic:
        return ways[rounding].value
    fraction = (x - near.value) / (far.value - near.value)
    drawn = Fraction(word >> (32 - bits), 2**bits)
    goes_far = {
        "stochastic": Fraction(math.floor(fraction * 2**bits), 2**bits) + drawn >= 1,
        "stochastic_midpoint": fraction + drawn + Fraction(1, 2 ** (bits + 1)) >= 1,
        "stochastic_nearest": Fraction(round(fraction * 2**bits), 2**bits) + drawn >= 1,
        "stochastic_equal": word >> 31 == 1,
    }[rounding]
    return (far if goes_far else near).value


def settled(value: Fraction, positive: bool, rounding: Rounding, format: FloatingPoint | FixedPoint) -> float:
    """What the overflow rule makes of a rounded value; the sign of zero is that of the input."""
    if format.overflow == "wrap":
        while not format.min <= value <= format.max:
            value += 2**format.bits * format.step * (1 if value < 0 else -1)
        return float(value)
    if format.min <= value <= format.max:
        signed = value != 0 or positive or not format.has_signed_zero
        return float(value) if signed else -0.0
    end = format.max if value > 0 else format.min
    stops = {"toward_zero", "to_odd", "down" if value > 0 else "up"}
    if rounding in stops or format.overflow != "infinity":
        return end
    return math.copysign(INF, value) if format.has_infinity else NAN


class TestAgainstTheListOfValues:
    """Small formats: the neighbors are found by looking through all values, the ends by comparing."""

    @pytest.mark.parametrize("name", LISTED)
    def test_finite_values_in_every_mode(self, name: str) -> None:
        format = parse(name)
        entries = line(format)
        x = hard_values(format)
        x = x[np.abs(x) < float(entries[-1].value)]
        x = x[:: 1 + 2 * (x.size // 300)]
        at = np.searchsorted([float(entry.value) for entry in entries], x, side="right") - 1
        modes = [(mode, 32) for mode in Rounding] + [
            (mode, bits) for mode in Rounding if mode.takes_random_bits for bits in (1, 2, 7)
        ]
        for (rounding, bits), word in product(modes, (0, 0x55555555, 1 << 31, ALL_ONES)):
            if not rounding.is_stochastic and word > 0:
                continue
            noise = {"words": np.full(x.shape, word, np.uint32)} if rounding.is_stochastic else {}
            if rounding.takes_random_bits:
                noise["random_bits"] = bits
            got = reference.quantize(x, format, rounding=rounding, **noise)
            want = []
            for value, place in zip(x.tolist(), at.tolist(), strict=True):
                exact, (low, high) = Fraction(value), entries[place : place + 2]
                taken = low.value if exact == low.value else chosen(exact, low, high, rounding, word, bits)
                want.append(settled(taken, math.copysign(1, value) > 0, rounding, format))
            assert_same_bits(got, want)

    @pytest.mark.parametrize("name", LISTED)
    def test_neighbors(self, name: str) -> None:
        format = parse(name)
        positive = [entry for entry in line(format) if entry.value >= 0]
        for low, high in pairwise(positive):
            for fraction in (Fraction(0), Fraction(1, 2**200), Fraction(1, 3), Fraction(1, 2)):
                magnitude = low.value + fraction * (high.value - low.value)
                want = (low.value, high.value, fraction, not low.is_odd)
                assert reference.neighbors(magnitude, format) == want


class TestUnchanged:
    @pytest.mark.parametrize("name", [name for name in NAMED if name != "nvfp4"])  # its scale is not 1
    def test_values_of_every_format_in_every_mode(self, name: str) -> None:
        format = parse(name)
        if format.bits > 16:
            x = np.array([v for v in hard_values(format, "float64")[::37] if format.contains(float(v))])
        else:
            x = format.values()[:: 1 + 2 * (format.bits > 8) * 200]
        if isinstance(format, BlockFloatingPoint):
            x = np.concatenate([x.reshape(-1, 1), np.ones((x.size, 1))], axis=1)
            name = f"bfp{format.word_bits}<group>"
        assert x.size > 10 or name in ("binary", "ternary")
        for rounding in modes_of(format):
            noise = {"words": words_like(x)} if rounding.is_stochastic else {}
            assert_same_bits(reference.quantize(x, name, rounding=rounding, **noise), x)
            assert not reference.overflowed(x, name, rounding=rounding, **noise).any()

    @pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode.is_stochastic])
    @pytest.mark.parametrize("word", [0, 1, 1 << 31, ALL_ONES])
    def test_no_word_moves_a_value(self, word: int, rounding: Rounding) -> None:
        x = np.concatenate([parse("e5m2").values(), [-0.0, INF, -INF]])
        words = np.full(x.shape, word, np.uint32)
        for bits in (1, 7, 32) if rounding.takes_random_bits else (None,):
            got = reference.quantize(x, "e5m2", rounding=rounding, words=words, random_bits=bits)
            assert_same_bits(got, x)


@pytest.mark.parametrize("case", PEER_CASES, ids=lambda case: case.name)
def test_what_other_packages_get_wrong(case: PeerCase) -> None:
    options = {"rounding": case.rounding, "random_bits": case.random_bits}
    for word in (0, ALL_ONES) if case.word is None else (case.word,):
        if Rounding(case.rounding).is_stochastic:
            options["words"] = np.full(case.input.shape, word, np.uint32)
        assert_same_bits(reference.quantize(case.input, case.format, **options), case.want)


class TestShapesAndTypes:
    @pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("name", ["e4m3fn", "fixed8f4", "bfp8"])
    def test_shape_and_dtype_are_kept(self, shape: tuple[int, ...], dtype: type, name: str) -> None:
        x = np.full(shape, 0.5, dtype)
        got = reference.quantize(x, name)
        assert_same_bits(got, x)
        assert got.dtype == dtype
        fired = reference.overflowed(x, name)
        assert fired.shape == shape
        assert fired.dtype == np.bool_

    def test_strides_do_not_matter(self) -> None:
        x = hard_values(parse("fixed8f4"))[:400].reshape(20, 20).T
        words = words_like(x)
        arguments = {"rounding": "stochastic", "words": words}
        got = reference.quantize(x, "e4m3fn", **arguments)
        assert_same_bits(got, reference.quantize(x.copy(), "e4m3fn", **arguments))

    def test_float64_is_rounded_once(self) -> None:
        # Through float32 this would be a tie, and 1.0.
        x = np.array([1 + 2.0**-11 + 2.0**-40])
        assert reference.quantize(x, "binary16") == 1 + 2.0**-10

    @pytest.mark.parametrize("name", ["e5m2", "fixed8f4<wrap>"])
    def test_scalars_agree_with_arrays(self, name: str) -> None:
        x = all_bfloat16()[::37]
        for rounding in ("nearest_even", "stochastic_nearest"):
            word = 0x12345678 if rounding == "stochastic_nearest" else None
            got = [
                reference.quantize_scalar(value, parse(name), rounding=rounding, word=word)
                for value in x.tolist()
            ]
            words = None if word is None else np.full(x.shape, word, np.uint32)
            assert_same_bits(reference.quantize(x, name, rounding=rounding, words=words), got)

    @pytest.mark.parametrize(
        "name", [name for name in NAMED if not getattr(parse(name), "levels", ()) and name[:3] != "log"]
    )
    def test_a_wider_carrier_changes_nothing(self, name: str) -> None:
        """But the least step of a block format, and what it rounds: powers, elements times scales."""
        format = parse(name)
        dtypes = [np.dtype(c.name) for c in CARRIERS.values() if c.name != "bfloat16"]
        holders = [dtype for dtype in dtypes if format.missing_in(CARRIERS[dtype.name]) is None]
        x = hard_values(format, holders[0].name)[::29].reshape(1, -1)
        x = x[:, ~np.isfinite(x[0]) | (np.abs(x[0]) > 2.0**-4)]
        for rounding in ("nearest_even", "up", "to_odd"):
            want = reference.quantize(x, name, rounding=rounding)
            for dtype in holders[1:]:
                got = reference.quantize(x.astype(dtype), name, rounding=rounding)
                assert_same_bits(got, want.astype(dtype))


class TestErrors:
    X = np.float32([0.3])
    WORDS = np.uint32([0])

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"x": [0.3]}, TypeError, r"`x` must be a float16, float32 or float64 array, got \[0.3\]"),
            ({"x": np.array([1])}, TypeError, r"`x` must be a float16, .*int64"),
            ({"format": 3}, TypeError, "`format` must be a format, a name"),
            ({"format": "e11m52ieee"}, ValueError, "`format` must be exact in the carrier float32"),
            ({"x": np.float16([1]), "format": "e8m7ieee"}, ValueError, "exact in the carrier float16"),
            ({"carrier": "bfloat16", "format": "binary16"}, ValueError, "the carrier bfloat16"),
            (
                {"carrier": "float16"},
                ValueError,
                "`carrier` must be float32 or bfloat16 for float32, got 'fl",
            ),
            (
                {"x": np.float64([1]), "carrier": "float32"},
                ValueError,
                "must be float64 for float64, got 'fl",
            ),
            ({"rounding": "upward"}, ValueError, "`rounding` must be a known name, got 'upward'"),
            ({"rounding": "stochastic"}, ValueError, "`words` must be given for stochastic"),
            ({"rounding": "stochastic_equal"}, ValueError, "`words` must be given for stochastic_equal"),
            ({"words": WORDS}, ValueError, "`words` must be None for nearest_even rounding"),
            ({"random_bits": 3}, ValueError, "`random_bits` must be None for nearest_even"),
        ],
    )
    def test_quantize(self, arguments: dict[str, object], error: type[Exception], message: str) -> None:
        for function in (reference.quantize, reference.overflowed, reference.encode):
            with pytest.raises(error, match=message):
                function(**{"x": self.X, "format": "e4m3fn", **arguments})

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"words": [0]}, TypeError, r"`words` must be a uint32 array, got \[0\]"),
            ({"words": np.int32([0])}, TypeError, "`words` must be a uint32 array, got dtype"),
            ({"words": np.uint32([0, 0])}, ValueError, r"the shape \(1,\) of `x`, got \(2,\)"),
            ({"random_bits": 0}, ValueError, "`random_bits` must lie between 1 and 32, got 0"),
            ({"random_bits": 33}, ValueError, "`random_bits` must lie between 1 and 32, got 33"),
            ({"random_bits": 1.0}, TypeError, "`random_bits` must be an integer, got 1.0"),
            (
                {"random_bits": 3, "rounding": "stochastic_equal"},
                ValueError,
                "`random_bits` must be None for stochastic_equal rounding, got 3",
            ),
        ],
    )
    def test_stochastic(self, arguments: dict[str, object], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            reference.quantize(
                self.X, "e4m3fn", **{"rounding": "stochastic", "words": self.WORDS, **arguments}
            )

    def test_a_format_of_another_family(self) -> None:
        # Its methods and properties do not matter; that it has all of them, lets it be made.
        other = type("Other", (Format,), dict.fromkeys(Format.__abstractmethods__))()
        with pytest.raises(TypeError, match="`format` must be floating, fixed or block"):
            reference.quantize(self.X, other)

    def test_scalars(self) -> None:
        with pytest.raises(TypeError, match="`format` must be a FloatingPoint, FixedPoint, Posit or Tab"):
            reference.quantize_scalar(0.3, BlockFloatingPoint(4))
        with pytest.raises(ValueError, match="`word` must be given for stochastic"):
            reference.quantize_scalar(0.3, FixedPoint(4, 1), rounding="stochastic")
        with pytest.raises(ValueError, match="`word` must lie between 0 and 4294967295"):
            reference.quantize_scalar(0.3, FixedPoint(4, 1), rounding="stochastic", word=2**32)
        with pytest.raises(ValueError, match="`format` must be exact in the carrier float64"):
            reference.quantize_scalar(0.3, FixedPoint(None, -1000, overflow="unbounded"))
