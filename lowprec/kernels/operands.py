"""Operands of products: brought into row-major binary64, and measured on the way."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.kernels.cpu import jit
from lowprec.kernels.memory import at, put, read_apart
from lowprec.kernels.products import conversions
from lowprec.kernels.scalar import U64, larger, smaller
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.sums import from_source
from lowprec.kernels.threads import PARTS, ranges, share

# What lies at an operand's geometry: sizes, and strides in elements.
ROWS, COLUMNS, BATCH_STEP, ROW_STEP, COLUMN_STEP = range(5)
# What is measured of the finite non-zero numbers.
TOP, LOW, DIGITS, INFINITE, NANS = range(5)
_NONE = 1 << 20
"""An exponent that no number has."""


class Operand(NamedTuple):
    """A batch of matrices in memory: the address of the first element, a carrier, sizes, strides."""

    address: int
    carrier: str
    shape: tuple[int, int, int]
    strides: tuple[int, int, int]


class Measure(NamedTuple):
    """What numbers have in common: all are multiples of 2^low below 2^(top + 1) of so many digits."""

    top: int
    low: int
    digits: int
    is_finite: bool = True
    has_nan: bool = False


@cache
def _packing(carrier: str) -> Any:
    """The loop over rows of all matrices that widens and measures."""
    dtype = WIDTHS[carrier].memory

    def loop(x_address, out_address, geometry_address, measure_address, first, last):
        x, out = at(x_address, dtype), at(out_address, np.uint64)
        geometry, measure = at(geometry_address, np.int64), at(measure_address, np.int64)
        columns, step = geometry[COLUMNS], geometry[COLUMN_STEP]
        top, low, digits, infinite, nans = -_NONE, _NONE, 0, 0, 0
        for number in range(first, last):
            batch, row = number // geometry[ROWS], number % geometry[ROWS]
            start = np.uintp(batch * geometry[BATCH_STEP] + row * geometry[ROW_STEP])
            target, step = np.uintp(number * columns), np.uintp(geometry[COLUMN_STEP])
            for column in range(columns):  # without a branch, which vectorizes
                j = np.uintp(column)
                bits = U64(from_source(U64(read_apart(x, np.uintp(start + np.uintp(j * step))))))
                put(out, np.uintp(target + j), bits)
                magnitude = U64(bits & U64((1 << 63) - 1))
                infinite = larger(infinite, np.int64(magnitude == U64(0x7FF << 52)))
                nans = larger(nans, np.int64(magnitude > U64(0x7FF << 52)))
                counts = magnitude > U64(0) and magnitude < U64(0x7FF << 52)
                significand = U64(U64(magnitude & U64((1 << 52) - 1)) | U64(1 << 52))
                last_bit = U64(significand & U64(U64(0) - significand))
                zeros = np.int64(np.float64(last_bit).view(U64) >> U64(52)) - 1023
                exponent = np.int64(magnitude >> U64(52)) - 1023  # of a subnormal, past all bounds
                top = larger(top, exponent if counts else -_NONE)
                low = smaller(low, exponent - 52 + zeros if counts else _NONE)
                digits = larger(digits, 53 - zeros if counts else 0)
        measure[TOP], measure[LOW], measure[DIGITS] = top, low, digits
        measure[INFINITE], measure[NANS] = infinite, nans

    return jit(6, loop, conversions(carrier), "packing", carrier)


def pack(x: Operand, threads: int) -> tuple[npt.NDArray[np.float64], Measure]:
    """The numbers in row-major binary64, and what they have in common."""
    batches, rows, columns = x.shape
    out = np.empty(x.shape)
    if out.size == 0:
        return out, Measure(0, 0, 1)
    geometry = np.array([rows, columns, *x.strides], np.int64)
    parts = ranges(batches * rows, 1 if out.size < 1 << 15 else PARTS * threads)
    measures = np.empty((len(parts), 5), np.int64)
    calls = [
        (x.address, out.ctypes.data, geometry.ctypes.data, measures[i:].ctypes.data, *part)
        for i, part in enumerate(parts)
    ]
    share(_packing(x.carrier), calls, threads)
    top, low, digits = measures[:, TOP].max(), measures[:, LOW].min(), measures[:, DIGITS].max()
    kinds = not measures[:, INFINITE].any(), bool(measures[:, NANS].any())
    return out, Measure(int(top), int(low), int(digits), *kinds) if digits else Measure(0, 0, 1, *kinds)
