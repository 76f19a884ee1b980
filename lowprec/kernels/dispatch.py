"""From a format and raw memory to a kernel call.

The border between Python objects and loops: a format becomes a short array of numbers, a tensor
becomes addresses and a layout, work is shared among threads. Nothing here validates user input; that
is done where the user called.
"""

import sys
from collections.abc import Sequence
from functools import lru_cache

from numba.core import event

from lowprec.arithmetic import Arithmetic
from lowprec.formats import Format, GroupedFormat, Scaled, resolve
from lowprec.kernels import (
    blocks,
    cpu,
    elementary,
    elementwise,
    grouped,
    integers,
    operands,
    overflows,
    products,
    quire,
)
from lowprec.kernels import multiply as of_matrices
from lowprec.kernels import operate as of_elements
from lowprec.kernels.layout import Integers, layout, row_major
from lowprec.kernels.threads import layer
from lowprec.modes import Rounding

_DRAWN = frozenset(str(rounding) for rounding in Rounding if rounding.is_stochastic)


def quantize(
    x: int,
    out: int,
    carrier: str,
    shape: Integers,
    x_strides: Integers,
    out_strides: Integers,
    format: Format | str,
    rounding: str,
    *,
    random_bits: int = 32,
    seed: int = 0,
    stream: int = 0,
    index_offset: int = 0,
    index_strides: Integers | None = None,
    word: int = -1,
    threads: int = 1,
    kind: int = cpu.VALUES,
    scales: grouped.Codes | None = None,
) -> None:
    """Quantize from one piece of memory to another.

    ``x`` and ``out`` are the addresses of first elements, strides count elements. ``kind`` FLAGS
    writes bytes, 1 where overflow fired. Element (i, j, …) takes the random word of index
    ``index_offset + i * index_strides[0] + …``, row-major strides if None, so a shard given its offset
    and its whole's strides rounds as part of the whole. ``seed`` and ``stream`` are signed 64-bit
    integers, whose bits count; a ``word`` that is not negative is every element's instead. ``scales``
    of a scaled format are given in place of what follows from x.
    """
    _announce_compilation()
    tiles = _tiles(format, shape)
    noise = seed, stream, word
    if tiles is None:
        elementwise.quantize(
            x, out, carrier, shape, x_strides, out_strides, format, rounding, random_bits, kind, noise,
            index_offset, index_strides, threads,
        )  # fmt: skip
        return
    strides = (index_strides or row_major(shape)) if rounding in _DRAWN else None
    plan = layout(shape, x_strides, out_strides, strides, index_offset, tiles)
    if plan.units:
        grouped.quantize(x, out, carrier, plan, format, rounding, random_bits, kind, noise, threads, scales)


@lru_cache(maxsize=1024)
def _tiles(format: Format | str, shape: Integers) -> Integers | None:
    """The size of a group along each dimension; None for formats without groups."""
    parsed = resolve(format)
    return parsed.granularity.tiles(shape) if isinstance(parsed, GroupedFormat) else None


def make_scales(
    x: int, carrier: str, shape: Integers, strides: Integers, format: Scaled, *, threads: int = 1
) -> grouped.Codes:
    """The scales of a tensor that is not empty: codes of each level, zero points as they are."""
    _announce_compilation()
    plan = layout(shape, strides, strides, None, 0, format.granularity.tiles(shape))
    return grouped.coded(grouped.make_scales(x, carrier, plan, format, threads).levels, format)


def encode(
    x: int, out: int, carrier: str, code: str, size: int, format: Format | str, *, decode: bool = False
) -> None:
    """Write the codes of contiguous values of a format without groups; with ``decode`` the reverse."""
    _announce_compilation()
    elementwise.encode(x, out, carrier, code, size, format, decode=decode)


def encode_groups(
    x: int, codes: int, carrier: str, code: str, shape: Integers, format: GroupedFormat, rounding: str,
    *, random_bits: int = 32, seed: int = 0, stream: int = 0, threads: int = 1,
    scales: grouped.Codes | None = None,
) -> grouped.Codes:  # fmt: skip
    """Write the codes of contiguous elements, of which there are some; the scales of each level."""
    _announce_compilation()
    return grouped.encode(
        x, codes, carrier, code, shape, format, rounding, random_bits=random_bits, seed=seed,
        stream=stream, threads=threads, given=scales,
    )  # fmt: skip


def decode_groups(
    codes: int,
    out: int,
    scales: grouped.Codes,
    carrier: str,
    code: str,
    shape: Integers,
    format: GroupedFormat,
) -> None:
    """Write the values of contiguous codes, of which there are some."""
    _announce_compilation()
    grouped.decode(codes, out, scales, carrier, code, shape, format)


def multiply(
    a: operands.Operand, b: operands.Operand, out: int, carrier: str, arithmetic: Arithmetic,
    *, bias: operands.Operand | None = None, bias_step: int = 1, seed: int = 0, stream: int = 0,
    threads: int = 1, scales: of_matrices.BlockScales | None = None,
) -> None:  # fmt: skip
    """Write the products of two batches of matrices in an arithmetic, row-major, in the carrier.

    ``bias`` is one row, of which element i // bias_step, counted on from the beginning again, is added to
    element i of the result. Where a chunk is a block, the operands are elements over ``scales``.
    """
    _announce_compilation()
    of_matrices.multiply(
        a, b, out, carrier, arithmetic, bias=bias, bias_step=bias_step, seed=seed, stream=stream,
        threads=threads, scales=scales,
    )  # fmt: skip


def operate(
    operation: str, operands: Sequence[int], carrier: str, out: int, target: str, size: int, format: str,
    rounding: str, *, random_bits: int = 32, seed: int = 0, stream: int = 0, word: int = -1, threads: int = 1,
) -> bool:  # fmt: skip
    """Write the results of one operation on contiguous numbers; see elementary.py."""
    _announce_compilation()
    return of_elements.operate(
        operation, operands, carrier, out, target, size, format, rounding, random_bits,
        (seed, stream, word), threads,
    )  # fmt: skip


def count_overflows(
    a: operands.Operand, b: operands.Operand, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0,
    threads: int = 1,
) -> tuple[int, int] | None:  # fmt: skip
    """How many sums there are in the products of two batches of matrices, and how many of them overflow.

    None where they are not counted.
    """
    _announce_compilation()
    return overflows.count(a, b, arithmetic, seed=seed, stream=stream, threads=threads)


_COMPILED = {
    module.__name__ for module in (cpu, blocks, elementary, integers, operands, overflows, products, quire)
}
"""The modules of loops whose compilation is announced."""


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says once a process that a kernel is being compiled, and where it will be kept."""

    def on_start(self, event: event.Event) -> None:
        """A compilation begins, which Numba tells of only where its disk cache had nothing."""
        dispatcher = event.data["dispatcher"]
        if dispatcher.py_func.__module__ in _COMPILED:
            global _announced
            if not _announced and dispatcher.py_func.__name__ == "loop":
                _announced = True
                place = dispatcher.stats.cache_path
                kept = f"cached in {place}" if place else "not cached: no folder can be written"
                sys.stderr.write(f"lowprec: compiling kernels once ({kept})\n")
                sys.stderr.flush()

    def on_end(self, event: event.Event) -> None:
        """Nothing to say."""


_announced = False


@lru_cache(maxsize=1)
def _announce_compilation() -> None:
    """Listen to Numba from the first kernel call on."""
    event.register("numba:compile", _Announcer())


def cache_folder() -> str | None:
    """Where compiled kernels are kept; None where no folder can be written."""
    loop = elementwise.kernel_of("e4m3fn", "nearest_even", 32, "float32", cpu.VALUES).loop
    return loop.stats.cache_path or None


def info() -> dict[str, str]:
    """What a bug report should say about kernels: cache folder and threading."""
    return {
        "kernel cache": cache_folder() or "none (no folder can be written)",
        "kernel sources": cpu.source_hash()[:12],
        "threading layer": layer(),
    }
