"""A format's values in order, without a list of them if there may be billions."""

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from lowprec.errors import type_error, value_error
from lowprec.explore.codes import element_of
from lowprec.formats import FixedPoint, FloatingPoint, Format, Posit, TabledFormat, resolve

_MOST_STEPS = 4096
"""That are looked at one by one."""


class Ladder:
    """The non-negative values of a format, over the scale 1, ascending."""

    def __init__(self, format: Format) -> None:
        element = element_of(format)
        self.format = element
        self.value: Callable[[int], Fraction]
        if isinstance(element, FixedPoint) and not element.is_bounded:
            raise value_error("format", "have a largest value", str(format), "Give word_bits.")
        if isinstance(element, FloatingPoint):
            self.size, self.value = element.largest_code + 1, element.magnitude
        elif isinstance(element, Posit):
            self.size, self.value = 1 << (element.bits - 1), element.magnitude
        elif isinstance(element, TabledFormat):  # in order, whatever their codes are
            magnitudes = element.magnitudes()
            self.size, self.value = len(magnitudes), magnitudes.__getitem__
        else:
            step = Fraction(element.smallest_subnormal)
            self.size = int(Fraction(element.max) / step) + 1
            self.value = lambda code: code * step

    def below(self, bound: Fraction, *, inclusive: bool) -> int:
        """How many values lie below a bound."""
        find = bisect.bisect_right if inclusive else bisect.bisect_left
        return find(range(self.size), bound, lo=0, hi=self.size, key=self.value)

    def within(self, edges: Sequence[Fraction]) -> list[int]:
        """How many values lie in each cell, its lower edge included; edges are not negative."""
        ranks = [self.below(edge, inclusive=False) for edge in edges]
        return [b - a for a, b in pairwise(ranks)]


def below_zero(format: Format, edges: Sequence[Fraction]) -> list[int]:
    """How many negative values have magnitudes in each cell, its upper edge included."""
    element = element_of(format)
    if element.min >= 0:
        return [0] * (len(edges) - 1)
    if isinstance(element, TabledFormat):
        exact = element.table.exact
        return [bisect.bisect_left(exact, -a) - bisect.bisect_left(exact, -b) for a, b in pairwise(edges)]
    ladder, most = Ladder(format), Fraction(-element.min)
    ranks = [ladder.below(edge, inclusive=True) for edge in edges]
    counts = [b - a for a, b in pairwise(ranks)]
    if most > element.max:  # two's complement has one more below zero
        counts = [n + (a < most <= b) for n, (a, b) in zip(counts, pairwise(edges), strict=True)]
    return counts


def above_zero(format: Format, edges: Sequence[Fraction]) -> list[int]:
    """How many positive values lie in each cell, its upper edge included."""
    ladder = Ladder(format)
    ranks = [ladder.below(edge, inclusive=True) for edge in edges]
    return [b - a for a, b in pairwise(ranks)]


def has_zero(format: Format) -> bool:
    """Whether zero is a value."""
    element = element_of(format)
    return not isinstance(element, TabledFormat) or 0 in element.table.exact


class Run(NamedTuple):
    """Where all values lie at equal distances."""

    low: float
    high: float
    step: float


def runs(format: Format) -> list[Run]:
    """The distances of positive values to the next one, from that below the smallest; equal ones joined.

    Of lists of more than 4096 values every so many distances are given.
    """
    ladder = Ladder(format)
    value, first = ladder.value, ladder.below(Fraction(0), inclusive=True)
    found = []
    if first:  # zero is there
        found.append(Run(0.0, float(value(first)), float(value(first))))
    elif isinstance(ladder.format, TabledFormat) and ladder.format.min < 0:
        before = max(number for number in ladder.format.table.exact if number < 0)
        found.append(Run(0.0, float(value(0)), float(value(0) - before)))
    ranks = _landings(ladder, first)
    for rank, following in pairwise(ranks):
        step = float(value(rank + 1) - value(rank))
        low, high = float(value(rank)), float(value(following))
        if len(found) > 1 and found[-1].step == step:
            found[-1] = found[-1]._replace(high=high)
        else:
            found.append(Run(low, high, step))
    return found


def _landings(ladder: Ladder, first: int) -> list[int]:
    """The ranks between which steps may differ: all, or those after powers of two, and the last."""
    last = ladder.size - 1
    if last - first <= _MOST_STEPS:
        return list(range(first, last + 1))
    if isinstance(ladder.format, TabledFormat):
        return [*range(first, last, -(-ladder.size // _MOST_STEPS)), last]
    low, high = math.frexp(ladder.value(first))[1] - 1, math.frexp(ladder.value(last))[1]
    ranks = {ladder.below(Fraction(2) ** exponent, inclusive=False) for exponent in range(low, high)}
    return sorted({rank for rank in ranks if first <= rank < last} | {first, last})


MOST = 7
"""Formats that lines in one picture tell apart."""


def several(formats: Any) -> list[Format]:
    """One or several formats, names or torch dtypes as formats, each once.

    Raises:
        TypeError: If they are something else.
        ValueError: If there is none, more than lines tell apart, or one without a largest value.
    """
    if isinstance(formats, Format | str) or type(formats).__name__ == "dtype":
        formats = [formats]
    if not isinstance(formats, Iterable):
        raise type_error("formats", "be formats, names or torch dtypes", formats)
    found = list(dict.fromkeys(resolve(format) for format in formats))
    if not 1 <= len(found) <= MOST:
        raise value_error("formats", f"name 1 to {MOST} formats", [str(format) for format in found])
    for format in found:
        Ladder(format)
    return found
