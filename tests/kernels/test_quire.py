"""Sums that are exact until they are rounded once, bit for bit as the definition says."""

import math

import numpy as np
import pytest
from product_cases import assert_defined, assert_same, multiplied, raw

from lowprec import Arithmetic
from lowprec.modes import Rounding
from lowprec.reference import product

EXACT = Arithmetic("exact")
SEED = 2**63 + 5
SOME = [
    (EXACT, "float32"),
    (EXACT, "float64"),
    (Arithmetic("exact", rounding="stochastic"), "float64"),
    (Arithmetic("exact", rounding="down", multiply="binary16", multiply_rounding="stochastic"), "float32"),
    (Arithmetic("exact", rounding="stochastic", chunk=5, chunk_accumulate="binary32"), "float32"),
]


def adversarial(rng: np.random.Generator, dtype: str, rows: int = 4, depth: int = 13, columns: int = 5):
    """Factors of full significands and all exponents, of which most cancel, or lie on ties.

    Every other row is antisymmetric, but for one number far below the others, in its middle.
    """
    bits, low, high = {"float16": (11, -14, 7), "float32": (24, -149, 63), "float64": (53, -1074, 500)}[dtype]
    digits = rng.integers(1 << (bits - 1), 1 << bits, (1, rows, depth))
    digits *= rng.choice([-1, 1], digits.shape)
    spread = 3 if rng.integers(2) else high - low
    start = rng.integers(low, high - spread + 1)
    a = np.ldexp(digits * 1.0, rng.integers(start, start + spread + 1, digits.shape) - bits + 1)
    near = [1, 1, -1, 0.5, 2, 1 + 2.0 ** (1 - bits), 1 - 2.0**-bits]
    b = np.repeat(rng.choice(near, (1, 1, columns)), depth, 1)
    b[:, 1] = rng.choice(near, columns)
    half = depth // 2
    a[0, ::2, :half] = -a[0, ::2, half + 1 :]
    a[0, ::2, half] *= 2.0 ** -rng.integers(1, bits + 2)
    a[0, ::4, half - 1] += a[0, ::4, half]  # of a tie, or not
    return a.astype(dtype), b.astype(dtype)


def narrow(rng: np.random.Generator, dtype: str):
    """Factors of a few digits, whose sums binary64 holds, and zeros of either sign."""
    digits = rng.integers(-3, 4, (1, 4, 13)) * rng.choice([1.0, -1.0], (1, 4, 13))
    a = digits.astype(dtype)
    b = (np.round(raw(rng, 1, 13, 5, spread=1) * 8) / 8).astype(dtype)
    a[0, 1], a[0, 2, 3:] = 0, -0.0
    b[0, :, 2] = np.abs(b[0, :, 2])
    return a, b


def assert_exact(arithmetic: Arithmetic, dtype: str, trials: int) -> None:
    """Sums that cancel, ties, subnormals, overflow; with a bias and without."""
    rng = np.random.default_rng(11)
    seed = SEED if arithmetic.is_stochastic else None
    for trial in range(trials):
        a, b = narrow(rng, dtype) if trial % 3 == 2 else adversarial(rng, dtype)
        if arithmetic.multiply is not None:
            a, b = a.astype(np.float32).astype(dtype), b.astype(np.float16).astype(dtype)
        bias = a[0, 0, :5].copy() if trial % 2 else None
        got = multiplied(a, b, arithmetic, bias=bias, seed=SEED - 2**64 if seed else 0)
        assert_same(got, product(a, b, arithmetic, bias=bias, seed=seed), f"{arithmetic.describe()} {trial}")


@pytest.mark.parametrize(("arithmetic", "dtype"), SOME, ids=lambda x: getattr(x, "describe", lambda: x)())
def test_a_sum_is_rounded_once(arithmetic: Arithmetic, dtype: str) -> None:
    """In each way that there is to compute it."""
    assert_exact(arithmetic, dtype, 12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mode", list(Rounding), ids=str)
def test_a_sum_is_rounded_once_in_every_mode(mode: Rounding, dtype: str) -> None:
    """To each carrier; products rounded or not, chunks summed in wide and narrow formats."""
    for random_bits in (None, 7) if mode.takes_random_bits else (None,):
        assert_exact(Arithmetic("exact", rounding=mode, random_bits=random_bits), dtype, 24)
    if dtype == "float32":
        for options in (
            {"multiply": "e4m3fn<nosubnormals>", "multiply_rounding": "stochastic"},
            {"chunk": 6, "chunk_accumulate": "e4m3fn"},
            {"chunk": 100, "chunk_accumulate": "fixed16f8"},
        ):
            assert_exact(Arithmetic("exact", rounding=mode, **options), dtype, 24)


def test_a_sum_of_binary64_is_what_fsum_gives() -> None:
    """Of exact products of 26-bit factors, over 600 binades; another oracle."""
    rng = np.random.default_rng(5)
    for spread in (2, 40, 300):
        a, b = (
            np.ldexp(rng.integers(-(2.0**26), 2.0**26, shape) * 1.0, rng.integers(-spread, spread + 1, shape))
            for shape in ((1, 5, 40), (1, 40, 7))
        )
        want = [[math.fsum(a[0, i] * b[0, :, j]) for j in range(7)] for i in range(5)]
        assert_same(multiplied(a, b, EXACT), np.array([want]))


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 24), ("float64", 53)])
def test_what_lies_far_below_a_sum_decides_a_tie(dtype: str, digits: int) -> None:
    """One more, or one less, further down than 128 bits, on ties below even and odd values."""
    half, step = 2.0**-digits, 2.0 ** (1 - digits)
    for far in (2.0**-120, 2.0**-127, 2.0**-128, 2.0**-129, 2.0**-140, 2.0**-200):
        for lead, down, up in ((1.0, 1.0, 1 + step), (1 + step, 1 + step, 1 + 2 * step)):
            root = 2.0 ** (math.log2(far) // 2)
            a = np.array([[[lead, half, x * root] for x in (1.0, -1.0, 0.0)]], dtype)
            b = np.array([[[1.0], [1.0], [far / root]]], dtype)
            got = multiplied(a.reshape(1, 3, 3), b, EXACT).ravel().tolist()
            assert got == [up, down, down if lead == 1.0 else up]


def test_factors_of_53_bits_are_multiplied_exactly() -> None:
    """(1 + e)^2 - (1 + 2 e) is e^2, and (2^53 - 1)^2 odd; products below the smallest number count, too."""
    e = 2.0**-52
    a, b = np.array([[[1 + e, -1 - 2 * e]]]), np.array([[[1 + e], [1]]])
    assert multiplied(a, b, EXACT).item() == e * e
    odd = 2.0**53 - 1
    assert multiplied(np.array([[[odd, -(2.0**53)]]]), np.array([[[odd], [odd - 1]]]), EXACT).item() == 1
    tiny = np.full((1, 1, 2**10), 2.0**-1074)
    assert multiplied(tiny, np.full((1, 2**10, 1), 2.0**-10), EXACT).item() == 2.0**-1074
    assert multiplied(tiny, np.full((1, 2**10, 1), 2.0**-11), EXACT).item() == 0


def test_a_whole_sum_overflows_where_ieee_754_says() -> None:
    """From half a last place above the largest number on; sums on the way may be larger."""
    largest = float(np.finfo(np.float32).max)
    a = np.float32([[[largest, largest, -largest, 2.0**103], [largest, largest, -largest, 2.0**102]]])
    ones = np.ones((1, 4, 1), np.float32)
    assert multiplied(a, ones, EXACT).ravel().tolist() == [math.inf, largest]
    assert_defined(a, ones, EXACT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_number_follows_ieee_then_the_format(dtype: str) -> None:
    """Infinity less infinity, zero times infinity, NaN; next to numbers; in each kind of sum."""
    inf, nan = math.inf, math.nan
    rows = [[inf, 1, -inf], [inf, 1, 1], [0, 2, nan], [0, 1, 1], [-inf, -1, 0], [-0.0, 1, 3]]
    a = np.array([rows], dtype)
    b = np.array([[[1, inf, -1, 0], [2, 3, 0, 1], [1, 1, 1, inf]]], dtype)
    for scale in (1, 2.0**-130):
        assert_defined(a * dtype_of(dtype, scale), b, EXACT, bias=np.array([1, -inf, nan, inf], dtype))
        assert_defined(a, b * dtype_of(dtype, scale), EXACT)
    if dtype == "float32":
        chunked = Arithmetic("exact", rounding="stochastic", chunk=5, chunk_accumulate="binary32")
        assert_defined(np.tile(a, (1, 1, 3)), np.tile(b, (1, 3, 1)), chunked, seed=3)


def dtype_of(dtype: str, x: float) -> np.generic:
    """A number of a type."""
    return np.dtype(dtype).type(x)


def test_empty_sums_are_rounded_biases() -> None:
    """Nothing at all sums to +0, under down as well."""
    a, b = np.empty((2, 3, 0), np.float32), np.empty((2, 0, 4), np.float32)
    assert_same(multiplied(a, b, EXACT), np.zeros((2, 3, 4), np.float32))
    assert_defined(a, b, EXACT, bias=np.float32([0.3, -0.0, 1, math.inf]))
    empty = np.empty((1, 2, 0)), np.empty((1, 0, 3))
    assert_defined(*empty, EXACT, bias=np.array([5e-324, -1.7e308, 0.1]))
    for arithmetic, seed in ((SOME[3][0], 1), (SOME[4][0], 2)):
        assert_defined(a, b, arithmetic, seed=seed)
    assert multiplied(np.empty((0, 3, 5), np.float32), np.empty((0, 5, 4), np.float32), EXACT).size == 0


def test_threads_change_no_bit() -> None:
    """Units are shared, and strides read in place."""
    rng = np.random.default_rng(1)
    a, b = raw(rng, 3, 7, 90), raw(rng, 3, 90, 41)
    for arithmetic in (EXACT, SOME[4][0]):
        want = multiplied(a, b, arithmetic, seed=3)
        for threads in (2, 3):
            assert_same(multiplied(a, b, arithmetic, seed=3, threads=threads), want)
        assert_same(multiplied(a[1:2], b[1:2], EXACT), multiplied(a, b, EXACT)[1:2])
    turned = np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert_same(multiplied(turned, np.broadcast_to(b[:1], b.shape), EXACT), multiplied(a, b[[0] * 3], EXACT))


def test_products_that_binary64_does_not_hold_are_not_rounded() -> None:
    """They would be rounded twice."""
    wide = np.full((1, 1, 1), 1 + 2.0**-52)
    with pytest.raises(ValueError, match="have exact products in float64"):
        multiplied(wide, wide, Arithmetic("exact", multiply="binary32"))


def test_flushing_subnormals_changes_no_exact_sum() -> None:
    """Neither of operands nor of results."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    a, b = raw(rng, 1, 4, 9) * np.float32(2.0**-140), raw(rng, 1, 9, 4)
    deep = adversarial(rng, "float64")
    want = product(a, b, EXACT, bias=a[0, :, 0]), product(*deep, EXACT)
    try:
        torch.set_flush_denormal(True)
        got = multiplied(a, b, EXACT, bias=a[0, :, 0]), multiplied(*deep, EXACT)
    finally:
        torch.set_flush_denormal(False)
    assert_same(got[0], want[0])
    assert_same(got[1], want[1])
