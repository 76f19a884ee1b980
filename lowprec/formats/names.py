"""From names and torch dtypes to formats, and back by ``str``.

The grammar: a family's name, then options in angle brackets, separated by commas. Each option stands
at most once; ``str`` writes them in the order given here and leaves out what is the default::

    floating point     e{E}m{M}{ieee|fn|fnuz|finite}, or one of the names
                       binary64 binary32 tf32 binary16 bfloat16 e5m2 e3m4   (ieee)
                       e3m2 e2m3 e2m1                                       (finite)
        <nosubnormals, saturate|saturate_all|infinity, bias{K}>
    e3m2 e2m3 e2m1     with the all-ones code as NaN
        <fn, nosubnormals, saturate|saturate_all|infinity, bias{K}>
    IEEE P3109         binary{N}p{P}{s|u}{e|f}    N bits, precision P, signed or unsigned, extended or finite
        <saturate|saturate_all|infinity, bias{K}>
    fixed point        fixed{N}f{M}    N bits, M of them behind the point
        <symmetric, saturate|wrap>
                       ufixed{N}f{M}   unsigned
        <saturate|wrap>
                       fixedf{M}       without bounds
        <unbounded>
    block              bfp{N}          N bits for each mantissa
        <tensor | channel{A}[&{A}…] | group[{S}][@{A}] | block{S}[x{S}…], exponent{N}>
    scaled             scaled<{element},{scale}>, or one of the names mxfp8_e4m3 mxfp8_e5m2
                       mxfp6_e3m2 mxfp6_e2m3 mxfp4 mxint8 nvfp4 int8 int4 uint8 nf4 fp4
        <tensor | channel… | group… | block…, floor|ceil|rceil|even|amax, zero_point>
                       where a scale is e8m0 float32 float16 bfloat16 e5m2 e4m3fn, or scaled<…>
    posit              posit{N}es{E}, without es{E} where E is 2
    logarithmic        log{I}f{M}      I and M bits of the logarithm before and behind the point
    codebook           codebook<{value},{value}…>, or one of the names binary ternary

and the names of formats that were handed to ``register``. N, P, M, E, I and S are decimal numbers, K and
A may be negative, and so may the M of fixed point; the A of a group may be ``contraction``.
"""

import difflib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lowprec.errors import type_error, value_error
from lowprec.formats.block import BlockFloatingPoint
from lowprec.formats.codebook import NAMES as CODEBOOKS
from lowprec.formats.codebook import Codebook
from lowprec.formats.fixed import FixedPoint
from lowprec.formats.floating import FINITE_ELSEWHERE, NAMES, FloatingPoint
from lowprec.formats.format import Format
from lowprec.formats.granularity import (
    CONTRACTION,
    Granularity,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
)
from lowprec.formats.logarithmic import Logarithmic
from lowprec.formats.p3109 import P3109
from lowprec.formats.posit import Posit
from lowprec.formats.scaled import NAMES as SCALED_NAMES
from lowprec.formats.scaled import Scaled
from lowprec.formats.tabled import TabledFormat
from lowprec.modes import Overflow, ScaleRule, Specials

NAMED = (
    "binary64", "binary32", "tf32", "binary16", "bfloat16", "e5m2", "e5m2fnuz", "e4m3fn", "e4m3fnuz",
    "e4m3ieee", "e3m4", "e3m2", "e2m3", "e2m1", "binary8p3se", "binary8p4se", "binary8p4ue", "binary6p3sf",
    "fixed8f7", "fixed8f4", "fixed8f4<wrap>", "fixed16f8", "ufixed8f8",
    "bfp8", "bfp8<group32>", "bfp8<block16x16>", "bfp8<exponent8>", "bfp4",
    "mxfp8_e5m2", "mxfp8_e4m3", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8",
    "nvfp4", "int8", "int4", "uint8", "nf4", "fp4",
    "posit8", "posit16", "posit32", "log4f3", "binary", "ternary",
)  # fmt: skip
"""The names that a listing of formats shows: every single one, and examples of each family."""

FormatLike = Format | str | Any
"""A format, its name, or a torch dtype that stands for one."""

_SHORT = {name: widths_and_specials for widths_and_specials, name in NAMES.items()}
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
        >>> parse("fixed8f6") == FixedPoint(8, 6)
        True
    """
    if not isinstance(name, str):
        raise type_error("name", "be a string", name)
    return _REGISTERED.get(name) or _parsed(name)


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


_REGISTERED: dict[str, TabledFormat] = {}
_REGISTERED_FORMATS: set[TabledFormat] = set()
_OURS = Codebook, Logarithmic


def _is_ours(name: str) -> bool:
    """Whether the grammar has a format of that name."""
    try:
        _parsed(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def _parsed(name: str) -> Format:
    """The format of a name of the grammar, remembered."""
    base, bracket, rest = name.partition("<")
    _refuse_ambiguous(name, base)
    options = _split(rest[:-1]) if rest.endswith(">") else []
    if base in FINITE_ELSEWHERE and "fn" in options:
        options.remove("fn")
        base = f"{base}fn"
    if bool(bracket) == rest.endswith(">"):
        for pattern, build in _FAMILIES:
            if match := re.fullmatch(pattern, _SHORT.get(base, base), re.ASCII):
                return build(match, _Options(name, options))
    raise _unknown(name)


def _split(options: str) -> list[str]:
    """What stands between commas, but for those within the brackets of an element's own options."""
    parts, depth = [""], 0
    for character in options:
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _refuse_ambiguous(name: str, base: str) -> None:
    """Refuse names that stand for different formats in different places."""
    if base == "e4m3":
        remedy = "Use 'e4m3fn' (max 448) or 'e4m3ieee' (max 240)."
        raise value_error("format", "say which e4m3", name, remedy)
    plain = base.removesuffix("fn")
    if plain != base and plain in FINITE_ELSEWHERE:
        must = "not be a name that elsewhere stands for a format without NaN"
        remedy = f"That one is '{plain}'; with the all-ones code as NaN it is '{plain}<fn>'."
        raise value_error("format", must, name, remedy)


def _unknown(name: str) -> ValueError:
    """The error for a name that is none, with the nearest three."""
    near = difflib.get_close_matches(name, NAMED, n=3, cutoff=0.0)
    bare = re.fullmatch(r"e\d+m\d+", name)
    hint = f"Did you mean {name}ieee or {name}fn?" if bare else f"Did you mean {', '.join(near)}?"
    return value_error("format", "be a known name", name, hint)


class _Options:
    """The options of a name, taken one after the other; what is left over at the end is an error."""

    def __init__(self, name: str, options: list[str]) -> None:
        self._name = name
        self._left = options

    def take(self, pattern: str) -> re.Match[str] | None:
        """The one option that matches, removed; None if there is none."""
        matches = [match for option in self._left if (match := re.fullmatch(pattern, option, re.ASCII))]
        if not matches:
            return None
        self._left.remove(matches[0][0])
        return matches[0]

    def next(self) -> str:
        """The first option, removed."""
        if not self._left:
            raise _unknown(self._name)
        return self._left.pop(0)

    def all_of(self, pattern: str) -> list[str]:
        """All options, removed; each must match."""
        if not all(re.fullmatch(pattern, option, re.ASCII) for option in self._left):
            raise _unknown(self._name)
        taken, self._left = self._left, []
        return taken

    def end(self) -> None:
        """Refuse options that nobody took: unknown ones, and the second of two of a kind."""
        if self._left:
            raise _unknown(self._name)


def _floating(match: re.Match[str], options: _Options) -> Format:
    """A floating-point format, its short name already spelled out."""
    subnormals = options.take("nosubnormals") is None
    overflow = options.take(_OVERFLOW)
    bias = options.take(_BIAS)
    options.end()
    return FloatingPoint(
        int(match["exponent"]),
        int(match["mantissa"]),
        bias=int(bias[1]) if bias else None,
        subnormals=subnormals,
        specials=match["specials"],
        overflow=overflow[0] if overflow else None,
    )


def _p3109(match: re.Match[str], options: _Options) -> Format:
    """A format of IEEE P3109."""
    overflow = options.take(_OVERFLOW)
    bias = options.take(_BIAS)
    options.end()
    return P3109(
        int(match["bits"]),
        int(match["precision"]),
        signed=match["signed"] == "s",
        extended=match["domain"] == "e",
        bias=int(bias[1]) if bias else None,
        overflow=overflow[0] if overflow else None,
    )


def _fixed(match: re.Match[str], options: _Options) -> Format:
    """A fixed-point format."""
    symmetric = options.take("symmetric") is not None
    overflow = options.take(_OVERFLOW)
    options.end()
    return FixedPoint(
        int(match["word"]) if match["word"] else None,
        int(match["fraction"]),
        signed=not match["unsigned"],
        symmetric=symmetric,
        overflow=overflow[0] if overflow else Overflow.SATURATE,
    )


def _block(match: re.Match[str], options: _Options) -> Format:
    """A block format."""
    granularity = _granularity(options)
    exponent = options.take(r"exponent(\d+)")
    options.end()
    return BlockFloatingPoint(
        int(match["word"]), granularity, exponent_bits=int(exponent[1]) if exponent else None
    )


def _granularity(options: _Options) -> Granularity:
    """The granularity among the options, or one scale for the whole tensor."""
    for pattern, build in _GRANULARITIES:
        if found := options.take(pattern):
            return build(found)
    return PerTensor()


def _scaled(match: re.Match[str], options: _Options) -> Format:
    """A scaled format, element and scale first."""
    element, scale = options.next(), options.next()
    granularity = _granularity(options)
    rule = options.take("|".join(ScaleRule))
    zero_point = options.take("zero_point") is not None
    options.end()
    return Scaled(
        element,
        scale,
        granularity,
        scale_rule=rule[0] if rule else ScaleRule.FLOOR,
        zero_point=zero_point,
    )


def _named(match: re.Match[str], options: _Options) -> Format:
    """A scaled format with a name of its own, which has no options."""
    options.end()
    return _parsed(SCALED_NAMES[match[0]])


def _posit(match: re.Match[str], options: _Options) -> Format:
    """A posit."""
    options.end()
    return Posit(int(match["bits"]), int(match["exponent"] or 2))


def _logarithmic(match: re.Match[str], options: _Options) -> Format:
    """Logarithmic numbers."""
    options.end()
    return Logarithmic(int(match["integer"]), int(match["fraction"]))


def _codebook(match: re.Match[str], options: _Options) -> Format:
    """A codebook, its entries in brackets."""
    return Codebook([float(entry) for entry in options.all_of(_ENTRY)])


def _named_codebook(match: re.Match[str], options: _Options) -> Format:
    """A codebook with a name of its own, which has no options."""
    options.end()
    return _parsed(CODEBOOKS[match[0]])


def _channel(match: re.Match[str]) -> Granularity:
    """A PerChannel by its own name."""
    return PerChannel(tuple(int(axis) for axis in match[1].split("&")))


def _group(match: re.Match[str]) -> Granularity:
    """A PerGroup by its own name."""
    axis = match[2] or "-1"
    return PerGroup(int(match[1]) if match[1] else None, axis if axis == CONTRACTION else int(axis))


def _tile(match: re.Match[str]) -> Granularity:
    """A PerBlock by its own name."""
    return PerBlock(tuple(int(size) for size in match[1].split("x")))


_OVERFLOW = "|".join(Overflow)
_ENTRY = r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?"
_BIAS = r"bias(-?\d+)"

_GRANULARITIES: tuple[tuple[str, Callable[[re.Match[str]], Granularity]], ...] = (
    ("tensor", lambda match: PerTensor()),
    (r"channel(-?\d+(?:&-?\d+)*)", _channel),
    (rf"group(\d+)?(?:@(-?\d+|{CONTRACTION}))?", _group),
    (r"block(\d+(?:x\d+)*)", _tile),
)

_FAMILIES: tuple[tuple[str, Callable[[re.Match[str], _Options], Format]], ...] = (
    (rf"e(?P<exponent>\d+)m(?P<mantissa>\d+)(?P<specials>{'|'.join(Specials)})", _floating),
    (r"binary(?P<bits>\d+)p(?P<precision>\d+)(?P<signed>[su])(?P<domain>[ef])", _p3109),
    (r"(?P<unsigned>u)?fixed(?P<word>\d+)?f(?P<fraction>-?\d+)", _fixed),
    (r"bfp(?P<word>\d+)", _block),
    ("scaled", _scaled),
    ("|".join(SCALED_NAMES), _named),
    (r"posit(?P<bits>\d+)(?:es(?P<exponent>\d+))?", _posit),
    (r"log(?P<integer>\d+)f(?P<fraction>\d+)", _logarithmic),
    ("codebook", _codebook),
    ("|".join(CODEBOOKS), _named_codebook),
)
