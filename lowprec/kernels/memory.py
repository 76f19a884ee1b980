"""Memory by its address, inside compiled code: a call with integers costs a fraction of one with arrays.

Made of instructions and not of ``numba.carray``, which compiles two functions for every element type.
"""

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import as_dtype

EVERYTHING = 1 << 48
"""More elements than any memory has: loops know where they stop."""


def _array(context: Any, builder: Any, kind: Any, address: Any, shape: Sequence[Any]) -> Any:
    """A row-major array, whose memory is the caller's."""
    array = make_array(kind)(context, builder)
    word = context.get_value_type(types.intp)
    steps = [word(as_dtype(kind.dtype).itemsize)]
    for size in reversed(shape[1:]):
        steps.insert(0, builder.mul(steps[0], size))
    populate_array(
        array,
        data=builder.inttoptr(address, array.data.type),
        shape=shape,
        strides=steps,
        itemsize=steps[-1],
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def at(context, address, dtype):
    """The elements of a type from an address on, as an array without an end."""
    kind = types.Array(dtype.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Of the length that is longer than any."""
        return _array(context, builder, kind, arguments[0], [context.get_constant(types.intp, EVERYTHING)])

    return kind(types.int64, dtype), generate


@intrinsic
def anywhere(context, address, dtype):
    """The same from an address that need not be a multiple of the element's size."""
    kind = types.Array(dtype.dtype, 1, "C", aligned=False)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Of the length that is longer than any."""
        return _array(context, builder, kind, arguments[0], [context.get_constant(types.intp, EVERYTHING)])

    return kind(types.int64, dtype), generate


@intrinsic
def matrix_at(context, address, rows, columns):
    """A row-major matrix of 64-bit integers."""
    kind = types.Array(types.int64, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Of these two sizes."""
        return _array(context, builder, kind, arguments[0], arguments[1:])

    return kind(types.int64, types.int64, types.int64), generate
