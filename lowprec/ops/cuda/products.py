"""product."""

from torch import Tensor

from lowprec.arithmetic import Arithmetic
from lowprec.kernels.cuda.multiply import multiply
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.cuda.queue import address_of, queue_of
from lowprec.ops.products import operand_of


def product(
    a: Tensor, b: Tensor, bias: Tensor | None, seed: Tensor | None, arithmetic: Arithmetic, stream: int,
    bias_step: int, formats: list[str] | None,
) -> Tensor:  # fmt: skip
    """The products of two batches of matrices."""
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    multiply(
        queue_of(a), operand_of(a), operand_of(b), out.data_ptr(), CARRIERS[out.dtype], arithmetic,
        bias=None if bias is None else operand_of(bias.expand(1, 1, -1)),
        bias_step=bias_step,
        noise=(address_of(seed), stream),
        formats=tuple(formats or ()),
    )  # fmt: skip
    return out
