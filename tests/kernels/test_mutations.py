"""Planted defects: each is noticed by comparing the uncompiled decisions with the reference.

A defect is a piece of a source file and what stands there instead, in a copy of the module. All formats,
modes and carriers of ``test_decisions.py`` would notice too; here a part of them that is quick enough to
be gone through again and again.
"""

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
from planted_defects import DEFECTS, Defect

from lowprec import reference
from lowprec.formats import BlockFloatingPoint, Format, parse
from lowprec.kernels import codes, groups, numbers, scalar, specialize
from lowprec.modes import Rounding

pytestmark = pytest.mark.slow

MODULES = {"scalar": scalar, "groups": groups, "codes": codes, "numbers": numbers}
CARRIERS = {
    "float32": [
        "e5m2", "e4m3fn<infinity>", "e4m3fnuz", "e4m3fnuz<infinity>", "e3m0ieee", "e3m2<nosubnormals>",
        "e2m1", "bfloat16", "bfloat16<bias133>", "e8m0ieee<bias149>", "e5m2<saturate_all>",
        "fixed8f4", "ufixed8f4", "fixed8f4<wrap>", "ufixed8f4<wrap>", "fixed8f149<wrap>",
        "fixedf4<unbounded>", "fixed4f-100",
        "bfp4", "bfp5<exponent3>",
    ],
    "bfloat16": ["e5m2", "e8m2fn<bias131>", "fixed8f7"],
    "float16": ["e4m3fn", "fixed11f4<wrap>", "bfp8"],
    "float64": ["e4m3fn", "binary64<nosubnormals>", "fixed32f16"],
}  # fmt: skip
WORDS = np.uint32([0, 2**32 - 1, 1 << 31, (1 << 31) - 1, 0x9E3779B9, 1, 1 << 25, 2**32 - (1 << 25) - 1])


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
                    finer = rounding.takes_random_bits and carrier != "bfloat16"  # which does not hold them
                    inputs = np.concatenate([x, fine if finer else fine[:0]])
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
    """Whether any comparison fails."""
    for x, carrier, format, rounding, words, bits, values, flags in checks():
        got, fired = decided(x, carrier, format, rounding, words, bits, source)
        if not (same(got, values) and (fired == flags).all()):
            return True
    for carrier, names in CARRIERS.items():
        for format in map(parse, names):
            if str(format) == "fixedf4<unbounded>" or isinstance(format, BlockFloatingPoint):
                continue  # the one has no codes, the others have those of fixed point
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
