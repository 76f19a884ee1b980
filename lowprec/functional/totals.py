"""Sums over dimensions, and means: products with ones, whose gradient is that of the exact sum."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from lowprec.ops import elementary as elementary  # registers its operator
from lowprec.ops.products import Sums, product
from lowprec.ops.quantize import Spec

_MEAN = 4
"""The stream of the quotient's noise, after those of a sum."""


class _Total(torch.autograd.Function):
    """A sum over dimensions, or a mean if it is said how its quotient is rounded."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dims: tuple[int, ...], keepdim: bool, seed: Tensor | None, sums: Sums,
        quotient: Spec | None,
    ) -> Tensor:  # fmt: skip
        """The product with ones, and its quotient by their number."""
        ctx.shape, ctx.dims = x.shape, dims
        ctx.count = count = prod([x.shape[d] for d in dims])
        others = [d for d in range(x.dim()) if d not in dims]
        rows = x.permute([*others, *dims]).reshape(1, prod([x.shape[d] for d in others]), count)
        y = product(rows, x.new_ones(1, count, 1), None, seed, sums, 0)
        y = y.reshape([1 if d in dims else size for d, size in enumerate(x.shape)])
        if quotient is not None:  # in float64, which holds the count and the format
            words = seed if quotient.is_stochastic else None
            terms = [y.double(), torch.full_like(y, count, dtype=torch.float64)]
            y = torch.ops.lowprec.elementary("div", terms, words, *quotient, _MEAN).to(x.dtype)
            ctx.mean = True
        else:
            ctx.mean = False
        return y if keepdim else y.reshape([x.shape[d] for d in others])

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        """The error for each element, over their number for a mean."""
        shape = [1 if d in ctx.dims else size for d, size in enumerate(ctx.shape)]
        error = errors[0].reshape(shape).expand(ctx.shape)
        return (error / ctx.count if ctx.mean else error), None, None, None, None, None


def total(
    x: Tensor, dims: tuple[int, ...], keepdim: bool, seed: Tensor | None, sums: Sums, quotient: Spec | None
) -> Tensor:
    """The sum over dimensions in ascending order, or the mean if it is said how its quotient is rounded."""
    y: Tensor = _Total.apply(x, dims, keepdim, seed, sums, quotient)
    return y
