"""The random words of a product: each step has the word of its position, in whatever order they are drawn."""

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit
from product_cases import assert_same, multiplied

from lowprec import Arithmetic, reference
from lowprec.kernels import noise
from lowprec.kernels.memory import TURNED
from lowprec.kernels.philox import TILE
from lowprec.kernels.tiles import RUN

TOP = 2**34
"""The first position whose counter has another upper half."""
SEEDS = [(0, 0), (2**64 - 1, 2**64 - 1), (5 << 32, 2**32), (2**63 + 9, 2**32 - 1)]
# The depth of products, how many columns there are, and of how many one tile has the words.
SHARED = [
    (1, 64, 0), (255, 64, 0), (256, 64, 4), (256, 60, 4), (256, 320, 4), (256, 62, 0), (256, 36, 0),
    (257, 64, 0), (511, 32, 0), (512, 32, 2), (512, 26, 2), (512, 27, 0), (512, 130, 2), (513, 32, 0),
    (768, 64, 0), (1023, 16, 0), (1024, 16, 1), (1024, 13, 1), (1024, 12, 0), (1024, 70, 1), (1025, 16, 0),
    (1280, 64, 0), (2047, 16, 0), (2048, 17, 0), (2048, 31, 1), (3072, 16, 1),
]  # fmt: skip


@njit
def _lay_out(words, tile, position, depth, count, columns, pitch, lanes, shared, seed, stream):
    noise.lay_out(words, tile, position, depth, count, columns, pitch, lanes, shared, seed, stream)


def laid_out(position: int, depth: int, columns: int, shared: int, seed: int, stream: int,
             deep: int) -> npt.NDArray[np.uint32]:  # fmt: skip
    """The words of so many products of each column, one column in a row."""
    many = RUN * max(shared, 1)
    lanes, pitch = -(-columns // many) * many, deep + noise.PAD
    words, tile = np.zeros(lanes * pitch, np.uint32), np.zeros(TILE, np.uint32)
    signed = (x - 2**64 if x >= 2**63 else x for x in (seed, stream))
    _lay_out(words, tile, position, depth, deep, columns, pitch, lanes, shared, *signed)
    if shared:
        return ~words[: lanes * deep].reshape(deep, lanes)[:, :columns].T
    return ~words.reshape(lanes, pitch)[:columns, :deep]


@pytest.mark.parametrize(("depth", "n", "shared"), SHARED)
def test_words_are_drawn_together_where_tiles_and_columns_fit(depth: int, n: int, shared: int) -> None:
    columns = min(n, 256 if depth <= 256 else 128 if depth <= 512 else 64)
    assert noise.columns_of_tile(n, depth, columns, min(depth, TILE)) == shared
    if shared:
        assert noise.columns_of_tile(n, depth, columns, min(depth, TILE) // 2) == 0
        assert (
            noise.columns_of_tile(n, depth, columns - shared + 1, min(depth, TILE)) == (shared == 1) * shared
        )


@pytest.mark.parametrize(("seed", "stream"), SEEDS)
@pytest.mark.parametrize(
    ("depth", "columns", "shared"),
    [(256, 64, 4), (256, 68, 4), (512, 32, 2), (512, 54, 2), (1024, 16, 1), (1024, 35, 1), (3072, 17, 1),
     (100, 5, 0), (512, 17, 0), (1280, 16, 0)],
)  # fmt: skip
@pytest.mark.parametrize("end", [False, True])
def test_words_are_those_of_their_positions(
    depth: int, columns: int, shared: int, seed: int, stream: int, end: bool
) -> None:
    """Also where counters get another upper half on the way."""
    unit, deep = max(depth, TILE), min(depth, TILE)
    for position in [TOP - 2 * unit, TOP - unit, TOP] if end else [0, 7 * unit, unit + depth * shared]:
        got = laid_out(position, depth, columns, shared, seed, stream, deep)
        for j in range(columns):
            want = reference.random_words(seed, stream, (deep,), offset=position + j * depth)
            np.testing.assert_array_equal(got[j], want, f"column {j} at {position}")


def by_definition(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], seed: int
) -> npt.NDArray[np.float32]:
    """The products of factors in sixteenths, of which every sum is rounded stochastically to an integer."""
    batches, m, depth = a.shape
    n = b.shape[2]
    left, right = (a * 16).astype(np.int64), (b * 16).astype(np.int64)
    words = reference.random_words(seed, 0, (batches, m, n, depth)).astype(np.int64)
    total = np.zeros((batches, m, n), np.int64)
    for k in range(depth):
        exact = total * 256 + left[:, :, k, None] * right[:, None, k]
        size = np.abs(exact)
        up = ((size & 255) << 24) + words[..., k] >= 1 << 32
        total = np.sign(exact) * ((size >> 8) + up)
    return total.astype(np.float32)


def factors(depth: int, n: int, batches: int = 2, m: int = 1) -> tuple[npt.NDArray[np.float32], ...]:
    """Multiples of a sixteenth."""
    rng = np.random.default_rng(depth + n)
    return tuple(
        (rng.integers(-40, 41, (batches, *shape)) / 16).astype(np.float32)
        for shape in ((m, depth), (depth, n))
    )


@pytest.mark.parametrize(("depth", "n", "shared"), SHARED)
def test_every_step_takes_its_own_word(depth: int, n: int, shared: int) -> None:
    """Integers do not overflow here; sums with the words of others would differ."""
    a, b = factors(depth, n)
    got = multiplied(a, b, Arithmetic("fixed24f0", rounding="stochastic"), seed=11)
    np.testing.assert_array_equal(got, by_definition(a, b, 11))


@pytest.mark.parametrize(
    "arithmetic",
    [
        Arithmetic("e4m3fn", rounding="stochastic"),
        Arithmetic("bfloat16", rounding="stochastic", chunk=300),
        Arithmetic("e5m2", rounding="stochastic", multiply="e4m3fn"),
    ],
    ids=lambda arithmetic: arithmetic.describe(),
)
@pytest.mark.parametrize(("depth", "n"), [(256, 128), (512, 96), (1024, 80), (2048, 16)])
def test_no_bit_depends_on_the_order_of_drawing(arithmetic: Arithmetic, depth: int, n: int) -> None:
    """Blocks that are no tiles have words drawn column by column."""
    a, b = factors(depth, n, m=3)
    want = multiplied(a, b, arithmetic, seed=-1, block=(1, n, TURNED * 6))
    for threads in (1, 2, 3):
        assert_same(multiplied(a, b, arithmetic, seed=-1, threads=threads), want)
