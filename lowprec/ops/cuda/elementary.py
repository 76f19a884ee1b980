"""One operation on each element, whose exact result is rounded once."""

from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from lowprec.formats import resolve
from lowprec.kernels.cuda import elementary
from lowprec.kernels.operate import overflow_of
from lowprec.modes import Overflow
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.cuda.given import refuse_where
from lowprec.ops.cuda.queue import address_of, queue_of


def operate(
    operation: str, operands: Sequence[Tensor], out: Tensor, seed: Tensor | None, format: str, rounding: str,
    random_bits: int, stream: int, refuse: Callable[[], NoReturn],
) -> None:  # fmt: skip
    """Write results; ``refuse`` raises the error of wrapped ones that are too large to be known."""
    read = [x.contiguous() for x in operands]
    wraps = overflow_of(resolve(format)) is Overflow.WRAP
    unknown = torch.zeros(1, dtype=torch.uint8, device=out.device) if wraps else None
    elementary.operate(
        queue_of(out), operation, [x.data_ptr() for x in read], out.data_ptr(), address_of(unknown),
        CARRIERS[out.dtype], out.numel(), format, rounding, random_bits, (address_of(seed), stream),
    )  # fmt: skip
    if unknown is not None:
        refuse_where(unknown, lambda _: refuse())
