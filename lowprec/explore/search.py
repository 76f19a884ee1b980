"""The format of a width that does least to some values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.explore.candidates import (
    FAMILIES,
    NARROWEST,
    WIDEST,
    Candidate,
    Range,
    granularities,
    over_scales,
    plain,
)
from lowprec.explore.compare import COLUMNS, FORMATS, Comparison, cells_of, total, unit_of
from lowprec.explore.data import Data, finite_of, left_out, missing_dimension, tensors_of
from lowprec.explore.measures import scale_bits, tally
from lowprec.formats import FixedPoint, FloatingPoint, Format, GroupedFormat, Scaled
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.formats.format import check_integer
from lowprec.formats.granularity import Granularity
from lowprec.formats.properties import shortened
from lowprec.ops import quantize
from lowprec.ops.carriers import CARRIERS

Floats = npt.NDArray[np.float64]

METRICS: dict[str, str] = {
    "sqnr": "the sum of squared errors",
    "mean_absolute": "the mean of |y - x|",
    "max_absolute": "the largest |y - x|",
    "mean_relative": "the mean of |y - x| / |x| where x is not zero",
}
_SPARE = 0.01
"""Bits of a value's share of scales that are not held against a format."""


class Found(NamedTuple):
    """A format that was measured."""

    error: float
    bits: float
    order: tuple[Any, ...]
    """Among equals the simplest comes first."""
    format: Format


def search(
    data: Data,
    bits: float = 6,
    *,
    families: Sequence[str] = FAMILIES,
    metric: str = "sqnr",
    scaled: Any = (),
    rows: int = 10,
) -> Comparison:
    """The formats of so many bits that round some values with the least error.

    All splits of a width are tried, and of each all ranges that could win: fixed point with any number of
    fraction bits, unsigned too where no value is negative; floating point in which every code is a finite
    number (specials ``"finite"``) with any bias; posits of 0 to 3 exponent bits; logarithmic numbers. Over
    scales: symmetric fixed point and floating point, with float32 scales by amax for a tensor or
    channels; with e8m0 by floor and rceil, and e4m3fn over float32 by amax, for groups and blocks.

    Every value counts and every error is that of quantize to nearest even: nothing is sampled. A range is
    left out only if it cannot win: wider than the data (it has no value there that a narrower one lacks), or
    so narrow that what it cuts off is already more than the error of a format that was found. Of formats
    with equal errors the one of the fewest bits comes first, for which narrower formats are tried if there
    is one without error; then one without scales, then in the order of the default ``families``, then that
    of the fewest exponent bits, then that whose range is nearest to 1.

    NaN and infinities among the values have no say. A format that a carrier of the data cannot hold is left
    out.

    Args:
        data: As for compare; pass a part, as ``x[::10]``, to search faster.
        bits: The most bits of a value, 2 to 16, with its share of scales; a share of less than a
            hundredth of a bit is not held against a format. 4.25 allows 4 bits over groups of 32.
        families: Some of ``"fixed"``, ``"floating"``, ``"posit"``, ``"logarithmic"``.
        metric: ``"sqnr"``, ``"mean_absolute"``, ``"max_absolute"`` or ``"mean_relative"`` (where x is not
            zero).
        scaled: Granularities that are tried besides formats without scales, or their names:
            ``PerGroup(32)``, ``"group32"``, ``["tensor", "channel0"]``.
        rows: How many formats to show.

    Returns:
        The columns of compare and the error of the metric, a row for each of the best formats, the best
        first: ``best`` is the format itself.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, a name is unknown, there is no finite value, or no format of
            these families has so few bits.

    Example:
        >>> import torch
        >>> str(search(torch.tensor([0.25, -1.75, 1.5]), 6).best)
        'fixed4f2'
    """
    chosen = _families(families)
    if metric not in METRICS:
        raise value_error("metric", f"be one of {', '.join(METRICS)}", metric)
    if isinstance(bits, bool) or not isinstance(bits, int | float):
        raise type_error("bits", "be a number", bits)
    if not NARROWEST <= bits <= WIDEST:
        raise value_error("bits", f"lie between {NARROWEST} and {WIDEST}", bits)
    check_integer("rows", rows, 1, 1000)
    kinds = granularities(scaled)
    trial = _Trial(tensors_of(data), metric)
    _check_scaled(kinds, trial.tensors)
    found = _found(trial, float(bits), chosen, kinds)
    if not found:
        raise value_error("families", "have a format that the data's dtype holds", list(families))
    best = sorted(found, key=lambda one: one[:3])[:rows]
    return _answer(trial, best, metric, left_out(data, trial.tensors))


class _Trial:
    """Data that formats are tried on."""

    def __init__(self, tensors: Mapping[str, Tensor], metric: str) -> None:
        self.tensors, self.metric = tensors, metric
        values = finite_of(tensors)
        self.range = Range(float(values.min()), float(values.max()))
        self.unit = unit_of(tensors)
        self._above, self._below = np.sort(values[values > 0])[::-1], np.sort(values[values < 0])
        self._nonzero = int(np.count_nonzero(values))
        self._count = values.size
        self.size = sum(x.numel() for x in tensors.values())
        self.tried = 0
        self._finite = {name: x[x.isfinite()] for name, x in tensors.items()}

    def holds(self, format: Format) -> bool:
        """Whether all carriers hold a format."""
        return all(format.missing_in(RANGES[CARRIERS[x.dtype]]) is None for x in self.tensors.values())

    def error(self, format: Format) -> float:
        """The error of the metric, in units of a power of two."""
        self.tried += 1
        parts = []
        for name, x in self.tensors.items():
            if isinstance(format, GroupedFormat):
                finite = x.isfinite()
                y = quantize(x, format)[finite]
            else:
                y = quantize(self._finite[name], format)
            parts.append(self._measured(self._finite[name].double().numpy(), y.double().numpy()))
        return self._joined(parts)

    def cut_off(self, format: Format) -> float:
        """The error of what lies past the ends of a format: no rounding has less."""
        high, low = format.max, format.min
        above = self._above[: int(np.searchsorted(-self._above, -high))]
        below = self._below[: int(np.searchsorted(self._below, low))]
        pairs = [(above, np.full_like(above, high)), (below, np.full_like(below, low))]
        return self._joined([self._measured(x, y) for x, y in pairs])

    def width_over(self, format: Scaled, bits: float) -> int:
        """How wide elements over such scales may be."""
        shares = [scale_bits(tuple(x.shape), format, x.dtype) for x in self.tensors.values()]
        return math.floor(bits - sum(shares) / self.size + _SPARE)

    def bits(self, format: Format) -> float:
        """The bits of a value with its share of scales."""
        scales = sum(scale_bits(tuple(x.shape), format, x.dtype) for x in self.tensors.values())
        return format.bits + scales / self.size

    def _measured(self, x: Floats, y: Floats) -> float:
        """The part that some values have in the error."""
        with np.errstate(over="ignore"):  # as where data is tiny and a posit's least value is not
            error = np.ldexp(np.abs(y - x), -self.unit)
        if not error.size:
            return 0.0
        if self.metric == "sqnr":
            with np.errstate(over="ignore"):
                return float(np.square(error).sum())
        if self.metric == "max_absolute":
            return float(error.max())
        if self.metric == "mean_absolute":
            return float(error.sum()) / self._count
        kept = x != 0
        if not kept.any():
            return 0.0
        with np.errstate(over="ignore"):
            return float((np.abs(y - x)[kept] / np.abs(x[kept])).sum()) / self._nonzero

    def _joined(self, parts: list[float]) -> float:
        """The error of all parts."""
        return max(parts, default=0.0) if self.metric == "max_absolute" else math.fsum(parts)


def _found(trial: _Trial, bits: float, families: Sequence[str], kinds: Sequence[Granularity]) -> list[Found]:
    """What was measured."""
    width = int(bits)
    found: list[Found] = []
    for candidate in plain(width, families, trial.range):
        found += _descended(trial, candidate, _least(found))
    for granularity in kinds:
        for candidate in over_scales(granularity, families, lambda f: trial.width_over(f, bits)):
            found += _descended(trial, candidate, math.inf)
    if _least(found) == 0:
        for narrower in range(NARROWEST, width):
            for candidate in plain(narrower, families, trial.range):
                found += _descended(trial, candidate, 0.0)
    return found


def _least(found: Sequence[Found]) -> float:
    """The least error so far."""
    return min((one.error for one in found), default=math.inf)


def _descended(trial: _Trial, candidate: Candidate, least: float) -> Iterator[Found]:
    """A candidate's formats, from wide to narrow ranges, as long as one may have less than an error."""
    for format in candidate.formats:
        if not trial.holds(format):
            continue
        # The ends of logarithmic numbers depend on the carrier; they and posits have one range anyway.
        if isinstance(format, FixedPoint | FloatingPoint) and trial.cut_off(format) > least:
            return
        error = trial.error(format)
        least = min(least, error)
        yield Found(error, trial.bits(format), _order(candidate.family, format), format)


def _order(family: str, format: Format) -> tuple[Any, ...]:
    """What makes a format simpler than an equally good one."""
    element = format.element if isinstance(format, Scaled) else format
    exponent_bits = getattr(element, "exponent_bits", getattr(element, "integer_bits", 0))
    off_center = abs(math.log2(element.max) + math.log2(element.smallest_normal))
    return isinstance(format, Scaled), FAMILIES.index(family), exponent_bits, off_center, str(format)


def _answer(trial: _Trial, best: Sequence[Found], metric: str, missing: str) -> Comparison:
    """The best formats as a table."""
    rows, formats = [], [one.format for one in best]
    for one in best:
        parts = [tally(x, one.format, "nearest_even", None, None, trial.unit) for x in trial.tensors.values()]
        with np.errstate(over="ignore"):
            unit = trial.unit if metric in ("mean_absolute", "max_absolute") else 0
            error = float(np.ldexp(one.error, unit))
        named = () if metric == "sqnr" else (error,)
        rows.append((shortened(str(one.format)), *named, *cells_of(total(parts), one.format)))
    columns = ("format", *(() if metric == "sqnr" else (metric.replace("_", " "),)), *COLUMNS)
    measured = f"of {trial.tried:,} formats that were measured"
    caption = f"The least error first, which is {METRICS[metric]}, {measured}{'; ' * bool(missing)}{missing}."
    return Comparison(columns, tuple(rows), "", caption, FORMATS, tuple(formats))


def _check_scaled(kinds: Sequence[Granularity], tensors: Mapping[str, Tensor]) -> None:
    """Refuse groups along dimensions that the data has not."""
    for kind, x in product(kinds, tensors.values()):
        if missing := missing_dimension(x, Scaled("e2m1", "float32", kind)):
            must = f"name granularities that fit into the shape {tuple(x.shape)}"
            raise value_error("scaled", must, str(kind), missing)


def _families(families: Any) -> list[str]:
    """The families that were asked for."""
    chosen = [families] if isinstance(families, str) else families
    if not isinstance(chosen, Sequence):
        raise type_error("families", "be a sequence of names", families)
    if not chosen or any(name not in FAMILIES for name in chosen):
        raise value_error("families", f"be some of {', '.join(FAMILIES)}", families)
    return list(chosen)
