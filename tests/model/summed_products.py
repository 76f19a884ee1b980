"""Linear products and convolutions in an arithmetic, as products of matrices that are written out.

A linear product is the definition's, in fractions. Convolutions have too many for that: their
matrices are multiplied by the kernels, which other tests prove, and what is proven is which numbers they
multiply, in which order.
"""

from itertools import product as places

import torch
import torch.nn.functional as F
from torch import Tensor

from lowprec import Arithmetic, Scheme, functional, reference


def summed_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, error: Tensor, arithmetic: Arithmetic, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output and the gradients of x and weight, as if the error were scaled; convolutions pad by one."""
    if weight.dim() > 2:
        return _convolution(x, weight, bias, error, arithmetic, scale)
    rows, errors = x.reshape(-1, x.shape[-1]), scale * error.reshape(-1, len(weight))
    y = _defined(rows, weight.T, arithmetic, bias).view(error.shape)
    grad_x = _defined(errors, weight, arithmetic).view(x.shape) / scale
    grad_weight = _defined(errors.T, rows, arithmetic) / scale
    return y, grad_x, grad_weight


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, error: Tensor, arithmetic: Arithmetic, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By windows of the input, and of the error, with the kernel turned around."""
    spatial = tuple(range(2, x.dim()))
    channels = (1, 0, *spatial)
    windows, scaled = _windows(x, weight.shape[2:]), scale * error
    y = _multiplied(windows, weight.flatten(1).T, arithmetic, bias)
    turned = weight.flip(spatial).permute(channels).flatten(1)
    grad_x = _multiplied(_windows(scaled, weight.shape[2:]), turned.T, arithmetic) / scale
    grad_weight = _multiplied(scaled.permute(channels).flatten(1), windows, arithmetic) / scale

    def image(rows: Tensor, like: Tensor) -> Tensor:
        """Rows for each example and place, channels as columns, in the shape of an image."""
        return rows.view(len(like), *like.shape[2:], -1).movedim(-1, 1)

    return image(y, error), image(grad_x, x), grad_weight.view(weight.shape)


def _windows(image: Tensor, kernel: torch.Size) -> Tensor:
    """A row for each example and place: what a kernel sees there, channel by channel."""
    padded = F.pad(image, (1, 1) * len(kernel))
    sizes = image.shape[2:]
    seen = [
        padded[(..., *(slice(at, at + size) for at, size in zip(offset, sizes, strict=True)))]
        for offset in places(*map(range, kernel))
    ]
    stacked = torch.stack(seen, 2)  # example, channel, offset, place
    return stacked.flatten(3).permute(0, 3, 1, 2).reshape(-1, image.shape[1] * len(seen))


def _defined(a: Tensor, b: Tensor, arithmetic: Arithmetic, bias: Tensor | None = None) -> Tensor:
    """A product of two matrices, by the definition."""
    row = None if bias is None else bias.numpy()
    return torch.from_numpy(reference.product(a[None].numpy(), b[None].numpy(), arithmetic, bias=row)[0])


def _multiplied(a: Tensor, b: Tensor, arithmetic: Arithmetic, bias: Tensor | None = None) -> Tensor:
    """The same by the kernels."""
    return functional.linear(a, b.T, bias, scheme=Scheme(arithmetic=arithmetic))
