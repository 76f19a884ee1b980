"""Which way results of single operations are rounded to a format, and the calls of the loops."""

import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from lowprec.arithmetic import digits, guard_bits
from lowprec.formats import FixedPoint, FloatingPoint, Format, Logarithmic, Posit, TabledFormat, resolve
from lowprec.kernels import cpu
from lowprec.kernels.elementary import UNIT, narrowing, operating, rounding_wide
from lowprec.kernels.elementwise import SERIAL_BELOW, kernel_of, walk_of
from lowprec.kernels.exact import ADD, DIVIDE, EXACT, FUSE, MULTIPLY, ROOT
from lowprec.kernels.numbers import MODES, describe
from lowprec.kernels.program import BUFFERS, NEXT_NUMBER, UNIT_NUMBER, Argument, Program, stage
from lowprec.modes import Overflow, Rounding

OPERATIONS = {"add": ADD, "mul": MULTIPLY, "div": DIVIDE, "sqrt": ROOT, "fma": FUSE}

_RESULTS, _PLACES, _ROOM = BUFFERS, BUFFERS + 8 * UNIT, BUFFERS + 16 * UNIT
"""Where in a runner's own memory the results of a unit lie, and the places of significands."""

_HELD = 53
"""Significant bits of binary64, in which results are rounded to odd."""
_HIGHEST, _LOWEST = 2.0**900, 2.0**-900
"""Between these, no result that matters is past the range of binary64."""


def overflow_of(format: Format) -> Overflow | None:
    """The overflow rule of a format that has one."""
    return getattr(format, "overflow", None)


def most_random_bits(format: FloatingPoint | FixedPoint) -> int:
    """How many random bits a format leaves room for; below 1 if none."""
    return EXACT - guard_bits(Rounding.STOCHASTIC, 0) - significant(format)


def significant(format: FloatingPoint | FixedPoint | Posit) -> int:
    """How many bits of a result may lie above the place it is rounded at."""
    return format.bits if isinstance(format, Posit) else digits(format)


@lru_cache(maxsize=1024)
def is_quick(format: Format, rounding: Rounding, random_bits: int | None) -> bool:
    """Whether a result rounded to odd in binary64 is rounded to the format as the exact one is.

    Args:
        format: One without groups.
        rounding: The mode.
        random_bits: How many bits of noise it looks at; None for 32.
    """
    guard = guard_bits(rounding, random_bits)
    if isinstance(format, Logarithmic) or overflow_of(format) in (Overflow.WRAP, Overflow.UNBOUNDED):
        return False  # boundaries that are no binary numbers; numbers past all that binary64 tells apart
    if isinstance(format, TabledFormat):
        return _crowding(format) + guard <= _HELD
    if not isinstance(format, FloatingPoint | FixedPoint | Posit):
        return False
    middle = max(format.max, -format.min) <= _HIGHEST and format.smallest_subnormal >= _LOWEST
    return middle and significant(format) + guard <= _HELD


@lru_cache(maxsize=256)
def _crowding(format: TabledFormat) -> int:
    """How many significant bits two neighbors have at most, of which the last is worth the same in both."""
    most = 0
    for low, high in pairwise(format.table.exact):
        scale = max(low.denominator, high.denominator)
        a, b = abs(int(low * scale)), abs(int(high * scale))
        most = max(most, (max(a, b) // ((a | b) & -(a | b))).bit_length())
    return most


@lru_cache(maxsize=1024)
def is_wide(format: Format, rounding: Rounding, random_bits: int | None) -> bool:
    """Whether a significand of exact.py is."""
    if not isinstance(format, FloatingPoint | FixedPoint) or overflow_of(format) is Overflow.UNBOUNDED:
        return False
    return significant(format) + guard_bits(rounding, random_bits) <= EXACT


class _Own(threading.local):
    """The memory that each thread of Python keeps for its own calls."""

    def __init__(self) -> None:
        self.memory = np.empty(_ROOM, np.uint8)
        self.address = self.memory.ctypes.data


_own = _Own()


def operate(
    operation: str, operands: Sequence[int], carrier: str, out: int, target: str, size: int,
    format: str, rounding: str, random_bits: int, noise: Sequence[int], threads: int,
) -> bool:  # fmt: skip
    """Write the results of one operation on contiguous operands; whether all are known.

    Args:
        operation: A name of OPERATIONS.
        operands: The addresses of their first elements.
        carrier: Theirs, float32 or float64.
        out: The address of the first result.
        target: The carrier of the results, which holds the format.
        size: How many elements there are.
        format: That results are rounded to, such that ``is_quick`` or ``is_wide``.
        rounding: The mode.
        random_bits: How many bits of noise it looks at.
        noise: Seed, stream, and the word of all elements or -1.
        threads: At most so many are used.

    Returns:
        False where a sum or quotient is too large for its integer part to be known modulo a wrapped word.
    """
    parsed, mode, kind = resolve(format), Rounding(rounding), OPERATIONS[operation]
    own = Argument(_RESULTS, -8 * UNIT, own=True), Argument(_PLACES, -8 * UNIT, own=True)
    results, places = own
    scratch, units = Argument(0, own=True), (UNIT_NUMBER, NEXT_NUMBER)
    rounded: Argument | int = out if target == "float64" else results
    x, y, z = (*operands, operands[0], operands[0])[:3]
    quick = is_quick(parsed, mode, random_bits)
    down = int(mode is Rounding.DOWN)
    first = (x, y, z, results, 0 if quick else places, down, size, *units, 0, 0, 0)
    lost = np.zeros(1, np.int64)
    kept: Any
    second: tuple[Any, tuple[Argument | int, ...]]
    if quick:
        kernel, kept = kernel_of(format, rounding, random_bits, "float64", cpu.VALUES), walk_of(size, UNIT)
        walk = (kernel.numbers, kept[0].ctypes.data, kept[1].ctypes.data, 0)
        second = kernel.loop, (results, rounded, *walk, scratch, *units, *noise)
    else:
        kept, _, ending = describe(parsed, mode, random_bits, "float64")
        loop = rounding_wide(MODES[mode], ending, random_bits == 32)
        numbers = kept.ctypes.data, size, lost.ctypes.data
        second = loop, (results, places, rounded, *numbers, scratch, *units, *noise)
    stages = [(operating(kind, carrier), first), second]
    if target != "float64":
        stages.append((narrowing(target), (results, out, size, *units)))
    _run(stages, -(-size // UNIT), threads if size >= SERIAL_BELOW else 1)
    return not lost[0]


def _run(stages: list[tuple[Any, tuple[Argument | int, ...]]], units: int, threads: int) -> None:
    """All stages on every unit."""
    if threads > 1:
        rows = [stage(loop, arguments) for loop, arguments in stages]
        Program(rows, [(0, len(rows), units)], _ROOM).run(threads)
        return
    for unit in range(units):
        for loop, arguments in stages:
            loop(*(_at(argument, unit) for argument in arguments))


def _at(argument: Argument | int, unit: int) -> int:
    """An argument for one unit, where the memory is this thread's."""
    if isinstance(argument, int):
        return argument
    return argument.start + unit * argument.step + argument.own * _own.address
