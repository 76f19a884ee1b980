"""Comparing arrays of floats bit by bit, and the words for stochastic rounding."""

import numpy as np
import numpy.typing as npt


def assert_same_bits(got: npt.NDArray[np.floating], want: npt.ArrayLike) -> None:
    """Equal dtype, shape and bits; all NaN are one, and -0 is not 0."""
    want = np.asarray(want, got.dtype)
    assert got.shape == want.shape
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
    at = np.argwhere(~same)[:1]
    assert same.all(), f"{(~same).sum()} differ, first at {at}: {got[~same][0]}, {want[~same][0]}"


def words_like(x: npt.NDArray[np.floating], seed: int = 5) -> npt.NDArray[np.uint32]:
    """Arbitrary words in the shape of ``x``."""
    return np.random.default_rng(seed).integers(0, 2**32, x.shape, dtype=np.uint32)
