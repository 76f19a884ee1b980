"""What the largest magnitude of a group makes of its elements; see scalar.py for the words.

The unit of a block or scaled format changes from group to group, so its numbers are made where they are
used, from the pattern of the largest magnitude: those of fixed point, or of floating point, whose
exponents are shifted by the group's.
"""

import numpy as np

from lowprec.kernels.scalar import (
    FLOATING,
    HIDDEN,
    INFINITY,
    MANTISSA,
    SCALED,
    I,
    U,
    larger,
    leading_bit,
    low_bits,
    placed,
    significand,
    smaller,
    split,
)

# The entries of what describes a format with groups; exponents are biased by the carrier, all are signed.
(
    BLOCK_BITS,
    LOWEST_EXPONENT, HIGHEST_EXPONENT,  # of a group
    LEAST_UNIT,  # the exponent of the carrier's smallest positive value, where no unit may lie below
    OFFSET,  # the exponent of the unit over the group's
    BLOCK_RANDOM_BITS, BLOCK_IGNORED, BLOCK_MIDDLE,  # as in scalar.py
    LARGEST_EXPONENT,  # of the element's values; what follows is looked at in scaled formats only
    THRESHOLD,  # the mantissa of the largest magnitude above which the group's exponent is one more
    SCALE_BIAS,  # from a biased exponent to the code of a scale
    WIDTH,  # of the element's mantissa
    LARGEST, LARGEST_LEAD,  # the element's largest value as an odd integer, and its leading bit
    LARGEST_PLACE,  # the exponent of that integer's unit over the element's
    BLOCK_OVER_POSITIVE, BLOCK_OVER_NEGATIVE, BLOCK_INFINITE,  # a pattern, or 0 for the largest value
    BLOCK_ZERO_SIGN, BLOCK_CODE_SIGN, BLOCK_CODE_INFINITY, BLOCK_CODE_NAN, BLOCK_FIRST_NAN,  # as in scalar.py
    BLOCK_CODE_OF_INFINITY,
) = range(24)  # fmt: skip
BLOCK_COUNT = 24

# Whose magnitudes count for the largest of a group, a constant of a copy: finite numbers, or infinities.
BOTH, POSITIVE, NEGATIVE, INFINITE = range(4)
SIDE = BOTH


def finite_magnitude(bits):
    """The magnitude of a finite element of the sign that counts, 0 for others."""
    magnitude, sign = split(bits)
    if SIDE == INFINITE:
        return magnitude if magnitude == INFINITY else U(0)
    counts = magnitude < INFINITY
    if SIDE == POSITIVE:
        counts = counts and sign == U(0)
    if SIDE == NEGATIVE:
        counts = counts and sign != U(0)
    return magnitude if counts else U(0)


def unit_field(largest, block):
    """The exponent of a group's unit from its largest finite magnitude.

    floor(log2 max), for a scaled format less the element's own and one more past the threshold, clamped
    to the exponents that the format has; then the unit's place, but at least the carrier's least. For a
    group of zeros as for the lowest exponent.
    """
    digits, field = significand(largest)
    lead = leading_bit(digits)
    exponent = I(I(field + lead) - I(MANTISSA))
    if SCALED:
        left = U(smaller(larger(I(I(MANTISSA) - lead), I(0)), I(MANTISSA)))
        mantissa = U(U(digits << left) & U(HIDDEN - U(1)))
        exponent = I(exponent - I(block[LARGEST_EXPONENT]))
        exponent = I(exponent + I(1)) if mantissa > U(block[THRESHOLD]) else exponent
    exponent = smaller(larger(exponent, I(block[LOWEST_EXPONENT])), I(block[HIGHEST_EXPONENT]))
    return larger(I(exponent + I(block[OFFSET])), I(block[LEAST_UNIT]))


def unit_field_of_code(code, block):
    """The exponent of a group's unit from the code of its scale."""
    return I(I(I(code) - I(block[SCALE_BIAS])) + I(block[OFFSET]))


def scale_code(field, block):
    """The code of a scale from the exponent of the unit."""
    return U(I(I(field - I(block[OFFSET])) + I(block[SCALE_BIAS])))


def power_of_largest(largest, block):
    """The scale of a group as a power of two of the carrier."""
    return placed(1, I(0), I(unit_field(largest, block) - I(block[OFFSET])))


def code_of_largest(largest, block):
    """The code of the scale of a group."""
    return scale_code(unit_field(largest, block), block)


def wide_of_largest(largest, block):
    """The scale of a group as a power of two of binary64, whose bias the code has."""
    return np.uint64(np.uint64(code_of_largest(largest, block)) << np.uint64(52))


def rounded_into_range(integer, lead, field):
    """What ``placed`` gives, rounded to nearest even below the carrier's range, infinity above it."""
    below = I(I(1 - MANTISSA) - field)
    drop = U(smaller(larger(below, I(0)), I(30)))
    low = low_bits(drop)
    subnormal = U(U(integer + U(U(low >> U(1)) + U(U(integer >> drop) & U(1)) & low)) >> drop)
    lost = below > I(0) and I(field + lead) <= I(0)
    return subnormal if lost else smaller(placed(integer, lead, field), INFINITY)


def group_numbers(field, block):
    """What scalar.py calls numbers, for a group whose unit has this exponent."""
    zero = U(0)
    above = field > I(1)
    normal = U(U(larger(field, I(1))) << U(MANTISSA))
    subnormal = U(U(1) << U(smaller(U(larger(I(field + I(MANTISSA - 1)), I(0))), U(MANTISSA))))
    unit = normal if above else subnormal
    half = U(U(larger(I(field - I(1)), I(0))) << U(MANTISSA))
    flip = U(U(U(field + I(1)) & U(1)) << U(MANTISSA)) if above else zero
    last = U(I(field + I(MANTISSA)))
    if not SCALED:
        lead = I(I(block[BLOCK_BITS]) - I(2))
        limit = placed(U(U(U(2) << U(lead)) - U(1)), lead, field)
        return (
            U(field), unit, last, zero, flip, unit if above else zero, half, last, zero,
            U(block[BLOCK_RANDOM_BITS]), U(block[BLOCK_IGNORED]), U(block[BLOCK_MIDDLE]),
            limit, limit, limit, limit, limit, limit, zero,
            U(block[BLOCK_BITS]), U(1), zero, zero, zero, zero, zero, zero, zero, zero, zero,
        )  # fmt: skip
    place = I(field + I(block[LARGEST_PLACE]))
    limit = rounded_into_range(U(block[LARGEST]), I(block[LARGEST_LEAD]), place)
    over_positive, over_negative = U(block[BLOCK_OVER_POSITIVE]), U(block[BLOCK_OVER_NEGATIVE])
    infinite = U(block[BLOCK_INFINITE])
    over_positive = over_positive if over_positive != zero else limit
    over_negative = over_negative if over_negative != zero else limit
    infinite = infinite if infinite != zero else limit
    width = I(block[WIDTH])
    least_drop = U(I(I(MANTISSA) - width)) if FLOATING else zero
    lowest = U(I(field + width)) if FLOATING else last
    no_mantissa = U(1) if width == I(0) else zero
    return (
        U(field), unit, last, least_drop, flip, unit if above else zero, half, lowest, no_mantissa,
        U(block[BLOCK_RANDOM_BITS]), U(block[BLOCK_IGNORED]), U(block[BLOCK_MIDDLE]),
        limit, limit, over_positive, over_negative, infinite, infinite, U(block[BLOCK_ZERO_SIGN]),
        U(block[BLOCK_BITS]), U(1), U(block[BLOCK_CODE_SIGN]), U(block[BLOCK_CODE_INFINITY]),
        U(block[BLOCK_CODE_NAN]), U(block[BLOCK_FIRST_NAN]), zero, zero, zero, zero,
        U(block[BLOCK_CODE_OF_INFINITY]),
    )  # fmt: skip


def numbers_of_largest(largest, block):
    """The numbers of a group with this largest finite magnitude."""
    return group_numbers(unit_field(largest, block), block)


def numbers_of_code(code, block):
    """The numbers of a group whose scale has this code."""
    return group_numbers(unit_field_of_code(code, block), block)
