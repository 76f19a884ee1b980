"""What roundings make of the numbers between a few values, by the definition."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from lowprec.errors import type_error, value_error
from lowprec.explore.codes import element_of
from lowprec.explore.ladder import Ladder
from lowprec.formats import FormatLike, Posit, TabledFormat, resolve
from lowprec.modes import Rounding, check_random_bits
from lowprec.reference import quantize_scalar
from lowprec.reference.grid import SingleFormat

STEPS = 3
"""Positive values that a staircase shows."""
_SMALLEST = 2.0**-1060
_PARTS = 16
"""Of each step, a power of two, so that ties are among the inputs."""


class Stairs(NamedTuple):
    """Inputs, and what one mode makes of each; the expected value of a stochastic one."""

    rounding: Rounding
    inputs: list[float]
    outputs: list[float]
    ties: list[tuple[float, float]]
    """Where the nearest modes turn, and what becomes of these inputs."""


def single(format: FormatLike) -> SingleFormat:
    """A format that rounds each element by itself: of one with groups that of the elements."""
    element = element_of(resolve(format))
    Ladder(element)
    return element  # type: ignore[return-value]


def modes(roundings: Any) -> list[Rounding]:
    """One or several modes by name; None for all."""
    if roundings is None:
        return list(Rounding)
    if isinstance(roundings, str):
        roundings = [roundings]
    if not isinstance(roundings, Iterable):
        raise type_error("roundings", "be rounding modes or their names", roundings)
    found = list(dict.fromkeys(Rounding.parse(mode, "roundings") for mode in roundings))
    if not found:
        raise value_error("roundings", "name at least one mode", found)
    return found


def stairs(format: SingleFormat, chosen: Sequence[Rounding], random_bits: int | None) -> list[Stairs]:
    """What each mode makes of the numbers around zero, up to the third positive value."""
    check_random_bits(random_bits, *chosen)
    if format.smallest_subnormal < _SMALLEST:
        must = "have values that float64 has numbers between"
        raise value_error("format", must, str(format), "Choose a narrower exponent.")
    values = values_around_zero(format)
    inputs = _inputs(format, values)
    turns = [turn for turn in _boundaries(format, values) if inputs[0] <= turn <= inputs[-1]]
    found = []
    for mode in chosen:
        outputs = [expected(x, format, mode, random_bits) for x in inputs]
        at_ties = [] if mode.is_stochastic else [(x, expected(x, format, mode, None)) for x in turns]
        found.append(Stairs(mode, inputs, outputs, at_ties))
    return found


def values_around_zero(format: SingleFormat) -> list[Fraction]:
    """The few values around zero."""
    ladder = Ladder(format)
    first = ladder.below(Fraction(0), inclusive=True)
    above = [ladder.value(rank) for rank in range(first, min(first + STEPS, ladder.size))]
    if isinstance(format, TabledFormat):
        exact = format.table.exact
        below = [value for value in exact if value < 0][-STEPS:]
        return [*below, *([Fraction(0)] if 0 in exact else []), *above]
    below = [-value for value in reversed(above) if -value >= Fraction(format.min)]
    if format.min < 0 and len(above) < STEPS and Fraction(format.min) not in below:
        below.insert(0, Fraction(format.min))
    return [*below, Fraction(0), *above]


def expected(x: float, format: SingleFormat, rounding: Rounding, random_bits: int | None) -> float:
    """What a number becomes; of a stochastic mode the expected value, from its probabilities."""
    if not rounding.is_stochastic:
        return quantize_scalar(x, format, rounding=rounding)
    near, far = ends(x, format)
    if near == far:
        return near
    share = (Fraction(x) - Fraction(near)) / (Fraction(far) - Fraction(near))
    chance = probability(share, rounding, random_bits)
    return float(Fraction(near) + chance * (Fraction(far) - Fraction(near)))


def ends(x: float, format: SingleFormat) -> tuple[float, float]:
    """The neighbors of a number: the one against its sign, and the one along it."""
    down, up = (quantize_scalar(x, format, rounding=mode) for mode in (Rounding.DOWN, Rounding.UP))
    if not (math.isfinite(down) and math.isfinite(up)):
        nearest = quantize_scalar(x, format, rounding=Rounding.TOWARD_ZERO)
        return nearest, nearest
    return (up, down) if x < 0 else (down, up)


def probability(share: Fraction, rounding: Rounding, random_bits: int | None) -> Fraction:
    """How likely a stochastic mode goes to the far neighbor.

    Args:
        share: Of the distance from the near neighbor to the far one, from 0 to less than 1.
        rounding: The mode.
        random_bits: 1 to 32; None for 32.

    Returns:
        The probability.

    Example:
        >>> [str(probability(Fraction(3, 10), mode, 2)) for mode in Rounding if mode.is_stochastic]
        ['1/4', '1/4', '1/4', '1/2']
    """
    if share == 0:
        return Fraction(0)
    if rounding is Rounding.STOCHASTIC_EQUAL:
        return Fraction(1, 2)
    outcomes = 2 ** (32 if random_bits is None else random_bits)
    covered = share * outcomes
    if rounding is Rounding.STOCHASTIC:
        return Fraction(math.floor(covered), outcomes)
    if rounding is Rounding.STOCHASTIC_NEAREST:
        return Fraction(round(covered), outcomes)
    return Fraction(math.floor(covered + Fraction(1, 2)), outcomes)


def _inputs(format: SingleFormat, values: Sequence[Fraction]) -> list[float]:
    """Numbers between the values, and a little past them where nothing becomes infinite."""
    points = []
    for low, high in pairwise(values):
        points += [low + (high - low) * part / _PARTS for part in range(_PARTS)]
    points.append(values[-1])
    margin = max((high - low for low, high in pairwise(values)), default=Fraction(1)) / 2
    beyond = [margin * part / 8 for part in range(1, 9)]
    points = [*(values[0] - distance for distance in reversed(beyond)), *points]
    points += [values[-1] + distance for distance in beyond]
    return [float(point) for point in points]


def _boundaries(format: SingleFormat, values: Sequence[Fraction]) -> list[float]:
    """Where ties are: the midpoints, but those of posits lie elsewhere, and lists tell their own."""
    if isinstance(format, TabledFormat):
        low, high = values[0], values[-1]
        return [float(turn) for turn in dict.fromkeys(format.boundaries()) if low < turn < high]
    if isinstance(format, Posit):
        return []
    return [float((low + high) / 2) for low, high in pairwise(values)]
