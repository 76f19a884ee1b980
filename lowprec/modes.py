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
    """Which of the two neighbors in the format a value becomes.

    A value of the format is returned unchanged in every mode, and NaN stays NaN. Overflow is decided
    after rounding, in the format continued past its largest value. ``"nearest"`` is accepted as
    another name of ``nearest_even``.

    Example:
        >>> Rounding("nearest_even") == "nearest_even"
        True
        >>> [str(mode) for mode in Rounding if mode.is_stochastic]
        ['stochastic', 'stochastic_midpoint', 'stochastic_nearest', 'stochastic_equal']

    Reference:
        IEEE 754-2019, 4.3.
    """

    NEAREST_EVEN = "nearest_even"
    """The nearer neighbor; a tie goes to the even code."""
    NEAREST_AWAY = "nearest_away"
    """The nearer neighbor; a tie goes away from zero."""
    NEAREST_ZERO = "nearest_zero"
    """The nearer neighbor; a tie goes toward zero."""
    NEAREST_ODD = "nearest_odd"
    """The nearer neighbor; a tie goes to the odd code."""
    NEAREST_UP = "nearest_up"
    """The nearer neighbor; a tie goes toward +infinity."""
    NEAREST_DOWN = "nearest_down"
    """The nearer neighbor; a tie goes toward -infinity."""
    TOWARD_ZERO = "toward_zero"
    """The neighbor nearer zero; it never overflows."""
    AWAY = "away"
    """The neighbor farther from zero."""
    UP = "up"
    """The neighbor toward +infinity; it never overflows below zero."""
    DOWN = "down"
    """The neighbor toward -infinity; it never overflows above zero."""
    TO_ODD = "to_odd"
    """The neighbor with the odd code; it never overflows."""
    STOCHASTIC = "stochastic"
    """Away from zero with the probability of the distance covered, truncated to ``random_bits``."""
    STOCHASTIC_MIDPOINT = "stochastic_midpoint"
    """As ``stochastic``, but nothing is truncated and the noise lies half a step higher."""
    STOCHASTIC_NEAREST = "stochastic_nearest"
    """As ``stochastic``, but the distance is rounded to ``random_bits``, ties to even."""
    STOCHASTIC_EQUAL = "stochastic_equal"
    """Either neighbor with probability one half, wherever the value lies between them."""

    @property
    def is_stochastic(self) -> bool:
        """Whether the result depends on a random word."""
        return self.takes_random_bits or self is Rounding.STOCHASTIC_EQUAL

    @property
    def takes_random_bits(self) -> bool:
        """Whether it matters how many bits of the random word are looked at."""
        return self in _WITH_RANDOM_BITS

    @classmethod
    def _missing_(cls, value: object) -> "Rounding | None":
        """Accept the everyday name of the default."""
        return cls.NEAREST_EVEN if value == "nearest" else None


_WITH_RANDOM_BITS = (Rounding.STOCHASTIC, Rounding.STOCHASTIC_MIDPOINT, Rounding.STOCHASTIC_NEAREST)


def check_random_bits(random_bits: int | None, *modes: Rounding) -> None:
    """Refuse random_bits outside 1 to 32, or where none of the modes looks at so many bits."""
    if random_bits is None:
        return
    if not isinstance(random_bits, int) or isinstance(random_bits, bool):
        raise type_error("random_bits", "be an integer or None", random_bits)
    if not any(mode.takes_random_bits for mode in modes):
        raise value_error(
            "random_bits",
            f"be None where rounding is {str(modes[0])!r}",
            random_bits,
            f"Only {', '.join(_WITH_RANDOM_BITS)} look at that many bits.",
        )
    if not 1 <= random_bits <= 32:
        raise value_error("random_bits", "lie between 1 and 32", random_bits)


class Overflow(_Choice):
    """What a value past the ends of a format becomes, decided after rounding.

    Floating point has the first three rules, fixed point ``saturate``, ``wrap`` and ``unbounded``.
    NaN stays NaN under each of them.
    """

    SATURATE = "saturate"
    """The nearer end; an infinite input stays where the format has infinities."""
    SATURATE_ALL = "saturate_all"
    """The nearer end, also for infinite inputs (satfinite in hardware)."""
    INFINITY = "infinity"
    """Infinity; NaN in a format that has no infinity."""
    WRAP = "wrap"
    """The value modulo the range, as a register drops its carry, whatever the mode; infinities become NaN."""
    UNBOUNDED = "unbounded"
    """Nothing overflows: there are no ends, and an infinite input stays."""


class Specials(_Choice):
    """Which codes of a floating-point format are not finite numbers."""

    IEEE = "ieee"
    """The top exponent holds infinities and NaN; without mantissa bits only infinities."""
    FN = "fn"
    """No infinities; the all-ones code of either sign is NaN."""
    FNUZ = "fnuz"
    """No infinities and no -0, whose code is NaN; the bias is one more than elsewhere."""
    FINITE = "finite"
    """Every code is a finite number."""


class ScaleRule(_Choice):
    """How a group's scale follows from A, its largest finite magnitude.

    With max the element's largest value and emax = floor(log2 max); all are exact. All but ``amax`` give
    powers of two.
    """

    FLOOR = "floor"
    """2^(floor(log2 A) - emax), as OCP has it: values between max and 2^(emax + 1) saturate."""
    CEIL = "ceil"
    """2^(ceil(log2 A) - emax)."""
    RCEIL = "rceil"
    """The least power of two s with A / s <= max: nothing saturates."""
    EVEN = "even"
    """As floor, of A rounded half up to the element's precision."""
    MSE = "mse"
    """Of half, once and twice the scale of floor the one over which rounding to nearest even has the least
    squared error, exactly; of equally good ones the largest. Slow: every candidate is tried."""
    AMAX = "amax"
    """A / max, rounded to nearest even in the format of the scale; what rounds to 0 is its least value."""
