"""Which devices there are kernels for."""

from typing import NoReturn

from torch import Tensor

from lowprec.errors import value_error


def check_place(x: Tensor, name: str) -> None:
    """Refuse a tensor on a device without kernels."""
    if not (x.is_cpu or x.is_cuda or x.is_meta):
        remedy = f"There are kernels for these two: use {name}.cpu()."
        raise value_error(name, "be on the CPU or a CUDA device", str(x.device), remedy)


def refuse_device(x: Tensor, operation: str, name: str = "x") -> NoReturn:
    """Refuse a tensor on a device that has no kernel for one operation."""
    must = f"be on the CPU for {operation}, which no other device has a kernel for"
    raise value_error(name, must, str(x.device), f"Use {name}.cpu().")
