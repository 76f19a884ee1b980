"""The limits of a format at a glance, as torch.finfo gives them of a dtype."""

from dataclasses import dataclass, fields

from lowprec.formats.names import FormatLike, resolve


@dataclass(frozen=True, init=False)
class finfo:
    """The limits of a number format.

    Of a block format they describe a group whose largest magnitude lies in [1, 2).

    Args:
        format: A format, its name, or a torch dtype that stands for one.

    Attributes:
        format: The name of the format.
        bits: Width of a code.
        max: Largest finite value.
        min: Most negative finite value.
        eps: Distance from 1 to the next larger number at the format's precision.
        smallest_normal: Smallest positive value of full precision.
        smallest_subnormal: Smallest positive value.
        has_infinity: Whether infinities are values.
        has_nan: Whether a code is NaN.
        has_signed_zero: Whether -0 is a value.

    Raises:
        TypeError: If ``format`` is none of the three.
        ValueError: If the name or dtype is unknown, or codes have no width (unbounded fixed point).

    Example:
        >>> finfo("e4m3fn").max, finfo("e4m3fn").smallest_subnormal
        (448.0, 0.001953125)
        >>> finfo("fixed8f6").eps, finfo("fixed8f6").has_nan
        (0.015625, False)
    """

    format: str
    bits: int
    max: float
    min: float
    eps: float
    smallest_normal: float
    smallest_subnormal: float
    has_infinity: bool
    has_nan: bool
    has_signed_zero: bool

    def __init__(self, format: FormatLike) -> None:
        resolved = resolve(format)
        object.__setattr__(self, "format", str(resolved))
        for field in fields(self)[1:]:
            object.__setattr__(self, field.name, getattr(resolved, field.name))

    @property
    def tiny(self) -> float:
        """The smallest normal value, by its older name."""
        return self.smallest_normal
