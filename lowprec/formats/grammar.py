"""The grammar of the names that ``str`` gives formats and ``parse`` reads back.

A family's name, then options in angle brackets, separated by commas. Each option stands at most once;
``str`` writes them in the order given here and leaves out what is the default::

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
                       normalfloat4 twelfths4   (the elements of nf4, fp4)

N, P, M, E, I and S are decimal numbers, K and A may be negative, and so may the M of fixed point; the A of
a group may be ``contraction``.
"""

import difflib
import re
from collections.abc import Callable
from functools import lru_cache

from lowprec.errors import value_error
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

_SHORT = {name: widths_and_specials for widths_and_specials, name in NAMES.items()}


@lru_cache(maxsize=1024)
def read(name: str) -> Format:
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
    own = "A format of your own is known once it was registered or used."
    return value_error("format", "be a known name", name, f"{hint} {own}")


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
    return read(SCALED_NAMES[match[0]])


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
    return read(CODEBOOKS[match[0]])


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
