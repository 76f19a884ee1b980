"""Products in an arithmetic whose chunks are blocks: groups of the operands, with their scales.

Positions are those of other products. Those of one element of a convolution are numbered by place in the
window and then by channel, and for the gradient of its weight by place and then by example: so that the
groups, which run along channels or examples, are consecutive. Where there is more than one group, channels
or examples are completed by zeros to whole groups, which are multiplied and added like others.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.functional.arguments import autocast_dtype
from lowprec.functional.bilinear import (
    FORWARD,
    GRAD_INPUT,
    GRAD_WEIGHT,
    ConvProduct,
    LinearProduct,
    Product,
)
from lowprec.functional.conv_blocks import (
    Factors,
    completed,
    of_forward,
    of_input,
    of_weight,
    shortened,
    size_of_channels,
)
from lowprec.functional.groups import Sizes
from lowprec.functional.plan import Arithmetics, Plan
from lowprec.ops.blocks import Blocks, element_of
from lowprec.ops.products import Sums, product
from lowprec.ops.quantize import Spec


class Blocked(NamedTuple):
    """An operand that was rounded, and what its elements were multiplied by."""

    values: Tensor
    scales: Tensor
    """Those of its groups: like the values, but along the contraction an index for each group."""
    tensor: Tensor
    """That of the tensor, one element."""
    element: str
    axis: int
    """The contraction."""

    def along(self, axis: int) -> tuple[Tensor, Tensor]:
        """Matrices of values and of scales that are summed over that axis, -1 or -2."""
        turned = (self.axis == -1) != (axis == -1)
        return (self.values.mT, self.scales.mT) if turned else (self.values, self.scales)


Rounded = tuple[Tensor, Tensor]
"""An operand before and after it was rounded."""


def _blocked(operand: Rounded, spec: Spec | None, axis: int) -> Blocked:
    """What a cast has made of an operand, with the scales that it took."""
    (x, values), format = operand, cast(Spec, spec).format
    scales, tensor = torch.ops.lowprec.block_scales(x.detach(), format, axis)
    return Blocked(values, scales, tensor, element_of(format), axis)


def forward(
    kind: Product, input: Rounded, other: Rounded, bias: Tensor | None, plan: Plan, seed: Tensor | None
) -> Tensor:
    """The product and the bias."""
    dtype = autocast_dtype(input[1])
    if dtype is not None:
        input, other = (input[0], input[1].to(dtype)), (other[0], other[1].to(dtype))
        bias = None if bias is None else bias.to(dtype)
    x, weight = _blocked(input, plan.input, plan.axes.input), _blocked(other, plan.weight, plan.axes.weight)
    sums, size = _of(plan, 0)
    if not isinstance(kind, ConvProduct):
        roles = "input weight" if isinstance(kind, LinearProduct) else "left right"
        return _of_matrices(x, weight, bias, size, sums, seed, FORWARD, roles)
    places = kind._places(x.values, weight.values)
    size = size_of_channels(kind, x.values.shape[1], size)
    values = completed(x.values, 1, size), completed(weight.values, 1, size)
    pairs = [
        of_forward(kind, a, b, places, fill)
        for a, b, fill in ((*values, 0.0), (x.scales, weight.scales, 1.0))
    ]
    y = _summed(pairs, weight, x, bias, size, sums, seed, FORWARD, "weight input", prod(places))
    return y.reshape(x.values.shape[0], weight.values.shape[0], *places)


def input_gradient(
    kind: Product, errors: Rounded, other: Rounded, shape: Sequence[int], plan: Plan, seed: Tensor | None
) -> Tensor:
    """The gradient of the input, of that shape."""
    error = _blocked(errors, plan.grad_input_error, plan.axes.grad_input_error)
    weight = _blocked(other, plan.grad_input_weight, plan.axes.grad_input_weight)
    sums, size = _of(plan, 1)
    if not isinstance(kind, ConvProduct):
        roles = "error weight" if isinstance(kind, LinearProduct) else "error right"
        y = _of_matrices(error, weight, None, size, sums, seed, GRAD_INPUT, roles)
        return y.sum_to_size(shape)
    size = size_of_channels(kind, error.values.shape[1], size)
    values = completed(error.values, 1, size), completed(weight.values, 0, size)
    pairs = [
        of_input(kind, a, b, shape[2:], fill)
        for a, b, fill in ((*values, 0.0), (error.scales, weight.scales, 1.0))
    ]
    return _summed(pairs, weight, error, None, size, sums, seed, GRAD_INPUT, "weight error").reshape(shape)


def weight_gradient(
    kind: Product, errors: Rounded, input: Rounded, shape: Sequence[int], plan: Plan, seed: Tensor | None
) -> Tensor:
    """The gradient of the weight, of that shape."""
    error = _blocked(errors, plan.grad_weight_error, plan.axes.grad_weight_error)
    x = _blocked(input, plan.grad_weight_input, plan.axes.grad_weight_input)
    sums, size = _of(plan, 2)
    if isinstance(kind, LinearProduct):
        return _of_matrices(error, x, None, size, sums, seed, GRAD_WEIGHT, "error input")
    if not isinstance(kind, ConvProduct):
        y = _of_matrices(x, error, None, size, sums, seed, GRAD_WEIGHT, "left error")
        return y.sum_to_size(shape)
    size = shortened(size, x.values.shape[0])
    values = completed(error.values, 0, size), completed(x.values, 0, size)
    pairs = [
        of_weight(kind, a, b, shape[2:], fill)
        for a, b, fill in ((*values, 0.0), (error.scales, x.scales, 1.0))
    ]
    return _summed(pairs, error, x, None, size, sums, seed, GRAD_WEIGHT, "error input").reshape(shape)


def _of(plan: Plan, number: int) -> Any:
    """The arithmetic of one of the three products, and the size of its blocks."""
    return cast(Arithmetics, plan.arithmetics)[number], cast(Sizes, plan.blocks)[number]


def _of_matrices(
    left: Blocked, right: Blocked, bias: Tensor | None, size: int, sums: Sums, seed: Tensor | None,
    stream: int, roles: str,
) -> Tensor:  # fmt: skip
    """Products of two batches of matrices, whose batch dimensions broadcast."""
    factors = list(zip(left.along(-1), right.along(-2), strict=True))
    (a, b), _ = factors
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])

    def flat(x: Tensor) -> Tensor:
        """All matrices one after the other."""
        return x.expand(*batch, *x.shape[-2:]).reshape(prod(batch), *x.shape[-2:])

    pairs = [(flat(x), flat(y)) for x, y in factors]
    y = _summed(pairs, left, right, bias, size, sums, seed, stream, roles)
    return y.reshape(*batch, a.shape[-2], b.shape[-1])


def _summed(
    pairs: Sequence[Factors], left: Blocked, right: Blocked, bias: Tensor | None, size: int, sums: Sums,
    seed: Tensor | None, stream: int, roles: str, bias_step: int = 1,
) -> Tensor:  # fmt: skip
    """The operator, on the factors' values and scales."""
    (a, b), scales = pairs
    groups = -(-a.shape[2] // (size or max(a.shape[2], 1)))
    if (scales[0].shape[2], scales[1].shape[1]) != (groups, groups):
        must = f"have groups of {size} along the contraction in these operands"
        raise value_error("arithmetic", must, f"{scales[0].shape[2]} and {scales[1].shape[1]} scales")
    blocks = Blocks(size, [left.element, right.element], [*scales, left.tensor, right.tensor])
    return product(a, b, bias, seed, sums, stream, bias_step, roles, blocks)
