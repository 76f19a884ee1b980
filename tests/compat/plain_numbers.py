"""QPyTorch's numbers rounded to nearest, written out in float64, where every step of it is exact.

A float32 divided by a power of two, and its distance from an integer, have no more bits than float64 holds.
"""

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]
_ALL_INTEGERS = 2.0**30
"""So far from zero that a float32 counted in steps needs no rounding, unless its own is coarser."""


def nearest_float(x: Array, exp: int, man: int) -> Array:
    """Ties away from zero; the top exponent is an ordinary one, but where float32 has no such values."""
    bias = 2 ** (exp - 1) - 1
    exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))[1] - 1
    step = np.ldexp(1.0, np.maximum(exponent, 1 - bias) - man)
    y = np.copysign(np.floor(np.abs(x) / step + 0.5) * step, x)
    largest = np.ldexp(2.0 - 2.0**-man, 2**exp - 1 - bias - (exp == 8))
    return np.where(np.abs(y) > largest, np.copysign(np.inf if exp == 8 else largest, x), y)


def nearest_fixed(x: Array, wl: int, fl: int, clamp: bool = True, symmetric: bool = False) -> Array:
    """Ties to even, then the ends."""
    q = np.rint(x * 2.0**fl)
    if clamp:
        q = np.clip(q, -(2.0 ** (wl - 1)) + symmetric, 2.0 ** (wl - 1) - 1)
    return q * 2.0**-fl + 0.0  # no -0


def nearest_block(x: Array, wl: int, dim: int = -1) -> Array:
    """Ties toward +infinity, in steps of the largest magnitude; its exponent is never raised."""
    axes = tuple(axis for axis in range(x.ndim) if axis != dim)
    finite = np.where(np.isfinite(x), x, 0.0)
    largest = np.abs(finite).max(axis=axes, keepdims=True)
    step = np.ldexp(1.0, np.maximum(np.frexp(np.where(largest == 0, 1.0, largest))[1] + 1 - wl, -149))
    end = 2.0 ** (wl - 1) - 1
    return np.clip(np.floor(x / step + 0.5), -end, end) * step + 0.0


def rounded_by_float32(x: Array, shift: Array | float) -> npt.NDArray[np.bool_]:
    """Where a sum that QPyTorch forms in float32 before it rounds is itself not exact."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = x + shift
        return total != total.astype(np.float32)


def bfloat16_values() -> torch.Tensor:
    """All 65536 of them, as float32."""
    codes = torch.arange(2**16, dtype=torch.int32)
    return (codes << 16).view(torch.float32)


def hard_floats(values: Array) -> torch.Tensor:
    """Ascending values, the ties between them, and the float32 neighbors of both, of either sign."""
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2]).astype(np.float32)
    points = np.concatenate(
        [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, -np.float32(np.inf))]
    )
    points = points[np.isfinite(points)]
    return torch.from_numpy(np.unique(np.concatenate([points, -points])))
