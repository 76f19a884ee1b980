"""What runs the kernels of the tests marked cudasim: Numba's simulator, or a machine for their PTX."""

import pytest
import torch
from simulator import EXECUTED


@pytest.fixture(autouse=EXECUTED)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run compiled kernels in place of a device, on the memory of tensors that were asked where they lie."""
    from ptx_machine import Regions, launch

    from lowprec.kernels.cuda import tables, twin

    regions, place, memory = Regions(), torch.Tensor.data_ptr, twin.Memory

    def run(self: twin.Twin, queue, blocks: int, threads: tuple[int, int], *arguments) -> None:
        """On the grid that the queue asks for, if it does."""
        launch(self, *(queue.grid or (blocks, threads)), arguments, regions)

    def noted(x: torch.Tensor) -> int:
        """Where a tensor lies."""
        regions.add(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes())
        return place(x)

    def allocated(address: int, owner) -> twin.Memory:
        """What a queue gives."""
        regions.add(address, owner.nbytes)
        return memory(address, owner)

    monkeypatch.setattr(twin.Twin, "launch", run)
    monkeypatch.setattr(torch.Tensor, "data_ptr", noted)
    monkeypatch.setattr(twin, "Memory", allocated)
    monkeypatch.setattr(tables, "_copies", {})  # those of other tests are not noted
