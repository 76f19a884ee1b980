"""count: what was counted is brought to the host, which waits for the device."""

import torch
from torch import Tensor

from lowprec.kernels.counting import Counted, counted
from lowprec.kernels.cuda import counting
from lowprec.kernels.limits import Limits
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.cuda.queue import queue_of


def count(x: Tensor, y: Tensor, limits: tuple[Limits, Limits]) -> Counted:
    """What rounding ``x`` to ``y`` did."""
    given = CARRIERS[x.dtype], tuple(x.shape), x.stride(), y.stride()
    rows = torch.zeros(counting.rows_of(*given), dtype=torch.int64, device=x.device)
    counting.count(queue_of(x), x.data_ptr(), y.data_ptr(), rows.data_ptr(), *given, limits)
    return counted(rows.cpu().numpy(), given[0], x.numel())
