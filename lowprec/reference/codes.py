"""The definition of encode and decode: values to integer codes and back, exactly."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats import (
    P3109,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    FormatLike,
    Scaled,
    TabledFormat,
)
from lowprec.formats.format import check_integer, power_of_two
from lowprec.modes import Rounding, Specials
from lowprec.reference.arrays import HOLDING, Words, checked, rounded
from lowprec.reference.blocks import FloatArray, exponents, partition
from lowprec.reference.grid import ElementFormat, SingleFormat, floor_log2
from lowprec.reference.scalar import check_single, element_of, ended
from lowprec.reference.scales import Scales, given_scales, scales_for

Codes = npt.NDArray[np.unsignedinteger[Any]]


def encode(
    x: FloatArray,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    words: Words | None = None,
    carrier: str | None = None,
    scale: Scales | None = None,
) -> Codes | tuple[Codes, Scales]:
    """The codes of what ``quantize`` makes of every element, by the definition.

    A NaN, of ``x`` or by the overflow rule, becomes the code of NaN; infinities and overflow are as
    in ``quantize``; -0 keeps its sign where the format has a signed zero.

    Args:
        x: As for ``quantize``.
        format: As for ``quantize``.
        rounding: As for ``quantize``.
        random_bits: As for ``quantize``.
        words: As for ``quantize``.
        carrier: As for ``quantize``.
        scale: As for ``quantize``.

    Returns:
        Codes as uint8, uint16, uint32 or uint64, whichever is wide enough, in the shape of ``x``. For
        a block format these are mantissas in two's complement, and the scales come with them: 2 to the
        exponent of each group, in the dtype of ``x``. With the codes of a scaled format comes what
        ``scales`` returns, or what was given in its place.

    Raises:
        TypeError: As ``quantize``.
        ValueError: As ``quantize``, if the format has no codes, or if it has none for a NaN.

    Example:
        >>> encode(np.float32([0.3, -0.0, np.nan]), "e4m3fn")
        array([ 42, 128, 127], dtype=uint8)
    """
    format, holder = checked(x, format, carrier)
    rows = rounded(x, format, rounding, random_bits, words, carrier, scale)
    codes = [
        code_of(value + by.zero if by.zero else value, by.format, carrier=holder.name)
        for by, value, _ in rows
    ]
    array = _array_of_codes(codes, format.bits, x.shape)
    if isinstance(format, Scaled):
        groups = partition(x.shape, format.granularity)
        return array, scales_for(x, format, groups, scale).stored
    if isinstance(format, BlockFloatingPoint):
        groups = partition(x.shape, format.granularity)
        powers = [math.ldexp(1.0, exponent) for exponent in exponents(x, groups, format, holder)]
        return array, np.array(powers, x.dtype).reshape(groups.shape)
    return array


def decode(
    codes: Codes,
    format: FormatLike,
    *,
    dtype: npt.DTypeLike = np.float32,
    scales: Scales | None = None,
    carrier: str | None = None,
) -> FloatArray:
    """The values of codes, by the definition.

    Every code of NaN becomes NaN, of an infinity that infinity, of -0 -0. Codes of subnormals become
    a zero of their sign in a format without subnormals.

    Args:
        codes: Integers, 0 to 2**bits - 1, or to one less than a list of values has.
        format: The format, its name, or a torch dtype.
        dtype: The dtype of the result: float16, float32 or float64.
        scales: For a block or scaled format what ``encode`` gives; a NaN makes a whole group NaN.
        carrier: ``"bfloat16"`` for numbers of bfloat16 in float32.

    Returns:
        Values of ``format`` in the shape of ``codes``.

    Raises:
        TypeError: If the dtype is none of those, or the format of another family.
        ValueError: If a code is out of range, the dtype cannot hold the format, or scales are
            missing, of another shape, or given for a format without groups.

    Example:
        >>> decode(np.uint8([42, 128, 127]), "e4m3fn")
        array([ 0.3125, -0.    ,     nan], dtype=float32)
    """
    if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
        raise type_error("dtype", "be float16, float32 or float64", dtype)
    format, held_by = checked(np.empty(codes.shape, dtype), format, carrier)
    numbers: list[int] = codes.ravel().tolist()
    listing = format.element if isinstance(format, Scaled) else format
    if isinstance(listing, TabledFormat) and max(numbers, default=0) >= listing.table.codes_listed:
        most = listing.table.codes_listed - 1
        raise value_error("codes", f"lie between 0 and {most} for {format}", max(numbers))
    if isinstance(format, Scaled):
        groups = partition(codes.shape, format.granularity)
        found = given_scales(scales, "scales", None, format, groups)
        holder = HOLDING[carrier or str(np.dtype(dtype))]
        flat = [
            _of_scaled(code, format, found.products[group], found.zeros[group], holder)
            for code, group in zip(numbers, groups.of_elements, strict=True)
        ]
    elif isinstance(format, BlockFloatingPoint):
        groups = partition(codes.shape, format.granularity)
        if not isinstance(scales, np.ndarray) or scales.shape != groups.shape:
            raise value_error("scales", f"have the shape {groups.shape}", getattr(scales, "shape", None))
        unit, of_groups = format.in_group(0), scales.ravel().tolist()
        pairs = zip(numbers, groups.of_elements, strict=True)
        flat = [value_of(code, unit) * of_groups[group] for code, group in pairs]  # exact: 2^E
    elif scales is not None:
        raise value_error("scales", "be None for a format without groups", getattr(scales, "shape", scales))
    else:
        flat = [value_of(code, format, carrier=held_by.name) for code in numbers]
    return np.array(flat, np.float64).astype(dtype).reshape(codes.shape)


def _of_scaled(code: int, format: Scaled, scale: Fraction, zero: int, carrier: ElementFormat) -> float:
    """The value of a code over a scale and with a zero point."""
    value = value_of(code, format.element)
    if scale == 0:  # which stands for NaN
        return math.nan
    return element_of(format.element, scale, zero).rescaled(value - zero if zero else value, carrier)


def code_of(value: float, format: SingleFormat, *, carrier: str = "float64") -> int:
    """The code of a value of a format.

    NaN has one code: in an ieee format the highest exponent and only the top mantissa bit set, in fn
    all ones without the sign, in fnuz, a signed P3109 and a posit the sign alone, in an unsigned P3109 all
    ones; in a list its first place. -0 has the sign bit set, or its own place in a list.

    Args:
        value: A value of the format, an infinity or NaN.
        format: A floating-point format, a fixed-point one with ends, a posit or a list of values.
        carrier: The type to which logarithmic numbers are rounded, by name.

    Returns:
        The bit pattern, 0 to 2**bits - 1.

    Raises:
        TypeError: If the format is of another family.
        ValueError: If the format has no codes, or none for that value.

    Example:
        >>> code_of(1.5, FloatingPoint(2, 1)), code_of(-0.5, FixedPoint(4, 2))
        (3, 14)
    """
    check_single(format)
    sign_bit = 2 ** (format.bits - 1)
    if math.isnan(value) and not format.has_nan:
        raise value_error("value", f"be a number in {format}", value, "It has no code for NaN.")
    if not isinstance(format, ElementFormat):
        code = ended(format, carrier).code(value)
        if code is None:
            raise value_error("value", f"be a value of {format}", value)
        return code
    if math.isinf(value):
        has_code = format.has_infinity and (value > 0 or format.min < 0)
    else:
        has_code = math.isnan(value) or format.contains(value)
    if not has_code:
        raise value_error("value", f"be a value of {format}", value)
    if isinstance(format, FixedPoint):
        return int(Fraction(value) / format.step) % 2**format.bits
    if math.isnan(value):
        return _code_of_nan(format)
    sign = sign_bit if math.copysign(1.0, value) < 0 else 0
    if math.isinf(value):
        return sign + format.largest_code + 1
    if value == 0:
        return sign
    magnitude = abs(Fraction(value))
    exponent = max(floor_log2(magnitude), format.lowest_exponent)
    significand = int(magnitude / power_of_two(exponent - format.mantissa_bits))
    # The hidden bit of a normal value counts as the 1 by which its exponent field is larger.
    return sign + (exponent - format.lowest_exponent) * 2**format.mantissa_bits + significand


def value_of(code: int, format: SingleFormat, *, carrier: str = "float64") -> float:
    """The value of a code.

    Every code of NaN gives NaN. A code of a subnormal gives a zero of its sign in a format without
    subnormals. The code that a symmetric format leaves out gives what two's complement says.

    Args:
        code: A bit pattern, 0 to 2**bits - 1, or a place in a list.
        format: A floating-point format, a fixed-point one with ends, a posit or a list of values.
        carrier: The type to which logarithmic numbers are rounded, by name.

    Returns:
        A value of the format, an infinity or NaN.

    Raises:
        TypeError: If the format is of another family, or the code no integer.
        ValueError: If the format has no codes, or the code is out of range.

    Example:
        >>> value_of(3, FloatingPoint(2, 1)), value_of(14, FixedPoint(4, 2))
        (1.5, -0.5)
    """
    check_single(format)
    codes = format.table.codes_listed if isinstance(format, TabledFormat) else 2**format.bits
    check_integer("code", code, 0, codes - 1)
    if not isinstance(format, ElementFormat):
        return ended(format, carrier).value(code)
    negative, rest = divmod(code, 2 ** (format.bits - 1))
    if isinstance(format, FixedPoint):
        number = code - 2**format.bits if negative and format.signed else code
        return float(number * format.step)
    if isinstance(format, P3109) and not format.signed:
        negative, rest = 0, code
    elif code == 2 ** (format.bits - 1) and format.specials is Specials.FNUZ:
        return math.nan
    if rest <= format.largest_code:
        magnitude = float(format.magnitude(rest))
    elif rest == format.largest_code + 1 and format.has_infinity:
        magnitude = math.inf
    else:
        return math.nan
    return -magnitude if negative and (magnitude > 0 or format.has_signed_zero) else magnitude


def _code_of_nan(format: FloatingPoint) -> int:
    """The code that stands for NaN."""
    if isinstance(format, P3109) and not format.signed:
        return 2**format.bits - 1
    if format.specials is Specials.FNUZ:
        return 2 ** (format.bits - 1)
    if format.specials is Specials.FN:
        return 2 ** (format.bits - 1) - 1
    return format.largest_code + 1 + 2 ** (format.mantissa_bits - 1)


def _array_of_codes(codes: list[int], bits: int, shape: tuple[int, ...]) -> Codes:
    """Codes in the narrowest unsigned integers that hold them."""
    width = next(width for width in (8, 16, 32, 64) if width >= bits)
    return np.array(codes, np.dtype(f"uint{width}")).reshape(shape)
