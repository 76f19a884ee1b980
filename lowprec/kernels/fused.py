"""A multiply-add that rounds once, as an instruction: Numba has no name for it."""

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def fused(context, a, b, c):
    """``a * b + c`` in binary64, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """One instruction where the processor has it, else a function of the C library."""
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate
