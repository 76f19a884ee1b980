"""From the patterns of a format's values to its integer codes, and back; see scalar.py for the words."""

from lowprec.kernels.groups import rounded_into_range
from lowprec.kernels.scalar import (
    CODE_INFINITY,
    CODE_NAN,
    CODE_OF_INFINITY,
    CODE_SIGN,
    FIRST_NAN,
    FLOATING,
    FLUSHED,
    INFINITY,
    LEAST_DROP,
    LOWEST_FIELD,
    MANTISSA,
    MAX_POSITIVE,
    QUIET_NAN,
    SCALED,
    SIGN,
    SIGNED,
    UNIT_FIELD,
    WORD_BITS,
    ZERO_SIGN,
    I,
    U,
    dropped,
    larger,
    leading_bit,
    placed,
    quantize_bits,
    significand,
    smaller,
    split,
    units,
)


def floating_code(bits, numbers):
    """The code of a floating-point value."""
    magnitude, sign = split(bits)
    digits, field = significand(magnitude)
    hidden_at = I(MANTISSA) - I(numbers[LEAST_DROP])
    if SCALED:  # the element's last place may lie below the carrier's
        exponent = I(I(field + leading_bit(digits)) - I(MANTISSA))
        last = larger(exponent, I(numbers[LOWEST_FIELD]))
        drop = I(I(I(last - hidden_at) - field) + I(MANTISSA))
        left = U(smaller(larger(I(-drop), I(0)), I(MANTISSA)))
        kept = U(U(digits << left) >> U(larger(drop, I(0))))
    else:
        lost, _ = dropped(magnitude, numbers)
        last = I(field + I(lost) - I(numbers[LEAST_DROP]))  # the exponent of the binade whose step it has
        kept = U(digits >> lost)
    code = U(kept + U(U(larger(I(last - I(numbers[LOWEST_FIELD])), I(0))) << U(hidden_at)))
    # Where only the carrier's range ended, the code is that of the element.
    infinite = magnitude == INFINITY and not (SCALED and numbers[MAX_POSITIVE] == INFINITY)
    code = numbers[CODE_INFINITY] if infinite else code
    code = U(code | numbers[CODE_SIGN]) if sign != U(0) else code
    return numbers[CODE_NAN] if magnitude > INFINITY else code


def floating_bits(code, numbers):
    """The value of a floating-point code."""
    bare = U(code & U(numbers[CODE_SIGN] - U(1)))
    negative = bare != U(code)
    width = U(U(MANTISSA) - numbers[LEAST_DROP])
    field = I(bare >> width)
    digits = U(bare & U(U(U(1) << width) - U(1)))
    digits = U(digits | U(U(1) << width)) if field > I(0) else digits
    digits = U(0) if field == I(0) and numbers[FLUSHED] != U(0) else digits
    unit = I(I(I(numbers[LOWEST_FIELD]) - I(width)) + I(larger(field, I(1)) - I(1)))
    lead = leading_bit(digits)
    value = rounded_into_range(digits, lead, unit) if SCALED else placed(digits, lead, unit)
    magnitude = value if digits > U(0) else U(0)
    magnitude = INFINITY if bare == numbers[CODE_INFINITY] else magnitude
    nan = bare >= numbers[FIRST_NAN] or (negative and bare == U(0) and numbers[ZERO_SIGN] == U(0))
    signed = negative and (magnitude > U(0) or numbers[ZERO_SIGN] != U(0))
    return QUIET_NAN if nan else U(magnitude | (SIGN if signed else U(0)))


def integer_code(bits, numbers):
    """A multiple of the unit as a two's complement integer of the format's width."""
    magnitude, sign = split(bits)
    count = units(magnitude, numbers)
    count = U(U(0) - count) if sign != U(0) else count
    return U(count & U(U(U(1) << numbers[WORD_BITS]) - U(1)))


def integer_bits(code, numbers):
    """The value of a two's complement integer."""
    whole = U(U(1) << numbers[WORD_BITS])
    count = U(U(code) & U(whole - U(1)))
    negative = numbers[SIGNED] != U(0) and count >= U(whole >> U(1))
    count = U(whole - count) if negative else count
    lead, unit = leading_bit(count), I(numbers[UNIT_FIELD])
    magnitude = rounded_into_range(count, lead, unit) if SCALED else placed(count, lead, unit)
    magnitude = magnitude if count > U(0) else U(0)
    return U(magnitude | (SIGN if negative and magnitude > U(0) else U(0)))


def code_of_element(bits, ceiling, numbers):
    """The code that an element of a group is quantized to."""
    value = quantize_bits(bits, ceiling, numbers)
    if not SCALED:
        return integer_code(value, numbers)
    # What an infinity becomes may lie outside the carrier's range once it is scaled, which no code shows.
    magnitude, sign = split(bits)
    negative, code = sign != U(0), numbers[CODE_OF_INFINITY]
    if FLOATING:
        signed = negative and code != numbers[CODE_NAN]
        code = U(code | numbers[CODE_SIGN]) if signed else code
        return code if magnitude == INFINITY else floating_code(value, numbers)
    mask = U(U(U(1) << numbers[WORD_BITS]) - U(1))
    code = U(U(U(0) - code) & mask) if negative else code
    return code if magnitude == INFINITY else integer_code(value, numbers)


def value_of_code(code, _ceiling, numbers):
    """The value of an element's code."""
    return floating_bits(code, numbers) if FLOATING else integer_bits(code, numbers)
