"""Scales found by trying: those with the least squared error, decided exactly."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.formats import Scaled, resolve
from lowprec.kernels import dispatch
from lowprec.modes import ScaleRule
from lowprec.ops import scaling

Floats = npt.NDArray[np.float64]


def found_by_trying(x: Tensor, carrier: str, format: str) -> tuple[npt.NDArray[Any], ...] | None:
    """The scales that no formula gives, as codes; None for formats whose rule has one."""
    parsed = resolve(format)
    if not isinstance(parsed, Scaled) or parsed.scale_rule is not ScaleRule.MSE or x.numel() == 0:
        return None
    return least_squared_error(x, parsed, carrier)


def least_squared_error(x: Tensor, format: Scaled, carrier: str) -> tuple[npt.NDArray[Any], ...]:
    """The codes of the scales of each group of a tensor that is not empty, under the rule ``mse``."""
    shape = tuple(x.shape)
    values = _widened(x.contiguous(), carrier)
    members = _members(values, format, shape)
    finite = np.isfinite(members)
    kept = np.where(finite, members, 0.0)
    largest = np.abs(kept).max(axis=1)
    _, exponents = np.frexp(largest)
    lowest, highest = format.lowest_group_exponent, format.highest_group_exponent
    floor = np.where(largest > 0, exponents - 1 - format.element_exponent, lowest - 1)
    # From the largest to the smallest: of equally good candidates the first one stays.
    candidates = [np.clip(floor + step, lowest, highest) for step in (1, 0, -1)]
    rounded = []
    for candidate in candidates:
        quantized = np.empty_like(values)
        codes = _codes(candidate, format)
        dispatch.quantize(
            values.ctypes.data, quantized.ctypes.data, "float64", shape, _steps(shape), _steps(shape),
            str(format), "nearest_even", scales=(codes,),
        )  # fmt: skip
        rounded.append(np.where(finite, _members(quantized, format, shape), 0.0))
    best, chosen = rounded[0], candidates[0].copy()
    for candidate, other in zip(candidates[1:], rounded[1:], strict=True):
        better = _closer(kept, other, best)
        chosen[better], best[better] = candidate[better], other[better]
    return (_codes(chosen, format),)


def _closer(x: Floats, other: Floats, best: Floats) -> npt.NDArray[np.bool_]:
    """In which rows ``other`` has a smaller squared error than ``best``, exactly."""
    errors, bounds = [], []
    # A common power of two, so that no square leaves the range of float64.
    _, exponents = np.frexp(np.abs(x).max(axis=1, keepdims=True))
    for rounded in (other, best):
        with np.errstate(invalid="ignore"):
            difference = x - np.where(np.isfinite(rounded), rounded, np.inf)  # exact
        squares = np.square(np.ldexp(difference, -exponents))
        total = squares.sum(axis=1)
        errors.append(total)
        bounds.append(total * (x.shape[1] + 4) * 2.0**-52 + 2.0**-1000)
    better = errors[0] < errors[1]
    differ = (other != best).any(axis=1)
    with np.errstate(invalid="ignore"):
        unsure = differ & (np.abs(errors[0] - errors[1]) <= bounds[0] + bounds[1])
    for row in np.flatnonzero(unsure):
        exact = [_squared_error(x[row], rounded[row]) for rounded in (other, best)]
        better[row] = exact[0] < exact[1]
    return better & differ


def _squared_error(x: Floats, rounded: Floats) -> Fraction | float:
    """The sum of squares as a fraction; infinite where a value did not stay finite."""
    if not np.isfinite(rounded).all():
        return float("inf")
    pairs = zip(x.tolist(), rounded.tolist(), strict=True)
    return sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))


def _widened(x: Tensor, carrier: str) -> Floats:
    """The numbers in float64, by integers: hardware may take subnormals for zeros."""
    if carrier == "float64":
        return x.numpy().copy()
    patterns = x.view({2: torch.uint16, 4: torch.uint32}[x.element_size()]).numpy()
    out = np.empty(x.shape, np.float64)
    name = {"float32": "binary32", "float16": "binary16"}.get(carrier, carrier)
    dispatch.encode(
        patterns.ctypes.data, out.ctypes.data, "float64", str(patterns.dtype), x.numel(), name, decode=True
    )
    return out


def _members(values: Floats, format: Scaled, shape: tuple[int, ...]) -> Floats:
    """The elements of each group as a row, short groups filled up with zeros."""
    tiles = format.granularity.tiles(shape)
    grid = scaling.grid_of(format, shape)
    room = np.zeros([count * tile for count, tile in zip(grid, tiles, strict=True)])
    room[tuple(slice(0, size) for size in shape)] = values.reshape(shape)
    split = room.reshape([n for count, tile in zip(grid, tiles, strict=True) for n in (count, tile)])
    order = [*range(0, 2 * len(shape), 2), *range(1, 2 * len(shape), 2)]
    return split.transpose(order).reshape(int(np.prod(grid)), -1)


def _codes(exponents: npt.NDArray[Any], format: Scaled) -> npt.NDArray[Any]:
    """The codes of scales that are powers of two."""
    if not format.levels:
        return (exponents + 127).astype(np.uint8)
    powers = np.ldexp(1.0, exponents)
    level = format.levels[0]
    codes = np.empty(powers.size, f"uint{next(width for width in (8, 16, 32) if level.bits <= width)}")
    dispatch.encode(powers.ctypes.data, codes.ctypes.data, "float64", str(codes.dtype), powers.size, level)
    return codes


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()
