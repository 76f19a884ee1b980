"""What runs the kernels of the tests marked cudasim: Numba's simulator, or a machine for their PTX."""

import pytest
from simulator import EXECUTED


@pytest.fixture(autouse=EXECUTED)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the compiled kernels in place of a device."""
    from ptx_machine import launch

    from lowprec.kernels.cuda.twin import Twin

    def run(twin: Twin, queue, blocks: int, threads: tuple[int, int], *arguments) -> None:
        """On the grid that the queue asks for, if it does."""
        launch(twin, *(queue.grid or (blocks, threads)), *arguments)

    monkeypatch.setattr(Twin, "launch", run)
