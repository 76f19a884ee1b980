"""Decisions for formats that list their values; see scalar.py for the words.

A deterministic mode is a staircase: for either sign there are ascending magnitudes, the thresholds, and
how many of them a magnitude reaches says which value it becomes. So the modes differ in their tables,
which tabulate.py makes, and not in what is done here. The leading part of a magnitude, cut to a number
within bounds, is looked up to begin with; if more than one threshold can share it, a search goes on.

A stochastic mode looks up the two neighbors and compares exactly in binary64; see ``goes_up``.
"""

import numpy as np

from lowprec.kernels.fused import fused
from lowprec.kernels.memory import at
from lowprec.kernels.quotients import SOURCE_INFINITY, SOURCE_SIGN, widened
from lowprec.kernels.scalar import (
    DEPTH,
    DOWN,
    INFINITE_NEGATIVE,
    INFINITE_POSITIVE,
    INFINITY,
    MODE,
    OVER_NEGATIVE,
    OVER_POSITIVE,
    QUIET_NAN,
    RANDOM_BITS,
    SIGN,
    STOCHASTIC,
    STOCHASTIC_EQUAL,
    STOCHASTIC_NEAREST,
    TO_ODD,
    TOWARD_ZERO,
    U32,
    U64,
    UP,
    ZERO_SIGN,
    U,
    larger,
    smaller,
    split,
)

# Two more values of DEPTH.
LISTED = 5  # at most one threshold shares the leading part
SEARCHED = 6  # several may

# The entries of numbers, beside those above. Offsets are in bytes from where the table begins.
(
    LOW_ADDRESS, HIGH_ADDRESS,  # two halves of the address of the table
    LEAST, MOST,  # magnitudes beyond which there is no threshold
    SHIFT,  # how many low bits of a magnitude are not in its leading part
    PARTS,  # how many leading parts there are: those of negative numbers follow
    STEP,  # half of the most thresholds that share a leading part, a power of two
    THRESHOLDS, RESULTS,  # where these begin
) = range(9)  # fmt: skip
ENDS, GAPS, CODES_AT, VALUES_AT, UNDER, COUNT_OF_CODES, CODE_OF_NAN, POSITIVE_CODE, NEGATIVE_CODE = (
    23, 24, 25, 26, 27, 28, 12, 13, 22,
)  # fmt: skip
"""More offsets; a magnitude below which positive numbers lie below the least value; and codes."""


def address(numbers):
    """Where the table lies in memory."""
    return np.int64(
        np.int64(numbers[LOW_ADDRESS]) | np.int64(np.int64(numbers[HIGH_ADDRESS]) << np.int64(32))
    )


def place_of(magnitude, negative, numbers):
    """How many thresholds a magnitude reaches, counted from where those of the first sign begin."""
    table = address(numbers)
    starts = at(table, np.int32)
    thresholds = at(np.int64(table + np.int64(numbers[THRESHOLDS])), U)
    part = U(U(smaller(larger(magnitude, numbers[LEAST]), numbers[MOST]) - numbers[LEAST]) >> numbers[SHIFT])
    part = U(part + numbers[PARTS]) if negative else part
    place = np.int64(starts[np.int64(part)])
    if DEPTH == LISTED:
        return place + 1 if thresholds[place] <= magnitude else place
    step = np.int64(numbers[STEP])
    while step > 0:
        place = place + step if thresholds[place + step - 1] <= magnitude else place
        step >>= np.int64(1)
    return place


def listed_bits(bits, _ceiling, numbers):
    """The pattern of one value to which a deterministic mode goes."""
    magnitude, sign = split(bits)
    negative = sign != U(0) and U(magnitude | numbers[ZERO_SIGN]) != U(0)
    place = place_of(magnitude, negative, numbers)
    result = at(np.int64(address(numbers) + np.int64(numbers[RESULTS])), U)[place]
    infinite = numbers[INFINITE_NEGATIVE] if negative else numbers[INFINITE_POSITIVE]
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
    if MODE == TOWARD_ZERO or MODE == TO_ODD:
        above, below = False, False
    elif MODE == UP:
        below = False
    elif MODE == DOWN:
        above = False
    past = changed if infinite else above or below
    return U(0) if magnitude > INFINITY else (U(1) if past else U(0))


def goes_up(x, near, gap, ceiling, numbers):
    """Whether a number of binary64 that lies ``x - near`` of the way ``gap`` goes on to its end, by a word.

    With k random bits r, it does where the fraction times 2^k, truncated, plus r is at least 2^k: where
    (x - near) 2^(k+1) >= (2^(k+1) - 2 r) gap. Both sides are exact as a rounded number and its error; and
    rounding is monotonic, so the errors decide only where the rounded numbers are equal.
    """
    if MODE == STOCHASTIC_EQUAL:
        return x != near and gap < np.inf and ceiling < U32(1 << 31)
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
    return way > asked or (way == asked and (rest > error or (rest == error and tie)))


def drawn_bits(bits, ceiling, numbers):
    """The pattern of one value to which a stochastic mode goes; that of the carrier, in 64 bits."""
    magnitude = U(bits & U(SOURCE_SIGN - U(1)))
    negative = magnitude != bits and U(magnitude | numbers[ZERO_SIGN]) != U(0)
    wide = widened(magnitude)
    place = place_of(wide, negative, numbers)
    table = address(numbers)
    near = at(np.int64(table + np.int64(numbers[ENDS])), np.float64)[place]
    gap = at(np.int64(table + np.int64(numbers[GAPS])), np.float64)[place]
    up = goes_up(U64(wide).view(np.float64), near, gap, ceiling, numbers)
    result = at(np.int64(table + np.int64(numbers[RESULTS])), U)[place + 1 if up else place]
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
    negative = sign != U(0) and U(magnitude | numbers[ZERO_SIGN]) != U(0)
    place = place_of(magnitude, negative, numbers)
    code = U(at(np.int64(address(numbers) + np.int64(numbers[CODES_AT])), U32)[place])
    code = (numbers[NEGATIVE_CODE] if negative else numbers[POSITIVE_CODE]) if magnitude == INFINITY else code
    return numbers[CODE_OF_NAN] if magnitude > INFINITY else code


def listed_value(code, numbers):
    """The value of a code; NaN for one that stands for nothing."""
    known = smaller(U(code), numbers[COUNT_OF_CODES])
    return at(np.int64(address(numbers) + np.int64(numbers[VALUES_AT])), U)[np.int64(known)]
