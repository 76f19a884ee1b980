"""Whole arrays: the arguments checked, the format of every group found, each element rounded."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats import BlockFloatingPoint, FloatingPoint, FormatLike, Scaled, resolve
from lowprec.formats.carriers import CARRIERS, Carrier
from lowprec.modes import Rounding
from lowprec.reference.blocks import FloatArray, exponents, partition
from lowprec.reference.elements import Element, checked_rounding
from lowprec.reference.grid import SingleFormat
from lowprec.reference.scalar import element_of
from lowprec.reference.scales import Scales, scales_for

AnyFormat = SingleFormat | BlockFloatingPoint | Scaled
Words = npt.NDArray[np.uint32]


def quantize(
    x: FloatArray,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    words: Words | None = None,
    carrier: str | None = None,
    scale: Scales | None = None,
) -> FloatArray:
    """Round every element of ``x`` to a value of ``format``, by the definition.

    NaN stays NaN. An infinity, and a finite value that rounds past the largest one, follow the
    format's overflow rule; wrapping takes the value that any mode rounds to, while toward_zero,
    to_odd, and up and down on the side they turn away from, stop at the largest finite value of the
    other formats. -0, and a negative value that rounds to zero, give -0 where the format has a signed
    zero, else +0. Formats that list their values, and posits, are not continued: past the last value
    every mode gives that. Over a scale the exact quotient is what is rounded, and the value times the
    scale is rounded once more, to nearest even in the carrier.

    Args:
        x: Real values; float16, float32 or float64. Those of bfloat16 are passed widened to float32.
        format: Target format, its name, or a torch dtype.
        rounding: Direction of rounding, by name.
        random_bits: Bits of a word that a stochastic rounding looks at, 1 to 32; None for 32.
        words: The random word of every element, uint32 in the shape of ``x``; for the stochastic
            modes only.
        carrier: The type that holds the result; None for the dtype of ``x``, ``"bfloat16"`` for
            bfloat16 in float32. Its smallest positive value is the least step of a block format, and
            logarithmic numbers are rounded to its own.
        scale: For a scaled format what ``scales`` would return, to be used in its place; in a pair of
            two levels the first may be None, and then follows from the elements.

    Returns:
        Values of ``format`` in the shape and dtype of ``x``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the format or rounding is unknown, the carrier does not go with the dtype or
            cannot hold the format, randomness is missing, malformed, or given to another rounding, or
            scales are of another shape, no values of their format, or given to a format without them; or
            if the rounding is stochastic and the format a codebook over scales, or one whose neighbors
            lie too far apart.

    Example:
        >>> quantize(np.float32([0.3, -1e9, np.inf]), "e4m3fn")
        array([ 3.125e-01, -4.480e+02,  4.480e+02], dtype=float32)
        >>> halfway, word = np.float32([1.0625]), np.uint32([1 << 31])
        >>> quantize(halfway, "e4m3fn", rounding="stochastic", words=word)
        array([1.125], dtype=float32)
    """
    rows = rounded(x, format, rounding, random_bits, words, carrier, scale)
    if isinstance(resolve(format), Scaled):
        holder = HOLDING[carrier or str(x.dtype)]
        values = [by.rescaled(value, holder) for by, value, _ in rows]
    else:
        values = [value for _, value, _ in rows]
    return np.array(values, np.float64).reshape(x.shape).astype(x.dtype)


def overflowed(
    x: FloatArray,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    words: Words | None = None,
    carrier: str | None = None,
    scale: Scales | None = None,
) -> npt.NDArray[np.bool_]:
    """Whether overflow fires at every element of ``x`` when it is quantized.

    It fires where a finite value rounds past the largest (or most negative) finite one, whatever
    the rule then makes of it, and where an infinity does not stay one. It does not fire at NaN, in
    an unbounded format, nor, unless the format wraps, at finite values under a mode that stops at
    the largest one (toward_zero, to_odd; up below zero, down above).

    Args:
        x: As for ``quantize``.
        format: As for ``quantize``.
        rounding: As for ``quantize``.
        random_bits: As for ``quantize``.
        words: As for ``quantize``.
        carrier: As for ``quantize``.
        scale: As for ``quantize``.

    Returns:
        Booleans in the shape of ``x``.

    Raises:
        TypeError: As ``quantize``.
        ValueError: As ``quantize``.

    Example:
        >>> overflowed(np.float32([448, 464, 465, np.inf, np.nan]), "e4m3fn")
        array([False, False,  True,  True, False])
    """
    rows = rounded(x, format, rounding, random_bits, words, carrier, scale)
    return np.array([fired for _, _, fired in rows], dtype=np.bool_).reshape(x.shape)


def scales(x: FloatArray, format: FormatLike, *, carrier: str | None = None) -> Scales:
    """The scales that ``quantize`` finds for the groups of ``x``.

    Args:
        x: As for ``quantize``.
        format: A scaled format, or its name.
        carrier: As for ``quantize``.

    Returns:
        A float64 array with as many dimensions as ``x``, of one positive value for each group; a pair of
        them where scales have scales, those of the groups first; or a pair of scales and zero points,
        which are int64.

    Raises:
        TypeError: If ``x`` is no such array, or the format has no scales.
        ValueError: As ``quantize``.

    Example:
        >>> scales(np.float32([1.0, -254.0]), "int8")
        array([2.])
        >>> scales(np.float32([-1.0, 254.0]), "uint8")
        (array([1.]), array([1]))
    """
    parsed, _ = checked(x, format, carrier)
    if not isinstance(parsed, Scaled):
        raise type_error("format", "be a Scaled format", parsed)
    return scales_for(x, parsed, partition(x.shape, parsed.granularity)).stored


HOLDING = {
    "bfloat16": FloatingPoint(8, 7),
    "float16": FloatingPoint(5, 10),
    "float32": FloatingPoint(8, 23),
    "float64": FloatingPoint(11, 52),
}
"""The formats that have the numbers of the carriers as their values."""


def checked(x: FloatArray, format: FormatLike, carrier: str | None) -> tuple[AnyFormat, Carrier]:
    """The format, and the type that holds the result and every value of the format."""
    format = resolve(format)
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float16, np.float32, np.float64):
        raise type_error("x", "be a float16, float32 or float64 array", getattr(x, "dtype", x))
    if not isinstance(format, AnyFormat):
        must = "be floating, fixed or block floating point, scaled, a posit or a TabledFormat"
        raise type_error("format", must, format)
    fitting = [str(x.dtype)] + ["bfloat16"] * (x.dtype == np.float32)
    carrier = fitting[0] if carrier is None else carrier
    if carrier not in fitting:
        raise value_error("carrier", f"be {' or '.join(fitting)} for {x.dtype}", carrier)
    format.check_carrier(carrier)
    return format, CARRIERS[carrier]


def rounded(
    x: FloatArray,
    format: FormatLike,
    rounding: Rounding | str,
    random_bits: int | None,
    words: Words | None,
    carrier: str | None,
    scale: Scales | None = None,
) -> Iterator[tuple[Element, float, bool]]:
    """Check the arguments; what rounds every element in row-major order, its value and overflow there."""
    format, holder = checked(x, format, carrier)
    rounding, random_bits = checked_rounding(rounding, random_bits, "words", words)
    format.check_rounding(rounding, holder.name)
    if words is None:
        words = np.zeros(x.shape, np.uint32)
    elif not isinstance(words, np.ndarray) or words.dtype != np.uint32:
        raise type_error("words", "be a uint32 array", getattr(words, "dtype", words))
    elif words.shape != x.shape:
        raise value_error("words", f"have the shape {x.shape} of `x`", words.shape)
    elements = _elements(x, format, holder, scale)
    inputs = zip(elements, x.ravel().tolist(), words.ravel().tolist(), strict=True)
    return ((by, *by.quantized(value, rounding, random_bits, word)) for by, value, word in inputs)


def _elements(x: FloatArray, format: AnyFormat, carrier: Carrier, scale: Scales | None) -> list[Element]:
    """What rounds each element of ``x``, in row-major order."""
    if isinstance(format, Scaled):
        groups = partition(x.shape, format.granularity)
        found = scales_for(x, format, groups, scale)
        pairs = zip(found.products, found.zeros, strict=True)
        elements = [element_of(format.element, product, zero) for product, zero in pairs]
        return [elements[group] for group in groups.of_elements]
    if scale is not None:
        raise value_error("scale", f"be None for {format}", scale, "Only scaled formats have them.")
    if isinstance(format, BlockFloatingPoint):
        groups = partition(x.shape, format.granularity)
        elements = [element_of(format.in_group(e)) for e in exponents(x, groups, format, carrier)]
        return [elements[group] for group in groups.of_elements]
    return [element_of(format, carrier=carrier.name)] * x.size
