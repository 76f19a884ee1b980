"""What is said of devices without a kernel: no copy is made behind the user's back."""

import pytest
import torch

from lowprec.ops.devices import check_place

OPERATORS = ["count", "elementary", "statistic", "scales_from", "digest", "pack", "unpack"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_operator_of_ours_is_unknown_to_cuda(operator: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"lowprec::{operator}", "CUDA")


def test_other_devices_have_none_at_all() -> None:
    class Metal:
        """A tensor that says that it lies elsewhere."""

        is_cpu = is_cuda = is_meta = False
        device = torch.device("mps:0")

    with pytest.raises(ValueError, match="`codes` must be on the CPU or a CUDA device"):
        check_place(Metal(), "codes")
