"""Loops over the elements of one operation; operate.py calls them.

An operation is done in binary64, whose result, rounded to odd, tells how the exact one is rounded to a
format: floating-point operations find what the rounded result lost, and integers (exact.py) decide where
that might not be a normal number. Formats too wide for that have the significands of exact.py rounded.
One unit passes through all loops before the next, so what lies between them stays in the cache.
"""

from functools import cache
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import draw, is_drawn, jit
from lowprec.kernels.exact import (
    ADD,
    DIVIDE,
    EXACTLY,
    FUSE,
    LEADING,
    MULTIPLY,
    ROOT,
    pattern_of,
    to_odd,
)
from lowprec.kernels.fused import fused
from lowprec.kernels.memory import at, get, put
from lowprec.kernels.philox import TILE
from lowprec.kernels.products import conversions
from lowprec.kernels.scalar import (
    ABOVE,
    COUNT,
    ENDING,
    LEAST_DROP,
    LOWEST_FIELD,
    MODE,
    NEAREST_EVEN,
    NO_MANTISSA,
    PLAIN,
    RANDOM_BITS,
    STOCHASTIC_NEAREST,
    U32,
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
from lowprec.kernels.specialize import WIDTHS, compiled_with, inline, specialized
from lowprec.kernels.sums import bits_of_sum, from_source, number, pattern, to_source

UNIT = 8 * TILE
"""Elements that pass through all loops before the next ones are read."""

# Within these magnitudes, zero aside, whatever the operation makes of binary64 numbers is normal.
_BOUNDS = {
    ADD: (-900, 1000), MULTIPLY: (-400, 400), DIVIDE: (-400, 400), ROOT: (-900, 1000), FUSE: (-400, 400),
}  # fmt: skip


@inline
def moved(result, lost, direction):
    """The pattern of a result to odd, of which ``lost``, of the sign of ``direction``, was lost."""
    bits = np.float64(result).view(U64)
    against = U64(U64(np.float64(lost).view(U64) ^ np.float64(direction).view(U64)) >> U64(63))
    other = U64(U64(bits + U64(1)) - U64(against << U64(1)))  # nearer zero if they differ
    inexact = lost < 0.0 or lost > 0.0  # NaN beside an infinity
    return other if inexact and U64(bits & U64(1)) == U64(0) else bits


@inline
def with_zero(bits, x, y, down):
    """The pattern of a sum of numbers; an exact zero that is no sum of two +0 is -0 if ``down``."""
    positive = U64(np.float64(x).view(U64) | np.float64(y).view(U64)) == U64(0)
    minus = U64(0) if positive else U64(U64(down) << U64(63))
    return U64(bits | (minus if U64(bits << U64(1)) == U64(0) else U64(0)))


@inline
def outside(bits, low, high):
    """1 where a number is neither zero nor between two patterns."""
    magnitude = U64(bits & U64((1 << 63) - 1))
    far = U64(magnitude - U64(low)) >= U64(high - low)
    return U64(1) if far and magnitude != U64(0) else U64(0)


exactly = EXACTLY[FUSE]
"""What each loop has its own of; not in a closure, by which Numba's cache would miss it in every process."""


@cache
def operating(operation: int, carrier: str) -> Any:
    """The loop of an operation on numbers of a carrier, to patterns of binary64 or to significands."""
    dtype = WIDTHS[carrier].memory
    low, high = (1023 + exponent << 52 for exponent in _BOUNDS[operation])
    wide = carrier == "float64"  # else operations on the numbers of binary32 give normal ones always
    binary, ternary = operation != ROOT, operation == FUSE

    def loop(x_address, y_address, z_address, out_address, places_address, down, size, first, last,
             _a, _b, _c):  # fmt: skip
        x, y, z = at(x_address, dtype), at(y_address, dtype), at(z_address, dtype)
        out, places = at(out_address, np.uint64), at(places_address, np.int64)
        stop = smaller(last * UNIT, size)
        for start in range(first * UNIT, stop, TILE):
            count = smaller(TILE, stop - start)
            unsafe = U64(0)
            if places_address == 0:
                for j in range(count):
                    at_j = np.uintp(start + j)
                    a_bits = b_bits = c_bits = U64(from_source(U64(get(x, at_j))))
                    if binary:
                        b_bits = U64(from_source(U64(get(y, at_j))))
                    if ternary:
                        c_bits = U64(from_source(U64(get(z, at_j))))
                    a, b, c = a_bits.view(np.float64), b_bits.view(np.float64), c_bits.view(np.float64)
                    if operation == ADD:
                        bits = with_zero(bits_of_sum(a, b), a, b, down)
                    elif operation == MULTIPLY:
                        product = np.float64(a * b)
                        bits = product.view(U64)
                        if wide:
                            bits = moved(product, fused(a, b, -product), product)
                    elif operation == DIVIDE:
                        quotient = np.float64(a / b)
                        bits = moved(quotient, fused(-quotient, b, a), a)
                    elif operation == ROOT:
                        root = np.sqrt(a)
                        bits = moved(root, fused(-root, root, a), root)
                    else:
                        product = np.float64(a * b)
                        bits = bits_of_sum(product, c)
                        if wide:
                            bits = bits_of_three(product, fused(a, b, -product), c)
                        bits = with_zero(bits, product, c, down)
                    if wide:
                        unsafe |= outside(a_bits, low, high)
                        if binary:
                            unsafe |= outside(b_bits, low, high)
                        if ternary:
                            unsafe |= outside(c_bits, low, high)
                    put(out, at_j, bits)
            if places_address != 0 or unsafe != U64(0):
                for j in range(start, start + count):
                    a_bits = b_bits = c_bits = U64(from_source(U64(x[j])))
                    if binary:
                        b_bits = U64(from_source(U64(y[j])))
                    if ternary:
                        c_bits = U64(from_source(U64(z[j])))
                    significand, place, negative = exactly(a_bits, b_bits, c_bits, down != 0)
                    if places_address == 0:
                        out[j] = to_odd(significand, place, negative)
                    else:
                        out[j] = significand
                        places[j] = place if significand == U64(0) else 2 * place + (1 if negative else 0)

    names = specialized("float64", NEAREST_EVEN, ABOVE, PLAIN, odd=True)
    decisions = {"bits_of_sum": names["bits_of_sum"], "smaller": names["smaller"]}
    decisions["exactly"] = EXACTLY[operation]
    decisions["bits_of_three"] = compiled_with(bits_of_three, names)
    return jit(12, loop, decisions | conversions(carrier), "operating", operation, carrier)


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


@cache
def rounding_wide(mode: int, ending: int, full: bool) -> Any:
    """The loop that rounds significands to a format, to patterns of binary64."""
    drawn, wraps = is_drawn(mode), ending == WRAPPED

    def loop(significands_address, places_address, out_address, numbers_address, size, lost_address,
             scratch, first, last, seed, stream, word):  # fmt: skip
        significands, places = at(significands_address, np.uint64), at(places_address, np.int64)
        out, ceilings, lost = at(out_address, np.uint64), at(scratch, np.uint32), at(lost_address, np.int64)
        numbers = to_fixed_tuple(at(numbers_address, np.uint64), COUNT)
        start, stop = first * UNIT, smaller(last * UNIT, size)
        filled, offset = -1, 0
        while start < stop:
            count = smaller(TILE, stop - start)
            if drawn:
                offset, count, filled = draw(ceilings, filled, start, 1, count, seed, stream, word)
            for j in range(count):
                ceiling = ceilings[offset + j] if drawn else U32(0)
                significand, place = significands[start + j], places[start + j]
                if significand == U64(0):
                    out[start + j] = quantize_bits(U64(place), ceiling, numbers)
                    continue
                negative = place & 1 != 0
                rounded, place, drop = on_grid(significand, place >> 1, negative, ceiling, numbers)
                if wraps:
                    guard = np.int64(numbers[RANDOM_BITS]) + 2 if drawn else 2
                    if drop < guard and significand & U64(1) != U64(0):  # more may lie below
                        lost[0] = 1
                    bits = drop + np.int64(numbers[WORD_BITS])
                    kept = low_bits(U64(bits)) if bits > 0 else U64(0)
                    rounded = U64(rounded & kept) if bits < 64 else rounded
                sign = U64(1 << 63) if negative else U64(0)
                out[start + j] = ended(U64(0), sign, pattern_of(rounded, place), numbers)
            start += count

    own = specialized("float64", mode, ABOVE, ending, full=full)
    decisions = {name: own[name] for name in ("ended", "low_bits", "quantize_bits", "smaller")}
    integers = specialized("float64", mode, ABOVE, ending, full=full, digits=LEADING)
    decisions["on_grid"] = compiled_with(on_grid, {**integers, "LEADING": LEADING})
    return jit(12, loop, decisions, "rounding", mode, ending, full)


@cache
def narrowing(carrier: str) -> Any:
    """The loop from binary64 to a carrier that holds the numbers."""
    stored = WIDTHS[carrier].memory

    def loop(x_address, out_address, size, first, last):
        x, out = at(x_address, np.uint64), at(out_address, stored)
        for j in range(first * UNIT, size if size < last * UNIT else last * UNIT):
            at_j = np.uintp(j)
            put(out, at_j, stored(to_source(get(x, at_j))))

    return jit(5, loop, conversions(carrier), "narrowing", carrier)
