"""Memory by its address, inside compiled code: a call with integers costs a fraction of one with arrays."""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from lowprec.kernels.specialize import inline

EVERYTHING = 1 << 48
"""More elements than any memory has: loops know where they stop."""


@intrinsic
def _pointer(context, address, dtype):
    """An integer as a pointer to elements of a type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """The one instruction that it takes."""
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype.dtype)(address, dtype), generate


@inline
def at(address, dtype):
    """The elements from an address on, as an array without an end."""
    return numba.carray(_pointer(address, dtype), (EVERYTHING,))


@inline
def matrix_at(address, rows, columns):
    """A row-major matrix of 64-bit integers."""
    return numba.carray(_pointer(address, np.int64), (rows, columns))
