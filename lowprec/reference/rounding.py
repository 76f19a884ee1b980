"""The definition of quantize, executable: exact rational arithmetic, slow, obviously right.

Every number is a ``fractions.Fraction`` or a Python integer; no float operation rounds, no bit
pattern is taken apart. Kernels are proven against this module, so it imports none of them and
shares none of their methods. The order of every decision is that of the definition: the neighbours
in the format continued past its largest value, the choice between them, then overflow.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats import BlockFloatingPoint, FixedPoint, FloatingPoint, FormatLike, resolve
from lowprec.formats.carriers import CARRIERS
from lowprec.formats.format import check_integer, power_of_two
from lowprec.modes import Overflow, Rounding

FloatArray = npt.NDArray[np.floating[Any]]
ElementFormat = FloatingPoint | FixedPoint
"""The formats that round one element at a time; a block format is one of them in each group."""


class Neighbours(NamedTuple):
    """Where a magnitude lies in a format continued past its largest value."""

    lower: Fraction
    """The largest value that is at most the magnitude."""
    upper: Fraction
    """The smallest value above it."""
    fraction: Fraction
    """The part of the way from lower to upper that the magnitude has covered, 0 if it is lower."""
    lower_is_even: bool
    """Whether the code of lower is even; that of upper is odd then, and the other way round."""


def quantize(
    x: FloatArray,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    words: npt.NDArray[np.uint32] | None = None,
    carrier: str = "float32",
) -> FloatArray:
    """Round every element of ``x`` to a value of ``format``, by the definition.

    NaN stays NaN. An infinity, and a finite value that rounds past the largest one, follow the
    format's overflow rule. -0, and a negative value that rounds to zero, give -0 where the format
    has a signed zero, else +0.

    Args:
        x: Real values, float32 or float64; values of bfloat16 are passed widened to float32.
        format: Target format, its name, or a torch dtype.
        rounding: Direction of rounding, by name.
        random_bits: Bits of a word that a stochastic rounding looks at, 1 to 32; None for 32.
        words: The random word of every element, uint32 in the shape of ``x``; for stochastic only.
        carrier: The type that holds the result, ``"float32"`` or ``"bfloat16"``; its smallest
            positive value is the least step of a block format.

    Returns:
        Values of ``format`` in the shape and dtype of ``x``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the format, rounding or carrier is unknown, the carrier cannot hold the
            format, or randomness is missing, malformed, or given to another rounding.

    Example:
        >>> quantize(np.float32([0.3, -1e9, np.inf]), "e4m3fn")
        array([ 3.125e-01, -4.480e+02,  4.480e+02], dtype=float32)
        >>> halfway, word = np.float32([1.0625]), np.uint32([1 << 31])
        >>> quantize(halfway, "e4m3fn", rounding="stochastic", words=word)
        array([1.125], dtype=float32)
    """
    pairs = _quantized(x, format, rounding, random_bits, words, carrier)
    return np.array([value for value, _ in pairs], dtype=x.dtype).reshape(x.shape)


def overflowed(
    x: FloatArray,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    words: npt.NDArray[np.uint32] | None = None,
    carrier: str = "float32",
) -> npt.NDArray[np.bool_]:
    """Whether overflow fires at every element of ``x`` when it is quantized.

    It fires where a finite value rounds past the largest (or most negative) finite one, whatever
    the rule then makes of it, and where an infinity does not stay one: it becomes finite, or NaN
    where the format would overflow to infinity and has none. It does not fire at NaN, nor at finite
    values under toward_zero, which never rounds past the range.

    Args:
        x: As for ``quantize``.
        format: As for ``quantize``.
        rounding: As for ``quantize``.
        random_bits: As for ``quantize``.
        words: As for ``quantize``.
        carrier: As for ``quantize``.

    Returns:
        Booleans in the shape of ``x``.

    Raises:
        TypeError: As ``quantize``.
        ValueError: As ``quantize``.

    Example:
        >>> overflowed(np.float32([448, 464, 465, np.inf, np.nan]), "e4m3fn")
        array([False, False,  True,  True, False])
    """
    pairs = _quantized(x, format, rounding, random_bits, words, carrier)
    return np.array([fired for _, fired in pairs], dtype=np.bool_).reshape(x.shape)


def quantize_scalar(
    x: float,
    format: ElementFormat,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    word: int | None = None,
) -> float:
    """Round one number to a value of a format that rounds one element at a time.

    NaN, infinities, -0 and overflow are treated as by ``quantize``.

    Args:
        x: A real number; a float, exactly.
        format: A floating-point or fixed-point format.
        rounding: Direction of rounding, by name.
        random_bits: Bits of the word that a stochastic rounding looks at, 1 to 32; None for 32.
        word: The random word, 0 to 2**32 - 1; for stochastic only.

    Returns:
        A value of ``format``, an infinity or NaN.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the rounding is unknown, or randomness is missing, malformed, or given to
            another rounding.

    Example:
        >>> quantize_scalar(0.3, FloatingPoint(2, 1))
        0.5
    """
    if not isinstance(format, FloatingPoint | FixedPoint):
        raise type_error("format", "be a FloatingPoint or FixedPoint", format)
    rounding, random_bits = _checked_rounding(rounding, random_bits, "word", word)
    if word is not None:
        check_integer("word", word, 0, 2**32 - 1)
    return _quantized_scalar(float(x), format, rounding, random_bits, word or 0)[0]


def neighbours(magnitude: Fraction, format: ElementFormat) -> Neighbours:
    """The two neighbours of a magnitude in the format continued past its largest value.

    Args:
        magnitude: A non-negative rational number.
        format: A floating-point or fixed-point format; a floating-point one continues as if its
            exponent were unbounded, a fixed-point one with its step.

    Returns:
        The neighbours, and where the magnitude lies between them.

    Example:
        >>> lower, upper, fraction, lower_is_even = neighbours(Fraction(5, 4), FloatingPoint(2, 1))
        >>> float(lower), float(upper), float(fraction), lower_is_even
        (1.0, 1.5, 0.5, True)
    """
    if isinstance(format, FloatingPoint):
        exponent = format.lowest_exponent
        if magnitude >= power_of_two(exponent):  # below, zero and subnormals keep that exponent
            exponent = _exponent(magnitude)
        step = power_of_two(exponent - format.mantissa_bits)
        # Each binade above the lowest one shifts the codes by the number of mantissas.
        first_code = (exponent - format.lowest_exponent) * 2**format.mantissa_bits
    else:
        step = power_of_two(-format.fraction_bits)
        first_code = 0
    steps = magnitude / step
    whole = math.floor(steps)
    is_even = (first_code + whole) % 2 == 0
    return Neighbours(whole * step, (whole + 1) * step, steps - whole, is_even)


def rounds_up(near: Neighbours, rounding: Rounding, random_bits: int = 32, word: int = 0) -> bool:
    """Whether a magnitude goes to its upper neighbour.

    Args:
        near: Where the magnitude lies.
        rounding: The mode.
        random_bits: Bits of the word that a stochastic rounding looks at.
        word: The random word of 32 bits, for a stochastic rounding.

    Returns:
        True for the upper neighbour, False for the lower one; always False for a value of the
        format.

    Example:
        >>> rounds_up(neighbours(Fraction(5, 4), FloatingPoint(2, 1)), Rounding.NEAREST_EVEN)
        False
    """
    if rounding is Rounding.TOWARD_ZERO:
        return False
    if rounding is Rounding.NEAREST_EVEN:
        half = Fraction(1, 2)
        return near.fraction > half or (near.fraction == half and not near.lower_is_even)
    outcomes = 1 << random_bits
    covered = math.floor(near.fraction * outcomes)
    drawn = word * outcomes // (1 << 32)  # the top bits of the word
    return covered + drawn >= outcomes


def _quantized_scalar(
    x: float, format: ElementFormat, rounding: Rounding, random_bits: int, word: int
) -> tuple[float, bool]:
    """The value that ``x`` becomes, and whether overflow fired."""
    if math.isnan(x):
        return math.nan, False
    sign = math.copysign(1.0, x)
    if math.isinf(x):
        value = sign * _past_range(x, format)
        return value, not math.isinf(value)
    near = _neighbours_of(abs(x), format)
    magnitude = near.upper if rounds_up(near, rounding, random_bits, word) else near.lower
    limit = _limit(x, format)
    if magnitude > limit and rounding is not Rounding.TOWARD_ZERO:
        return sign * _past_range(x, format), True
    value = sign * float(min(magnitude, limit))
    return value if value != 0 or format.has_signed_zero else 0.0, False


def _past_range(x: float, format: ElementFormat) -> float:
    """The magnitude that an infinite ``x``, or a finite one past the range, becomes."""
    if isinstance(format, FloatingPoint):
        if format.overflow is Overflow.INFINITY:
            return math.inf if format.has_infinity else math.nan
        if format.overflow is Overflow.SATURATE and math.isinf(x) and format.has_infinity:
            return math.inf
    return float(_limit(x, format))


@lru_cache(maxsize=2**17)
def _neighbours_of(magnitude: float, format: ElementFormat) -> Neighbours:
    """``neighbours`` of a float, remembered: they are the same in every mode and for each word."""
    return neighbours(Fraction(magnitude), format)


def _limit(x: float, format: ElementFormat) -> Fraction:
    """The largest finite magnitude on the side of ``x``."""
    largest, lowest = _range(format)
    return lowest if x < 0 else largest


@lru_cache
def _range(format: ElementFormat) -> tuple[Fraction, Fraction]:
    """The magnitudes of the largest and of the most negative finite value."""
    return Fraction(format.max), Fraction(-format.min)


def _exponent(magnitude: Fraction) -> int:
    """floor(log2) of a positive number, exactly."""
    # The lengths of numerator and denominator leave two candidates.
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if power_of_two(guess) <= magnitude else guess - 1


def _quantized(
    x: FloatArray,
    format: FormatLike,
    rounding: Rounding | str,
    random_bits: int | None,
    words: npt.NDArray[np.uint32] | None,
    carrier: str,
) -> Iterator[tuple[float, bool]]:
    """Check the arguments; the value and the overflow of every element in row-major order."""
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64):
        raise type_error("x", "be a float32 or float64 array", getattr(x, "dtype", x))
    format = resolve(format)
    if not isinstance(format, FloatingPoint | FixedPoint | BlockFloatingPoint):
        raise type_error("format", "be floating, fixed or block floating point", format)
    if carrier not in CARRIERS:
        raise value_error("carrier", f"be one of {', '.join(CARRIERS)}", carrier)
    if x.dtype == np.float32:
        format.check_carrier(carrier)
    rounding, random_bits = _checked_rounding(rounding, random_bits, "words", words)
    if words is None:
        words = np.zeros(x.shape, np.uint32)
    elif not isinstance(words, np.ndarray) or words.dtype != np.uint32:
        raise type_error("words", "be a uint32 array", getattr(words, "dtype", words))
    elif words.shape != x.shape:
        raise value_error("words", f"have the shape {x.shape} of `x`", words.shape)
    values = x.ravel().tolist()
    formats: Sequence[ElementFormat]
    if isinstance(format, BlockFloatingPoint):
        formats = _formats_of_elements(x, format, CARRIERS[carrier].lowest_exponent)
    else:
        formats = [format] * x.size
    return (
        _quantized_scalar(value, element_format, rounding, random_bits, word)
        for value, element_format, word in zip(values, formats, words.ravel().tolist(), strict=True)
    )


def _formats_of_elements(x: FloatArray, format: BlockFloatingPoint, lowest_exponent: int) -> list[FixedPoint]:
    """The fixed-point format that each element's group amounts to, in row-major order."""
    tiles = format.granularity.tiles(x.shape)
    groups = [tuple(i // tile for i, tile in zip(index, tiles, strict=True)) for index in np.ndindex(x.shape)]
    largest: dict[tuple[int, ...], float] = {}
    for group, value in zip(groups, x.ravel().tolist(), strict=True):
        magnitude = abs(value) if math.isfinite(value) else 0.0
        largest[group] = max(magnitude, largest.get(group, 0.0))
    formats = {}
    for group, magnitude in largest.items():
        step_exponent = lowest_exponent
        if magnitude > 0:
            exponent = _exponent(Fraction(magnitude)) + 2 - format.word_bits
            step_exponent = max(exponent, lowest_exponent)
        formats[group] = FixedPoint(format.word_bits, -step_exponent, symmetric=True)
    return [formats[group] for group in groups]


def _checked_rounding(
    rounding: Rounding | str, random_bits: int | None, name: str, words: object
) -> tuple[Rounding, int]:
    """The mode and the number of random bits; words are given if and only if they are needed."""
    rounding = Rounding.parse(rounding, "rounding")
    if rounding is Rounding.STOCHASTIC:
        if words is None:
            raise value_error(name, "be given for stochastic rounding", words)
        random_bits = 32 if random_bits is None else random_bits
        check_integer("random_bits", random_bits, 1, 32)
        return rounding, random_bits
    if words is not None:
        raise value_error(name, f"be None for {rounding} rounding", words)
    if random_bits is not None:
        raise value_error("random_bits", f"be None for {rounding} rounding", random_bits)
    return rounding, 32
