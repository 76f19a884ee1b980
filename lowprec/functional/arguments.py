"""What functions of layers refuse before anything is computed: arguments that no product can have."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error

Size = int | Sequence[int]
"""One number for all spatial dimensions, or one for each."""


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype in which torch.autocast has a tensor's device compute, if any: none where all is meta."""
    device = x.device.type
    enabled = not x.is_meta and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else None


def check_tensors(**operands: object) -> None:
    """Refuse operands that are no tensors."""
    for name, x in operands.items():
        if not isinstance(x, Tensor):
            raise type_error(name, "be a tensor of numbers", type(x))


def check_linear(input: Tensor, weight: Tensor) -> None:
    """Refuse operands of other dimensions than a linear product has."""
    if input.dim() < 1:
        raise value_error("input", "have at least one dimension", tuple(input.shape))
    if weight.dim() != 2:
        raise value_error("weight", "have two dimensions, outputs and inputs", tuple(weight.shape))


def check_convolution(input: Tensor, weight: Tensor, dimensions: int, groups: int) -> None:
    """Refuse operands of other dimensions than a convolution has."""
    if weight.dim() != dimensions + 2:
        raise value_error("weight", f"have {dimensions + 2} dimensions", tuple(weight.shape))
    if min(weight.shape[2:]) < 1:
        raise value_error("weight", "have at least one element in its window", tuple(weight.shape))
    if input.dim() not in (dimensions + 1, dimensions + 2):
        must = f"have {dimensions + 2} dimensions, or {dimensions + 1} without a batch"
        raise value_error("input", must, tuple(input.shape))
    if groups < 1:
        raise value_error("groups", "be at least 1, which is one group", groups)


def in_each(name: str, size: Size, dimensions: int, least: int) -> tuple[int, ...]:
    """One number for each dimension; others than torch takes are refused."""
    values = (size,) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(values) not in (1, dimensions) or not all(isinstance(value, int) for value in values):
        must = f"be an integer or a sequence of {dimensions}"
        raise type_error(name, must, size)
    if min(values) < least:
        raise value_error(name, f"be at least {least} in each dimension", size)
    return values * dimensions if len(values) == 1 else values
