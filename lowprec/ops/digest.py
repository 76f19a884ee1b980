"""Digests: what tells a tensor from all that somebody would put in its place, without a copy of it."""

import numpy as np
import torch
from torch import Tensor

from lowprec.kernels import updates


def digest(x: Tensor) -> Tensor:
    """Sums of the patterns of x times numbers that depend on their places; -0 counts as 0.

    Args:
        x: A real tensor on the CPU, of 16, 32 or 64 bits an element.

    Returns:
        int64, one sum for each unit of updates.UNIT elements. Tensors whose sums differ differ; two that
        somebody made without the sums in mind have equal ones with a probability of about 2^-32, and
        never if they differ in one element.

    Example:
        >>> x = torch.ones(5000)
        >>> torch.equal(digest(x), digest(x.clone())), torch.equal(digest(x), digest(x + 1))
        (True, False)
    """
    x = x.detach().resolve_neg().contiguous()
    sums = updates.digest(x.data_ptr(), x.element_size(), x.numel(), torch.get_num_threads())
    return torch.from_numpy(sums.view(np.int64))
