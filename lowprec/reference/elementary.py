"""The definition of one operation on numbers: exact, then rounded once."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike
from lowprec.modes import Rounding
from lowprec.reference.arrays import Words, checked
from lowprec.reference.blocks import FloatArray
from lowprec.reference.elements import Stepped, checked_rounding
from lowprec.reference.grid import ElementFormat, floor_log2
from lowprec.reference.products import Number, _plus, _times

OPERATIONS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}
"""The operations, and how many operands they have."""

_DIGITS = 300
"""Binary digits to which a root is known: far more than there are in any number that it is compared with."""


def elementary(
    operation: str,
    operands: Sequence[FloatArray],
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    words: Words | None = None,
    carrier: str | None = None,
) -> FloatArray:
    """One operation on every element, of which the exact result is rounded once to a value of ``format``.

    Zeros, infinities and NaN are those of IEEE 754, before the format makes of them what it makes of an
    infinity, of NaN or of a zero. An exact zero sum of terms that are no zeros of one sign is +0, under
    ``"down"`` -0.

    Args:
        operation: ``"add"``, ``"sub"``, ``"mul"``, ``"div"``, ``"sqrt"``, or ``"fma"``, which is
            ``x * y + z``.
        operands: As many arrays of one shape and dtype as it has: float16, float32 or float64.
        format: A floating-point or fixed-point format, its name, or a torch dtype.
        rounding: Direction of rounding, by name.
        random_bits: Bits of a word that a stochastic rounding looks at, 1 to 32; None for 32.
        words: The random word of every element; for the stochastic modes only.
        carrier: As for ``quantize``.

    Returns:
        Values of ``format`` in the shape and dtype of the operands.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the operation is unknown, operands are too few, too many or differ, or what
            ``quantize`` refuses.

    Example:
        >>> elementary("div", [np.float32([1, -1, 0]), np.float32([3, 0, 0])], "e5m2")
        array([0.3125,   -inf,    nan], dtype=float32)
    """
    if operation not in OPERATIONS:
        raise value_error("operation", f"be one of {', '.join(OPERATIONS)}", operation)
    if len(operands) != OPERATIONS[operation]:
        raise value_error("operands", f"be {OPERATIONS[operation]} arrays for {operation}", len(operands))
    first = operands[0]
    parsed, _ = checked(first, format, carrier)
    if not isinstance(parsed, ElementFormat):
        raise type_error("format", "be a floating-point or fixed-point format", str(parsed))
    if any(x.dtype != first.dtype or x.shape != first.shape for x in operands):
        raise value_error("operands", "have one dtype and shape", [(x.dtype, x.shape) for x in operands])
    mode, bits = checked_rounding(rounding, random_bits, "words", words)
    drawn = [0] * first.size if words is None else words.ravel().tolist()
    element = Stepped(parsed)
    out = []
    for word, *numbers in zip(drawn, *(x.ravel().tolist() for x in operands), strict=True):
        exact = exact_result(operation, numbers, mode)
        if isinstance(exact, Fraction):
            out.append(element.exactly(exact, mode, bits, word))
        else:
            out.append(element.quantized(exact, mode, bits, word)[0])
    return np.array(out, np.float64).reshape(first.shape).astype(first.dtype)


def exact_result(operation: str, numbers: list[float], rounding: Rounding) -> Number:
    """The exact result; a root between two numbers of so many digits as one between the same two."""
    match operation:
        case "add":
            return _plus(numbers[0], numbers[1], rounding)
        case "sub":
            return _plus(numbers[0], -numbers[1], rounding)
        case "mul":
            return _times(numbers[0], numbers[1])
        case "div":
            return _over(numbers[0], numbers[1])
        case "sqrt":
            return _root(numbers[0])
    return _plus(_times(numbers[0], numbers[1]), numbers[2], rounding)


def _over(x: float, y: float) -> Number:
    """An exact quotient."""
    if math.isfinite(x) and math.isfinite(y) and x != 0 and y != 0:
        return Fraction(x) / Fraction(y)
    if math.isnan(x) or math.isnan(y) or (x == 0 and y == 0) or (math.isinf(x) and math.isinf(y)):
        return math.nan
    sign = math.copysign(1.0, x) * math.copysign(1.0, y)
    return sign * (math.inf if y == 0 or math.isinf(x) else 0.0)


def _root(x: float) -> Number:
    """A root: exact, or a number between the same two multiples of a small power of two."""
    if x < 0:
        return math.nan
    if x == 0 or not math.isfinite(x):
        return x
    square = Fraction(x)
    step = Fraction(2) ** (floor_log2(square) // 2 - _DIGITS)
    whole = math.isqrt(math.floor(square / step**2))
    return whole * step if (whole * step) ** 2 == square else (whole + Fraction(1, 2)) * step
