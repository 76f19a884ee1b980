"""Copies of the decisions for one carrier and mode, in which they are constants.

A compiler prunes a branch on a global constant before it looks at what the branch does, so a copy
costs a fraction of the whole to compile, and no rounding mode is decided at run time.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lowprec.kernels import codes, groups, scalar

DECISIONS = (scalar, codes, groups)
"""The modules of plain functions."""


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
    return njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def specialized(
    carrier: str,
    mode: int,
    depth: int,
    ending: int,
    *,
    full: bool = True,
    scaled: bool = False,
    floating: bool = False,
    compiler: Callable[..., Any] = inline,
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
        compiler: What makes a device function of a Python one; none for a copy in Python.
    """
    U, mantissa, place = WIDTHS[carrier].unsigned, WIDTHS[carrier].mantissa, WIDTHS[carrier].place
    infinity = (1 << place) - (1 << mantissa)
    constants = {
        "U": U,
        "I": WIDTHS[carrier].signed,
        "MANTISSA": mantissa,
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
    }
    names: dict[str, Any] = {}
    for module in DECISIONS:
        names.update(vars(module))
    names.update(constants)
    for name, function in list(names.items()):
        if isinstance(function, FunctionType) and function.__module__ in _MODULES:
            names[name] = compiler(rebound(function, names))
    return names


_MODULES = {module.__name__ for module in DECISIONS}


def rebound(function: Callable[..., Any], names: dict[str, Any]) -> Any:
    """The same code with other globals."""
    if not isinstance(function, FunctionType):
        raise TypeError(type(function))
    copy = FunctionType(function.__code__, names, function.__name__, None, function.__closure__)
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy
