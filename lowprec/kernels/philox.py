"""Philox4x32-10: random words as a pure function of (seed, stream, element index).

The key is the seed, the counter is (n, stream), both 64 bits wide. Element ``i`` of a tensor, counted
in row-major order, takes output word ``(i // 256) % 4`` of ``n = (i // 1024) * 256 + i % 256``: a tile
of 1024 elements is 256 consecutive counters, its quarters are their four outputs. That vectorizes on a
CPU and coalesces on a GPU. Changing this layout changes every stochastic result.

Reference: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

import numpy as np
from numba import njit

# Called where a loop must vectorize, which a function call inside prevents; only from compiled code, so
# what Python would call them by is not compiled.
inline = njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)

TILE = 1024
LANES = TILE // 4

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
"""What the two words of the key grow by."""

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_WEYL_0, _WEYL_1 = np.uint32(WEYL[0]), np.uint32(WEYL[1])
_WORD = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)


@inline
def _mix(c0, c1, c2, c3, k0, k1):
    """One round: two multiplications, exchanged halves, the key."""
    product_0 = np.uint64(c0) * _MULTIPLIER_0
    product_1 = np.uint64(c2) * _MULTIPLIER_1
    return (
        np.uint32(np.uint32(product_1 >> _HIGH) ^ c1 ^ k0),
        np.uint32(product_1 & _WORD),
        np.uint32(np.uint32(product_0 >> _HIGH) ^ c3 ^ k1),
        np.uint32(product_0 & _WORD),
    )


@inline
def philox(c0, c1, c2, c3, k0, k1):
    """The four output words of one counter under one key, all uint32."""
    for _ in range(ROUNDS):  # the key after the last round is not used
        c0, c1, c2, c3 = _mix(c0, c1, c2, c3, k0, k1)
        k0, k1 = np.uint32(k0 + _WEYL_0), np.uint32(k1 + _WEYL_1)
    return c0, c1, c2, c3


@inline
def words_of(seed, stream, n):
    """The four words of one counter; all arguments uint64."""
    return philox(
        np.uint32(n & _WORD),
        np.uint32(n >> _HIGH),
        np.uint32(stream & _WORD),
        np.uint32(stream >> _HIGH),
        np.uint32(seed & _WORD),
        np.uint32(seed >> _HIGH),
    )


@inline
def word_at(seed, stream, index):
    """The random word of one element; all arguments uint64."""
    n = (index // np.uint64(TILE)) * np.uint64(LANES) + index % np.uint64(LANES)
    w0, w1, w2, w3 = words_of(seed, stream, n)
    quarter = (index // np.uint64(LANES)) % np.uint64(4)
    low = w0 if quarter == np.uint64(0) else w1
    high = w2 if quarter == np.uint64(2) else w3
    return low if quarter < np.uint64(2) else high
