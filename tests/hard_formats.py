"""Formats that rounding code gets wrong, besides the named ones; the ends of every range."""

from lowprec.formats import NAMED, Codebook, Format, GroupedFormat, Posit, Scaled, TabledFormat, parse
from lowprec.modes import Rounding

MX = {
    "mxfp8_e5m2": "e5m2<saturate>",
    "mxfp8_e4m3": "e4m3fn",
    "mxfp6_e3m2": "e3m2",
    "mxfp6_e2m3": "e2m3",
    "mxfp4": "e2m1",
    "mxint8": "fixed8f6<symmetric>",
}
"""The formats of OCP by name, with their elements."""

_FLOATING = [
    # Every rule for what lies past the ends.
    "e5m2<saturate>", "e5m2<saturate_all>", "e4m3fn<infinity>", "e4m3fnuz<infinity>",
    # Few exponents, or few mantissa bits: codes that count exponents, nothing but subnormals.
    "e1m2ieee", "e1m2fn", "e1m3finite", "e1m7fnuz", "e2m0fn", "e2m0finite", "e3m0ieee", "e5m0ieee",
    "e8m0ieee", "e8m0fnuz", "e2m1<fn>", "e5m23ieee", "e8m3fn",
    # The lowest values among the subnormals of binary32 and bfloat16, of binary16, of binary64.
    "bfloat16<bias133>", "e8m2fn<bias131>", "e8m3fn<bias140>", "e8m0fn<bias140>", "e8m0ieee<bias149>",
    "e4m3fn<bias22>", "e3m2<bias20>", "e2m0finite<bias24>", "e11m30ieee<bias1044>", "e11m0fn<bias1040>",
    # The largest values at the top of each.
    "e5m2<bias-97>", "e4m3fn<bias-112>", "e3m2<bias-8>", "e5m7fnuz<bias-992>",
    # No subnormals.
    "e5m2<nosubnormals>", "e3m2<nosubnormals>", "e2m3<nosubnormals>", "e4m3fnuz<nosubnormals,infinity>",
    "bfloat16<nosubnormals>", "e8m3fn<nosubnormals,bias146>", "e4m3fn<nosubnormals,bias22>",
    "binary64<nosubnormals>", "e2m7finite<nosubnormals>",
    # One zero, one NaN, no sign: every rule, codes that count exponents, 16 bits, an exponent of 11.
    "binary8p4se<saturate>", "binary8p3se<saturate_all>", "binary6p3sf<infinity>", "binary8p4ue<saturate>",
    "binary8p3ue<saturate_all>", "binary5p2uf", "binary5p2uf<infinity>", "binary8p1se", "binary7p1ue",
    "binary8p1uf", "binary3p2se", "binary8p7se", "binary8p8ue", "binary16p11ue", "binary16p6uf",
    "binary11p1se", "binary8p4se<bias24>",
]  # fmt: skip
_FIXED = [
    "fixed16f8<symmetric>", "fixed2f0<symmetric>", "fixed8f-3", "fixed4f-100", "fixed8f130", "fixed2f149",
    "fixed3f24", "fixed25f0", "fixed32f16", "fixed32f-900", "fixed8f1074",
    "ufixed1f0", "ufixed8f0", "ufixed8f-4", "ufixed24f12", "ufixed32f40", "ufixed7f133",
    "fixed2f0<wrap>", "fixed3f1<wrap>", "fixed11f4<wrap>", "fixed24f10<wrap>", "fixed32f0<wrap>",
    "fixed8f149<wrap>", "fixed4f-100<wrap>", "fixed8f22<wrap>",
    "ufixed1f0<wrap>", "ufixed8f4<wrap>", "ufixed24f0<wrap>", "ufixed32f-3<wrap>",
    "fixedf0<unbounded>", "fixedf4<unbounded>", "fixedf24<unbounded>", "fixedf149<unbounded>",
    "fixedf-5<unbounded>", "fixedf-104<unbounded>", "fixedf1074<unbounded>",
]  # fmt: skip

ENDED = [name for name in NAMED if isinstance(parse(name), TabledFormat | Posit)]
"""Those that stop at their last value; their kernels have no decisions that run without a compiler."""

_NAMED = [name for name in NAMED if name not in ENDED and not isinstance(parse(name), GroupedFormat)]
ELEMENTWISE = _NAMED + _FLOATING + _FIXED

GROUPS = {  # how many elements make a group, and how rows of that many become an array
    "bfp8": (256, list),
    "bfp4": (256, list),
    "bfp2": (256, list),
    "bfp11": (256, list),
    "bfp25": (256, list),
    "bfp8<exponent8>": (256, list),
    "bfp5<exponent3>": (64, list),
    "bfp8<group32>": (32, lambda rows: [rows]),
    "bfp4<group16>": (16, lambda rows: [rows]),
    "bfp4<group16,exponent4>": (16, lambda rows: [rows]),
    "bfp8<channel0>": (256, lambda rows: [rows]),
    "bfp8<channel1>": (256, lambda rows: [rows.T]),
    "bfp6<group3@0>": (3, lambda rows: [rows.T]),
    "bfp8<channel0&2>": (64, lambda rows: [rows.reshape(-1, 8, 64).transpose(0, 2, 1)]),
    "bfp8<block16x16>": (256, lambda rows: [row.reshape(16, 16) for row in rows]),
    "bfp6<block2x3>": (6, lambda rows: [rows.reshape(-1, 2, 3)]),
    **{name: (32, lambda rows: [rows]) for name in MX},
    "scaled<e4m3fn,e8m0>": (256, list),
    "scaled<e3m2ieee,e8m0>": (64, list),
    "scaled<binary6p3se,e8m0>": (32, list),
    "scaled<e4m3fnuz<infinity>,e8m0>": (256, list),
    "scaled<fixed4f2<symmetric>,e8m0>": (16, list),
    "scaled<e2m3,e8m0,channel1>": (64, lambda rows: [rows.T]),
    "scaled<e2m1,e8m0,block2x8>": (16, lambda rows: [rows.reshape(-1, 2, 8)]),
}

FORMATS = [*ELEMENTWISE, *GROUPS]


def modes_of(format: Format) -> list[Rounding]:
    """The modes that a format has: a codebook over scales has no stochastic ones."""
    deterministic = isinstance(format, Scaled) and isinstance(format.element, Codebook)
    return [mode for mode in Rounding if not (deterministic and mode.is_stochastic)]
