"""Torch's current stream, and memory of its allocator, as kernels take them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.kernels.cuda.twin import Memory, Queue


def queue_of(x: Tensor) -> Queue:
    """The current stream of a tensor's device; in the simulator, where tensors lie on the CPU, none."""

    def allocate(count: int) -> Memory:
        """Memory that torch gives to others only in the order of the stream."""
        memory = torch.empty(count, dtype=torch.uint8, device=x.device)
        return Memory(memory.data_ptr(), memory)

    def upload(data: npt.NDArray[np.uint8]) -> Memory:
        """A copy on the device."""
        memory = torch.from_numpy(data.copy()).to(x.device)
        return Memory(memory.data_ptr(), memory)

    stream = torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    return Queue(x.device.index or 0, stream, allocate, upload)


def address_of(seed: Tensor | None) -> int:
    """Where a seed lies; 0 where no rounding needs one."""
    return 0 if seed is None else seed.data_ptr()
