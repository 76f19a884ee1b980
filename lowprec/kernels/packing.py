"""Codes of 1 to 16 bits without the gaps between them, and back.

Eight codes make as many bytes as a code has bits. They are read as one 64-bit word, or as two, whose
lanes then move together, each pair of neighbors into one of twice the width, until no gap is left; the
reverse takes them apart. Words are little-endian, as is every machine that torch has a CPU build for.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lowprec.kernels.cpu import jit
from lowprec.kernels.memory import anywhere, at
from lowprec.kernels.specialize import inline, rebound
from lowprec.kernels.threads import PARTS, ranges, share

GROUP = 8
"""Codes that make whole bytes, whatever their width."""
SERIAL_BELOW = 1 << 17
"""Codes below which one thread is faster than waking another."""

U = np.uint64
_ONES = (1 << 64) - 1

MOVES = ((U(_ONES), U(0), U(0)),) * 3
"""Which bits of a word stay, which ones move, and how far; a loop has its own."""


def together(word):
    """From the codes in the lanes of a word to its lowest bits."""
    for stay, move, distance in MOVES:
        word = (word & stay) | ((word & move) >> distance)
    return word


def apart(word):
    """The reverse; what lies above the codes is dropped."""
    for stay, move, distance in MOVES[::-1]:
        word = (word & stay) | ((word << distance) & move)
    return word


class Width(NamedTuple):
    """What a loop holds constant for a number of bits."""

    code: type[np.unsignedinteger[Any]]
    """The elements that are packed."""
    size: int
    """Their bytes."""
    two_words: bool
    """Whether eight of them are two words."""
    packed: type[np.unsignedinteger[Any]] | None
    """The word that eight codes of one word make; None where none has that size."""
    touched: int
    """The bytes from the first one of a group on that are read or written at once."""
    low: np.uint64
    """How many bits the codes of one word make."""
    left: np.uint64
    """What these leave of it."""
    gaps: np.uint64
    """The bits of a word that no code has."""
    names: dict[str, Any]
    """The functions above, for this width."""


def _lanes(width: int, stride: int) -> int:
    """A word with the lowest bits, so many, of each lane of ``stride`` bits."""
    return sum(((1 << width) - 1) << start for start in range(0, 64, stride))


def _move(width: int, lane: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """How the upper of two lanes comes to lie upon what is used of the lower."""
    stay = _lanes(width, 2 * lane)
    return U(stay), U(stay << lane), U(lane - width)


def _width(bits: int) -> Width:
    """The constants for codes of so many bits."""
    code, size = (np.uint8, 1) if bits <= 8 else (np.uint16, 2)
    lanes = (8, 16, 32) if size == 1 else (16, 32)
    moves = [_move(bits * lane // lanes[0], lane) for lane in lanes]
    names = {"MOVES": (*moves, *MOVES)[:3]}
    words: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
    return Width(
        code=code,
        size=size,
        two_words=size == 2,
        packed=words.get(bits),
        touched=8 * size,
        low=U(4 * bits),
        left=U(64 - 4 * bits) if size == 2 else U(0),
        gaps=U(_ONES ^ _lanes(bits, lanes[0])),
        names={f.__name__: inline(rebound(f, {**globals(), **names})) for f in (together, apart)},
    )


@cache
def packing(bits: int) -> Any:
    """The loop that packs the groups [first, last) of ``count`` codes.

    What codes have above their width is left at the address ``excess``, in the lanes of a word.
    """
    code, size, two_words, word, touched, low, left, gaps, names = _width(bits)
    dense = word is not None

    def loop(codes_address, packed_address, excess_address, count, first, last):
        found = U(0)
        number, full = first, max(first, min(last, count // GROUP))
        if dense:  # words that do not overlap vectorize
            source = anywhere(codes_address + first * GROUP, U)[: full - first]
            target = anywhere(packed_address + first * bits, word)[: full - first]
            for j in range(source.size):
                found |= source[j]
                target[j] = word(together(source[j]))
            number = full
        else:  # each overwrites what the one before it left above its codes
            end = min(full * bits, count * bits // 8) - touched
            while number < full and number * bits <= end:
                source = anywhere(codes_address + number * GROUP * size, U)
                target = anywhere(packed_address + number * bits, U)
                if two_words:
                    found |= source[0] | source[1]
                    upper = together(source[1])
                    target[0] = together(source[0]) | ((upper << low) if left else U(0))
                    target[1] = upper >> left
                else:
                    found |= source[0]
                    target[0] = together(source[0])
                number += 1
        codes, packed = at(codes_address, code), at(packed_address, np.uint8)
        held, filled, byte = U(0), U(0), number * bits
        for i in range(number * GROUP, min(last * GROUP, count)):
            found |= U(codes[i])
            held |= U(codes[i]) << filled
            filled += U(bits)
            while filled >= U(8):
                packed[byte] = np.uint8(held & U(0xFF))
                held, filled = held >> U(8), filled - U(8)
                byte += 1
        if filled > U(0):
            packed[byte] = np.uint8(held)
        at(excess_address, U)[0] = found & gaps

    return jit(6, loop, names, "packing", bits)


@cache
def unpacking(bits: int) -> Any:
    """The loop that unpacks the groups [first, last) of ``count`` codes."""
    code, size, two_words, word, touched, low, left, _, names = _width(bits)
    dense = word is not None
    ones = U((1 << bits) - 1)

    def loop(packed_address, codes_address, count, first, last):
        number, full = first, max(first, min(last, count // GROUP))
        if dense:
            source = anywhere(packed_address + first * bits, word)[: full - first]
            target = anywhere(codes_address + first * GROUP, U)[: full - first]
            for j in range(source.size):
                target[j] = apart(U(source[j]))
            number = full
        else:
            end = count * bits // 8 - touched
            while number < full and number * bits <= end:
                source = anywhere(packed_address + number * bits, U)
                target = anywhere(codes_address + number * GROUP * size, U)
                target[0] = apart(source[0])
                if two_words:
                    lower = (source[0] >> low) if left else U(0)
                    target[1] = apart(lower | (source[1] << left))
                number += 1
        codes, packed = at(codes_address, code), at(packed_address, np.uint8)
        held, filled, byte = U(0), U(0), number * bits
        for i in range(number * GROUP, min(last * GROUP, count)):
            while filled < U(bits):
                held |= U(packed[byte]) << filled
                filled += U(8)
                byte += 1
            codes[i] = code(held & ones)
            held, filled = held >> U(bits), filled - U(bits)

    return jit(5, loop, names, "unpacking", bits)


def pack(codes: int, packed: int, bits: int, count: int, threads: int) -> bool:
    """Write contiguous codes without gaps, zeros above the last one.

    Returns whether every code lies below ``2**bits``; where one does not, the bytes mean nothing.
    """
    parts = _parts(count, threads)
    excess = np.zeros(len(parts), U)
    found = excess.ctypes.data
    calls = [(codes, packed, found + i * excess.itemsize, count, *part) for i, part in enumerate(parts)]
    share(packing(bits), calls, threads)
    return not excess.any()


def unpack(packed: int, codes: int, bits: int, count: int, threads: int) -> None:
    """Write the codes that pack was given."""
    share(unpacking(bits), [(packed, codes, count, *part) for part in _parts(count, threads)], threads)


def _parts(count: int, threads: int) -> list[tuple[int, int]]:
    """Ranges of groups: no two share a byte."""
    return ranges(-(-count // GROUP), 1 if count < SERIAL_BELOW else PARTS * threads)
