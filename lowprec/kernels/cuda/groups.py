"""The twins of blocks.py's loops: each group's largest magnitude, and elements with the numbers of theirs.

A team of neighboring threads takes a piece of a run that lies in one group. It looks for the largest
magnitude, with which it goes on at once where the piece is the whole group; where others have parts of the
group, it raises what memory holds, and another kernel reads that. Maxima are integers: no order matters.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from lowprec.formats import GroupedFormat, Scaled
from lowprec.kernels.blocks import BLOCK, INTEGERS, Family, decisions_of
from lowprec.kernels.cpu import CODES, DECODED, FLAGS, VALUES, is_drawn
from lowprec.kernels.cuda.elementwise import ceiling_at
from lowprec.kernels.cuda.memory import INSTRUCTIONS, SIMULATED, largest_of, load, raise_to, store
from lowprec.kernels.cuda.tables import on_device
from lowprec.kernels.cuda.twin import THREADS, Queue, Twin, device, tuple_of
from lowprec.kernels.cuda.walks import RUN, Walk, outer_type, walk_of
from lowprec.kernels.cuda.words import words_of
from lowprec.kernels.groups import BLOCK_COUNT, BOTH, finite_magnitude, numbers_of_largest
from lowprec.kernels.layout import Integers, Layout
from lowprec.kernels.numbers import MODES, describe_block, describe_quotients
from lowprec.kernels.philox import LANES, TILE
from lowprec.kernels.posits import TAPERED
from lowprec.kernels.scalar import COUNT, NEAREST_EVEN, U32, larger, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS, compiled_mode, rebound, specialized
from lowprec.kernels.walk import (
    GROUP_SIZE,
    GROUP_STEP,
    INDEX_OFFSET,
    INDEX_STEP,
    LENGTH,
    OUT_STEP,
    SEGMENT,
    SEGMENTS,
    TILE_SIZE,
    X_STEP,
    locate,
)
from lowprec.modes import Rounding


def _shares_counters(run, lanes):
    """Whether a team takes a group in a few turns of its lanes, and quarters of a tile are whole groups."""
    size = run[GROUP_SIZE]
    return size <= _EACH * lanes and size & (size - 1) == 0 and size < LANES and run[LENGTH] >= TILE


def _draw(ceilings, slot, seed, stream, n):
    """Keep the complements of a counter's words in four slots."""
    w0, w1, w2, w3 = words_of(seed, np.uint64(np.int64(stream)), np.uint64(n))
    ceilings[slot] = U32(~w0)
    ceilings[U32(slot + U32(_NEXT))] = U32(~w1)
    ceilings[U32(slot + U32(2 * _NEXT))] = U32(~w2)
    ceilings[U32(slot + U32(3 * _NEXT))] = U32(~w3)


larger_of, smaller_of = device(larger), device(smaller)
shares_counters, draw = device(_shares_counters), device(_draw)
run_at = device(locate)
magnitude_of = finite_magnitude
numbers_of = numbers_of_largest
write = write_at = quantize_bits
"""What makes one element, also in memory, and the numbers of a group; a kernel has its own."""

_WARP = 32
_EACH = 4
"""Elements of a group that a thread takes, where that leaves enough neighbors to read memory in a row."""
_FEW = 8
_NEXT = THREADS
_SLOTS = 4 * _EACH * _NEXT
"""Random words that a block keeps, so many apart of one thread; in registers there would be too many."""


@cache
def rounding(
    carrier: str, mode: int, kind: int, code: str, full: bool, family: Family, state: str, dimensions: int
) -> Twin:
    """The kernel that writes elements.

    ``state`` is the type of what memory holds for each group: scales, which are codes of powers of two or
    binary64; for block floating point largest magnitudes, or their powers of two. Without a type there is
    no such memory: the largest magnitude is found as well.
    """
    scales = family.arithmetic != INTEGERS or (family.scaled and state == "uint8")
    decisions = decisions_of(carrier, mode, family, full=full, compiler=device, instructions=INSTRUCTIONS)
    names: tuple[str, ...] = "overflow_fired", "code_of_element", "value_of_code", "quantize_bits"
    numbers = "numbers_of_code" if scales else "numbers_of_largest"
    if family.arithmetic != INTEGERS:
        numbers = "numbers_of_scale"
        names = "quotient_fired", "code_of_quotient", "value_of_quotient_code", "quantize_quotient"
    own = {
        "magnitude_of": decisions["finite_magnitude"],
        "numbers_of": decisions[numbers],
        "write": decisions[names[(FLAGS, CODES, DECODED, VALUES).index(kind)]],
    }
    dtype, codes = WIDTHS[carrier].memory, np.dtype(code).type
    return _twin(
        own, codes if kind == DECODED else dtype, {FLAGS: np.uint8, CODES: codes}.get(kind, dtype), state,
        carrier, mode, kind, full, family, dimensions, reads=not state, writes=True,
    )  # fmt: skip


@cache
def collecting(carrier: str, source: str, side: int, dimensions: int) -> Twin:
    """The kernel that raises maxima; ``source`` is the type of what is read."""
    decisions = specialized(
        carrier, NEAREST_EVEN, *BLOCK[:2], side=side, compiler=device, instructions=INSTRUCTIONS
    )
    own = {"magnitude_of": decisions["finite_magnitude"]}
    state, read = np.dtype(WIDTHS[carrier].unsigned).name, np.dtype(source).type
    return _twin(
        own, read, read, state, carrier, NEAREST_EVEN, side, True, BLOCK, dimensions, reads=True, writes=False
    )


def _twin(
    decisions: dict[str, Any], given: Any, result: Any, state: str, carrier: str, mode: int, kind: int,
    full: bool, family: Family, dimensions: int, *, reads: bool, writes: bool,
) -> Twin:  # fmt: skip
    """The kernel, compiled for one or both of its parts."""
    wide = family.arithmetic != INTEGERS
    U = np.uint64 if wide else WIDTHS[carrier].unsigned
    I = np.int64 if wide else WIDTHS[carrier].signed  # noqa: E741
    held, drawn = np.dtype(state or "uint8").type, is_drawn(mode) and writes

    def element(x, out, x_place, out_place, ceiling, numbers):
        """One element."""
        store(out, out_place, write(U(load(x, x_place, given)), ceiling, numbers), result)

    def kernel(x, out, states, block, run, outer, units, lanes, near, seed_address, stream, word):
        seed = np.uint64(load(seed_address, 0, np.int64)) if drawn and word < 0 else np.uint64(0)
        x_step, out_step, index_step = run[X_STEP], run[OUT_STEP], run[INDEX_STEP]
        size, teams = run[GROUP_SIZE], cuda.blockDim.x // lanes
        team, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
        row = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
        own, power, sharing = U32(0), 0, False
        if drawn:
            own = U32(cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x)
            ceilings = cuda.shared.array(_SLOTS, types.uint32)
            sharing = word < 0 and index_step == 1 and shares_counters(run, lanes)
            while 1 << power < size:
                power += 1
        for unit in range(row, units, cuda.gridDim.x * cuda.blockDim.y):
            x_at, out_at, index_at, group_at = run_at(outer, unit // run[SEGMENTS])
            begin = unit % run[SEGMENTS] * run[SEGMENT]
            end = smaller_of(begin + run[SEGMENT], run[LENGTH])
            index_at += run[INDEX_OFFSET]
            first = begin // size
            pieces = (end - 1) // size - first + 1
            counter, lowest, quarter, in_turns = np.int64(0), np.int64(0), 0, sharing and index_at % size == 0
            if in_turns:
                # A counter gives the words of four elements, each in its own quarter of a tile: a team takes
                # four pieces one after the other, and draws their words at the first.
                counter = (index_at + begin) // TILE * LANES
                pieces = (((index_at + end - 1) // TILE + 1) * LANES - counter) >> power
            done = 0
            while done < pieces:  # as often by all threads of a row; a range would divide for its length
                piece = first + done + team
                if drawn and in_turns:
                    if quarter == 0:
                        n = counter + ((done + team) << power)
                        lowest = (n // LANES * TILE + n % LANES - index_at) >> power
                        slot, last = own, n + size if team < teams and done + team < pieces else n
                        n += lane
                        while n < last:
                            draw(ceilings, slot, seed, stream, n)
                            slot, n = U32(slot + U32(4 * _NEXT)), n + lanes
                    piece = lowest + (quarter * LANES >> power)
                start, stop = larger_of(begin, piece * size), smaller_of(end, (piece + 1) * size)
                if team >= teams:
                    stop = start
                group = group_at + piece * run[GROUP_STEP]
                largest = U(0)
                if reads:
                    j = start + lane
                    while j < stop:
                        largest = larger_of(largest, magnitude_of(U(load(x, x_at + j * x_step, given))))
                        j += lanes
                    largest = U(largest_of(I(largest), near))
                if not writes:
                    if lane % near == 0 and largest > U(0) and largest > U(load(states, group, held)):
                        raise_to(states, group, largest, held)
                elif start < stop:
                    numbers = numbers_of(largest if reads else U(load(states, group, held)), block)
                    j = start + lane
                    if drawn and in_turns:
                        slot = U32(own + U32(quarter * _NEXT))
                        while j < stop:
                            place, ceiling = out_at + j * out_step, ceilings[slot]
                            write_at(x, out, x_at + j * x_step, place, ceiling, numbers)
                            slot, j = U32(slot + U32(4 * _NEXT)), j + lanes
                    elif drawn and word < 0 and index_step == 1 and size >= TILE:
                        n = (index_at + start) // TILE * LANES + lane
                        last = ((index_at + stop - 1) // TILE + 1) * LANES
                        while n < last:
                            draw(ceilings, own, seed, stream, n)
                            slot, j = own, n // LANES * TILE + n % LANES - index_at
                            for _ in range(4):
                                if start <= j < stop:
                                    place, ceiling = out_at + j * out_step, ceilings[slot]
                                    write_at(x, out, x_at + j * x_step, place, ceiling, numbers)
                                slot, j = U32(slot + U32(_NEXT)), j + LANES
                            n += lanes
                        j = stop
                    while j < stop:
                        ceiling = U32(0)
                        if drawn:
                            ceiling = ceiling_at(seed, stream, word, index_at + j * index_step)
                        write_at(x, out, x_at + j * x_step, out_at + j * out_step, ceiling, numbers)
                        j += lanes
                quarter = quarter + 1 & 3
                if quarter == 0 or not in_turns:
                    quarter, done = 0, done + teams

    own = {**decisions}
    if writes:
        own["write_at"] = device(rebound(element, {**globals(), "write": decisions["write"]}))
    described = tuple_of(U, COUNT) if wide else tuple_of(np.int64, BLOCK_COUNT)
    parameters = *(types.int64,) * 3, described, RUN, outer_type(dimensions), *(types.int64,) * 6
    identity = carrier, mode, kind, full, *family, dimensions, np.dtype(given), np.dtype(result), state
    return Twin(parameters, kernel, own, *identity, reads, writes)


def _teams(queue: Queue, way: Walk, size: int) -> tuple[int, int]:
    """How many threads take a piece of a group together, and how many of them meet in a warp."""
    width = (queue.grid[1] if queue.grid else way.threads)[0]
    whole = width % _WARP == 0  # else a warp has threads of several rows
    if size > way.run[SEGMENT]:
        return width, _WARP if whole else 1
    wanted = min(max(size // _EACH, min(size, _FEW)), _WARP, width) if whole or SIMULATED else 1
    lanes = 1 << (wanted.bit_length() - 1)
    return lanes, lanes


def _walk(queue: Queue, plan: Layout, *, drawn: bool = False) -> tuple[Walk, tuple[int, int]]:
    """How the grid goes through a tensor, and its teams."""
    way = walk_of(plan, groups=True)
    if drawn and _shares_counters(way.run, _WARP):  # of four pieces to a team, a row of threads needs fewer
        wide = _WARP
        while wide < way.threads[0] and wide * 4 * _EACH < way.run[SEGMENT]:
            wide *= 2
        rows = THREADS // wide
        way = way._replace(threads=(wide, rows), blocks=-(-way.units // rows))
    return way, _teams(queue, way, way.run[GROUP_SIZE])


def is_whole(plan: Layout) -> bool:
    """Whether every group lies in one piece, so that nobody else looks for its largest magnitude."""
    way = walk_of(plan, groups=True)
    return way.run[GROUP_SIZE] <= way.run[SEGMENT] and set(way.outer[TILE_SIZE]) == {1}


def collect(
    queue: Queue, x: int, maxima: int, carrier: str, plan: Layout, side: int = BOTH, source: str = ""
) -> None:
    """Raise each group's maximum, 0 to begin with, to the largest finite magnitude of a side.

    Maxima are patterns of the carrier, in 64 bits for float64 and in 32 for the others. ``source`` is the
    type of what is read, if that is no memory of the carrier but maxima again.
    """
    way, teams = _walk(queue, plan)
    read = source or np.dtype(WIDTHS[carrier].memory).name
    twin = collecting(carrier, read, side, way.dimensions)
    unused = (0,) * BLOCK_COUNT
    twin.launch(queue, way.blocks, way.threads, x, 0, maxima, unused, *way.arguments, *teams, 0, 0, -1)


def quantize(
    queue: Queue, x: int, out: int, carrier: str, plan: Layout, format: GroupedFormat, rounding_mode: str,
    random_bits: int, kind: int, noise: Integers, states: int = 0, state: str = "", code: str = "uint32",
) -> None:  # fmt: skip
    """Write the values, flags or codes of elements, or values from codes.

    ``noise`` is the address of the seed, stream and word. ``states`` is the address of what is known of the
    groups and ``state`` its type, as ``rounding`` has it; without them all groups lie in one piece.
    """
    mode = Rounding(rounding_mode)
    numbers: Any
    if isinstance(format, Scaled) and format.levels:
        numbers, family = describe_quotients(format, mode, random_bits)
        if family.depth > TAPERED:
            numbers = on_device(numbers, queue)
    else:
        numbers, family = describe_block(format, mode, random_bits, carrier)
    drawn = noise[2] < 0 and is_drawn(MODES[mode])
    way, teams = _walk(queue, plan, drawn=drawn)
    compiled = compiled_mode(MODES[mode], family.depth, flags=kind == FLAGS)
    twin = rounding(carrier, compiled, kind, code, random_bits == 32, family, state, way.dimensions)
    twin.launch(
        queue, way.blocks, way.threads, x, out, states, tuple(numbers), *way.arguments, *teams, *noise
    )
