"""Exact results of one operation on binary64 numbers, in integers: what no hardware may round or flush.

A result that is not zero is a significand, whose leading bit is bit 62, times 2^place, with a sign. Its
last bit is set if anything lies below it, as in a sum rounded to odd, so that 62 bits tell exactly how it
is rounded to whatever leaves two of them. A significand of 0 comes with a pattern in place of a place: a
zero, an infinity or NaN. These are plain functions, of which each compiler makes its own.
"""

import numpy as np

from lowprec.kernels.scalar import U64

LEADING = 62
"""The leading bit of a significand."""
EXACT = 62
"""How many bits of a result are told apart, a sticky last one among them."""

# The operations. A sum is a product with one, and a term.
ADD, MULTIPLY, DIVIDE, ROOT, FUSE = range(5)

_ONE, _NONE = U64(1), U64(0)
_HIDDEN, _SIGN, _INFINITY = U64(1 << 52), U64(1 << 63), U64(0x7FF << 52)
_NAN = 0xFFF << 51
_LOW = U64(0xFFFFFFFF)
_LARGEST = U64((0x7FF << 52) - 1)


def root(x):
    """The square root, rounded to nearest."""
    return np.sqrt(x)


def leading_bit_of(integer):
    """floor(log2) of a positive integer of 64 bits."""
    alone = U64(integer & ~U64(integer >> _ONE))  # without the bit below, it is not rounded up to the next
    return np.int64(np.float64(alone).view(U64) >> U64(52)) - 1023


def shifted_left(high, low, count):
    """An integer of 128 bits times 2^count, which it holds."""
    if count >= 64:
        return U64(low << U64(count - 64)), _NONE
    if count == 0:
        return high, low
    return U64(U64(high << U64(count)) | U64(low >> U64(64 - count))), U64(low << U64(count))


def shifted_right(high, low, count):
    """An integer of 128 bits over 2^count, cut, and whether any bit of it was."""
    if count == 0:
        return high, low, False
    if count >= 128:
        return _NONE, _NONE, (high | low) != _NONE
    if count >= 64:
        rest = U64(count - 64)
        cut = U64(high & U64(U64(_ONE << rest) - _ONE))
        return _NONE, U64(high >> rest), (cut | low) != _NONE
    cut = U64(low & U64(U64(_ONE << U64(count)) - _ONE))
    return U64(high >> U64(count)), U64(U64(low >> U64(count)) | U64(high << U64(64 - count))), cut != _NONE


def leading_bit_of_two(high, low):
    """floor(log2) of a positive integer of 128 bits."""
    return 64 + leading_bit_of(high) if high != _NONE else leading_bit_of(low)


def normalized(high, low, place, lost):
    """A positive integer of 128 bits times 2^place, and something below it if ``lost``, as a significand."""
    shift = leading_bit_of_two(high, low) - LEADING
    if shift < 0:
        _, significand = shifted_left(high, low, -shift)
        return U64(significand | (_ONE if lost else _NONE)), place + shift
    _, significand, cut = shifted_right(high, low, shift)
    return U64(significand | (_ONE if cut or lost else _NONE)), place + shift


def taken_apart(bits):
    """The integer and the exponent of its last place that a finite pattern stands for."""
    field = np.int64(U64(bits & _INFINITY) >> U64(52))
    digits = U64(bits & U64(_HIDDEN - _ONE))
    if field == 0:
        return digits, -1074
    return U64(digits | _HIDDEN), field - 1075


def multiplied(x, y):
    """The product of two integers of 64 bits, in 128."""
    x_high, x_low = U64(x >> U64(32)), U64(x & _LOW)
    y_high, y_low = U64(y >> U64(32)), U64(y & _LOW)
    middle = U64(U64(x_high * y_low) + U64(U64(x_low * y_low) >> U64(32)))
    other = U64(U64(x_low * y_high) + U64(middle & _LOW))
    high = U64(U64(U64(x_high * y_high) + U64(middle >> U64(32))) + U64(other >> U64(32)))
    return high, U64(x * y)


def stand_in(bits):
    """The number itself if it is zero or none, else a one of its sign, which changes no infinity or NaN."""
    magnitude = U64(bits & U64(_SIGN - _ONE))
    if magnitude == _NONE or magnitude >= _INFINITY:
        return U64(bits).view(np.float64)
    return U64(U64(bits & _SIGN) | U64(1023 << 52)).view(np.float64)


def is_number(bits):
    """Whether a pattern is finite."""
    return U64(bits & _INFINITY) != _INFINITY


def special(x):
    """What stands for a zero, an infinity or NaN, of which there is one."""
    bits = np.float64(x).view(np.int64)
    return _NONE, bits if x == x else np.int64(_NAN), False


def fused_exactly(x, y, z, down):
    """``x * y + z``; an exact zero of terms that are none, or of either sign, is -0 if ``down``."""
    if not (is_number(x) and is_number(y)):
        return special(stand_in(x) * stand_in(y) + stand_in(z))
    if not is_number(z):
        return special(U64(z).view(np.float64))
    (x_digits, x_place), (y_digits, y_place), (z_digits, z_place) = (
        taken_apart(x), taken_apart(y), taken_apart(z),
    )  # fmt: skip
    negative, other = U64(x ^ y) >= _SIGN, z >= _SIGN
    high, low = multiplied(x_digits, y_digits)
    place = x_place + y_place
    if (high | low) == _NONE:
        if z_digits != _NONE:
            significand, z_place = normalized(_NONE, z_digits, z_place, False)
            return significand, z_place, other
        minus = negative if negative == other else down
        return special(-0.0 if minus else 0.0)
    if z_digits == _NONE:
        significand, place = normalized(high, low, place, False)
        return significand, place, negative
    # Both with the leading bit at 125, the larger first.
    shift = 125 - leading_bit_of_two(high, low)
    high, low = shifted_left(high, low, shift)
    place -= shift
    shift = 125 - leading_bit_of(z_digits)
    z_high, z_low = shifted_left(_NONE, z_digits, shift)
    z_place -= shift
    if z_place > place or (z_place == place and (z_high > high or (z_high == high and z_low > low))):
        high, low, place, negative, z_high, z_low, z_place, other = (
            z_high, z_low, z_place, other, high, low, place, negative,
        )  # fmt: skip
    z_high, z_low, lost = shifted_right(z_high, z_low, place - z_place)
    if negative == other:
        total = U64(low + z_low)
        high = U64(U64(high + z_high) + (_ONE if total < low else _NONE))
    else:  # less one where something below is taken away, of which the rest is left
        total = U64(low - z_low)
        high = U64(U64(high - z_high) - (_ONE if total > low else _NONE))
        if lost:
            high = U64(high - (_ONE if total == _NONE else _NONE))
            total = U64(total - _ONE)
    if (high | total) == _NONE:
        return special(-0.0 if down else 0.0)
    significand, place = normalized(high, total, place, lost)
    return significand, place, negative


def quotient_exactly(x, y, _z, _down):
    """``x / y``."""
    x_digits, x_place = taken_apart(x)
    y_digits, y_place = taken_apart(y)
    if not (is_number(x) and is_number(y)) or x_digits == _NONE or y_digits == _NONE:
        return special(stand_in(x) / stand_in(y))
    rest, x_place = normalized(_NONE, x_digits, x_place, False)
    divisor, y_place = normalized(_NONE, y_digits, y_place, False)
    quotient = _NONE
    for _ in range(64):  # the first bit is that of 2^0
        quotient = U64(quotient << _ONE)
        if rest >= divisor:
            rest = U64(rest - divisor)
            quotient = U64(quotient | _ONE)
        rest = U64(rest << _ONE)
    significand, place = normalized(_NONE, quotient, x_place - y_place - 63, rest != _NONE)
    return significand, place, U64(x ^ y) >= _SIGN


def root_exactly(x, _y, _z, _down):
    """The square root; NaN of what is below zero, -0 of -0."""
    digits, place = taken_apart(x)
    if not is_number(x) or digits == _NONE or x >= _SIGN:
        return special(root(stand_in(x)))
    digits, place = normalized(_NONE, digits, place, False)
    digits, place = U64(digits << _ONE), place - 1  # the leading bit at 63
    if place % 2 != 0:
        digits, place = U64(digits >> _ONE), place + 1  # of 53 bits none is lost
    found = rest = _NONE
    for _ in range(EXACT):  # two bits of the number for each of its root
        rest = U64(U64(rest << U64(2)) | U64(digits >> U64(62)))
        digits = U64(digits << U64(2))
        trial = U64(U64(found << U64(2)) | _ONE)
        found = U64(found << _ONE)
        if rest >= trial:
            rest = U64(rest - trial)
            found = U64(found | _ONE)
    significand, place = normalized(_NONE, found, (place + 64 - 2 * EXACT) // 2, rest != _NONE)
    return significand, place, False


def sum_exactly(x, y, _z, down):
    """``x + y``, as for ``fused_exactly``."""
    return fused_exactly(x, U64(1023 << 52), y, down)


def product_exactly(x, y, _z, down):
    """``x * y``, to which a zero of its sign adds nothing."""
    return fused_exactly(x, y, U64(U64(x ^ y) & _SIGN), down)


def to_odd(significand, place, negative):
    """The pattern of binary64 of an exact result, to odd: past the largest number that number."""
    sign = _SIGN if negative else _NONE
    if significand == _NONE:
        return U64(np.int64(place))
    top = place + LEADING
    if top > 1023:
        return U64(_LARGEST | sign)
    drop = U64(10 if top >= -1022 else min(-1012 - top, 63))
    cut = U64(significand & U64(U64(_ONE << drop) - _ONE))
    digits = U64(U64(significand >> drop) | (_ONE if cut != _NONE else _NONE))
    field = U64(top + 1022 if top >= -1022 else 0)
    return U64(U64(U64(field << U64(52)) + digits) | sign)


def pattern_of(integer, place):
    """The magnitude of an integer times 2^place as a pattern that holds it; of infinity past all of them."""
    if integer == _NONE:
        return _NONE
    lead = leading_bit_of(integer)
    top = lead + place
    if top > 1023:
        return _INFINITY
    if top < -1022:
        shift = place + 1074
        return U64(integer << U64(shift)) if shift >= 0 else U64(integer >> U64(-shift))
    digits = U64(integer >> U64(lead - 52)) if lead >= 52 else U64(integer << U64(52 - lead))
    return U64(U64(U64(top + 1022) << U64(52)) + digits)


EXACTLY = {
    ADD: "sum_exactly",
    MULTIPLY: "product_exactly",
    DIVIDE: "quotient_exactly",
    ROOT: "root_exactly",
    FUSE: "fused_exactly",
}
"""The functions of patterns, and whether an exact zero sum is -0, that give a significand and so on."""
