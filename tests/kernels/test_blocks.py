"""Block-scaled products by the kernels, bit for bit as the definition says."""

from fractions import Fraction

import numpy as np
import pytest
from block_cases import TENSORS, assert_defined, multiplied, operands
from product_cases import assert_same

from lowprec import Arithmetic
from lowprec.formats import resolve
from lowprec.kernels.scalar import ABOVE, DOWN, NEAREST_EVEN, PLAIN
from lowprec.kernels.specialize import specialized
from lowprec.reference import BlockScales, product

FORMATS = [
    "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4",
    "scaled<e4m3fn,float32,group8,amax>",
]  # fmt: skip
SUMS = [
    Arithmetic("binary32", chunk="block"),
    Arithmetic("bfloat16", chunk="block", chunk_accumulate="binary32"),
    Arithmetic("e4m3fn", chunk="block", chunk_accumulate="binary32"),
]
MORE_SUMS = [
    Arithmetic("binary32", chunk="block", chunk_accumulate="bfloat16", rounding="toward_zero"),
    Arithmetic("binary32", chunk="block", order="pairwise", rounding="down"),
    Arithmetic("binary32", chunk="block", compensation="kahan"),
    Arithmetic("fixed32f8<wrap>", chunk="block", chunk_accumulate="binary32"),
    Arithmetic("e6m9ieee", chunk="block", multiply="e5m2", chunk_accumulate="fixed24f10"),
    Arithmetic("bfloat16", chunk="block", rounding="stochastic", multiply="e4m3fn"),
    Arithmetic("e5m2<saturate_all>", chunk="block", rounding="to_odd", chunk_accumulate="e4m3fnuz"),
    Arithmetic("binary32", chunk="block", rounding="stochastic", random_bits=9, order="pairwise"),
    Arithmetic(
        "fixed16f4", chunk="block", chunk_accumulate="binary16", rounding="stochastic_midpoint", random_bits=7
    ),
    Arithmetic("e8m40ieee", chunk="block", chunk_accumulate="tf32", rounding="nearest_away"),
]


def assert_exact(arithmetic: Arithmetic, name: str, *, size: int = 16) -> None:
    """Incomplete last blocks, batches, odd sizes, scales at the ends of their range; with a bias."""
    rng = np.random.default_rng(3)
    seed = 2**62 + 7 if arithmetic.is_stochastic else None
    for shape, ends in (((2, 3, 37, 5, size), False), ((1, 2, 2 * size, 3, size), True)):
        a, b, scales = operands(rng, name, shape, ends=ends)
        bias = rng.standard_normal(shape[3]).astype(np.float32)
        assert_defined(a, b, arithmetic, scales, bias=None if ends else bias, seed=seed)


@pytest.mark.parametrize(
    ("arithmetic", "names"),
    [(SUMS[0], FORMATS), (SUMS[1], ["mxfp8_e4m3", "nvfp4"]), (SUMS[2], ["mxfp4"])],
    ids=lambda a: a.describe() if isinstance(a, Arithmetic) else "",
)
def test_sums_of_blocks_are_exact_results_rounded_once(arithmetic: Arithmetic, names: list[str]) -> None:
    """Whatever the element and the scale."""
    for name in names:
        assert_exact(arithmetic, name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("arithmetic", [*SUMS, *MORE_SUMS], ids=lambda a: a.describe())
def test_every_kind_of_sum_in_blocks_is_exact(arithmetic: Arithmetic, name: str) -> None:
    """Modes, orders, products that are rounded, Kahan's sums, fixed point; blocks of any size."""
    for size in (1, 5, 16, 40):
        assert_exact(arithmetic, name, size=size)


def test_sums_of_blocks_cancel_and_overflow_as_defined() -> None:
    """Sums whose terms have all bits of two scales of 24, next to each other and to ties."""
    rng = np.random.default_rng(4)
    ones = np.ones((1, 6, 4), np.float32), np.ones((1, 4, 5), np.float32)
    left = np.float32(1 + rng.integers(0, 2**23, (1, 6, 4)) * 2.0**-23).astype(np.float64)
    right = np.float32(1 + rng.integers(0, 2**23, (1, 4, 5)) * 2.0**-23).astype(np.float64)
    left[:, :, 1], right[:, 1] = left[:, :, 0], right[:, 0]
    a = ones[0].copy()
    a[:, :, 1] = -1
    a[:, ::2, 2] = 2.0**-24
    for tensors in ((1.0, 1.0), TENSORS, (2.0**120, 2.0**20), (2.0**-140, 2.0**-30)):
        assert_defined(a, ones[1], SUMS[0], BlockScales(1, left, right, tensors))
    huge = np.full_like(left, 2.0**127)
    assert_defined(a, ones[1], SUMS[0], BlockScales(1, huge, right * 2.0**10))


def test_what_is_no_number_stays_in_its_sums() -> None:
    """NaN and infinities among elements and scales; a zero scale."""
    values = np.float64([np.nan, np.inf, 0.0, 1.0])
    left = np.broadcast_to(values[:, None], (1, 4, 2)).copy()
    left[:, :, 0] = 1.0
    right = np.broadcast_to(values, (1, 2, 4)).copy()
    right[:, 1] = 1.0
    a = np.float32([[[1, 2, 0, -0.0], [np.inf, 1, 1, -1], [0, -0.0, -1, 1], [np.nan, 0, -2, -2]]])
    b = np.float32([[[1, -1, 0, -0.0]] * 4])
    for arithmetic in SUMS[:1]:
        assert_defined(a, b, arithmetic, BlockScales(2, left, right))
    got = multiplied(np.ones((1, 4, 4), np.float32), np.ones((1, 4, 4), np.float32), SUMS[0],
                     BlockScales(2, left, right))  # fmt: skip
    assert np.isnan(got[0, :, 0]).all()
    assert np.isposinf(got[0, 1, 2:]).all()
    empty = BlockScales(16, np.ones((1, 2, 0)), np.ones((1, 0, 3)))
    a, b = np.empty((1, 2, 0), np.float32), np.empty((1, 0, 3), np.float32)
    assert_same(multiplied(a, b, SUMS[0], empty), np.zeros((1, 2, 3), np.float32))


def test_threads_and_tiles_change_no_bit_of_blocks() -> None:
    """Units of any size, shared by any number of threads."""
    a, b, scales = operands(np.random.default_rng(1), "nvfp4", (3, 7, 90, 41, 16))
    want = multiplied(a, b, SUMS[1], scales)
    for threads in (1, 2, 3):
        assert_same(multiplied(a, b, SUMS[1], scales, threads=threads), want)
    for block in ((1, 1, 7), (2, 16, 32), (7, 41, 90)):
        assert_same(multiplied(a, b, SUMS[1], scales, threads=2, block=block), want)


def test_sums_of_small_integers_in_blocks_are_plain_products() -> None:
    """Where nothing is lost, scales may be applied before or after."""
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-6, 7, shape).astype(np.float32) for shape in ((1, 5, 40), (1, 40, 4)))
    left, right = np.exp2(rng.integers(-2, 3, (1, 5, 3))), np.exp2(rng.integers(-2, 3, (1, 3, 4)))
    plain = (a * np.repeat(left, 16, 2)[:, :, :40]) @ (b * np.repeat(right, 16, 1)[:, :40])
    assert_same(multiplied(a, b, SUMS[0], BlockScales(16, left, right)), plain.astype(np.float32))


@pytest.mark.parametrize("mode", [NEAREST_EVEN, DOWN])
def test_a_sum_and_a_product_in_one_are_rounded_to_odd_once(mode: int) -> None:
    """x + y s with y and s of up to 53 bits, of like and unlike sizes, and where they cancel."""
    names = specialized("float64", mode, ABOVE, PLAIN, odd=True, compiler=lambda f: f)
    rng = np.random.default_rng(0)

    def odd(exact: Fraction) -> float:
        """To a neighbor whose last bit is set, unless it is a number."""
        near = float(exact)
        if Fraction(near) == exact:
            return near
        low = near if Fraction(near) < exact else np.nextafter(near, -np.inf)
        high = np.nextafter(low, np.inf)
        return float(high if int(np.float64(high).view(np.uint64)) & 1 else low)

    def drawn() -> np.float64:
        """A number of 53, 24, 8 or 1 bits."""
        bits = int(rng.choice([53, 24, 8, 1]))
        whole = int(rng.integers(1 << (bits - 1), 1 << bits)) | 1
        return np.float64(whole * 2.0 ** int(rng.integers(-60, 60) - bits) * rng.choice([1, -1]))

    for number in range(4000):
        y, s = drawn(), abs(drawn())
        x = np.float64([
            drawn(), -y * s, np.nextafter(-y * s, rng.choice([np.inf, -np.inf])), y * s * rng.choice([1, -2]),
            -y * s * (1 + 2.0 ** -int(rng.integers(1, 53))), y * s * 2.0 ** int(rng.integers(-110, 110)),
        ][number % 6])  # fmt: skip
        exact = Fraction(x) + Fraction(y) * Fraction(s)
        fused = names["bits_of_fused"](x, y, s).view(np.float64)
        assert fused == odd(exact)
        assert np.signbit(fused) == (mode == DOWN if exact == 0 else exact < 0)
        assert names["bits_of_product"](y, s).view(np.float64) == odd(Fraction(y) * Fraction(s))


def test_scales_are_given_to_the_definition_where_chunks_are_blocks() -> None:
    """And to no other; of the groups' shape."""
    a, b, scales = operands(np.random.default_rng(0), "mxfp4", (1, 2, 20, 3, 16))
    with pytest.raises(ValueError, match="`scales` must be given where a chunk is a block"):
        product(a, b, SUMS[0])
    with pytest.raises(ValueError, match="`scales` must be None unless a chunk is a block"):
        product(a, b, Arithmetic("binary32"), scales=scales)
    with pytest.raises(ValueError, match=r"`scales.left` must have the shape \(1, 2, 2\)"):
        product(a, b, SUMS[0], scales=scales._replace(left=scales.right))


def test_a_definition_by_hand() -> None:
    """(1 + 2 + 4) 2 3 + 8 (1/2) 5, then times the tensors' scales; each sum rounded to its own format."""
    a, b = np.float32([[[1, 2, 4, 8]]]), np.ones((1, 4, 1), np.float32)
    scales = BlockScales(3, np.float64([[[2, 0.5]]]), np.float64([[[3], [5]]]))
    assert product(a, b, SUMS[0], scales=scales).item() == 62
    assert product(a, b, Arithmetic("e2m1", chunk="block", chunk_accumulate="binary32"), scales=scales) == 51
    assert (
        product(a, b, Arithmetic("binary32", chunk="block", chunk_accumulate="e4m3fn"), scales=scales) == 60
    )
    third = scales._replace(tensors=(float(np.float32(1 / 3)), 1.0))
    assert product(a, b, SUMS[0], scales=third).item() == np.float32(62 * float(np.float32(1 / 3)))
    assert resolve("mxfp4").element.max == 6.0
