"""pack and unpack. An error needs to know what the device holds, so both wait for it where one may be due."""

import torch
from torch import Tensor

from lowprec.kernels.cuda import packing
from lowprec.ops.cuda.queue import queue_of


def pack(codes: Tensor, packed: Tensor, bits: int) -> bool:
    """Write contiguous codes without gaps; whether all lie below ``2**bits``."""
    excess = torch.zeros(1, dtype=torch.int32, device=codes.device)
    packing.pack(queue_of(codes), codes.data_ptr(), packed.data_ptr(), excess.data_ptr(), bits, codes.numel())
    return bits == 8 * codes.element_size() or not excess.any()


def unpack(packed: Tensor, codes: Tensor, bits: int) -> None:
    """Write the codes."""
    packing.unpack(queue_of(packed), packed.data_ptr(), codes.data_ptr(), bits, codes.numel())
