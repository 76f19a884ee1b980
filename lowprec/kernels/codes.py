"""From the patterns of a format's values to its integer codes, and back; see scalar.py for the words."""

from lowprec.kernels.scalar import (
    CODE_INFINITY,
    CODE_NAN,
    CODE_SIGN,
    FIRST_NAN,
    FLUSHED,
    INFINITY,
    LEAST_DROP,
    LOWEST_FIELD,
    MANTISSA,
    QUIET_NAN,
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
    split,
    units,
)


def floating_code(bits, numbers):
    """The code of a floating-point value."""
    magnitude, sign = split(bits)
    digits, field = significand(magnitude)
    drop, _ = dropped(magnitude, numbers)
    hidden_at = I(MANTISSA) - I(numbers[LEAST_DROP])
    last = I(field + I(drop) - I(numbers[LEAST_DROP]))  # the exponent of the binade whose step it has
    code = U(U(digits >> drop) + U(U(larger(I(last - I(numbers[LOWEST_FIELD])), I(0))) << U(hidden_at)))
    code = numbers[CODE_INFINITY] if magnitude == INFINITY else code
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
    magnitude = placed(digits, leading_bit(digits), unit) if digits > U(0) else U(0)
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
    magnitude = placed(count, leading_bit(count), I(numbers[UNIT_FIELD]))
    magnitude = magnitude if count > U(0) else U(0)
    return U(magnitude | (SIGN if negative else U(0)))


def code_of_element(bits, ceiling, numbers):
    """The code that an element of a block is quantized to."""
    return integer_code(quantize_bits(bits, ceiling, numbers), numbers)


def value_of_code(code, _ceiling, numbers):
    """The value of an element's code."""
    return integer_bits(code, numbers)
