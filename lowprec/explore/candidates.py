"""The formats that a search goes through, widths and ranges in an order that allows to stop early."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from lowprec.errors import type_error, value_error
from lowprec.formats import (
    FixedPoint,
    FloatingPoint,
    Format,
    Logarithmic,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
    Posit,
    Scaled,
    parse,
)
from lowprec.formats.format import floor_log2
from lowprec.formats.granularity import Granularity
from lowprec.modes import Specials

FAMILIES = ("fixed", "floating", "posit", "logarithmic")
"""From simple to involved."""
NARROWEST, WIDEST = 2, 16
"""Bits of a code."""
_LAST_PLACE = 1074
"""Of float64."""
_MOST_EXPONENT_BITS = 8
_MOST_SCALED_EXPONENT_BITS = 5
_MOST_LOGARITHM = 9, 11
"""Bits before and behind its point."""


class Range(NamedTuple):
    """The least and the largest of the finite values."""

    low: float
    high: float

    @property
    def is_zero(self) -> bool:
        """Whether all values are zero."""
        return self.low == self.high == 0


class Candidate(NamedTuple):
    """Formats of one family and split, from the widest range that could be of use to ever narrower ones."""

    family: str
    formats: Iterator[Format]


def plain(bits: int, families: Sequence[str], data: Range) -> Iterator[Candidate]:
    """The formats of a width without scales.

    The first range of a kind holds all data. A wider one has no value within it that the first one lacks, so
    no format of it has a smaller error under nearest rounding.
    """
    if "fixed" in families:
        if bits >= 2:
            yield Candidate("fixed", _fixed(bits, data, signed=True))
        if data.low >= 0:
            yield Candidate("fixed", _fixed(bits, data, signed=False))
    if "floating" in families:
        for exponent_bits in range(1, min(bits - 1, _MOST_EXPONENT_BITS) + 1):
            yield Candidate("floating", _floating(exponent_bits, bits - 1 - exponent_bits, data))
    if "posit" in families:
        for exponent_bits in range(4):
            yield Candidate("posit", iter([Posit(bits, exponent_bits)]))
    if "logarithmic" in families:
        for integer_bits in range(1, min(bits - 1, _MOST_LOGARITHM[0]) + 1):
            fraction_bits = bits - 1 - integer_bits
            if fraction_bits <= _MOST_LOGARITHM[1] and bits >= 3:
                yield Candidate("logarithmic", iter([Logarithmic(integer_bits, fraction_bits)]))


def _fixed(bits: int, data: Range, *, signed: bool) -> Iterator[Format]:
    """Fixed point with ever more fraction bits."""
    if data.is_zero:
        return iter([FixedPoint(bits, 0, signed=signed)])
    unit = FixedPoint(bits, 0, signed=signed)
    above, below = _halvings(unit.max, data.high), _halvings(-unit.min, -data.low)
    first = max(min(above, below), -1023 + bits)
    return (FixedPoint(bits, places, signed=signed) for places in range(first, _LAST_PLACE + 1))


def _floating(exponent_bits: int, mantissa_bits: int, data: Range) -> Iterator[Format]:
    """Floating point, every code a finite number, with ever larger biases."""
    usual = FloatingPoint(exponent_bits, mantissa_bits, specials=Specials.FINITE)
    if data.is_zero:
        return iter([usual])
    first = int(usual.bias or 0) + _halvings(usual.max, max(-data.low, data.high))
    first = max(first, 2**exponent_bits - 1 - 1023)  # whose largest value is a float64
    biases = range(first, _LAST_PLACE + 2 - mantissa_bits)
    return (
        FloatingPoint(exponent_bits, mantissa_bits, bias=bias, specials=Specials.FINITE) for bias in biases
    )


def _halvings(largest: float, magnitude: float) -> int:
    """How often a format's largest value can be halved without falling below a magnitude."""
    if magnitude <= 0:
        return _LAST_PLACE
    return floor_log2(Fraction(largest) / Fraction(magnitude))


def over_scales(
    granularity: Granularity, families: Sequence[str], width_for: Callable[[Scaled], int]
) -> Iterator[Candidate]:
    """Fixed and floating point over scales; ``width_for`` tells how wide elements over some scales may be."""
    for scale, rule in _scales(granularity):
        width = width_for(Scaled("e2m1", scale, granularity, scale_rule=rule))
        for family, element in _elements(width, families):
            yield Candidate(family, iter([Scaled(element, scale, granularity, scale_rule=rule)]))


def _elements(bits: int, families: Sequence[str]) -> Iterator[tuple[str, Format]]:
    """The elements of a width that scales are put over: their own range does not matter."""
    if bits < NARROWEST:
        return
    if "fixed" in families:
        yield "fixed", FixedPoint(bits, bits - 2, symmetric=True)
    if "floating" in families:
        for e in range(1, min(bits - 1, _MOST_SCALED_EXPONENT_BITS) + 1):
            yield "floating", FloatingPoint(e, bits - 1 - e, specials=Specials.FINITE)


def _scales(granularity: Granularity) -> list[tuple[Any, str]]:
    """The scales that go with a granularity, and their rules: wide ones for few groups, else narrow."""
    if isinstance(granularity, PerTensor | PerChannel):
        return [("float32", "amax")]
    over_tensor = Scaled("e4m3fn", "float32", scale_rule="amax")
    return [("e8m0", "floor"), ("e8m0", "rceil"), (over_tensor, "amax")]


def granularities(scaled: Any) -> list[Granularity]:
    """One or several granularities, or their names, as a list.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a name is unknown.
    """
    if isinstance(scaled, str | PerTensor | PerChannel | PerGroup | PerBlock):
        scaled = [scaled]
    if not isinstance(scaled, Sequence):
        raise type_error("scaled", "be granularities or their names", scaled)
    return [_granularity(one) for one in scaled]


def _granularity(given: Any) -> Granularity:
    """One of them."""
    if isinstance(given, PerTensor | PerChannel | PerGroup | PerBlock):
        return given
    if not isinstance(given, str):
        raise type_error("scaled", "be granularities or their names", given)
    try:
        known: Any = parse(f"bfp8<{given}>")
    except ValueError:
        known = None
    if known is None or "," in given or given.startswith("exponent"):
        must = "name granularities"
        raise value_error("scaled", must, given, "Examples are 'tensor', 'channel0' and 'group32'.")
    return known.granularity
