"""Products of matrices, with the signatures of torch and a scheme."""

from collections.abc import Callable

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.functional.bilinear import MatmulProduct
from lowprec.functional.plan import MATMUL_AXES, Arithmetics, plan_and_seed
from lowprec.functional.products import RoundedProduct, simulate
from lowprec.ops.quantize import check_tensor
from lowprec.scheme import Scheme

_MATMUL = MatmulProduct()


def matmul(
    input: Tensor,
    other: Tensor,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.matmul`` with operands, errors, sums and output rounded as the scheme says.

    The first operand is rounded as the scheme's input, the second as its weight; the sums inside the
    product, and inside the two products of the gradients, by its arithmetic. NaN, infinities and
    overflow follow each operand's format, then the arithmetic; an empty sum is +0. The gradient of a
    single matrix beside batches is one sum over all of them, unless the arithmetic has blocks; gradients
    of batches that broadcast are added by torch.

    Args:
        input: Float32, bfloat16, float16 or float64, of one dimension or more; ``(*, i, k)``.
        other: The same dtype; ``(*, k, j)``. Batch dimensions broadcast.
        scheme: A scheme or its name; its rules and optimizer roles have no say here.
        training: Use the casts' training modes rather than their ``eval_rounding``.
        seed: Seed of all noise of this call; None to draw one.

    Returns:
        The product, of the shape that torch.matmul gives it.

    Raises:
        TypeError: If an operand is no tensor, or dtypes differ or are no carrier.
        ValueError: If sizes do not fit, a carrier cannot hold a format, products of the operands are
            not exact in float64, or a seed is given where nothing is stochastic.

    Example:
        >>> import torch
        >>> ones = torch.ones(3000)
        >>> matmul(ones, ones, scheme=Scheme(arithmetic="binary16"))
        tensor(2048.)
    """
    _check(input, other)
    plan, seeds = plan_and_seed(input, scheme, MATMUL_AXES, training=training, seed=seed)
    return _of_matrices(
        input, other, lambda rows, columns: simulate(rows, columns, None, _MATMUL, plan, seeds, seeds)
    )


def matmul_in(
    input: Tensor, other: Tensor, arithmetics: Arithmetics, seed: Tensor | None, names: tuple[str, str]
) -> Tensor:
    """``torch.matmul`` of operands as they are, with its sums and those of the gradients in arithmetics."""
    _check(input, other, *names)
    check_tensor(input, names[0])
    if other.dtype != input.dtype:
        raise type_error(names[1], f"have the dtype of the first operand, {input.dtype}", other.dtype)
    return _of_matrices(
        input,
        other,
        lambda rows, columns: RoundedProduct.apply(rows, columns, None, seed, _MATMUL, arithmetics, 0),
    )


def _of_matrices(input: Tensor, other: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A product of what may be vectors."""
    rows = input.unsqueeze(0) if input.dim() == 1 else input
    columns = other.unsqueeze(-1) if other.dim() == 1 else other
    y = multiply(rows, columns)
    y = y.squeeze(-1) if other.dim() == 1 else y
    return y.squeeze(-1 if other.dim() == 1 else -2) if input.dim() == 1 else y


def bmm(
    input: Tensor,
    mat2: Tensor,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.bmm`` with operands, errors, sums and output rounded as the scheme says; see ``matmul``.

    Args:
        input: Shape ``(batch, i, k)``; dtypes as for ``matmul``.
        mat2: Shape ``(batch, k, j)``.
        scheme: As for ``matmul``.
        training: As for ``matmul``.
        seed: As for ``matmul``.

    Returns:
        The products, shape ``(batch, i, j)``.

    Raises:
        TypeError: As ``matmul``.
        ValueError: As ``matmul``, and if an operand has not three dimensions or batches differ.

    Example:
        >>> import torch
        >>> bmm(torch.ones(1, 1, 20), torch.ones(1, 20, 1), scheme=Scheme(arithmetic="e4m3fn"))
        tensor([[[16.]]])
    """
    for name, x in (("input", input), ("mat2", mat2)):
        if isinstance(x, Tensor) and x.dim() != 3:
            raise value_error(name, "have three dimensions", tuple(x.shape))
    _check(input, mat2, second="mat2")
    if input.shape[0] != mat2.shape[0]:
        raise value_error("mat2", f"have {input.shape[0]} matrices", tuple(mat2.shape))
    return matmul(input, mat2, scheme=scheme, training=training, seed=seed)


def _check(input: Tensor, other: Tensor, first: str = "input", second: str = "other") -> None:
    """Refuse what has no product."""
    for name, x in ((first, input), (second, other)):
        if not isinstance(x, Tensor):
            raise type_error(name, "be a tensor", type(x))
        if x.dim() == 0:
            raise value_error(name, "have a dimension", x, "Multiply numbers with `*`.")
    size = other.shape[-2] if other.dim() > 1 else other.shape[0]
    if input.shape[-1] != size:
        must = f"have {input.shape[-1]} rows, as many as the first operand has columns"
        raise value_error(second, must, tuple(other.shape))
    try:
        torch.broadcast_shapes(input.shape[:-2], other.shape[:-2])
    except RuntimeError:
        must = f"have batch dimensions that broadcast with those of the first operand, {tuple(input.shape)}"
        raise value_error(second, must, tuple(other.shape)) from None
