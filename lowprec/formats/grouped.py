"""The base of formats whose elements share something with their group."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

from lowprec.formats.codebook import Codebook
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.floating import FloatingPoint
from lowprec.formats.format import Format
from lowprec.formats.granularity import Granularity, PerGroup


class GroupedFormat(Format):
    """Elements that are multiplied by a power of two, which follows from the largest of their group.

    That power is the group's exponent. The properties that every format has (``max``, ``values()``, …)
    describe a group whose exponent is 0.
    """

    __slots__ = ()

    granularity: Granularity

    @property
    @abstractmethod
    def lowest_group_exponent(self) -> int | None:
        """The least exponent of a group; None where the carrier's own range is the only bound."""

    @property
    @abstractmethod
    def highest_group_exponent(self) -> int | None:
        """The greatest exponent of a group; None where the carrier's own range is the only bound."""

    @abstractmethod
    def in_group(self, exponent: int) -> FixedPoint | FloatingPoint | Codebook:
        """The format that the elements of a group with that exponent have."""

    def along(self, axis: int) -> Any:
        """This format with a granularity along ``"contraction"`` set to an axis."""
        if isinstance(self.granularity, PerGroup):
            return replace(self, granularity=self.granularity.along(axis))  # type: ignore[type-var]
        return self
