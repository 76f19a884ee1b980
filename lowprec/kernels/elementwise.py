"""Calls of kernels for formats whose values do not depend on other elements."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import FloatingPoint, Format, resolve
from lowprec.kernels import cpu, walk
from lowprec.kernels.layout import Integers, layout, row_major
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.scalar import DEEP
from lowprec.kernels.scratch import own_scratch, scratches
from lowprec.kernels.specialize import compiled_mode, is_listed
from lowprec.kernels.threads import PARTS, ranges, share
from lowprec.modes import Rounding

SERIAL_BELOW = 1 << 16
"""Elements below which one thread is faster than waking another."""


class Kernel(NamedTuple):
    """A loop, and where it finds what it has to know of a format."""

    loop: Any
    numbers: int
    memory: npt.NDArray[Any]
    """What lies at the address ``numbers``."""
    drawn: bool


@lru_cache(maxsize=256)  # each may hold a table of a megabyte
def kernel_of(format: Format | str, rounding: str, random_bits: int, carrier: str, kind: int) -> Kernel:
    """The kernel for a format, mode and carrier."""
    mode = MODES[Rounding(rounding)]
    numbers, depth, ending = describe(resolve(format), Rounding(rounding), random_bits, carrier)
    compiled = compiled_mode(mode, depth, flags=kind == cpu.FLAGS)
    loop = cpu.elementwise(carrier, compiled, depth, ending, kind, random_bits == 32)
    return Kernel(loop, numbers.ctypes.data, numbers, cpu.is_drawn(mode))


def quantize(
    x: int, out: int, carrier: str, shape: Integers, x_strides: Integers, out_strides: Integers,
    format: Format | str, rounding: str, random_bits: int, kind: int, noise: Integers,
    index_offset: int, index_strides: Integers | None, threads: int,
) -> None:  # fmt: skip
    """Quantize; the arguments are those of dispatch.py's, ``noise`` is seed, stream and word."""
    kernel = kernel_of(format, rounding, random_bits, carrier, kind)
    strides = (index_strides or row_major(shape)) if kernel.drawn else None
    plan = layout(shape, x_strides, out_strides, strides, index_offset, None)
    place = (x, out, kernel.numbers, plan.run, plan.outer, plan.dimensions)
    if plan.size < SERIAL_BELOW or threads == 1:
        kernel.loop(*place, own_scratch(), 0, plan.units, *noise)
        return
    parts = ranges(plan.units, PARTS * threads)
    with scratches(len(parts)) as rooms:
        calls = [(*place, room, *part, *noise) for room, part in zip(rooms, parts, strict=True)]
        share(kernel.loop, calls, threads)


def walk_of(size: int, segment: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What the loops walk contiguous memory by, in units of so many elements."""
    run = np.zeros(9, np.int64)
    run[[walk.LENGTH, walk.SEGMENT, walk.SEGMENTS, walk.GROUP_SIZE]] = (
        size,
        segment,
        -(-size // segment),
        size,
    )
    run[[walk.X_STEP, walk.OUT_STEP, walk.INDEX_STEP]] = 1
    return run, np.zeros(6, np.int64)


def encode(
    x: int, out: int, carrier: str, code: str, size: int, format: Format | str, *, decode: bool = False
) -> None:
    """Write the codes of contiguous values of a format; with ``decode`` the reverse."""
    parsed = resolve(format)
    kernel = kernel_of(parsed, "nearest_even", 32, carrier, cpu.VALUES)
    kind = cpu.DECODED if decode else cpu.CODES
    _, depth, _ = describe(parsed, Rounding.NEAREST_EVEN, 32, carrier)
    depth = depth if is_listed(depth) else DEEP
    loop = cpu.encoding(carrier, kind, isinstance(parsed, FloatingPoint), code, depth)
    loop(x, out, kernel.numbers, 0, size)
