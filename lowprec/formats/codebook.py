"""Codebooks: formats whose values are listed one by one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

import numpy as np

from lowprec.errors import type_error, value_error
from lowprec.formats.format import power_of_two
from lowprec.formats.tabled import TabledFormat


@dataclass(frozen=True)
class Codebook(TabledFormat):
    """The numbers of a list, each with its position there as its code.

    NaN stays NaN. Infinities and values past either end become that end; there is no -0. A tie goes to
    the even position in ascending order, but for zero between two values of either sign, which goes to the
    positive one.

    Args:
        entries: 2 to 65536 different finite numbers, of which one is positive, in any order: a sequence,
            an array or a tensor. Non-zero magnitudes lie between 2^-500 and 2^500. A tensor is quantized
            to numbers of its own dtype, so for a float32 tensor each must be a float32 number.

    Raises:
        TypeError: If ``entries`` holds anything but real numbers.
        ValueError: If there are too few or too many, or one is not finite, no float64, out of range,
            negative zero, or there twice.

    Example:
        >>> Codebook([-1, 0.5, 4]).values()
        array([-1. ,  0.5,  4. ])
        >>> str(Codebook([-1, 0, 1])), str(Codebook([0, 0.25]))
        ('ternary', 'codebook<0,0.25>')
    """

    entries: tuple[float, ...]

    def __init__(self, entries: Any) -> None:
        listed = entries.tolist() if hasattr(entries, "tolist") else entries
        if not isinstance(listed, Iterable) or isinstance(listed, str):
            raise type_error("entries", "be a sequence of numbers", entries)
        numbers = tuple(_number(entry) for entry in listed)
        object.__setattr__(self, "entries", numbers)
        object.__setattr__(self, "_hash", hash(numbers))
        _ = self.table
        name = spelled(numbers)
        object.__setattr__(self, "_name", _SHORT.get(name, name))

    def code_values(self) -> Sequence[float]:
        """The entries."""
        return self.entries

    def shifted(self, exponent: int) -> "Codebook":
        """The codebook of these numbers times 2 to ``-exponent``."""
        return Codebook([float(Fraction(entry) * power_of_two(-exponent)) for entry in self.entries])

    def __hash__(self) -> int:
        """That of the entries, computed once."""
        return self._hash  # type: ignore[attr-defined]

    def __str__(self) -> str:
        """The name that parse reads back."""
        return self._name  # type: ignore[attr-defined]


def spelled(entries: Sequence[float]) -> str:
    """A codebook's name, with all its entries."""
    return f"codebook<{','.join(repr(entry).removesuffix('.0') for entry in entries)}>"


def _number(entry: object) -> float:
    """One entry as a float."""
    if not isinstance(entry, Real) or isinstance(entry, bool):
        raise type_error("entries", "hold real numbers", entry)
    try:
        number = float(entry)
    except OverflowError:
        number = math.inf
    if isinstance(entry, Rational) and math.isfinite(number) and Fraction(entry) != Fraction(number):
        raise value_error("entries", "be float64 numbers", entry, f"The nearest one is {number!r}.")
    if not math.isfinite(number) or (number == 0 and math.copysign(1.0, number) < 0):
        raise value_error("entries", "hold finite numbers, and no -0.0", entry)
    return number


def Binary() -> Codebook:
    """The codebook of -1 and 1; zero becomes 1.

    Returns:
        ``Codebook([-1, 1])``.

    Example:
        >>> str(Binary())
        'binary'

    Reference:
        Courbariaux, Bengio, David, BinaryConnect, 2015.
    """
    return Codebook([-1, 1])


def Ternary() -> Codebook:
    """The codebook of -1, 0 and 1.

    Returns:
        ``Codebook([-1, 0, 1])``.

    Example:
        >>> Ternary().bits
        2
    """
    return Codebook([-1, 0, 1])


NORMAL_FLOAT = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
"""The elements of nf4, as float32 numbers: Dettmers et al., QLoRA, 2023, appendix E."""

_TWELFTHS = (0.0625, 8, 12, 4, 6, 2, 3)
FLOAT_OF_TWELFTHS = tuple(float(np.float32(k / 12)) for k in (0, *_TWELFTHS, *(-k for k in _TWELFTHS)))
"""The elements of fp4, as float32 numbers in the order of their codes elsewhere, but for that of -0."""

NAMES = {
    "binary": "codebook<-1,1>",
    "ternary": "codebook<-1,0,1>",
    "normalfloat4": spelled(NORMAL_FLOAT),
    "twelfths4": spelled(FLOAT_OF_TWELFTHS),
}
"""The codebooks that have a name of their own, spelled out."""

_SHORT = {entries: name for name, entries in NAMES.items()}
