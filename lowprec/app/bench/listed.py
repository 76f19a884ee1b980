"""Codebooks to measure: normally distributed numbers, no two of them at a regular distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lowprec.formats import TabledFormat, register


@dataclass(frozen=True)
class NormalNumbers(TabledFormat):
    """So many float32 numbers drawn from the normal distribution, some of them very near to each other.

    Args:
        count: How many.

    Example:
        >>> str(NormalNumbers(256)), NormalNumbers(256).bits
        ('normal256', 8)
    """

    count: int

    def code_values(self) -> Sequence[float]:
        """The first so many different ones of a seeded generator, ascending."""
        numbers = np.random.default_rng(0).standard_normal(2 * self.count).astype(np.float32)
        _, first = np.unique(numbers, return_index=True)
        kept = numbers[np.sort(first)[: self.count]]
        return [float(number) for number in np.sort(kept)]

    def __str__(self) -> str:
        """The name in the table."""
        return f"normal{self.count}"


FEW, MANY = NormalNumbers(256), NormalNumbers(65536)
for _format in (FEW, MANY):
    register(_format)
