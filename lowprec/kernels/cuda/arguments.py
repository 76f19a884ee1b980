"""Arguments of a kernel as the driver takes them: the address of each number, tuples' one after another."""

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

_LETTERS = {
    types.int64: "q", types.uint64: "Q", types.uint32: "I", types.uint16: "H", types.uint8: "B",
    types.float32: "f", types.float64: "d",
}  # fmt: skip
"""Those of the module struct, which refuses an integer that its type cannot hold."""


class Packing:
    """How arguments of some types lie in memory."""

    def __init__(self, parameters: Sequence[types.Type]) -> None:
        letters = "".join(map(_letters, parameters))
        self._layout = struct.Struct(letters)
        ends = [struct.calcsize(letters[: i + 1]) for i in range(len(letters))]
        self._places = np.array(ends, np.uint64) - np.array(list(map(struct.calcsize, letters)), np.uint64)

    def packed(self, arguments: Iterable[Any]) -> tuple[npt.NDArray[np.uint64], object]:
        """The address of each number, and the memory there, as long as which they hold."""
        memory = ctypes.create_string_buffer(self._layout.size)
        self._layout.pack_into(memory, 0, *_flat(arguments, []))
        return self._places + np.uint64(ctypes.addressof(memory)), memory


def _letters(parameter: types.Type) -> str:
    """The letters of a number, or of all in a tuple."""
    if isinstance(parameter, types.BaseTuple):
        return "".join(map(_letters, parameter))
    return _LETTERS[parameter]


def _flat(arguments: Iterable[Any], numbers: list[Any]) -> list[Any]:
    """All numbers in order, after those that are given."""
    for argument in arguments:
        if not isinstance(argument, tuple):
            numbers.append(argument)
        elif argument and isinstance(argument[0], tuple):
            _flat(argument, numbers)
        else:
            numbers.extend(argument)
    return numbers
