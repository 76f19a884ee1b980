"""Which values and magnitudes are there in data, and what a format makes of them."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lowprec.explore.codes import element_of, kind_of, values_of_codes
from lowprec.explore.compare import total, unit_of
from lowprec.explore.data import Data, check_groups, tensors_of
from lowprec.explore.measures import tally
from lowprec.formats import BlockFloatingPoint, FloatingPoint, Format, Scaled, TabledFormat
from lowprec.ops import encode, quantize, scales
from lowprec.ops.gradients import overflowed
from lowprec.ops.quantize import make_spec
from lowprec.ops.scaling import spread

FEW = 32
"""Values of a format that are counted one by one in a histogram."""
ZONES = ("zero", "subnormal", "normal", "overflow")
"""What a magnitude becomes."""

Floats = npt.NDArray[np.float64]


class Usage(NamedTuple):
    """How often each code is there, in the order of their values."""

    values: Floats
    """NaN and infinities are left out; -0 stands before 0."""
    counts: npt.NDArray[np.int64]
    entropy: float
    used: float
    """The share of codes that are there."""


class Magnitudes(NamedTuple):
    """A histogram of log2 of magnitudes, in units of the scale."""

    octaves: list[int]
    """The exponents of two at which bins begin."""
    counts: dict[str, list[int]]
    """For each zone."""
    zeros: int
    """Values that are zero themselves."""
    total: int

    def share(self, zone: str) -> float:
        """Of all finite values, the zeros among them."""
        return sum(self.counts[zone]) / self.total


def usage(data: Data, format: Format) -> Usage:
    """How often each code is there after rounding to nearest even."""
    values = values_of_codes(format)
    tensors = tensors_of(data)
    check_groups(tensors, format)
    unit = unit_of(tensors)
    whole = total([tally(x, format, "nearest_even", None, None, unit) for x in tensors.values()])
    counts = np.zeros(len(values), np.int64)
    for code, count in whole.codes:
        counts[code] = count
    element = element_of(format)
    kinds = [kind_of(code, value, element) for code, value in enumerate(values.tolist())]
    there = [kind not in ("unused", "infinity", "NaN") for kind in kinds]
    shown = np.flatnonzero(np.array(there) | (counts > 0))
    order = shown[np.lexsort((~np.signbit(values[shown]), values[shown]))]
    return Usage(values[order], counts[order], float(whole.entropy or 0.0), len(whole.codes) / len(values))


def magnitudes(data: Data, format: Format) -> Magnitudes:
    """The magnitudes of finite values by octave, and what becomes of them under rounding to nearest even."""
    element = element_of(format)
    found: list[tuple[Floats, npt.NDArray[np.int64]]] = []
    tensors = tensors_of(data)
    check_groups(tensors, format)
    for x in tensors.values():
        filled, finite = x.where(x.isfinite(), 0.0), x.isfinite().numpy()
        unit = np.abs(in_units(filled, format)[finite])
        y = np.abs(in_units_of(filled, quantize(filled, format), format)[finite])
        over = overflowed(filled, None, make_spec(format, "nearest_even", None), 0).numpy()[finite]
        zone = np.full(unit.shape, 2)
        if isinstance(element, FloatingPoint):
            zone[y < element.smallest_normal * (1 - 2.0**-20)] = 1
        zone[y == 0] = 0
        zone[over] = 3
        found.append((unit, zone))
    unit, zone = (np.concatenate(parts) for parts in zip(*found, strict=True))
    _, exponents = np.frexp(unit)
    there = unit > 0
    octaves = exponents[there] - 1
    if not there.any():
        return Magnitudes([0], {name: [0] for name in ZONES}, unit.size, unit.size)
    low, high = int(octaves.min()), int(octaves.max())
    counts = {
        name: np.bincount(octaves[zone[there] == place] - low, minlength=high - low + 1).tolist()
        for place, name in enumerate(ZONES)
    }
    return Magnitudes(list(range(low, high + 1)), counts, int(unit.size - there.sum()), unit.size)


def in_units(x: Tensor, format: Format) -> Floats:
    """Numbers over the scales of their groups, as the element has to round them."""
    return in_units_of(x, x, format)


def in_units_of(x: Tensor, y: Tensor, format: Format) -> Floats:
    """Numbers y over the scales that the groups of x have."""
    wide = y.double()
    if isinstance(format, BlockFloatingPoint):
        wide = wide / spread(encode(x, format)[1].double(), format, x.shape)
    elif isinstance(format, Scaled):
        wide = _over_scales(x, wide, format)
    return wide.numpy()


def _over_scales(x: Tensor, wide: Tensor, format: Scaled) -> Tensor:
    """The same of a scaled format, moved by the zero points."""
    levels: Any = scales(x, format)
    levels = levels if isinstance(levels, tuple) else (levels,)
    first = _known(levels[0])
    if isinstance(format.scale, Scaled):
        first = first * spread(_known(levels[1]), format.scale, first.shape)
    wide = wide / spread(first, format, x.shape)
    return wide + spread(levels[1].double(), format, x.shape) if format.zero_point else wide


def _known(level: Tensor) -> Tensor:
    """Scales in float64."""
    return level.float().double() if level.element_size() < 4 else level.double()


def few_values(format: Format) -> bool:
    """Whether a histogram counts the values of a format one by one."""
    element = element_of(format)
    return (isinstance(element, TabledFormat) or element.bits <= 5) and len(element.values()) <= FEW


def turns(format: Format) -> list[float]:
    """Where rounding to nearest turns from each finite value to the next."""
    element = element_of(format)
    if isinstance(element, TabledFormat):
        return [float(turn) for turn in element.boundaries()]
    exact = [Fraction(value) for value in element.values().tolist()]
    return [float((low + high) / 2) for low, high in pairwise(exact)]


def values_and_counts(data: Data, format: Format) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The finite values of a format, and how often each is there; both zeros count as one."""
    found = usage(data, format)
    counts: Mapping[float, int] = {}
    merged = dict(counts)
    for value, count in zip(found.values.tolist(), found.counts.tolist(), strict=True):
        merged[value + 0.0] = merged.get(value + 0.0, 0) + count
    values = [value for value in merged if np.isfinite(value)]
    return np.array(values), np.array([merged[value] for value in values])


def bins(counts: npt.NDArray[np.int64], most: int) -> tuple[npt.NDArray[np.int64], int]:
    """Sums of so many neighbors that no more than ``most`` are left, and how many that is."""
    width = -(-len(counts) // most)
    padded = np.pad(counts, (0, -len(counts) % width))
    return padded.reshape(-1, width).sum(1), width
