"""QPyTorch's three kinds of numbers, and the lowprec format that each one is."""

import math
from dataclasses import dataclass

from lowprec import formats
from lowprec.errors import type_error, value_error
from lowprec.formats import Format
from lowprec.modes import Rounding

_LEAST_WORD, _WIDEST_WORD = 2, 25
"""The widths of signed words whose ends float32 holds."""


class Number:
    """What all of QPyTorch's numbers are."""

    @property
    def native(self) -> Format:
        """The lowprec format that rounds as this number does."""
        raise NotImplementedError(f"{type(self).__name__} must define `native`.")

    @property
    def nearest(self) -> Rounding:
        """The lowprec mode that breaks ties as QPyTorch's ``"nearest"`` does for this number."""
        raise NotImplementedError(f"{type(self).__name__} must define `nearest`.")

    @property
    def ends(self) -> tuple[float, float] | None:
        """Where values are to be clamped after rounding; None where the native format does that itself."""
        return None


@dataclass(frozen=True)
class FixedPoint(Number):
    """Fixed point: ``wl`` bits, the sign included, of which ``fl`` lie behind the binary point.

    NaN stays NaN; values and infinities past an end become the end, or stay without ``clamp``; there is
    no -0. The ends of a word longer than 25 bits are the carrier's nearest values.

    Args:
        wl: Word length, at least 1.
        fl: Fraction length; 0 and negative ones, which QPyTorch refuses, are allowed.
        clamp: Whether values past the ends are clamped; else only the precision is simulated.
        symmetric: Whether the most negative value is left out.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``wl`` is below 1.

    Example:
        >>> str(FixedPoint(8, 6).native), str(FixedPoint(8, 6).nearest)
        ('fixed8f6', 'nearest_even')
    """

    wl: int
    fl: int
    clamp: bool = True
    symmetric: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_integer("wl", self.wl, least=1)
        _check_integer("fl", self.fl)
        for name in ("clamp", "symmetric"):
            if not isinstance(getattr(self, name), bool):
                raise type_error(name, "be True or False", getattr(self, name))

    @property
    def native(self) -> formats.FixedPoint:
        """A saturating format; an unbounded one without clamp, and where the ends are not the format's."""
        if not self.clamp or self.ends is not None:
            return formats.FixedPoint(None, self.fl, overflow="unbounded")
        return formats.FixedPoint(self.wl, self.fl, symmetric=self.symmetric)

    @property
    def nearest(self) -> Rounding:
        """Ties to even, as QPyTorch has it on a CPU."""
        return Rounding.NEAREST_EVEN

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of a word of 1 bit or of more than 25."""
        if not self.clamp or _LEAST_WORD <= self.wl <= _WIDEST_WORD:
            return None
        end, step = math.ldexp(1.0, self.wl - self.fl - 1), math.ldexp(1.0, -self.fl)
        return (step - end if self.symmetric else -end), end - step


@dataclass(frozen=True)
class FloatingPoint(Number):
    """Floating point with subnormals; no code is set apart for infinities or NaN, but with 8 exponent bits.

    NaN stays NaN; values and infinities past the largest value become it, and infinities where ``exp`` is 8,
    whose largest values would lie outside float32; negative values that round to zero give -0.

    Args:
        exp: Exponent bits, 1 to 8.
        man: Mantissa bits, those that are stored, 0 to 23.

    Raises:
        TypeError: If a width is not an integer.
        ValueError: If a width is out of range.

    Example:
        >>> number = FloatingPoint(5, 2)
        >>> str(number.native), number.native.max, str(number.nearest)
        ('e5m2finite', 114688.0, 'nearest_away')
    """

    exp: int
    man: int

    def __post_init__(self) -> None:
        """Check the widths."""
        _check_integer("exp", self.exp, least=1, most=8)
        _check_integer("man", self.man, least=0, most=23)

    @property
    def native(self) -> formats.FloatingPoint:
        """A format of finite values, or that of IEEE 754 where the exponent is float32's."""
        specials = "ieee" if self.exp == 8 else "finite"
        return formats.FloatingPoint(self.exp, self.man, specials=specials)

    @property
    def nearest(self) -> Rounding:
        """Ties away from zero."""
        return Rounding.NEAREST_AWAY


@dataclass(frozen=True)
class BlockFloatingPoint(Number):
    """Block floating point: symmetric mantissas of ``wl`` bits that share the exponent of the largest.

    NaN stays NaN and an infinity becomes the largest value; neither has a say in the exponent. There is
    no -0.

    Args:
        wl: Word length of a mantissa, the sign included, 2 to 25.
        dim: The dimension each of whose indices has an exponent of its own; -1 for one exponent in all.

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one is out of range.

    Example:
        >>> str(BlockFloatingPoint(8, 0).native), str(BlockFloatingPoint(8).nearest)
        ('bfp8<channel0>', 'nearest_up')
    """

    wl: int
    dim: int = -1

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_integer("wl", self.wl, least=_LEAST_WORD, most=_WIDEST_WORD)
        _check_integer("dim", self.dim, least=-1)

    @property
    def native(self) -> formats.BlockFloatingPoint:
        """One group in all, or one for each index of the dimension."""
        groups = formats.PerTensor() if self.dim == -1 else formats.PerChannel(self.dim)
        return formats.BlockFloatingPoint(self.wl, groups)

    @property
    def nearest(self) -> Rounding:
        """Ties toward +infinity."""
        return Rounding.NEAREST_UP


def _check_integer(name: str, value: int, *, least: int | None = None, most: int | None = None) -> None:
    """Refuse what is no integer or out of range."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise type_error(name, "be an integer", value)
    if (least is not None and value < least) or (most is not None and value > most):
        must = f"be at least {least}" if most is None else f"lie between {least} and {most}"
        raise value_error(name, must, value)
