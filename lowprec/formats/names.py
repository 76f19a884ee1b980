"""From names and torch dtypes to formats; grammar.py says what a name looks like."""

from typing import Any

from lowprec.errors import type_error, value_error
from lowprec.formats.codebook import Codebook
from lowprec.formats.format import Format
from lowprec.formats.grammar import NAMED as NAMED
from lowprec.formats.grammar import read
from lowprec.formats.logarithmic import Logarithmic
from lowprec.formats.tabled import TabledFormat

FormatLike = Format | str | Any
"""A format, its name, or a torch dtype that stands for one."""

_DTYPES = {
    "torch.float8_e4m3fn": "e4m3fn",
    "torch.float8_e4m3fnuz": "e4m3fnuz",
    "torch.float8_e5m2": "e5m2",
    "torch.float8_e5m2fnuz": "e5m2fnuz",
    "torch.float16": "binary16",
    "torch.bfloat16": "bfloat16",
    "torch.float32": "binary32",
    "torch.float64": "binary64",
}


def resolve(format: FormatLike) -> Format:
    """The format that ``format`` is, names, or stands for.

    Args:
        format: A format, its name, or a torch dtype (``torch.float8_e4m3fn``).

    Returns:
        The format itself.

    Raises:
        TypeError: If it is none of the three.
        ValueError: If the name is unknown (the nearest three are suggested) or the dtype stands for
            no format.

    Example:
        >>> resolve("e4m3fn").max
        448.0
    """
    if isinstance(format, Format):
        if isinstance(format, TabledFormat) and not isinstance(format, _OURS):
            register(format)
        return format
    if isinstance(format, str):
        return parse(format)
    if type(format).__module__ == "torch" and type(format).__name__ == "dtype":
        if str(format) not in _DTYPES:
            raise value_error("format", f"be one of {', '.join(_DTYPES)}", format)
        return parse(_DTYPES[str(format)])
    raise type_error("format", "be a format, a name or a torch dtype", format)


def parse(name: str) -> Format:
    """The format of a name; ``parse(str(format)) == format``.

    Args:
        name: A name such as ``"e4m3fn"``, ``"fixed8f6"``, ``"bfp8<group32>"``.

    Returns:
        The format.

    Raises:
        TypeError: If ``name`` is not a string.
        ValueError: If no format has that name; the nearest three are suggested. A format of your own has
            one from when it was first used, or registered.

    Example:
        >>> parse("fixed8f6").step
        Fraction(1, 64)
    """
    if not isinstance(name, str):
        raise type_error("name", "be a string", name)
    return _REGISTERED.get(name) or read(name)


def register(format: TabledFormat) -> None:
    """Make a format of your own known by its name, as every function does that is given one.

    A name in a checkpoint or a scheme's file is read back after this, in a process that has not used the
    format yet.

    Args:
        format: An instance of a subclass of TabledFormat; hashable and equal to others that mean the same.

    Raises:
        TypeError: If it is none, or cannot be hashed.
        ValueError: If its name means another format, or what it lists is no format.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Fibonacci(TabledFormat):
        ...     def code_values(self):
        ...         return [0, 1, 2, 3, 5, 8]
        ...
        ...     def __str__(self):
        ...         return "fibonacci"
        >>> register(Fibonacci())
        >>> parse("fibonacci").max
        8.0
    """
    if not isinstance(format, TabledFormat):
        raise type_error("format", "be a TabledFormat", type(format))
    try:
        known = format in _REGISTERED_FORMATS
    except TypeError:
        remedy = "Make its class a frozen dataclass."
        raise type_error("format", "be hashable", type(format), remedy) from None
    if known:
        return
    name = str(format)
    if name in _REGISTERED:
        remedy = "Give it a __str__ that says what sets it apart."
        raise value_error("format", "have a name that no other format has", name, remedy)
    if _is_ours(name):
        raise value_error("format", "have a name that means nothing yet", name)
    _ = format.table
    _REGISTERED[name] = format
    _REGISTERED_FORMATS.add(format)


def registered(name: str) -> TabledFormat | None:
    """The format of one's own with that name, if there is one."""
    return _REGISTERED.get(name)


_REGISTERED: dict[str, TabledFormat] = {}
_REGISTERED_FORMATS: set[TabledFormat] = set()
_OURS = Codebook, Logarithmic


def _is_ours(name: str) -> bool:
    """Whether the grammar has a format of that name."""
    try:
        read(name)
    except ValueError:
        return False
    return True
