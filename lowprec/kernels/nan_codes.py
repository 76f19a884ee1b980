"""The codes of a floating-point format that are NaN."""

from lowprec.formats import P3109, FloatingPoint

NO_CODE = 2**64 - 1
"""No code of any format."""


def nan_code(format: FloatingPoint) -> int:
    """The code that a NaN is given; no code where the format has none."""
    if not format.has_nan:
        return NO_CODE
    if isinstance(format, P3109):
        return 1 << (format.bits - 1) if format.signed else (1 << format.bits) - 1
    if format.has_infinity:  # quiet
        return format.largest_code + 1 | 1 << (format.mantissa_bits - 1)
    return format.largest_code + 1  # all ones, or the code of -0


def first_nan(format: FloatingPoint) -> int:
    """The least code without a sign that is NaN; no code where there is none."""
    if isinstance(format, P3109) and not format.signed:
        return nan_code(format)
    if not format.has_nan or not format.has_signed_zero:  # fnuz: its one NaN has a sign
        return NO_CODE
    return format.largest_code + (2 if format.has_infinity else 1)
