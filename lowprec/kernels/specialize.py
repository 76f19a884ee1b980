"""Copies of the decisions for one carrier and mode, in which they are constants.

A compiler prunes a branch on a global constant before it looks at what the branch does, so a copy
costs a fraction of the whole to compile, and no rounding mode is decided at run time.
"""

from collections.abc import Callable, Collection
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lowprec.errors import type_error
from lowprec.kernels import codes, fused, groups, posits, quotients, scalar, stairs, sums, tables, wide

DECISIONS = (scalar, codes, fused, groups, quotients, tables, posits, stairs, sums, wide)
"""The modules of plain functions."""

# What takes the place of scalar.py's decisions.
_LISTED = {
    "quantize_bits": "listed_bits", "overflow_fired": "listed_fired",
    "integer_code": "listed_code", "integer_bits": "listed_value",
}  # fmt: skip
_TAPERED = {
    "quantize_bits": "posit_bits", "overflow_fired": "posit_fired",
    "integer_code": "posit_code", "integer_bits": "posit_value",
}  # fmt: skip
_DRAWN = {
    "listed_bits": "drawn_bits", "listed_fired": "drawn_fired",
    "posit_bits": "drawn_posit", "posit_fired": "drawn_posit_fired",
}  # fmt: skip
"""What takes their place in the stochastic modes, on patterns of the carrier in 64 bits."""


class Width(NamedTuple):
    """A carrier to the kernels: its patterns in memory, and how scalar.py computes with them."""

    memory: type[np.unsignedinteger[Any]]
    unsigned: type[np.unsignedinteger[Any]]
    signed: type[np.signedinteger[Any]]
    mantissa: int
    place: int


WIDTHS = {
    "bfloat16": Width(np.uint16, np.uint32, np.int32, 7, 15),
    "float16": Width(np.uint16, np.uint32, np.int32, 10, 15),
    "float32": Width(np.uint32, np.uint32, np.int32, 23, 31),
    "float64": Width(np.uint64, np.uint64, np.int64, 52, 63),
}


def inline(function: Callable[..., Any]) -> Any:
    """Compile into the caller: a function call inside a loop would keep it from vectorizing.

    Only compiled code calls it, so what Python would call it by, half of the work, is not compiled.
    """
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
    return njit(forceinline=True, **options)(function)


def specialized(
    carrier: str,
    mode: int,
    depth: int,
    ending: int,
    *,
    full: bool = True,
    scaled: bool = False,
    floating: bool = False,
    source: str | None = None,
    zero_point: bool = False,
    side: int = groups.BOTH,
    exact: bool = False,
    hardware: bool = False,
    odd: bool = False,
    digits: int | None = None,
    compiler: Callable[..., Any] = inline,
    instructions: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The names of all decisions, each compiled for these constants when it is first called.

    Args:
        carrier: The name of one.
        mode: As scalar.py numbers them.
        depth: Where the unit lies, likewise.
        ending: What becomes of magnitudes, likewise.
        full: Whether all bits of a random word count.
        scaled: Whether groups have scales.
        floating: Whether what is scaled is floating point.
        source: The carrier whose numbers are divided by scales, where ``carrier`` holds the quotients.
        zero_point: Whether scales come with zero points.
        side: Whose magnitudes count for a group's largest.
        hardware: Whether subnormals of the source may be flushed.
        odd: Whether sums are rounded to odd.
        digits: Bits below the leading one of what increments are found for, where that is no pattern.
        exact: Whether quotients are needed to more bits than elements look at.
        compiler: What makes a function that loops call of a Python one; the identity for a copy in Python.
        instructions: What takes the place of the CPU's own, by name.
    """
    U, mantissa, place = WIDTHS[carrier].unsigned, WIDTHS[carrier].mantissa, WIDTHS[carrier].place
    infinity = (1 << place) - (1 << mantissa)
    constants = {
        "U": U,
        "I": WIDTHS[carrier].signed,
        "MANTISSA": mantissa if digits is None else digits,
        "PLACE": place,
        "MODE": mode,
        "DEPTH": depth,
        "ENDING": ending,
        "FULL": full,
        "SCALED": scaled,
        "FLOATING": floating,
        "HIDDEN": U(1 << mantissa),
        "SIGN": U(1 << place),
        "INFINITY": U(infinity),
        "QUIET_NAN": U(infinity | 1 << (mantissa - 1)),
        "ZERO_POINT": zero_point,
        "SIDE": side,
        "HARDWARE": hardware,
        "FLOAT": np.float64 if place == 63 else np.float32,
        "ODD": odd,
        **_of_source(source or carrier, mode, exact=exact),
    }
    names: dict[str, Any] = {}
    for module in DECISIONS:
        names.update(vars(module))
    names |= constants | (instructions or {})
    if depth == sums.RAISED:
        names["round_magnitude"] = names["raised_by_word"]
    if depth == wide.WIDE:
        names |= {"round_magnitude": names["rounded_already"], "added": names["added_exactly"]}
    if depth in sums.BY_ADDITION:
        names["quantize_bits"] = names["bits_by_addition" if depth == sums.ADDED else "bits_by_word"]
    if is_listed(depth):
        for name, other in (_TAPERED if depth == posits.TAPERED else _LISTED).items():
            names[name] = names[_DRAWN.get(other, other) if mode >= scalar.STOCHASTIC else other]
    return compiled_from(names, _MODULES, compiler)


def compiled_from(
    names: dict[str, Any], modules: Collection[str], compiler: Callable[..., Any] = inline
) -> dict[str, Any]:
    """The same names with all functions of some modules compiled, for what these names say."""
    done: dict[str, Any] = {}

    def found(name: str) -> Any:
        if name not in done:
            value = names[name]
            if isinstance(value, FunctionType) and value.__module__ in modules:
                value = compiled_with(
                    value, {other: found(other) for other in _looked_up(value, names)}, compiler
                )
            done[name] = value
        return done[name]

    return {name: found(name) for name in names}


def compiled_with(
    function: Callable[..., Any], names: dict[str, Any], compiler: Callable[..., Any] = inline
) -> Any:
    """A plain function compiled with other globals, once for all loops that agree in those it uses."""
    used = {name: names[name] for name in _looked_up(function, names)}
    # Python takes equal numbers of different types for the same.
    return _copy(compiler, function, tuple((name, type(value), value) for name, value in used.items()))


def _looked_up(function: Callable[..., Any], names: dict[str, Any]) -> list[str]:
    """Those of the names that the code of a function may use."""
    return [name for name in function.__code__.co_names if name in names]


@cache
def _copy(
    compiler: Callable[..., Any], function: Callable[..., Any], names: tuple[tuple[str, type, Any], ...]
) -> Any:
    """A compiled function; what it uses has to be hashable."""
    return compiler(rebound(function, {name: value for name, _, value in names}))


def is_listed(depth: int) -> bool:
    """Whether tables.py or posits.py decide."""
    return depth >= posits.TAPERED


def _of_source(carrier: str, mode: int, *, exact: bool) -> dict[str, Any]:
    """The constants of quotients.py for a carrier."""
    _, _, _, mantissa, place = WIDTHS[carrier]
    bias = (1 << (place - mantissa - 1)) - 1
    infinity = (1 << place) - (1 << mantissa)
    return {
        "SOURCE_MANTISSA": mantissa,
        "SOURCE_SIGN": scalar.U64(1 << place),
        "SOURCE_INFINITY": scalar.U64(infinity),
        "SOURCE_NAN": scalar.U64(infinity | 1 << (mantissa - 1)),
        "SOURCE_LEAST": scalar.U64((1024 - bias) << 52),
        "SOURCE_SHIFT": scalar.U64((1024 + 52 - bias - mantissa) << 52) if mantissa < 52 else scalar.U64(0),
        "ROUNDED_DECIDES": not exact and mantissa < 52 and mode < scalar.STOCHASTIC,
    }


_MODULES = {module.__name__ for module in DECISIONS}


def rebound(function: Callable[..., Any], names: dict[str, Any]) -> Any:
    """The same code with other globals."""
    if not isinstance(function, FunctionType):
        raise type_error("function", "be a plain Python function", type(function))
    copy = FunctionType(function.__code__, names, function.__name__, None, function.__closure__)
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy


def compiled_mode(mode: int, depth: int, *, flags: bool) -> int:
    """The mode that a loop is compiled for: tables tell deterministic ones apart, but for overflow."""
    listed = depth > posits.TAPERED and mode < scalar.STOCHASTIC and not flags
    return scalar.NEAREST_EVEN if listed else mode
