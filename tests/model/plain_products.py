"""What a simulated product is, in plain PyTorch: round each operand, then torch's own product.

Rounding itself is the operator's, which tests of its own prove; the streams of the noise are written
out here, since equal seeds must keep giving equal bits. The product of a scheme with an arithmetic is
that of summed_products.py.
"""

from collections.abc import Callable
from itertools import zip_longest

import torch
from model.summed_products import summed_product
from torch import Tensor

from lowprec import SCHEMES, Cast, Scheme

INPUT, ERROR, WEIGHT, OUTPUT, GRAD_WEIGHT_ERROR, GRAD_WEIGHT_INPUT, GRAD_INPUT_WEIGHT = range(7)
"""The streams of one product."""

GROUPED = [name for name, scheme in SCHEMES.items() if "contraction" in str(scheme.input)]
WHOLE = [name for name in SCHEMES if name not in GROUPED]
"""The named schemes whose operands have groups along each product's own contraction, and the others."""

Function = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Gradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


def rounded(x: Tensor, cast: Cast | None, seed: int = 0, stream: int = 0, *, training: bool = True) -> Tensor:
    """``x`` under a cast, with the noise of a seed and a stream."""
    if cast is None:
        return x
    mode = cast.mode(training=training)
    noise = torch.tensor([seed]) if mode == "stochastic" else None
    bits = cast.random_bits or 32
    return torch.ops.lowprec.quantize(x, noise, str(cast.format), str(mode), bits, stream)


def plain_product(
    function: Function,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    error: Tensor,
    scheme: Scheme,
    seed: int = 0,
    *,
    training: bool = True,
) -> Gradients:
    """The output and the three gradients of a scheme whose products all read the same operands.

    A scheme with an arithmetic is that of a linear product, or of a convolution with a padding of 1.
    """
    own = rounded(x, scheme.input, seed, INPUT, training=training)
    read = rounded(weight, scheme.weight, seed, WEIGHT, training=training)
    scale = scheme.loss_scale
    rounded_error = rounded(error * scale, scheme.error, seed, ERROR, training=training) / scale
    y, *gradients = product_and_gradients(function, own, read, bias, rounded_error)
    if scheme.arithmetic is not None:  # but the gradient of the bias stays torch's
        y, *gradients[:2] = summed_product(own, read, bias, rounded_error, scheme.arithmetic, scale)
    return rounded(y, scheme.output, seed, OUTPUT, training=training), *gradients


def product_and_gradients(
    function: Function, x: Tensor, weight: Tensor, bias: Tensor | None, error: Tensor
) -> Gradients:
    """torch's own product of these operands, and its gradients for this error."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    y = function(*leaves)
    gradients = torch.autograd.grad(y, [leaf for leaf in leaves if leaf is not None], error)
    return y.detach(), *gradients[:2], gradients[2] if len(gradients) > 2 else None


def assert_same(got: Gradients, want: Gradients) -> None:
    """Every tensor has the same dtype, shape and bits; -0 is not 0, and None is None."""
    for name, a, b in zip_longest(("output", "input", "weight", "bias"), got, want):
        if a is None or b is None:
            assert a is b, name
            continue
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        same = (a == b) & (a.signbit() == b.signbit()) | a.isnan() & b.isnan()
        assert same.all(), f"{name}: {(~same).sum()} of {same.numel()} differ"


def operands(shape: tuple[int, ...], weight_shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Input, weight and bias over many exponents, such as overflow and underflow eight-bit formats."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        mantissas = torch.randn(*size, generator=generator)
        return mantissas * torch.randint(-12, 10, size, generator=generator).float().exp2()

    return [draw(*shape), draw(*weight_shape), draw(weight_shape[0])]
