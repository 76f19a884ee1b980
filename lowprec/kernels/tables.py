"""Decisions for formats that list their values; see scalar.py for the words.

A deterministic mode is a staircase: for either sign there are ascending magnitudes, the thresholds, and
how many of them a magnitude reaches says which value it becomes. So the modes differ in their tables,
which tabulate.py makes, and not in what is done here. The leading part of a magnitude, cut to a number
within bounds, is looked up to begin with; if more than one threshold can share it, a search goes on.

A stochastic mode looks up the two neighbors and compares exactly in binary64; see ``goes_up``.
"""

import numpy as np

from lowprec.kernels.fused import fused
from lowprec.kernels.memory import constant_at
from lowprec.kernels.quotients import SOURCE_INFINITY, SOURCE_SIGN, widened
from lowprec.kernels.scalar import (
    DEPTH,
    INFINITE_NEGATIVE,
    INFINITE_POSITIVE,
    INFINITY,
    MODE,
    OVER_NEGATIVE,
    OVER_POSITIVE,
    PLACE,
    QUIET_NAN,
    RANDOM_BITS,
    SIGN,
    STOCHASTIC,
    STOCHASTIC_EQUAL,
    STOCHASTIC_NEAREST,
    U32,
    U64,
    ZERO_SIGN,
    I,
    U,
    goes_past,
    larger,
    smaller,
    split,
)

# More values of DEPTH: how many thresholds may share a leading part. One more than LISTED for each that
# every part has room of its own for, up to MOST_ROOMS; more than that are searched, and DEPTH is larger
# than SEARCHED by the number of steps.
LISTED = 5
MOST_ROOMS = 3
SEARCHED = 8

# The entries of numbers, beside those above. Offsets are in bytes from where the table begins.
(
    LOW_ADDRESS, HIGH_ADDRESS,  # two halves of the address of the table
    LEAST, MOST,  # magnitudes beyond which there is no threshold
    SHIFT,  # how many low bits are not in the leading part
    PARTS,  # how many leading parts there are: those of negative numbers follow
    STARTS, THRESHOLDS, RESULTS,  # where these begin
) = range(9)  # fmt: skip
SUMMAND, FIRST = 10, 11  # the leading part is that of the sum with the one, less the other
ENDS, GAPS, CODES_AT, VALUES_AT = 23, 24, 25, 26
"""Where these begin: of each place the value that is the end nearer zero, and the way to the next."""
PLACES, COUNT_OF_CODES = 19, 28
"""How many places there are: the result that is the next value lies so many farther."""
UNDER, CODE_OF_NAN, POSITIVE_CODE, NEGATIVE_CODE = 27, 12, 13, 22
"""A positive magnitude below the least value; the codes of NaN and infinities."""


def address(numbers, entry):
    """Where a part of the table lies in memory."""
    high = np.int64(np.int64(numbers[HIGH_ADDRESS]) << np.int64(32))
    return np.int64(np.int64(np.int64(numbers[LOW_ADDRESS]) | high) + np.int64(numbers[entry]))


def place_of(magnitude, negative, numbers):
    """Where the results of a magnitude are found; ``negative`` is 0 or 1.

    There is no branch on what is not known beforehand, such as the sign.
    """
    thresholds = address(numbers, THRESHOLDS)
    key = U(spread(smaller(larger(magnitude, numbers[LEAST]), numbers[MOST]), numbers) - numbers[FIRST])
    part = I(U(U(key >> numbers[SHIFT]) + U(numbers[PARTS] * negative)))
    if DEPTH <= SEARCHED:
        rooms = I(DEPTH - LISTED)
        first, reached = I(part * rooms), I(0)
        for k in range(DEPTH - LISTED):
            reached = I(reached + reaches(magnitude, thresholds, I(first + I(k))))
        return I(I(first + part) + reached)
    place = I(constant_at(address(numbers, STARTS), part, np.int32))
    for k in range(DEPTH - SEARCHED):
        step = I(1 << (DEPTH - SEARCHED - 1 - k))
        place = I(place + I(step * reaches(magnitude, thresholds, I(I(place + step) - I(1)))))
    return place


def spread(magnitude, numbers):
    """The pattern of a number to which a constant is added, so that small ones do not take all the room.

    A sum of rounded numbers is monotonic, which is all that matters.
    """
    if PLACE == 63:
        return U(
            np.float64(U64(magnitude).view(np.float64) + U64(numbers[SUMMAND]).view(np.float64)).view(U64)
        )
    if PLACE == 31:
        return U(
            np.float32(U32(magnitude).view(np.float32) + U32(numbers[SUMMAND]).view(np.float32)).view(U32)
        )
    return magnitude


def reaches(magnitude, thresholds, place):
    """1 if a magnitude reaches the threshold at a place, else 0."""
    return I(1) if constant_at(thresholds, place, U) <= magnitude else I(0)


def listed_bits(bits, _ceiling, numbers):
    """The pattern of one value to which a deterministic mode goes."""
    magnitude, sign = split(bits)
    place = place_of(magnitude, U(sign >> U(PLACE)), numbers)
    result = constant_at(address(numbers, RESULTS), place, U)
    infinite = numbers[INFINITE_NEGATIVE] if sign != U(0) else numbers[INFINITE_POSITIVE]
    result = infinite if magnitude == INFINITY else result
    return bits if magnitude > INFINITY else result


def listed_fired(bits, _ceiling, numbers):
    """1 where a finite number lies past the ends of the list, or an infinity does not stay one; else 0."""
    magnitude, sign = split(bits)
    infinite = numbers[INFINITE_NEGATIVE] if sign != U(0) else numbers[INFINITE_POSITIVE]
    changed = U(infinite & U(SIGN - U(1))) != INFINITY
    return fired(magnitude, sign != U(0) and magnitude != U(0), changed, magnitude == INFINITY, numbers)


def fired(magnitude, negative, changed, infinite, numbers):
    """1 where a number lies past an end, unless the mode stays on the near side of it."""
    above = magnitude >= numbers[OVER_POSITIVE] and not negative
    below = magnitude >= numbers[OVER_NEGATIVE] if negative else magnitude < numbers[UNDER]
    past = changed if infinite else goes_past(above, False) or goes_past(below, True)
    return U(0) if magnitude > INFINITY else (U(1) if past else U(0))


def goes_up(x, near, gap, ceiling, numbers):
    """Whether a number of binary64 that lies ``x - near`` of the way ``gap`` goes on to its end, by a word.

    With k random bits r, it does where the fraction times 2^k, truncated, plus r is at least 2^k: where
    (x - near) 2^(k+1) >= (2^(k+1) - 2 r) gap. Both sides are exact as a rounded number and its error; and
    rounding is monotonic, so the errors decide only where the rounded numbers are equal.
    """
    if MODE == STOCHASTIC_EQUAL:
        return (x > near) & (gap < np.inf) & (ceiling < U32(1 << 31))
    width = U64(numbers[RANDOM_BITS])
    count = U64(U64(U64(ceiling) >> U64(U64(32) - width)) + U64(1))  # 2^k - r
    halves = U64(U64(count << U64(1)) - U64(0 if MODE == STOCHASTIC else 1))
    factor = U64(U64(U64(1024) + width) << U64(52)).view(np.float64)
    difference = np.float64(x - near)
    back = np.float64(difference - x)
    lost = np.float64(np.float64(x - np.float64(difference - back)) - np.float64(near + back))
    way, rest = np.float64(difference * factor), np.float64(lost * factor)
    asked = np.float64(np.float64(halves) * gap)
    error = fused(np.float64(halves), gap, -asked)
    tie = MODE != STOCHASTIC_NEAREST or U64(count & U64(1)) == U64(0)  # which goes to the even number
    return (way > asked) | ((way == asked) & ((rest > error) | ((rest == error) & tie)))


def drawn_bits(bits, ceiling, numbers):
    """The pattern of one value to which a stochastic mode goes; that of the carrier, in 64 bits."""
    magnitude = U(bits & U(SOURCE_SIGN - U(1)))
    negative = (magnitude != bits) & (U(magnitude | numbers[ZERO_SIGN]) != U(0))
    wide = widened(magnitude)
    place = place_of(wide, U(1) if negative else U(0), numbers)
    near = constant_at(address(numbers, ENDS), place, np.float64)
    gap = constant_at(address(numbers, GAPS), place, np.float64)
    up = goes_up(U64(wide).view(np.float64), near, gap, ceiling, numbers)
    result = constant_at(address(numbers, RESULTS), I(place + (I(numbers[PLACES]) if up else I(0))), U)
    infinite = numbers[INFINITE_NEGATIVE] if negative else numbers[INFINITE_POSITIVE]
    result = infinite if magnitude == SOURCE_INFINITY else result
    return bits if magnitude > SOURCE_INFINITY else result


def drawn_fired(bits, _ceiling, numbers):
    """As ``listed_fired``."""
    magnitude = U(bits & U(SOURCE_SIGN - U(1)))
    negative = magnitude != bits and magnitude != U(0)
    infinite = numbers[INFINITE_NEGATIVE] if negative else numbers[INFINITE_POSITIVE]
    changed = U(infinite & U(SOURCE_SIGN - U(1))) != SOURCE_INFINITY
    wide = widened(magnitude) if magnitude < SOURCE_INFINITY else INFINITY
    wide = wide if magnitude <= SOURCE_INFINITY else QUIET_NAN
    return fired(wide, negative, changed, magnitude == SOURCE_INFINITY, numbers)


def listed_code(bits, numbers):
    """The code of a value of the list, found by a table to nearest."""
    magnitude, sign = split(bits)
    negative = sign != U(0)
    place = place_of(magnitude, U(sign >> U(PLACE)), numbers)
    code = U(constant_at(address(numbers, CODES_AT), place, U32))
    code = (numbers[NEGATIVE_CODE] if negative else numbers[POSITIVE_CODE]) if magnitude == INFINITY else code
    return numbers[CODE_OF_NAN] if magnitude > INFINITY else code


def listed_value(code, numbers):
    """The value of a code; NaN for one that stands for nothing."""
    known = smaller(U(code), numbers[COUNT_OF_CODES])
    return constant_at(address(numbers, VALUES_AT), I(known), U)
