"""Block floating point: integers that share the exponent of their group's largest element."""

from dataclasses import dataclass
from fractions import Fraction

from lowprec.errors import type_error
from lowprec.formats.carriers import Carrier
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.format import check_integer, power_of_two
from lowprec.formats.granularity import Granularity, PerBlock, PerChannel, PerGroup, PerTensor
from lowprec.formats.grouped import GroupedFormat
from lowprec.formats.uniform import UniformFormat


@dataclass(frozen=True)
class BlockFloatingPoint(UniformFormat, GroupedFormat):
    """Symmetric integer mantissas of ``word_bits`` over one exponent for each group.

    The exponent is ``E = floor(log2 max|x|)`` of the group's finite elements, taken from their bits;
    the step is ``2**(E + 2 - word_bits)``, but no less than the carrier's smallest positive value;
    mantissas run from ``-(2**(word_bits - 1) - 1)`` to ``2**(word_bits - 1) - 1``. A value that
    rounds past the range saturates, and so does an infinity; E is never raised. A NaN stays NaN
    and, like an infinity, has no say in its group's exponent. A group without a finite non-zero
    element has the least exponent there is. There is no -0.

    With ``exponent_bits`` the exponent is stored in so many bits, with the bias of IEEE 754 and no
    field set apart: E is clamped to ``lowest_block_exponent … highest_block_exponent``. A group of
    larger values saturates, one of smaller values has a coarser step than it could have.

    The properties (``max``, ``eps``, ``values()``, …) describe a group with E = 0, that is, one
    whose largest magnitude lies in [1, 2).

    Args:
        word_bits: Width of a mantissa, the sign included, 2 to 25.
        granularity: Which elements share an exponent: PerTensor, PerChannel, PerGroup or PerBlock.
        exponent_bits: Width of the shared exponent, 2 to 11; None where it is the carrier's own.

    Raises:
        TypeError: If a width is not an integer or ``granularity`` not a granularity.
        ValueError: If a width is out of range.

    Example:
        >>> str(BlockFloatingPoint(8, PerGroup(32)))
        'bfp8<group32>'
        >>> format = BlockFloatingPoint(8, exponent_bits=8)
        >>> str(format), format.lowest_block_exponent, format.highest_block_exponent
        ('bfp8<exponent8>', -127, 128)
        >>> BlockFloatingPoint(4).values()
        array([-1.75, -1.5 , -1.25, -1.  , -0.75, -0.5 , -0.25,  0.  ,  0.25,
                0.5 ,  0.75,  1.  ,  1.25,  1.5 ,  1.75])
    """

    word_bits: int
    granularity: Granularity = PerTensor()
    exponent_bits: int | None = None

    def __init__(
        self,
        word_bits: int,
        granularity: Granularity = PerTensor(),
        *,
        exponent_bits: int | None = None,
    ) -> None:
        check_integer("word_bits", word_bits, 2, 25)
        if not isinstance(granularity, PerTensor | PerChannel | PerGroup | PerBlock):
            must = "be a PerTensor, PerChannel, PerGroup or PerBlock"
            raise type_error("granularity", must, granularity)
        if exponent_bits is not None:
            check_integer("exponent_bits", exponent_bits, 2, 11)
        object.__setattr__(self, "word_bits", word_bits)
        object.__setattr__(self, "granularity", granularity)
        object.__setattr__(self, "exponent_bits", exponent_bits)

    @property
    def bits(self) -> int:
        """Width of a mantissa, the sign included; the shared exponent is not counted."""
        return self.word_bits

    @property
    def largest_integer(self) -> int:
        """The largest value in units of the step."""
        return int(2 ** (self.word_bits - 1)) - 1

    @property
    def lowest_block_exponent(self) -> int | None:
        """The least exponent of a group; None where the carrier's own range is the only bound."""
        return None if self.exponent_bits is None else 1 - (1 << (self.exponent_bits - 1))

    @property
    def highest_block_exponent(self) -> int | None:
        """The greatest exponent of a group; None where the carrier's own range is the only bound."""
        return None if self.exponent_bits is None else 1 << (self.exponent_bits - 1)

    @property
    def step(self) -> Fraction:
        """The distance between neighbours in a group with E = 0."""
        return power_of_two(2 - self.word_bits)

    def missing_in(self, carrier: Carrier) -> str | None:
        """What a carrier lacks to hold every value exactly; exponents are the carrier's own."""
        if self.word_bits - 1 > carrier.precision:
            return f"{self.word_bits - 1} significant bits, it has {carrier.precision}"
        return None

    @property
    def lowest_group_exponent(self) -> int | None:
        """The least exponent of a group."""
        return self.lowest_block_exponent

    @property
    def highest_group_exponent(self) -> int | None:
        """The greatest exponent of a group."""
        return self.highest_block_exponent

    def in_group(self, exponent: int) -> FixedPoint:
        """The fixed-point format of a group with that exponent."""
        return FixedPoint(self.word_bits, self.word_bits - 2 - exponent, symmetric=True)

    def __str__(self) -> str:
        """The name that parse reads back; options that are not the default stand in brackets."""
        options = [] if self.granularity == PerTensor() else [str(self.granularity)]
        if self.exponent_bits is not None:
            options.append(f"exponent{self.exponent_bits}")
        name = f"bfp{self.word_bits}"
        return f"{name}<{','.join(options)}>" if options else name
