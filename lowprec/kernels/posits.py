"""Decisions for posits; see scalar.py for the words.

If a constant is added to the exponent, so that its low bits are those of the posit's exponent field, the
low bits of a pattern are the posit's own string after its regime. So a posit is a pattern with some low
bits cut, as many as the regime takes, and what rounds a pattern rounds it: a carry out of the exponent is
the next regime.
"""

import numpy as np

from lowprec.kernels.quotients import SOURCE_INFINITY, SOURCE_NAN, SOURCE_SIGN, narrowed, widened
from lowprec.kernels.scalar import (
    DOWN,
    INFINITY,
    MANTISSA,
    MAX_POSITIVE,
    MODE,
    QUIET_NAN,
    SIGN,
    TOWARD_ZERO,
    U64,
    UNIT,
    UP,
    WORD_BITS,
    I,
    U,
    goes_past,
    increment,
    larger,
    leading_bit,
    low_bits,
    smaller,
    split,
)
from lowprec.kernels.tables import goes_up

TAPERED = 5  # one more value of DEPTH

# The entries of numbers, beside UNIT, the pattern of the smallest value, MAX_POSITIVE and WORD_BITS.
LIFT, REGIME_OF_ZERO, EXPONENT_BITS = range(2, 5)  # what is added to a pattern; the regime that it adds


def room_for_tail(lifted, numbers):
    """How many bits are left for exponent and fraction, and whether the regime's last bit is a one."""
    regime = I(I(lifted >> U(U(MANTISSA) + numbers[EXPONENT_BITS])) - I(numbers[REGIME_OF_ZERO]))
    run = I(regime + I(2)) if regime >= I(0) else I(I(1) - regime)
    return larger(I(I(numbers[WORD_BITS]) - I(1) - run), I(0)), regime < I(0)


def cut(lifted, numbers):
    """How many low bits of a lifted pattern a posit has no room for; the parity of its code without them."""
    tail, ends_in_one = room_for_tail(lifted, numbers)
    drop = U(larger(I(I(I(MANTISSA) + I(numbers[EXPONENT_BITS])) - tail), I(0)))
    last = U(U(lifted >> drop) & U(1))
    return drop, (U(1) if ends_in_one else U(0)) if tail == I(0) else last


def posit_bits(bits, ceiling, numbers):
    """The pattern of the posit to which a deterministic mode goes."""
    magnitude, sign = split(bits)
    negative = sign != U(0)
    least = numbers[UNIT]
    clamped = smaller(larger(magnitude, least), numbers[MAX_POSITIVE])
    lifted = U(clamped + numbers[LIFT])
    drop, odd = cut(lifted, numbers)
    raised = U(lifted + increment(lifted, negative, drop, odd, ceiling, numbers))
    rounded = U(U(raised & U(~low_bits(drop))) - numbers[LIFT])
    if MODE == TOWARD_ZERO or MODE == UP or MODE == DOWN:
        stays = MODE == TOWARD_ZERO or negative == (MODE == UP)
        rounded = U(0) if stays and magnitude < least else rounded
    rounded = rounded if magnitude != U(0) else U(0)
    result = U(rounded | (sign if rounded != U(0) else U(0)))
    result = QUIET_NAN if magnitude == INFINITY else result
    return bits if magnitude > INFINITY else result


def drawn_posit(bits, ceiling, numbers):
    """The pattern of the posit to which a stochastic mode goes; computed in binary64."""
    magnitude = U(bits & U(SOURCE_SIGN - U(1)))
    wide = widened(magnitude)
    least = numbers[UNIT]
    clamped = smaller(larger(wide, least), numbers[MAX_POSITIVE])
    lifted = U(clamped + numbers[LIFT])
    drop, _ = cut(lifted, numbers)
    lower = U(U(lifted & U(~low_bits(drop))) - numbers[LIFT])
    upper = U(lower + U(U(1) << drop))
    lower, upper = (U(0), least) if wide < least else (lower, upper)
    near = U64(lower).view(np.float64)
    gap = np.float64(U64(upper).view(np.float64) - near)
    up = goes_up(U64(smaller(wide, clamped)).view(np.float64), near, gap, ceiling, numbers)
    rounded = narrowed(upper if up else lower)
    result = U(rounded | (U(bits ^ magnitude) if rounded != U(0) else U(0)))
    result = SOURCE_NAN if magnitude == SOURCE_INFINITY else result
    return bits if magnitude > SOURCE_INFINITY else result


def posit_fired(bits, _ceiling, numbers):
    """1 where a number is infinite, or lies past the largest and the mode goes there; else 0."""
    magnitude, sign = split(bits)
    return past_largest(magnitude > numbers[MAX_POSITIVE], sign != U(0), magnitude, INFINITY)


def drawn_posit_fired(bits, _ceiling, numbers):
    """As ``posit_fired``."""
    magnitude = U(bits & U(SOURCE_SIGN - U(1)))
    past = magnitude < SOURCE_INFINITY and widened(magnitude) > numbers[MAX_POSITIVE]
    return past_largest(past, magnitude != bits, magnitude, SOURCE_INFINITY)


def past_largest(past, negative, magnitude, infinity):
    """1 where overflow fires, given whether a finite number lies past the largest."""
    past = True if magnitude == infinity else goes_past(past, negative)
    return U(0) if magnitude > infinity else (U(1) if past else U(0))


def posit_code(bits, numbers):
    """The code of a posit, in two's complement."""
    magnitude, sign = split(bits)
    lifted = U(magnitude + numbers[LIFT])
    width = numbers[WORD_BITS]
    string = U(U(MANTISSA) + numbers[EXPONENT_BITS])
    tail, ends_in_one = room_for_tail(lifted, numbers)
    drop = I(I(string) - tail)
    rest = U(lifted & low_bits(string))
    rest = U(U(rest >> U(larger(drop, I(0)))) << U(larger(I(-drop), I(0))))
    ones = U(U(low_bits(U(width - U(1))) >> U(tail + I(1))) << U(tail + I(1)))  # and the zero that ends them
    ones = low_bits(U(width - U(1))) if magnitude == numbers[MAX_POSITIVE] else ones
    code = U((U(U(1) << U(tail)) if ends_in_one else ones) | rest)
    code = code if magnitude != U(0) else U(0)
    code = U(U(U(0) - code) if sign != U(0) else code)
    return U(U(1) << U(width - U(1))) if magnitude >= INFINITY else U(code & whole_mask(width))


def whole_mask(width):
    """A mask of so many low bits, all that the type has if it has no more."""
    return U(U(low_bits(U(width - U(1))) << U(1)) | U(1))


def posit_value(code, numbers):
    """The value of a posit's code."""
    width = numbers[WORD_BITS]
    own = U(U(code) & whole_mask(width))
    top = U(U(1) << U(width - U(1)))
    negative = U(own & top) != U(0)
    bare = U(U(U(U(0) - own) if negative else own) & U(top - U(1)))
    positive_regime = U(bare & U(top >> U(1))) != U(0)
    string = U(U(bare ^ U(top - U(1))) if positive_regime else bare)
    # The bit that ends the run of equal ones: where the first differs.
    end = leading_bit(U(string & U(~U(string >> U(1))))) if string != U(0) else I(-1)
    run = I(I(width) - I(2) - end)
    regime = I(run - I(1)) if positive_regime else I(-run)
    tail = larger(end, I(0))
    rest = U(bare & low_bits(U(tail)))
    drop = I(I(I(MANTISSA) + I(numbers[EXPONENT_BITS])) - tail)
    rest = U(U(rest << U(larger(drop, I(0)))) >> U(larger(I(-drop), I(0))))
    high = U(I(regime + I(numbers[REGIME_OF_ZERO])))
    lifted = U(U(high << U(U(MANTISSA) + numbers[EXPONENT_BITS])) | rest)
    magnitude = U(lifted - numbers[LIFT])
    value = U(magnitude | (SIGN if negative else U(0)))
    value = value if bare != U(0) else U(0)
    return QUIET_NAN if own == top else value
