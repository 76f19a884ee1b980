"""Memory by its address, inside compiled code: a call with integers costs a fraction of one with arrays.

Made of instructions and not of ``numba.carray``, which compiles two functions for every element type.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import as_dtype

TURNED = 16
"""Rows and columns of a block that is turned: a power of two."""
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


def widen(builder: Any) -> None:
    """Have loops of this function use vectors as wide as the processor has them.

    LLVM takes 256 of the 512 bits of most Intel processors, whose clock fell with the first of those that
    had them. llvmlite has no name for the attribute.
    """
    if isinstance(attributes := builder.function.attributes, set):
        set.add(attributes, '"prefer-vector-width"="512"')


@intrinsic
def at(context, address, dtype):
    """The elements of a type from an address on, as an array without an end."""
    kind = types.Array(dtype.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Of the length that is longer than any."""
        widen(builder)
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


def _scope(builder: Any) -> Any:
    """The one alias scope of a module: what tables lie apart from."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "lowprec")])
    return module.add_metadata([module.add_metadata([ir.MetaDataString(module, "out"), domain])])


@intrinsic
def constant_at(context, address, index, dtype):
    """One element of a type, in memory that ``put`` does not write to: loads vectorize beside it."""
    kind = dtype.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A load of an index that is not negative."""
        pointer = builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())
        load = builder.load(builder.gep(pointer, [arguments[1]]))
        load.set_metadata("invariant.load", builder.module.add_metadata([]))
        load.set_metadata("noalias", _scope(builder))
        return load

    return kind(types.int64, index, dtype), generate


@intrinsic
def get(context, array, index):
    """``array[index]`` for an index that is not negative, apart from all tables."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A load."""
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        load = builder.load(builder.gep(data, [arguments[1]]))
        load.set_metadata("alias.scope", _scope(builder))
        return load

    return array.dtype(array, types.uintp), generate


@intrinsic
def read_apart(context, array, index):
    """``array[index]`` for an index that is not negative, in memory that ``put`` does not write to."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A load, which may leave loops in which only ``put`` writes."""
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        load = builder.load(builder.gep(data, [arguments[1]]))
        load.set_metadata("noalias", _scope(builder))
        return load

    return array.dtype(array, types.uintp), generate


@intrinsic
def put(context, array, index, value):
    """``array[index] = value`` for an index that is not negative, apart from all tables."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A store."""
        kind, _, given = signature.args
        data = make_array(kind)(context, builder, arguments[0]).data
        number = context.cast(builder, arguments[2], given, kind.dtype)
        store = builder.store(number, builder.gep(data, [arguments[1]]))
        store.set_metadata("alias.scope", _scope(builder))
        return context.get_dummy_value()

    return types.void(array, types.uintp, value), generate


@intrinsic
def turn(context, source, index, step, target, place, pitch):
    """``target[place + i + k * pitch] = source[index + i * step + k]`` for all i and k below TURNED.

    In vectors: in the stage of each power of two, the halves of two rows that lie so far apart change places.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Loads, a shuffle for each row and power of two, and stores."""
        kinds, lane = signature.args, ir.IntType(32)
        vector = ir.VectorType(lane, TURNED)

        def row_at(array: int, number: int) -> Any:
            """Where a row is."""
            data = make_array(kinds[array])(context, builder, arguments[array]).data
            first, apart = arguments[array + 1 : array + 3]
            word = context.get_value_type(types.intp)
            offset = builder.add(first, builder.mul(apart, word(number)))
            return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

        rows = [builder.load(row_at(0, i), align=4) for i in range(TURNED)]
        distance = 1
        while distance < TURNED:
            for i in range(TURNED):
                if not i & distance:
                    pair = rows[i], rows[i + distance]
                    for moved in (0, distance):
                        lanes = [
                            (j & ~distance) + moved + (TURNED if j & distance else 0) for j in range(TURNED)
                        ]
                        mask = ir.Constant(vector, lanes)
                        rows[i + moved] = builder.shuffle_vector(*pair, mask)
            distance *= 2
        for i, row in enumerate(rows):
            builder.store(row, row_at(3, i), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate
