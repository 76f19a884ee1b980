"""The choice between two neighbors, in each of the fifteen modes."""

import math
from fractions import Fraction

from lowprec.modes import Rounding
from lowprec.reference.grid import Neighbors

_HALF = Fraction(1, 2)


def rounds_up(
    near: Neighbors,
    rounding: Rounding,
    *,
    negative: bool = False,
    random_bits: int = 32,
    word: int = 0,
) -> bool:
    """Whether a magnitude goes to its upper neighbor, the one farther from zero.

    Args:
        near: Where the magnitude lies.
        rounding: The mode.
        negative: Whether the value is below zero, which turns up and down around.
        random_bits: Bits of the word that a stochastic rounding looks at.
        word: The random word of 32 bits, for a stochastic rounding.

    Returns:
        True for the upper neighbor, False for the lower one; always False for a value of the
        format.

    Example:
        >>> from lowprec.formats import FloatingPoint
        >>> from lowprec.reference import neighbors
        >>> tie = neighbors(Fraction(5, 4), FloatingPoint(2, 1))
        >>> rounds_up(tie, Rounding.NEAREST_EVEN), rounds_up(tie, Rounding.AWAY)
        (False, True)
    """
    if near.fraction == 0:
        return False
    if rounding.is_stochastic:
        return _drawn(near.fraction, rounding, random_bits, word)
    match rounding:
        case Rounding.TOWARD_ZERO:
            return False
        case Rounding.AWAY:
            return True
        case Rounding.UP:
            return not negative
        case Rounding.DOWN:
            return negative
        case Rounding.TO_ODD:
            return near.lower_is_even
    if near.fraction != _HALF:
        return near.fraction > _HALF
    return {
        Rounding.NEAREST_EVEN: not near.lower_is_even,
        Rounding.NEAREST_AWAY: True,
        Rounding.NEAREST_ZERO: False,
        Rounding.NEAREST_ODD: near.lower_is_even,
        Rounding.NEAREST_UP: not negative,
        Rounding.NEAREST_DOWN: negative,
    }[rounding]


def _drawn(fraction: Fraction, rounding: Rounding, random_bits: int, word: int) -> bool:
    """The choice by a random word, whose top bits are a number from 0 to 2^random_bits - 1."""
    if rounding is Rounding.STOCHASTIC_EQUAL:
        return word >= 2**31
    outcomes = 2**random_bits
    number = word * outcomes // 2**32
    covered = fraction * outcomes
    if rounding is Rounding.STOCHASTIC:
        covered = Fraction(math.floor(covered))
    elif rounding is Rounding.STOCHASTIC_NEAREST:
        covered = Fraction(round(covered))  # round takes a tie to the even number
    else:  # stochastic_midpoint
        covered += _HALF
    return covered + number >= outcomes
