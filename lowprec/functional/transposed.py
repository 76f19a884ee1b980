"""Transposed convolutions: their products, and their functional forms.

The three products of a transposed convolution are those of a convolution in other places: its result is
what a convolution with the same weight has as the gradient of its input, the gradient of its own input is
that convolution of the error, and both weights have the same gradient, in which input and error trade
places. In an arithmetic the products of one element of the result are numbered by input channel of its
group and place of the input, those of the gradient of the input by output channel of the group and place
in the window, those of the gradient of the weight by example and place of the input. Zeros that a stride
leaves between inputs, or that lie past their ends, are multiplied and added like others: each element has
equally many products, whose positions follow from its own, and an infinite or NaN weight that meets such a
zero gives NaN. Noise follows positions in the result as in ``bilinear``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.functional.arguments import Size, check_convolution, check_tensors, in_each
from lowprec.functional.bilinear import (
    FORWARD,
    GRAD_INPUT,
    GRAD_WEIGHT,
    ConvProduct,
    Gradients,
    Product,
    check_bias,
)
from lowprec.functional.plan import Plan, conv_transpose_axes, plan_and_seed
from lowprec.functional.products import simulate
from lowprec.ops.products import Sums
from lowprec.scheme import Scheme

_CONVOLUTIONS = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


class ConvTransposeProduct(Product):
    """A transposed convolution in one to three dimensions; operands have a batch dimension."""

    def __init__(
        self,
        stride: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int],
        groups: int,
        dilation: Sequence[int],
    ) -> None:
        self.convolution = ConvProduct(stride, padding, dilation, groups)
        self.output_padding = list(output_padding)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch.nn.functional.conv_transpose1d, conv_transpose2d or conv_transpose3d."""
        own = self.convolution
        convolve = _CONVOLUTIONS[len(own.stride) - 1]
        return convolve(
            x, weight, bias, own.stride, own.padding, self.output_padding, own.groups, own.dilation
        )

    def differentiated(self, x: Tensor, weight: Tensor, error: Tensor, wanted: Sequence[bool]) -> Gradients:
        """The operator that autograd itself uses."""
        own = self.convolution
        gradients: Gradients = torch.ops.aten.convolution_backward(
            error, x, weight, [error.shape[1]], own.stride, own.padding, own.dilation,
            True, self.output_padding, own.groups, list(wanted),
        )  # fmt: skip
        return gradients

    def simulated(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over input channels and the places that reach an element."""
        shape = self._shape(x, weight)
        check_bias(bias, shape[1])
        return self.convolution.transposed(x, weight, bias, shape, sums, seed, FORWARD, "weight input")

    def simulated_input(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over output channels and the window."""
        return self.convolution.convolved(
            error, weight, None, x.shape[2:], sums, seed, GRAD_INPUT, "weight error"
        )

    def simulated_weight(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over examples and places of the input."""
        return self.convolution.correlated(error, x, weight.shape, sums, seed, GRAD_WEIGHT, "input error")

    def _shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        """The shape of the result; what does not fit is refused."""
        own = self.convolution
        if x.shape[1] != weight.shape[0] or weight.shape[0] % own.groups:
            must = f"have {x.shape[1]} input channels, as the input has, in {own.groups} groups"
            raise value_error("weight", must, tuple(weight.shape))
        steps = zip(self.output_padding, own.stride, own.dilation, strict=True)
        if any(more >= max(step, far) for more, step, far in steps):
            must = "be less than the stride or the dilation"
            raise value_error("output_padding", must, tuple(self.output_padding))
        sizes = [
            (size - 1) * step - 2 * pad + far * (k - 1) + more + 1
            for size, step, pad, far, k, more in zip(
                x.shape[2:], own.stride, own.padding, own.dilation, weight.shape[2:],
                self.output_padding, strict=True,
            )
        ]  # fmt: skip
        if min(*x.shape[2:], *sizes) < 1:
            must = "be large enough that something is left within the padding"
            raise value_error("input", must, tuple(x.shape), "Pass less padding.")
        return x.shape[0], weight.shape[1] * own.groups, *sizes


def planned_conv_transpose(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
    plan: Plan,
    seed: Tensor | None,
    weight_seed: Tensor | None,
    owner: int = 0,
) -> Tensor:
    """A transposed convolution under a plan."""
    dimensions = weight.dim() - 2
    check_convolution(input, weight, dimensions, groups)
    product = ConvTransposeProduct(
        in_each("stride", stride, dimensions, 1),
        in_each("padding", padding, dimensions, 0),
        in_each("output_padding", output_padding, dimensions, 0),
        groups,
        in_each("dilation", dilation, dimensions, 1),
    )
    batched = input.dim() == dimensions + 2
    x = input if batched else input.unsqueeze(0)
    y = simulate(x, weight, bias, product, plan, seed, weight_seed, owner)
    return y if batched else y.squeeze(0)


def _conv_transpose(
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
    scheme: Scheme | str,
    training: bool,
    seed: int | Tensor | None,
) -> Tensor:
    """The three transposed convolutions."""
    check_tensors(input=input, weight=weight)
    check_convolution(input, weight, dimensions, groups)
    axes = conv_transpose_axes(dimensions)
    plan, seeds = plan_and_seed(input, scheme, axes, training=training, seed=seed)
    return planned_conv_transpose(
        input, weight, bias, stride, padding, output_padding, groups, dilation, plan, seeds, seeds
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.conv_transpose1d`` with operands, errors, sums and output rounded by a scheme.

    Special values are those of ``linear``. In an arithmetic, zeros that a stride leaves between inputs
    are multiplied and added like others; an infinite or NaN weight that meets one gives NaN.

    Args:
        input: Float32, bfloat16, float16 or float64, shape ``(N, C, L)`` or ``(C, L)``.
        weight: The same dtype, shape ``(C, O / groups, K)``.
        bias: The same dtype, shape ``(O,)``; it is not rounded, but added by the arithmetic.
        stride: How far apart the windows of neighboring inputs lie.
        padding: How much is cut off at both ends.
        output_padding: How much is added at the far end; less than the stride or the dilation.
        groups: Blocks of channels that are convolved apart.
        dilation: Distance of the window's elements.
        scheme: A scheme or its name.
        training: Use the casts' training modes rather than their ``eval_rounding``.
        seed: Seed of all noise of this call; None to draw one.

    Returns:
        The transposed convolution, as torch's function would shape it.

    Raises:
        TypeError: If an operand is no tensor, or dtypes differ or are no carrier.
        ValueError: If shapes do not fit, a carrier, or the autocast dtype, cannot hold a format, or a
            seed is given where nothing is stochastic.

    Example:
        >>> import torch
        >>> conv_transpose1d(torch.ones(1, 1, 2), torch.full((1, 1, 2), 0.3), scheme="fp8-hybrid")
        tensor([[[0.3125, 0.6250, 0.3125]]])
    """
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation, scheme, training, seed
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.conv_transpose2d`` with operands, errors, sums and output rounded by a scheme.

    Everything is as in ``conv_transpose1d``, with two spatial dimensions.

    Example:
        >>> import torch
        >>> conv_transpose2d(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 2), 0.3), scheme="fp8-hybrid")
        tensor([[[[0.3125, 0.3125]]]])
    """
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation, scheme, training, seed
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.conv_transpose3d`` with operands, errors, sums and output rounded by a scheme.

    Everything is as in ``conv_transpose1d``, with three spatial dimensions.

    Example:
        >>> import torch
        >>> conv_transpose3d(torch.ones(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 0.3), scheme="fp8-hybrid")
        tensor([[[[[0.3125]]]]])
    """
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation, scheme, training, seed
    )
