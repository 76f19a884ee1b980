"""Digests: what tells a tensor from all that somebody would put in its place, without a copy of it.

``torch.ops.lowprec.digest(x)`` is the operator.
"""

import numpy as np
import torch
from torch import Tensor

from lowprec.kernels import updates

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define("digest(Tensor x) -> Tensor")


def digest(x: Tensor) -> Tensor:
    """Sums of patterns, each mixed with its place; -0 counts as 0.

    Args:
        x: A real tensor of 16, 32 or 64 bits an element.

    Returns:
        int64, one sum for each unit of updates.UNIT elements. Tensors whose sums differ differ; two that
        somebody made without the sums in mind have equal ones with a probability of about 2^-32, and
        never if they differ in one element.

    Example:
        >>> x = torch.eye(50)
        >>> torch.equal(digest(x), digest(x.clone())), torch.equal(digest(x), digest(x.flip(0)))
        (True, False)
    """
    sums: Tensor = torch.ops.lowprec.digest(x.detach())
    return sums


def _digest(x: Tensor) -> Tensor:
    """The CPU kernel of digest."""
    x = x.resolve_neg().contiguous()
    sums = updates.digest(x.data_ptr(), x.element_size(), x.numel(), torch.get_num_threads())
    return torch.from_numpy(sums.view(np.int64))


def _digest_on_device(x: Tensor) -> Tensor:
    """The CUDA kernel of digest."""
    from lowprec.ops.cuda.updates import digest

    return digest(x)


_library.impl("digest", _digest, "CPU")
_library.impl("digest", _digest_on_device, "CUDA")


@torch.library.register_fake("lowprec::digest", lib=_library)
def _(x: Tensor) -> Tensor:
    return x.new_empty(-(-x.numel() // updates.UNIT), dtype=torch.int64)
