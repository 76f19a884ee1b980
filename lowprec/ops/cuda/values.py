"""quantize, quantize_out and overflowed; codes of formats without groups."""

from torch import Tensor

from lowprec.formats import GroupedFormat, resolve
from lowprec.kernels.cuda import elementwise
from lowprec.ops.carriers import CARRIERS, Strides
from lowprec.ops.cuda import groups
from lowprec.ops.cuda.queue import address_of, queue_of


def quantize(
    x: Tensor, out: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int,
    stream: int, index_offset: int, index_strides: Strides, kind: int,
) -> None:  # fmt: skip
    """Write values, or flags where overflow fires."""
    if isinstance(resolve(format), GroupedFormat):
        groups.quantize(
            x, out, seed, format, rounding, random_bits, stream, index_offset, index_strides, kind
        )
        return
    elementwise.quantize(
        queue_of(x), x.data_ptr(), out.data_ptr(), CARRIERS[x.dtype], tuple(x.shape), x.stride(),
        out.stride(), format, rounding, random_bits, kind, (address_of(seed), stream, -1), index_offset,
        None if index_strides is None else tuple(index_strides),
    )  # fmt: skip


def encode(
    x: Tensor, source: int, target: int, carrier: str, code: str, size: int, format: str, *, decode: bool
) -> None:
    """Write the codes of contiguous values of a format; with ``decode`` the reverse."""
    elementwise.encode(queue_of(x), source, target, carrier, code, size, format, decode=decode)
