"""The base of all formats: what every number format can be asked."""

import math
from abc import ABC, abstractmethod
from fractions import Fraction
from numbers import Rational, Real

import numpy as np
import numpy.typing as npt

from lowprec.errors import type_error, value_error
from lowprec.formats.carriers import CARRIERS, Carrier
from lowprec.modes import Rounding


class Format(ABC):
    """A number format as a value: frozen, hashable, comparable, picklable.

    ``str(format)`` is a name that another person recognises and that ``lowprec.formats.parse``
    reads back.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def bits(self) -> int:
        """Width of a code."""

    @property
    @abstractmethod
    def max(self) -> float:
        """Largest finite value."""

    @property
    @abstractmethod
    def min(self) -> float:
        """Most negative finite value."""

    @property
    @abstractmethod
    def smallest_normal(self) -> float:
        """Smallest positive value of full precision."""

    @property
    @abstractmethod
    def smallest_subnormal(self) -> float:
        """Smallest positive value."""

    @property
    @abstractmethod
    def eps(self) -> float:
        """Distance from 1 to the next larger number at the format's precision."""

    @property
    @abstractmethod
    def has_infinity(self) -> bool:
        """Whether infinities are values."""

    @property
    @abstractmethod
    def has_nan(self) -> bool:
        """Whether a code is NaN."""

    @property
    @abstractmethod
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value."""

    @abstractmethod
    def magnitudes(self) -> list[Fraction]:
        """The non-negative finite values, ascending, exact."""

    @abstractmethod
    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every finite value exactly; None if it lacks nothing."""

    def values(self) -> npt.NDArray[np.float64]:
        """All finite values of a format of at most 16 bits, ascending, with one zero.

        Returns:
            A float64 array.

        Raises:
            ValueError: If the format has more than 16 bits.

        Example:
            >>> from lowprec.formats import FixedPoint
            >>> FixedPoint(2, 1).values()
            array([-1. , -0.5,  0. ,  0.5])
        """
        if self.bits > 16:
            raise value_error("bits", "be at most 16 to list all values", self.bits)
        positive = [float(m) for m in self.magnitudes() if m > 0]
        negative = [-v for v in reversed(positive) if -v >= self.min]
        if self.min < 0 and (not negative or negative[0] != self.min):
            negative.insert(0, self.min)  # two's complement has one more below zero
        return np.array([*negative, 0.0, *positive], dtype=np.float64)

    def contains(self, x: float) -> bool:
        """Whether ``x`` is a finite value of the format; NaN and infinities are not.

        Args:
            x: A real number; int, float or a NumPy scalar.

        Returns:
            True or False; -0.0 only where the format has a signed zero.

        Raises:
            TypeError: If ``x`` is not a real number.

        Example:
            >>> from lowprec.formats import FixedPoint
            >>> FixedPoint(8, 7).contains(0.5), FixedPoint(8, 7).contains(1.0)
            (True, False)
        """
        if isinstance(x, Rational):
            exact = Fraction(int(x.numerator), int(x.denominator))
        elif not isinstance(x, Real):
            raise type_error("x", "be a real number", x)
        elif math.isfinite(x):
            exact = Fraction(*x.as_integer_ratio())
        else:
            return False
        if exact == 0:
            return self.has_signed_zero or math.copysign(1.0, x) > 0
        return self.min <= exact <= self.max and self._on_grid(exact)

    @abstractmethod
    def _on_grid(self, x: Fraction) -> bool:
        """Whether a non-zero value within the range is a multiple of its unit in the last place."""

    def undecided(self, rounding: Rounding, carrier: Carrier) -> str | None:
        """What keeps a stochastic mode from being exact in a carrier; None where it is."""
        return None

    def _repr_html_(self) -> str:
        """The properties as a table, for a notebook."""
        from lowprec.formats.properties import properties  # which needs the families

        return properties(self)._repr_html_()

    def check_rounding(self, rounding: Rounding, carrier: str) -> None:
        """Refuse a mode that the format cannot follow exactly in a carrier."""
        if rounding.is_stochastic and (remedy := self.undecided(rounding, CARRIERS[carrier])) is not None:
            name = str(self) if len(str(self)) <= 60 else f"{str(self)[:57]}…"
            must = f"be deterministic for {name} in {carrier}"
            raise value_error("rounding", must, str(rounding), remedy)

    def check_carrier(self, name: str) -> None:
        """Refuse a carrier that cannot hold every finite value exactly, naming one that can."""
        missing = self.missing_in(CARRIERS[name])
        if missing is None:
            return
        holders = [c.name for c in CARRIERS.values() if self.missing_in(c) is None]
        remedy = f"Pass a {' or '.join(holders)} tensor." if holders else "No carrier holds it."
        raise value_error("format", f"be exact in the carrier {name} ({missing})", str(self), remedy)


def exact_float(x: Fraction) -> float:
    """``x`` as a float; it must be one."""
    value = float(x)
    if Fraction(value) != x:
        raise OverflowError(x)
    return value


def power_of_two(exponent: int) -> Fraction:
    """2 to an integer exponent of either sign."""
    return Fraction(2) ** exponent


def floor_log2(x: Fraction) -> int:
    """floor(log2) of a positive number, exactly."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if power_of_two(guess) <= x else guess - 1


def check_bool(name: str, value: object) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise type_error(name, "be True or False", value)


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Refuse anything but an integer between two bounds."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise type_error(name, "be an integer", value)
    if not low <= value <= high:
        raise value_error(name, f"lie between {low} and {high}", value)
