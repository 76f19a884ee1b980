"""Mistakes to plant in the kernels, each of which the comparisons with the reference must notice."""

from typing import NamedTuple


class Defect(NamedTuple):
    """What stands where, and what is written there instead."""

    name: str
    module: str
    find: str
    replace: str


DEFECTS = [
    # Ties.
    Defect(
        "tie to odd",
        "scalar",
        "U(U(low >> U(1)) + odd) & low)\n    if MODE == NEAREST_ODD",
        "U(U(low >> U(1)) + U(odd ^ U(1))) & low)\n    if MODE == NEAREST_ODD",
    ),
    Defect(
        "tie away goes toward zero",
        "scalar",
        "if MODE == NEAREST_AWAY:\n        return U(U(low + U(1)) >> U(1))",
        "if MODE == NEAREST_AWAY:\n        return U(low >> U(1))",
    ),
    Defect(
        "tie up ignores the sign",
        "scalar",
        "return U(low >> U(1)) if negative else U(U(low + U(1)) >> U(1))\n    if MODE == NEAREST_DOWN",
        "return U(U(low + U(1)) >> U(1))\n    if MODE == NEAREST_DOWN",
    ),
    Defect(
        "tie below the unit goes up",
        "scalar",
        "zero is the even code\n        return magnitude > half",
        "zero is the even code\n        return magnitude >= half",
    ),
    Defect(
        "parity of a one-unit magnitude",
        "scalar",
        "U(magnitude ^ numbers[FLIP])",
        "U(magnitude)",
    ),
    Defect(
        "parity without mantissa bits",
        "scalar",
        "U(U(digits >> drop) + U(exponents))",
        "U(digits >> drop)",
    ),
    # Directions.
    Defect(
        "up is away",
        "scalar",
        "return U(0) if negative else low",
        "return low",
    ),
    Defect(
        "down is mirrored",
        "scalar",
        "return low if negative else U(0)",
        "return U(0) if negative else low",
    ),
    Defect(
        "to odd is to even",
        "scalar",
        "U(low & U(odd - U(1)))",
        "U(low & U(U(0) - odd))",
    ),
    Defect(
        "sticky lost on underflow",
        "scalar",
        "return magnitude > U(0) and MODE != TOWARD_ZERO",
        "return magnitude > half and MODE != TOWARD_ZERO",
    ),
    Defect(
        "lost subnormal of the carrier",
        "scalar",
        "U(digits | HIDDEN) if field > I(0) else digits",
        "U(digits | HIDDEN)",
    ),
    # Stochastic.
    Defect(
        "one word too many",
        "scalar",
        "if MODE == STOCHASTIC:\n        return part > limit",
        "if MODE == STOCHASTIC:\n        return part >= limit",
    ),
    Defect(
        "bits that do not count",
        "scalar",
        "ceiling if FULL else U32(ceiling | U32(numbers[IGNORED]))",
        "ceiling",
    ),
    Defect(
        "half of the noise",
        "scalar",
        "U(kept >> U(U(MANTISSA + 1) - drop))",
        "U(kept >> U(U(MANTISSA + 2) - drop))",
    ),
    Defect(
        "the half below a word lost",
        "scalar",
        "word = U(word | numbers[MIDDLE])",
        "word = U(word)",
    ),
    Defect(
        "random bits not rounded",
        "scalar",
        "whole = rounded_to_random_bits(magnitude, drop, numbers)",
        "whole = magnitude",
    ),
    Defect(
        "random bits rounded half up",
        "scalar",
        "odd = U(U(magnitude >> below) & U(1))\n    return",
        "odd = U(1)\n    return",
    ),
    Defect(
        "equal chances by another bit",
        "scalar",
        "return low if ceiling < U32(1 << 31) else U(0)",
        "return low if ceiling < U32(1 << 30) else U(0)",
    ),
    # Overflow and specials.
    Defect(
        "overflow before rounding",
        "scalar",
        "rounded = rounded if rounded <= numbers[MAX_POSITIVE] else",
        "rounded = rounded if magnitude <= numbers[MAX_POSITIVE] else",
    ),
    Defect(
        "one end for both signs",
        "scalar",
        "rounded = smaller(rounded, numbers[MAX_NEGATIVE] if negative else numbers[MAX_POSITIVE])",
        "rounded = smaller(rounded, numbers[MAX_POSITIVE])",
    ),
    Defect(
        "NaN swallowed",
        "scalar",
        "return bits if magnitude > INFINITY else result",
        "return result",
    ),
    Defect(
        "lost sign of zero",
        "scalar",
        "result = U(rounded | sign)\n",
        "result = U(rounded | (sign if rounded != U(0) else U(0)))\n",
    ),
    Defect(
        "sign of zero where there is none",
        "scalar",
        "U(sign & numbers[ZERO_SIGN])",
        "sign",
    ),
    Defect(
        "infinity as a finite value",
        "scalar",
        "over = infinite if magnitude == INFINITY else over",
        "over = over",
    ),
    Defect(
        "wrapped infinity",
        "scalar",
        "result = QUIET_NAN if magnitude == INFINITY else result",
        "result = result",
    ),
    Defect(
        "wrapped without a sign",
        "scalar",
        "U(U(0) - count) if negative else count",
        "count",
    ),
    Defect(
        "wrapped one bit too late",
        "scalar",
        "U(modulus - U(1))",
        "U(U(modulus << U(1)) - U(1))",
    ),
    Defect(
        "wrapped as unsigned",
        "scalar",
        "U(U(numbers[SIGNED] * modulus) >> U(1))",
        "U(0)",
    ),
    Defect(
        "a flag where up turns away",
        "scalar",
        "past = past and not negative",
        "past = past",
    ),
    Defect(
        "no flag for infinities",
        "scalar",
        "past = infinite != INFINITY if magnitude == INFINITY else past",
        "past = past",
    ),
    # Groups.
    Defect(
        "exponent of a group one too large",
        "groups",
        "larger(I(exponent + I(block[OFFSET]))",
        "larger(I(exponent + I(block[OFFSET]) + I(1))",
    ),
    Defect(
        "exponent of a group not clamped",
        "groups",
        "smaller(larger(exponent, I(block[LOWEST_EXPONENT])), I(block[HIGHEST_EXPONENT]))",
        "exponent",
    ),
    Defect(
        "infinity sets the exponent",
        "groups",
        "magnitude if magnitude < INFINITY else U(0)",
        "magnitude if magnitude <= INFINITY else U(0)",
    ),
    # Descriptions.
    Defect(
        "bias one more",
        "numbers",
        "lowest = format.lowest_exponent + carrier.highest_exponent",
        "lowest = format.lowest_exponent + carrier.highest_exponent - 1",
    ),
    Defect(
        "bias one less",
        "numbers",
        "lowest = format.lowest_exponent + carrier.highest_exponent",
        "lowest = format.lowest_exponent + carrier.highest_exponent + 1",
    ),
    Defect(
        "subnormals where there are none",
        "numbers",
        "flushed = not format.subnormals and width > 0",
        "flushed = False",
    ),
    Defect(
        "down overflows above",
        "numbers",
        "over = [largest[0], over[1]]",
        "over = over",
    ),
    # Codes.
    Defect(
        "NaN code of another sign",
        "codes",
        "return numbers[CODE_NAN] if magnitude > INFINITY else code",
        "return code",
    ),
    Defect(
        "NaN with a payload is a number",
        "codes",
        "bare >= numbers[FIRST_NAN] or",
        "bare == numbers[CODE_NAN] or",
    ),
    Defect(
        "signed codes read as unsigned",
        "codes",
        "numbers[SIGNED] != U(0) and count >= ",
        "numbers[SIGNED] > U(1) and count >= ",
    ),
]
