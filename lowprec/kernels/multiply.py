"""Calls of the loops over matrix products."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.arithmetic import Accumulator, Arithmetic
from lowprec.kernels import exact_sums, integers, products
from lowprec.kernels.cpu import is_drawn
from lowprec.kernels.integers import word_of
from lowprec.kernels.memory import TURNED
from lowprec.kernels.noise import PAD, columns_of_tile
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.operands import Operand, pack
from lowprec.kernels.paths import MIDDLE, Path, check_bias, fits_to_odd, is_symmetric, path_of
from lowprec.kernels.philox import TILE
from lowprec.kernels.products import Family, Kind
from lowprec.kernels.scalar import PLAIN, QUICK, SPREAD
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.sums import ADDED, BY_ADDITION, UNREACHED
from lowprec.kernels.threads import PARTS, ranges, share
from lowprec.kernels.tiles import RUN
from lowprec.kernels.wide import WIDE
from lowprec.modes import Rounding

SERIAL_BELOW = 1 << 15
"""Products below which one thread is faster than waking another."""
_ROWS, _COLUMNS = 4, 256
"""Of a unit without noise."""
_WORDS = 1 << 16
"""Words of a unit with noise that are laid out at a time, and are to stay in the second cache."""
_FACTOR = 1 << 16
"""Elements of a block of the right operand that are to stay in the second cache."""


class _Numbers(NamedTuple):
    """What a loop reads of a format, and what it is compiled for."""

    memory: npt.NDArray[Any]
    family: Family


@lru_cache(maxsize=256)
def _numbers(
    format: Accumulator, rounding: Rounding, random_bits: int | None, carrier: str, *, middle: bool = False,
    reached: bool = True, depth: int | None = None,
) -> _Numbers:  # fmt: skip
    """A format and mode in a carrier, where a path says that less than all of it is enough, or is not."""
    bits = 32 if random_bits is None or not rounding.takes_random_bits else random_bits
    memory, own, ending = describe(format, rounding, bits, carrier, MIDDLE[carrier] if middle else None)
    if middle and own == QUICK and rounding is Rounding.NEAREST_EVEN and is_symmetric(format):
        depth = ADDED if int(memory[SPREAD]) >> WIDTHS[carrier].mantissa > 1 else None
    if depth in BY_ADDITION:  # no operand is infinite
        ending = PLAIN if reached else UNREACHED
    return _Numbers(memory, Family(MODES[rounding], own if depth is None else depth, ending, bits == 32))


def numbers_of_last(arithmetic: Arithmetic) -> _Numbers:
    """The format of sums of chunks, and of those with a bias, in binary64, which holds the terms."""
    format = arithmetic.chunk_accumulate or arithmetic.sum_format
    paired = not fits_to_odd(arithmetic, format)
    return _numbers(
        format, arithmetic.rounding, arithmetic.random_bits, "float64", depth=WIDE if paired else None
    )


class BlockScales(NamedTuple):
    """What the groups of two operands are multiplied by, where a chunk is one group of both."""

    size: int
    """Elements of a group along the contraction; the last one may have fewer."""
    left: npt.NDArray[np.float64]
    """Shape (batch, i, groups), row-major."""
    right: npt.NDArray[np.float64]
    """Shape (batch, groups, j), row-major."""
    tensors: float = 1.0
    """The product of the scales of both tensors."""


class Loop(NamedTuple):
    """A loop and the numbers of its formats."""

    compiled: Any
    kind: Kind
    numbers: tuple[npt.NDArray[Any], ...]

    @property
    def is_drawn(self) -> bool:
        """Whether it needs random words for every product."""
        return is_drawn(self.kind.step.mode) or (
            self.kind.product is not None and is_drawn(self.kind.product.mode)
        )


@lru_cache(maxsize=256)
def kind_of(arithmetic: Arithmetic, path: Path, out: str) -> tuple[Kind, tuple[npt.NDArray[Any], ...]]:
    """What the loop for an arithmetic holds constant, and the numbers of its formats."""
    mode, bits = arithmetic.rounding, arithmetic.random_bits
    step = _numbers(
        arithmetic.sum_format, mode, bits, path.carrier,
        middle=path.middle, reached=path.reached, depth=path.depth,
    )  # fmt: skip
    product = chunk = again = None
    if arithmetic.multiply is not None and arithmetic.multiply_rounding is not None:
        product = _numbers(
            arithmetic.multiply,
            arithmetic.multiply_rounding,
            bits,
            path.carrier,
            middle=path.middle,
            reached=False,
        )
    if path.is_doubtful:
        again = _numbers(arithmetic.sum_format, mode, bits, "float64")
    if arithmetic.chunk_accumulate is not None:
        chunk = numbers_of_last(arithmetic)
    kind = Kind(
        path.carrier, path.odd, path.rest_odd, step.family,
        None if product is None else product.family,
        None if chunk is None else chunk.family,
        None if again is None else again.family,
        arithmetic.order == "pairwise", arithmetic.compensation is not None, out, arithmetic.in_blocks,
    )  # fmt: skip
    return kind, tuple((step if n is None else n).memory for n in (step, product, chunk, again))


@lru_cache(maxsize=256)
def loop_of(arithmetic: Arithmetic, path: Path, out: str) -> Loop:
    """The loop for an arithmetic."""
    kind, numbers = kind_of(arithmetic, path, out)
    return Loop(products.multiplying(kind), kind, numbers)


def multiply(
    a: Operand, b: Operand, out: int, carrier: str, arithmetic: Arithmetic, *,
    bias: Operand | None = None, bias_step: int = 1, seed: int = 0, stream: int = 0, threads: int = 1,
    scales: BlockScales | None = None, block: tuple[int, int, int] | None = None,
) -> None:  # fmt: skip
    """Write the products of two batches of matrices, row-major, in the carrier.

    ``bias`` is one row, of which element i // bias_step, counted on from the beginning again, is added to
    element i of the result. Where a chunk is a block, the operands are elements over ``scales``. ``block``
    is how many rows, columns and products a unit takes at a time; no result depends on it.
    """
    batches, m, depth = a.shape
    n = b.shape[2]
    if batches * m * n == 0:
        return
    left, of_left = pack(a, threads)
    right, of_right = pack(b, threads)
    if arithmetic.is_exact:
        whole = arithmetic.chunk is None
        exact_sums.multiply(
            (left, of_left), (right, of_right), out, carrier, arithmetic, bias=bias if whole else None,
            bias_step=bias_step, seed=seed, stream=stream, threads=threads,
        )  # fmt: skip
        bias = None if whole else bias
    elif depth > 0 and (word := word_of(arithmetic, of_left, of_right)) is not None:
        integers.multiply((left, of_left), (right, of_right), out, carrier, word, threads, block)
    else:
        path = path_of(arithmetic, of_left, of_right, depth)
        _add_up(left, right, out, carrier, arithmetic, path, seed, stream, threads, block, scales)
    if bias is not None:
        _add(bias, bias_step, out, carrier, arithmetic, batches * m * n, seed, stream, threads)


def _add_up(
    left: npt.NDArray[np.float64], right: npt.NDArray[np.float64], out: int, carrier: str,
    arithmetic: Arithmetic, path: Path, seed: int, stream: int, threads: int,
    block: tuple[int, int, int] | None, scales: BlockScales | None,
) -> None:  # fmt: skip
    """Round every sum, on a path."""
    batches, m, depth = left.shape
    n = right.shape[2]
    loop = loop_of(arithmetic, path, carrier)
    rows, columns, deep = block or _block(loop, m, n, depth)
    alone = loop.is_drawn or loop.kind.pairwise
    rows, columns = min(1 if alone else rows, m), min(columns, n)
    value = np.dtype(path.carrier)
    left, right = left.astype(value, copy=False), _in_panels(right, columns, value)
    deep = min(deep, max(depth, 1))
    geometry, room = _geometry(loop, arithmetic, (m, n, depth), (rows, columns, deep), scales)
    units = batches * -(-m // rows) * -(-n // columns)
    parts = ranges(units, 1 if batches * m * n * depth < SERIAL_BELOW or threads == 1 else PARTS * threads)
    scratch = np.empty((len(parts), room), np.uint8)
    addresses = [memory.ctypes.data for memory in (left, right)]
    fixed = (*addresses, out, *(x.ctypes.data for x in loop.numbers), geometry.ctypes.data)
    calls = [(*fixed, scratch[i:].ctypes.data, *part, seed, stream) for i, part in enumerate(parts)]
    share(loop.compiled, calls, threads)


def _add(
    bias: Operand, step: int, out: int, carrier: str, arithmetic: Arithmetic, size: int, seed: int,
    stream: int, threads: int,
) -> None:  # fmt: skip
    """Add a bias to a result."""
    row, measure = pack(bias, 1)
    check_bias(arithmetic, measure)
    numbers = numbers_of_last(arithmetic)
    loop = products.adding(numbers.family, carrier)
    parts = ranges(size, 1 if size < SERIAL_BELOW or threads == 1 else PARTS * threads)
    fixed = row.ctypes.data, out, numbers.memory.ctypes.data, step, bias.shape[2]
    share(loop, [(*fixed, *part, seed, stream + products.BIAS) for part in parts], threads)


def _in_panels(right: npt.NDArray[np.float64], width: int, value: np.dtype[Any]) -> npt.NDArray[Any]:
    """The columns of each block, row by row, one block after the other."""
    batches, depth, n = right.shape
    if width == n:
        return right.astype(value, copy=False)
    out = np.empty((batches, depth * n), value)
    for first in range(0, n, width):
        panel = right[:, :, first : first + width]
        place = out[:, first * depth : (first + panel.shape[2]) * depth]
        place.reshape(panel.shape)[...] = panel
    return out


def _block(loop: Loop, m: int, n: int, depth: int) -> tuple[int, int, int]:
    """Rows, columns and depth of a unit."""
    if loop.is_drawn:
        deep = TILE if depth % TILE == 0 else min(max(depth, 1), 2 * TILE)
        columns = max(64, min(_COLUMNS, _WORDS // deep // TURNED * TURNED))
        return 1, columns, deep
    columns = max(64, min(_COLUMNS, _FACTOR // max(depth, 1) // 32 * 32))
    return _ROWS, columns, max(depth, 1)


def _geometry(
    loop: Loop, arithmetic: Arithmetic, sizes: tuple[int, int, int], blocks: tuple[int, int, int],
    scales: BlockScales | None,
) -> tuple[npt.NDArray[np.int64], int]:  # fmt: skip
    """What a loop finds at its geometry, and how much memory of its own a call needs."""
    m, n, depth = sizes
    rows, columns, deep = blocks
    geometry = np.zeros(products.SIZE, np.int64)
    chunk = arithmetic.chunk if isinstance(arithmetic.chunk, int) else max(depth, 1)
    if scales is not None:
        chunk = scales.size
        geometry[products.LEFT_SCALES] = scales.left.ctypes.data
        geometry[products.RIGHT_SCALES] = scales.right.ctypes.data
        geometry[products.TENSOR_SCALE] = np.float64(scales.tensors).view(np.int64)
    geometry[: products.CARRIED_AT] = m, n, depth, chunk, rows, columns, deep, m * depth, depth * n
    levels = depth.bit_length() + 2 if loop.kind.pairwise else rows
    turns = loop.is_drawn and not loop.kind.pairwise
    shared = columns_of_tile(n, depth, columns, deep) if turns else 0
    many = RUN * shared if shared else TURNED
    lanes = -(-columns // many) * many
    geometry[products.LANES : products.SHARED + 1] = lanes, deep + PAD, shared
    words = 4 * lanes * (deep + PAD) if loop.is_drawn else 0
    noise = 4 * lanes * TURNED if turns and not shared else 0
    at = 0
    for entry, size in (
        (None, 8 * levels * columns),
        (products.CARRIED_AT, 8 * rows * columns),
        (products.TOTALS_AT, 8 * rows * columns),
        (products.STARTS_AT, 8 * levels),
        (products.TILE_AT, 4 * max(TILE, columns)),
        (products.WORDS_AT, words),
        (products.PRODUCT_WORDS_AT, words),
        (products.NOISE_AT, noise),
        (products.PRODUCT_NOISE_AT, noise),
        (products.KEPT_AT, 8 * columns),
    ):
        if entry is not None:
            geometry[entry] = at
        at += -(-size // 64) * 64
    return geometry, at
