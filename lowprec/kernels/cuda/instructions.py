"""Global memory of a device by its address, and what is rounded once, as instructions in kernels."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.cuda.cpython.unsafe import tuple as tuples
from numba.cuda.extending import intrinsic

tuple_setitem: Any = tuples.tuple_setitem

_GLOBAL = 1
"""The address space of global memory."""


def _place(context: Any, builder: Any, arguments: Any, kind: Any) -> Any:
    """A pointer to an element of global memory, by the address and index that come first."""
    address, index, *_ = arguments
    pointer = context.get_data_type(kind).as_pointer(_GLOBAL)
    return builder.gep(builder.inttoptr(address, pointer), [index])


@intrinsic
def load(context, address, index, dtype):
    """The element of a type at an index."""
    kind = dtype.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """One instruction."""
        return builder.load(_place(context, builder, arguments, kind))

    return kind(types.int64, index, dtype), generate


@intrinsic
def constant_at(context, address, index, dtype):
    """The same in memory that no kernel writes to."""
    kind = dtype.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A load that may be kept."""
        loaded = builder.load(_place(context, builder, arguments, kind))
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    return kind(types.int64, index, dtype), generate


@intrinsic
def store(context, address, index, value, dtype):
    """Write one element of a type."""
    kind = dtype.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """One instruction."""
        number = context.cast(builder, arguments[2], signature.args[2], kind)
        builder.store(number, _place(context, builder, arguments, kind))
        return context.get_dummy_value()

    return types.void(types.int64, index, value, dtype), generate


def _changing(operation: str) -> Any:
    """What changes one unsigned integer by another, whoever else does so at the time."""

    @intrinsic
    def change(context, address, index, value, dtype):
        """At an index, in a type."""
        kind = dtype.dtype

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            """One atomic instruction."""
            number = context.cast(builder, arguments[2], signature.args[2], kind)
            builder.atomic_rmw(operation, _place(context, builder, arguments, kind), number, "monotonic")
            return context.get_dummy_value()

        return types.void(types.int64, index, value, dtype), generate

    return change


raise_to, add_to = _changing("umax"), _changing("add")


@cuda.jit(device=True)
def largest_of(value, lanes):
    """The largest of the signed integers that so many neighboring lanes of a warp have: all of it call."""
    distance = np.int32(lanes) >> np.int32(1)
    while distance > 0:
        value = max(value, cuda.shfl_xor_sync(0xFFFFFFFF, value, distance))
        distance >>= np.int32(1)
    return value


@intrinsic
def fused(context, a, b, c):
    """``a * b + c`` in the type of all three, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """One instruction."""
        return builder.fma(*arguments)

    kind = types.float32 if a == types.float32 else types.float64
    return kind(kind, kind, kind), generate


@intrinsic
def times(context, a, b):
    """``a * b``, rounded by itself: no compiler makes one rounding of it and a sum that follows."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """The instruction that names its rounding."""
        return _rounded(context, builder, "mul", signature.return_type, arguments)

    kind = types.float32 if a == types.float32 else types.float64
    return kind(kind, kind), generate


@intrinsic
def root(context, a):
    """The square root, rounded as IEEE 754 says."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """The instruction that names its rounding."""
        return _rounded(context, builder, "sqrt", signature.return_type, arguments)

    kind = types.float32 if a == types.float32 else types.float64
    return kind(kind), generate


def _rounded(context: Any, builder: Any, operation: str, kind: Any, arguments: Any) -> Any:
    """An operation on numbers of one type that is rounded to nearest even."""
    number = context.get_value_type(kind)
    name = f"llvm.nvvm.{operation}.rn.{'f' if kind == types.float32 else 'd'}"
    known = builder.module.globals.get(name)
    of = ir.FunctionType(number, [number] * len(arguments))
    return builder.call(known if known is not None else ir.Function(builder.module, of, name), arguments)
