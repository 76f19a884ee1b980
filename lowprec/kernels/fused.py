"""Products that are rounded with what is added to them, or for certain by themselves.

Multiply-adds that round once are instructions: Numba has no name for them.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def fused(context, a, b, c):
    """``a * b + c`` in the type of all three, binary64 or binary32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """One instruction where the processor has it, else a function of the C library."""
        return builder.fma(*arguments)

    kind = types.float32 if a == types.float32 else types.float64
    return kind(kind, kind, kind), generate


def times(a, b):
    """``a * b``, rounded by itself: compilers for CUDA devices would fuse it with a sum that follows."""
    return a * b
