"""The base of formats whose values are integers times one step."""

from abc import abstractmethod
from fractions import Fraction

from lowprec.formats.format import Format, exact_float


class UniformFormat(Format):
    """Integers times a step; there is no -0 and no NaN."""

    __slots__ = ()

    @property
    @abstractmethod
    def step(self) -> Fraction:
        """The distance between neighbours."""

    @property
    @abstractmethod
    def largest_integer(self) -> int:
        """The largest value in units of the step."""

    @property
    def lowest_integer(self) -> int:
        """The most negative value in units of the step."""
        return -self.largest_integer

    @property
    def has_infinity(self) -> bool:
        """Whether infinities are values: not of integers of some width."""
        return False

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN: never."""
        return False

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value: never."""
        return False

    def magnitudes(self) -> list[Fraction]:
        """The non-negative values, ascending, exact."""
        return [k * self.step for k in range(self.largest_integer + 1)]

    @property
    def max(self) -> float:
        """Largest value."""
        return exact_float(self.largest_integer * self.step)

    @property
    def min(self) -> float:
        """Most negative value."""
        return exact_float(self.lowest_integer * self.step)

    @property
    def smallest_normal(self) -> float:
        """The step: every value has the same absolute precision."""
        return exact_float(self.step)

    @property
    def smallest_subnormal(self) -> float:
        """The step."""
        return exact_float(self.step)

    @property
    def eps(self) -> float:
        """The step."""
        return exact_float(self.step)

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a multiple of the step."""
        return (x / self.step).denominator == 1
