"""The functional forms of the layers, with the signatures of torch.nn.functional and a scheme."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

from torch import Tensor
from torch.nn.functional import pad

from lowprec.errors import value_error
from lowprec.functional.arguments import Size, check_convolution, check_linear, check_tensors, in_each
from lowprec.functional.bilinear import ConvProduct, LinearProduct
from lowprec.functional.plan import LINEAR_AXES, Plan, conv_axes, plan_and_seed
from lowprec.functional.products import simulate
from lowprec.scheme import Scheme

_LINEAR = LinearProduct()


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``input @ weight.T + bias`` with operands, errors and output rounded as the scheme says.

    NaN propagates; infinities and overflow follow each operand's format, then the scheme's arithmetic, if
    there is one; else the sums inside the products are the carrier's.

    Args:
        input: Float32 or bfloat16, shape ``(*, in)``.
        weight: The same dtype, shape ``(out, in)``.
        bias: The same dtype, shape ``(out,)``; it is not rounded, but added by the arithmetic.
        scheme: A scheme or its name; its rules and optimizer roles have no say here.
        training: Use the casts' training modes rather than their ``eval_rounding``.
        seed: Seed of all noise of this call; None to draw one.

    Returns:
        The product, shape ``(*, out)``.

    Raises:
        TypeError: If dtypes differ or are no carrier.
        ValueError: If a carrier, or the autocast dtype, cannot hold a format, or a seed is given where
            nothing is stochastic.

    Example:
        >>> import torch
        >>> linear(torch.tensor([[0.3]]), torch.tensor([[1.0]]), scheme="fp8-hybrid")
        tensor([[0.3125]])
    """
    check_tensors(input=input, weight=weight)
    plan, seeds = plan_and_seed(input, scheme, LINEAR_AXES, training=training, seed=seed)
    return planned_linear(input, weight, bias, plan, seeds, seeds)


def planned_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Plan,
    seed: Tensor | None,
    weight_seed: Tensor | None,
    owner: int = 0,
) -> Tensor:
    """``linear`` under a plan; ``owner`` is the id of the layer that asks."""
    check_linear(input, weight)
    if input.dim() != 2:  # a matrix of rows, whose groups are the same for every product and plan
        rows = input.reshape(prod(input.shape[:-1]), input.shape[-1])
        flat = simulate(rows, weight, bias, _LINEAR, plan, seed, weight_seed, owner)
        return flat.reshape(*input.shape[:-1], weight.shape[0])
    return simulate(input, weight, bias, _LINEAR, plan, seed, weight_seed, owner)


def planned_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    padding_mode: str,
    plan: Plan,
    seed: Tensor | None,
    weight_seed: Tensor | None,
    owner: int = 0,
) -> Tensor:
    """A convolution under a plan; the input is rounded before it is padded."""
    dimensions = weight.dim() - 2
    check_convolution(input, weight, dimensions, groups)
    strides = in_each("stride", stride, dimensions, 1)
    dilations = in_each("dilation", dilation, dimensions, 1)
    before, after = _padding(padding, weight.shape[2:], dilations, strides)
    enlarge: Callable[[Tensor], Tensor] | None = None
    inside = before
    if padding_mode != "zeros" or before != after:
        ends = [end for pair in zip(reversed(before), reversed(after), strict=True) for end in pair]
        mode = "constant" if padding_mode == "zeros" else padding_mode
        enlarge, inside = partial(pad, pad=ends, mode=mode), (0,) * dimensions
    product = ConvProduct(strides, inside, dilations, groups)
    if input.dim() == dimensions + 1:
        batch = input.unsqueeze(0)
        y = simulate(batch, weight, bias, product, plan, seed, weight_seed, owner, enlarge)
        return y.squeeze(0)
    return simulate(input, weight, bias, product, plan, seed, weight_seed, owner, enlarge)


def _padding(
    padding: Size | str, kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How much to pad before and after along each dimension."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise value_error("padding", "be a number, 'same' or 'valid'", padding)
        if padding == "valid":
            return (0,) * len(kernel), (0,) * len(kernel)
        if any(step != 1 for step in stride):
            remedy = "Pass the numbers."
            raise value_error("padding", "not be 'same' for a strided convolution", padding, remedy)
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    values = in_each("padding", padding, len(kernel), 0)
    return values, values


def _conv(
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    scheme: Scheme | str,
    training: bool,
    seed: int | Tensor | None,
) -> Tensor:
    """The three convolutions."""
    check_tensors(input=input, weight=weight)
    check_convolution(input, weight, dimensions, groups)
    axes = conv_axes(dimensions)
    plan, seeds = plan_and_seed(input, scheme, axes, training=training, seed=seed)
    return planned_conv(input, weight, bias, stride, padding, dilation, groups, "zeros", plan, seeds, seeds)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.conv1d`` with operands, errors and output rounded as the scheme says.

    Special values, arguments and errors are those of ``linear`` and of torch's function.

    Args:
        input: Float32 or bfloat16, shape ``(N, C, L)`` or ``(C, L)``.
        weight: The same dtype, shape ``(O, C / groups, K)``.
        bias: The same dtype, shape ``(O,)``; it is not rounded, but added by the arithmetic.
        stride: Step of the window.
        padding: Zeros at both ends, or ``"same"`` or ``"valid"``.
        dilation: Distance of the window's elements.
        groups: Blocks of channels that are convolved apart.
        scheme: A scheme or its name.
        training: Use the casts' training modes rather than their ``eval_rounding``.
        seed: Seed of all noise of this call; None to draw one.

    Returns:
        The convolution, as torch's function would shape it.

    Raises:
        TypeError: If dtypes differ or are no carrier.
        ValueError: If the weight has other dimensions, a carrier cannot hold a format, or a seed is
            given where nothing is stochastic.

    Example:
        >>> import torch
        >>> conv1d(torch.ones(1, 1, 3), torch.full((1, 1, 1), 0.3), scheme="fp8-hybrid")
        tensor([[[0.3125, 0.3125, 0.3125]]])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, scheme, training, seed)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.conv2d`` with operands, errors and output rounded as the scheme says.

    Everything is as in ``conv1d``, with two spatial dimensions.

    Example:
        >>> import torch
        >>> conv2d(torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 1), 0.3), scheme="fp8-hybrid")
        tensor([[[[0.3125, 0.3125]]]])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, scheme, training, seed)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.conv3d`` with operands, errors and output rounded as the scheme says.

    Everything is as in ``conv1d``, with three spatial dimensions.

    Example:
        >>> import torch
        >>> conv3d(torch.ones(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 0.3), scheme="fp8-hybrid")
        tensor([[[[[0.3125]]]]])
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, scheme, training, seed)
