"""From names and torch dtypes to formats, and back by ``str``.

The grammar: a family's name, then options in angle brackets, separated by commas::

    binary16  bfloat16  binary32  e4m3fn  e5m2  e{E}m{M}{ieee|fn}   <overflow rule, bias{K}>
    fixed{N}f{M}                                                         <symmetric>
    e2m1  e2m3  e3m2                                                  <fn, overflow rule, bias{K}>
    bfp{N}                            <tensor | channel{axis}[&{axis}…] | group[{size}][@{axis}]>
"""

import difflib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lowprec.errors import type_error, value_error
from lowprec.formats.block import BlockFloatingPoint
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.floating import FINITE_ELSEWHERE, FloatingPoint
from lowprec.formats.format import Format
from lowprec.formats.granularity import CONTRACTION, Granularity, PerChannel, PerGroup, PerTensor
from lowprec.modes import Overflow

NAMED = ("binary32", "binary16", "bfloat16", "e5m2", "e4m3fn", "e4m3ieee", "fixed8f7", "fixed8f4",
         "fixed16f8", "bfp8", "bfp8<group32>", "bfp4")  # fmt: skip
"""The names that a listing of formats shows: every single one, and examples of each family."""

FormatLike = Format | str | Any
"""A format, its name, or a torch dtype that stands for one."""

_WIDTHS = {"binary16": (5, 10), "bfloat16": (8, 7), "binary32": (8, 23), "e5m2": (5, 2)}  # fmt: skip
_DTYPES = {
    "torch.float8_e4m3fn": "e4m3fn",
    "torch.float8_e5m2": "e5m2",
    "torch.float16": "binary16",
    "torch.bfloat16": "bfloat16",
    "torch.float32": "binary32",
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
        ValueError: If no format has that name; the nearest three are suggested.

    Example:
        >>> parse("fixed8f6")
        FixedPoint(word_bits=8, fraction_bits=6, symmetric=False, overflow=<Overflow.SATURATE: 'saturate'>)
    """
    if not isinstance(name, str):
        raise type_error("name", "be a string", name)
    return _parsed(name)


@lru_cache(maxsize=1024)
def _parsed(name: str) -> Format:
    """The format of a name, remembered."""
    if name == "e4m3":
        raise value_error("format", "say which e4m3", name, "Use 'e4m3fn' (max 448) or 'e4m3ieee' (max 240).")
    base, bracket, rest = name.partition("<")
    if base.removesuffix("fn") in FINITE_ELSEWHERE and (base.endswith("fn") or not rest):
        raise value_error(
            "format",
            "not be a name that elsewhere stands for a format without NaN",
            name,
            f"With the all-ones code as NaN it is '{base.removesuffix('fn')}<fn>'.",
        )
    options = rest[:-1].split(",") if rest.endswith(">") else []
    if bool(bracket) == bool(options) and all(options):
        for pattern, build in _FAMILIES:
            if match := re.fullmatch(pattern, base):
                return build(name, match, options)
    raise _unknown(name)


def _unknown(name: str) -> ValueError:
    """The error for a name that is none, with the nearest three."""
    near = difflib.get_close_matches(name, NAMED, n=3, cutoff=0.0)
    bare = re.fullmatch(r"e\d+m\d+", name)
    hint = f"Did you mean {name}ieee or {name}fn?" if bare else f"Did you mean {', '.join(near)}?"
    return value_error("format", "be a known name", name, hint)


def _floating(name: str, match: re.Match[str], options: list[str]) -> Format:
    """A floating-point format; options are an overflow rule and a bias."""
    overflow, bias = None, None
    if match[0] in FINITE_ELSEWHERE:
        if options[:1] != ["fn"]:
            raise _unknown(name)
        options = options[1:]
    for option in options:
        if option in set(Overflow) and overflow is None:
            overflow = option
        elif re.fullmatch(r"bias-?\d+", option) and bias is None:
            bias = int(option.removeprefix("bias"))
        else:
            raise _unknown(name)
    if match[0] in _WIDTHS:
        return FloatingPoint(*_WIDTHS[match[0]], bias=bias, overflow=overflow)
    widths = int(match["exponent"]), int(match["mantissa"])
    specials = match.groupdict().get("specials", "fn")
    return FloatingPoint(*widths, bias=bias, specials=specials, overflow=overflow)


def _fixed(name: str, match: re.Match[str], options: list[str]) -> Format:
    """A fixed-point format; the one option is ``symmetric``."""
    if options not in ([], ["symmetric"]):
        raise _unknown(name)
    return FixedPoint(int(match["word"]), int(match["fraction"]), symmetric=bool(options))


def _block(name: str, match: re.Match[str], options: list[str]) -> Format:
    """A block format; the one option is its granularity."""
    if len(options) > 1:
        raise _unknown(name)
    granularity = _granularity(name, options[0]) if options else PerTensor()
    return BlockFloatingPoint(int(match["word"]), granularity)


def _granularity(name: str, text: str) -> Granularity:
    """A granularity by its own name."""
    if text == "tensor":
        return PerTensor()
    if match := re.fullmatch(r"channel(-?\d+(?:&-?\d+)*)", text):
        axes = tuple(int(axis) for axis in match[1].split("&"))
        return PerChannel(axes[0] if len(axes) == 1 else axes)
    if match := re.fullmatch(rf"group(\d+)?(?:@(-?\d+|{CONTRACTION}))?", text):
        axis = -1 if match[2] is None else match[2] if match[2] == CONTRACTION else int(match[2])
        return PerGroup(int(match[1]) if match[1] else None, axis)
    raise _unknown(name)


_FAMILIES: tuple[tuple[str, Callable[[str, re.Match[str], list[str]], Format]], ...] = (
    ("|".join(_WIDTHS), _floating),
    (r"e(?P<exponent>\d+)m(?P<mantissa>\d+)(?P<specials>ieee|fn)", _floating),
    (r"e(?P<exponent>[23])m(?P<mantissa>[123])", _floating),
    (r"fixed(?P<word>\d+)f(?P<fraction>-?\d+)", _fixed),
    (r"bfp(?P<word>\d+)", _block),
)
