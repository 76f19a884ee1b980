"""Formats beside each other: what each does to the same values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.explore.data import Data, check_groups, finite_of, left_out, tensors_of
from lowprec.explore.measures import Tally, codes_used, tally
from lowprec.formats import Format, FormatLike, resolve
from lowprec.formats.format import check_bool, check_integer
from lowprec.formats.properties import shortened
from lowprec.modes import Rounding
from lowprec.ops.quantize import check_carrier, check_sources, make_spec
from lowprec.table import Cell, Table

COLUMNS: tuple[str, ...] = (
    "bits", "SQNR (dB)", "max rel. error", "bias", "underflow", "overflow", "entropy", "codes used",
)  # fmt: skip
FORMATS = {
    "bits": ".6g", "SQNR (dB)": ".2f", "max rel. error": ".3g", "bias": ".2g", "underflow": ".3%",
    "overflow": ".3%", "entropy": ".2f", "codes used": ".1%",
}  # fmt: skip


@dataclass(frozen=True)
class Comparison(Table):
    """A table with a row for each format, and the formats themselves.

    Example:
        >>> import torch
        >>> compare(["e2m1", "fixed4f1"], torch.tensor([0.5, 3.0, -6.0])).best.max
        6.0
    """

    ranked: tuple[Format, ...] = ()
    """The formats, the best first."""

    @property
    def best(self) -> Format:
        """The format of the least error; of equally good ones that of the fewest bits, then the first."""
        return self.ranked[0]

    def __str__(self) -> str:
        """The table."""
        return super().__str__()


def compare(
    formats: FormatLike | Iterable[FormatLike],
    data: Data,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    seed: int | None = None,
    by_tensor: bool = False,
) -> Comparison:
    """What each of some formats does to the same values.

    NaN and infinities among the values are counted in the caption, and are no part of anything else; the
    others are quantized as if they were zeros in their places, and are called x, their results y. All sums
    are taken in float64. The columns:

    ``bits``
        of a value: its code, and its share of the scales of its group. A shared exponent without a
        width of its own counts as wide as the carrier's. None for unbounded fixed point.
    ``SQNR (dB)``
        the sum of x² over the sum of (y - x)². Infinite where every y is x. Where a finite x
        overflows to an infinity or NaN it is minus infinity.
    ``max rel. error``
        the largest ``|y - x| / |x|`` of those x that became neither zero nor overflowed; subnormals count.
        None if there are none.
    ``bias``
        the mean of y - x over the root mean square of x. None if all x are zero; NaN where errors are
        infinite in both directions.
    ``underflow``, ``overflow``
        the share of x that are not zero and became zero; that for which overflow fired: they became the
        nearer end, an infinity or NaN, or wrapped around.
    ``entropy``
        of the codes, in bits: what a perfect entropy coder would need for each. Of grouped formats, of the
        elements without their scales.
    ``codes used``
        the share of all codes of the format that are there. None for unbounded fixed point.

    Args:
        formats: One or several formats, names, or torch dtypes. Put ``Scaled`` formats among them to see
            what scales change.
        data: A float32, bfloat16, float16 or float64 tensor of any shape, a NumPy array, or a mapping from
            names to such (a state dict), of which integer and empty ones are left out and counted in the
            caption. Each tensor is quantized by itself and has its own scales.
        rounding: One of the fifteen modes of Rounding.
        random_bits: As for quantize.
        seed: For the stochastic modes; None for 0. The nth tensor of a mapping has ``seed + n``.
        by_tensor: A row for each format and each tensor of a mapping, not one over all of them.

    Returns:
        The table; its ``best`` is the format with the largest SQNR over everything, of equal ones that of
        the fewest bits, then the first.

    Raises:
        TypeError: If data is or holds something else, or an argument has the wrong type.
        ValueError: If no format or no finite value is given, a name is unknown, a carrier cannot hold a
            format, or noise options are given to a mode without noise.

    Example:
        >>> import torch
        >>> compared = compare(["e2m1", "fixed4f1"], torch.tensor([0.5, 3.0, -6.0]))
        >>> print(compared)  # doctest: +ELLIPSIS
        format    bits  SQNR (dB)  max rel. error...
        e2m1         4        inf               0...
        fixed4f1     4      10.54               0...
        3 values, rounded nearest_even.
    """
    check_bool("by_tensor", by_tensor)
    chosen = _formats(formats)
    tensors = tensors_of(data)
    if by_tensor and "" in tensors:
        raise value_error("by_tensor", "be False for a single tensor", by_tensor, "Pass named tensors.")
    mode = Rounding.parse(rounding, "rounding")
    seeds = _seeds(mode, seed, list(tensors))
    tallies = {format: _tallies(tensors, format, mode, random_bits, seeds) for format in chosen}
    totals = {format: total(list(parts.values())) for format, parts in tallies.items()}
    if by_tensor:
        columns = ("format", "tensor", *COLUMNS)
        rows = [
            (shortened(str(format)), name, *cells_of(part, format))
            for format, parts in tallies.items()
            for name, part in parts.items()
        ]
    else:
        columns = ("format", *COLUMNS)
        rows = [(shortened(str(format)), *cells_of(whole, format)) for format, whole in totals.items()]
    ranked = sorted(chosen, key=lambda format: (-totals[format].sqnr, _bits(totals[format])))
    caption = _caption(totals[chosen[0]], len(tensors), mode, left_out(data, tensors))
    return Comparison(columns, tuple(rows), "", caption, FORMATS, tuple(ranked))


def cells_of(counts: Tally, format: Format) -> tuple[Cell, ...]:
    """The cells behind a format's name."""
    number = counts.finite + counts.not_finite
    bits = None if counts.bits is None else counts.bits / number
    return (
        bits,
        counts.sqnr,
        counts.largest_relative,
        counts.bias,
        counts.underflowed / counts.finite if counts.finite else None,
        counts.overflowed / counts.finite if counts.finite else None,
        counts.entropy,
        codes_used(counts, format),
    )


def total(tallies: list[Tally]) -> Tally:
    """The sum."""
    whole = tallies[0]
    for part in tallies[1:]:
        whole = whole + part
    return whole


def unit_of(tensors: Mapping[str, Tensor]) -> int:
    """The exponent of the largest finite magnitude, so that sums do not overflow."""
    return math.frexp(float(abs(finite_of(tensors)).max()))[1]


def _tallies(
    tensors: Mapping[str, Tensor],
    format: Format,
    mode: Rounding,
    random_bits: int | None,
    seeds: Mapping[str, int | None],
) -> dict[str, Tally]:
    """What a format does to each tensor."""
    unit, spec = unit_of(tensors), make_spec(format, mode, random_bits)
    check_groups(tensors, format)
    for x in tensors.values():
        check_carrier(spec, x.dtype)
    return {name: tally(x, format, str(mode), random_bits, seeds[name], unit) for name, x in tensors.items()}


def _formats(formats: Any) -> list[Format]:
    """The formats, each once."""
    if isinstance(formats, Format | str) or type(formats).__name__ == "dtype":
        formats = [formats]
    if not isinstance(formats, Iterable):
        raise type_error("formats", "be formats, names or torch dtypes", formats)
    found = list(dict.fromkeys(resolve(format) for format in formats))
    if not found:
        raise value_error("formats", "name at least one format", formats)
    return found


def _seeds(mode: Rounding, seed: int | None, names: list[str]) -> dict[str, int | None]:
    """The seed of each tensor; None where there is no noise."""
    if seed is not None:
        check_sources(make_spec("e2m1", mode, None), seed, None)
        check_integer("seed", seed, -(2**63), 2**64 - 1)
    if not mode.is_stochastic:
        return dict.fromkeys(names)
    return {name: ((seed or 0) + place) % 2**64 for place, name in enumerate(names)}


def _bits(counts: Tally) -> float:
    """For comparing: formats without a width come last."""
    return math.inf if counts.bits is None else counts.bits


def _caption(whole: Tally, tensors: int, mode: Rounding, missing: str) -> str:
    """What the numbers are of."""
    of = f" of {tensors} tensors" if tensors > 1 else ""
    not_finite = f"{whole.not_finite:,} NaN or infinities are left out" if whole.not_finite else ""
    values = f"{whole.finite:,} values{of}, rounded {mode}"
    return "; ".join(part for part in (values, not_finite, missing) if part) + "."
