"""A format in the terms of scalar.py: patterns, fields and counts of one carrier."""

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from math import frexp
from typing import Any

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error
from lowprec.formats import (
    Codebook,
    FixedPoint,
    FloatingPoint,
    Format,
    GroupedFormat,
    Posit,
    Scaled,
    TabledFormat,
)
from lowprec.formats.carriers import CARRIERS, Carrier
from lowprec.formats.format import power_of_two
from lowprec.formats.scaled import significant_bits
from lowprec.kernels import groups, posits, scalar
from lowprec.kernels.blocks import BLOCK, PRODUCTS, QUOTIENTS, STAIRS, Family
from lowprec.kernels.layout import Integers
from lowprec.kernels.nan_codes import NO_CODE, first_nan, nan_code
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.tabulate import staircase, tabulate
from lowprec.modes import Overflow, Rounding, ScaleRule

MODES = {rounding: mode for mode, rounding in enumerate(Rounding)}
"""The rounding modes as scalar.py numbers them."""

_DECIDED_BY_ROUNDING = 29
"""Significant bits of a boundary b to which a quotient of 24-bit numbers, unless it is b, is no nearer than
b * 2^-53, so that a quotient rounded to 53 bits lies on the same side."""
_FAR = 1 << 20
"""An exponent past all that there are."""


def describe(
    format: Format, rounding: Rounding, random_bits: int, carrier: str, within: Integers | None = None
) -> tuple[Any, int, int]:
    """The numbers of a format without groups, where its unit lies, and what its magnitudes end as.

    ``within`` may say that only multiples of 2^low below 2^high are rounded, none of them infinite.
    """
    if isinstance(format, TabledFormat):
        numbers, depth = tabulate(format, rounding, random_bits, carrier)
        return numbers, depth, scalar.PLAIN
    if isinstance(format, Posit):
        return _posit(format, random_bits, "float64" if rounding.is_stochastic else carrier)
    space = CARRIERS[carrier]
    number = dict.fromkeys(range(scalar.COUNT), 0) | _random(random_bits, carrier == "float64")
    if isinstance(format, FloatingPoint):
        depth = _floating(number, format, space, within)
    elif isinstance(format, FixedPoint):
        depth = _fixed(number, format, space)
    else:
        raise type_error("format", "be a FloatingPoint, FixedPoint, Posit or TabledFormat", type(format))
    ending = _ending(number, format, rounding, space)
    if rounding is Rounding.NEAREST_EVEN and depth == scalar.ABOVE and _adds(number, format, space, within):
        depth = scalar.QUICK
    if rounding is Rounding.STOCHASTIC and depth == scalar.ABOVE and _scales(number, ending, space):
        depth = scalar.QUICK
    words = [number[i] & (2**64 - 1) for i in range(scalar.COUNT)]
    return np.array(words, np.uint64).astype(WIDTHS[carrier].unsigned), depth, ending


def _posit(format: Posit, random_bits: int, carrier: str) -> tuple[Any, int, int]:
    """The numbers of a posit; its depth and ending."""
    space = CARRIERS[carrier]
    mantissa, bias, exponents = space.precision - 1, space.highest_exponent, format.exponent_bits
    regime = -(-bias >> exponents)
    number = dict.fromkeys(range(scalar.COUNT), 0) | {
        scalar.RANDOM_BITS: random_bits,
        scalar.WORD_BITS: format.bits,
        scalar.UNIT: bias - format.highest_exponent << mantissa,
        scalar.MAX_POSITIVE: bias + format.highest_exponent << mantissa,
        posits.LIFT: (regime << exponents) - bias << mantissa,
        posits.REGIME_OF_ZERO: regime,
        posits.EXPONENT_BITS: exponents,
    }
    words = np.array([number[i] for i in range(scalar.COUNT)], np.uint64)
    return words.astype(WIDTHS[carrier].unsigned), posits.TAPERED, scalar.PLAIN


def _adds(number: dict[int, int], format: Any, carrier: Carrier, within: Integers | None) -> bool:
    """Fill in what rounding by an addition needs; whether the carrier can."""
    mantissa = carrier.precision - 1
    if isinstance(format, FloatingPoint):
        width, lowest = format.mantissa_bits, number[scalar.LOWEST_FIELD]
    else:  # a floating-point format whose subnormal range goes up to the clamp
        width = format.word_bits or mantissa
        lowest = number[scalar.UNIT_FIELD] + width
    top = max(number[scalar.MAX_POSITIVE], number[scalar.MAX_NEGATIVE]) >> mantissa
    if within is not None:
        top = min(top, within[1] + carrier.highest_exponent)
    number[scalar.CLAMP] = top + 1 << mantissa
    number[scalar.LOWEST_POWER] = lowest << mantissa
    wide = CARRIERS["float64" if carrier.name == "float64" else "float32"]  # what the sum is computed in
    spread = wide.precision - 1 - width
    number[scalar.SPREAD] = spread << mantissa
    # Ties go by the parity of the significand, which is the code's only where it has other bits; the
    # sum must stay below twice the power, and the power below infinity.
    kept = 0 < width < wide.precision - 1 and not number[scalar.FLUSHED]
    kept = kept and format.overflow not in (Overflow.WRAP, Overflow.UNBOUNDED)  # there is nothing to clamp to
    rebias = wide.highest_exponent - carrier.highest_exponent
    return kept and max(top + 1, lowest) + spread + rebias < 2 * wide.highest_exponent


def _scales(number: dict[int, int], ending: int, carrier: Carrier) -> bool:
    """Fill in what makes fractions of the unit integers; whether that is one exact multiplication.

    It needs a normal factor, and a unit of which subnormals are less than a part of 2^32, so that none is
    missed where hardware flushes them.
    """
    factor = 2 * carrier.highest_exponent + 32 - number[scalar.UNIT_FIELD]
    number[scalar.FACTOR] = factor << (carrier.precision - 1)
    return carrier.name == "float32" and ending != scalar.WRAPPED and 1 <= factor <= 253


@lru_cache(maxsize=1024)
def describe_block(
    format: GroupedFormat, rounding: Rounding, random_bits: int, carrier: str
) -> tuple[npt.NDArray[np.int64], Family]:
    """What blocks.py needs to know of a format, and which kind it is."""
    space = CARRIERS[carrier]
    bias = space.highest_exponent
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    random = _random(random_bits, carrier == "float64")
    number = dict.fromkeys(range(groups.BLOCK_COUNT), 0)
    number.update({
        groups.BLOCK_BITS: format.bits,
        groups.LOWEST_EXPONENT: -_FAR if lowest is None else lowest + bias,
        groups.HIGHEST_EXPONENT: _FAR if highest is None else highest + bias,
        groups.LEAST_UNIT: space.lowest_exponent + bias,
        groups.OFFSET: 2 - format.bits,
        groups.BLOCK_RANDOM_BITS: random[scalar.RANDOM_BITS],
        groups.BLOCK_IGNORED: random[scalar.IGNORED],
        groups.BLOCK_MIDDLE: random[scalar.MIDDLE],
    })  # fmt: skip
    family = _scaled(number, format, rounding, space) if isinstance(format, Scaled) else BLOCK
    return np.array([_signed(number[i]) for i in range(groups.BLOCK_COUNT)], np.int64), family


@lru_cache(maxsize=1024)
def describe_quotients(
    format: Scaled, rounding: Rounding, random_bits: int
) -> tuple[npt.NDArray[np.uint64], Family]:
    """The numbers of elements that are quotients in binary64, and which kind of format it is."""
    floating = isinstance(format.element, FloatingPoint)
    numbers, depth, ending = describe(format.element, rounding, random_bits, "float64")
    exact = isinstance(format.element, Codebook) and (
        isinstance(format.scale, Scaled)
        or max(map(significant_bits, format.element.boundaries())) > _DECIDED_BY_ROUNDING
    )
    return numbers, Family(depth, ending, True, floating, QUOTIENTS, format.zero_point, exact=exact)


@lru_cache(maxsize=1024)
def describe_stairs(format: Scaled, rounding: Rounding) -> tuple[npt.NDArray[np.uint64], Family] | None:
    """The numbers of stairs.py, if the elements are so few that steps for each group pay."""
    element = format.element
    if (
        not isinstance(element, Codebook)
        or rounding.is_stochastic
        or describe_quotients(format, rounding, 32)[1].exact
    ):
        return None
    stairs = staircase(element, rounding)
    if stairs is None:
        return None
    return stairs, Family(0, 0, scaled=True, floating=False, arithmetic=STAIRS)


@lru_cache(maxsize=1024)
def describe_products(
    format: GroupedFormat, rounding: Rounding, random_bits: int
) -> tuple[npt.NDArray[np.uint32], Family]:
    """The numbers of elements that are products in binary32, and which kind of format it is."""
    numbers, depth, ending = describe(format.in_group(0), rounding, random_bits, "float32")
    return numbers, Family(depth, ending, scaled=True, floating=False, arithmetic=PRODUCTS)


@lru_cache(maxsize=64)
def describe_scale(format: FloatingPoint) -> tuple[npt.NDArray[np.uint64], int, int]:
    """What ``describe`` says of a scale in binary64; it saturates."""
    return describe(replace(format, overflow="saturate"), Rounding.NEAREST_EVEN, 32, "float64")


def _scaled(number: dict[int, int], format: Scaled, rounding: Rounding, carrier: Carrier) -> Family:
    """Fill in a scaled format's numbers."""
    element, bias, mantissa = format.element, carrier.highest_exponent, carrier.precision - 1
    floating = isinstance(element, FloatingPoint)
    width = element.mantissa_bits if isinstance(element, FloatingPoint) else element.bits - 2
    unit = Fraction(element.smallest_subnormal)
    offset = unit.numerator.bit_length() - unit.denominator.bit_length()
    # A codebook only has its scales made here: its elements are quotients.
    largest = 1 if isinstance(element, Codebook) else int(Fraction(element.max) / unit)
    place = (largest & -largest).bit_length() - 1
    largest >>= place
    number.update({
        groups.LEAST_UNIT: -_FAR,
        groups.OFFSET: offset,
        groups.LARGEST_EXPONENT: format.element_exponent,
        groups.THRESHOLD: _threshold(format, width, mantissa),
        groups.SCALE_BIAS: (1023 if format.levels else 127) - bias,
        groups.WIDTH: width,
        groups.LARGEST: largest,
        groups.LARGEST_LEAD: largest.bit_length() - 1,
        groups.LARGEST_PLACE: place,
    })  # fmt: skip
    if not isinstance(element, FloatingPoint):
        number[groups.BLOCK_CODE_SIGN] = 1 << (format.bits - 1)
        if isinstance(element, FixedPoint):
            number[groups.BLOCK_CODE_OF_INFINITY] = element.largest_integer
        return Family(scalar.EITHER, scalar.CLAMPED, scaled=True, floating=False)
    # The ending that the element has where its values lie in the middle of the carrier's.
    own = dict.fromkeys(range(scalar.COUNT), 0)
    _floating(own, element, CARRIERS["float64"])
    ending = _ending(own, element, rounding, CARRIERS["float64"])
    past = {own[scalar.MAX_POSITIVE]: 0, _infinity(CARRIERS["float64"]): _infinity(carrier)}
    nan = _infinity(carrier) | 1 << (mantissa - 1)
    codes = {
        own[scalar.MAX_POSITIVE]: element.largest_code,
        _infinity(CARRIERS["float64"]): own[scalar.CODE_INFINITY],
    }
    number.update({
        groups.BLOCK_OVER_POSITIVE: past.get(own[scalar.OVER_POSITIVE], nan),
        groups.BLOCK_OVER_NEGATIVE: past.get(own[scalar.OVER_NEGATIVE], nan),
        groups.BLOCK_INFINITE: past.get(own[scalar.INFINITE_POSITIVE], nan),
        groups.BLOCK_ZERO_SIGN: _sign_bit(carrier) if element.has_signed_zero else 0,
        groups.BLOCK_CODE_SIGN: own[scalar.CODE_SIGN],
        groups.BLOCK_CODE_INFINITY: own[scalar.CODE_INFINITY],
        groups.BLOCK_CODE_NAN: own[scalar.CODE_NAN],
        groups.BLOCK_FIRST_NAN: own[scalar.FIRST_NAN],
        groups.BLOCK_CODE_OF_INFINITY: codes.get(own[scalar.INFINITE_POSITIVE], own[scalar.CODE_NAN]),
    })  # fmt: skip
    return Family(scalar.DEEP if bias < 1023 else scalar.EITHER, ending, scaled=True, floating=floating)


def _threshold(format: Scaled, width: int, mantissa: int) -> int:
    """The mantissa of the largest magnitude above which the scale is doubled."""
    ones = (1 << mantissa) - 1
    if format.scale_rule is ScaleRule.CEIL:
        return 0
    if format.scale_rule is ScaleRule.RCEIL:
        largest = Fraction(format.element.max) / power_of_two(format.element_exponent)
        return int((largest - 1) * (1 << mantissa))
    if format.scale_rule is ScaleRule.EVEN and width + 1 <= mantissa:
        return ones - (1 << (mantissa - width - 1))
    return ones


def _signed(number: int) -> int:
    """A 64-bit integer of the same bits that int64 holds."""
    return number - 2**64 if number >= 2**63 else number


def _random(random_bits: int, wide: bool) -> dict[int, int]:
    """What says how many bits of a word count."""
    ignored = 0xFFFFFFFF >> random_bits
    middle = 1 << (63 - random_bits)
    return {
        scalar.RANDOM_BITS: random_bits,
        scalar.IGNORED: ignored,
        scalar.MIDDLE: middle if wide else middle >> 32,
    }


def _floating(
    number: dict[int, int], format: FloatingPoint, carrier: Carrier, within: Integers | None = None
) -> int:
    """Fill in a floating-point format's numbers, those of its codes included; where its unit lies."""
    mantissa, width = carrier.precision - 1, format.mantissa_bits
    lowest = format.lowest_exponent + carrier.highest_exponent
    flushed = not format.subnormals and width > 0
    if within is not None and not flushed:
        lowest = max(lowest, within[0] + width + carrier.highest_exponent)
    unit = lowest if flushed else lowest - width
    sign = 1 << (format.bits - 1) if format.min < 0 else 0
    nan = nan_code(format)
    number.update({
        scalar.LEAST_DROP: mantissa - width,
        scalar.LAST_FIELD: 0 if flushed else unit + mantissa,
        scalar.LOWEST_FIELD: lowest,
        scalar.NO_MANTISSA: int(width == 0),
        scalar.ZERO_SIGN: _sign_bit(carrier) if format.has_signed_zero else 0,
        scalar.CODE_SIGN: sign,
        scalar.CODE_INFINITY: format.largest_code + 1 if format.has_infinity else NO_CODE,
        scalar.CODE_NAN: nan,
        scalar.FIRST_NAN: first_nan(format),
        scalar.FLUSHED: int(flushed),
    })  # fmt: skip
    depth = scalar.DEEP if lowest < 1 or (flushed and unit < 2) else None
    return _unit(number, unit, mantissa, depth, compared=flushed)


def _fixed(number: dict[int, int], format: FixedPoint, carrier: Carrier) -> int:
    """Fill in a fixed-point format's numbers; where its unit lies."""
    mantissa = carrier.precision - 1
    unit = carrier.highest_exponent - format.fraction_bits
    number.update({
        scalar.LAST_FIELD: unit + mantissa,
        scalar.LOWEST_FIELD: unit + mantissa,
        scalar.WORD_BITS: format.word_bits or 0,
        scalar.SIGNED: int(format.signed),
    })  # fmt: skip
    return _unit(number, unit, mantissa, None, compared=False)


def _unit(number: dict[int, int], unit: int, mantissa: int, depth: int | None, *, compared: bool) -> int:
    """Fill in what follows from the unit's exponent; where it lies, unless ``depth`` knows."""
    above = unit > 1
    pattern = unit << mantissa if unit > 0 else 1 << (unit - 1 + mantissa)
    number[scalar.UNIT_FIELD] = unit
    number[scalar.UNIT] = pattern
    number[scalar.HALF] = (unit - 1) << mantissa if above else pattern >> 1
    number[scalar.TINY] = pattern if above or compared else 0
    number[scalar.FLIP] = ((unit + 1) & 1) << mantissa if above else 0
    return depth if depth is not None else scalar.ABOVE if above else scalar.WITHIN


def _ending(number: dict[int, int], format: Any, rounding: Rounding, carrier: Carrier) -> int:
    """Fill in the largest values and what lies past them; how magnitudes end."""
    infinity = _infinity(carrier)
    nan = infinity | 1 << (carrier.precision - 2)
    if format.overflow in (Overflow.WRAP, Overflow.UNBOUNDED):
        largest = [infinity, infinity] if format.overflow is Overflow.UNBOUNDED else _ends(format, carrier)
        over = infinite = largest
        if not getattr(format, "signed", True):
            largest = over = infinite = [largest[0], 0]
        if format.overflow is Overflow.WRAP:
            infinite = [nan, nan]
    else:
        largest = _ends(format, carrier)
        missing = infinity if format.has_infinity else nan
        over = [missing] * 2 if format.overflow is Overflow.INFINITY else largest
        infinite = over
        if format.overflow is Overflow.SATURATE and format.has_infinity:
            infinite = [infinity] * 2
        if rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD):
            over = largest
        elif rounding is Rounding.UP:  # negative values turn away from their end of the range
            over = [over[0], largest[1]]
        elif rounding is Rounding.DOWN:
            over = [largest[0], over[1]]
        if largest[1] == 0:  # what is below an unsigned format is 0; its infinity saturates or is none
            over = [over[0], 0]
            infinite = [infinite[0], nan if format.overflow is Overflow.INFINITY else 0]
    number[scalar.MAX_POSITIVE], number[scalar.MAX_NEGATIVE] = largest
    number[scalar.OVER_POSITIVE], number[scalar.OVER_NEGATIVE] = over
    number[scalar.INFINITE_POSITIVE], number[scalar.INFINITE_NEGATIVE] = infinite
    if format.overflow is Overflow.WRAP:
        return scalar.WRAPPED
    symmetric = largest[0] == largest[1] and len({*over, *infinite}) == 1
    if symmetric and number[scalar.ZERO_SIGN]:
        return scalar.PLAIN
    if over == infinite == largest and not number[scalar.ZERO_SIGN]:
        return scalar.CLAMPED
    return scalar.GENERAL


def _ends(format: Format, carrier: Carrier) -> list[int]:
    """The patterns of the largest and of the most negative magnitude."""
    return [_pattern(format.max, carrier), _pattern(-format.min, carrier)]


def _infinity(carrier: Carrier) -> int:
    """The pattern of infinity."""
    return (2 * carrier.highest_exponent + 1) << (carrier.precision - 1)


def _sign_bit(carrier: Carrier) -> int:
    """The sign of a pattern."""
    return (2 * carrier.highest_exponent + 2) << (carrier.precision - 1)


def _pattern(value: float, carrier: Carrier) -> int:
    """The pattern of a non-negative value that the carrier holds."""
    if value == 0:
        return 0
    fraction, exponent = frexp(value)  # value = fraction * 2^exponent, fraction in [1/2, 1)
    field = exponent - 1 + carrier.highest_exponent
    digits = int(fraction * (1 << carrier.precision))
    mantissa = carrier.precision - 1
    return digits + ((field - 1) << mantissa) if field > 0 else digits >> (1 - field)
