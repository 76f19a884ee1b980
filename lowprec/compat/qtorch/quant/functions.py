"""Rounding one tensor, as QPyTorch spells it."""

from torch import Tensor

from lowprec.compat.qtorch.number import BlockFloatingPoint, FixedPoint, FloatingPoint, Number
from lowprec.errors import type_error, value_error
from lowprec.modes import Rounding
from lowprec.ops import quantize


def mode_of(number: Number, rounding: str, name: str) -> Rounding:
    """The lowprec mode that QPyTorch's ``"nearest"`` or ``"stochastic"`` is for a number."""
    if rounding == "nearest":
        return number.nearest
    if rounding == "stochastic":
        return Rounding.STOCHASTIC
    raise value_error(name, "be 'stochastic' or 'nearest'", rounding, "More are in lowprec.quantize.")


def _rounded(x: Tensor, number: Number, rounding: str) -> Tensor:
    """A tensor rounded to a number, cut from the graph."""
    mode = mode_of(number, rounding, "rounding")
    if not isinstance(x, Tensor):
        raise type_error("x", "be a tensor", type(x), "Wrap it with torch.tensor.")
    y = quantize(x.detach(), number.native, rounding=mode)
    return y if number.ends is None else y.clamp_(*number.ends)


def fixed_point_quantize(
    x: Tensor, wl: int, fl: int, clamp: bool = True, symmetric: bool = False, rounding: str = "stochastic"
) -> Tensor:
    """Round every element of ``x`` to fixed point.

    NaN stays NaN; values and infinities past an end become the end, or stay without ``clamp``; there is
    no -0.

    Args:
        x: A floating-point tensor of any shape; the result carries no gradient, as in QPyTorch.
        wl: Word length, the sign included.
        fl: Fraction length.
        clamp: Whether values past the ends are clamped.
        symmetric: Whether the most negative value is left out.
        rounding: ``"stochastic"``, or ``"nearest"``: ties to even.

    Returns:
        A tensor of the shape and dtype of x.

    Raises:
        TypeError: If x is no floating-point tensor, or an option has the wrong type.
        ValueError: If a length or the rounding is none, or the dtype of x cannot hold the values.

    Example:
        >>> import torch
        >>> fixed_point_quantize(torch.tensor([0.3, 3.0]), 8, 6, rounding="nearest")
        tensor([0.2969, 1.9844])
    """
    return _rounded(x, FixedPoint(wl, fl, clamp, symmetric), rounding)


def block_quantize(x: Tensor, wl: int, dim: int = -1, rounding: str = "stochastic") -> Tensor:
    """Round every element of ``x`` to block floating point.

    NaN stays NaN and an infinity becomes the block's largest value; neither has a say in the exponent.

    Args:
        x: A floating-point tensor of any shape; the result carries no gradient, as in QPyTorch.
        wl: Word length of a mantissa, the sign included.
        dim: The dimension each of whose indices has an exponent of its own; -1 for one exponent in all.
            Other negative ones count from the end.
        rounding: ``"stochastic"``, or ``"nearest"``: ties toward +infinity.

    Returns:
        A tensor of the shape and dtype of x.

    Raises:
        TypeError: If x is no floating-point tensor, or an option has the wrong type.
        ValueError: If the length, the dimension or the rounding is none, or the dtype of x cannot hold
            the values.

    Example:
        >>> import torch
        >>> block_quantize(torch.tensor([1.0, 0.375, -0.375]), 4, rounding="nearest")
        tensor([ 1.0000,  0.5000, -0.2500])
    """
    if isinstance(x, Tensor) and isinstance(dim, int) and -x.dim() <= dim < -1:
        dim += x.dim()
    return _rounded(x, BlockFloatingPoint(wl, dim), rounding)


def float_quantize(x: Tensor, exp: int, man: int, rounding: str = "stochastic") -> Tensor:
    """Round every element of ``x`` to floating point.

    NaN stays NaN; values and infinities past the largest value become it, infinities where ``exp`` is 8.

    Args:
        x: A floating-point tensor of any shape; the result carries no gradient, as in QPyTorch.
        exp: Exponent bits, 1 to 8.
        man: Mantissa bits, those that are stored, 0 to 23.
        rounding: ``"stochastic"``, or ``"nearest"``: ties away from zero.

    Returns:
        A tensor of the shape and dtype of x.

    Raises:
        TypeError: If x is no floating-point tensor, or an option has the wrong type.
        ValueError: If a width or the rounding is none, or the dtype of x cannot hold the values.

    Example:
        >>> import torch
        >>> float_quantize(torch.tensor([1.125, 1e9]), 5, 2, rounding="nearest")
        tensor([1.2500e+00, 1.1469e+05])
    """
    return _rounded(x, FloatingPoint(exp, man), rounding)
