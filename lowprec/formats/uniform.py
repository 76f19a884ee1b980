"""The base of formats whose values are integers times one step."""

from abc import abstractmethod
from fractions import Fraction

from lowprec.formats.format import Format, exact_float


class UniformFormat(Format):
    """Integers of ``word_bits``, the sign included, times a step; there is no -0."""

    __slots__ = ()

    word_bits: int

    @property
    @abstractmethod
    def step(self) -> Fraction:
        """The distance between neighbours."""

    @property
    def bits(self) -> int:
        """Width of an integer, the sign included."""
        return self.word_bits

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value: never."""
        return False

    @property
    def largest_integer(self) -> int:
        """The largest value in units of the step."""
        return 2 ** (self.word_bits - 1) - 1

    @property
    def lowest_integer(self) -> int:
        """The most negative value in units of the step."""
        return -self.largest_integer

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
