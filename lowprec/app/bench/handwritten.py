"""What a good programmer writes without this package: exact for ordinary values, fused by torch.compile.

A fair opponent: powers of two come from the bits, no pass over the data is wasted, and the output
is written in place where there is one. Random numbers are PyTorch's own.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Quantization = Callable[[Tensor, Tensor], None]
"""Reads its first tensor and writes its second."""


def float_nearest(x: Tensor, out: Tensor) -> None:
    """To e4m3fn, nearest even, saturating."""
    step, inverse = _steps(x, 3, lowest=-6)
    out.copy_((torch.round(x * inverse) * step).clamp(-448, 448))


def float_stochastic(x: Tensor, out: Tensor) -> None:
    """To e4m3fn, stochastically, saturating."""
    step, inverse = _steps(x, 3, lowest=-6)
    out.copy_((torch.floor(x * inverse + torch.rand_like(x)) * step).clamp(-448, 448))


def fixed_nearest(x: Tensor, out: Tensor) -> None:
    """To fixed8f6, nearest even, saturating."""
    out.copy_(torch.round(x * 64).clamp(-128, 127) / 64)


def fixed_stochastic(x: Tensor, out: Tensor) -> None:
    """To fixed8f6, stochastically, saturating."""
    out.copy_(torch.floor(x * 64 + torch.rand_like(x)).clamp(-128, 127) / 64)


def block_nearest(x: Tensor, out: Tensor) -> None:
    """To 8-bit block floating point, one exponent a row, nearest even."""
    step, inverse = _steps(x.abs().amax(-1, keepdim=True), 6, lowest=-120)
    out.copy_(torch.round(x * inverse).clamp(-127, 127) * step)


def block_stochastic(x: Tensor, out: Tensor) -> None:
    """To 8-bit block floating point, one exponent a row, stochastically."""
    step, inverse = _steps(x.abs().amax(-1, keepdim=True), 6, lowest=-120)
    out.copy_(torch.floor(x * inverse + torch.rand_like(x)).clamp(-127, 127) * step)


def mxfp8_nearest(x: Tensor, out: Tensor) -> None:
    """To mxfp8_e4m3, nearest even."""
    _microscaled(x, out, mantissa_bits=3, lowest=-6, largest=448)


def mxfp4_nearest(x: Tensor, out: Tensor) -> None:
    """To mxfp4, nearest even."""
    _microscaled(x, out, mantissa_bits=1, lowest=0, largest=6)


def mxfp4_stochastic(x: Tensor, out: Tensor) -> None:
    """To mxfp4, stochastically."""
    groups, scale, inverse = _groups(x, emax=2)
    quotients = groups * inverse
    step, inverse_step = _steps(quotients, 1, lowest=0)
    rounded = torch.floor(quotients * inverse_step + torch.rand_like(quotients)) * step
    out.copy_((rounded.clamp(-6, 6) * scale).view_as(x))


def nvfp4_nearest(x: Tensor, out: Tensor) -> None:
    """To nvfp4, nearest even; quotients by the product of both scales are rounded before the element is."""
    groups = x.view(-1, 16)
    largest = groups.abs().amax(-1, keepdim=True)
    outer = largest.amax() / 2688
    inner = (largest / (6 * outer)).to(torch.float8_e4m3fn).to(torch.float32)
    quotients = groups / (inner * outer)
    step, inverse = _steps(quotients, 1, lowest=0)
    rounded = (torch.round(quotients * inverse) * step).clamp(-6, 6)
    out.copy_((rounded * inner * outer).view_as(x))


def int8_nearest(x: Tensor, out: Tensor) -> None:
    """To int8 with one scale, nearest even; quotients are rounded before the element is."""
    scale = x.abs().amax() / 127
    out.copy_(torch.round(x / scale).clamp(-127, 127) * scale)


def _microscaled(x: Tensor, out: Tensor, *, mantissa_bits: int, lowest: int, largest: float) -> None:
    """To a floating-point element over one power of two for 32 elements."""
    groups, scale, inverse = _groups(x, emax=math.frexp(largest)[1] - 1)
    quotients = groups * inverse
    step, inverse_step = _steps(quotients, mantissa_bits, lowest=lowest)
    rounded = torch.round(quotients * inverse_step) * step
    out.copy_((rounded.clamp(-largest, largest) * scale).view_as(x))


def _groups(x: Tensor, *, emax: int) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of 32, their scales by OCP's rule, and the inverse of these."""
    groups = x.view(-1, 32)
    return groups, *_steps(groups.abs().amax(-1, keepdim=True), emax, lowest=-100)


def _steps(x: Tensor, mantissa_bits: int, *, lowest: int) -> tuple[Tensor, Tensor]:
    """The last place of each value and its inverse, made from the exponent's bits."""
    exponent = ((x.view(torch.int32) >> 23) & 0xFF).clamp(min=lowest + 127) - mantissa_bits
    return (exponent << 23).view(torch.float32), ((254 - exponent) << 23).view(torch.float32)


def compiled(quantization: Quantization, *, new_output: bool) -> Callable[..., Tensor | None]:
    """One of the functions above, compiled.

    Args:
        quantization: Which one.
        new_output: Whether the result takes ``x`` alone and returns a new tensor.

    Returns:
        The compiled function, of x or of x and out. The first call compiles.

    Example:
        >>> callable(compiled(fixed_nearest, new_output=True))
        True
    """
    torch.compiler.reset()  # the limit of recompilations counts all functions that `fresh` stands for
    if not new_output:
        return torch.compile(quantization, fullgraph=True, dynamic=False)

    def fresh(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        quantization(x, out)
        return out

    return torch.compile(fresh, fullgraph=True, dynamic=False)
