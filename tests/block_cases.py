"""Elements and scales of block-scaled operands, and their products by the kernels and by the definition."""

import numpy as np
from product_cases import assert_same, operand

from lowprec import Arithmetic
from lowprec.formats import Scaled, resolve
from lowprec.kernels import multiply as kernels
from lowprec.reference import BlockScales, product

TENSORS = float(np.float32(0.7310585)), float(np.float32(3.1e-5))


def multiplied(a, b, arithmetic: Arithmetic, scales: BlockScales, *, bias=None, **options) -> np.ndarray:
    """The products of elements over scales by the kernels."""
    out = np.full((a.shape[0], a.shape[1], b.shape[2]), np.nan, a.dtype)
    row = None if bias is None else operand(bias.reshape(1, 1, -1))
    left, right = np.ascontiguousarray(scales.left), np.ascontiguousarray(scales.right)
    held = kernels.BlockScales(scales.size, left, right, float(np.prod(scales.tensors)))
    options = {"bias": row, "scales": held, **options}
    kernels.multiply(operand(a), operand(b), out.ctypes.data, str(a.dtype), arithmetic, **options)
    return out


def assert_defined(a, b, arithmetic: Arithmetic, scales: BlockScales, *, bias=None, seed=None) -> None:
    """The kernels give what the definition says."""
    got = multiplied(a, b, arithmetic, scales, bias=bias, seed=seed or 0)
    want = product(a, b, arithmetic, bias=bias, seed=seed, scales=scales)
    assert_same(got, want, arithmetic.describe())


def elements(rng: np.random.Generator, format: Scaled, *shape: int) -> np.ndarray:
    """Values of the element over the scale 1, the largest and the least more often than others."""
    values = np.concatenate([format.values(), [0.0, -0.0] if format.has_signed_zero else [0.0]])
    ends = [format.max, format.min, format.smallest_subnormal]
    often = rng.choice(ends, shape)
    return np.where(rng.random(shape) < 0.3, often, rng.choice(values, shape)).astype(np.float32)


def group_scales(rng: np.random.Generator, format: Scaled, *shape: int, ends: bool = False) -> np.ndarray:
    """Scales near 1 of so many groups; or from the ends of their range, too."""
    level = format.levels[0] if format.levels else None
    drawn = np.exp2(rng.integers(-3, 4, shape)).astype(np.float64)
    if level is not None:
        drawn *= 1 + rng.integers(0, 2**level.mantissa_bits, shape) * level.eps
    if ends:
        least, most = (level.smallest_subnormal, level.max) if level else (2.0**-127, 2.0**127)
        chosen = rng.choice([least, least * 2, most, most / 2], shape)
        if level is not None and level.exponent_bits == 8:
            chosen = np.minimum(chosen, 2.0**100)
        drawn = np.where(rng.random(shape) < 0.5, chosen, drawn)
    return drawn


def operands(
    rng: np.random.Generator, name: str, shape: tuple[int, int, int, int, int], *, ends: bool = False
):
    """Elements and scales of a batch of so many products, (batch, i, k, j) in groups of a size."""
    batch, rows, depth, columns, size = shape
    format = resolve(name)
    assert isinstance(format, Scaled)
    groups = -(-depth // size)
    scales = BlockScales(
        size,
        group_scales(rng, format, batch, rows, groups, ends=ends),
        group_scales(rng, format, batch, groups, columns, ends=ends),
        TENSORS if len(format.levels) > 1 else (1.0, 1.0),
    )
    return elements(rng, format, batch, rows, depth), elements(rng, format, batch, depth, columns), scales
