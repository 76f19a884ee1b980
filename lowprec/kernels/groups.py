"""What the largest magnitude of a group makes of its elements; see scalar.py for the words.

The step of block floating point changes from group to group, so its numbers are made where they are
used, from the pattern of the largest magnitude, and are those of fixed point with that step.
"""

from lowprec.kernels.scalar import (
    INFINITY,
    MANTISSA,
    I,
    U,
    larger,
    leading_bit,
    placed,
    significand,
    smaller,
    split,
)

# The entries of what describes a block format; exponents are biased by the carrier, all are signed.
(
    BLOCK_BITS,
    LOWEST_EXPONENT, HIGHEST_EXPONENT,  # of a group
    LEAST_UNIT,  # the exponent of the carrier's smallest positive value
    BLOCK_RANDOM_BITS, BLOCK_IGNORED, BLOCK_MIDDLE,  # as in scalar.py
) = range(7)  # fmt: skip
BLOCK_COUNT = 7


def finite_magnitude(bits):
    """The magnitude of a finite element, 0 for others."""
    magnitude, _ = split(bits)
    return magnitude if magnitude < INFINITY else U(0)


def unit_field(largest, block):
    """The exponent of a group's step from its largest finite magnitude.

    floor(log2 max) clamped to the exponents that the format has, plus 2 - word_bits, but at least the
    carrier's least; for a group of zeros as for the lowest exponent.
    """
    digits, field = significand(largest)
    exponent = I(I(field + leading_bit(digits)) - I(MANTISSA))
    exponent = smaller(larger(exponent, I(block[LOWEST_EXPONENT])), I(block[HIGHEST_EXPONENT]))
    return larger(I(I(exponent + I(2)) - I(block[BLOCK_BITS])), I(block[LEAST_UNIT]))


def group_numbers(field, block):
    """What scalar.py calls numbers, for a group whose step has this exponent."""
    zero = U(0)
    above = field > I(1)
    normal = U(U(larger(field, I(1))) << U(MANTISSA))
    subnormal = U(U(1) << U(smaller(U(larger(I(field + I(MANTISSA - 1)), I(0))), U(MANTISSA))))
    unit = normal if above else subnormal
    half = U(U(larger(I(field - I(1)), I(0))) << U(MANTISSA))
    flip = U(U(U(field + I(1)) & U(1)) << U(MANTISSA)) if above else zero
    lead = I(I(block[BLOCK_BITS]) - I(2))
    limit = placed(U(U(U(2) << U(lead)) - U(1)), lead, field)
    last = U(I(field + I(MANTISSA)))
    return (
        U(field), unit, last, zero, flip, unit if above else zero, half, last, zero,
        U(block[BLOCK_RANDOM_BITS]), U(block[BLOCK_IGNORED]), U(block[BLOCK_MIDDLE]),
        limit, limit, limit, limit, limit, limit, zero,
        U(block[BLOCK_BITS]), U(1), zero, zero, zero, zero, zero, zero, zero, zero,
    )  # fmt: skip
