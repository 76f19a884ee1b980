"""How this build of torch computes on the CPU where IEEE 754 leaves a choice, or torch does not follow it."""

import ctypes
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowprec.kernels.updates import MODE_OF_ROOT

_SUFFIX = {"linux": "so", "darwin": "dylib"}.get(sys.platform)
LIBRARY = None if _SUFFIX is None else Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{_SUFFIX}"
"""Where its loops are; None on Windows, where they are not looked for."""

_ROOTS = {"float32": "vmsSqrt", "float64": "vmdSqrt"}


@lru_cache(maxsize=2)
def adds_products_unrounded(carrier: str) -> bool:
    """Whether ``x.add(y, alpha=a)`` rounds once, wherever an element lies.

    Args:
        carrier: ``"float32"`` or ``"float64"``.

    Returns:
        True if it does for all of 1000 elements.

    Example:
        >>> adds_products_unrounded("float32") in (True, False)
        True
    """
    y, alpha, exact = telling_product(carrier)
    return bool((torch.full_like(y, -1).add(y, alpha=alpha) == exact).all())


def telling_product(carrier: str) -> tuple[Tensor, float, float]:
    """Factors whose product rounds to 1.

    Args:
        carrier: ``"float32"`` or ``"float64"``.

    Returns:
        1000 times 1 + h, then 1 - h; and -h^2, which is what their product less 1 is.

    Example:
        >>> y, alpha, exact = telling_product("float32")
        >>> bool((y * alpha == 1).all()), exact
        (True, -1.4901161193847656e-08)
    """
    small = 2.0 ** -{"float32": 13, "float64": 27}[carrier]
    return torch.full((1000,), 1 + small, dtype=getattr(torch, carrier)), 1 - small, -(small**2)


@lru_cache(maxsize=1)
def steady_roots() -> None:
    """Have torch's square roots be the same from the first one on.

    MKL chooses its loops when it is first called. If several threads call it first, one of them may get other
    roots than it ever will again.

    Example:
        >>> steady_roots()
    """
    for dtype in (torch.float32, torch.float64):
        torch.ones(8, dtype=dtype).sqrt()  # too few for a second thread


@lru_cache(maxsize=2)
def root_function(carrier: str) -> int | None:
    """The address of the function that torch takes square roots from; 0 if they are IEEE's.

    Args:
        carrier: ``"float32"`` or ``"float64"``.

    Returns:
        An address, or 0; None if neither gives what ``torch.sqrt`` does.

    Example:
        >>> root_function("float32") is None
        False
    """
    steady_roots()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4096, generator=generator, dtype=torch.float64)
    numbers = (x * 2.0 ** torch.randint(-100, 100, x.shape, generator=generator)).to(getattr(torch, carrier))
    want = numbers.sqrt()
    if torch.equal(torch.from_numpy(np.sqrt(numbers.numpy())), want):
        return 0
    if LIBRARY is None:
        return None
    try:
        function: Any = getattr(ctypes.CDLL(str(LIBRARY)), _ROOTS[carrier])
    except (OSError, AttributeError):
        return None
    function.restype = None
    function.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    got = torch.empty_like(numbers)
    function(numbers.numel(), numbers.data_ptr(), got.data_ptr(), MODE_OF_ROOT)
    return ctypes.cast(function, ctypes.c_void_p).value if torch.equal(got, want) else None
