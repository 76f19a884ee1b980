"""The definition of the random words, executable: Philox4x32-10 in plain Python integers.

A word is a pure function of seed, stream and the index of an element. Four words come from one
counter; they go to elements 256 apart, so that 1024 elements share 256 counters.

Reference:
    J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lowprec.errors import value_error
from lowprec.formats.format import check_integer

Four = tuple[int, int, int, int]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and the square root of 3, less 1
_WORD = 2**32


def philox4x32(counter: Four, key: tuple[int, int], rounds: int = 10) -> Four:
    """Four random words of 32 bits from a counter and a key.

    Args:
        counter: Four words.
        key: Two words.
        rounds: How often the counter is mixed.

    Returns:
        Four words, each 0 to 2**32 - 1.

    Raises:
        TypeError: If a word is not an integer.
        ValueError: If a word does not fit in 32 bits, or their number is wrong.

    Example:
        >>> [hex(word) for word in philox4x32((0, 0, 0, 0), (0, 0))]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    for name, words, count in (("counter", counter, 4), ("key", key, 2)):
        if len(words) != count:
            raise value_error(name, f"hold {count} words", words)
        for word in words:
            check_integer(name, word, 0, _WORD - 1)
    check_integer("rounds", rounds, 0, 16)
    a, b, c, d = counter
    first_key, second_key = key
    for _ in range(rounds):
        high_a, low_a = divmod(_MULTIPLIERS[0] * a, _WORD)
        high_c, low_c = divmod(_MULTIPLIERS[1] * c, _WORD)
        a, b, c, d = high_c ^ b ^ first_key, low_c, high_a ^ d ^ second_key, low_a
        first_key = (first_key + _KEY_STEPS[0]) % _WORD
        second_key = (second_key + _KEY_STEPS[1]) % _WORD
    return a, b, c, d


def random_word(seed: int, stream: int, index: int) -> int:
    """The random word of one element.

    Args:
        seed: An integer of 64 bits, signed or not; equal bits are equal seeds.
        stream: Another, 0 to 2**64 - 1; streams of one seed share no word.
        index: The element's index, 0 to 2**63 - 1.

    Returns:
        0 to 2**32 - 1.

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one is out of range.

    Example:
        >>> random_word(0, 0, 0) == 0x6627e8d5, random_word(0, 0, 256) == 0xe169c58d
        (True, True)
    """
    check_integer("seed", seed, -(2**63), 2**64 - 1)
    check_integer("stream", stream, 0, 2**64 - 1)
    check_integer("index", index, 0, 2**63 - 1)
    n = (index // 1024) * 256 + index % 256
    return _block(seed % 2**64, stream, n)[(index // 256) % 4]


@lru_cache(maxsize=1024)
def _block(seed: int, stream: int, n: int) -> Four:
    """The four words of counter ``n``, remembered for the three other elements that use them."""
    seed_high, seed_low = divmod(seed, _WORD)
    stream_high, stream_low = divmod(stream, _WORD)
    n_high, n_low = divmod(n, _WORD)
    return philox4x32((n_low, n_high, stream_low, stream_high), (seed_low, seed_high))


def random_words(
    seed: int,
    stream: int,
    shape: tuple[int, ...],
    *,
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
) -> npt.NDArray[np.uint32]:
    """The random words of a tensor's elements.

    Args:
        seed: As for ``random_word``.
        stream: As for ``random_word``.
        shape: The tensor's shape.
        offset: The index of its first element.
        strides: By how much the index grows along each dimension; None for row-major, which makes
            it the element's position. A part of a larger tensor is given the whole's.

    Returns:
        A uint32 array of that shape.

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one is out of range, or there are not as many strides as dimensions.

    Example:
        >>> whole = random_words(7, 0, (4, 6))
        >>> bool((random_words(7, 0, (2, 3), offset=8, strides=(6, 1)) == whole[1:3, 2:5]).all())
        True
    """
    if strides is None:
        strides = tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))
    if len(strides) != len(shape):
        raise value_error("strides", f"have one entry for each of {len(shape)} dimensions", strides)
    words = [
        random_word(seed, stream, offset + sum(i * s for i, s in zip(at, strides, strict=True)))
        for at in np.ndindex(shape)
    ]
    return np.array(words, dtype=np.uint32).reshape(shape)
