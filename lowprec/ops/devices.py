"""Which devices there are kernels for."""

from torch import Tensor

from lowprec.errors import value_error


def check_place(x: Tensor, name: str) -> None:
    """Refuse a tensor on a device without kernels."""
    if not (x.is_cpu or x.is_cuda or x.is_meta):
        remedy = f"There are kernels for these two: use {name}.cpu()."
        raise value_error(name, "be on the CPU or a CUDA device", str(x.device), remedy)
