"""Loops over the elements of one operation; operate.py calls them, and operations.py decides.

One unit passes through all loops before the next, so what lies between them stays in the cache.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from lowprec.kernels import exact, operations
from lowprec.kernels.cpu import draw, is_drawn, jit
from lowprec.kernels.exact import ADD, DIVIDE, EXACTLY, FUSE, LEADING, MULTIPLY, ROOT
from lowprec.kernels.memory import at, get, put
from lowprec.kernels.operations import is_unsafe, on_grid, result_of, rounded_result
from lowprec.kernels.philox import TILE
from lowprec.kernels.products import conversions
from lowprec.kernels.scalar import ABOVE, COUNT, NEAREST_EVEN, PLAIN, U32, U64, WRAPPED, smaller
from lowprec.kernels.specialize import WIDTHS, compiled_from, compiled_with, inline, specialized
from lowprec.kernels.sums import from_source, to_source

UNIT = 8 * TILE
"""Elements that pass through all loops before the next ones are read."""

_BOUNDS = {
    ADD: (-900, 1000), MULTIPLY: (-400, 400), DIVIDE: (-400, 400), ROOT: (-900, 1000), FUSE: (-400, 400),
}  # fmt: skip
"""Exponents: whatever an operation makes of numbers from the first on and below the other is normal."""

exactly = to_odd = None
"""What each loop has its own of; not in a closure, by which Numba's cache would miss it in every process."""


def _function(function: Callable[..., Any]) -> Any:
    """Compile for the CPU what costs more than a call of it."""
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def _integers_of(compiler: Callable[..., Any], instructions: dict[str, Any] | None) -> dict[str, Any]:
    """The names of exact.py, whose functions are compiled."""
    names = {**vars(exact), **(instructions or {})}
    return compiled_from(names, (exact.__name__,), _function if compiler is inline else compiler)


def operations_of(
    operation: int, carrier: str, compiler: Callable[..., Any] = inline,
    instructions: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The decisions about what an operation makes of numbers of a carrier, each compiled when first called.

    Args:
        operation: As exact.py numbers them; ``exactly`` is that one in integers.
        carrier: The name of one.
        compiler: What makes a function that loops call of a Python one.
        instructions: What takes the place of the CPU's own, by name.
    """
    known = specialized(
        "float64", NEAREST_EVEN, ABOVE, PLAIN, odd=True, source=carrier, compiler=compiler,
        instructions=instructions,
    )  # fmt: skip
    integers = _integers_of(compiler, instructions)
    low, high = (U64(1023 + exponent << 52) for exponent in _BOUNDS[operation])
    constants = {"OPERATION": operation, "SINGLE": carrier != "float64", "LOW": low, "HIGH": high}
    known |= {**constants, "root": integers["root"]}
    names = compiled_from({**vars(operations), **known}, (operations.__name__,), compiler)
    own = {name: names[name] for name in ("result_of", "is_unsafe", "from_source", "to_source", "smaller")}
    return own | {"exactly": integers[EXACTLY[operation]], "to_odd": integers["to_odd"]}


def roundings_of(
    mode: int, ending: int, *, full: bool, compiler: Callable[..., Any] = inline,
    instructions: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The decisions about significands rounded to a format; the arguments are those of ``specialized``."""
    how: dict[str, Any] = {"full": full, "compiler": compiler, "instructions": instructions}
    of_significands = specialized("float64", mode, ABOVE, ending, digits=LEADING, **how)
    names = {**vars(operations), **specialized("float64", mode, ABOVE, ending, **how)}
    names["on_grid"] = compiled_with(on_grid, {**vars(operations), **of_significands}, compiler)
    names["pattern_of"] = _integers_of(compiler, instructions)["pattern_of"]
    rounded = compiled_with(rounded_result, names, compiler)
    return {"rounded_result": rounded, "smaller": names["smaller"]}


@cache
def operating(operation: int, carrier: str) -> Any:
    """The loop of an operation on numbers of a carrier, to patterns of binary64 or to significands."""
    dtype = WIDTHS[carrier].memory
    wide = carrier == "float64"  # else operations on the numbers of binary32 give normal ones always
    binary, ternary = operation != ROOT, operation == FUSE

    def loop(x_address, y_address, z_address, out_address, places_address, down, size, first, last,
             _a, _b, _c):  # fmt: skip
        x, y, z = at(x_address, dtype), at(y_address, dtype), at(z_address, dtype)
        out, places = at(out_address, np.uint64), at(places_address, np.int64)
        stop = smaller(last * UNIT, size)
        for start in range(first * UNIT, stop, TILE):
            count = smaller(TILE, stop - start)
            unsafe = U64(0)
            if places_address == 0:
                for j in range(count):
                    at_j = np.uintp(start + j)
                    a_bits = b_bits = c_bits = U64(from_source(U64(get(x, at_j))))
                    if binary:
                        b_bits = U64(from_source(U64(get(y, at_j))))
                    if ternary:
                        c_bits = U64(from_source(U64(get(z, at_j))))
                    if wide:
                        unsafe |= is_unsafe(a_bits, b_bits, c_bits)
                    put(out, at_j, result_of(a_bits, b_bits, c_bits, down))
            if places_address != 0 or unsafe != U64(0):
                for j in range(start, start + count):
                    a_bits = b_bits = c_bits = U64(from_source(U64(x[j])))
                    if binary:
                        b_bits = U64(from_source(U64(y[j])))
                    if ternary:
                        c_bits = U64(from_source(U64(z[j])))
                    significand, place, negative = exactly(a_bits, b_bits, c_bits, down != 0)
                    if places_address == 0:
                        out[j] = to_odd(significand, place, negative)
                    else:
                        out[j] = significand
                        places[j] = place if significand == U64(0) else 2 * place + (1 if negative else 0)

    return jit(12, loop, operations_of(operation, carrier), "operating", operation, carrier)


@cache
def rounding_wide(mode: int, ending: int, full: bool) -> Any:
    """The loop that rounds significands to a format, to patterns of binary64."""
    drawn, wraps = is_drawn(mode), ending == WRAPPED

    def loop(significands_address, places_address, out_address, numbers_address, size, lost_address,
             scratch, first, last, seed, stream, word):  # fmt: skip
        significands, places = at(significands_address, np.uint64), at(places_address, np.int64)
        out, ceilings, lost = at(out_address, np.uint64), at(scratch, np.uint32), at(lost_address, np.int64)
        numbers = to_fixed_tuple(at(numbers_address, np.uint64), COUNT)
        start, stop = first * UNIT, smaller(last * UNIT, size)
        filled, offset = -1, 0
        while start < stop:
            count = smaller(TILE, stop - start)
            if drawn:
                offset, count, filled = draw(ceilings, filled, start, 1, count, seed, stream, word)
            for j in range(count):
                ceiling = ceilings[offset + j] if drawn else U32(0)
                significand, place = significands[start + j], places[start + j]
                negative = significand != U64(0) and place & 1 != 0  # else the place is a pattern
                place = place if significand == U64(0) else place >> 1
                bits, unknown = rounded_result(significand, place, negative, ceiling, numbers)
                out[start + j] = bits
                if wraps and unknown:
                    lost[0] = 1
            start += count

    return jit(12, loop, roundings_of(mode, ending, full=full), "rounding", mode, ending, full)


@cache
def narrowing(carrier: str) -> Any:
    """The loop from binary64 to a carrier that holds the numbers."""
    stored = WIDTHS[carrier].memory

    def loop(x_address, out_address, size, first, last):
        x, out = at(x_address, np.uint64), at(out_address, stored)
        for j in range(first * UNIT, size if size < last * UNIT else last * UNIT):
            at_j = np.uintp(j)
            put(out, at_j, stored(to_source(get(x, at_j))))

    return jit(5, loop, conversions(carrier), "narrowing", carrier)
