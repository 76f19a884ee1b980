"""Which seed a weight was read with by calls that drew another: a table on the device of the seeds.

No seed is looked at from the host, which would wait for a device and cannot be part of a CUDA graph.
"""

import torch
from torch import Tensor

REMEMBERED = 1 << 16
"""Readings that may wait for their backward; of more, the oldest are forgotten."""


class LentSeeds:
    """The last readings, each a pair of seeds.

    Args:
        device: Where the seeds are.
    """

    def __init__(self, device: torch.device) -> None:
        # All at once, and never moved: a CUDA graph keeps the addresses that it was captured with.
        self._pairs = torch.empty(REMEMBERED, 2, dtype=torch.int64, device=device)
        self._count = 0

    def __len__(self) -> int:
        """How many readings are remembered."""
        return min(self._count, len(self._pairs))

    def lend(self, drawn: Tensor, lent: Tensor) -> None:
        """Remember that a call drew one seed and read the weight with another."""
        self._count += 1
        torch.cat((drawn, lent), out=self._pairs[-self._count % len(self._pairs)])

    def seed_for(self, drawn: Tensor) -> Tensor:
        """With which seed the last call that drew this one read the weight: this one, if none is known."""
        newest = -self._count % len(self._pairs)  # each later one lies before
        older = self._pairs[: len(self) - (len(self._pairs) - newest)]
        pairs = torch.cat((self._pairs[newest:], older, drawn.expand(1, 2)))
        first = (pairs[:, 0] == drawn).int().argmax(0, keepdim=True)
        return pairs[:, 1].index_select(0, first)
