"""Wrapping sums in which nothing is ever rounded: integers that wrap once, at the end.

Let all products be multiples of the step of each format that they or their sums are rounded to. Then so are
all sums, no rounding changes one, and a wrapped one is what it was modulo 2^bits steps of its format. If
2^bits steps of the last format divide those of all others, the result is the exact sum modulo that number,
in whatever order it was computed, compensated or not: in y = p - c, t = s + y, c = (t - s) - y every c is 0.

An operand is an integer times a power of two, and so is a product; no format has more bits than a machine
word of 32, in which addition and multiplication wrap for nothing.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.arithmetic import Arithmetic
from lowprec.formats import FixedPoint
from lowprec.kernels.cpu import jit
from lowprec.kernels.memory import at, get, put, read_apart
from lowprec.kernels.operands import Measure
from lowprec.kernels.products import conversions
from lowprec.kernels.scalar import U32, U64, smaller
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.sums import to_source
from lowprec.kernels.threads import PARTS, ranges, share
from lowprec.modes import Overflow

STEP = 4
"""Products that are added to a sum at a time."""
_ROWS, _COLUMNS = 4, 256
_HELD = 62
"""Bits of integers that operands may be."""
_FARTHEST = 900
"""Exponents up to which operands are made integers by one multiplication."""

# What a loop finds at its geometry.
(M, N, K, ROWS, COLUMNS, SHIFT, BITS, SIGNED, UNIT, SIZE) = range(10)


class Word(NamedTuple):
    """What becomes of a sum of integers."""

    shift: int
    """What power of two an integer of the sum has in steps of the last format."""
    kept: int
    """How many bits the last format has,"""
    signed: bool
    """whether half of its values are negative,"""
    unit: int
    """and the exponent of its step."""


def word_of(arithmetic: Arithmetic, a: Measure, b: Measure) -> Word | None:
    """What becomes of sums that may wrap at the end; None where they may not."""
    final = arithmetic.final
    if not isinstance(final, FixedPoint) or not (a.is_finite and b.is_finite) or a.has_nan or b.has_nan:
        return None
    low = a.low + b.low
    for format in (arithmetic.multiply, arithmetic.accumulate, final):
        if format is None:
            continue
        if not isinstance(format, FixedPoint) or format.overflow is not Overflow.WRAP:
            return None
        if low < -format.fraction_bits or _modulus(format) < _modulus(final):
            return None
    if any(x.top + 1 - x.low > _HELD or abs(x.low) > _FARTHEST for x in (a, b)):
        return None
    shift = min(low + final.fraction_bits, final.bits)
    return Word(shift, final.bits, final.signed, -final.fraction_bits)


def _modulus(format: FixedPoint) -> int:
    """The exponent of the number of which a format wraps multiples away."""
    return format.bits - format.fraction_bits


def multiply(
    a: tuple[npt.NDArray[np.float64], Measure], b: tuple[npt.NDArray[np.float64], Measure], out: int,
    carrier: str, word: Word, threads: int, block: tuple[int, int, int] | None,
) -> None:  # fmt: skip
    """Write the products of two batches of matrices, of any size but 0, in the carrier."""
    batches, m, depth = a[0].shape
    n = b[0].shape[2]
    rows, columns, _ = block or (_ROWS, _COLUMNS, 0)
    rows, columns, padded = min(rows, m), min(columns, n), -(-depth // STEP) * STEP
    left = np.zeros((batches, m, padded), np.int32)
    left[:, :, :depth] = _integers(*a)
    right = np.zeros((batches, padded * n), np.int32)
    whole = _integers(*b)
    for first in range(0, n, columns):
        panel = whole[:, :, first : first + columns]
        place = right[:, first * padded : (first + panel.shape[2]) * padded]
        place.reshape(batches, padded, -1)[:, :depth] = panel
    geometry = np.zeros(SIZE, np.int64)
    geometry[:] = m, n, padded, rows, columns, word.shift, word.kept, word.signed, word.unit
    units = batches * -(-m // rows) * -(-n // columns)
    parts = ranges(units, 1 if batches * m * n * depth < 1 << 18 or threads == 1 else PARTS * threads)
    sums = np.empty((len(parts), rows * columns), np.int32)
    fixed = left.ctypes.data, right.ctypes.data, out, geometry.ctypes.data
    share(
        summing(carrier),
        [(*fixed, sums[i:].ctypes.data, *part) for i, part in enumerate(parts)],
        threads,
    )


def _integers(x: npt.NDArray[np.float64], measure: Measure) -> npt.NDArray[np.int64]:
    """The numbers in units of the power of two that they are multiples of."""
    return (x * 2.0**-measure.low).astype(np.int64)


@cache
def summing(out: str) -> Any:
    """The loop over rows and blocks of columns."""
    stored = WIDTHS[out].memory

    def loop(a_address, b_address, out_address, geometry_address, scratch, first, last):
        g = at(geometry_address, np.int64)
        a, b, out = at(a_address, U32), at(b_address, U32), at(out_address, stored)
        sums = at(scratch, U32)
        m, n, depth, width = g[M], g[N], g[K], g[COLUMNS]
        row_blocks, column_blocks = -(-m // g[ROWS]), -(-n // width)
        mask, half = U64(U64(U64(1) << U64(g[BITS])) - U64(1)), U64(U64(g[SIGNED]) << U64(g[BITS] - 1))
        unit = np.int64((1023 + g[UNIT]) << 52).view(np.float64)
        for number in range(first, last):
            i_first = number % row_blocks * g[ROWS]
            j_first = number // row_blocks % column_blocks * width
            batch = number // row_blocks // column_blocks
            rows, columns = smaller(g[ROWS], m - i_first), smaller(width, n - j_first)
            a_at, b_at = (batch * m + i_first) * depth, (batch * n + j_first) * depth
            for j in range(rows * width):
                sums[j] = U32(0)
            for k in range(0, depth, STEP):
                b_0 = np.uintp(b_at + k * columns)
                b_1, b_2 = np.uintp(b_0 + np.uintp(columns)), np.uintp(b_0 + np.uintp(2 * columns))
                b_3 = np.uintp(b_0 + np.uintp(3 * columns))
                for row in range(rows):
                    here = a_at + row * depth + k
                    x_0, x_1, x_2, x_3 = a[here], a[here + 1], a[here + 2], a[here + 3]
                    target = np.uintp(row * width)
                    for column in range(columns):
                        j = np.uintp(column)
                        total = U32(x_0 * read_apart(b, np.uintp(b_0 + j)))
                        total = U32(total + U32(x_1 * read_apart(b, np.uintp(b_1 + j))))
                        total = U32(total + U32(x_2 * read_apart(b, np.uintp(b_2 + j))))
                        total = U32(total + U32(x_3 * read_apart(b, np.uintp(b_3 + j))))
                        put(sums, np.uintp(target + j), U32(total + get(sums, np.uintp(target + j))))
            for row in range(rows):
                out_at = (batch * m + i_first + row) * n + j_first
                for j in range(columns):
                    count = U64(U64(U64(sums[row * width + j]) << U64(g[SHIFT])) & mask)
                    whole = np.int64(U64(count - U64(U64(count & half) << U64(1))))
                    bits = np.float64(np.float64(whole) * unit).view(np.uint64)
                    out[out_at + j] = stored(to_source(bits))

    return jit(7, loop, conversions(out), "summing", out)
