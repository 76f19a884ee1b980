"""What a format does to tensors, as sums that can be added up over tensors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.explore.codes import code_count, element_of
from lowprec.formats import BlockFloatingPoint, FixedPoint, Format, Scaled
from lowprec.ops import encode, quantize
from lowprec.ops.gradients import overflowed
from lowprec.ops.quantize import Spec, seed_tensor
from lowprec.ops.scaling import grid_of

Floats = npt.NDArray[np.float64]

_EXPONENTS = {torch.float32: 8, torch.bfloat16: 8, torch.float16: 5, torch.float64: 11}
"""Bits of the carriers' exponents."""
_E8M0 = 8


@dataclass(frozen=True)
class Tally:
    """Sums over finite elements x that became y; all in units of a common power of two."""

    finite: int
    not_finite: int
    signal: float
    """log2 of the sum of x squared."""
    noise: float
    """log2 of the sum of (y - x) squared."""
    difference: float
    """The sum of y - x."""
    largest_relative: float | None
    """The largest |y - x| / |x| of elements that became neither zero nor overflowed."""
    underflowed: int
    """Elements that are not zero and became zero."""
    overflowed: int
    bits: float | None
    """Of all elements with the scales of their groups; None if codes have no width."""
    codes: tuple[tuple[int, int], ...]
    """Codes and how often they are there; for formats without codes the bits of values."""

    def __add__(self, other: "Tally") -> "Tally":
        """That of both."""
        relative = [x for x in (self.largest_relative, other.largest_relative) if x is not None]
        counts = dict(self.codes)
        for code, count in other.codes:
            counts[code] = counts.get(code, 0) + count
        return Tally(
            self.finite + other.finite,
            self.not_finite + other.not_finite,
            _log_of_sum(self.signal, other.signal),
            _log_of_sum(self.noise, other.noise),
            self.difference + other.difference,
            max(relative, default=None),
            self.underflowed + other.underflowed,
            self.overflowed + other.overflowed,
            None if self.bits is None or other.bits is None else self.bits + other.bits,
            tuple(sorted(counts.items())),
        )

    @property
    def sqnr(self) -> float:
        """The signal's power over that of the error, in dB; infinite where there is no error."""
        if self.noise == -math.inf:
            return math.inf
        if self.signal == -math.inf or self.noise == math.inf:
            return -math.inf
        return 10 * math.log10(2) * (self.signal - self.noise)

    @property
    def bias(self) -> float | None:
        """The mean error over the root mean square of the values; None where they are all zero."""
        if self.signal == -math.inf or not self.finite:
            return None
        rms = math.exp2((self.signal - math.log2(self.finite)) / 2)
        return self.difference / self.finite / rms

    @property
    def entropy(self) -> float | None:
        """Of the distribution of codes, in bits."""
        if not self.finite:
            return None
        shares = np.array([count for _, count in self.codes]) / self.finite
        return max(0.0, float(-(shares * np.log2(shares)).sum()))  # of equal ones the first: not -0.0


def tally(
    x: Tensor, format: Format, rounding: str, random_bits: int | None, seed: int | None, unit: int
) -> Tally:
    """What a format does to one tensor; sums are taken of x times 2 to ``-unit``."""
    finite = x.isfinite()
    filled = x.where(finite, 0.0)  # zeros have no say in the scales of groups, as NaN and infinities have not
    options: dict[str, Any] = {"rounding": rounding, "random_bits": random_bits, "seed": seed}
    quantized = quantize(filled, format, **options)
    spec = Spec(str(format), rounding, 32 if random_bits is None else random_bits)
    seeds = None if seed is None else seed_tensor(x, seed)
    over = overflowed(filled, seeds, spec, 0).numpy()[finite.numpy()]
    kept = x[finite].double().numpy()
    y = quantized[finite].double().numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        error = y - kept
        under = (y == 0) & (kept != 0)
        regular = ~(under | over) & (kept != 0)
        relative = np.abs(error[regular] / kept[regular])
        difference = float(np.ldexp(error, -unit).sum())
    return Tally(
        finite=kept.size,
        not_finite=x.numel() - kept.size,
        signal=log_of_squares(kept, unit),
        noise=log_of_squares(error, unit),
        difference=difference,
        largest_relative=float(relative.max()) if relative.size else None,
        underflowed=int(under.sum()),
        overflowed=int(over.sum()),
        bits=bits_of(x, format),
        codes=_codes(filled, quantized, finite, format, options),
    )


def log_of_squares(x: Floats, unit: int) -> float:
    """log2 of the sum of squares of x times 2 to ``-unit``; no square overflows or vanishes."""
    largest = float(np.abs(x).max(initial=0.0))
    if not largest or not math.isfinite(largest):
        return -math.inf if not largest else math.inf
    _, exponent = math.frexp(largest)
    return math.log2(float(np.square(np.ldexp(x, -exponent)).sum())) + 2 * (exponent - unit)


def bits_of(x: Tensor, format: Format) -> float | None:
    """The bits of codes, scales and zero points of a tensor."""
    if isinstance(format, FixedPoint) and not format.is_bounded:
        return None
    return x.numel() * format.bits + scale_bits(tuple(x.shape), format, x.dtype)


def scale_bits(shape: tuple[int, ...], format: Format, carrier: torch.dtype) -> int:
    """The bits of the scales of a tensor.

    A shared exponent without a width of its own takes that of the carrier's; a zero point takes the bits of
    an element.
    """
    if isinstance(format, BlockFloatingPoint):
        return math.prod(grid_of(format, shape)) * (format.exponent_bits or _EXPONENTS[carrier])
    if not isinstance(format, Scaled):
        return 0
    grid = grid_of(format, shape)
    if isinstance(format.scale, Scaled):
        width, outer = format.scale.element.bits, scale_bits(grid, format.scale, carrier)
    else:
        width, outer = format.levels[0].bits if format.levels else _E8M0, 0
    return math.prod(grid) * (width + format.zero_point * format.element.bits) + outer


def codes_used(counts: Tally, format: Format) -> float | None:
    """The share of all codes that are there; None for a format without codes."""
    element = element_of(format)
    if isinstance(element, FixedPoint) and not element.is_bounded:
        return None
    return len(counts.codes) / code_count(element)


def _codes(
    filled: Tensor, quantized: Tensor, finite: Tensor, format: Format, options: Mapping[str, Any]
) -> tuple[tuple[int, int], ...]:
    """How often each code is there."""
    if isinstance(format, FixedPoint) and not format.is_bounded:
        codes = quantized.double().numpy().view(np.uint64)
    else:
        encoded = encode(filled, format, **options)
        codes = (encoded[0] if isinstance(encoded, tuple) else encoded).numpy()
    kept = codes[finite.numpy()]
    if format_is_narrow(format):
        counts = np.bincount(kept.ravel())
        found = np.flatnonzero(counts)
        return tuple(zip(found.tolist(), counts[found].tolist(), strict=True))
    values, counts = np.unique(kept, return_counts=True)
    return tuple(zip(values.tolist(), counts.tolist(), strict=True))


def format_is_narrow(format: Format) -> bool:
    """Whether codes are small enough to be counted one by one."""
    return not (isinstance(format, FixedPoint) and not format.is_bounded) and format.bits <= 16


def _log_of_sum(a: float, b: float) -> float:
    """log2(2^a + 2^b)."""
    return float(np.logaddexp2(a, b))
