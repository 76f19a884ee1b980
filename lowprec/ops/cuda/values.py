"""quantize, quantize_out and overflowed."""

from torch import Tensor

from lowprec.errors import value_error
from lowprec.formats import GroupedFormat, resolve
from lowprec.kernels.cuda import elementwise
from lowprec.ops.carriers import CARRIERS, Strides
from lowprec.ops.cuda.queue import address_of, queue_of


def quantize(
    x: Tensor, out: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int,
    stream: int, index_offset: int, index_strides: Strides, kind: int,
) -> None:  # fmt: skip
    """Write values, or flags where overflow fires."""
    if isinstance(resolve(format), GroupedFormat):
        raise value_error("x", "be on the CPU for formats with groups", str(x.device), "Use x.cpu().")
    elementwise.quantize(
        queue_of(x), x.data_ptr(), out.data_ptr(), CARRIERS[x.dtype], tuple(x.shape), x.stride(),
        out.stride(), format, rounding, random_bits, kind, (address_of(seed), stream, -1), index_offset,
        None if index_strides is None else tuple(index_strides),
    )  # fmt: skip
