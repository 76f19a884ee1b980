"""Block floating point: integers that share the exponent of their group's largest element."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import type_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.format import check_integer, power_of_two
from lowprec.formats.granularity import Granularity, PerChannel, PerGroup, PerTensor
from lowprec.formats.uniform import UniformFormat


@dataclass(frozen=True)
class BlockFloatingPoint(UniformFormat):
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
    def step(self) -> Fraction:
        """The distance between neighbours in a group with E = 0."""
        return power_of_two(2 - self.word_bits)

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value exactly; exponents are the carrier's own."""
        if self.word_bits - 1 > carrier.precision:
            return f"{self.word_bits - 1} significant bits, it has {carrier.precision}"
        return None

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
