"""The definition of a matrix product in an arithmetic: every operation exact, then rounded once.

A number is a Fraction, which is not zero, or a float: a zero with its sign, an infinity, NaN, or a value
of a format.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from lowprec.arithmetic import Accumulator, Arithmetic, Exact, format_of
from lowprec.errors import type_error, value_error
from lowprec.modes import Rounding
from lowprec.reference.blocks import FloatArray
from lowprec.reference.elements import Stepped
from lowprec.reference.noise import random_word

Number = Fraction | float

ACCUMULATE, MULTIPLY, CHUNK, BIAS, TERM, GAIN, LOST = range(7)
"""The streams of noise, from the first one of a product on."""
TENSOR = 7
"""That of the last sum times the scales of the tensors."""


class BlockScales(NamedTuple):
    """What the groups of two operands are multiplied by, where a chunk is one group of both."""

    size: int
    """Elements of a group along the contraction; the last one may have fewer."""
    left: FloatArray
    """Shape (batch, i, groups)."""
    right: FloatArray
    """Shape (batch, groups, j)."""
    tensors: tuple[float, float] = (1.0, 1.0)
    """The scales of the scales, one for each operand."""


def product(
    a: FloatArray,
    b: FloatArray,
    arithmetic: Arithmetic,
    *,
    bias: FloatArray | None = None,
    seed: int | None = None,
    stream: int = 0,
    scales: BlockScales | None = None,
) -> FloatArray:
    """The matrix products of two batches, by the definition of ``Arithmetic``.

    With C = A B, of K products each, product k of C[batch, i, j] has position (batch, i, j, k) in
    row-major order. A rounded product takes the random word of its position in stream MULTIPLY; a sum
    that of the first product of its right term, in stream ACCUMULATE, or CHUNK where a chunk's sum is
    that term; the sum with a bias the word of (batch, i, j) in stream BIAS, and what is multiplied by the
    scales of tensors likewise in stream TENSOR. Of the roundings of Kahan's step for product k that of its
    sum t takes the word of its position in stream ACCUMULATE, y in stream TERM, t - sum in GAIN and c in
    LOST. A whole sum that is exact until it is rounded, bias and all, takes the word of (batch, i, j) in
    stream ACCUMULATE.

    Args:
        a: Shape (batch, i, k); float16, float32 or float64.
        b: Shape (batch, k, j), of the same dtype.
        arithmetic: What is rounded, where and how.
        bias: Shape (j,), added last; None for none.
        seed: Where an arithmetic is stochastic, its seed.
        stream: The first stream.
        scales: Where a chunk is a block, the scales of the groups; ``a`` and ``b`` are elements then.
            A scale that is NaN makes the sums that read it NaN, an infinite one infinite or, of a zero, NaN.

    Returns:
        The products in the dtype of ``a``, shape (batch, i, j).

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If shapes do not fit, the dtype does not hold the last sum's format, or a seed or
            scales are missing or without use.

    Example:
        >>> ones = np.ones((1, 1, 40), np.float32)
        >>> product(ones, ones.reshape(1, 40, 1), Arithmetic("e4m3fn"))
        array([[[16.]]], dtype=float32)
    """
    _check(a, b, bias, arithmetic, seed)
    _check_scales(a, b, arithmetic, scales)
    batches, rows, count = a.shape
    columns = b.shape[2]
    out = np.empty((batches, rows, columns), a.dtype)
    for batch, i, j in np.ndindex(out.shape):
        position = (batch * rows + i) * columns + j
        noise = _Noise(seed, stream, position, count)
        pairs = zip(a[batch, i].tolist(), b[batch, :, j].tolist(), strict=True)
        factors = [_times(x, y) for x, y in pairs]
        if scales is None:
            total = _sum(factors, arithmetic, noise)
        else:
            row, column = scales.left[batch, i].tolist(), scales.right[batch, :, j].tolist()
            total = _sum_of_blocks(factors, scales.size, row, column, arithmetic, noise)
            word = 0 if seed is None else random_word(seed, stream + TENSOR, position)
            last = arithmetic.chunk_accumulate or arithmetic.sum_format
            total = _rounded(_times(float(total), *scales.tensors), last, arithmetic, word)
        if bias is not None:
            total = _plus(total, float(bias[j]), arithmetic.rounding)
        if isinstance(arithmetic.final, Exact):
            total = _rounded(total, format_of(str(a.dtype)), arithmetic, noise.word_of_sum(ACCUMULATE))
        elif bias is not None:
            total = _rounded(total, arithmetic.final, arithmetic, noise.word_of_sum(BIAS))
        out[batch, i, j] = total
    return out


@dataclass(frozen=True)
class _Noise:
    """The random words of one element of a product."""

    seed: int | None
    stream: int
    position: int
    count: int

    def word(self, kind: int, k: int) -> int:
        """That of product k in one of the streams."""
        if self.seed is None:
            return 0
        return random_word(self.seed, self.stream + kind, self.position * self.count + k)

    def word_of_sum(self, kind: int) -> int:
        """That of the element in one of the streams."""
        return 0 if self.seed is None else random_word(self.seed, self.stream + kind, self.position)


def _sum(products: list[Number], arithmetic: Arithmetic, noise: _Noise) -> Number:
    """The sum of the exact products of one element."""
    products = _rounded_products(products, arithmetic, noise)
    if not isinstance(arithmetic.chunk, int) or arithmetic.chunk_accumulate is None:
        return _partial_sum(products, 0, arithmetic, noise)
    total = 0.0
    for first in range(0, len(products), arithmetic.chunk):
        part = _partial_sum(products[first : first + arithmetic.chunk], first, arithmetic, noise)
        exact = _plus(total, part, arithmetic.rounding)
        total = _rounded(exact, arithmetic.chunk_accumulate, arithmetic, noise.word(CHUNK, first))
    return total


def _sum_of_blocks(
    products: list[Number],
    size: int,
    row: list[float],
    column: list[float],
    arithmetic: Arithmetic,
    noise: _Noise,
) -> float:
    """The sum of the exact products of elements, where a block's sum is multiplied by its two scales."""
    products = _rounded_products(products, arithmetic, noise)
    total = 0.0
    for first, x, y in zip(range(0, len(products), size), row, column, strict=True):
        part = _partial_sum(products[first : first + size], first, arithmetic, noise)
        exact = _plus(total, _times(float(part), x, y), arithmetic.rounding)
        last = arithmetic.chunk_accumulate or arithmetic.sum_format
        total = _rounded(exact, last, arithmetic, noise.word(CHUNK, first))
    return total


def _rounded_products(products: list[Number], arithmetic: Arithmetic, noise: _Noise) -> list[Number]:
    """The products of one element in the format that they are rounded to, if there is one."""
    if arithmetic.multiply is None:
        return products
    mode = arithmetic.multiply_rounding
    return [
        _rounded(x, arithmetic.multiply, arithmetic, noise.word(MULTIPLY, k), mode)
        for k, x in enumerate(products)
    ]


def _partial_sum(products: list[Number], first: int, arithmetic: Arithmetic, noise: _Noise) -> Number:
    """The sum of products, of which the first is number ``first``, in the order of an arithmetic."""
    mode, format = arithmetic.rounding, arithmetic.accumulate
    if isinstance(format, Exact):
        whole: Number = 0.0
        for x in products:
            whole = _plus(whole, x, mode)
        return whole

    def add(x: Number, y: Number, k: int, kind: int = ACCUMULATE) -> float:
        """One sum, whose right term begins with product k."""
        exact = _plus(x, y, mode)
        return _rounded(exact, format, arithmetic, noise.word(kind, k))

    if arithmetic.order == "pairwise":
        terms = [(x, first + k) for k, x in enumerate(products)]
        while len(terms) > 1:
            pairs = zip(terms[::2], terms[1::2], strict=False)
            odd = terms[-1:] if len(terms) % 2 else []
            terms = [(add(x, y, k), at) for (x, at), (y, k) in pairs] + odd
        if not terms:
            return 0.0
        if len(products) > 1:
            return float(terms[0][0])
        word = noise.word(ACCUMULATE, first)
        return _rounded(terms[0][0], format, arithmetic, word)
    total = carried = 0.0
    for k, x in enumerate(products, first):
        if arithmetic.compensation is None:
            total = add(total, x, k)
        else:
            y = add(x, -carried, k, TERM)
            t = add(total, y, k)
            carried = add(add(t, -total, k, GAIN), -y, k, LOST)
            total = t
    return total


def _times(*factors: float) -> Number:
    """An exact product."""
    if all(math.isfinite(x) and x != 0 for x in factors):
        return math.prod(map(Fraction, factors), start=Fraction(1))
    ones = (math.copysign(1.0, x) if math.isfinite(x) and x != 0 else x for x in factors)
    return math.prod(ones)


def _plus(x: Number, y: Number, rounding: Rounding) -> Number:
    """An exact sum; a zero has the sign of IEEE 754-2019, 6.3."""
    if not (_is_finite(x) and _is_finite(y)):
        return _stand_in(x) + _stand_in(y)
    if x == 0 and y == 0:
        signs = math.copysign(1.0, x), math.copysign(1.0, y)
        if signs[0] == signs[1]:
            return x
    elif (total := Fraction(x) + Fraction(y)) != 0:
        return total
    return -0.0 if rounding is Rounding.DOWN else 0.0


def _is_finite(x: Number) -> bool:
    """Whether it is a number."""
    return isinstance(x, Fraction) or math.isfinite(x)


def _stand_in(x: Number) -> float:
    """The number itself if it is none; else a zero, which changes no infinity and no NaN."""
    return 0.0 if _is_finite(x) else float(x)


def _rounded(
    x: Number, format: Accumulator, arithmetic: Arithmetic, word: int, rounding: Rounding | None = None
) -> float:
    """A number rounded once."""
    mode = arithmetic.rounding if rounding is None else rounding
    bits = 32 if arithmetic.random_bits is None else arithmetic.random_bits
    element = Stepped(format)
    if isinstance(x, Fraction):
        return element.exactly(x, mode, bits, word)
    return element.quantized(x, mode, bits, word)[0]


def _check(
    a: FloatArray, b: FloatArray, bias: FloatArray | None, arithmetic: Arithmetic, seed: int | None
) -> None:
    """Refuse what has no product."""
    for name, x in (("b", b), ("bias", bias)):
        if x is not None and x.dtype != a.dtype:
            raise type_error(name, f"have the dtype of `a`, {a.dtype}", x.dtype)
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise value_error("b", f"have the shape ({', '.join(map(str, a.shape[::2]))}, …)", b.shape)
    if bias is not None and bias.shape != b.shape[2:]:
        raise value_error("bias", f"have the shape {b.shape[2:]}", bias.shape)
    if (seed is None) == arithmetic.is_stochastic:
        must = "be an integer where" if arithmetic.is_stochastic else "be None unless"
        raise value_error("seed", f"{must} a sum or product is stochastic", seed)
    arithmetic.final.check_carrier(str(a.dtype))


def _check_scales(a: FloatArray, b: FloatArray, arithmetic: Arithmetic, scales: BlockScales | None) -> None:
    """Refuse scales that are missing, have no use or other shapes than the groups."""
    if (scales is None) == arithmetic.in_blocks:
        must = "be given where" if arithmetic.in_blocks else "be None unless"
        remedy = "Pass BlockScales." if arithmetic.in_blocks else "Leave them out."
        raise value_error("scales", f"{must} a chunk is a block", scales, remedy)
    if scales is None:
        return
    groups = -(-a.shape[2] // scales.size)
    for name, given, shape in (
        ("scales.left", scales.left, (*a.shape[:2], groups)),
        ("scales.right", scales.right, (b.shape[0], groups, b.shape[2])),
    ):
        if given.shape != shape:
            raise value_error(name, f"have the shape {shape}", given.shape)
