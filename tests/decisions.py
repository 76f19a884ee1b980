"""The kernels' decisions run by Python, one number at a time: no compiler, and any random word.

A ``Source`` is where they come from: the package, or a copy of it in which something is wrong.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.formats import FixedPoint, FloatingPoint, Format, GroupedFormat
from lowprec.kernels import numbers, scalar
from lowprec.kernels.numbers import MODES
from lowprec.kernels.specialize import WIDTHS, specialized
from lowprec.modes import Rounding

Floats = npt.NDArray[np.floating]
Words = npt.NDArray[np.uint32]


@lru_cache(maxsize=4096)
def uncompiled(
    carrier: str, mode: int, depth: int, ending: int, full: bool, scaled: bool = False,
    floating: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """All decisions for one set of constants, as Python functions."""
    return specialized(
        carrier, mode, depth, ending, full=full, scaled=scaled, floating=floating,
        compiler=lambda function: function,
    )  # fmt: skip


class Source(NamedTuple):
    """What decides, and what describes formats to it."""

    decisions: Callable[..., dict[str, Any]] = uncompiled
    describe: Callable[..., Any] = numbers.describe
    describe_block: Callable[..., Any] = numbers.describe_block


PACKAGE = Source()


def patterns(x: Floats, carrier: str) -> npt.NDArray[np.unsignedinteger]:
    """The patterns of numbers in a carrier, in the type that kernels compute in."""
    bits = x.view(f"u{x.itemsize}")
    return (bits >> 16 if carrier == "bfloat16" else bits).astype(WIDTHS[carrier].unsigned)


def floats(bits: Iterable[int], carrier: str) -> Floats:
    """The numbers of patterns; those of bfloat16 as float32."""
    if carrier == "bfloat16":
        return (np.array(bits, np.uint32) << 16).view(np.float32)
    return np.array(bits, WIDTHS[carrier].memory).view(carrier)


def decided(
    x: Floats,
    carrier: str,
    format: Format,
    rounding: Rounding,
    words: Words,
    random_bits: int = 32,
    source: Source = PACKAGE,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What every number becomes with its word, and where overflow fires; a block format has one group."""
    bits, full = patterns(x, carrier), random_bits == 32
    with np.errstate(over="ignore"):  # unsigned integers turn over, as they do when compiled
        if isinstance(format, GroupedFormat):
            array, family = source.describe_block(format, rounding, random_bits, carrier)
            block, (depth, ending, scaled, floating, *_) = tuple(array), family
            made = source.decisions(carrier, MODES[rounding], depth, ending, full, scaled, floating)
            largest = max((made["finite_magnitude"](pattern) for pattern in bits), default=bits.dtype.type(0))
            terms = made["group_numbers"](made["unit_field"](largest, block), block)
        else:
            array, depth, ending = source.describe(format, rounding, random_bits, carrier)
            made, terms = source.decisions(carrier, MODES[rounding], depth, ending, full), tuple(array)
        rows = list(zip(bits, ~words, strict=True))
        values = [int(made["quantize_bits"](pattern, ceiling, terms)) for pattern, ceiling in rows]
        fired = [bool(made["overflow_fired"](pattern, ceiling, terms)) for pattern, ceiling in rows]
    return floats(values, carrier), np.array(fired)


def encoded(
    values: Floats, carrier: str, format: FloatingPoint | FixedPoint, source: Source = PACKAGE
) -> list[int]:
    """The codes of values of a format."""
    made, terms = _of_codes(carrier, format, source)
    code = made["floating_code" if isinstance(format, FloatingPoint) else "integer_code"]
    with np.errstate(over="ignore"):
        return [int(code(pattern, terms)) for pattern in patterns(values, carrier)]


def decoded(
    codes: Iterable[int], carrier: str, format: FloatingPoint | FixedPoint, source: Source = PACKAGE
) -> Floats:
    """The values of codes."""
    made, terms = _of_codes(carrier, format, source)
    value = made["floating_bits" if isinstance(format, FloatingPoint) else "integer_bits"]
    with np.errstate(over="ignore"):
        return floats([int(value(WIDTHS[carrier].unsigned(code), terms)) for code in codes], carrier)


def _of_codes(carrier: str, format: Format, source: Source) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The decisions of encode and decode, and the numbers of the format."""
    array, _, _ = source.describe(format, Rounding.NEAREST_EVEN, 32, carrier)
    made = source.decisions(carrier, scalar.NEAREST_EVEN, scalar.DEEP, scalar.PLAIN, True)
    return made, tuple(array)
