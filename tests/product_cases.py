"""Products by the kernels and by the definition, and operands that make them hard."""

import numpy as np

from lowprec import Arithmetic
from lowprec.formats import FixedPoint, FloatingPoint, resolve
from lowprec.kernels.multiply import multiply
from lowprec.kernels.operands import Operand, pack
from lowprec.kernels.paths import Path, path_of
from lowprec.reference import product


def operand(x: np.ndarray) -> Operand:
    """An array as kernels take it."""
    return Operand(x.ctypes.data, str(x.dtype), x.shape, tuple(step // x.itemsize for step in x.strides))


def multiplied(a: np.ndarray, b: np.ndarray, arithmetic: Arithmetic, *, bias=None, **options) -> np.ndarray:
    """The products of two batches by the kernels."""
    out = np.full((a.shape[0], a.shape[1], b.shape[2]), np.nan, a.dtype)
    row = None if bias is None else operand(bias.reshape(1, 1, -1))
    multiply(operand(a), operand(b), out.ctypes.data, str(a.dtype), arithmetic, bias=row, **options)
    return out


def path(a: np.ndarray, b: np.ndarray, arithmetic: Arithmetic) -> Path:
    """How the kernels would compute."""
    return path_of(arithmetic, pack(operand(a), 1)[1], pack(operand(b), 1)[1])


def assert_same(got: np.ndarray, want: np.ndarray, what: object = "") -> None:
    """Equal numbers with equal signs; NaN is NaN."""
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
    assert same.all(), f"{what}: {(~same).sum()} of {same.size} differ, {got[~same][:3]} {want[~same][:3]}"


def assert_defined(a: np.ndarray, b: np.ndarray, arithmetic: Arithmetic, *, bias=None, seed=None) -> None:
    """The kernels give what the definition says."""
    got = multiplied(a, b, arithmetic, bias=bias, seed=seed or 0)
    assert_same(got, product(a, b, arithmetic, bias=bias, seed=seed), arithmetic.describe())


def raw(rng: np.random.Generator, *shape: int, spread: int = 3) -> np.ndarray:
    """Float32 numbers of full significands over some binades."""
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-spread, spread + 1, shape))
    return x.astype(np.float32)


def hard(rng: np.random.Generator, name: str, rows: int = 6, columns: int = 5, depth: int = 16):
    """Factors whose sums lie on, and next to, what decides how a format rounds.

    Terms come in threes: a value of the format, half of its last place or a little less or more, as a
    product of factors of 24 bits, and something that cancels.
    """
    format = resolve(name)
    step = format.step if isinstance(format, FixedPoint) else None
    a, b = np.ones((1, rows, depth), np.float32), np.ones((1, depth, columns), np.float32)
    bits = format.mantissa_bits + 1 if isinstance(format, FloatingPoint) else format.bits
    for i in range(rows):
        for k in range(0, depth - 2, 3):
            whole = int(rng.integers(1 << (bits - 1), 1 << bits))
            place = float(step) if step is not None else 2.0 ** int(rng.integers(-8, 4))
            a[0, i, k] = whole * place * rng.choice([1, -1])
            a[0, i, k + 1] = place / 2 * rng.choice([1 + 2.0**-23, 1, 1 - 2.0**-24, 0.5])
            a[0, i, k + 2] = rng.choice([-a[0, i, k], 2.0**-60, -0.0, place / 2, 3e38, 1e-45])
    near = rng.choice([1, 1 - 2.0**-24, 1 + 2.0**-23, -1, 0.5], (1, depth, columns))
    b[:] = near
    return a, b
