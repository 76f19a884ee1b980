"""Updates of optimizers, and digests of what they leave."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lowprec.kernels.cuda import updates
from lowprec.kernels.steps import Descent, Moments
from lowprec.kernels.updates import UNIT
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.cuda.queue import queue_of


def update(
    kind: Descent | Moments, gradient: Tensor, weight: Tensor, states: Sequence[Tensor],
    constants: Sequence[float],
) -> None:  # fmt: skip
    """Update a weight and its states in place; tensors of one shape, dtype and device, of any strides."""
    written = [weight, *states]
    dense = [t.contiguous() for t in written]
    given = gradient.contiguous()
    updates.update(
        queue_of(weight), CARRIERS[weight.dtype], kind, given.data_ptr(), dense[0].data_ptr(),
        [t.data_ptr() for t in dense[1:]], constants, weight.numel(),
    )  # fmt: skip
    for t, copy in zip(written, dense, strict=True):
        if copy is not t:
            t.copy_(copy)


def digest(x: Tensor) -> Tensor:
    """The kernel of digest."""
    x = x.resolve_neg().contiguous()
    sums = torch.zeros(-(-x.numel() // UNIT), dtype=torch.int64, device=x.device)
    updates.digest(queue_of(x), x.data_ptr(), sums.data_ptr(), x.element_size(), x.numel())
    return sums
