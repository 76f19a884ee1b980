"""What a number becomes, by a definition: the choice between neighbors, then what lies past the ends."""

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lowprec.modes import Overflow, Rounding
from lowprec.testing.definition import Definition, Place


class Noise(NamedTuple):
    """What a stochastic mode looks at."""

    random_bits: int = 32
    word: int = 0


class Decided(NamedTuple):
    """What a number becomes, and by which rule."""

    value: float
    rule: str
    """Which property of a format says so."""
    place: Place | None
    """None for what is no finite number."""


_ONE = Fraction(1)
_QUIET = Noise()


def decided(
    x: float, definition: Definition, rounding: Rounding, noise: Noise = _QUIET, scale: Fraction = _ONE
) -> Decided:
    """What ``x`` over a scale becomes."""
    if math.isnan(x):
        return Decided(math.nan, "NaN stays NaN", None)
    negative = math.copysign(1.0, x) < 0
    if math.isinf(x):
        return Decided(definition.of_infinity(negative=negative), "infinities follow the overflow rule", None)
    place = placed(x, definition, scale)
    exact = place.near == place.far
    far = not exact and goes_far(Fraction(x) / scale, place, rounding, noise)
    value = (place.far if far else place.near) * (-1 if x < 0 else 1)
    ends = definition.ends
    if ends is not None and not ends[0] <= value <= ends[1]:
        below = value < ends[0]
        wraps = getattr(definition, "rule", None) is Overflow.WRAP
        finite = _stays_finite(rounding, below=below) and not wraps
        held = definition.end(below=below) if finite else definition.past_end(value, below=below)
        return Decided(_signed(held, definition, negative=negative), "overflow", place)
    return Decided(_signed(float(value), definition, negative=negative), _rule(x, place, rounding), place)


@lru_cache(maxsize=1 << 16)
def placed(x: float, definition: Definition, scale: Fraction = _ONE) -> Place:
    """Where a finite number over a scale lies, remembered for all modes."""
    return definition.place(abs(Fraction(x)) / scale, negative=x < 0)


def goes_far(x: Fraction, place: Place, rounding: Rounding, noise: Noise) -> bool:
    """Whether a number that is no value goes to its far neighbor."""
    negative, (near, far, side, near_is_even) = x < 0, place
    nearest = rounding.startswith("nearest")
    if nearest and side:
        return side > 0
    if nearest and x == 0:  # in a format without zero
        return rounding is not Rounding.NEAREST_DOWN
    if rounding.is_stochastic:
        return covered(x, place, rounding, noise)
    match rounding:
        case Rounding.NEAREST_EVEN:
            return not near_is_even
        case Rounding.NEAREST_ODD | Rounding.TO_ODD:
            return near_is_even
        case Rounding.NEAREST_UP | Rounding.UP:
            return not negative
        case Rounding.NEAREST_DOWN | Rounding.DOWN:
            return negative
        case Rounding.NEAREST_AWAY | Rounding.AWAY:
            return abs(far) >= abs(near)
    return abs(far) <= abs(near)  # nearest_zero and toward_zero


def covered(x: Fraction, place: Place, rounding: Rounding, noise: Noise) -> bool:
    """Whether a word's top bits reach what the number lacks to its far neighbor."""
    if rounding is Rounding.STOCHASTIC_EQUAL:
        return noise.word >> 31 == 1
    ups = chances(x, place, rounding, noise.random_bits)
    return noise.word >> (32 - noise.random_bits) >= 2**noise.random_bits - ups


def chances(x: Fraction, place: Place, rounding: Rounding, random_bits: int) -> int:
    """For how many of the words of so many bits a number goes to its far neighbor."""
    part = (abs(x) - place.near) / (place.far - place.near) * 2**random_bits
    if rounding is Rounding.STOCHASTIC:
        return math.floor(part)
    if rounding is Rounding.STOCHASTIC_NEAREST:
        return round(part)  # a tie to the even number
    return math.floor(part + Fraction(1, 2))  # stochastic_midpoint


def _rule(x: float, place: Place, rounding: Rounding) -> str:
    """Which property says what a number within the ends becomes."""
    if place.near == place.far:
        return "the sign of zero" if x == 0 else "values of the format stay as they are"
    if rounding.is_stochastic:
        return "stochastic rounding"
    if not rounding.startswith("nearest"):
        return "directed modes bracket"
    return "ties" if place.side == 0 else "nearest"


def _stays_finite(rounding: Rounding, *, below: bool) -> bool:
    """Whether a mode stops at that end."""
    if rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD):
        return True
    return rounding is (Rounding.UP if below else Rounding.DOWN)


def _signed(value: float, definition: Definition, *, negative: bool) -> float:
    """A zero with the sign of the input, where the format keeps it."""
    return math.copysign(0.0, -1.0 if negative and definition.signed_zero else 1.0) if value == 0 else value
