"""Quantization with a gradient rule other than the identity, and the error cast."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lowprec.ops.library import quantized
from lowprec.ops.observation import observe
from lowprec.ops.quantize import Spec

GradientRule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(grad, x, y) -> grad``: the gradient of x from that of y = quantize(x)."""

FORWARD, BACKWARD = 0, 1
"""The streams of a quantization and of its backward."""


def run(x: Tensor, seed: Tensor | None, spec: Spec, stream: int = FORWARD) -> Tensor:
    """The quantize operator; the seed is dropped where the mode needs none."""
    return quantized(x, seed if spec.is_stochastic else None, spec, stream)


class _Ruled(torch.autograd.Function):
    """Quantize forward, and the error backward, with an explicit rule between the two."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        seed: Tensor | None,
        spec: Spec | None,
        error: Spec | None,
        clip_gradient: bool,
        rule: GradientRule | None,
        stream: int,
        owner: int,
    ) -> Tensor:
        """Quantize if a spec is given; else pass x on."""
        y = x.view_as(x) if spec is None else run(x, seed, spec, stream)
        ctx.save_for_backward(x if clip_gradient or rule else None, y if rule else None, seed)
        ctx.options = spec, error, clip_gradient, rule, stream, owner
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The rule, then zeros where overflow fired, then the error cast."""
        (gradient,) = gradients
        x, y, seed = ctx.saved_tensors
        spec, error, clip_gradient, rule, stream, owner = ctx.options
        if rule is not None:
            gradient = rule(gradient, x, y)
        if clip_gradient:
            words = seed if spec.is_stochastic else None
            fired = torch.ops.lowprec.overflowed(x, words, *spec, stream)
            gradient = torch.where(fired, 0.0, gradient)
        if error is not None:
            incoming = gradient
            gradient = run(incoming, seed, error, BACKWARD)
            observe("error", owner, incoming, gradient, seed, error, BACKWARD)
        return gradient, None, None, None, None, None, None, None


def quantize_ruled(
    x: Tensor,
    seed: Tensor | None,
    spec: Spec | None,
    error: Spec | None,
    *,
    clip_gradient: bool = False,
    rule: GradientRule | None = None,
    stream: int = FORWARD,
    owner: int = 0,
) -> Tensor:
    """Quantize by ``spec``; its gradient by the rule, clipped, and cast by ``error``.

    ``owner`` is the id of the layer to whose record the error belongs.
    """
    result: Tensor = _Ruled.apply(x, seed, spec, error, clip_gradient, rule, stream, owner)
    return result
