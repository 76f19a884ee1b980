"""Numbers of more bits than binary64 has, rounded once; plain functions, as scalar.py's.

A magnitude is 128 bits in two words, of which the first one is set and the last one says whether anything
lies below. Of the bits below the last place of a format the first 39, and whether any other is set, decide
every mode: a random word has 32, of which half the last may be added. So the choice is left to scalar.py,
as that about a number that has so many. It needs binary64 as the carrier.
"""

from lowprec.kernels.scalar import (
    ENDING,
    INFINITY,
    LAST_FIELD,
    LEAST_DROP,
    MANTISSA,
    MODE,
    NO_MANTISSA,
    OVER_NEGATIVE,
    OVER_POSITIVE,
    SIGN,
    STOCHASTIC_NEAREST,
    UNIT_FIELD,
    WORD_BITS,
    WRAPPED,
    I,
    U,
    increment,
    larger,
    leading_bit,
    low_bits,
    placed,
    quantize_bits,
    rounded_to_random_bits,
    significand,
    smaller,
)
from lowprec.kernels.sums import FLOAT, bits_of_sum, pattern

WIDE = -5  # one more value of DEPTH: ABOVE or DEEP, and what is left of rounding is what lies past the ends

_FRACTION = 40
_PAST = 2 * 1023 + 1  # the field of infinity


def rounded_already(magnitude, _negative, _ceiling, _numbers):
    """A magnitude that is a value of the format continued past its largest one."""
    return magnitude


def last_place_of(field, numbers):
    """The field of the last place of a magnitude in a format; of a wrapped one, of all magnitudes."""
    unit = I(numbers[UNIT_FIELD])
    if ENDING == WRAPPED:
        return unit
    floating = larger(I(field + I(numbers[LEAST_DROP])), I(numbers[LAST_FIELD]))
    return unit if field < unit else I(floating - I(MANTISSA))


def divided(high, low, count):
    """The first so many bits as an integer, modulo 2^64; the 64 bits that follow; whether others are set."""
    inside = U(smaller(larger(count, I(0)), I(63)))
    back = U(U(63) - inside)
    whole = U(U(high >> U(1)) >> back)
    part = U(U(high << inside) | U(U(low >> U(1)) >> back))
    lost = U(low << inside) != U(0)
    below = U(smaller(larger(I(-count), I(0)), I(63)))
    cut = U(part >> below) if count > I(-64) else U(0)
    lost = lost or (count < I(0) and (count <= I(-64) or U(cut << below) != part))
    if ENDING == WRAPPED:
        past = U(smaller(larger(I(count - I(64)), I(0)), I(63)))
        carried = U(U(high << past) | U(U(low >> U(1)) >> U(U(63) - past)))
        whole = carried if count > I(63) else whole
        cut = U(low << past) if count > I(63) else cut
        lost = lost and count <= I(63)
    return whole, cut, lost


def quantize_wide(high, low, field, negative, ceiling, numbers):
    """The pattern of a magnitude whose first bit belongs to a field, with its sign, rounded once."""
    field = smaller(field, I(_PAST))  # what lies past binary64 lies past all formats
    place = last_place_of(field, numbers)
    whole, part, lost = divided(high, low, I(I(field - place) + I(1)))
    odd = U(U(whole + U(U(I(place - I(numbers[UNIT_FIELD]))) & numbers[NO_MANTISSA])) & U(1))
    rest = U(U(part >> U(64 - _FRACTION)) | (U(1) if lost or U(part << U(_FRACTION)) != U(0) else U(0)))
    start = rounded_to_random_bits(rest, U(_FRACTION), numbers) if MODE == STOCHASTIC_NEAREST else rest
    added = increment(rest, negative, U(_FRACTION), odd, ceiling, numbers)
    whole = U(whole + U(U(start + added) >> U(_FRACTION)))
    sign = SIGN if negative else U(0)
    if ENDING == WRAPPED:
        whole = U(whole & low_bits(numbers[WORD_BITS]))
    magnitude = placed(whole, leading_bit(whole), place) if whole != U(0) else U(0)
    if magnitude >= INFINITY:
        over = numbers[OVER_NEGATIVE] if negative else numbers[OVER_POSITIVE]
        return U(over | (sign if over != U(0) else U(0)))
    return quantize_bits(U(magnitude | sign), ceiling, numbers)


def added_exactly(x, y, ceiling, numbers):
    """The pattern of x + y rounded to a format, from the sum as binary64 rounds it and what that loses."""
    total = FLOAT(x + y)
    magnitude = U(pattern(total) & U(SIGN - U(1)))
    if magnitude == U(0) or magnitude >= INFINITY:
        return quantize_bits(bits_of_sum(x, y), ceiling, numbers)
    part = FLOAT(total - x)
    lost = FLOAT(FLOAT(x - FLOAT(total - part)) + FLOAT(y - part))
    digits, field = significand(magnitude)
    rest, below = significand(U(pattern(lost) & U(SIGN - U(1))))
    # The first bit of what is lost lies so far below that of the sum, 53 or more.
    far = I(field - below)
    rest = U(rest << U(11))
    near, past = U(smaller(far, I(63))), U(smaller(larger(I(far - I(64)), I(0)), I(63)))
    over = U(rest >> near) if far < I(64) else U(0)
    under = U(rest << U(U(64) - near)) if far < I(64) else U(rest >> past)
    under = under if far < I(128) else U(0)
    sticky = U(1) if far > I(64) and (far > I(127) or U(under << past) != rest) and rest != U(0) else U(0)
    high, low = U(digits << U(11)), U(0)
    if U(U(pattern(lost) ^ pattern(total)) & SIGN) == U(0):
        high, low = U(high + over), under  # the sum's own low bits are zeros: nothing carries
    else:
        under = U(under + sticky)
        low = U(U(0) - under)
        high = U(U(high - over) - (U(1) if under != U(0) else U(0)))
        if U(high >> U(63)) == U(0):  # from a power of two
            high, low = U(U(high << U(1)) | U(low >> U(63))), U(low << U(1))
            field = I(field - I(1))
    return quantize_wide(high, U(low | sticky), field, total < FLOAT(0), ceiling, numbers)
