"""Tables of formats that list their values, copied to a device once."""

from typing import Any

import numpy.typing as npt

from lowprec.kernels import tables
from lowprec.kernels.cuda.twin import Memory, Queue

_copies: dict[tuple[int, int], tuple[npt.NDArray[Any], Memory, npt.NDArray[Any]]] = {}
"""By where numbers lie and device: numbers with the address of the copy, the copy, and, so that nothing else
ever lies where they do, the numbers."""


def on_device(numbers: npt.NDArray[Any], queue: Queue) -> npt.NDArray[Any]:
    """Numbers whose table lies on a device; kept as long as the process runs, as those of the host are."""
    key = numbers.ctypes.data, queue.device
    if key not in _copies:
        room: Any = numbers.base
        begin = int(numbers[tables.LOW_ADDRESS]) | int(numbers[tables.HIGH_ADDRESS]) << 32
        table = queue.upload(room[begin - room.ctypes.data :])
        moved = numbers.copy()
        moved[tables.LOW_ADDRESS], moved[tables.HIGH_ADDRESS] = (
            table.address & 0xFFFFFFFF,
            table.address >> 32,
        )
        _copies[key] = moved, table, numbers
    return _copies[key][0]
