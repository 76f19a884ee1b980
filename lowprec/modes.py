"""The choices a format or a quantization is made of, as string enums.

Every function takes a member or its string; anything else is a ValueError that lists the members.
"""

from enum import StrEnum
from typing import Self

from lowprec.errors import type_error, value_error


class _Choice(StrEnum):
    """A StrEnum whose strings are checked at the border."""

    @classmethod
    def parse(cls, value: "_Choice | str", name: str) -> Self:
        """The member that ``value`` is or names; ``name`` is the argument blamed if it is neither."""
        if not isinstance(value, str):
            raise type_error(name, "be a string", value, cls._listing())
        try:
            return cls(value)
        except ValueError:
            raise value_error(name, "be a known name", str(value), cls._listing()) from None

    @classmethod
    def _listing(cls) -> str:
        """The members, for an error message."""
        return f"Choose one of: {', '.join(cls)}."


class Rounding(_Choice):
    """Which of the two neighbours in the format a value becomes.

    A value of the format is returned unchanged in every mode. ``"nearest"`` is accepted as another
    name of ``nearest_even``.

    Example:
        >>> Rounding("nearest_even") == "nearest_even"
        True
        >>> [str(mode) for mode in Rounding]
        ['nearest_even', 'toward_zero', 'stochastic']

    Reference:
        IEEE 754-2019, 4.3.
    """

    NEAREST_EVEN = "nearest_even"
    """The nearer neighbour; a tie goes to the even code."""
    TOWARD_ZERO = "toward_zero"
    """The neighbour nearer zero; it never overflows."""
    STOCHASTIC = "stochastic"
    """Away from zero with the probability of the distance covered, truncated to ``random_bits``."""

    @classmethod
    def _missing_(cls, value: object) -> "Rounding | None":
        """Accept the everyday name of the default."""
        return cls.NEAREST_EVEN if value == "nearest" else None


def check_random_bits(random_bits: int | None, *modes: Rounding) -> None:
    """Refuse random_bits outside 1 to 32, or where none of the modes uses noise."""
    if random_bits is None:
        return
    if not isinstance(random_bits, int) or isinstance(random_bits, bool):
        raise type_error("random_bits", "be an integer or None", random_bits)
    if Rounding.STOCHASTIC not in modes:
        raise value_error(
            "random_bits",
            f"be None where rounding is {str(modes[0])!r}",
            random_bits,
            "Only stochastic rounding uses random bits.",
        )
    if not 1 <= random_bits <= 32:
        raise value_error("random_bits", "lie between 1 and 32", random_bits)


class Overflow(_Choice):
    """What a finite value past the largest finite one becomes, decided after rounding."""

    SATURATE = "saturate"
    """The largest finite value; an infinite input stays where the format has infinities."""
    SATURATE_ALL = "saturate_all"
    """The largest finite value, also for infinite inputs (satfinite in hardware)."""
    INFINITY = "infinity"
    """Infinity; NaN in a format that has no infinity."""


class Specials(_Choice):
    """Which codes of a floating-point format are not finite numbers."""

    IEEE = "ieee"
    """The top exponent holds infinities and NaN."""
    FN = "fn"
    """No infinities; the all-ones code of either sign is NaN."""
