"""What one operation makes of binary64 numbers, to odd, and how exact results are rounded: plain functions.

An operation is done in binary64, whose result, rounded to odd, tells how the exact one is rounded to a
format: floating-point operations find what the rounded result lost, and integers (exact.py) decide where
that might not be a normal number. Formats too wide for that have the significands of exact.py rounded.
"""

import numpy as np

from lowprec.kernels.exact import ADD, DIVIDE, FUSE, LEADING, MULTIPLY, ROOT, pattern_of, root
from lowprec.kernels.fused import fused, times
from lowprec.kernels.scalar import (
    ENDING,
    INFINITY,
    LEAST_DROP,
    LOWEST_FIELD,
    MODE,
    NO_MANTISSA,
    QUIET_NAN,
    RANDOM_BITS,
    SIGN,
    STOCHASTIC,
    STOCHASTIC_NEAREST,
    U64,
    UNIT_FIELD,
    WORD_BITS,
    WRAPPED,
    I,
    U,
    ended,
    increment,
    larger,
    low_bits,
    quantize_bits,
    rounded_to_random_bits,
    smaller,
)
from lowprec.kernels.sums import bits_of_sum, number, pattern

# What a copy holds constant.
OPERATION = FUSE
SINGLE = False  # whether operands are numbers of binary32, of which all that is computed is zero or normal
LOW, HIGH = U64(0), U64(0)  # patterns: from one and below the other, what it makes of two numbers is normal


def moved(result, lost, direction):
    """The pattern of a result to odd, of which ``lost``, of the sign of ``direction``, was lost."""
    bits = np.float64(result).view(U64)
    against = U64(U64(np.float64(lost).view(U64) ^ np.float64(direction).view(U64)) >> U64(63))
    other = U64(U64(bits + U64(1)) - U64(against << U64(1)))  # nearer zero if they differ
    inexact = lost < 0.0 or lost > 0.0  # NaN beside an infinity
    return other if inexact and U64(bits & U64(1)) == U64(0) else bits


def with_zero(bits, x, y, down):
    """The pattern of a sum of numbers; an exact zero that is no sum of two +0 is -0 if ``down``."""
    positive = U64(np.float64(x).view(U64) | np.float64(y).view(U64)) == U64(0)
    minus = U64(0) if positive else U64(U64(down) << U64(63))
    return U64(bits | (minus if U64(bits << U64(1)) == U64(0) else U64(0)))


def bits_of_three(product, rest, term):
    """The pattern of a product, given as a rounded one and what it lost, plus a term, to odd.

    Boldo and Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
    odd, 2008. What is left of two exact sums is added to odd, and that to the leading part: where the sum
    to odd is inexact, so is that of the leading parts, which did not cancel, and what is left is less than
    two of its last places, so that no boundary lies between the number and what stands for it.
    """
    inner = np.float64(term + rest)
    part = np.float64(inner - term)
    inner_lost = np.float64(np.float64(term - np.float64(inner - part)) + np.float64(rest - part))
    outer = np.float64(product + inner)
    part = np.float64(outer - product)
    outer_lost = np.float64(np.float64(product - np.float64(outer - part)) + np.float64(inner - part))
    left = number(bits_of_sum(inner_lost, outer_lost))
    bits = bits_of_sum(outer, left)
    # A sum of zeros has the sign that the two have, which what was lost has not.
    return pattern(np.float64(product + term)) if U64(bits << U64(1)) == U64(0) else bits


def result_of(a_bits, b_bits, c_bits, down):
    """The pattern of the result to odd, where all computed on the way is zero or normal; one of NaN."""
    bits = computed(a_bits, b_bits, c_bits, down)
    return QUIET_NAN if U64(bits & U64(SIGN - U64(1))) > INFINITY else bits


def computed(a_bits, b_bits, c_bits, down):
    """The same with any pattern of NaN."""
    a, b, c = U64(a_bits).view(np.float64), U64(b_bits).view(np.float64), U64(c_bits).view(np.float64)
    if OPERATION == ADD:
        return with_zero(bits_of_sum(a, b), a, b, down)
    if OPERATION == DIVIDE:
        quotient = np.float64(a / b)
        return moved(quotient, fused(-quotient, b, a), a)
    if OPERATION == ROOT:
        result = root(a)
        return moved(result, fused(-result, result, a), result)
    product = times(a, b)
    if OPERATION == MULTIPLY:
        return pattern(product) if SINGLE else moved(product, fused(a, b, -product), product)
    if SINGLE:
        return with_zero(bits_of_sum(product, c), product, c, down)
    return with_zero(bits_of_three(product, fused(a, b, -product), c), product, c, down)


def outside(bits):
    """1 where a number is neither zero nor between the two patterns."""
    magnitude = U64(bits & U64((1 << 63) - 1))
    far = U64(magnitude - LOW) >= U64(HIGH - LOW)
    return U64(1) if far and magnitude != U64(0) else U64(0)


def is_unsafe(a_bits, b_bits, c_bits):
    """1 where something that ``result_of`` computes may be subnormal or overflow."""
    unsafe = outside(a_bits)
    if OPERATION != ROOT:
        unsafe = U64(unsafe | outside(b_bits))
    if OPERATION == FUSE:
        unsafe = U64(unsafe | outside(c_bits))
    return unsafe


def on_grid(significand, place, negative, ceiling, numbers):
    """A significand rounded in a format continued past its largest value, its place, how many bits fell."""
    field = I(I(place) + I(LEADING + 1023))
    lowest = I(numbers[LOWEST_FIELD])
    unit = I(numbers[UNIT_FIELD])
    if ENDING != WRAPPED:
        unit = I(field - I(I(52) - I(numbers[LEAST_DROP]))) if field >= lowest else unit
    drop = I(I(unit - I(1023)) - I(place))
    if drop > I(63):  # far below the unit: what is left is less than half of it
        far = U(smaller(I(drop - I(63)), I(63)))
        cut = U(significand & low_bits(far))
        significand = U(U(significand >> far) | (U(1) if cut != U(0) else U(0)))
        place, drop = I(unit - I(1023 + 63)), I(63)
    if drop <= I(0):
        return significand, I(place), drop
    exponents = U(larger(I(field - lowest), I(0))) & numbers[NO_MANTISSA]
    odd = U(U(U(significand >> U(drop)) + U(exponents)) & U(1))
    whole = significand
    if MODE == STOCHASTIC_NEAREST:
        whole = rounded_to_random_bits(significand, U(drop), numbers)
    added = increment(significand, negative, U(drop), odd, ceiling, numbers)
    return U(U(whole + added) & U(~low_bits(U(drop)))), I(place), drop


def rounded_result(significand, place, negative, ceiling, numbers):
    """The pattern of an exact result rounded to a format, and whether what lies below may decide."""
    if significand == U64(0):
        return quantize_bits(U64(place), ceiling, numbers), False
    rounded, last, drop = on_grid(significand, place, negative, ceiling, numbers)
    unknown = False
    if ENDING == WRAPPED:
        guard = np.int64(numbers[RANDOM_BITS]) + 2 if MODE >= STOCHASTIC else 2
        unknown = drop < guard and significand & U64(1) != U64(0)
        bits = drop + np.int64(numbers[WORD_BITS])
        kept = low_bits(U64(bits)) if bits > 0 else U64(0)
        rounded = U64(rounded & kept) if bits < 64 else rounded
    sign = U64(1 << 63) if negative else U64(0)
    return ended(U64(0), sign, pattern_of(rounded, last), numbers), unknown
