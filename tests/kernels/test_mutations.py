"""Planted defects: each is noticed by comparing the uncompiled decisions with the reference.

A defect is a piece of a source file and what stands there instead, in a copy of the module. All formats,
modes and carriers of ``test_decisions.py`` would notice too; here a part of them that is quick enough to
be gone through again and again.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from decisions import PACKAGE, Source, decided, decoded, encoded
from hard_inputs import hard_values, tipping_number

from lowprec import reference
from lowprec.formats import BlockFloatingPoint, Format, parse
from lowprec.kernels import codes, groups, numbers, scalar, specialize
from lowprec.modes import Rounding

pytestmark = pytest.mark.slow

MODULES = {"scalar": scalar, "groups": groups, "codes": codes, "numbers": numbers}
CARRIERS = {
    "float32": [
        "e5m2", "e4m3fn<infinity>", "e4m3fnuz", "e4m3fnuz<infinity>", "e3m0ieee", "e3m2<nosubnormals>", "e2m1", "bfloat16",
        "bfloat16<bias133>", "e8m0ieee<bias149>", "e5m2<saturate_all>", "fixed8f4", "ufixed8f4",
        "fixed8f4<wrap>", "ufixed8f4<wrap>", "fixed8f149<wrap>", "fixedf4<unbounded>", "fixed4f-100",
        "bfp4", "bfp5<exponent3>",
    ],
    "bfloat16": ["e5m2", "e8m2fn<bias131>", "fixed8f7"],
    "float16": ["e4m3fn", "fixed11f4<wrap>", "bfp8"],
    "float64": ["e4m3fn", "binary64<nosubnormals>", "fixed32f16"],
}  # fmt: skip
WORDS = np.uint32([0, 2**32 - 1, 1 << 31, (1 << 31) - 1, 0x9E3779B9, 1, 1 << 25, 2**32 - (1 << 25) - 1])


class Defect(NamedTuple):
    """What stands where, and what is written there instead."""

    name: str
    module: str
    find: str
    replace: str


DEFECTS = [
    # Ties.
    Defect("tie to odd", "scalar", "U(U(low >> U(1)) + odd) & low)\n    if MODE == NEAREST_ODD",
           "U(U(low >> U(1)) + U(odd ^ U(1))) & low)\n    if MODE == NEAREST_ODD"),
    Defect("tie away goes toward zero", "scalar",
           "if MODE == NEAREST_AWAY:\n        return U(U(low + U(1)) >> U(1))",
           "if MODE == NEAREST_AWAY:\n        return U(low >> U(1))"),
    Defect("tie up ignores the sign", "scalar",
           "return U(low >> U(1)) if negative else U(U(low + U(1)) >> U(1))\n    if MODE == NEAREST_DOWN",
           "return U(U(low + U(1)) >> U(1))\n    if MODE == NEAREST_DOWN"),
    Defect("tie below the unit goes up", "scalar",
           "zero is the even code\n        return magnitude > half",
           "zero is the even code\n        return magnitude >= half"),
    Defect("parity of a one-unit magnitude", "scalar",
           "U(magnitude ^ numbers[FLIP])", "U(magnitude)"),
    Defect("parity without mantissa bits", "scalar",
           "U(U(digits >> drop) + U(exponents))", "U(digits >> drop)"),
    # Directions.
    Defect("up is away", "scalar", "return U(0) if negative else low", "return low"),
    Defect("down is mirrored", "scalar", "return low if negative else U(0)", "return U(0) if negative else low"),
    Defect("to odd is to even", "scalar", "U(low & U(odd - U(1)))", "U(low & U(U(0) - odd))"),
    Defect("sticky lost on underflow", "scalar",
           "return magnitude > U(0) and MODE != TOWARD_ZERO", "return magnitude > half and MODE != TOWARD_ZERO"),
    Defect("lost subnormal of the carrier", "scalar",
           "U(digits | HIDDEN) if field > I(0) else digits", "U(digits | HIDDEN)"),
    # Stochastic.
    Defect("one word too many", "scalar", "if MODE == STOCHASTIC:\n        return part > limit",
           "if MODE == STOCHASTIC:\n        return part >= limit"),
    Defect("bits that do not count", "scalar", "ceiling if FULL else U32(ceiling | U32(numbers[IGNORED]))",
           "ceiling"),
    Defect("one bit fewer of a word", "scalar", "kept = U(word >> U(width - U(MANTISSA + 1)))",
           "kept = U(U(word >> U(width - U(MANTISSA))) << U(1))"),
    Defect("the half below a word lost", "scalar", "word = U(word | numbers[MIDDLE])", "word = U(word)"),
    Defect("random bits not rounded", "scalar",
           "whole = rounded_to_random_bits(magnitude, drop, numbers)", "whole = magnitude"),
    Defect("random bits rounded half up", "scalar",
           "odd = U(U(magnitude >> below) & U(1))\n    return",
           "odd = U(1)\n    return"),
    Defect("equal chances by another bit", "scalar",
           "return low if ceiling < U32(1 << 31) else U(0)", "return low if ceiling < U32(1 << 30) else U(0)"),
    # Overflow and specials.
    Defect("overflow before rounding", "scalar",
           "rounded = rounded if rounded <= numbers[MAX_POSITIVE] else",
           "rounded = rounded if magnitude <= numbers[MAX_POSITIVE] else"),
    Defect("one end for both signs", "scalar",
           "rounded = min(rounded, numbers[MAX_NEGATIVE] if negative else numbers[MAX_POSITIVE])",
           "rounded = min(rounded, numbers[MAX_POSITIVE])"),
    Defect("NaN swallowed", "scalar", "return bits if magnitude > INFINITY else result", "return result"),
    Defect("lost sign of zero", "scalar", "result = U(rounded | sign)\n",
           "result = U(rounded | (sign if rounded != U(0) else U(0)))\n"),
    Defect("sign of zero where there is none", "scalar", "U(sign & numbers[ZERO_SIGN])", "sign"),
    Defect("infinity as a finite value", "scalar", "over = infinite if magnitude == INFINITY else over", "over = over"),
    Defect("wrapped infinity", "scalar", "result = QUIET_NAN if magnitude == INFINITY else result", "result = result"),
    Defect("wrapped without a sign", "scalar", "U(U(0) - count) if negative else count", "count"),
    Defect("wrapped one bit too late", "scalar", "U(U(width) - numbers[WORD_BITS])",
           "U(U(width) - numbers[WORD_BITS] - U(1))"),
    Defect("wrapped as unsigned", "scalar", "U(I(count) >> I(spare)) if numbers[SIGNED] != U(0) else",
           "U(I(count) >> I(spare)) if numbers[SIGNED] > U(1) else"),
    Defect("a flag where up turns away", "scalar", "past = past and not negative", "past = past"),
    Defect("no flag for infinities", "scalar", "past = infinite != INFINITY if magnitude == INFINITY else past",
           "past = past"),
    # Groups.
    Defect("exponent of a group one too large", "groups", "I(I(exponent + I(2)) - ", "I(I(exponent + I(3)) - "),
    Defect("exponent of a group not clamped", "groups",
           "min(max(exponent, I(block[LOWEST_EXPONENT])), I(block[HIGHEST_EXPONENT]))", "exponent"),
    Defect("infinity sets the exponent", "groups", "magnitude if magnitude < INFINITY else U(0)",
           "magnitude if magnitude <= INFINITY else U(0)"),
    # Descriptions.
    Defect("bias one more", "numbers", "lowest = format.lowest_exponent + carrier.highest_exponent",
           "lowest = format.lowest_exponent + carrier.highest_exponent - 1"),
    Defect("bias one less", "numbers", "lowest = format.lowest_exponent + carrier.highest_exponent",
           "lowest = format.lowest_exponent + carrier.highest_exponent + 1"),
    Defect("subnormals where there are none", "numbers", "flushed = not format.subnormals and width > 0",
           "flushed = False"),
    Defect("down overflows above", "numbers", "over = [largest[0], over[1]]", "over = over"),
    # Codes.
    Defect("NaN code of another sign", "codes", "return numbers[CODE_NAN] if magnitude > INFINITY else code",
           "return code"),
    Defect("NaN with a payload is a number", "codes", "bare >= numbers[FIRST_NAN] or", "bare == numbers[CODE_NAN] or"),
    Defect("signed codes read as unsigned", "codes",
           "numbers[SIGNED] != U(0) and count >= ", "numbers[SIGNED] > U(1) and count >= "),
]  # fmt: skip


@cache
def with_defect(module: str, find: str, replace: str) -> Source:
    """The decisions and descriptions of a package in which one module is changed."""
    original = MODULES[module]
    text = Path(str(original.__file__)).read_text(encoding="utf-8")
    assert text.count(find) == 1, f"{text.count(find)} times in {module}.py: {find}"
    copy = ModuleType(original.__name__)
    exec(compile(text.replace(find, replace), f"{module}.py with a defect", "exec"), vars(copy))
    if module == "numbers":
        return PACKAGE._replace(describe=copy.describe, describe_block=copy.describe_block)

    @lru_cache(maxsize=4096)
    def decisions(*constants: Any) -> dict[str, Any]:
        """The decisions for one set of constants."""
        carrier, mode, depth, ending, full = constants
        with pytest.MonkeyPatch.context() as patch:  # what comes last replaces what has the same name
            patch.setattr(specialize, "DECISIONS", (*specialize.DECISIONS, copy))
            return specialize.specialized(
                carrier, mode, depth, ending, full=full, compiler=lambda function: function
            )

    return PACKAGE._replace(decisions=decisions)


class Check(NamedTuple):
    """Inputs, and what the reference makes of them."""

    x: npt.NDArray[np.floating]
    carrier: str
    format: Format
    rounding: Rounding
    words: npt.NDArray[np.uint32]
    random_bits: int
    values: npt.NDArray[np.floating]
    flags: npt.NDArray[np.bool_]


def expectation(
    x: npt.NDArray[np.floating],
    carrier: str,
    format: Format,
    rounding: Rounding,
    words: npt.NDArray[np.uint32],
    bits: int,
) -> Check:
    """A comparison to be made again and again."""
    options = {"rounding": rounding, "carrier": carrier}
    if rounding.is_stochastic:
        options["words"] = words
    if rounding.takes_random_bits:
        options["random_bits"] = bits
    values, flags = reference.quantize(x, format, **options), reference.overflowed(x, format, **options)
    return Check(x, carrier, format, rounding, words, bits, values, flags)


@cache
def checks() -> list[Check]:
    """A part of what the suite compares."""
    made = []
    for carrier, names in CARRIERS.items():
        for name in names:
            format = parse(name)
            x = hard_values(format, carrier)
            x = np.append(x[:: 1 + x.size // 60], x.dtype.type(1))
            fine = 1 + np.arange(1, 64, 5, dtype=x.dtype) / 1024  # ties and others of seven random bits
            for rounding, scale in product(Rounding, (0.25, 1, 64) if name.startswith("bfp") else (1,)):
                for bits in (32, 7) if rounding.takes_random_bits else (32,):
                    inputs = np.concatenate([x, fine if rounding.takes_random_bits else fine[:0]])
                    inputs *= x.dtype.type(scale)
                    words = np.resize(WORDS, inputs.shape)
                    if rounding.takes_random_bits and not isinstance(format, BlockFloatingPoint):
                        finite = np.where(np.isfinite(inputs), np.abs(inputs), 0).tolist()
                        tipping = [tipping_number(v, format, rounding, bits) << (32 - bits) for v in finite]
                        words = np.where(np.arange(words.size) % 4 < 2, np.minimum(tipping, 2**32 - 1), words)
                        words = (words - (np.arange(words.size) % 4 == 1) % 2**32).astype(np.uint32)
                    made.append(expectation(inputs, carrier, format, rounding, words, bits))
    return made


def same(got: npt.NDArray[np.floating], want: npt.NDArray[np.floating]) -> bool:
    """Equal bits; all NaN are one."""
    either = (got == want) & (np.signbit(got) == np.signbit(want))
    return bool((either | np.isnan(got) & np.isnan(want)).all())


def notices(source: Source) -> bool:
    """Whether any comparison fails, or Python does."""
    for x, carrier, format, rounding, words, bits, values, flags in checks():
        got, fired = decided(x, carrier, format, rounding, words, bits, source)
        if not (same(got, values) and (fired == flags).all()):
            return True
    for carrier, names in CARRIERS.items():
        for format in map(parse, names):
            if format.has_infinity and not format.has_nan or isinstance(format, BlockFloatingPoint):
                continue  # unbounded formats have no codes, block formats those of fixed point
            numbers_of_codes = range(0, 1 << format.bits, 1 << max(format.bits - 8, 0))
            if format.bits <= 11:
                want = np.array([reference.value_of(code, format) for code in numbers_of_codes])
                got = decoded(numbers_of_codes, carrier, format, source)
                if not same(got.astype(np.float64), want):
                    return True
                again = [reference.code_of(value, format) for value in want.tolist()]
                if encoded(got, carrier, format, source) != again:
                    return True
    return False


def test_without_a_defect_nothing_is_noticed() -> None:
    assert not notices(PACKAGE)
    assert not notices(with_defect("scalar", "def split(bits):", "def split(bits):  # the same"))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_every_defect_is_noticed(defect: Defect) -> None:
    assert notices(with_defect(defect.module, defect.find, defect.replace))
