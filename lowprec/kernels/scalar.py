"""Every rounding decision, once: bits and a random word in, bits out.

It is integer work on the carrier's own patterns, so no decision depends on how the hardware rounds,
contracts or flushes, and one source serves every carrier, the CPU and the CUDA compiler. (A shorter way to
nearest even for most formats: ``added_power``.) A pattern without its sign orders magnitudes and carries
from the mantissa into the exponent, so a value is rounded by adding to its pattern and cutting the low
bits; only magnitudes below one unit of the format's last place, which may lie any number of binades down,
are compared with it instead. Fixed point and block floating point are the subnormal range of a
floating-point format whose normal range they never reach: one function rounds for all three families.

These are plain functions of the constants below. ``specialize.py`` makes a copy of them for each
carrier, mode, depth and ending, in which a compiler sees no branch that is not taken. ``numbers`` is a
tuple that describes the format in the carrier's terms. Numba widens ``uint32 + uint32`` to 64 bits:
every intermediate is cast back, by name.
"""

import numpy as np

U32, U64 = np.uint32, np.uint64

# The modes, in the order of modes.Rounding.
(
    NEAREST_EVEN, NEAREST_AWAY, NEAREST_ZERO, NEAREST_ODD, NEAREST_UP, NEAREST_DOWN,
    TOWARD_ZERO, AWAY, UP, DOWN, TO_ODD,
    STOCHASTIC, STOCHASTIC_MIDPOINT, STOCHASTIC_NEAREST, STOCHASTIC_EQUAL,
) = range(15)  # fmt: skip

# Where the format's unit, its smallest step, lies.
ABOVE = 0  # among the carrier's normal values
WITHIN = 1  # among its subnormals; the smallest normal value of the format is not
DEEP = 2  # the format has normal values, or no values, among the carrier's subnormals
EITHER = 3  # ABOVE or WITHIN, as each group has it
QUICK = 4  # ABOVE, and a shorter way: see added_power and reaches_unit_by_word

# What a rounded magnitude becomes.
PLAIN = 0  # one largest value and one thing past it for both signs and for infinities; signed zero
CLAMPED = 1  # the largest of its sign, for infinities too; no signed zero
GENERAL = 2  # as the numbers say
WRAPPED = 3  # modulo 2^word_bits units; NaN for infinities; no signed zero

# The constants of a copy: these are of binary32 to nearest.
U, I = np.uint32, np.int32  # noqa: E741  the type that holds a pattern, and its signed twin
MANTISSA = 23  # the width of the carrier's mantissa
PLACE = 31  # of its sign
MODE, DEPTH, ENDING = NEAREST_EVEN, ABOVE, PLAIN
FULL = True  # whether all 32 bits of a random word count
SCALED = False  # whether groups have scales, which need not lie where the carrier holds all products
FLOATING = False  # whether what is scaled is floating point
HIDDEN = U(1 << MANTISSA)
SIGN = U(1 << PLACE)
INFINITY = U((1 << PLACE) - (1 << MANTISSA))
QUIET_NAN = U(INFINITY | HIDDEN >> 1)


# The entries of numbers. Exponents are biased by the carrier ("fields"); the field of a carrier's
# subnormal is what it would be if exponents went on, 0 and below.
(
    UNIT_FIELD,  # the exponent of the unit
    UNIT,  # its pattern
    LAST_FIELD,  # the field above which no bits below the unit are left
    LEAST_DROP,  # how many low bits the carrier's mantissa has over the format's
    FLIP,  # makes the lowest kept bit of a one-unit magnitude odd where that is the exponent's
    TINY,  # magnitudes below are compared with the unit, not cut
    HALF,  # the pattern of half a unit
    LOWEST_FIELD,  # of the smallest normal value
    NO_MANTISSA,  # 1 where codes of the format count exponents only, else 0
    RANDOM_BITS,  # how many of a word's bits count
    IGNORED,  # a mask of the others
    MIDDLE,  # the bit below those that count, in the high bits of the carrier's type
    MAX_POSITIVE, MAX_NEGATIVE,  # the largest magnitudes
    OVER_POSITIVE, OVER_NEGATIVE,  # what a finite value past them becomes
    INFINITE_POSITIVE, INFINITE_NEGATIVE,  # what an infinity becomes
    ZERO_SIGN,  # the sign bit where the format has a signed zero, else 0
    WORD_BITS,  # of fixed point
    SIGNED,  # 1 where half of its integers are negative
    CODE_SIGN,  # the sign bit of a code
    CODE_INFINITY,  # the code of infinity; no code where there is none
    CODE_NAN,  # the code that NaN is given
    FIRST_NAN,  # the least code without a sign that is NaN; no code where there is none
    FLUSHED,  # 1 where codes of subnormals are zeros
    CLAMP,  # a magnitude past all that round to the largest value
    LOWEST_POWER, SPREAD,  # where QUICK: the least power of two to which a power is raised, and by how much
    CODE_OF_INFINITY,  # where SCALED: the code that an infinite element is given
) = range(30)  # fmt: skip
COUNT = 30
SCALE = CODE_OF_INFINITY  # in quotients.py, where SCALED is not: what elements are divided by
FACTOR = SPREAD  # where QUICK and STOCHASTIC: the pattern of 2^32 over the unit


def larger(a, b):
    """The larger of two integers; Numba's own takes several times as long to compile."""
    return a if a > b else b


def smaller(a, b):
    """The smaller of two integers."""
    return a if a < b else b


def split(bits):
    """A pattern's magnitude and sign bit."""
    return U(bits & U(SIGN - U(1))), U(bits & SIGN)


def significand(magnitude):
    """The integer significand of a finite magnitude, and the field that its last place belongs to."""
    field = I(magnitude >> U(MANTISSA))
    digits = U(magnitude & U(HIDDEN - U(1)))
    return U(digits | HIDDEN) if field > I(0) else digits, larger(field, I(1))


def leading_bit(integer):
    """floor(log2) of an integer that the carrier's significand holds; far below zero for 0."""
    if PLACE == 63:
        return I(I(np.float64(integer).view(U64) >> U64(52)) - I(1023))
    return I(I(np.float32(integer).view(U32) >> U32(23)) - I(127))


def low_bits(count):
    """A mask of so many low bits, fewer than the type has."""
    return U(U(U(1) << U(count)) - U(1))


def dropped(magnitude, numbers):
    """How many low bits of a magnitude lie below its last place in the format; the parity of its code."""
    field = I(magnitude >> U(MANTISSA))
    if DEPTH != ABOVE and DEPTH != QUICK:  # no compiler prunes `not in`; that of CUDA would loop over it
        field = larger(field, I(1))
    if DEPTH == DEEP:  # the carrier's subnormals have leading bits of their own
        lowest = I(numbers[LOWEST_FIELD])
        lead = I(leading_bit(magnitude) - I(MANTISSA - 1))
        exponent = lead if magnitude >> U(MANTISSA) == U(0) else field
        deep = I(I(I(numbers[LEAST_DROP]) + larger(exponent, lowest)) - field)
        drop = smaller(U(larger(deep, I(0))), U(MANTISSA))
        exponents = U(larger(I(exponent - lowest), I(0))) & numbers[NO_MANTISSA]
        return drop, U(U(U(significand(magnitude)[0] >> drop) + U(exponents)) & U(1))
    drop = I(I(numbers[LAST_FIELD]) - field)
    drop = smaller(U(larger(drop, I(numbers[LEAST_DROP]))), U(MANTISSA))
    return drop, U(U(U(magnitude ^ numbers[FLIP]) >> drop) & U(1))


def in_high_bits(ceiling, numbers):
    """The complement of the bits that count, in the high bits of the carrier's type."""
    counted = ceiling if FULL else U32(ceiling | U32(numbers[IGNORED]))
    return U(U(U(counted) << U(32)) | U(0xFFFFFFFF)) if PLACE == 63 else U(counted)


def random_increment(magnitude, drop, ceiling, numbers):
    """A word cut to as many bits as are dropped, which carries if the two together reach one unit."""
    word = U(~in_high_bits(ceiling, numbers))
    if MODE == STOCHASTIC_MIDPOINT:
        word = U(word | numbers[MIDDLE])
    width = U(64) if PLACE == 63 else U(32)
    kept = U(word >> U(width - U(MANTISSA + 1)))
    return U(kept >> U(U(MANTISSA + 1) - drop))


def rounded_to_random_bits(magnitude, drop, numbers):
    """The dropped bits rounded to nearest even at the last random bit, where they go on below it."""
    below = U(larger(I(I(drop) - I(numbers[RANDOM_BITS])), I(0)))
    low = low_bits(below)
    odd = U(U(magnitude >> below) & U(1))
    return U(U(magnitude + U(U(U(low >> U(1)) + odd) & low)) & U(~low))


def increment(magnitude, negative, drop, odd, ceiling, numbers):
    """What to add to a magnitude before the dropped bits are cut."""
    low = low_bits(drop)
    if MODE == NEAREST_EVEN:
        return U(U(U(low >> U(1)) + odd) & low)
    if MODE == NEAREST_ODD:
        return U(U(U(low >> U(1)) + U(odd ^ U(1))) & low)
    if MODE == NEAREST_AWAY:
        return U(U(low + U(1)) >> U(1))
    if MODE == NEAREST_ZERO:
        return U(low >> U(1))
    if MODE == NEAREST_UP:
        return U(low >> U(1)) if negative else U(U(low + U(1)) >> U(1))
    if MODE == NEAREST_DOWN:
        return U(U(low + U(1)) >> U(1)) if negative else U(low >> U(1))
    if MODE == TOWARD_ZERO:
        return U(0)
    if MODE == AWAY:
        return low
    if MODE == UP:
        return U(0) if negative else low
    if MODE == DOWN:
        return low if negative else U(0)
    if MODE == TO_ODD:
        return U(low & U(odd - U(1)))
    if MODE == STOCHASTIC_EQUAL:
        return low if ceiling < U32(1 << 31) else U(0)
    return random_increment(magnitude, drop, ceiling, numbers)


def fraction(magnitude, numbers):
    """A magnitude below the unit as a fraction of it, in as many bits as the carrier's type has.

    Also the next bit, and whether any lower one is set.
    """
    width = 64 if PLACE == 63 else 32
    digits, field = significand(magnitude)
    shift = I(I(I(numbers[UNIT_FIELD]) - I(1)) - field)
    high = U(digits << U(width - 1 - MANTISSA))
    near = smaller(U(larger(shift, I(0))), U(width - 1))
    far = smaller(U(larger(I(shift - I(1)), I(0))), U(width - 1))
    part = U(high >> near) if shift < I(width) else U(0)
    double = U(high >> far)  # the part and the next bit
    following = double & U(1) if shift > I(0) and shift <= I(width) else U(0)
    lower = U(double << far) != high or shift > I(width)
    if DEPTH == DEEP:
        part = U(high << U(I(-shift))) if shift < I(0) else part
        lower = lower and shift > I(0)
    return part, U(following), lower


def rounded_fraction(magnitude, numbers):
    """A magnitude below the unit in parts of 2^-32, rounded to nearest: a tie up, or to even, by the mode."""
    digits, field = significand(magnitude)
    shift = I(I(I(I(numbers[UNIT_FIELD]) - I(1)) - field) - I(31 - MANTISSA))
    left = U(smaller(larger(I(-shift), I(0)), I(31)))
    drop = U(smaller(larger(shift, I(0)), I(MANTISSA + 3)))  # more gives zero, too
    low = low_bits(drop)
    if MODE == STOCHASTIC_MIDPOINT:
        added = U(U(low + U(1)) >> U(1))
    else:
        added = U(U(U(low >> U(1)) + U(U(digits >> drop) & U(1))) & low)
    return U(U(U(digits << left) + added) >> drop)


def reaches_unit_by_word(magnitude, ceiling, numbers):
    """The same for the stochastic modes: whether a fraction and the word make a whole."""
    limit = in_high_bits(ceiling, numbers)
    if MODE != STOCHASTIC and PLACE != 63 and FULL:
        return rounded_fraction(magnitude, numbers) > limit
    if DEPTH == QUICK:  # by an exact product; what hardware may flush is too small to have a part
        below = U32(smaller(magnitude, U(numbers[TINY] - U(1)))).view(np.float32)
        return U32(np.float32(below * U32(numbers[FACTOR]).view(np.float32))) > limit
    part, following, lower = fraction(magnitude, numbers)
    if MODE == STOCHASTIC:
        return part > limit
    middle = numbers[MIDDLE]
    if MODE == STOCHASTIC_MIDPOINT:
        return part > U(limit ^ middle)
    # The limit's bits that do not count are set, so its last one that counts is the parity of what
    # rounds to nearest; the tie lies in the middle of them.
    low = U(U(middle << U(1)) - U(1))
    tie = U(limit ^ U(low ^ middle))
    odd = U(limit & U(low + U(1))) != U(0)
    return part > tie or (part == tie and (odd or lower or following != U(0)))


def reaches_unit(magnitude, negative, ceiling, numbers):
    """Whether a magnitude below the unit goes up to it rather than down to zero."""
    if MODE == STOCHASTIC or MODE == STOCHASTIC_MIDPOINT or MODE == STOCHASTIC_NEAREST:
        return reaches_unit_by_word(magnitude, ceiling, numbers)
    if MODE == STOCHASTIC_EQUAL:
        return magnitude > U(0) and ceiling < U32(1 << 31)
    half = numbers[HALF]
    if MODE == NEAREST_EVEN or MODE == NEAREST_ZERO:  # zero is the even code
        return magnitude > half
    if MODE == NEAREST_AWAY or MODE == NEAREST_ODD:
        return magnitude >= half
    if MODE == NEAREST_UP:
        return magnitude > half or (magnitude == half and not negative)
    if MODE == NEAREST_DOWN:
        return magnitude > half or (magnitude == half and negative)
    if MODE == UP:
        return magnitude > U(0) and not negative
    if MODE == DOWN:
        return magnitude > U(0) and negative
    return magnitude > U(0) and MODE != TOWARD_ZERO


def added_power(magnitude, numbers):
    """A magnitude rounded to nearest even by adding a power of two whose last place is the format's.

    The sum is below twice that power, so its last place is the power's; taking the power away again is
    exact. A subnormal magnitude gives zero whether or not the hardware flushes it, since it lies below
    half a unit, and everything else is normal; so is what it becomes in a carrier of another bias.
    """
    clamped = smaller(magnitude, numbers[CLAMP])
    power = U(larger(U(clamped & INFINITY), numbers[LOWEST_POWER]) + numbers[SPREAD])
    if PLACE == 63:
        wide = U64(power).view(np.float64)
        return np.float64(np.float64(U64(clamped).view(np.float64) + wide) - wide).view(U64)
    spare = U32(23 - MANTISSA)  # 16-bit carriers compute in binary32, which holds all their normal numbers
    rebias = U32((128 - (1 << (PLACE - MANTISSA - 1))) << 23)
    narrow = U32(U32(U32(power) << spare) + rebias).view(np.float32)
    addend = U32(U32(U32(clamped) << spare) + rebias).view(np.float32)
    rounded = np.float32(np.float32(addend + narrow) - narrow).view(U32)
    return U(U32(rounded - rebias) >> spare) if rounded != U32(0) else U(0)


def round_magnitude(magnitude, negative, ceiling, numbers):
    """A finite magnitude rounded in the format continued past its largest value.

    ``ceiling`` is the complement of the random word, which vectorizes where the word does not.
    """
    if DEPTH == QUICK and MODE == NEAREST_EVEN:
        return added_power(magnitude, numbers)
    drop, odd = dropped(magnitude, numbers)
    whole = magnitude
    if MODE == STOCHASTIC_NEAREST and not (FULL and MANTISSA < 32):  # else all dropped bits count
        whole = rounded_to_random_bits(magnitude, drop, numbers)
    added = increment(magnitude, negative, drop, odd, ceiling, numbers)
    rounded = U(U(whole + added) & U(~low_bits(drop)))
    if DEPTH != WITHIN:
        up = reaches_unit(magnitude, negative, ceiling, numbers)
        small = numbers[UNIT] if up else U(0)
        rounded = small if magnitude < numbers[TINY] else rounded
    return rounded


def placed(integer, lead, field):
    """The pattern of a positive integer whose leading bit is ``lead``, times the unit of ``field``."""
    top = I(field + lead)
    left = smaller(U(larger(I(I(MANTISSA) - lead), I(0))), U(MANTISSA))
    right = smaller(U(larger(I(lead - I(MANTISSA)), I(0))), U(MANTISSA))
    digits = U(U(U(integer) << left) >> right)
    normal = U(U(U(larger(I(top - I(1)), I(0))) << U(MANTISSA)) + digits)
    subnormal = U(U(integer) << U(smaller(U(larger(I(I(field - I(1)) + I(MANTISSA)), I(0))), U(MANTISSA))))
    return normal if top > I(0) else subnormal


def units(magnitude, numbers):
    """How many units a multiple of the unit is, modulo 2 to the width of the carrier's type."""
    width = 64 if PLACE == 63 else 32
    digits, field = significand(magnitude)
    shift = I(I(field - I(MANTISSA)) - I(numbers[UNIT_FIELD]))
    left = U(digits << U(smaller(U(larger(shift, I(0))), U(width - 1)))) if shift < I(width) else U(0)
    right = U(digits >> U(smaller(U(larger(I(-shift), I(0))), U(width - 1))))
    return left if shift >= I(0) else right


def wrapped(rounded, negative, numbers):
    """The pattern of a multiple of the unit modulo 2^word_bits units."""
    count = units(rounded, numbers)
    count = U(U(0) - count) if negative else count
    modulus = U(U(1) << smaller(numbers[WORD_BITS], U(PLACE)))
    count = U(count & U(modulus - U(1)))
    half = U(U(numbers[SIGNED] * modulus) >> U(1))  # 0 where no integer is negative
    count = U(count - U(U(count & half) << U(1)))
    if DEPTH == ABOVE and PLACE == 31:  # every multiple is normal: an exact conversion, and the exponent
        result = U(U(np.float32(I(count)).view(U32)) + U(U(numbers[UNIT_FIELD] - U(127)) << U(23)))
        return result if count != U(0) else U(0)
    below = I(count) < I(0)
    count = U(U(0) - count) if below else count
    result = placed(count, leading_bit(count), I(numbers[UNIT_FIELD]))
    return U(result | (SIGN if below else U(0))) if count > U(0) else U(0)


def ended(magnitude, sign, rounded, numbers):
    """The pattern that a rounded magnitude ends as, given the one that it was rounded from."""
    negative = sign != U(0)
    if ENDING == PLAIN:
        rounded = rounded if rounded <= numbers[MAX_POSITIVE] else numbers[OVER_POSITIVE]
        return U(rounded | sign)
    elif ENDING == CLAMPED:
        rounded = smaller(rounded, numbers[MAX_NEGATIVE] if negative else numbers[MAX_POSITIVE])
        return U(rounded | (sign if rounded != U(0) else U(0)))
    elif ENDING == GENERAL:
        over = numbers[OVER_NEGATIVE] if negative else numbers[OVER_POSITIVE]
        infinite = numbers[INFINITE_NEGATIVE] if negative else numbers[INFINITE_POSITIVE]
        over = infinite if magnitude == INFINITY else over
        largest = numbers[MAX_NEGATIVE] if negative else numbers[MAX_POSITIVE]
        rounded = rounded if rounded <= largest else over
        return U(rounded | (sign if rounded != U(0) else U(sign & numbers[ZERO_SIGN])))
    result = wrapped(rounded, negative, numbers)
    return QUIET_NAN if magnitude == INFINITY else result


def quantize_bits(bits, ceiling, numbers):
    """The pattern of one quantized value: rounding, then overflow, then the specials."""
    magnitude, sign = split(bits)
    result = ended(magnitude, sign, round_magnitude(magnitude, sign != U(0), ceiling, numbers), numbers)
    return bits if magnitude > INFINITY else result


def goes_past(past, negative):
    """Whether what lies past an end overflows there: some modes stay on the near side of it."""
    if MODE == TOWARD_ZERO or MODE == TO_ODD:
        return False
    if MODE == UP:
        return past and not negative
    if MODE == DOWN:
        return past and negative
    return past


def overflow_fired(bits, ceiling, numbers):
    """1 where the rounded value lies past the largest, or an infinity does not stay one; else 0."""
    magnitude, sign = split(bits)
    negative = sign != U(0)
    rounded = round_magnitude(magnitude, negative, ceiling, numbers)
    past = rounded > (numbers[MAX_NEGATIVE] if negative else numbers[MAX_POSITIVE])
    past = past if ENDING == WRAPPED else goes_past(past, negative)
    infinite = numbers[INFINITE_NEGATIVE] if negative else numbers[INFINITE_POSITIVE]
    past = infinite != INFINITY if magnitude == INFINITY else past
    return U(0) if magnitude > INFINITY else (U(1) if past else U(0))
