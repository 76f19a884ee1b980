"""Calls of the loops over matrix products whose sums are exact."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.arithmetic import Accumulator, Arithmetic, format_of
from lowprec.kernels import quire
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.operands import Measure, Operand, pack
from lowprec.kernels.paths import (
    exact_products,
    in_float64,
    is_bounded,
    products_of,
    span_of,
    sums_in_float64,
)
from lowprec.kernels.products import Family
from lowprec.kernels.quire import Kind
from lowprec.kernels.threads import PARTS, ranges, share
from lowprec.kernels.wide import WIDE
from lowprec.modes import Rounding

SERIAL_BELOW = 1 << 12
"""Products below which one thread is faster than waking another."""
_NARROW_WIDTH, _WIDE_WIDTH = 256, 32
"""Columns of a unit, whose sums stay in the first cache."""
_MOST = 62
"""Bits of a product of significands that is added at once."""
_SIGN, _HIDDEN, _ONE = np.uint64(1 << 63), np.uint64(1 << 52), np.uint64(1023 << 52)


class _Factors(NamedTuple):
    """Numbers as integers times powers of two; those that are none as zeros."""

    digits: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    signs: npt.NDArray[np.float64]
    """1 or -1 in place of each, but zeros and what is no number as they are."""
    strange: bool
    """Whether any is no number."""


def multiply(
    a: tuple[npt.NDArray[np.float64], Measure],
    b: tuple[npt.NDArray[np.float64], Measure],
    out: int, carrier: str, arithmetic: Arithmetic, *,
    bias: Operand | None, bias_step: int, seed: int, stream: int, threads: int,
) -> None:  # fmt: skip
    """Write the products of two batches of row-major matrices, and what they were measured to have.

    A bias is part of the sum, so there are no chunks where there is one.
    """
    (left, of_left), (right, of_right) = a, b
    batches, m, depth = left.shape
    n = right.shape[2]
    geometry = np.zeros(quire.SIZE, np.int64)
    row, of_bias = (np.zeros(1), Measure(0, 0, 1)) if bias is None else pack(bias, 1)
    geometry[[quire.BIAS_STEP, quire.BIAS_COUNT]] = bias_step, 0 if bias is None else row.size
    chunk = max(depth, 1) if arithmetic.chunk is None else arithmetic.chunk
    geometry[[quire.M, quire.N, quire.K, quire.CHUNK]] = m, n, depth, chunk
    if arithmetic.multiply is not None:
        exact_products(of_left, of_right)
    products = products_of(of_left, of_right)
    narrow = in_float64(of_left, of_right) and is_bounded(of_bias)
    narrow = narrow and sums_in_float64(arithmetic, products, min(depth, chunk))
    held: list[npt.NDArray[Any]] = [left, right]
    width = min(n, _NARROW_WIDTH if narrow else _WIDE_WIDTH)
    if not narrow:
        held = _lay_limbs(geometry, arithmetic, a, b, None if bias is None else of_bias)
    kind, *numbers = kind_of(arithmetic, carrier)
    loop = quire.summing(kind)
    for entry, memory in zip((*_OPERANDS, quire.BIAS, quire.NUMBERS, quire.PRODUCT_NUMBERS),
                             (*_filled(held), row, *numbers), strict=True):  # fmt: skip
        geometry[entry] = memory.ctypes.data
    limbs = 8 * width * int(geometry[quire.LIMBS])
    geometry[[quire.OUT, quire.WIDTH, quire.NARROW]] = out, width, narrow
    geometry[[quire.SUMS_AT, quire.TOTALS_AT]] = limbs, limbs + 8 * width
    units = batches * m * -(-n // width)
    serial = threads == 1 or batches * m * n * depth < SERIAL_BELOW
    parts = ranges(units, 1 if serial else PARTS * threads)
    scratch = np.empty((len(parts), -(-(limbs + 16 * width) // 64) * 64), np.uint8)
    calls = [
        (geometry.ctypes.data, scratch[i:].ctypes.data, *part, seed, stream) for i, part in enumerate(parts)
    ]
    share(loop, calls, threads)


def _lay_limbs(
    geometry: npt.NDArray[np.int64],
    arithmetic: Arithmetic,
    a: tuple[npt.NDArray[np.float64], Measure],
    b: tuple[npt.NDArray[np.float64], Measure],
    bias: Measure | None,
) -> list[npt.NDArray[Any]]:
    """Fill in where the bits of sums lie; what a loop reads of the operands."""
    spans = [] if bias is None else [(bias.low, bias.top + 1)]
    spans += [span_of(f) for f in (arithmetic.multiply, arithmetic.chunk_accumulate) if f is not None]
    held: list[npt.NDArray[Any]] = [a[0], b[0]]
    if arithmetic.multiply is None:
        digits = a[1].digits + b[1].digits
        both = [_factors(x, measure.digits) for x, measure in (a, b)]
        held = [x.signs for x in both] + [x.digits for x in both] + [x.places for x in both]
        low, high = (sum(int(end(x.places)) for x in both if x.places.size) for end in (np.min, np.max))
        spans.append((low, high + digits))
        geometry[quire.HALVED] = digits > _MOST
        geometry[quire.STRANGE] = any(x.strange for x in both)
    base = min(low for low, _ in spans)
    top = max(high for _, high in spans) + a[0].shape[2].bit_length()
    geometry[[quire.BASE, quire.LIMBS]] = base, (top - base) // 32 + 4
    return held


_OPERANDS = (quire.A, quire.B, quire.A_DIGITS, quire.B_DIGITS, quire.A_PLACES, quire.B_PLACES)


def _filled(held: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """An array for each of _OPERANDS; those that a loop does not read are the first one."""
    return held + held[:1] * (len(_OPERANDS) - len(held))


@lru_cache(maxsize=256)
def kind_of(arithmetic: Arithmetic, carrier: str) -> tuple[Any, ...]:
    """The kind of loop for an arithmetic, the numbers of the format of sums, those of products."""
    mode, bits = arithmetic.rounding, arithmetic.random_bits
    final = format_of(carrier) if arithmetic.chunk_accumulate is None else arithmetic.chunk_accumulate
    numbers, step = _numbers(final, mode, bits)
    of_products, product = numbers, None
    if arithmetic.multiply is not None and arithmetic.multiply_rounding is not None:
        of_products, product = _numbers(arithmetic.multiply, arithmetic.multiply_rounding, bits)
    kind = Kind(step._replace(depth=WIDE), product, arithmetic.chunk is not None, carrier)
    return kind, numbers, of_products


def _numbers(format: Accumulator, rounding: Rounding, random_bits: int | None) -> tuple[Any, Family]:
    """A format and mode in binary64."""
    bits = 32 if random_bits is None or not rounding.takes_random_bits else random_bits
    numbers, depth, ending = describe(format, rounding, bits, "float64")
    return numbers, Family(MODES[rounding], depth, ending, bits == 32)


def _factors(x: npt.NDArray[np.float64], digits: int) -> _Factors:
    """Numbers of at most so many significant bits in parts, whatever the thread does with subnormals."""
    bits = x.view(np.uint64)
    magnitude = bits & ~_SIGN
    field = (magnitude >> np.uint64(52)).astype(np.int64)
    finite = field < 0x7FF
    hidden = np.where(field > 0, _HIDDEN, np.uint64(0))
    whole = np.where(finite, (magnitude & (_HIDDEN - np.uint64(1))) | hidden, np.uint64(0))
    whole >>= np.uint64(53 - digits)
    used = whole != 0
    places = np.maximum(field, 1) - (1075 - 53 + digits)
    places = np.where(used, places, places[used].min() if used.any() else 0)
    integers = whole.astype(np.int64)
    signs = np.where((magnitude != 0) & finite, (bits & _SIGN) | _ONE, bits).view(np.float64)
    return _Factors(np.where(bits >= _SIGN, -integers, integers), places, signs, not finite.all())
