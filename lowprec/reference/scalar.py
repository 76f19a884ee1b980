"""One number of any format that rounds one element at a time."""

from fractions import Fraction
from functools import lru_cache

from lowprec.errors import type_error
from lowprec.formats import Posit, TabledFormat
from lowprec.formats.carriers import CARRIERS
from lowprec.formats.format import check_integer
from lowprec.modes import Rounding
from lowprec.reference.elements import Element, Stepped, checked_rounding
from lowprec.reference.grid import ElementFormat, SingleFormat
from lowprec.reference.listed import Ended, Listed
from lowprec.reference.posits import Tapered


def quantize_scalar(
    x: float,
    format: SingleFormat,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    word: int | None = None,
) -> float:
    """Round one number to a value of a format that rounds one element at a time.

    NaN, infinities, -0 and overflow are treated as by ``quantize``; the carrier is float64.

    Args:
        x: A real number; a float, exactly.
        format: A floating-point or fixed-point format, a posit, or a format that lists its values.
        rounding: Direction of rounding, by name.
        random_bits: Bits of the word that a stochastic rounding looks at, 1 to 32; None for 32.
        word: The random word, 0 to 2**32 - 1; for the stochastic modes only.

    Returns:
        A value of ``format``, an infinity or NaN.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the rounding is unknown, float64 cannot hold the format, or randomness is
            missing, malformed, or given to another rounding.

    Example:
        >>> from lowprec.formats import FloatingPoint
        >>> quantize_scalar(0.3, FloatingPoint(2, 1)), quantize_scalar(0.3, Posit(8))
        (0.5, 0.3125)
    """
    check_single(format)
    rounding, random_bits = checked_rounding(rounding, random_bits, "word", word)
    if word is not None:
        check_integer("word", word, 0, 2**32 - 1)
    format.check_carrier("float64")
    return element_of(format).quantized(float(x), rounding, random_bits, word or 0)[0]


@lru_cache(maxsize=2**12)
def element_of(
    format: SingleFormat, scale: Fraction = Fraction(1), zero: int = 0, carrier: str = "float64"
) -> Element:
    """The one Element of a format over a scale, in a carrier where its values depend on that."""
    if isinstance(format, ElementFormat):
        return Stepped(format, scale, zero)
    return ended(format, carrier, scale)


@lru_cache(maxsize=2**12)
def ended(format: TabledFormat | Posit, carrier: str = "float64", scale: Fraction = Fraction(1)) -> Ended:
    """That of a format that stops at its last values."""
    if isinstance(format, Posit):
        return Tapered(format)
    return Listed(format, CARRIERS[carrier], scale)


def check_single(format: object) -> None:
    """Refuse formats whose elements share something."""
    if not isinstance(format, SingleFormat):
        raise type_error("format", "be a FloatingPoint, FixedPoint, Posit or TabledFormat", format)
