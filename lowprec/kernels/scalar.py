"""Every rounding decision, once: bits and a random word in, bits out.

All of it is 32-bit integer work on binary32 patterns, so no decision depends on how the hardware
rounds, contracts or flushes, and one source serves the CPU, the CUDA compiler and the CUDA simulator.
Fixed point and block floating point are the subnormal range of a floating-point format whose normal
range they never reach, so one function rounds for all three families.

Numba widens ``uint32 + uint32`` to 64 bits: every intermediate is cast back, by name.
"""

import numpy as np
from numba import njit

# Called where a loop must vectorize, which a function call inside prevents.
inline = njit(forceinline=True)

NEAREST_EVEN = 0
TOWARD_ZERO = 1
STOCHASTIC = 2

U = np.uint32
I = np.int32  # noqa: E741  the signed twin of U

SIGN = U(0x80000000)
MAGNITUDE = U(0x7FFFFFFF)
INFINITY = U(0x7F800000)
HIDDEN = U(1 << 23)
MANTISSA = U((1 << 23) - 1)
HALF = U(1 << 31)
ALL_ONES = U(0xFFFFFFFF)


@inline
def round_magnitude(magnitude, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask):  # type: ignore[no-untyped-def]
    """A finite magnitude rounded in the format continued past its largest value.

    ``lowest`` is the exponent field of the smallest normal value, below which the step no longer
    shrinks; ``unit`` the bits of that step. ``mode`` and ``deep`` are compile-time constants.

    1. The significand is an integer below 2^24; ``drop`` of its low bits lie below the step.
    2. ``tail`` is the fraction of the step that those bits make up, in units of 2^-32.
    3. The mode decides by the tail and the parity of the code below, or, stochastically, by
       tail + word >= 2^32, written tail > ``ceiling`` with the word's complement as the ceiling.
    4. The kept bits go back in place; a carry moves into the exponent by itself.
    """
    field = I(magnitude >> U(23))
    significand = U((magnitude & MANTISSA) | (HIDDEN if field > I(0) else U(0)))
    field = max(field, I(1))
    lead = I(23)
    if deep:  # the format has normal values among the carrier's subnormals: find the leading bit
        lead = I(I(np.float32(significand).view(U) >> U(23)) - I(127))
    excess = I(lead - mantissa_bits)
    steps = I(I(I(23) - mantissa_bits) + I(lowest - field))
    drop = max(max(excess, steps), I(0))

    kept = U(significand >> U(min(drop, I(31))))
    # All the dropped bits, left-aligned: shifted up by 32 - drop, past 24 dropped bits down again.
    tail = U(significand << U(max(I(I(32) - drop), I(8)) & I(31)))
    tail = U(tail >> U(min(max(I(drop - I(24)), I(0)), I(31))))
    tail = tail if U(drop - I(1)) < U(55) else U(0)
    if mode == NEAREST_EVEN:
        above = I(I(field + I(lead - I(23))) - lowest)
        code = U(kept + U(U(max(above, I(0))) & odd_mask))
        kept = U(kept + (U(1) if U(tail + U(code & U(1))) > HALF else U(0)))
    elif mode == STOCHASTIC:
        kept = U(kept + (U(1) if U(tail & word_mask) > ceiling else U(0)))

    placed = U(U(magnitude - significand) + U(kept << U(drop & I(31))))
    placed = placed if drop < I(24) else unit
    return placed if kept > U(0) else U(0)


@inline
def quantize_bits(  # type: ignore[no-untyped-def]
    bits, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask,
    max_pos, max_neg, over_pos, over_neg, inf_pos, inf_neg, zero_sign,
):  # fmt: skip
    """The pattern of one quantized value: rounding, then overflow, then the specials.

    ``max`` is the largest magnitude of either sign, ``over`` what lies past it becomes, ``inf`` what
    an infinity becomes, ``zero_sign`` the sign bit where the format has a signed zero, else 0.
    """
    magnitude = U(bits & MAGNITUDE)
    sign = U(bits & SIGN)
    negative = sign != U(0)
    largest = max_neg if negative else max_pos
    rounded = round_magnitude(
        magnitude, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask
    )
    rounded = rounded if rounded <= largest else (over_neg if negative else over_pos)
    rounded = (inf_neg if negative else inf_pos) if magnitude == INFINITY else rounded
    result = U(rounded | (sign if rounded != U(0) else U(sign & zero_sign)))
    return bits if magnitude > INFINITY else result


@inline
def overflow_fired(  # type: ignore[no-untyped-def]
    bits, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask,
    max_pos, max_neg, over_pos, over_neg, inf_pos, inf_neg, zero_sign,
):  # fmt: skip
    """1 where the rounded value lies past the largest, or an infinity does not stay one; else 0."""
    magnitude = U(bits & MAGNITUDE)
    negative = U(bits & SIGN) != U(0)
    rounded = round_magnitude(
        magnitude, ceiling, mode, deep, mantissa_bits, lowest, unit, odd_mask, word_mask
    )
    past = rounded > (max_neg if negative else max_pos)
    if mode == TOWARD_ZERO:
        past = False
    past = (inf_neg if negative else inf_pos) != INFINITY if magnitude == INFINITY else past
    return U(0) if magnitude > INFINITY else (U(1) if past else U(0))


@inline
def block_step(largest, word_bits, floor_exponent):  # type: ignore[no-untyped-def]
    """The exponent of a group's step from the bits of its largest finite magnitude.

    floor(log2 max) + 2 - word_bits, but at least ``floor_exponent``; just that for a group of zeros.
    """
    field = I(largest >> U(23))
    lead = I(I(np.float32(U(largest & MANTISSA)).view(U) >> U(23)) - I(127))
    exponent = I(field - I(127)) if field > I(0) else I(lead - I(149))
    step = max(I(I(exponent + I(2)) - word_bits), floor_exponent)
    return floor_exponent if largest == U(0) else step


@inline
def block_limit(step, word_bits):  # type: ignore[no-untyped-def]
    """The bits of the largest mantissa, 2^(word_bits - 1) - 1, times 2^step."""
    mantissa = U(U(U(1) << U(word_bits - I(1))) - U(1))
    top = I(I(step + word_bits) - I(2))
    normal = U(U(U(max(I(top + I(127)), I(0))) << U(23)) + U(U(mantissa << U(I(25) - word_bits)) - HIDDEN))
    subnormal = U(mantissa << U(min(max(I(step + I(149)), I(0)), I(31))))
    return normal if top >= I(-126) else subnormal


@inline
def power_bits(exponent):  # type: ignore[no-untyped-def]
    """The bits of 2^exponent, from -149 to 127."""
    normal = U(U(max(I(exponent + I(127)), I(0))) << U(23))
    subnormal = U(U(1) << U(min(max(I(exponent + I(149)), I(0)), I(31))))
    return normal if exponent >= I(-126) else subnormal
