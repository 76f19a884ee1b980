"""QPyTorch's numbers rounded to nearest, written out in float64, where every step of it is exact.

A float32 divided by a power of two, and its distance from an integer, have no more bits than float64 holds.
QPyTorch adds a constant in float32 first, which rounds by itself: ``in_float32`` does so too.
"""

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]


def added(x: Array, shift: Array | float, *, in_float32: bool) -> Array:
    """``x``, or what a sum with ``shift`` in float32 leaves of it."""
    if not in_float32:
        return x
    with np.errstate(over="ignore", invalid="ignore"):
        return (x + shift).astype(np.float32).astype(np.float64) - shift


def nearest_float(x: Array, exp: int, man: int, *, in_float32: bool = False) -> Array:
    """Ties away from zero; the top exponent is an ordinary one, but where float32 has no such values."""
    lowest = 2 - 2 ** (exp - 1)
    exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))[1] - 1
    step = np.ldexp(1.0, np.maximum(exponent, lowest) - man)
    shift = np.copysign(2.0**lowest, x)
    seen = np.where(exponent < lowest, added(x, shift, in_float32=in_float32), x)
    y = np.copysign(np.floor(np.abs(seen) / step + 0.5) * step, x)
    largest = np.ldexp(2.0 - 2.0**-man, 2 ** (exp - 1) - (exp == 8))
    return np.where(np.abs(y) > largest, np.copysign(np.inf if exp == 8 else largest, x), y)


def nearest_fixed(
    x: Array, wl: int, fl: int, clamp: bool = True, symmetric: bool = False, *, in_float32: bool = False
) -> Array:
    """Ties to even, then the ends."""
    q = np.rint(added(x * 2.0**fl, 0.5, in_float32=in_float32))
    if clamp:
        q = np.clip(q, -(2.0 ** (wl - 1)) + symmetric, 2.0 ** (wl - 1) - 1)
    return q * 2.0**-fl + 0.0  # no -0


def nearest_block(x: Array, wl: int, dim: int = -1, *, in_float32: bool = False) -> Array:
    """Ties toward +infinity, in steps of the largest magnitude; its exponent is never raised."""
    largest = largest_of_block(x, dim)
    exponent = np.frexp(np.where(largest == 0, 2.0**-126, largest))[1] - 1
    seen = added(x, 6 * 2.0**exponent, in_float32=in_float32)
    step = np.ldexp(1.0, np.maximum(exponent + 2 - wl, -149))
    end = 2.0 ** (wl - 1) - 1
    return np.clip(np.floor(seen / step + 0.5), -end, end) * step + 0.0


def largest_of_block(x: Array, dim: int) -> Array:
    """The largest finite magnitude of each element's block."""
    axes = tuple(axis for axis in range(x.ndim) if axis != dim)
    return np.abs(np.where(np.isfinite(x), x, 0.0)).max(axis=axes, keepdims=True)


def bfloat16_values() -> torch.Tensor:
    """All 65536 of them, as float32."""
    codes = torch.arange(2**16, dtype=torch.int32)
    return (codes << 16).view(torch.float32)


def random_floats(count: int = 2**16) -> torch.Tensor:
    """Arbitrary float32 bits."""
    bits = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    return torch.from_numpy(bits.view(np.float32))


def hard_floats(values: Array) -> torch.Tensor:
    """Ascending values, the ties between them, and the float32 neighbors of both, of either sign."""
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2]).astype(np.float32)
    beside = [np.nextafter(points, np.float32(end)) for end in (-np.inf, np.inf)]
    points = np.concatenate([points, *beside])
    points = points[np.isfinite(points)]
    return torch.from_numpy(np.unique(np.concatenate([points, -points])))
