"""The properties of a format as a table, for a page and for a terminal."""

from lowprec.formats.block import BlockFloatingPoint
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.floating import FloatingPoint
from lowprec.formats.format import Format
from lowprec.formats.scaled import Scaled
from lowprec.table import Table

_NUMBERS = ("bits", "max", "min", "smallest_normal", "smallest_subnormal", "eps")
_LONGEST = 60
"""Signs of a name: that of a codebook has all its values."""


def properties(format: Format) -> Table:
    """Name and properties of a format, exactly.

    Args:
        format: Of any family.

    Returns:
        A row for each property, all of them strings.

    Example:
        >>> dict(properties(FixedPoint(8, 6)).rows)["max"]
        '1.984375'
    """
    unbounded = isinstance(format, FixedPoint) and not format.is_bounded
    names = _NUMBERS[unbounded:]  # bits come first
    rows = [(name.replace("_", " "), f"{getattr(format, name)!r}") for name in names]
    rows.append(("signed zero", _answer(format.has_signed_zero)))
    rows.append(("infinity", _answer(format.has_infinity)))
    rows.append(("NaN", _answer(format.has_nan)))
    if isinstance(format, FloatingPoint):
        rows.append(("subnormals", _answer(format.smallest_subnormal < format.smallest_normal)))
        rows.append(("bias", str(format.bias)))
    if isinstance(format, FloatingPoint | FixedPoint):
        rows.append(("overflow", str(format.overflow)))
    caption = ""
    if isinstance(format, BlockFloatingPoint):
        if format.exponent_bits is not None:
            ends = f"{format.lowest_block_exponent} to {format.highest_block_exponent}"
            rows.append(("block exponent", ends))
        rows.append(("group", str(format.granularity)))
        caption = "of a group whose largest magnitude lies between 1 and 2"
    if isinstance(format, Scaled):
        rows.append(("element", shortened(str(format.element))))
        rows.append(
            ("scale", f"{format.scale}, by the rule {format.scale_rule}, for each {format.granularity}")
        )
        caption = "of a group whose scale is 1"
    return Table(("property", "value"), tuple(rows), title=shortened(str(format)), caption=caption)


def shortened(name: str) -> str:
    """A name of bearable length."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _answer(fact: bool) -> str:
    """Yes or no."""
    return "yes" if fact else "no"
