"""Rounding forward and backward: lowprec's Quantizer behind QPyTorch's arguments."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lowprec.compat.qtorch.number import FixedPoint, Number
from lowprec.compat.qtorch.quant.functions import mode_of
from lowprec.errors import type_error, value_error
from lowprec.quantizer import Quantizer as NativeQuantizer

Hook = Callable[[Tensor], Tensor]


class _StraightClamp(torch.autograd.Function):
    """Clamp; the gradient passes straight through, or not where values were clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, masked: bool) -> Tensor:
        """Clamp, and keep where."""
        ctx.save_for_backward((x < low) | (x > high) if masked else None)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Zeros where values were clamped, if asked for."""
        (clamped,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient if clamped is None else gradient.masked_fill(clamped, 0.0), None, None, None


class _Clamp(torch.nn.Module):
    """The ends of a word whose ends are not its format's."""

    def __init__(self, ends: tuple[float, float], *, masked: bool) -> None:
        super().__init__()
        self.ends = ends
        self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        """Clamp ``x``."""
        y: Tensor = _StraightClamp.apply(x, *self.ends, self.masked)
        return y


class _ClampError:
    """The same for errors: a gradient rule."""

    def __init__(self, ends: tuple[float, float]) -> None:
        self.ends = ends

    def __call__(self, gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Clamp the gradient."""
        return gradient.clamp(*self.ends)


class _Hooks:
    """Functions applied to the gradient one after the other: a gradient rule."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self.hooks = tuple(hooks)
        for hook in self.hooks:
            if not callable(hook):
                raise type_error("backward_hooks", "hold functions", hook)

    def __call__(self, gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Apply them."""
        for hook in self.hooks:
            gradient = hook(gradient)
        return gradient


class _Function:
    """A module as a plain function: not a part of the model that keeps it as an attribute."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        """Call the module."""
        y: Tensor = self.module(x)
        return y

    def __repr__(self) -> str:
        """The module."""
        return f"quantizer: {self.module!r}"


def quantizer(
    forward_number: Number | None = None,
    backward_number: Number | None = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
    clamping_grad_zero: bool = False,
    backward_hooks: Iterable[Hook] = [],
) -> _Function:
    """A function that rounds a tensor forward and its gradient backward.

    The gradient goes through the hooks in their order, is rounded to ``backward_number``, and becomes zero
    where the forward clamped, if ``clamping_grad_zero``. NaN, infinities and overflow are the numbers'
    affair.

    Args:
        forward_number: The number to round to; None to pass values on.
        backward_number: The number to round gradients to; None to pass them on.
        forward_rounding: ``"stochastic"`` or ``"nearest"``.
        backward_rounding: The same for gradients.
        clamping_grad_zero: Give no gradient where the forward clamped; for fixed point with clamp.
        backward_hooks: Functions from tensor to tensor.

    Returns:
        A function from tensor to tensor, which can be copied and pickled.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a rounding is unknown or ``clamping_grad_zero`` has no clamping to act on.

    Example:
        >>> from lowprec.compat.qtorch import FixedPoint
        >>> round_to_words = quantizer(FixedPoint(8, 6), forward_rounding="nearest")
        >>> round_to_words(torch.tensor([0.3]))
        tensor([0.2969])
    """
    forward = _arguments(forward_number, forward_rounding, "forward")
    backward = _arguments(backward_number, backward_rounding, "backward")
    _check_clamping(forward_number, clamping_grad_zero)
    hooks = _Hooks(backward_hooks)
    ends = None if forward_number is None else forward_number.ends
    error_ends = None if backward_number is None else backward_number.ends
    if not (clamping_grad_zero or hooks.hooks or ends or error_ends):
        return _Function(NativeQuantizer(**forward, **backward))
    # Gradients meet these from the last to the first.
    masked = clamping_grad_zero and bool(forward)
    parts: list[torch.nn.Module] = [NativeQuantizer(**forward, clip_gradient=masked and ends is None)]
    if ends is not None:
        parts.append(_Clamp(ends, masked=masked))
    if error_ends is not None:
        parts.append(NativeQuantizer(gradient=_ClampError(error_ends)))
    parts.append(NativeQuantizer(**backward, gradient=hooks if hooks.hooks else None))
    return _Function(torch.nn.Sequential(*parts))


def _check_clamping(number: Number | None, clamping_grad_zero: bool) -> None:
    """Refuse a mask of clamped values where nothing is clamped."""
    if not isinstance(clamping_grad_zero, bool):
        raise type_error("clamping_grad_zero", "be True or False", clamping_grad_zero)
    if not clamping_grad_zero or number is None:
        return
    if not isinstance(number, FixedPoint):
        raise value_error("forward_number", "be a FixedPoint to zero clamped gradients", number)
    if not number.clamp:
        raise value_error("clamp", "be True to zero clamped gradients", number.clamp)


def _arguments(number: Number | None, rounding: str, side: str) -> dict[str, Any]:
    """The arguments of lowprec's Quantizer for the forward or the backward side."""
    if number is not None and not isinstance(number, Number):
        must = "be a FixedPoint, FloatingPoint or BlockFloatingPoint of lowprec.compat.qtorch, or None"
        raise type_error(f"{side}_number", must, number)
    mode = mode_of(FixedPoint(8, 6) if number is None else number, rounding, f"{side}_rounding")
    if number is None:
        return {}
    names = ("format", "rounding") if side == "forward" else ("error", "error_rounding")
    return dict(zip(names, (number.native, mode), strict=True))


class Quantizer(torch.nn.Module):
    """Round activations forward and errors backward, as a layer.

    NaN, infinities and overflow are the numbers' affair. A tuple is rounded tensor by tensor; tensors of
    integers, such as the indices of a pooling layer, are passed on.

    Args:
        forward_number: The number to round to; None to pass values on.
        backward_number: The number to round gradients to; None to pass them on.
        forward_rounding: ``"stochastic"`` or ``"nearest"``.
        backward_rounding: The same for gradients.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a rounding is unknown.

    Example:
        >>> from lowprec.compat.qtorch import FloatingPoint
        >>> Quantizer(FloatingPoint(5, 2), forward_rounding="nearest")(torch.tensor([1.125]))
        tensor([1.2500])
    """

    def __init__(
        self,
        forward_number: Number | None = None,
        backward_number: Number | None = None,
        forward_rounding: str = "stochastic",
        backward_rounding: str = "stochastic",
    ) -> None:
        super().__init__()
        function = quantizer(forward_number, backward_number, forward_rounding, backward_rounding)
        self.quantize = function.module  # a part of this layer, so that lowprec.record sees it

    def forward(self, x: Any) -> Any:
        """Round ``x``, a tensor or a tuple of tensors."""
        if isinstance(x, tuple):
            return tuple(self.quantize(y) if torch.is_floating_point(y) else y for y in x)
        return self.quantize(x)
