"""Elements over scales that are no powers of two; see scalar.py for the words.

Patterns of the carrier are widened to binary64, where scalar.py decides about the quotient and where
element times scale is exact. All numbers there are normal, so the hardware may flush what it likes.

The division rounds. To odd (the even neighbor of an inexact quotient is never taken) any mode gives what
it would give for the quotient itself, as long as it looks at no more than 52 bits. Where no random bits
are looked at and the carrier has at most 24, the hardware's own rounding does: the quotient of a
24-bit number by a 35-bit scale is no nearer to a boundary b of at most 17 bits than b * 2^-52, and
otherwise the boundary itself, and so is its rounding to 53 bits. For the boundaries of codebooks, which
may have more bits, numbers.py says whether that holds.
"""

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from lowprec.kernels.codes import floating_bits, floating_code, integer_bits, integer_code
from lowprec.kernels.fused import fused
from lowprec.kernels.scalar import (
    CODE_SIGN,
    FLOATING,
    INFINITE_NEGATIVE,
    INFINITE_POSITIVE,
    INFINITY,
    MAX_NEGATIVE,
    MAX_POSITIVE,
    OVER_NEGATIVE,
    OVER_POSITIVE,
    QUIET_NAN,
    SCALE,
    SIGN,
    U32,
    U64,
    UNIT,
    WORD_BITS,
    ZERO_SIGN,
    U,
    larger,
    overflow_fired,
    quantize_bits,
    smaller,
    split,
)

# More constants of a copy: these are of binary32 to nearest. What is called source is the carrier.
SOURCE_MANTISSA = 23
SOURCE_SIGN = U64(1 << 31)
SOURCE_INFINITY = U64(0xFF << 23)
SOURCE_NAN = U64(0x1FF << 22)
SOURCE_LEAST = U64(897 << 52)  # its smallest normal value, as a binary64
SOURCE_SHIFT = U64(1023 - 126 + 29 << 52)  # a binary64 whose last place is that of its subnormals
ROUNDED_DECIDES = True  # whether the hardware's rounding of the quotient is good enough
HARDWARE = False  # whether the carrier is binary32 and its subnormals may be flushed: no result shows it
ZERO_POINT = False

_FLOOR = U64(1023 - 600 << 52)
_CEILING = U64(1023 + 700 << 52)
"""Binary64 magnitudes that no finite element or scale distinguishes from smaller, or larger, ones."""
_ZERO_POINT = U64(0xFFFF)
"""The low bits of a scale in binary64, which hold its zero point; it has no more than 24 of its own."""


def widened(magnitude):
    """A finite magnitude of the carrier in binary64."""
    if HARDWARE:
        return np.float64(U32(magnitude).view(np.float32)).view(U64)
    if SOURCE_MANTISSA == 52:
        kept = smaller(larger(magnitude, _FLOOR), _CEILING)
        return kept if magnitude > U(0) else U(0)
    # Subnormals have no hidden bit: it is added with their exponent, and taken away again.
    raised = U(U(magnitude << U(52 - SOURCE_MANTISSA)) + SOURCE_LEAST)
    normal = U(raised - U(1 << 52))
    subnormal = np.float64(U64(raised).view(np.float64) - U64(SOURCE_LEAST).view(np.float64)).view(U64)
    return normal if normal >= SOURCE_LEAST else subnormal


def narrowed(magnitude):
    """A magnitude of binary64 rounded to nearest even in the carrier; infinities and NaN stay."""
    if HARDWARE:
        return U64(np.float32(U64(magnitude).view(np.float64)).view(U32))
    if SOURCE_MANTISSA == 52:
        return magnitude
    spare = U(52 - SOURCE_MANTISSA)
    odd = U(U(magnitude >> spare) & U(1))
    half = U(U(U(1) << U(spare - U(1))) - U(1))
    cut = U(U(U(magnitude + half) + odd) >> spare)
    normal = smaller(U(cut - U(U(SOURCE_LEAST - U(1 << 52)) >> spare)), SOURCE_INFINITY)
    shift = U64(SOURCE_SHIFT).view(np.float64)
    subnormal = U(np.float64(U64(magnitude).view(np.float64) + shift).view(U64) - SOURCE_SHIFT)
    finite = normal if magnitude >= SOURCE_LEAST else subnormal
    return finite if magnitude <= INFINITY else SOURCE_NAN


def quotient(magnitude, scale):
    """The quotient of two binary64 numbers, to odd where that matters."""
    x, divisor = U64(magnitude).view(np.float64), U64(scale).view(np.float64)
    rounded = np.float64(x / divisor)
    bits = rounded.view(U64)
    if ROUNDED_DECIDES:
        return bits
    rest = fused(-rounded, divisor, x)
    below = U(1) if rest < 0.0 else U(0)
    return U(U(bits - below) | (U(1) if rest != 0.0 else U(0)))


def quotient_of_element(bits, numbers):
    """What scalar.py decides about: the pattern of x / scale, of an infinity or of NaN; the sign of x."""
    magnitude = U(bits & U(SOURCE_SIGN - U(1)))
    ratio = quotient(widened(magnitude), numbers[SCALE])
    ratio = ratio if magnitude < SOURCE_INFINITY else INFINITY
    ratio = ratio if magnitude <= SOURCE_INFINITY else QUIET_NAN
    return U(ratio | (SIGN if magnitude != bits else U(0)))


def scaled_value(value, numbers):
    """An element times its scale, in the carrier."""
    magnitude, sign = split(value)
    product = np.float64(U64(magnitude).view(np.float64) * U64(numbers[SCALE]).view(np.float64)).view(U64)
    result = narrowed(product)
    signed = sign != U(0) and (result != U(0) or numbers[ZERO_SIGN] != U(0))
    return U(result | (SOURCE_SIGN if signed else U(0)))


def quantize_quotient(bits, ceiling, numbers):
    """The pattern of one element, its quotient rounded and scaled again."""
    if HARDWARE and ROUNDED_DECIDES:  # signs, infinities and NaN go through as the hardware takes them
        scale = U64(numbers[SCALE]).view(np.float64)
        unscaled = np.float64(np.float64(U32(bits).view(np.float32)) / scale).view(U64)
        value = np.float64(U64(quantize_bits(unscaled, ceiling, numbers)).view(np.float64) * scale)
        return U64(np.float32(value).view(U32))
    result = scaled_value(quantize_bits(quotient_of_element(bits, numbers), ceiling, numbers), numbers)
    return bits if U(bits & U(SOURCE_SIGN - U(1))) > SOURCE_INFINITY else result


def quotient_fired(bits, ceiling, numbers):
    """1 where overflow fires, else 0."""
    return overflow_fired(quotient_of_element(bits, numbers), ceiling, numbers)


def code_of_quotient(bits, ceiling, numbers):
    """The code of what an element's quotient rounds to."""
    value = quantize_bits(quotient_of_element(bits, numbers), ceiling, numbers)
    if FLOATING:
        return floating_code(value, numbers)
    code = integer_code(value, numbers)
    mask = U(U(U(1) << numbers[WORD_BITS]) - U(1))
    return U(U(code + numbers[CODE_SIGN]) & mask) if ZERO_POINT else code


def value_of_quotient_code(code, _ceiling, numbers):
    """The value of an element's code."""
    if FLOATING:
        return scaled_value(floating_bits(code, numbers), numbers)
    if not ZERO_POINT:
        return scaled_value(integer_bits(code, numbers), numbers)
    zero = numbers[CODE_SIGN]
    code = U(U(code) & U(U(U(1) << numbers[WORD_BITS]) - U(1)))
    below = code < zero
    count = np.float64(U(zero - code) if below else U(code - zero)).view(U64)
    return scaled_value(U(count | (SIGN if below else U(0))), numbers)


def numbers_of_scale(scale, element):
    """The element's numbers with a scale; with a zero point the range of integers lies around it."""
    if not ZERO_POINT:
        return tuple_setitem(element, SCALE, scale)
    zero = U(scale & _ZERO_POINT)
    largest = U(U(U(1) << element[WORD_BITS]) - U(1))
    above = np.float64(U(largest - zero)).view(U64)
    below = np.float64(zero).view(U64)
    numbers = tuple_setitem(element, SCALE, U(scale - zero))
    numbers = tuple_setitem(numbers, CODE_SIGN, zero)
    for i in (MAX_POSITIVE, OVER_POSITIVE, INFINITE_POSITIVE):
        numbers = tuple_setitem(numbers, i, above)
    for i in (MAX_NEGATIVE, OVER_NEGATIVE, INFINITE_NEGATIVE):
        numbers = tuple_setitem(numbers, i, below)
    return numbers


def quantize_product(bits, ceiling, numbers):
    """The same in binary32 for scales that are powers of two: what they do to normal numbers is exact."""
    magnitude, _ = split(bits)
    scale = U32(numbers[SCALE])
    inverse = U32(U32(254 << 23) - scale)
    unscaled = np.float32(U32(bits).view(np.float32) * inverse.view(np.float32)).view(U32)
    value = quantize_bits(unscaled, ceiling, numbers)
    result = np.float32(U32(value).view(np.float32) * scale.view(np.float32)).view(U32)
    return bits if magnitude > INFINITY else result


def scale_of(dividend, divisor, numbers):
    """A quotient of binary64 numbers rounded to a scale, at least the least there is."""
    rounded = quantize_bits(quotient(dividend, divisor), U32(0), numbers)
    return larger(rounded, numbers[UNIT])


def sum_of(a, b):
    """The sum of two magnitudes of binary64, to odd."""
    x, y = U64(larger(a, b)).view(np.float64), U64(smaller(a, b)).view(np.float64)
    total = np.float64(x + y)
    rest = np.float64(y - np.float64(total - x))
    bits = U(total.view(U64) - (U(1) if rest < 0.0 else U(0)))
    return U(bits | (U(1) if rest != 0.0 else U(0)))


def affine_scale(positive, negative, integers, numbers):
    """The scale of a group between two magnitudes of either sign, with its zero point in the low bits."""
    top, bottom = widened(positive), widened(negative)
    word = integers[WORD_BITS]
    largest = np.float64(U(U(U(1) << word) - U(1))).view(U64)
    scale = scale_of(sum_of(top, bottom), largest, numbers)
    zero = quantize_bits(quotient(bottom, scale), U32(0), integers)
    return U(scale | U(U64(zero).view(np.float64)))
