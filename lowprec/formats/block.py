"""Block floating point: integers that share the exponent of their group's largest element."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import type_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import Format, check_integer, exact_float, power_of_two
from lowprec.formats.granularity import Granularity, PerChannel, PerGroup, PerTensor


@dataclass(frozen=True)
class BlockFloatingPoint(Format):
    """Symmetric integer mantissas of ``word_bits`` over one exponent for each group.

    The exponent is ``E = floor(log2 max|x|)`` of the group's finite elements, taken from their bits;
    the step is ``2**(E + 2 - word_bits)``, but no less than the carrier's smallest positive value;
    mantissas run from ``-(2**(word_bits - 1) - 1)`` to ``2**(word_bits - 1) - 1``. A value that
    rounds past the range saturates, and so does an infinity; E is never raised. A NaN stays NaN
    and, like an infinity, has no say in its group's exponent. A group without a finite non-zero
    element has the carrier's smallest positive value as its step. There is no -0.

    The properties (``max``, ``eps``, ``values()``, …) describe a group with E = 0, that is, one
    whose largest magnitude lies in [1, 2).

    Args:
        word_bits: Width of a mantissa, the sign included, 2 to 25.
        granularity: Which elements share an exponent: PerTensor, PerChannel or PerGroup.

    Raises:
        TypeError: If ``word_bits`` is not an integer or ``granularity`` not a granularity.
        ValueError: If ``word_bits`` is out of range.

    Example:
        >>> str(BlockFloatingPoint(8, PerGroup(32)))
        'bfp8<group32>'
        >>> BlockFloatingPoint(4).values()
        array([-1.75, -1.5 , -1.25, -1.  , -0.75, -0.5 , -0.25,  0.  ,  0.25,
                0.5 ,  0.75,  1.  ,  1.25,  1.5 ,  1.75])
    """

    word_bits: int
    granularity: Granularity = PerTensor()

    def __post_init__(self) -> None:
        """Check both."""
        check_integer("word_bits", self.word_bits, 2, 25)
        if not isinstance(self.granularity, PerTensor | PerChannel | PerGroup):
            raise type_error("granularity", "be a PerTensor, PerChannel or PerGroup", self.granularity)

    @property
    def bits(self) -> int:
        """Width of a mantissa, the sign included; the shared exponent is not counted."""
        return self.word_bits

    @property
    def has_signed_zero(self) -> bool:
        """Whether -0 is a value: never."""
        return False

    @property
    def largest_integer(self) -> int:
        """The largest mantissa."""
        return 2 ** (self.word_bits - 1) - 1

    @property
    def _step(self) -> Fraction:
        """The distance between neighbours in a group with E = 0."""
        return power_of_two(2 - self.word_bits)

    def magnitudes(self) -> list[Fraction]:
        """The non-negative values of a group with E = 0, ascending, exact."""
        return [k * self._step for k in range(self.largest_integer + 1)]

    @property
    def max(self) -> float:
        """Largest value of a group with E = 0."""
        return exact_float(self.largest_integer * self._step)

    @property
    def min(self) -> float:
        """Most negative value of a group with E = 0."""
        return -self.max

    @property
    def smallest_normal(self) -> float:
        """The step of a group with E = 0."""
        return exact_float(self._step)

    @property
    def smallest_subnormal(self) -> float:
        """The step of a group with E = 0."""
        return exact_float(self._step)

    @property
    def eps(self) -> float:
        """The step of a group with E = 0."""
        return exact_float(self._step)

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value exactly; exponents are the carrier's own."""
        if self.word_bits - 1 > carrier.precision:
            return f"{self.word_bits - 1} significant bits, it has {carrier.precision}"
        return None

    def _on_grid(self, x: Fraction) -> bool:
        """Whether ``x`` is a multiple of the step of a group with E = 0."""
        return (x / self._step).denominator == 1

    def along(self, axis: int) -> "BlockFloatingPoint":
        """This format with a granularity along ``"contraction"`` set to an axis."""
        if isinstance(self.granularity, PerGroup):
            return BlockFloatingPoint(self.word_bits, self.granularity.along(axis))
        return self

    def __str__(self) -> str:
        """The name that parse reads back."""
        if self.granularity == PerTensor():
            return f"bfp{self.word_bits}"
        return f"bfp{self.word_bits}<{self.granularity}>"
