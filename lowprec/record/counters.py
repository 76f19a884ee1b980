"""Counters: what rounding did to elements, as numbers that add."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

Histogram = tuple[tuple[int, int], ...]
"""Pairs of an exponent e and how many magnitudes lie in [2^e, 2^(e + 1)), ascending."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Counters:
    """How many elements were rounded, and what was lost.

    Counters add. They are equal where the first four numbers are, which ``repr`` shows.

    Args:
        count: Elements.
        saturated: Where overflow fired: to the largest value, infinity or NaN.
        underflowed: Non-zero ones that became zero.
        nan: Results that are NaN.
        infinite: Results that are infinite.
        zeros: Inputs that are zero.
        given_nan: Inputs that are NaN.
        given_infinite: Inputs that are infinite.
        signal: The sum of the squares of inputs, in float64, over elements that are finite before and after.
        error: The sum over these of the squares of what rounding changed.
        moved: Elements that an optimizer's step would have changed; only of what it keeps of a parameter:
            the role master, or stored_weight without one, and not where the weights are compensated.
        lost: Those of them that rounding left as they were.
        update: The sum of the squares of these changes, over finite elements.
        lost_update: The same over those that were lost.
        exponents: How many finite non-zero inputs lie in [2^e, 2^(e + 1)), as pairs of e and a count.
        scales: How many groups have a scale there, for formats with groups.

    Example:
        >>> (Counters(4, 1, 0, 0) + Counters(4, 0, 2, 0)).underflow
        0.25
        >>> Counters(2, signal=100.0, error=1.0).sqnr
        20.0
    """

    count: int = 0
    saturated: int = 0
    underflowed: int = 0
    nan: int = 0
    _: KW_ONLY
    infinite: int = 0
    zeros: int = 0
    given_nan: int = 0
    given_infinite: int = 0
    signal: float = 0.0
    error: float = 0.0
    moved: int = 0
    lost: int = 0
    update: float = 0.0
    lost_update: float = 0.0
    exponents: Histogram = ()
    scales: Histogram = ()

    def __add__(self, other: "Counters") -> "Counters":
        """The sums."""
        numbers = [a + b for a, b in zip(numbers_of(self), numbers_of(other), strict=True)]
        return counters_of(numbers, added(self.exponents, other.exponents), added(self.scales, other.scales))

    def __eq__(self, other: object) -> bool:
        """Whether count, saturated, underflowed and nan are the same."""
        return self._first() == other._first() if isinstance(other, Counters) else NotImplemented

    def __hash__(self) -> int:
        """By the same four."""
        return hash(self._first())

    def __repr__(self) -> str:
        """The same four."""
        shown = zip(NUMBERS, self._first(), strict=False)
        return f"Counters({', '.join(f'{name}={number}' for name, number in shown)})"

    def _first(self) -> tuple[int, int, int, int]:
        """What all roles have, and counters are compared by."""
        return self.count, self.saturated, self.underflowed, self.nan

    @property
    def saturation(self) -> float:
        """The fraction of elements where overflow fired; 0 if there are none."""
        return self.saturated / self.count if self.count else 0.0

    @property
    def underflow(self) -> float:
        """The fraction of elements that became zero and were not; 0 if there are none."""
        return self.underflowed / self.count if self.count else 0.0

    @property
    def not_finite(self) -> float:
        """The fraction of results that are NaN or infinite; 0 if there are none."""
        return (self.nan + self.infinite) / self.count if self.count else 0.0

    @property
    def meets_not_finite(self) -> bool:
        """Whether something is NaN or infinite, before or after rounding."""
        return self.nan + self.infinite + self.given_nan + self.given_infinite > 0

    @property
    def sqnr(self) -> float:
        """The signal-to-quantization-noise ratio in dB, of elements that are finite before and after.

        Infinity where rounding changed nothing; NaN where there is no signal, or where float64 does not hold
        the sum of its squares.
        """
        if not 0.0 < self.signal < math.inf or self.error == math.inf:
            return math.nan
        if self.error == 0.0:
            return math.inf
        return 10.0 * (math.log10(self.signal) - math.log10(self.error))

    @property
    def stalled(self) -> float:
        """The fraction of moved elements whose update rounding threw away; 0 if none was moved."""
        return self.lost / self.moved if self.moved else 0.0

    @property
    def update_lost(self) -> float:
        """The norm of what was thrown away over the norm of the update, from 0 to 1; 0 without an update."""
        ratio = self.lost_update / self.update if self.update else 0.0
        return math.sqrt(ratio) if ratio == ratio else math.nan


NUMBERS = tuple(f.name for f in fields(Counters) if f.name not in ("exponents", "scales"))
"""The fields that are single numbers, in order."""
_SUMS = {"signal", "error", "update", "lost_update"}


def numbers_of(counters: Counters) -> tuple[float, ...]:
    """The single numbers."""
    return tuple(getattr(counters, name) for name in NUMBERS)


def counters_of(numbers: Sequence[float], exponents: Histogram = (), scales: Histogram = ()) -> Counters:
    """Counters of single numbers and histograms."""
    known: dict[str, Any] = {
        name: float(number) if name in _SUMS else int(number)
        for name, number in zip(NUMBERS, numbers, strict=True)
    }
    return Counters(**known, exponents=exponents, scales=scales)


def added(*histograms: Histogram) -> Histogram:
    """The sum of histograms."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(dict(histogram))
    return tuple(sorted(total.items()))
