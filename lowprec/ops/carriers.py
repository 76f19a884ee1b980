"""The dtypes whose tensors hold quantized values."""

from collections.abc import Sequence

import torch

CARRIERS = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float64: "float64",
}
"""The names of the dtypes."""

Strides = Sequence[int] | None
