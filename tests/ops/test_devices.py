"""What is said of devices without a kernel: no copy is made behind the user's back."""

import pytest
import torch

from lowprec.ops import elementary
from lowprec.ops.devices import check_place


class Elsewhere:
    """A tensor that says that it lies on a CUDA device."""

    is_cpu, is_cuda, device = False, True, torch.device("cuda:0")


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (
            lambda x: elementary._elementary_elsewhere("add", [x, x], None, "e4m3fn", "nearest_even", 32, 0),
            "add",
        ),
    ],
)
def test_what_only_the_cpu_does(call, operation) -> None:
    message = f"`x` must be on the CPU for {operation}, which no other device has a kernel for, got 'cuda:0'"
    with pytest.raises(ValueError, match=message):
        call(Elsewhere())


OPERATORS = ["count", "elementary", "statistic", "scales_from", "digest", "pack", "unpack"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_operator_of_ours_is_unknown_to_cuda(operator: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"lowprec::{operator}", "CUDA")


def test_other_devices_have_none_at_all() -> None:
    class Metal(Elsewhere):
        is_cuda = is_meta = False
        device = torch.device("mps:0")

    with pytest.raises(ValueError, match="`codes` must be on the CPU or a CUDA device"):
        check_place(Metal(), "codes")
