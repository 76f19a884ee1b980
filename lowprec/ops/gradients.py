"""Quantization with a gradient rule other than the identity, and the error cast."""

from collections.abc import Callable, Sequence
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


def run(
    x: Tensor, seed: Tensor | None, spec: Spec, stream: int = FORWARD, scales: Sequence[Tensor | None] = ()
) -> Tensor:
    """The quantize operator, with scales if given; the seed is dropped where the mode needs none."""
    words = seed if spec.is_stochastic else None
    if scales:
        y: Tensor = torch.ops.lowprec.quantize_with(x, scales, words, *spec, stream)
        return y
    return quantized(x, words, spec, stream)


def overflowed(
    x: Tensor, seed: Tensor | None, spec: Spec, stream: int = FORWARD, scales: Sequence[Tensor | None] = ()
) -> Tensor:
    """Where overflow fired in ``run`` with the same arguments."""
    words = seed if spec.is_stochastic else None
    if scales:
        fired: Tensor = torch.ops.lowprec.overflowed_with(x, scales, words, *spec, stream)
    else:
        fired = torch.ops.lowprec.overflowed(x, words, *spec, stream)
    return fired


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
        levels: int,
        inner: Tensor | None,
        outer: Tensor | None,
    ) -> Tensor:
        """Quantize if a spec is given; else pass x on. ``levels`` of the scales are used."""
        scales = [inner, outer][:levels]  # no `*scales`, of which torch.compile miscounts two
        y = x.view_as(x) if spec is None else run(x, seed, spec, stream, scales)
        kept = scales if clip_gradient else []
        ctx.save_for_backward(x if clip_gradient or rule else None, y if rule else None, seed, *kept)
        ctx.options = spec, error, clip_gradient, rule, stream, owner
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The rule, then zeros where overflow fired, then the error cast."""
        (gradient,) = gradients
        x, y, seed, *scales = ctx.saved_tensors
        spec, error, clip_gradient, rule, stream, owner = ctx.options
        if rule is not None:
            gradient = rule(gradient, x, y)
        if clip_gradient:
            gradient = torch.where(overflowed(x, seed, spec, stream, scales), 0.0, gradient)
        if error is not None:
            incoming = gradient
            gradient = run(incoming, seed, error, BACKWARD)
            observe("error", owner, incoming, gradient, seed, error, BACKWARD)
        return gradient, *[None] * 10


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
    scales: Sequence[Tensor | None] = (),
) -> Tensor:
    """Quantize by ``spec``; its gradient by the rule, clipped, and cast by ``error``.

    ``owner`` is the id of the layer to whose record the error belongs; ``scales``, if any, are those of
    the forward.
    """
    inner, outer = (*scales, None, None)[:2]
    result: Tensor = _Ruled.apply(
        x, seed, spec, error, clip_gradient, rule, stream, owner, len(scales), inner, outer
    )
    return result
