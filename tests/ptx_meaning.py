"""What each instruction of PTX does, as a line of Python.

Registers hold patterns, which are unsigned integers, and predicates 0 or 1. What is not known is an error.
PTX ISA 8.5, 9.7 defines the instructions; binary32 and binary64 are computed in Python's binary64 and exact
fractions. NaN is made the pattern that no processor of the host's makes, so that nothing may rely on one.
"""

import re
import struct
from collections.abc import Callable
from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np

_NAN = {32: 0x7FFFFFFF, 64: 0xFFF8000000000000}
_PACKED = {32: ("<f", "<I"), 64: ("<d", "<Q")}


def number(bits: int, width: int) -> float:
    """The number of a pattern."""
    real, word = _PACKED[width]
    return struct.unpack(real, struct.pack(word, bits))[0]


def pattern(x: float, width: int) -> int:
    """The pattern of a number of binary64, rounded to nearest even."""
    if x != x:
        return _NAN[width]
    if width == 32:
        return int(np.float32(x).view(np.uint32))
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def exactly(x: Fraction, width: int) -> int:
    """The pattern of an exact number other than zero, rounded to nearest even once."""
    try:
        near = float(x)  # which Python rounds so
    except OverflowError:
        near = np.inf if x > 0 else -np.inf
    if width == 32 and isfinite(near) and Fraction(near) != x:  # to odd, so that the second rounding tells
        bits = pattern(near, 64)
        outward = abs(x) > abs(Fraction(near))
        near = number(bits if bits & 1 else bits + (1 if outward else -1), 64)
    return pattern(near, width)


def arithmetic(operation: str, width: int, *operands: int) -> int:
    """An operation rounded to nearest even.

    For binary32 it is rounded to binary64 first, which changes nothing (Figueroa, When is double rounding
    innocuous, 1995), but for fma.
    """
    x = [np.float64(number(bits, width)) for bits in operands]
    if operation == "fma":
        plain = float(x[0] * x[1] + x[2])
        if not all(map(isfinite, x)):
            return pattern(plain, width)
        a, b, c = map(Fraction, x)
        return exactly(a * b + c, width) if a * b + c != 0 else pattern(plain, width)
    apply: dict[str, Callable[..., Any]] = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt,
    }  # fmt: skip
    return pattern(float(apply[operation](*x)), width)


def converted(to: str, given: str, bits: int) -> int:
    """A number of one type in another."""
    wide, source = int(to[1:]), int(given[1:])
    if given[0] == "f":
        x = number(bits, source)
        if to[0] == "f":
            return pattern(x, wide)
        low, high = (-(1 << (wide - 1)), (1 << (wide - 1)) - 1) if to[0] == "s" else (0, (1 << wide) - 1)
        whole = 0 if x != x else high if x == np.inf else low if x == -np.inf else int(x)
        return min(max(whole, low), high) & ((1 << wide) - 1)
    whole = signed(bits, source) if given[0] == "s" else bits & ((1 << source) - 1)
    if to[0] == "f":
        return exactly(Fraction(whole), wide) if whole else 0
    return whole & ((1 << wide) - 1)


def signed(bits: int, width: int) -> int:
    """The integer of a pattern in two's complement."""
    half = 1 << (width - 1)
    return ((bits & ((1 << width) - 1)) ^ half) - half


def compared(relation: str, x: float, y: float) -> bool:
    """A comparison of numbers."""
    unordered = x != x or y != y
    if relation in ("num", "nan"):
        return unordered == (relation == "nan")
    if relation.endswith("u") and len(relation) == 3:
        return unordered or _RELATIONS[relation[:2]](x, y)
    return not unordered and _RELATIONS[relation](x, y)


def permuted(low: int, high: int, selector: int) -> int:
    """Four bytes of eight, each by four bits: its number, and whether its sign is meant."""
    found = 0
    for k in range(4):
        choice = selector >> 4 * k & 15
        byte = (high << 32 | low) >> 8 * (choice & 7) & 255
        found |= ((255 if byte & 128 else 0) if choice & 8 else byte) << 8 * k
    return found


_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
}  # fmt: skip
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_BITWISE = {"and": "&", "or": "|", "xor": "^"}
NAMES = {f.__name__: f for f in (arithmetic, converted, signed, compared, number, permuted)}
"""What the lines call."""


def value_of(opcode: str, operands: list[str]) -> str:
    """The new contents of a register, as an expression in those of the operands."""
    name, *rest = opcode.split(".")
    kind = rest[-1]
    letter, width = kind[0], int(re.sub(r"\D", "", kind) or 1)
    mask, (a, b, c, *_) = (1 << width) - 1, [*operands, *[""] * 3]
    if name in _BITWISE:
        return f"({a} {_BITWISE[name]} {b}) & {mask}"
    if name == "not":
        return f"~{a} & {mask}"
    if name == "selp":
        return f"{a} if {c} else {b}"
    if name == "mov" or name.startswith("cvta"):
        return a
    if letter == "f":
        return _of_floats(name, rest, width, operands)
    if name == "cvt":
        return f"converted({rest[-2]!r}, {kind!r}, {a})"
    return _of_integers(name, rest, letter, width, mask, operands)


def _of_floats(name: str, rest: list[str], width: int, operands: list[str]) -> str:
    """The same for numbers."""
    every, top = ", ".join(operands), 1 << (width - 1)
    if name in ("add", "sub", "mul", "div", "sqrt", "fma"):
        if set(rest[:-1]) - {"rn"}:
            raise NotImplementedError(rest)
        return f"arithmetic({name!r}, {width}, {every})"
    if name == "setp":
        x, y = (f"number({one}, {width})" for one in operands)
        return f"compared({rest[0]!r}, {x}, {y})"
    if name == "cvt":
        if rest[0] not in ("rn", "rzi", rest[-2]):
            raise NotImplementedError(rest)
        return f"converted({rest[-2]!r}, {rest[-1]!r}, {operands[0]})"
    if name == "neg":
        return f"{operands[0]} ^ {top}"
    if name == "abs":
        return f"{operands[0]} & {top - 1}"
    raise NotImplementedError(name)


def _of_integers(name: str, rest: list[str], letter: str, width: int, mask: int, operands: list[str]) -> str:
    """The same for integers."""
    a, b, c, d, *_ = [*operands, *[""] * 4]
    x, y = (f"signed({one}, {width})" if letter == "s" else f"({one} & {mask})" for one in (a, b))
    if name in ("add", "sub"):
        return f"({a} {'+' if name == 'add' else '-'} {b}) & {mask}"
    if name in ("mul", "mad"):
        if rest[0] == "wide":
            return f"({x} * {y}) & {(1 << 2 * width) - 1}"
        if rest[0] == "hi":
            return f"(({x} * {y}) >> {width}) & {mask}"
        return f"({a} * {b}{f' + {c}' if name == 'mad' else ''}) & {mask}"
    if name in ("div", "rem"):
        quotient = f"(abs({x}) // abs({y}) * (1 if ({x} < 0) == ({y} < 0) else -1))"
        return f"({quotient if name == 'div' else f'{x} - {quotient} * {y}'}) & {mask}"
    if name == "shl":
        return f"({a} << min({b}, {width})) & {mask}"
    if name == "shr":
        return f"({x} >> min({b}, {width})) & {mask}"
    if name in ("min", "max"):
        return f"{name}({x}, {y}) & {mask}"
    if name in ("neg", "abs"):
        return f"-{a} & {mask}" if name == "neg" else f"abs({x}) & {mask}"
    if name == "setp":
        return f"{x} {_SIGNS[rest[0]]} {y}"
    if name == "prmt":
        return f"permuted({a}, {b}, {c})"
    if name == "bfi":
        field = f"(((1 << {d}) - 1) << {c})"
        return f"({b} & ~{field} | ({a} << {c}) & {field}) & {mask}"
    raise NotImplementedError(name)
