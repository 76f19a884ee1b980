"""Single operations against the definition: what they lose, how it is rounded, whole grids."""

from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import floor
from typing import Any

import numpy as np
import pytest
from comparison import assert_same_bits
from elementary_cases import OPERATIONS, operands, results, words_at

from lowprec import reference
from lowprec.formats import FixedPoint, FloatingPoint, parse
from lowprec.formats.carriers import CARRIERS
from lowprec.kernels.elementary import UNIT, operating
from lowprec.kernels.exact import LEADING
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.operate import OPERATIONS as KINDS
from lowprec.kernels.operate import is_quick, is_wide
from lowprec.kernels.operations import on_grid
from lowprec.kernels.scalar import ABOVE
from lowprec.kernels.specialize import rebound, specialized
from lowprec.modes import Rounding
from lowprec.reference.elementary import exact_result
from lowprec.reference.elements import Stepped

DTYPES = [np.float32, np.float64]
FORMATS = ["e4m3fn", "e5m2", "bfloat16", "fixed8f4", "e3m0ieee", "e4m3fn<nosubnormals>", "e4m3fnuz", "e2m1"]
WIDE = [
    *FORMATS, "binary32", "binary64", "e11m20ieee", "fixed8f0<wrap>", "fixed8f4<wrap>", "ufixed6f2<wrap>",
    "ufixed6f2", "fixed24f8",
]  # fmt: skip


def in_binary64(operation: str, given: list[np.ndarray], *, down: bool = False) -> np.ndarray:
    """What the first loop makes of operands, before anything is rounded to a format."""
    out, name = np.zeros(given[0].size), str(given[0].dtype)
    if operation == "sub":
        operation, given = "add", [given[0], -given[1]]
    x, y, z = (*(a.ctypes.data for a in given), 0, 0)[:3]
    units = -(-out.size // UNIT)
    operating(KINDS[operation], name)(x, y, z, out.ctypes.data, 0, down, out.size, 0, units, 0, 0, 0)
    return out


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_in_binary64_are_rounded_to_odd(operation: str, dtype: type) -> None:
    given = operands(operation, dtype, seed=1)
    want = reference.elementary(
        operation, [x.astype(np.float64) for x in given], "binary64", rounding="to_odd"
    )
    assert_same_bits(in_binary64(operation, given), want)
    with np.errstate(all="ignore"):
        exact = reference.elementary(
            operation, [x.astype(np.float64) for x in given], "e5m2", rounding="down"
        )
    zeros = (want == 0) & (exact == 0)
    got = in_binary64(operation, given, down=True)
    assert np.array_equal(np.signbit(got[zeros]), np.signbit(exact[zeros]))


@pytest.mark.parametrize("rounding", ["nearest_even", "down"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_in_e4m3fn(operation: str, rounding: str) -> None:
    given = operands(operation, np.float32, seed=2, count=60)
    got = results(operation, given, "e4m3fn", rounding)
    assert_same_bits(got, reference.elementary(operation, given, "e4m3fn", rounding=rounding))


@pytest.mark.parametrize("word", [0, 0x9E3779B9, 2**32 - 1])
def test_drawn_results_in_e4m3fn_and_in_binary32(word: int) -> None:
    """The first from binary64, the second from significands: 24 and 34 bits are more than 53."""
    given = operands("fma", np.float32, seed=3, count=60)
    words = np.full(given[0].shape, word, np.uint32)
    for name in ("e4m3fn", "binary32"):
        want = reference.elementary("fma", given, name, rounding="stochastic", words=words)
        assert_same_bits(results("fma", given, name, "stochastic", word=word), want)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_in_binary64_itself(operation: str) -> None:
    given = operands(operation, np.float64, seed=4, count=60)
    got = results(operation, given, "binary64", "nearest_even")
    assert_same_bits(got, reference.elementary(operation, given, "binary64"))


@pytest.mark.parametrize("name", ["e5m2", "binary32"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nan_is_one_pattern_whatever_nan_it_comes_from(operation: str, name: str) -> None:
    for dtype in DTYPES:
        rows = [np.array(row, dtype) for row in product([np.nan, -np.nan, 1, -np.inf], repeat=3)]
        given = [np.ascontiguousarray(x) for x in np.array(rows).T[: OPERATIONS[operation]]]
        got = results(operation, given, name, "nearest_even")
        of_nan = got[np.isnan(got)]
        assert of_nan.size > 20
        assert set(of_nan.tobytes()) == set(np.array(np.nan, dtype).tobytes())
        assert len(np.unique(of_nan.view(f"u{of_nan.itemsize}"))) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_that_pattern_where_the_processor_makes_it(dtype: type) -> None:
    got = results("sqrt", [np.array([-1, -4, 4], dtype)], "e5m2", "nearest_even")
    assert got.tobytes() == np.array([np.nan, np.nan, 2], dtype).tobytes()


@pytest.mark.parametrize("operation", ["add", "mul", "div", "fma"])
def test_wrapped_results_are_exact_or_refused(operation: str) -> None:
    rng = np.random.default_rng(5)
    given = [rng.integers(-(2**20), 2**20, 400) / 8 for _ in range(OPERATIONS[operation])]
    given[1][given[1] == 0] = 1
    got = results(operation, given, "fixed8f2<wrap>", "nearest_even")
    assert_same_bits(got, reference.elementary(operation, given, "fixed8f2<wrap>"))
    apart = [np.array([2.0**62]), np.array([0.75]), np.array([1.0])]
    if operation in ("add", "div"):
        assert results(operation, apart[: OPERATIONS[operation]], "fixed8f2<wrap>", "nearest_even") is None


class TestDefinition:
    @pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "sqrt"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_is_what_processors_do_in_a_format_that_is_a_carrier(self, operation: str, dtype: type) -> None:
        given = operands(operation, dtype, seed=6)
        function = {"sub": np.subtract, "mul": np.multiply, "div": np.divide}.get(operation)
        with np.errstate(all="ignore"):
            want = (function or getattr(np, operation))(*given)
        name = {np.float32: "binary32", np.float64: "binary64"}[dtype]
        assert_same_bits(reference.elementary(operation, given, name), want)

    def test_a_product_and_a_sum_are_rounded_once(self) -> None:
        x, z = np.float32([1.125]), np.float32([-1.25])
        fused = reference.elementary("fma", [x, x, z], "e4m3fn")
        product_first = reference.elementary("mul", [x, x], "e4m3fn")
        assert (fused, product_first + z) == (0.015625, 0.0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("pow", [1, 2], "e5m2"), "`operation` must be one of add, sub, mul, div, sqrt, fma, got 'pow'"),
            (("add", [1], "e5m2"), "`operands` must be 2 arrays for add, got 1"),
        ],
    )
    def test_refuses_what_is_no_operation(self, arguments, message) -> None:
        operation, numbers, format = arguments
        with pytest.raises(ValueError, match=message):
            reference.elementary(operation, [np.float32([n]) for n in numbers], format)

    def test_refuses_operands_that_differ(self) -> None:
        with pytest.raises(ValueError, match="`operands` must have one dtype and shape, got"):
            reference.elementary("add", [np.float32([1]), np.float64([1])], "e5m2")
        with pytest.raises(TypeError, match="`format` must be a floating-point or fixed-point format, got"):
            reference.elementary("add", [np.float32([1])] * 2, "bfp8")


def significand_of(x: Fraction) -> tuple[np.uint64, np.int64]:
    """A positive number to odd in as many bits as exact.py gives, and the place of the last."""
    place = x.numerator.bit_length() - x.denominator.bit_length() - LEADING
    while x / Fraction(2) ** place >= 2 ** (LEADING + 1):
        place += 1
    while x / Fraction(2) ** place < 2**LEADING:
        place -= 1
    whole = floor(x / Fraction(2) ** place)
    return np.uint64(whole | (Fraction(2) ** place * whole != x)), np.int64(place)


@lru_cache(maxsize=64)
def plain_decisions(name: str, rounding: Rounding, bits: int) -> tuple[Any, Any, tuple[Any, ...]]:
    """What rounds significands and ends them, not compiled, and the numbers of a format."""
    numbers, _, ending = describe(parse(name), rounding, bits, "float64")
    names = specialized(
        "float64", MODES[rounding], ABOVE, ending, full=bits == 32, digits=LEADING, compiler=lambda f: f
    )
    own = specialized("float64", MODES[rounding], ABOVE, ending, full=bits == 32, compiler=lambda f: f)
    grid = rebound(on_grid, {**names, "LEADING": LEADING})
    return grid, own["ended"], tuple(numbers)


def rounded_wide(x: Fraction, name: str, rounding: Rounding, random_bits: int | None, word: int) -> float:
    """A number rounded by the decisions about significands, in plain Python."""
    grid, ended, numbers = plain_decisions(name, rounding, random_bits or 32)
    with np.errstate(over="ignore"):
        ceiling = np.uint32(2**32 - 1 - max(word, 0))
        whole, place, _ = grid(*significand_of(abs(x)), x < 0, ceiling, numbers)
        magnitude = Fraction(int(whole)) * Fraction(2) ** int(place)
        pattern = np.array([np.inf if magnitude >= 2**1024 else float(magnitude)]).view(np.uint64)[0]
        sign = np.uint64(2**63 if x < 0 else 0)
        result = ended(np.uint64(0), sign, pattern, numbers)
    return float(np.array([result], np.uint64).view(np.float64)[0])


def numbers_around(format: FloatingPoint | FixedPoint) -> list[Fraction]:
    """Values of a format, ties, and what lies just beside them; far below and far above all."""
    least, largest = Fraction(format.smallest_subnormal), Fraction(format.max)
    digits = format.mantissa_bits if isinstance(format, FloatingPoint) else format.bits - 2
    last = Fraction(format.smallest_normal) if isinstance(format, FloatingPoint) else least
    points = [
        least,
        last,
        largest,
        Fraction(3) * least,
        Fraction(1),
        largest - least,
        last * (2 - Fraction(1, 2**digits)),
    ]
    tiny = Fraction(1, 2**70)
    found = [p * (1 + part) for p in points for part in (0, tiny, -tiny, Fraction(1, 2 ** (digits + 1)))]
    found += [
        least / 2,
        least / 2 * (1 + tiny),
        least / 2 * (1 - tiny),
        least / 2**90,
        largest * 2,
        largest * 2**40,
    ]
    found += [
        largest + Fraction(2) ** -digits * largest / 2,
        Fraction(1, 3) * largest,
        Fraction(10, 7) * least,
    ]
    return [sign * x for x in found if x > 0 for sign in (1, -1)]


@pytest.mark.parametrize("rounding", list(Rounding), ids=str)
def test_significands_are_rounded_in_every_mode(rounding: Rounding) -> None:
    tried = 0
    for index, name in enumerate(WIDE):
        format = parse(name)
        choices = (None, 7, 1)[index % 3 :: 3] if rounding.takes_random_bits else (None,)
        for random_bits in choices:
            if not is_wide(format, rounding, random_bits):
                continue
            words = words_at(rounding, random_bits)
            for k, x in enumerate(numbers_around(format)):
                if format.overflow == "wrap" and abs(x) > format.max:
                    continue
                word = words[(k + index) % len(words)]
                want = Stepped(format).exactly(x, rounding, random_bits or 32, max(word, 0))
                assert repr(rounded_wide(x, name, rounding, random_bits, word)) == repr(want), (name, x, word)
                tried += 1
    assert tried > 400


@pytest.mark.parametrize("rounding", [r for r in Rounding if r.takes_random_bits], ids=str)
def test_every_word_decides_at_its_threshold(rounding: Rounding) -> None:
    """With few bits all words; with all of them those on either side of where the choice turns."""
    format, element = "e4m3fn", Stepped(parse("e4m3fn"))
    for part in (
        Fraction(1, 8),
        Fraction(3, 16),
        Fraction(1, 3),
        Fraction(2**40 - 1, 2**40),
        Fraction(1, 2**33),
    ):
        x = 1 + part / 8
        for word in range(0, 2**32, 2**28):
            want = element.exactly(x, rounding, 4, word)
            assert rounded_wide(x, format, rounding, 4, word) == want, (part, word)
        turns = 2**32 - floor(part * 2**32)
        for word in {max(turns - 2, 0), turns - 1, min(turns, 2**32 - 1), min(turns + 1, 2**32 - 1)}:
            want = element.exactly(x, rounding, 32, word)
            assert rounded_wide(x, format, rounding, None, word) == want, (part, word)


def test_which_way_a_format_goes() -> None:
    """With room for two bits below the last place, or for those of a word and two, in 53 or 62."""
    even, drawn = Rounding.NEAREST_EVEN, Rounding.STOCHASTIC
    ways = {
        ("binary32", even, None): (True, True), ("binary32", drawn, None): (False, True),
        ("binary32", drawn, 27): (True, True), ("binary32", drawn, 28): (False, True),
        ("binary64", even, None): (False, True), ("binary64", drawn, 7): (False, True),
        ("binary64", drawn, 8): (False, False), ("e11m20ieee", even, None): (False, True),
        ("posit32", even, None): (True, False), ("posit32", drawn, None): (False, False),
        ("normalfloat4", even, None): (True, False), ("normalfloat4", drawn, None): (False, False),
        ("log4f3", even, None): (False, False), ("fixed8f0<wrap>", even, None): (False, True),
    }  # fmt: skip
    found = {key: (is_quick(parse(key[0]), *key[1:]), is_wide(parse(key[0]), *key[1:])) for key in ways}
    assert found == ways


def key_of(x: Fraction | float) -> Fraction | str:
    """What tells numbers apart, zeros of either sign too, and NaN not from itself."""
    return x if isinstance(x, Fraction) else repr(x)


def assert_every_mode(operation: str, given: list[np.ndarray], formats: list[tuple[int, str]]) -> None:
    """Results on a whole grid, of which each exact one is rounded once in every mode."""
    rows = [list(row) for row in zip(*(x.tolist() for x in given), strict=True)]
    plain, down = (
        [exact_result(operation, row, mode) for row in rows]
        for mode in (Rounding.NEAREST_EVEN, Rounding.DOWN)
    )
    exact = {key_of(x): x for x in (*plain, *down)}
    for index, name in formats:
        element = Stepped(parse(name))
        for rounding in Rounding:
            random_bits = (None, 5, 1, 9)[index] if rounding.takes_random_bits else None
            for word in words_at(rounding, random_bits)[index::4] or [-1]:
                options = rounding, random_bits or 32, max(word, 0)
                rounded = {
                    key: element.exactly(x, *options)
                    if isinstance(x, Fraction)
                    else element.quantized(x, *options)[0]
                    for key, x in exact.items()
                }
                numbers = down if rounding is Rounding.DOWN else plain
                want = np.array([rounded[key_of(x)] for x in numbers])
                got = results(operation, given, name, str(rounding), random_bits, word)
                assert_same_bits(got, want)


@pytest.mark.exhaustive
@pytest.mark.parametrize("format", list(enumerate(["e4m3fn", "e5m2", "fixed8f4", "bfloat16"])), ids=str)
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
def test_all_pairs_of_values_of_8_bits(operation: str, format: tuple[int, str]) -> None:
    """256 by 256 values of two formats, into several."""
    codes = np.arange(256, dtype=np.uint8)
    pairs = np.array(list(product(codes, codes)), np.uint8)
    given = [
        np.ascontiguousarray(reference.decode(pairs[:, k], name).astype(np.float32))
        for k, name in enumerate(("e4m3fn", "e5m2"))
    ]
    assert_every_mode(operation, given, [format])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_roots_of_all_numbers_of_16_bits(name: str) -> None:
    codes = np.arange(2**16, dtype=np.uint16)
    half = codes.view(np.float16).astype(np.float32)
    x = half if name == "float16" else (codes.astype(np.uint32) << 16).view(np.float32)
    assert_every_mode("sqrt", [x], list(enumerate(["e4m3fn", "bfloat16", "fixed8f4"])))


@pytest.mark.exhaustive
@pytest.mark.parametrize("rounding", list(Rounding), ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_operands_in_every_mode_and_format(dtype: type, operation: str, rounding: Rounding) -> None:
    for seed, name in enumerate(WIDE):
        random_bits = (None, 5, 7)[seed % 3] if rounding.takes_random_bits else None
        if parse(name).missing_in(CARRIERS[np.dtype(dtype).name]) or not is_wide(
            parse(name), rounding, random_bits
        ):
            continue
        given = operands(operation, dtype, seed=seed)
        for word in words_at(rounding, random_bits)[seed % 3 :: 3] or words_at(rounding, random_bits)[:1]:
            got = results(operation, given, name, str(rounding), random_bits, word)
            if got is None:
                assert "wrap" in name
                continue
            words = None if word < 0 else np.full(given[0].shape, word, np.uint32)
            want = reference.elementary(
                operation, given, name, rounding=rounding, random_bits=random_bits, words=words
            )
            assert_same_bits(got, want)
