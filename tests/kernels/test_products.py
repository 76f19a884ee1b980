"""Matrix products by the kernels, bit for bit as the definition says."""

import numpy as np
import pytest
from product_cases import assert_defined, assert_same, hard, multiplied, path, raw

from lowprec import Arithmetic
from lowprec.formats.carriers import CARRIERS
from lowprec.kernels.cpu import source_hash
from lowprec.reference import product

SUMS = [
    # The type in which they are computed is that of hard operands, then that of eight-bit ones.
    Arithmetic("e4m3fn"),
    Arithmetic("bfloat16", chunk=5),
    Arithmetic("e6m9ieee", multiply="e5m2", chunk=4, chunk_accumulate="binary32"),
    Arithmetic("binary32"),
    Arithmetic("binary16", order="pairwise"),
    Arithmetic("bfloat16", compensation="kahan"),
    Arithmetic("fixed12f6<wrap>", rounding="toward_zero"),
    Arithmetic("e5m2", rounding="stochastic", multiply="e4m3fn"),
    Arithmetic("binary32", rounding="stochastic", compensation="kahan"),
]
MORE_SUMS = [
    Arithmetic("e2m1"),
    Arithmetic("e4m3fnuz", rounding="down"),
    Arithmetic("fixed8f4"),
    Arithmetic("e3m0ieee"),
    Arithmetic("bfloat16", rounding="stochastic", compensation="kahan"),
    Arithmetic("binary32", rounding="stochastic"),
    Arithmetic("e8m51ieee"),
    Arithmetic("tf32", rounding="stochastic", order="pairwise", chunk=5, chunk_accumulate="binary32"),
    Arithmetic("e8m23ieee", rounding="stochastic_midpoint", random_bits=31, order="pairwise"),
    Arithmetic("e5m20ieee", rounding="stochastic_nearest", compensation="kahan", chunk=7),
    Arithmetic("fixed32f20", rounding="stochastic"),
    Arithmetic("fixed32f20<wrap>", rounding="stochastic"),
    Arithmetic("e5m2", rounding="to_odd", chunk=3),
    Arithmetic("binary16", rounding="down", compensation="kahan"),
    Arithmetic("ufixed8f2<wrap>", rounding="up"),
    Arithmetic("bfloat16", rounding="stochastic_nearest", order="pairwise", chunk=6),
    Arithmetic(
        "e6m9ieee",
        multiply="fixed12f4<wrap>",
        multiply_rounding="stochastic_midpoint",
        random_bits=9,
    ),
    Arithmetic("tf32", order="pairwise", multiply="binary32", chunk=7, chunk_accumulate="fixed24f10"),
    Arithmetic("e5m2", rounding="stochastic_equal"),
    Arithmetic("binary8p3se", rounding="nearest_away"),
    Arithmetic("e5m2<saturate_all>", rounding="away", multiply="e5m2"),
    Arithmetic("e4m3fn<nosubnormals>"),
    Arithmetic("e4m3fn", rounding="nearest_odd", compensation="kahan", chunk=4),
]


def assert_exact(arithmetic: Arithmetic) -> None:
    """Hard operands, ordinary ones, narrow ones; with a bias."""
    rng = np.random.default_rng(7)
    seed = 2**63 + 5 if arithmetic.is_stochastic else None
    signed = None if seed is None else seed - 2**64
    name = str(arithmetic.accumulate)
    wraps = "wrap" in str(arithmetic.final) + name
    bias = raw(rng, 5, spread=1) if arithmetic.multiply is None or arithmetic.is_stochastic else None
    dtype = "float64" if arithmetic.final.missing_in(CARRIERS["float32"]) else "float32"
    if dtype == "float64" and wraps:
        bias = None  # of more bits than are looked at
    factors = [hard(rng, name, depth=18), (raw(rng, 2, 3, 9), raw(rng, 2, 9, 5))]
    if not wraps and seed is None:  # of a few digits; the others have both kinds of sums already
        factors.append((np.round(raw(rng, 1, 4, 21) * 8) / 8, np.round(raw(rng, 1, 21, 5) * 4) / 4))
    for a, b in factors:
        if wraps:
            a = np.where(np.abs(a) < 2.0**20, a, np.float32(1.5))
        a, b = a.astype(dtype), b.astype(dtype)
        bias = None if bias is None else bias.astype(dtype)
        got = multiplied(a, b, arithmetic, bias=bias, seed=signed or 0)
        assert_same(got, product(a, b, arithmetic, bias=bias, seed=seed), arithmetic.describe())


@pytest.mark.parametrize("arithmetic", SUMS, ids=lambda a: a.describe())
def test_every_step_is_the_exact_result_rounded_once(arithmetic: Arithmetic) -> None:
    """Ties made by sums, full significands, cancellation, subnormals, overflow."""
    assert_exact(arithmetic)


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", MORE_SUMS, ids=lambda a: a.describe())
def test_every_step_of_further_arithmetics_is_exact(arithmetic: Arithmetic) -> None:
    """Every kind of format, order and mode."""
    assert_exact(arithmetic)


@pytest.mark.parametrize("arithmetic", [SUMS[0], SUMS[1], SUMS[4], SUMS[7]], ids=lambda a: a.describe())
def test_threads_and_blocks_change_no_bit(arithmetic: Arithmetic) -> None:
    """Units of any size, shared by any number of threads."""
    rng = np.random.default_rng(1)
    a, b = raw(rng, 3, 7, 90), raw(rng, 3, 90, 41)
    want = multiplied(a, b, arithmetic, seed=3)
    for threads in (1, 2, 3):
        assert_same(multiplied(a, b, arithmetic, seed=3, threads=threads), want)
    for block in ((1, 1, 7), (2, 16, 32), (7, 41, 90), (3, 5, 64)):
        assert_same(multiplied(a, b, arithmetic, seed=3, threads=2, block=block), want)
    assert_same(multiplied(a[1:2], b[1:2], SUMS[0]), multiplied(a, b, SUMS[0])[1:2])


def test_a_binary32_accumulator_is_a_plain_loop() -> None:
    """In numpy's float32, product by product; products exact or rounded."""
    rng = np.random.default_rng(2)
    a, b = raw(rng, 1, 6, 50), raw(rng, 1, 50, 7)
    rounded = np.zeros((6, 7), np.float32)
    for k in range(50):
        rounded = rounded + a[0, :, k, None] * b[0, k]
    assert_same(multiplied(a, b, Arithmetic("binary32", multiply="binary32"))[0], rounded)


@pytest.mark.parametrize(
    ("arithmetic", "count", "want"),
    [
        (Arithmetic("binary16"), 3000, 2048),
        (Arithmetic("bfloat16"), 3000, 256),
        (Arithmetic("e4m3fn"), 3000, 16),
        (Arithmetic("e6m9ieee"), 2**14, 2**10),
        (Arithmetic("e6m9ieee", chunk=64), 2**14, 2**14),
        (Arithmetic("bfloat16", compensation="kahan"), 3000, 3008),  # 3000 rounded to 8 bits
        (Arithmetic("bfloat16", order="pairwise"), 2048, 2048),
    ],
    ids=lambda x: x.describe() if isinstance(x, Arithmetic) else None,
)
def test_adding_ones_stops_where_a_half_place_is_reached(
    arithmetic: Arithmetic, count: int, want: float
) -> None:
    """Known results, of which the chunked one is of Wang et al., NeurIPS 2018."""
    ones = np.ones((1, 1, count), np.float32)
    assert multiplied(ones, ones.reshape(1, count, 1), arithmetic).item() == want


@pytest.mark.statistical
def test_stochastic_sums_do_not_stagnate() -> None:
    """The mean of 512 sums of 2^12 ones in bfloat16 lies within six standard errors of 2^12.

    Each step is unbiased. From 2^e on the place is 2^(e-7), and a step's variance at most a quarter of its
    square times 4 p (1 - p) with p = 2^(7-e): no more than the place. There are 2^e steps, so the variance
    of a sum is at most the sum of 2^e 2^(e-7) for e from 8 to 11, 2^22 / 3 / 2^7 < 11000.
    """
    count, columns = 2**12, 512
    ones = np.ones((1, 1, count), np.float32)
    y = multiplied(
        ones, np.ones((1, count, columns), np.float32), Arithmetic("bfloat16", rounding="stochastic"), seed=1
    )
    assert abs(y.mean() - count) < 6 * np.sqrt(11000 / columns)
    assert multiplied(ones, np.ones((1, count, columns), np.float32), Arithmetic("bfloat16")).max() == 256


def test_empty_sums_and_empty_results() -> None:
    """Nothing at all sums to +0; a bias is added to that."""
    empty = np.empty((2, 3, 0), np.float32), np.empty((2, 0, 4), np.float32)
    for arithmetic in (Arithmetic("e4m3fn"), SUMS[1], SUMS[4], SUMS[5], SUMS[7]):
        assert_same(multiplied(*empty, arithmetic), np.zeros((2, 3, 4), np.float32))
    bias = np.float32([0.3, -0.0, 1, np.inf])
    assert_defined(*empty, Arithmetic("e4m3fn"), bias=bias)
    assert multiplied(np.empty((0, 3, 5), np.float32), np.empty((0, 5, 4), np.float32), SUMS[0]).size == 0


def test_what_is_no_number_follows_ieee_then_the_format() -> None:
    """Infinity less infinity, zero times infinity, NaN, and infinities in formats without."""
    a = np.float32([[[np.inf, 1, -np.inf], [np.inf, 1, 1], [0, 2, np.nan], [0, 1, 1], [-np.inf, -1, 0]]])
    b = np.float32([[[1, np.inf, -1], [2, 3, 0], [1, 1, 1]]])
    for name in ("bfloat16", "e4m3fn", "e5m2<saturate_all>"):
        for arithmetic in (Arithmetic(name), Arithmetic(name, compensation="kahan")):
            assert_defined(a, b, arithmetic)
    assert_defined(a, b, Arithmetic("fixed12f6<wrap>", rounding="toward_zero"))


@pytest.mark.parametrize("dtype", ["float16", pytest.param("float64", marks=pytest.mark.slow)])
def test_other_carriers(dtype: str) -> None:
    """Widened exactly; strides and broadcast batches are read in place."""
    rng = np.random.default_rng(4)
    a = raw(rng, 2, 4, 11).astype(np.float16).astype(dtype)
    b = raw(rng, 1, 11, 3).astype(np.float16).astype(dtype)
    arithmetic = Arithmetic("e4m3fn")
    want = product(a, np.repeat(b, 2, 0), arithmetic, bias=b[0, 0])
    assert_same(multiplied(a, np.broadcast_to(b, (2, 11, 3)), arithmetic, bias=b[0, 0]), want)
    turned = np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert_same(multiplied(turned, np.repeat(b, 2, 0), arithmetic, bias=b[0, 0]), want)


def test_flushing_subnormals_changes_nothing() -> None:
    """Neither of operands nor of results."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    a = raw(rng, 1, 4, 9) * np.float32(2.0**-140)
    b = raw(rng, 1, 9, 4)
    want = product(a, b, Arithmetic("binary32"), bias=a[0, :, 0])
    assert (np.abs(want[want != 0]) < 2.0**-126).any()
    try:
        torch.set_flush_denormal(True)
        got = multiplied(a, b, Arithmetic("binary32"), bias=a[0, :, 0])
    finally:
        torch.set_flush_denormal(False)
    assert_same(got, want)


def test_kernels_are_named_after_their_sources() -> None:
    """A change in any of them compiles anew."""
    assert len(source_hash()) == 64
    a, b = raw(np.random.default_rng(0), 1, 2, 2), raw(np.random.default_rng(1), 1, 2, 2)
    assert path(a, b, SUMS[3]).is_doubtful
