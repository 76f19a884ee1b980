"""Operands that make single operations hard, and their results by the kernels."""

from itertools import product

import numpy as np

from lowprec.kernels import dispatch
from lowprec.modes import Rounding

OPERATIONS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}


def edges(dtype: type) -> np.ndarray:
    """Numbers at the ends of a type and of narrow formats, of either sign, and what is no number."""
    info = np.finfo(dtype)
    last = 2.0**-info.nmant
    found = [
        0, 1, 1 + last, 3, 1 / 3, 0.1, 6, 240, 448, 464, 57344, 61440, 1 / last, 1 - last, info.max,
        float(info.max) / 2, info.tiny, float(info.tiny) * (1 - last), info.smallest_subnormal,
        3 * float(info.smallest_subnormal), np.inf, np.nan,
    ]  # fmt: skip
    return np.array([sign * float(dtype(x)) for x in found for sign in (1, -1)], dtype)


def operands(operation: str, dtype: type, seed: int, count: int = 200) -> list[np.ndarray]:
    """Operands of one operation: edges, all magnitudes, near ties, sums that cancel."""
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    with np.errstate(all="ignore"):
        signs = rng.choice([-1, 1], 2 * count)
        exponents = np.r_[
            rng.integers(info.minexp - info.nmant, info.maxexp, count), rng.integers(-9, 9, count)
        ]
        spread = (np.ldexp(1 + rng.random(2 * count), exponents) * signs).astype(dtype)
        if operation == "sqrt":
            return [np.r_[edges(dtype), spread, np.abs(spread), (spread * spread)]]
        pairs = np.array(list(product(edges(dtype), repeat=2)), dtype)
        pairs = pairs[rng.permutation(len(pairs))[: 2 * count]]
        coarse = (rng.integers(-64, 65, 2 * count) * 2.0 ** rng.integers(-6, 3, 2 * count)).astype(dtype)
        far = (coarse * 2.0 ** -rng.integers(1, 70, coarse.size).astype(np.float64)).astype(dtype)
        x = np.r_[pairs[:, 0], spread, coarse, coarse, spread]
        y = np.r_[pairs[:, 1], rng.permutation(spread), rng.permutation(coarse), far, -spread]
        if operation != "fma":
            return [x, y]
        z = np.where(rng.random(x.size) < 0.5, -x * y, rng.permutation(x)).astype(dtype)
        return [x, y, z]


def results(
    operation: str, given: list[np.ndarray], format: str, rounding: str, random_bits: int | None = None,
    word: int = -1, carrier: str | None = None,
) -> np.ndarray | None:  # fmt: skip
    """What the kernels give, each element with the same word; None where they cannot tell."""
    if operation == "sub":
        operation, given = "add", [given[0], -given[1]]
    out = np.full(given[0].shape, 123, given[0].dtype)
    name = str(out.dtype)
    known = dispatch.operate(
        operation, [x.ctypes.data for x in given], name, out.ctypes.data, name, out.size, format, rounding,
        random_bits=random_bits or 32, word=word,
    )  # fmt: skip
    return out if known else None


def words_at(rounding: Rounding, random_bits: int | None) -> list[int]:
    """Words at the ends and around the middle, or none."""
    if not rounding.is_stochastic:
        return [-1]
    step = 1 << (32 - (random_bits or 32))
    return [0, step - 1, 2**31 - 1, 2**31, 2**32 - step - 1 if step < 2**31 else 0, 2**32 - 1, 0x9E3779B9]
