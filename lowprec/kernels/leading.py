"""Where the search for a magnitude among thresholds begins: at its leading part, see tables.py."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.kernels import tables

Patterns = npt.NDArray[np.uint64]

_SMALL = 1 << 15
"""Leading parts, of either sign, whose tables stay in the second cache."""
_LARGE = 1 << 17
"""The same for formats of many values."""
_NEVER = 2**63 - 1
"""A threshold that no magnitude reaches; cut to 32 bits it is another such."""
_FLOATS: dict[str, tuple[Any, Any]] = {
    "float32": (np.uint32, np.float32),
    "float64": (np.uint64, np.float64),
}
"""The carriers whose magnitudes get a summand; the others have so few that there is room for all."""


class Index(NamedTuple):
    """Where the search begins, and what lies where it ends."""

    least: int
    most: int
    summand: int
    first: int
    shift: int
    parts: int
    depth: int
    starts: npt.NDArray[np.int32]
    thresholds: Patterns
    places: npt.NDArray[np.int64]
    """What each place stands for: a position among the values of the first sign, then of the second."""

    def aligned(self, rows: Sequence[Sequence[Any]], dtype: Any) -> npt.NDArray[Any]:
        """What belongs to the values of either sign, where place_of finds it."""
        return np.concatenate([np.array(row, dtype) for row in rows])[self.places]


class _Cut(NamedTuple):
    """How crowded parts are and how many, after a summand and a shift."""

    crowd: int
    parts: int
    summand: int
    shift: int


def index_of(thresholds: Sequence[Patterns], carrier: str) -> Index:
    """Leading parts so short that tables are small, and so long that few thresholds share one.

    ``thresholds`` are magnitudes, ascending, of either sign.
    """
    known = np.concatenate(thresholds)
    least, most = (int(known.min()), int(known.max())) if known.size else (0, 0)
    crowd, parts, summand, shift = _best(thresholds, least, most, carrier)
    rooms = max(crowd, 1) if crowd <= tables.MOST_ROOMS else 2 ** crowd.bit_length() - 1
    first = int(_spread(np.array([least], np.uint64), summand, carrier)[0])
    starts: list[npt.NDArray[np.int64]] = []
    rows: list[Patterns] = []
    places: list[npt.NDArray[np.int64]] = []
    length = base = 0
    for side in thresholds:
        keys = (_spread(side, summand, carrier) - np.uint64(first)) >> np.uint64(shift)
        begins = np.searchsorted(keys, np.arange(parts, dtype=np.uint64), side="left")
        row = np.concatenate([side, np.full(1 + rooms, _NEVER, np.uint64)])
        if rooms <= tables.MOST_ROOMS:
            reached = np.stack([np.minimum(begins + k, side.size) for k in range(rooms + 1)], axis=1).ravel()
            row = np.stack([row[begins + k] for k in range(rooms)], axis=1).ravel()
        else:
            reached = np.minimum(np.arange(row.size), side.size)
        starts.append(begins + length)
        rows.append(row)
        places.append(base + reached)
        length, base = length + row.size, base + side.size + 1
    searched = rooms > tables.MOST_ROOMS
    depth = tables.SEARCHED + rooms.bit_length() if searched else tables.LISTED + rooms
    return Index(
        least, most, summand, first, shift, parts, depth,
        np.concatenate(starts).astype(np.int32), np.concatenate(rows), np.concatenate(places),
    )  # fmt: skip


def _best(thresholds: Sequence[Patterns], least: int, most: int, carrier: str) -> _Cut:
    """The fewest parts that no two thresholds share, or no three, or no four; else the least crowded."""
    found: dict[int, _Cut] = {}
    size = max(side.size for side in thresholds)
    allowed = _SMALL if size <= _SMALL // 4 else _LARGE
    fallback = None
    for summand in _summands(least, most, carrier):
        keys = [_spread(side, summand, carrier) for side in thresholds]
        first, last = (int(k) for k in _spread(np.array([least, most], np.uint64), summand, carrier))
        width = (last - first).bit_length()
        for shift in range(max(width - allowed.bit_length() + 1, 0), width + 1):
            crowd = max(_crowd((key - np.uint64(first)) >> np.uint64(shift)) for key in keys)
            cut = _Cut(crowd, ((last - first) >> shift) + 1, summand, shift)
            if fallback is None or cut[:2] < fallback[:2]:
                fallback = cut
            rooms = max(crowd, 1)
            if rooms > tables.MOST_ROOMS:
                break
            if rooms not in found or cut.parts < found[rooms].parts:
                found[rooms] = cut
    return found[min(found)] if found else fallback or _Cut(0, 1, 0, 0)


def _summands(least: int, most: int, carrier: str) -> list[int]:
    """The patterns of powers of two between the thresholds; of zero, if flushing cannot show."""
    if carrier not in _FLOATS:
        return [0]
    place = {"float32": 23, "float64": 52}[carrier]
    lowest = max(least >> place, {"float32": 27, "float64": 123}[carrier])  # 2^-100, or 2^-900
    powers = [exponent << place for exponent in range(lowest, max(most >> place, lowest) + 1, 2)]
    return [0, *powers] if least >> place > 0 else powers


def _spread(magnitudes: Patterns, summand: int, carrier: str) -> Patterns:
    """What ``tables.spread`` gives for magnitudes between the thresholds."""
    if carrier not in _FLOATS:
        return magnitudes
    bits, number = _FLOATS[carrier]
    sums = magnitudes.astype(bits).view(number) + np.array([summand], bits).view(number)
    return sums.view(bits).astype(np.uint64)


def _crowd(parts: Patterns) -> int:
    """How often the most frequent of ascending numbers occurs."""
    if not parts.size:
        return 0
    ends = np.flatnonzero(np.diff(parts, append=parts[-1:] + np.uint64(1)))
    return int(np.diff(ends, prepend=-1).max())
