"""Sums that a rounding decision can be made from: exact, or rounded to odd; plain functions, as scalar.py's.

A sum rounded to odd keeps in its last bit that something was lost. Rounded again to a format whose last
place lies two bits higher, or as many more as a random word has, it gives what the exact sum gives. A sum
rounded to nearest does so only where paths.py can tell that it does.
"""

import numpy as np

from lowprec.kernels.fused import times
from lowprec.kernels.quotients import (
    SOURCE_INFINITY,
    SOURCE_MANTISSA,
    SOURCE_NAN,
    SOURCE_SIGN,
    narrowed,
    widened,
)
from lowprec.kernels.scalar import (
    DEPTH,
    DOWN,
    ENDING,
    FULL,
    HIDDEN,
    IGNORED,
    INFINITY,
    LEAST_DROP,
    LOWEST_FIELD,
    LOWEST_POWER,
    MANTISSA,
    MAX_POSITIVE,
    MODE,
    OVER_POSITIVE,
    PLACE,
    PLAIN,
    SIGN,
    SPREAD,
    U32,
    U64,
    U,
    larger,
    low_bits,
    quantize_bits,
)

# More values of DEPTH.
RAISED = -1  # ABOVE, and the carrier holds sums with the smallest normal value
# All numbers lie in the middle of the carrier's range, or came from an overflow, and
ADDED = -2  # it is QUICK,
DRAWN = -3  # they are RAISED, or not known to the last bit,
NORMAL = -4  # none of these but zero lies below the smallest normal value
BY_ADDITION = ADDED, DRAWN, NORMAL

UNREACHED = 4  # one more value of ENDING, where ADDED, DRAWN or NORMAL: PLAIN, and no sum overflows

FLOAT = np.float32  # the carrier's arithmetic
SPLITTER = np.float64(2**27 + 1)  # of binary64, where alone products are not exact
ODD = True  # whether sums are rounded to odd


def pattern(x):
    """The bits of a number."""
    return U(FLOAT(x).view(U))


def number(bits):
    """The number of a pattern."""
    return U(bits).view(FLOAT)


def bits_of_sum(x, y):
    """The pattern of x + y; neither overflows, and nothing lost or left is subnormal."""
    total = FLOAT(x + y)
    bits = pattern(total)
    if ODD:
        # What addition loses is a number, found by exact operations whichever term is larger.
        part = FLOAT(total - x)
        lost = FLOAT(FLOAT(x - FLOAT(total - part)) + FLOAT(y - part))
        against = U(U(pattern(lost) ^ bits) >> U(PLACE))  # 1 where the exact sum is nearer zero
        moved = U(U(bits + U(1)) - U(against << U(1)))
        inexact = lost < FLOAT(0) or lost > FLOAT(0)  # NaN beside an infinity
        bits = moved if inexact and U(bits & U(1)) == U(0) else bits
    if MODE == DOWN:  # IEEE 754-2019, 6.3
        zeros = U(pattern(x) | pattern(y)) == U(0)
        bits = SIGN if U(bits << U(1)) == U(0) and not zeros else bits
    return bits


def added(x, y, ceiling, numbers):
    """The pattern of x + y rounded to a format."""
    return quantize_bits(bits_of_sum(x, y), ceiling, numbers)


def bits_by_addition(bits, _ceiling, numbers):
    """The pattern of one sum, rounded to nearest even by adding half as much again as a power of two.

    The number of either sign leaves that sum in the power's binade, whose last place is the format's. Of
    what came from an overflow, additions make nothing else.
    """
    return ended_sum(by_addition(bits, numbers), bits, numbers)


def by_addition(bits, numbers):
    """That sum, before it may overflow."""
    power = U(larger(U(bits & INFINITY), numbers[LOWEST_POWER]) + U(numbers[SPREAD] + U(HIDDEN >> U(1))))
    wide = number(power)
    return FLOAT(FLOAT(number(bits) + wide) - wide)


def is_tie(bits, _ceiling, numbers):
    """Whether a sum lies in the middle of two values: then what it has lost, if anything, decides."""
    lost = pattern(FLOAT(number(bits) - by_addition(bits, numbers)))
    half = U(
        larger(U(bits & INFINITY), numbers[LOWEST_POWER]) - U(U((MANTISSA + 1) << MANTISSA) - numbers[SPREAD])
    )
    return U(lost & U(SIGN - U(1))) == half


def ended_sum(rounded, bits, numbers):
    """The pattern of a rounded sum: what it overflows to, and its sign. No comparison is true of NaN."""
    result = pattern(rounded)
    if ENDING == PLAIN:
        past = number(U(result & U(SIGN - U(1)))) > number(numbers[MAX_POSITIVE])
        result = numbers[OVER_POSITIVE] if past else result
    return U(result | U(bits & SIGN))


def raised(magnitude, ceiling, numbers):
    """A magnitude raised to where its last place is that of all others, plus the word below that place.

    Also the number that it was raised by, the smallest normal value or nothing, and a mask of those bits.
    """
    least = U(0) if DEPTH == NORMAL else U(numbers[LOWEST_FIELD] << U(MANTISSA))
    base = number(least if magnitude < least else U(0))
    drop = numbers[LEAST_DROP]
    counted = U32(~ceiling) if FULL else U32(~U32(ceiling | U32(numbers[IGNORED])))
    word = U(U(counted) << U(drop - U(32)))
    if PLACE == 31:
        word = U(U(counted) >> U(U(U(32) - drop) & U(31)))  # as the mask tells a compiler, by less than 32
    here = magnitude if DEPTH == NORMAL else pattern(FLOAT(number(magnitude) + base))
    return U(here + word), base, low_bits(drop)


def rest_of_sum(x, y):
    """What x + y loses, a number that no addition here rounds."""
    total = FLOAT(x + y)
    part = FLOAT(total - x)
    return FLOAT(FLOAT(x - FLOAT(total - part)) + FLOAT(y - part))


def rest_of_product(x, y):
    """What x * y loses, by Dekker's halves of significands; NaN beside what is no number."""
    of_x, of_y = times(SPLITTER, x), times(SPLITTER, y)
    x_top, y_top = FLOAT(of_x - FLOAT(of_x - x)), FLOAT(of_y - FLOAT(of_y - y))
    x_low, y_low = FLOAT(x - x_top), FLOAT(y - y_top)
    rest = FLOAT(times(x_top, y_top) - times(x, y))
    rest = FLOAT(FLOAT(rest + times(x_top, y_low)) + times(x_low, y_top))
    return FLOAT(rest + times(x_low, y_low))


def bits_of_product(x, y):
    """The pattern of x * y in binary64, rounded to odd; every bit of it is one of binary64's."""
    high, low = times(x, y), rest_of_product(x, y)
    return bits_of_sum(high, low) if low < FLOAT(0) or low > FLOAT(0) else pattern(high)


def bits_of_fused(x, y, scale):
    """The pattern of x + y * scale in binary64, rounded to odd once; likewise.

    The product is high + low, and the sum of three numbers is brought into two, of which the smaller,
    rounded to odd, tells all that rounding the larger plus it needs (Boldo and Melquiond 2008).
    """
    high, low = times(y, scale), rest_of_product(y, scale)
    if (low < FLOAT(0) or low > FLOAT(0)) and FLOAT(x - x) == FLOAT(0):
        inner = FLOAT(x + low)
        outer = FLOAT(high + inner)
        rest = number(bits_of_sum(rest_of_sum(x, low), rest_of_sum(high, inner)))
        return bits_of_sum(outer, rest)
    return bits_of_sum(x, high)


def raised_by_word(magnitude, _negative, ceiling, numbers):
    """A magnitude rounded stochastically by adding the word where its bits are those below the last place.

    That place is the same for all magnitudes above the smallest normal value: those below are raised by
    it, and brought down again, which is exact.
    """
    total, base, low = raised(magnitude, ceiling, numbers)
    cut = U(total & U(~low))
    return cut if DEPTH == NORMAL else pattern(FLOAT(number(cut) - base))


def bits_by_word(bits, ceiling, numbers):
    """The pattern of one sum rounded that way, where it is finite or came from an overflow."""
    magnitude = U(bits & U(SIGN - U(1)))
    return ended_sum(number(raised_by_word(magnitude, False, ceiling, numbers)), bits, numbers)


def is_doubtful(bits, ceiling, numbers):
    """Whether what is lost of a sum and of a word could decide how the word rounds it."""
    total, _, low = raised(U(bits & U(SIGN - U(1))), ceiling, numbers)
    return U(U(total + U(1)) & U(low - U(1))) == U(0)


def from_source(bits):
    """A pattern of the source in binary64."""
    magnitude, negative = U64(bits & U64(SOURCE_SIGN - U64(1))), U64(bits & SOURCE_SIGN) != U64(0)
    if SOURCE_MANTISSA == 52:
        wide = magnitude
    elif magnitude >= SOURCE_INFINITY:
        wide = U64(U64(magnitude << U64(52 - SOURCE_MANTISSA)) | INFINITY)
    else:
        wide = widened(magnitude)
    return U64(wide | (SIGN if negative else U64(0)))


def to_source(bits):
    """A number of binary64 that the source holds, as its pattern; of NaN there is one."""
    magnitude, negative = U64(bits & U64(SIGN - U64(1))), U64(bits & SIGN) != U64(0)
    narrow = U64(narrowed(magnitude) | (SOURCE_SIGN if negative else U64(0)))
    return narrow if magnitude <= INFINITY else SOURCE_NAN
