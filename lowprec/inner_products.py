"""Sums and products of tensors in an arithmetic, with the names that torch gives them.

All end in ``torch.ops.lowprec.product``: a sum is a product with ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lowprec.arithmetic import Arithmetic, Exact, format_of
from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike
from lowprec.functional.matrices import matmul_in
from lowprec.functional.plan import Arithmetics
from lowprec.functional.totals import total
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.constant import constant
from lowprec.ops.products import Sums, check_result, make_sums
from lowprec.ops.quantize import CARRIER_DTYPES, Spec, check_tensor, make_spec, seed_tensor

ArithmeticLike = Arithmetic | FormatLike
"""An arithmetic, or the format of sums that are otherwise as an arithmetic has them."""


def matmul(a: Tensor, b: Tensor, arithmetic: ArithmeticLike, *, seed: int | Tensor | None = None) -> Tensor:
    """``torch.matmul`` with products and sums rounded as an arithmetic says.

    NaN, infinities and overflow follow IEEE 754, then the formats of the arithmetic; an empty sum is +0.

    Args:
        a: Float32, bfloat16, float16 or float64, of one dimension or more; ``(*, i, k)``.
        b: The same dtype; ``(*, k, j)``. Batch dimensions broadcast.
        arithmetic: An Arithmetic, or the format of its sums.
        seed: Seed of the noise; None to draw one.

    Returns:
        The product in the dtype of a, of the shape that torch.matmul gives it.

    Raises:
        TypeError: If an operand is no tensor, or dtypes differ or are no carrier.
        ValueError: If sizes do not fit, the dtype cannot hold the last sum, the arithmetic is none or has
            blocks, products of float64 operands are not exact in float64 (sums are not ``"exact"``), or
            a seed is given where nothing is stochastic.

    Gradient:
        The two backward products, in the same arithmetic; there is no second derivative.

    Example:
        >>> ones = torch.ones(3, 3000)
        >>> matmul(ones, ones.T, "binary16")[0]
        tensor([2048., 2048., 2048.])
    """
    return _matmul(a, b, arithmetic, seed, ("a", "b"))


def dot(x: Tensor, y: Tensor, arithmetic: ArithmeticLike, *, seed: int | Tensor | None = None) -> Tensor:
    """``torch.dot`` with products and sums rounded as an arithmetic says; see ``matmul``.

    Args:
        x: One dimension; dtypes as for ``matmul``.
        y: Likewise, as long as x.
        arithmetic: As for ``matmul``.
        seed: As for ``matmul``.

    Returns:
        The product, a tensor without dimensions.

    Raises:
        TypeError: As ``matmul``.
        ValueError: As ``matmul``, and if an operand has not one dimension.

    Gradient:
        As for ``matmul``: products with the error, in the same arithmetic.

    Example:
        >>> dot(torch.ones(20), torch.ones(20), "e4m3fn")
        tensor(16.)
    """
    for name, operand in (("x", x), ("y", y)):
        if isinstance(operand, Tensor) and operand.dim() != 1:
            raise value_error(name, "have one dimension", tuple(operand.shape), "Use matmul for matrices.")
    return _matmul(x, y, arithmetic, seed, ("x", "y"))


def _matmul(
    a: Tensor, b: Tensor, arithmetic: ArithmeticLike, seed: int | Tensor | None, names: tuple[str, str]
) -> Tensor:
    """The product of operands that the caller knows by these names."""
    for name, x in zip(names, (a, b), strict=True):
        if not isinstance(x, Tensor):
            raise type_error(name, "be a tensor to be multiplied", type(x), "Wrap it with torch.tensor.")
    sums = _sums(arithmetic, a.dtype)
    return matmul_in(a, b, Arithmetics(sums, sums, sums), _seeds(a, seed, sums), names)


def sum(
    x: Tensor,
    arithmetic: ArithmeticLike,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,  # noqa: FBT002  as in torch.sum
    *,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.sum`` with every sum rounded as an arithmetic says.

    Elements are added in row-major order of the dimensions that are summed over, from +0 on. NaN,
    infinities and overflow follow IEEE 754, then the formats; a sum of nothing is +0.

    Args:
        x: Float32, bfloat16, float16 or float64.
        arithmetic: An Arithmetic that rounds no products, of which there are none, or the format of its
            sums.
        dim: The dimensions to sum over; None, or an empty tuple, for all.
        keepdim: Keep them, of size 1.
        seed: As for ``matmul``.

    Returns:
        The sums in the dtype of x.

    Raises:
        TypeError: If x is no such tensor.
        ValueError: If the arithmetic is none or has ``multiply``, a dimension does not exist or is given
            twice, the dtype cannot hold the last sum, or a seed is given where nothing is stochastic.

    Gradient:
        Straight-through: that of the exact sum, the error for each element.

    Example:
        >>> sum(torch.ones(2, 5000), "bfloat16", dim=1)
        tensor([256., 256.])
    """
    dims, own, seeds = _checked(x, arithmetic, dim, seed)
    return total(x, dims, keepdim, seeds, own.sums, None)


def mean(
    x: Tensor,
    arithmetic: ArithmeticLike,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,  # noqa: FBT002  as in torch.mean
    *,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.mean``: the ``sum`` in an arithmetic, over the count, rounded once more to its last format.

    Args:
        x: As for ``sum``.
        arithmetic: As for ``sum``; it also says how the quotient is rounded.
        dim: As for ``sum``.
        keepdim: As for ``sum``.
        seed: As for ``sum``.

    Returns:
        The means in the dtype of x; NaN of nothing.

    Raises:
        TypeError: As ``sum``.
        ValueError: As ``sum``.

    Gradient:
        Straight-through: that of the exact mean.

    Example:
        >>> mean(torch.tensor([1.0, 1.0, 2.0]), "e4m3fn")
        tensor(1.3750)
    """
    dims, own, seeds = _checked(x, arithmetic, dim, seed)
    return total(x, dims, keepdim, seeds, own.sums, own.quotient)


class _Own(NamedTuple):
    """An arithmetic of sums as the operators take it."""

    sums: Sums
    quotient: Spec
    """How a mean is rounded."""


def _checked(
    x: Tensor, arithmetic: ArithmeticLike, dim: int | Sequence[int] | None, seed: int | Tensor | None
) -> tuple[tuple[int, ...], _Own, Tensor | None]:
    """The dimensions of a sum in ascending order, its arithmetic, and its seed if it draws noise."""
    if not isinstance(x, Tensor):
        raise type_error("x", "be a tensor to be summed", type(x), "Wrap it with torch.tensor.")
    check_tensor(x)
    own = _totals(arithmetic, x.dtype)
    return _dimensions(x.dim(), dim), own, _seeds(x, seed, own.sums)


def _dimensions(count: int, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    """The dimensions that are meant."""
    given = () if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if not given:  # as torch reads it
        return tuple(range(count))
    for d in given:
        if not isinstance(d, int) or not -max(count, 1) <= d < max(count, 1):
            raise value_error("dim", f"be one of the {count} dimensions, or some of them", d)
    found = sorted({d % max(count, 1) for d in given})
    if len(found) != len(given):
        raise value_error("dim", "name each dimension once", given, "Leave the others out.")
    return tuple(found) if count else ()


@constant
def _totals(arithmetic: ArithmeticLike, dtype: torch.dtype) -> _Own:
    """An arithmetic without products, of which a carrier holds the last sums."""
    own = Arithmetic.from_value(arithmetic)
    if own.multiply is not None:
        remedy = "A sum has no products: leave `multiply` out."
        raise value_error("arithmetic", "be one that rounds no products", own.describe(), remedy)
    bits = own.random_bits if own.rounding.takes_random_bits else None
    sums, last = _sums(own, dtype), own.final
    if isinstance(last, Exact):
        last = format_of(CARRIERS[dtype]) if dtype in CARRIERS else format_of("float32")
    return _Own(sums, make_spec(last, own.rounding, bits))


@constant
def _sums(arithmetic: ArithmeticLike, dtype: torch.dtype) -> Sums:
    """An arithmetic of which a carrier holds the last sums."""
    own = Arithmetic.from_value(arithmetic)
    if own.in_blocks:
        remedy = "Blocks are groups of operands that a scheme casts: call lowprec.functional.matmul."
        raise value_error("arithmetic", "be one whose chunks are no blocks", own.describe(), remedy)
    sums = make_sums(own)
    if dtype in CARRIER_DTYPES:  # else it is the operand's fault
        check_result(sums, dtype)
    return sums


def _seeds(x: Tensor, seed: int | Tensor | None, sums: Sums) -> Tensor | None:
    """The seed of a call if it draws noise."""
    if seed is not None and not sums.is_stochastic:
        raise value_error("seed", "be None where nothing in the arithmetic is stochastic", seed)
    return seed_tensor(x, seed) if sums.is_stochastic else None
