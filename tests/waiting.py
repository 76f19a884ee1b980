"""What makes a program wait for a device, seen without one: by the operations that torch is asked for."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
_READ = {
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.nonzero_numpy, aten.masked_select, aten.bincount,
    aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave,
}  # fmt: skip
"""The host needs their result, or how large it is."""
_SENT = {aten.lift_fresh}
"""Of data of the host, which torch.tensor takes."""
_COPIES = {aten._to_copy, aten.copy_, aten.copy}


class NeverWaits(TorchDispatchMode):
    """In which what would wait for a GPU is an error, on whatever device it runs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in _READ or packet in _SENT or _masks(packet, args):
            raise RuntimeError(f"{func} waits for the device")
        result = func(*args, **kwargs)
        if packet in _COPIES and len({x.device for x in tree_leaves((args, result)) if _is_tensor(x)}) > 1:
            raise RuntimeError(f"{func} copies from one device to another")
        return result


def _is_tensor(x: Any) -> bool:
    """Whether it has a device."""
    return isinstance(x, Tensor)


def _masks(packet: Any, args: Any) -> bool:
    """Whether a mask selects, which needs the places of what is true."""
    if packet not in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
        return False
    return any(_is_tensor(x) and x.dtype in (torch.bool, torch.uint8) for x in args[1])
