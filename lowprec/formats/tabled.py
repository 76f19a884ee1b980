"""Formats that list their values: the base of codebooks, of logarithmic numbers, and of a user's own."""

import math
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from numbers import Real
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import Format, floor_log2, power_of_two
from lowprec.modes import Overflow, Rounding

_FARTHEST = 500
"""Magnitudes lie between 2 to minus this and 2 to this: differences and their products stay in float64."""


class TabledFormat(Format):
    """A format of at most 16 bits that lists the value of every code: what a format of your own derives from.

    A subclass is a frozen dataclass, hence hashable, and has one method, ``code_values``. All else
    follows: every function that takes a format takes it, by itself or, from then on, by its ``str``.

    NaN stays NaN. A value past either end becomes that end, as does an infinity, unless the format has
    infinities or ``infinity_is_nan``. -0, and a negative value that rounds to zero, give -0 where -0.0 is
    among ``code_values``, else +0. Between a negative and a positive neighbor, where there is no zero,
    toward_zero goes to the smaller magnitude and away to the larger one, of equal ones both to that of the
    sign of x; zero itself counts as positive, and where it is a tie it becomes the positive value, but for
    nearest_down.

    Attributes:
        overflow: ``"saturate"``, or ``"saturate_all"`` if an infinite input becomes the nearer end
            although the format has infinities.
        infinity_is_nan: Whether an infinite input becomes NaN.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Thirds(TabledFormat):
        ...     count: int
        ...
        ...     def code_values(self):
        ...         return [k / 4 for k in range(-self.count, self.count + 1)]
        >>> Thirds(3).bits, Thirds(3).max, Thirds(3).contains(-0.25)
        (3, 0.75, True)
    """

    overflow: ClassVar[Overflow | str] = Overflow.SATURATE
    infinity_is_nan: ClassVar[bool] = False

    @abstractmethod
    def code_values(self) -> Sequence[float]:
        """The value of code 0, of code 1, …: 2 to 2^16 of them, one of them positive.

        Each finite value stands once, a non-zero magnitude between 2^-500 and 2^500; beside them there may
        be one zero, one -0.0, either infinity, and any number of NaN, of which the first is the one that
        encode gives. Codes past the list stand for nothing.
        """

    def boundaries(self) -> Sequence[Fraction]:
        """Where the nearest modes turn from each finite value to the next, ascending: the midpoints."""
        exact = self.table.exact
        return [(low + high) / 2 for low, high in pairwise(exact)]

    def is_even(self, index: int) -> bool:
        """Whether a tie goes to the value of this position among ``values()``: every other one."""
        return index % 2 == 0

    def values_in(self, carrier: Carrier) -> Sequence[Fraction]:
        """The finite values, ascending, as tensors of a carrier hold them: exactly."""
        return self.table.exact

    @cached_property
    def table(self) -> "Table":
        """The values in order, and the codes of all."""
        return _table(self)

    def __getstate__(self) -> dict[str, object]:
        """The fields, without the table."""
        return {name: value for name, value in vars(self).items() if name != "table"}

    @property
    def bits(self) -> int:
        """Width of a code."""
        return (self.table.codes_listed - 1).bit_length()

    @property
    def max(self) -> float:
        """Largest finite value."""
        return self.table.finite[-1]

    @property
    def min(self) -> float:
        """Least finite value."""
        return self.table.finite[0]

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value."""
        return self.smallest_subnormal

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value."""
        return self.table.finite[bisect_right(self.table.finite, 0.0)]

    @property
    def eps(self) -> float:
        """Distance between the neighbors of 1: it or the value below, and the next; or of the end nearest."""
        finite = self.table.finite
        above = min(max(bisect_right(finite, 1.0), 1), len(finite) - 1)
        return finite[above] - finite[above - 1]

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values."""
        return self.table.infinity is not None

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN."""
        return self.table.nan is not None

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value."""
        return self.table.negative_zero is not None

    def magnitudes(self) -> list[Fraction]:
        """The non-negative finite values, ascending, exact."""
        return [value for value in self.table.exact if value >= 0]

    def values(self) -> npt.NDArray[np.float64]:
        """All finite values, ascending, with at most one zero.

        Returns:
            A float64 array.
        """
        return np.array(self.table.finite, dtype=np.float64)

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every finite value exactly."""
        for value in self.table.exact:
            if value == 0:
                continue
            odd = abs(value.numerator) // (value.numerator & -value.numerator)
            if odd.bit_length() > carrier.precision:
                return f"{float(value)!r} has {odd.bit_length()} significant bits, it has {carrier.precision}"
            if value.denominator > power_of_two(-carrier.lowest_exponent):
                return f"{float(value)!r} is below its last place"
            if floor_log2(abs(value)) > carrier.highest_exponent:
                return f"{float(value)!r} is past its largest value"
        return None

    def undecided(self, rounding: Rounding, carrier: Carrier) -> str | None:
        """Neighbors whose distance, which proportional noise is compared with, float64 does not hold."""
        if not rounding.takes_random_bits:
            return None
        for low, high in pairwise(self.values_in(carrier)):
            if Fraction(float(high - low)) != high - low:
                between = f"The distance from {float(low)!r} to {float(high)!r} is no float64"
                return f"{between}: round the values."
        return None

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a value."""
        exact = self.table.exact
        place = bisect_left(exact, x)
        return place < len(exact) and exact[place] == x

    def contains(self, x: float) -> bool:
        """Whether ``x`` is a finite value of the format; as for every format, but zero need not be one."""
        return super().contains(x) and (x != 0 or self._on_grid(Fraction(0)))


class Table(NamedTuple):
    """The values of a format in order, and the codes of all."""

    codes_listed: int
    """How many codes there are."""
    finite: tuple[float, ...]
    """The finite values, ascending, with at most one zero."""
    exact: tuple[Fraction, ...]
    """The same."""
    codes: tuple[int, ...]
    """The code of each."""
    negative_zero: int | None
    """The code of -0, if there is one; likewise the next three."""
    infinity: int | None
    negative_infinity: int | None
    nan: int | None


def _table(format: TabledFormat) -> Table:
    """Sort and check what a format lists."""
    values = [_number(value) for value in _sequence(format.code_values())]
    if not 2 <= len(values) <= 2**16:
        raise value_error("code_values", "hold 2 to 65536 values", len(values))
    first: dict[float, int] = {}
    negative_zero = nan = None
    for code, value in enumerate(values):
        if math.isnan(value):
            nan = code if nan is None else nan
        elif value == 0 and math.copysign(1.0, value) < 0:
            negative_zero = _once(code, value, negative_zero)
        else:
            first[value] = _once(code, value, first.get(value))
    infinities = first.pop(math.inf, None), first.pop(-math.inf, None)
    if negative_zero is not None and 0.0 not in first:
        raise value_error("code_values", "hold zero where they hold -0.0", -0.0)
    finite = tuple(sorted(first))
    if not finite or finite[-1] <= 0:
        raise value_error("code_values", "hold a positive finite value", finite[-1:])
    for value in finite:
        if value != 0 and not 2.0**-_FARTHEST <= abs(value) <= 2.0**_FARTHEST:
            must = f"have magnitudes between 2^-{_FARTHEST} and 2^{_FARTHEST}"
            raise value_error("code_values", must, value)
    if format.overflow not in (Overflow.SATURATE, Overflow.SATURATE_ALL):
        raise value_error("overflow", "be 'saturate' or 'saturate_all'", str(format.overflow))
    exact = tuple(map(Fraction, finite))
    codes = tuple(first[value] for value in finite)
    return Table(len(values), finite, exact, codes, negative_zero, *infinities, nan)


def _sequence(values: object) -> Sequence[object]:
    """What code_values gives, if it can be gone through."""
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise type_error("code_values", "give a sequence of numbers", values)
    return list(values)


def _number(value: object) -> float:
    """One of them as a float."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise type_error("code_values", "hold real numbers", value)
    return float(value)


def _once(code: int, value: float, earlier: int | None) -> int:
    """The code of a value that no earlier code has."""
    if earlier is not None:
        raise value_error("code_values", "hold each value once", value)
    return code
