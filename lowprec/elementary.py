"""Single operations on tensors, correctly rounded to a format: what algorithms are simulated with.

Each result is the exact one rounded once. Operands are taken as they are, values of the format or not;
zeros, infinities and NaN are those of IEEE 754, and become what the format has for them.
"""

from typing import Any

import torch
from torch import Tensor

from lowprec.formats import FormatLike
from lowprec.modes import Rounding
from lowprec.ops.elementary import operated


def add(
    x: Any,
    y: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Any:
    """The sum ``x + y``, rounded once to a format.

    Not the carrier's sum rounded again, which would round twice. An exact sum of zero is +0, under
    ``"down"`` -0, unless both terms are zeros of one sign, which it keeps where the format has it.

    Args:
        x: A float16, bfloat16, float32 or float64 tensor, a number, or a float16, float32 or float64 array.
        y: Likewise; one of the two is no number. Shapes broadcast and dtypes are promoted as by torch. A
            number, or a tensor without dimensions beside others, is first rounded to the dtype of the result.
        format: The format of the result, its name, or a torch dtype: floating or fixed point, a posit or a
            list of values; nothing with groups or scales.
        rounding: One of the fifteen modes of Rounding.
        random_bits: How many bits of noise a stochastic mode uses, 1 to 32; None for 32.
        generator: Where the seed is drawn from; as for ``quantize``.
        seed: A 64-bit integer or a one-element int64 tensor. An element takes the random word of its
            position in the result, as in ``quantize``.
        out: Where the result goes, of its shape, dtype and device; it may be an operand.

    Returns:
        Values of the format in the promoted dtype, contiguous; an array where operands are arrays. ``out``,
        if given.

    Raises:
        TypeError: If an operand is none of these, or an option has the wrong type.
        ValueError: If shapes do not broadcast, the dtype of the result cannot hold the format, no kernel
            rounds results to it under this rounding, seed and generator are both given, noise options
            are given to a mode without noise, or out does not fit.

    Gradient:
        Straight-through: the identity for both operands, summed where they were broadcast.

    Example:
        >>> add(torch.tensor([1.0, 448.0]), torch.tensor([0.0625, 20.0]), "e4m3fn")
        tensor([  1., 448.])
    """
    operands = {"x": x, "y": y}
    return operated("add", operands, format, rounding, random_bits, generator, seed, out)


def sub(
    x: Any,
    y: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Any:
    """The difference ``x - y``, rounded once to a format; ``x + (-y)``, see ``add``.

    Args:
        x: As for ``add``.
        y: As for ``add``.
        format: As for ``add``.
        rounding: As for ``add``.
        random_bits: As for ``add``.
        generator: As for ``add``.
        seed: As for ``add``.
        out: As for ``add``.

    Returns:
        As ``add``.

    Raises:
        TypeError: As ``add``.
        ValueError: As ``add``.

    Gradient:
        The identity for x, the negated error for y.

    Example:
        >>> sub(torch.tensor([1.0]), 2**-12, "bfloat16", rounding="down")
        tensor([0.9961])
    """
    operands = {"x": x, "y": y}
    return operated("sub", operands, format, rounding, random_bits, generator, seed, out)


def mul(
    x: Any,
    y: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Any:
    """The product ``x * y``, rounded once to a format.

    The sign is that of IEEE 754, that of a zero too; zero times infinity is NaN.

    Args:
        x: As for ``add``.
        y: As for ``add``.
        format: As for ``add``.
        rounding: As for ``add``.
        random_bits: As for ``add``.
        generator: As for ``add``.
        seed: As for ``add``.
        out: As for ``add``.

    Returns:
        As ``add``.

    Raises:
        TypeError: As ``add``.
        ValueError: As ``add``.

    Gradient:
        That of the exact product, computed in the carrier: the error times the other operand.

    Example:
        >>> mul(torch.tensor([1.125, 30.0]), torch.tensor([1.125, 30.0]), "e4m3fn")
        tensor([  1.2500, 448.0000])
    """
    operands = {"x": x, "y": y}
    return operated("mul", operands, format, rounding, random_bits, generator, seed, out)


def div(
    x: Any,
    y: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Any:
    """The quotient ``x / y``, rounded once to a format.

    A number over zero is an infinity, which becomes what the format has for one; 0/0 is NaN.

    Args:
        x: As for ``add``.
        y: As for ``add``.
        format: As for ``add``.
        rounding: As for ``add``.
        random_bits: As for ``add``.
        generator: As for ``add``.
        seed: As for ``add``.
        out: As for ``add``.

    Returns:
        As ``add``.

    Raises:
        TypeError: As ``add``.
        ValueError: As ``add``.

    Gradient:
        That of the exact quotient, computed in the carrier.

    Example:
        >>> div(torch.tensor([1.0, 1.0]), torch.tensor([3.0, 0.0]), "e5m2")
        tensor([0.3125,    inf])
    """
    operands = {"x": x, "y": y}
    return operated("div", operands, format, rounding, random_bits, generator, seed, out)


def sqrt(
    x: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Any:
    """The square root, rounded once to a format.

    That of a number below zero is NaN, that of -0 is -0.

    Args:
        x: As for ``add``.
        format: As for ``add``.
        rounding: As for ``add``.
        random_bits: As for ``add``.
        generator: As for ``add``.
        seed: As for ``add``.
        out: As for ``add``.

    Returns:
        As ``add``.

    Raises:
        TypeError: As ``add``.
        ValueError: As ``add``.

    Gradient:
        That of the exact root, computed in the carrier: the error over twice the root.

    Example:
        >>> sqrt(torch.tensor([2.0, -1.0]), "e4m3fn")
        tensor([1.3750,    nan])
    """
    operands = {"x": x}
    return operated("sqrt", operands, format, rounding, random_bits, generator, seed, out)


def fma(
    x: Any,
    y: Any,
    z: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Any:
    """A fused multiply-add: ``x * y + z``, of which only the sum is rounded, once.

    A sum of zero has the sign that ``add`` gives it.

    Args:
        x: As for ``add``.
        y: As for ``add``.
        z: As for ``add``.
        format: As for ``add``.
        rounding: As for ``add``.
        random_bits: As for ``add``.
        generator: As for ``add``.
        seed: As for ``add``.
        out: As for ``add``.

    Returns:
        As ``add``.

    Raises:
        TypeError: As ``add``.
        ValueError: As ``add``.

    Gradient:
        That of the exact result, computed in the carrier: the error times y, times x, and the error itself.

    Example:
        >>> x = torch.tensor([1.125])
        >>> fma(x, x, -1.25, "e4m3fn"), sub(mul(x, x, "e4m3fn"), 1.25, "e4m3fn")
        (tensor([0.0156]), tensor([0.]))
    """
    operands = {"x": x, "y": y, "z": z}
    return operated("fma", operands, format, rounding, random_bits, generator, seed, out)
