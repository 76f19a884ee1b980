"""The kernels' decisions run by Python, one number at a time: no compiler, and any random word."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lowprec.formats import BlockFloatingPoint, Format
from lowprec.kernels import scalar
from lowprec.kernels.numbers import MODES, describe, describe_block
from lowprec.kernels.specialize import WIDTHS, specialized
from lowprec.modes import Rounding

Floats = npt.NDArray[np.floating]


def patterns(x: Floats, carrier: str) -> npt.NDArray[np.unsignedinteger]:
    """The patterns of numbers in a carrier, in the type that kernels compute in."""
    bits = x.view(f"u{x.itemsize}")
    return (bits >> 16 if carrier == "bfloat16" else bits).astype(WIDTHS[carrier].unsigned)


def numbers_of(bits: Iterable[int], carrier: str) -> Floats:
    """The numbers of patterns; those of bfloat16 as float32."""
    if carrier == "bfloat16":
        return (np.array(bits, np.uint32) << 16).view(np.float32)
    return np.array(bits, WIDTHS[carrier].memory).view(carrier)


@lru_cache(maxsize=4096)
def uncompiled(carrier: str, mode: int, depth: int, ending: int, full: bool) -> dict[str, Any]:
    """All decisions for one set of constants, as Python functions."""
    return specialized(carrier, mode, depth, ending, full=full, compiler=lambda function: function)


def decided(
    x: Floats,
    carrier: str,
    format: Format,
    rounding: Rounding,
    words: npt.NDArray[np.uint32],
    random_bits: int = 32,
    *,
    decisions: Callable[..., dict[str, Any]] = uncompiled,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What every number becomes with its word, and where overflow fires; a block format has one group."""
    bits = patterns(x, carrier)
    with np.errstate(over="ignore"):  # unsigned integers turn over, as they do when compiled
        if isinstance(format, BlockFloatingPoint):
            block = tuple(describe_block(format, random_bits, carrier))
            made = decisions(carrier, MODES[rounding], scalar.EITHER, scalar.CLAMPED, random_bits == 32)
            largest = max((made["finite_magnitude"](pattern) for pattern in bits), default=bits.dtype.type(0))
            numbers = made["group_numbers"](made["unit_field"](largest, block), block)
        else:
            array, depth, ending = describe(format, rounding, random_bits, carrier)
            numbers = tuple(array)
            made = decisions(carrier, MODES[rounding], depth, ending, random_bits == 32)
        rows = list(zip(bits, ~words, strict=True))
        values = [int(made["quantize_bits"](pattern, ceiling, numbers)) for pattern, ceiling in rows]
        fired = [bool(made["overflow_fired"](pattern, ceiling, numbers)) for pattern, ceiling in rows]
    return numbers_of(values, carrier), np.array(fired)
