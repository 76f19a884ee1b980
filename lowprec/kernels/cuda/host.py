"""The simulator's memory: the host's, by its address; what instructions.py has, as Python functions."""

import ctypes
import threading
import weakref
from fractions import Fraction
from typing import Any

import numpy as np

_lock = threading.Lock()
_teams: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
"""By block: where the lanes of a team meet, and what each has brought."""


def _place(address: int, index: int, dtype: Any) -> Any:
    """One element of the host's memory, as an array."""
    at = int(address) + int(index) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * np.dtype(dtype).itemsize).from_address(at), dtype)


def load(address, index, dtype):
    """The element of a type at an index."""
    return _place(address, index, dtype)[0]


def store(address, index, value, dtype):
    """Write one element of a type."""
    _place(address, index, dtype)[0] = value


def raise_to(address, index, value, dtype):
    """Replace an unsigned integer by a larger one, whoever else does so at the time."""
    with _lock:
        place = _place(address, index, dtype)
        place[0] = max(place[0], dtype(value))


def add_to(address, index, value, dtype):
    """Add to an unsigned integer, whoever else does so at the time."""
    with _lock:
        place = _place(address, index, dtype)
        place[0] += dtype(value)


def largest_of(value, lanes):
    """The largest of what so many neighboring threads of a row have; its own for one without neighbors."""
    thread: Any = threading.current_thread()
    block, at = thread._manager, thread.threadIdx
    team, lane = divmod(at.x, int(lanes))
    if lanes == 1 or (team + 1) * lanes > block._block_dim[0]:
        return value
    with _lock:
        rooms = _teams.setdefault(block, {})
        barrier, values = rooms.setdefault(
            (at.y, team), (threading.Barrier(lanes, timeout=60), [value] * lanes)
        )
    values[lane] = value
    barrier.wait()
    largest = max(values)
    barrier.wait()
    return largest


def tuple_setitem(values, index, value):
    """A tuple with another entry."""
    return (*values[:index], value, *values[index + 1 :])


constant_at = load


def fused(a, b, c):
    """``a * b + c`` in the type of all three, rounded once."""
    kind = type(a)
    if not (np.isfinite(a) and np.isfinite(b)):
        return kind(kind(a * b) + c)
    if not np.isfinite(c):  # whether or not the product overflows
        return c
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return kind(kind(a * b) + c)
    return _rounded(exact, kind)


def _rounded(exact, kind):
    """A number that is not 0, rounded to nearest even in a type."""
    bits, least = (52, -1074) if kind is np.float64 else (23, -149)
    magnitude = abs(exact)
    lead = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    lead -= Fraction(2) ** lead > magnitude
    place = max(lead - bits, least)
    whole = round(magnitude / Fraction(2) ** place)
    with np.errstate(over="ignore"):
        value = (
            kind(np.ldexp(np.float64(whole), place)) if whole.bit_length() + place <= 1024 else kind(np.inf)
        )
    return -value if exact < 0 else value


def times(a, b):
    """``a * b``, rounded by itself."""
    return type(a)(a * b)


def root(a):
    """The square root, rounded as IEEE 754 says."""
    return type(a)(np.sqrt(a))
