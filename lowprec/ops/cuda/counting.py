"""count, and overflows of sums: what was counted is brought to the host, which waits for the device."""

import torch
from torch import Tensor

from lowprec.arithmetic import Arithmetic
from lowprec.kernels.counting import Counted, counted
from lowprec.kernels.cuda import counting, overflows
from lowprec.kernels.limits import Limits
from lowprec.kernels.operands import Measure
from lowprec.kernels.overflows import plan_of
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.cuda.queue import address_of, queue_of
from lowprec.ops.products import operand_of

_INFINITY, _HIDDEN = 0x7FF << 52, 1 << 52
"""Patterns of binary64."""


def count(x: Tensor, y: Tensor, limits: tuple[Limits, Limits]) -> Counted:
    """What rounding ``x`` to ``y`` did."""
    given = CARRIERS[x.dtype], tuple(x.shape), x.stride(), y.stride()
    rows = torch.zeros(counting.rows_of(*given), dtype=torch.int64, device=x.device)
    counting.count(queue_of(x), x.data_ptr(), y.data_ptr(), rows.data_ptr(), *given, limits)
    return counted(rows.cpu().numpy(), given[0], x.numel())


def count_overflows(
    a: Tensor, b: Tensor, arithmetic: Arithmetic, seed: Tensor | None, stream: int
) -> tuple[int, int] | None:
    """How many sums there are in the products of two batches of matrices, and how many of them overflow.

    None where they are not counted.
    """
    results, depth = a.shape[0] * a.shape[1] * b.shape[2], a.shape[2]
    plan = plan_of(arithmetic, measured(a), measured(b), results, depth)
    if plan is None or not plan.sums:
        return None if plan is None else (0, 0)
    found = torch.zeros(1, dtype=torch.int64, device=a.device)
    noise = address_of(seed), stream
    overflows.count(queue_of(a), operand_of(a), operand_of(b), plan, found.data_ptr(), noise)
    return plan.sums, int(found)


def measured(x: Tensor) -> Measure:
    """What the numbers of a tensor have in common, as the CPU measures its operands."""
    bits = x.double().view(torch.int64)
    magnitude = bits & (1 << 63) - 1
    strange = [bool((magnitude == _INFINITY).any()), bool((magnitude > _INFINITY).any())]
    known = magnitude[(magnitude > 0) & (magnitude < _INFINITY)]
    if not known.numel():
        return Measure(0, 0, 1, not strange[0], strange[1])
    significand = known & _HIDDEN - 1 | _HIDDEN
    zeros = ((significand & -significand).double().view(torch.int64) >> 52) - 1023
    exponent = (known >> 52) - 1023  # of a subnormal, past all bounds
    top, low, least = (int(n) for n in (exponent.max(), (exponent - 52 + zeros).min(), zeros.min()))
    return Measure(top, low, 53 - least, not strange[0], strange[1])
