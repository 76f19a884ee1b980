"""Inputs that rounding code gets wrong: values, boundaries, their neighbors, the ends of every range."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lowprec.formats import FormatLike, resolve
from lowprec.formats.carriers import CARRIERS
from lowprec.testing.definition import Definition, Ladder, Uniform
from lowprec.testing.listed import Listed, Logarithms, Posits, definition_of

Floats = npt.NDArray[np.floating[Any]]

_MOST = 300
"""How many values of a format are looked at, if it has many more, besides the ends and powers of two."""
_DTYPES: dict[str, Any] = {
    "bfloat16": np.float32,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}


def hard_values(format: FormatLike, carrier: str = "float32") -> Floats:
    """The inputs at which a format's rounding is decided, as numbers of a carrier.

    Values of the format, boundaries between them (ties, where these are midpoints), the carrier's numbers
    next to each, half of the smallest value, the ends and what lies past them, ±0, the ends of the carrier,
    infinities and NaN. Of formats with many values a part. Of a format with groups those of one whose
    scale or step is that of exponent 0.

    Args:
        format: A format or its name.
        carrier: ``"float32"``, ``"float64"``, ``"float16"`` or ``"bfloat16"``, whose numbers are given
            as float32.

    Returns:
        An array of one dimension, each pattern once, magnitudes ascending, NaN last.

    Raises:
        TypeError: If the format is of no family that is known here.
        KeyError: If there is no such carrier.

    Example:
        >>> hard_values("binary").tolist()[:4]
        [0.0, -0.0, 1.401298464324817e-45, -1.401298464324817e-45]
        >>> import numpy as np
        >>> 1.0625 in hard_values("e4m3fn"), np.isnan(hard_values("e4m3fn")[-1])
        (True, np.True_)
    """
    definition = definition_of(resolve(format), carrier)
    near = _around(landmarks(definition), carrier)
    both = np.concatenate([near, -near, _ends(carrier), -_ends(carrier)])
    found = np.unique(both.view(f"u{both.itemsize}")).view(both.dtype)
    return np.asarray(found[np.lexsort((np.signbit(found), np.abs(found)))])


def landmarks(definition: Definition) -> list[Fraction]:
    """The magnitudes at which something changes: values, boundaries, and past the ends."""
    if isinstance(definition, Logarithms):
        halves = range(-2 * definition.largest - 1, 2 * definition.largest + 2)
        marks = [Fraction(math.exp2(half / (2 * definition.steps))) for half in _some(halves)]
    elif isinstance(definition, Listed):
        values = definition.values
        pairs = [(values[at], values[at + 1]) for at in _some(range(len(values) - 1))]
        bounds = definition.boundaries or []
        marks = [abs(x) for low, high in pairs for x in (low, high, (low + high) / 2)]
        marks += [abs(bounds[at]) for at in _some(range(len(bounds)))]
    elif isinstance(definition, Ladder):
        codes = _some(range(definition.first_code, definition.largest_code + 2))
        marks = [x for code in codes for x in _rung(definition, code)]
        marks += [definition.magnitude(definition.first_code) / 4 * part for part in (1, 2, 3)]
    elif isinstance(definition, Uniform):
        marks = [definition.step * Fraction(half, 2) for half in _halves(definition)]
    if definition.ends is not None:
        marks += [abs(end) * part for end in definition.ends for part in (Fraction(5, 4), 2, 3, 1000)]
    return [mark for mark in marks if mark]


def _rung(definition: Ladder, code: int) -> tuple[Fraction, Fraction]:
    """A magnitude and the boundary above it."""
    low, high = definition.magnitude(code), definition.magnitude(code + 1)
    if isinstance(definition, Posits) and code < definition.largest_code:
        return low, definition.boundary(code)
    return low, (low + high) / 2


def _halves(definition: Uniform) -> list[int]:
    """Multiples of half a step up to the ends, and around whole turns of a word."""
    most = max(abs(definition.least or 0), definition.most or 1 << 25)
    turns = [2**definition.word * turn // 2 for turn in (1, 2, 3, 4, 5, 2**9 + 1, 2**22)]
    near = [2 * turn + step for turn in turns for step in range(-4, 5)]
    return [*_some(range(1, 2 * most + 6)), *(half for half in near if half > 0)]


def _some(numbers: range) -> Iterable[int]:
    """All of some numbers, or of many the first and last, those around powers of two, and a few between."""
    if len(numbers) <= 2 * _MOST:
        return numbers
    stride = (len(numbers) // _MOST) | 1  # odd, so that it meets even and odd ones
    places = {*range(20), *range(0, len(numbers), stride), *range(len(numbers) - 20, len(numbers))}
    powers = range(1, len(numbers).bit_length())
    places.update((1 << power) + step for power in powers for step in (-2, -1, 0, 1))
    return sorted(numbers[place] for place in places if place < len(numbers))


def _around(targets: list[Fraction], carrier: str) -> Floats:
    """The numbers of a carrier at and next to each target."""
    nearest = np.array([_float(target) for target in targets])
    with np.errstate(over="ignore", under="ignore"):
        nearest = nearest.astype(_DTYPES[carrier])
    nearest = nearest[np.isfinite(nearest)]
    if carrier == "bfloat16":
        half = nearest.view(np.uint32) >> 16
        patterns = np.concatenate([half, half + 1, np.maximum(half, 1) - 1]).astype(np.uint32)
        return (patterns << 16).view(np.float32)
    ends = nearest.dtype.type(0), nearest.dtype.type(np.inf)
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([nearest, *(np.nextafter(nearest, end) for end in ends)])


def _ends(carrier: str) -> Floats:
    """Zero, the ends of the carrier's subnormal and normal range, infinity and NaN."""
    if carrier == "bfloat16":
        patterns = np.array([0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7FC0], np.uint32)
        return (patterns << 16).view(np.float32)
    bounds: Any = np.finfo(_DTYPES[carrier])
    below = np.nextafter(bounds.smallest_normal, bounds.dtype.type(0))
    ends = [0, bounds.smallest_subnormal, below, bounds.smallest_normal, bounds.max, np.inf, np.nan]
    return np.array(ends, bounds.dtype)


def _float(x: Fraction) -> float:
    """The nearest float64, infinite past the largest."""
    try:
        return float(x)
    except OverflowError:
        return math.inf


def holders(format: Any) -> list[str]:
    """The carriers that hold a format, float32 first."""
    order = ("float32", "float64", "bfloat16", "float16")
    return [name for name in order if format.missing_in(CARRIERS[name]) is None]
