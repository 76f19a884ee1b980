"""What observers see of tensors on CUDA devices."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.kernels.groups import NEGATIVE, POSITIVE
from lowprec.kernels.layout import layout
from lowprec.ops.cuda.groups import maxima_of


def ends(x: Tensor, tiles: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The least and the largest finite element of each tile, or zero where none has that sign."""
    shape = tuple(x.shape)
    plan = layout(shape, x.stride(), x.stride(), None, 0, tuple(tiles))
    patterns = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    negative, positive = (
        maxima_of(x, plan, side).to(patterns).view(x.dtype).reshape(plan.grid)
        for side in (NEGATIVE, POSITIVE)
    )
    return -negative, positive


def refuse_search(x: Tensor) -> NoReturn:
    """Refuse statistics that are found by sorting or by trying."""
    raise value_error("x", "be on the CPU for percentiles and least errors", str(x.device), "Use x.cpu().")
