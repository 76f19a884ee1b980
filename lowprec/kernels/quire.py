"""Loops over matrix products whose sums are exact, and rounded once.

A unit is a row of the result by a block of its columns. Where paths.py knows that binary64 holds all sums
of products, they are narrow: multiplied and added there. Else a sum is an integer in limbs of 64 bits, each a
digit of 32 bits that has room for 2^29 carries: a product of significands, or a product that was rounded,
is cut at multiples of 32 places and added to three of them. At the end carries go up, and wide.py rounds
the first 128 bits. What is no number is summed apart.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels.cpu import is_drawn, jit
from lowprec.kernels.memory import at, get, put, read_apart
from lowprec.kernels.noise import ceiling_at
from lowprec.kernels.products import ACCUMULATE, CHUNKS, MULTIPLY, Family, conversions, specialized_for
from lowprec.kernels.scalar import COUNT, DOWN, U32, quantize_bits, smaller
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.sums import number, pattern, to_source
from lowprec.kernels.wide import added_exactly, quantize_wide

# What a loop finds at its geometry: addresses, sizes of the product and of its units, those of sums.
(A, B, A_DIGITS, B_DIGITS, A_PLACES, B_PLACES, BIAS, OUT, NUMBERS, PRODUCT_NUMBERS, TOTALS_AT, SUMS_AT,
 M, N, K, CHUNK, WIDTH, LIMBS, BASE, NARROW, HALVED, STRANGE, BIAS_STEP, BIAS_COUNT,
 SIZE) = range(25)  # fmt: skip

HALF = 27
"""Low bits of a significand of 53, where two of them make products of more than 62 bits."""
_LOWER = (1 << HALF) - 1
_DIGIT = np.int64(0xFFFFFFFF)

round_product = quantize_bits


class Kind(NamedTuple):
    """What a loop holds constant."""

    step: Family
    """Of the whole sum, or of the sums of chunks."""
    product: Family | None
    chunked: bool
    out: str


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
def deposit(limbs, first, value, place):
    """Add value 2^place, of less than 2^62, to the limbs from ``first`` on."""
    limb = np.uintp(first + (place >> 5))
    shift = place & 31
    low = (value & _DIGIT) << shift
    high = ((value >> 32) << shift) + (low >> 32)
    put(limbs, limb, get(limbs, limb) + (low & _DIGIT))
    put(limbs, np.uintp(limb + np.uintp(1)), get(limbs, np.uintp(limb + np.uintp(1))) + (high & _DIGIT))
    put(limbs, np.uintp(limb + np.uintp(2)), get(limbs, np.uintp(limb + np.uintp(2))) + (high >> 32))


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def deposit_number(limbs, first, bits, base):
    """Add a finite number of binary64, a multiple of 2^base."""
    field = np.int64((bits >> np.uint64(52)) & np.uint64(0x7FF))
    digits = np.int64(bits & np.uint64((1 << 52) - 1))
    digits = digits | (1 << 52) if field > 0 else digits
    place = (field if field > 1 else 1) - 1075 - base
    if place < 0:
        digits >>= -place if place > -64 else 63
        place = 0
    deposit(limbs, first, digits if bits >> np.uint64(63) == np.uint64(0) else -digits, place)


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def gather(limbs, first, count):
    """The first 128 bits of a magnitude, where the first lies, and its sign; -1 for zero."""
    carry, last = np.int64(0), first + count - 1
    for i in range(first, first + count):
        total = limbs[i] + carry
        limbs[i] = total & _DIGIT
        carry = total >> 32
    negative = carry < 0
    if negative:
        carry = np.int64(1)
        for i in range(first, first + count):
            total = (limbs[i] ^ _DIGIT) + carry
            limbs[i] = total & _DIGIT
            carry = total >> 32
    while last >= first and limbs[last] == 0:
        last -= 1
    if last < first:
        return np.uint64(0), np.uint64(0), np.int64(-1), False
    lead = np.int64(np.float64(limbs[last]).view(np.uint64) >> np.uint64(52)) - 1023
    up = np.uint64(31 - lead)
    middle, low = np.uint64(0), np.uint64(0)
    high = np.uint64(limbs[last]) << np.uint64(32)
    if last - 1 >= first:
        high |= np.uint64(limbs[last - 1])
    if last - 2 >= first:
        middle = np.uint64(limbs[last - 2]) << np.uint64(32)
    if last - 3 >= first:
        middle |= np.uint64(limbs[last - 3])
    if last - 4 >= first:
        low = np.uint64(limbs[last - 4])
    high = (high << up) | ((middle >> np.uint64(1)) >> (np.uint64(63) - up))
    middle = (middle << up) | ((low << up) >> np.uint64(32))
    below = ((low << up) & np.uint64(0xFFFFFFFF)) != np.uint64(0)
    for i in range(first, last - 4):
        below = below or limbs[i] != 0
    return high, middle | np.uint64(1 if below else 0), (last - first) * 32 + lead, negative


@cache
def summing(kind: Kind) -> Any:
    """The loop of one kind."""
    stored, chunked = WIDTHS[kind.out].memory, kind.chunked
    rounds_products = kind.product is not None
    draws_products = kind.product is not None and is_drawn(kind.product.mode)
    draws_sums, down = is_drawn(kind.step.mode), kind.step.mode == DOWN
    of_sums = CHUNKS if chunked else ACCUMULATE

    def loop(geometry_address, scratch, first, last, seed, stream):
        g = at(geometry_address, np.int64)
        a, b, bias = at(g[A], np.float64), at(g[B], np.float64), at(g[BIAS], np.float64)
        a_digits, b_digits = at(g[A_DIGITS], np.int64), at(g[B_DIGITS], np.int64)
        a_places, b_places = at(g[A_PLACES], np.int64), at(g[B_PLACES], np.int64)
        out, totals = at(g[OUT], stored), at(scratch + g[TOTALS_AT], np.float64)
        sums, limbs = at(scratch + g[SUMS_AT], np.float64), at(scratch, np.int64)
        numbers = to_fixed_tuple(at(g[NUMBERS], np.uint64), COUNT)
        if rounds_products:
            of_products = to_fixed_tuple(at(g[PRODUCT_NUMBERS], np.uint64), COUNT)
        n, depth, count, base, narrow = g[N], g[K], g[LIMBS], g[BASE], g[NARROW] != 0
        blocks = -(-n // g[WIDTH])
        for unit in range(first, last):
            row, j_first = unit // blocks, unit % blocks * g[WIDTH]
            columns = smaller(g[WIDTH], n - j_first)
            a_at, b_at = row * depth, row // g[M] * depth * n + j_first
            element = row * n + j_first
            for j in range(columns):
                totals[j] = 0.0
                if g[BIAS_COUNT] > 0:
                    totals[j] = bias[(element + j) // g[BIAS_STEP] % g[BIAS_COUNT]]
            for start in range(0, depth if depth > 0 else 1, g[CHUNK]):
                stop = smaller(start + g[CHUNK], depth)
                strange = g[STRANGE] != 0
                for j in range(columns):
                    sums[j] = 0.0
                for j in range(columns * count):
                    limbs[j] = 0
                for k in range(start, stop):
                    x, b_row = a[a_at + k], b_at + k * n
                    if narrow or rounds_products:
                        for j in range(columns):
                            y = x * read_apart(b, np.uintp(b_row + j))
                            if rounds_products:
                                ceiling = U32(0)
                                if draws_products:
                                    place = (element + j) * depth + k
                                    ceiling = ceiling_at(seed, stream + MULTIPLY, place)
                                y = number(round_product(pattern(y), ceiling, of_products))
                            if narrow:
                                put(sums, np.uintp(j), get(sums, np.uintp(j)) + y)
                            elif np.isfinite(y):
                                deposit_number(limbs, j * count, pattern(y), base)
                            else:
                                strange = True
                    elif g[HALVED] == 0:
                        digits, here = a_digits[a_at + k], a_places[a_at + k] - base
                        for j in range(columns):
                            there = np.uintp(b_row + j)
                            place = here + read_apart(b_places, there)
                            deposit(limbs, j * count, digits * read_apart(b_digits, there), place)
                    else:
                        digits, here = a_digits[a_at + k], a_places[a_at + k] - base
                        for j in range(columns):
                            other, place = b_digits[b_row + j], here + b_places[b_row + j]
                            for half in range(4):
                                mine, theirs = half & 1, half >> 1
                                left = digits >> HALF if mine else digits & _LOWER
                                right = other >> HALF if theirs else other & _LOWER
                                deposit(limbs, j * count, left * right, place + (mine + theirs) * HALF)
                for j in range(columns):
                    ceiling, total, limb = U32(0), totals[j], j * count
                    if draws_sums:
                        place = (element + j) * depth + start if chunked else element + j
                        ceiling = ceiling_at(seed, stream + of_sums, place)
                    # What is no number, and zeros of the unusual sign, follow from factors again.
                    part, plain = 0.0, True
                    if (strange and not narrow) or (down and not (narrow and sums[j] != 0.0)):
                        for k in range(start, stop):
                            y = a[a_at + k] * b[b_at + k * n + j]
                            if rounds_products:
                                above = U32(0)
                                if draws_products:
                                    place = (element + j) * depth + k
                                    above = ceiling_at(seed, stream + MULTIPLY, place)
                                y = number(round_product(pattern(y), above, of_products))
                            plain = plain and pattern(y) == np.uint64(0)
                            part += 0.0 if np.isfinite(y) else y
                    zero = 0.0 if plain or not down else -0.0
                    high, low, lead, negative = np.uint64(0), np.uint64(0), np.int64(-1), False
                    if narrow:
                        part = sums[j] if sums[j] != 0.0 else zero
                    elif np.isfinite(part) and np.isfinite(total):
                        deposit_number(limbs, limb, pattern(total), base)
                        high, low, lead, negative = gather(limbs, limb, count)
                        total, part = total if total == 0.0 else 0.0, zero
                    if lead >= 0:
                        bits = quantize_wide(high, low, lead + base + 1023, negative, ceiling, numbers)
                    else:
                        bits = added_exactly(total, part, ceiling, numbers)
                    totals[j] = number(np.uint64(bits))
            for j in range(columns):
                out[element + j] = stored(to_source(pattern(totals[j])))

    return jit(6, loop, decisions_of(kind), "quire", *kind)


def decisions_of(kind: Kind, **compiler: Any) -> dict[str, Any]:
    """The functions that a loop calls; ``compiler`` is what ``specialized`` takes for another one."""
    own = specialized_for("float64", kind.step, **compiler)
    names = ("quantize_wide", "added_exactly", "pattern", "number", "smaller")
    decisions = {name: own[name] for name in names}
    if kind.product is not None:
        decisions["round_product"] = specialized_for("float64", kind.product, **compiler)["quantize_bits"]
    return decisions | conversions(kind.out, **compiler)
