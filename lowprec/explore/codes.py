"""The codes of a format, one after the other."""

import math

import numpy as np
import numpy.typing as npt
import torch

from lowprec.errors import value_error
from lowprec.formats import (
    P3109,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Format,
    FormatLike,
    GroupedFormat,
    Logarithmic,
    Posit,
    Scaled,
    TabledFormat,
    resolve,
)
from lowprec.formats.properties import shortened
from lowprec.ops import decode
from lowprec.ops.coding import code_dtype
from lowprec.table import Table

WIDEST = 16
"""Bits of the codes that are listed."""


def table(format: FormatLike) -> Table:
    """Every code of a format: its bits, its value, and what kind of number that is.

    Kinds are ``zero`` (-0 too), ``subnormal``, ``normal``, ``infinity`` and ``NaN``; a code that quantize
    never gives (the most negative one of a symmetric format, those of subnormals where there are none) is
    ``unused``. Of a format with groups the elements are listed, as they are over the scale 1.

    Args:
        format: A format of at most 16 bits, its name, or a torch dtype that stands for one.

    Returns:
        A Table with a row for each code, in the order of codes, of ``code`` (hexadecimal), ``bits`` (the
        fields apart), ``value`` (a float, exactly) and ``kind``.

    Raises:
        TypeError: If ``format`` is no format.
        ValueError: If it is unknown, has more than 16 bits, or no codes (unbounded fixed point).

    Example:
        >>> from lowprec.formats import FloatingPoint
        >>> print(table(FloatingPoint(1, 1)))
        e1m1ieee
        code  bits   value  kind
        0x0   0 0 0    0.0  zero
        0x1   0 0 1    1.0  subnormal
        0x2   0 1 0    inf  infinity
        0x3   0 1 1    nan  NaN
        0x4   1 0 0   -0.0  zero
        0x5   1 0 1   -1.0  subnormal
        0x6   1 1 0   -inf  infinity
        0x7   1 1 1    nan  NaN
        bits: sign, exponent, mantissa
    """
    given = resolve(format)
    element = element_of(given)
    values = values_of_codes(given).tolist()
    widths, names = _fields(element)
    digits = -(-element.bits // 4)
    rows = tuple(
        (f"0x{code:0{digits}x}", _split(code, widths), value, kind_of(code, value, element))
        for code, value in enumerate(values)
    )
    caption = f"bits: {names}"
    if element is not given:
        scale = "a group whose largest magnitude lies between 1 and 2" if _is_block(given) else "the scale 1"
        caption = f"The elements of {shortened(str(given))}, over {scale}.\n{caption}"
    title = shortened(str(given))
    return Table(("code", "bits", "value", "kind"), rows, title, caption, formats={"value": ""})


def element_of(format: Format) -> Format:
    """The format itself; of one with groups that of the elements, over the scale 1."""
    if isinstance(format, Scaled):
        return format.element
    return format.in_group(0) if isinstance(format, BlockFloatingPoint) else format


def values_of_codes(format: Format) -> npt.NDArray[np.float64]:
    """The value of every code of a format of at most 16 bits, over the scale 1."""
    element = element_of(format)
    if isinstance(element, FixedPoint) and not element.is_bounded:
        raise value_error("format", "have codes of a certain width", str(format), "Give word_bits.")
    if element.bits > WIDEST:
        remedy = "Of wider ones, lowprec.finfo and `lowprec show` tell."
        raise value_error("format", f"have at most {WIDEST} bits", str(format), remedy)
    codes = torch.arange(code_count(element)).to(code_dtype(element))
    return decode(codes, element, dtype=torch.float64).numpy()


def code_count(element: Format) -> int:
    """How many codes there are."""
    return element.table.codes_listed if isinstance(element, TabledFormat) else int(2**element.bits)


def _is_block(format: Format) -> bool:
    """Whether a format has groups without scales of their own."""
    return isinstance(format, GroupedFormat) and not isinstance(format, Scaled)


def kind_of(code: int, value: float, element: Format) -> str:
    """What kind of number a code stands for."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity"
    if isinstance(element, FixedPoint) and value < element.min:
        return "unused"
    if not isinstance(element, FloatingPoint):
        return "normal" if value else "zero"
    if value == 0:
        return "unused" if code & ((1 << (element.bits - 1)) - 1) else "zero"
    return "subnormal" if abs(value) < element.smallest_normal else "normal"


def _fields(element: Format) -> tuple[list[int], str]:
    """The widths of the fields of a code, from the left, and what they are."""
    if isinstance(element, P3109) and not element.signed:
        return [element.exponent_bits, element.mantissa_bits], "exponent, mantissa"
    if isinstance(element, FloatingPoint):
        return [1, element.exponent_bits, element.mantissa_bits], "sign, exponent, mantissa"
    if isinstance(element, Posit):
        return [1, element.bits - 1], "sign, then regime, exponent and fraction as far as there is room"
    if isinstance(element, Logarithmic):
        names = "sign, integer and fraction of the logarithm, in two's complement"
        return [1, element.integer_bits, element.fraction_bits], names
    if isinstance(element, FixedPoint):
        kind = "two's complement" if element.signed else "without a sign"
        behind = min(max(element.fraction_bits, 0), element.bits)
        return [element.bits - behind, behind], f"integer and fraction, {kind}"
    return [element.bits], "the position in the list"


def _split(code: int, widths: list[int]) -> str:
    """The bits of a code, its fields apart."""
    text, start, parts = f"{code:0{sum(widths)}b}", 0, []
    for width in widths:
        parts.append(text[start : start + width])
        start += width
    return " ".join(part for part in parts if part)
