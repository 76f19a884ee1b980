"""What each thread of an OpenMP team runs: it makes calls from a table until none is left."""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from lowprec.kernels.memory import at

# What a task holds; all are 64-bit integers.
FUNCTION, TABLE, CALLS, TAKEN = range(4)

_WORD = ir.IntType(64)
_BYTES = 8


@intrinsic
def _take(context, counter):
    """Count up atomically at an address; what was there before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """One instruction."""
        place = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", place, _WORD(1), "monotonic")

    return types.int64(types.int64), generate


@cache
def caller(count: int) -> Any:
    """What calls a C function by its address with so many integers that lie at another."""

    @intrinsic
    def call(context, function, arguments):
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            """Load the integers, and call."""
            kind = ir.FunctionType(ir.VoidType(), [_WORD] * count)
            row = builder.inttoptr(given[1], _WORD.as_pointer())
            loaded = [builder.load(builder.gep(row, [_WORD(i)])) for i in range(count)]
            builder.call(builder.inttoptr(given[0], kind.as_pointer()), loaded)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return call


@cache
def member(count: int) -> Any:
    """The function of one thread, for kernels of so many arguments; it has an ``address``."""
    call = caller(count)
    size = _BYTES * count

    def run(address):
        task = at(address, np.int64)
        while True:
            number = _take(address + _BYTES * TAKEN)
            if number >= task[CALLS]:
                return
            call(task[FUNCTION], task[TABLE] + number * size)

    return cfunc("void(int64)", cache=False)(run)
