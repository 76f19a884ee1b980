"""Terms of wrapped sums of which nothing is known: those that are too large are made small.

Let sums wrap modulo M, a power of two times the step of their format, and a term have P digits. If it is
not below 2^(P - 1) steps it is a multiple of the step, as is the sum that it is added to: nothing is
rounded, and only what the term is modulo M counts. Others stay as they are, and have few bits above the
step. So sums are exact, or rounded to odd, in the same type whatever the operands are. That does not hold
of two terms that are added to each other, as pairwise sums begin.
"""

from typing import NamedTuple

import numpy as np

from lowprec.arithmetic import Arithmetic, digits
from lowprec.formats import FixedPoint
from lowprec.kernels.cuda.memory import INSTRUCTIONS
from lowprec.kernels.cuda.twin import device
from lowprec.kernels.operands import Measure
from lowprec.kernels.paths import products_of
from lowprec.kernels.scalar import U64
from lowprec.modes import Overflow

times = INSTRUCTIONS["times"]
_SIGN, _HIDDEN, _INFINITY = U64(1 << 63), U64(1 << 52), U64(0x7FF << 52)


class Fold(NamedTuple):
    """What a kernel needs to know of a wrapped format and its terms."""

    first: int
    """The exponent from which on a term is a multiple of the step; past all where there is nothing to do."""
    step: int
    """The exponent of the step."""
    bits: int
    """How many of them there are."""


NEVER = Fold(1 << 16, 0, 0)


def fold_of(format: object, terms: int) -> Fold:
    """How terms of so many digits become small in a format; NEVER where it does not wrap."""
    if not isinstance(format, FixedPoint) or format.overflow is not Overflow.WRAP:
        return NEVER
    return Fold(terms - 1 - format.fraction_bits, -format.fraction_bits, format.bits)


def small_factors(arithmetic: Arithmetic, a: Measure, b: Measure) -> tuple[Measure, Measure, Fold]:
    """Factors whose products are as those of a and b are once they are small, and how they become so."""
    multiply = arithmetic.multiply
    most = max(products_of(a, b).digits, 0 if multiply is None else digits(multiply))
    fold = fold_of(arithmetic.sum_format, most)
    top = min(a.top + b.top, fold.first - 2)  # products lie below 2^(top + 2)
    return a, b._replace(top=top - a.top), fold


@device
def folded(x, first, step, bits):
    """A number of binary64 in that place modulo 2^bits steps, with its sign."""
    pattern = np.float64(x).view(U64)
    magnitude = U64(pattern & U64(_SIGN - U64(1)))
    exponent = np.int64(magnitude >> U64(52)) - 1023
    if exponent < first or magnitude >= _INFINITY:
        return np.float64(x)
    whole = U64(U64(magnitude & U64(_HIDDEN - U64(1))) | _HIDDEN)
    shift = exponent - 52 - step
    left, right = U64(min(max(shift, 0), 63)), U64(min(max(-shift, 0), 63))
    count = U64(U64(whole << left) >> right) if shift < 64 else U64(0)
    count = U64(count & U64(U64(U64(1) << U64(bits)) - U64(1)))
    unit = U64(np.int64(1023 + step) << 52).view(np.float64)
    value = times(np.float64(count), unit)
    return -value if pattern != magnitude else value
