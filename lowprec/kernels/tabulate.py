"""The tables of formats that list their values: thresholds of every mode, exactly, as patterns."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import TabledFormat
from lowprec.formats.carriers import CARRIERS, Carrier
from lowprec.formats.format import floor_log2, power_of_two
from lowprec.kernels import scalar, stairs, tables
from lowprec.kernels.leading import index_of
from lowprec.kernels.specialize import WIDTHS
from lowprec.modes import Overflow, Rounding

_LINE = 64
"""Bytes that are fetched together."""


class _Side(NamedTuple):
    """The values of one sign, in the direction in which magnitudes grow."""

    indices: Sequence[int]
    """Their positions among all."""
    ladder: Sequence[Fraction]
    """Them, times the sign; the first may be negative: the nearest one beyond zero."""


@lru_cache(maxsize=256)
def tabulate(
    format: TabledFormat, rounding: Rounding, random_bits: int, carrier: str
) -> tuple[npt.NDArray[Any], int]:
    """The numbers of tables.py for a format, mode and carrier, with the table behind them; the depth."""
    drawn = rounding.is_stochastic
    space, wide = CARRIERS[carrier], CARRIERS["float64" if drawn else carrier]
    sides = [_side(format, space, negative=negative) for negative in (False, True)]
    thresholds = []
    for side, negative in zip(sides, (False, True), strict=True):
        steps = _steps(format, side, rounding, negative=negative)
        thresholds.append(np.array([_pattern(*step, wide) for step in steps], np.uint64))
    if not drawn:
        sides[1], thresholds[1] = _without_negative_zero(format, sides, thresholds)
    index = index_of(thresholds, "float64" if drawn else carrier)
    values = format.values_in(space)
    infinite = [_of_infinity(format, space, negative=negative) for negative in (False, True)]
    numbers = dict.fromkeys(range(scalar.COUNT), 0)
    numbers.update({
        tables.LEAST: index.least,
        tables.MOST: index.most,
        tables.SHIFT: index.shift,
        tables.SUMMAND: index.summand,
        tables.FIRST: index.first,
        tables.PARTS: index.parts,
        tables.UNDER: _pattern(values[0], False, wide) if values[0] > 0 else 0,
        tables.COUNT_OF_CODES: len(format.code_values()),
        tables.CODE_OF_NAN: format.table.nan or 0,
        tables.POSITIVE_CODE: format.table.infinity or 0,
        tables.NEGATIVE_CODE: format.table.negative_infinity or 0,
        scalar.RANDOM_BITS: random_bits,
        scalar.ZERO_SIGN: _sign_bit(space) if format.has_signed_zero else 0,
        scalar.OVER_POSITIVE: _pattern(values[-1], True, wide),
        scalar.OVER_NEGATIVE: _pattern(-values[0], True, wide) if values[0] < 0 else 1,
        scalar.INFINITE_POSITIVE: infinite[0],
        scalar.INFINITE_NEGATIVE: infinite[1],
    })  # fmt: skip
    memory = WIDTHS["float64" if drawn else carrier].unsigned
    parts: dict[int, npt.NDArray[Any]] = {
        tables.STARTS: index.starts,
        tables.THRESHOLDS: index.thresholds.astype(memory),
        tables.RESULTS: index.aligned([_results(format, side, space) for side in sides], memory),
        tables.CODES_AT: index.aligned([_codes(format, side) for side in sides], np.uint32),
        tables.VALUES_AT: np.array(_values(format, space), memory),
    }
    if drawn:
        lower = parts[tables.RESULTS]
        upper = index.aligned([_later(_results(format, side, space)) for side in sides], memory)
        parts[tables.RESULTS], numbers[tables.PLACES] = np.concatenate([lower, upper]), lower.size
        parts[tables.ENDS] = index.aligned([[float(w) for w in side.ladder] for side in sides], np.float64)
        parts[tables.GAPS] = index.aligned([_gaps(format, side) for side in sides], np.float64)
    return _laid_out(numbers, parts, memory), index.depth


def staircase(format: TabledFormat, rounding: Rounding) -> npt.NDArray[Any] | None:
    """The numbers of stairs.py with the table behind them, if there are few steps, up and down from zero."""
    space, values = CARRIERS["float64"], format.table.finite
    ends = [_signed_pattern(Fraction(end), space) for end in (values[-1], values[0])]
    infinite = [_of_infinity(format, space, negative=negative) for negative in (False, True)]
    if len(values) > stairs.STEPS + 1 or 0.0 not in values or format.has_signed_zero or infinite != ends:
        return None
    steps: list[tuple[Fraction, bool]] = []
    for negative in (True, False):
        side = _steps(format, _side(format, space, negative=negative), rounding, negative=negative)
        # What goes down from a step stays below it, so that a step up is open where one down is not.
        steps += [(-bound, not past) for bound, past in reversed(side)] if negative else side
    unused = stairs.STEPS + 1 - len(steps)
    parts = {
        stairs.BOUNDS: np.array([float(bound) for bound, _ in steps] + [np.nan] * unused),
        stairs.OPEN: np.array([past for _, past in steps] + [False] * unused, np.uint64),
        stairs.VALUES_OF_STEPS: np.array([0.0, *values, *[np.nan] * (unused - 1)]),
    }
    return _laid_out(dict.fromkeys(range(scalar.COUNT), 0), parts, np.uint64)


def _side(format: TabledFormat, carrier: Carrier, *, negative: bool) -> _Side:
    """The values of a sign, and before them zero or else the nearest one beyond it."""
    values = format.values_in(carrier)
    if negative:
        start = bisect_left(values, 0)
        indices = [*range(min(start, len(values) - 1), -1, -1)]
        return _Side(indices, [-values[i] for i in indices])
    start = bisect_right(values, 0)
    indices = [*range(max(start - 1, 0), len(values))]
    return _Side(indices, [values[i] for i in indices])


def _steps(
    format: TabledFormat, side: _Side, mode: Rounding, *, negative: bool
) -> list[tuple[Fraction, bool]]:
    """For each value but the first the least magnitude that becomes it, and whether it itself does not."""
    sign = -1 if negative else 1
    boundaries = format.boundaries() if mode.startswith("nearest") else ()
    steps = []
    for (i, low), (j, high) in pairwise(zip(side.indices, side.ladder, strict=True)):
        at_upper, past_lower = (high, False), (low, True)
        crosses = low < 0 < high
        if boundaries:
            boundary = sign * boundaries[min(i, j)]
            stays = boundary == low or not _tie_goes_on(format, mode, i, low, high, negative=negative)
            step = boundary, stays
            if crosses and boundary == 0:
                step = boundary, negative or mode is Rounding.NEAREST_DOWN
        elif mode.is_stochastic:  # the words decide between two neighbors
            step = at_upper
        elif mode is Rounding.TOWARD_ZERO:
            step = past_lower if crosses and high <= -low else at_upper
        elif mode is Rounding.AWAY:
            step = at_upper if crosses and high < -low else past_lower
        elif mode is Rounding.TO_ODD:
            step = at_upper if not format.is_even(i) else past_lower
        else:
            step = past_lower if (mode is Rounding.DOWN) == negative else at_upper
        steps.append(step)
    return steps


def _without_negative_zero(
    format: TabledFormat, sides: Sequence[_Side], thresholds: Sequence[npt.NDArray[np.uint64]]
) -> tuple[_Side, npt.NDArray[np.uint64]]:
    """The negative side, where -0 becomes what +0 does."""
    values, (positive, negative) = format.table.finite, sides
    if 0.0 in values:
        return negative, thresholds[1]
    of_zero = positive.indices[int(np.searchsorted(thresholds[0], 0, side="right"))]
    first = int(thresholds[1].size > 0 and thresholds[1][0] <= 1)
    indices = [of_zero, *negative.indices[first:]]
    return _Side(indices, ()), np.concatenate([np.ones(1, np.uint64), thresholds[1][first:]])


def _tie_goes_on(
    format: TabledFormat, mode: Rounding, index: int, low: Fraction, high: Fraction, *, negative: bool
) -> bool:  # fmt: skip
    """Whether a tie goes on from the value of this index, the lower one in the direction of its sign."""
    match mode:
        case Rounding.NEAREST_EVEN:
            return not format.is_even(index)
        case Rounding.NEAREST_ODD:
            return format.is_even(index)
        case Rounding.NEAREST_AWAY:
            return abs(high) >= abs(low)
        case Rounding.NEAREST_ZERO:
            return abs(high) < abs(low)
        case _:
            return (mode is Rounding.NEAREST_DOWN) == negative


def _pattern(bound: Fraction, past: bool, carrier: Carrier) -> int:
    """The pattern of the least magnitude of a carrier that is at least ``bound``, or is ``past`` it."""
    if bound <= 0:
        return int(past and bound == 0)
    exponent = max(floor_log2(bound), 1 - carrier.highest_exponent)
    units = bound * power_of_two(carrier.precision - 1 - exponent)
    count = units.numerator // units.denominator
    count += past or count != units
    return count + ((exponent + carrier.highest_exponent - 1) << (carrier.precision - 1))


def _sign_bit(carrier: Carrier) -> int:
    """The sign of a pattern."""
    return (2 * carrier.highest_exponent + 2) << (carrier.precision - 1)


def _signed_pattern(value: Fraction, carrier: Carrier) -> int:
    """The pattern of a value that a carrier has."""
    return _pattern(abs(value), False, carrier) | (_sign_bit(carrier) if value < 0 else 0)


def _of_infinity(format: TabledFormat, carrier: Carrier, *, negative: bool) -> int:
    """The pattern of what an infinity becomes."""
    infinity = _sign_bit(carrier) - (1 << (carrier.precision - 1))
    if format.infinity_is_nan:
        return infinity | 1 << (carrier.precision - 2)
    stays = format.table.negative_infinity if negative else format.table.infinity
    if stays is not None and format.overflow != Overflow.SATURATE_ALL:
        return infinity | (_sign_bit(carrier) if negative else 0)
    end = format.values_in(carrier)[0 if negative else -1]
    if end == 0 and negative and format.has_signed_zero:
        return _sign_bit(carrier)
    return _signed_pattern(end, carrier)


def _results(format: TabledFormat, side: _Side, carrier: Carrier) -> list[int]:
    """The patterns of a side's values."""
    values = format.values_in(carrier)
    patterns = [_signed_pattern(values[i], carrier) for i in side.indices]
    if format.has_signed_zero and side.indices[0] >= side.indices[-1] and values[side.indices[0]] == 0:
        patterns[0] = _sign_bit(carrier)
    return patterns


def _codes(format: TabledFormat, side: _Side) -> list[int]:
    """The codes of a side's values."""
    known = format.table.codes
    codes = [known[i] for i in side.indices]
    if format.table.negative_zero is not None and side.indices[0] >= side.indices[-1]:
        codes[0] = format.table.negative_zero
    return codes


def _values(format: TabledFormat, carrier: Carrier) -> list[int]:
    """The pattern of each code, and at the end that of those that stand for nothing."""
    infinity = _sign_bit(carrier) - (1 << (carrier.precision - 1))
    nan = infinity | 1 << (carrier.precision - 2)
    patterns = [nan] * (len(format.code_values()) + 1)
    for code, value in zip(format.table.codes, format.values_in(carrier), strict=True):
        patterns[code] = _signed_pattern(value, carrier)
    for special, pattern in (
        (format.table.negative_zero, _sign_bit(carrier)),
        (format.table.infinity, infinity),
        (format.table.negative_infinity, infinity | _sign_bit(carrier)),
    ):
        if special is not None:
            patterns[special] = pattern
    return patterns


def _later(results: list[int]) -> list[int]:
    """The next of each, of the last one itself."""
    return [*results[1:], results[-1]]


def _gaps(format: TabledFormat, side: _Side) -> list[float]:
    """The distance from each value to the next, infinite from the last."""
    return [*(float(high - low) for low, high in pairwise(side.ladder)), np.inf]


def _laid_out(numbers: dict[int, int], parts: dict[int, npt.NDArray[Any]], memory: Any) -> npt.NDArray[Any]:
    """The numbers and, in the same memory, the parts one after the other."""
    offset = 0
    for entry, part in parts.items():
        numbers[entry] = offset
        offset += -(-part.nbytes // _LINE) * _LINE
    head = -(-scalar.COUNT * np.dtype(memory).itemsize // _LINE) * _LINE
    room = np.zeros(head + offset + _LINE, np.uint8)
    begin = -room.ctypes.data % _LINE
    address = room.ctypes.data + begin + head
    for entry, part in parts.items():
        place = begin + head + numbers[entry]
        room[place : place + part.nbytes] = part.view(np.uint8)
    numbers[tables.LOW_ADDRESS], numbers[tables.HIGH_ADDRESS] = address & 0xFFFFFFFF, address >> 32
    array = room[begin : begin + scalar.COUNT * np.dtype(memory).itemsize].view(memory)
    array[:] = [numbers[i] for i in range(scalar.COUNT)]
    return array  # a view, which keeps the room
