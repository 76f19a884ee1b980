"""The largest of sixteen numbers at once: a loop over so few is unrolled before it could vectorize."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16


@intrinsic
def largest_lane(context, source, index, infinity):
    """The largest finite magnitude among the patterns from an index on; 0 if there is none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A load, the sign away, what is not finite away, the largest."""
        kind, _, wide = signature.args
        array = make_array(kind)(context, builder, arguments[0])
        word = context.get_value_type(kind.dtype)
        many = ir.VectorType(word, LANES)
        place = builder.gep(array.data, [arguments[1]])
        patterns = builder.load(builder.bitcast(place, many.as_pointer()), align=word.width // 8)
        unsigned = ir.Constant(many, [(1 << (word.width - 1)) - 1] * LANES)
        magnitudes = builder.and_(patterns, unsigned)
        bound = arguments[2] if word.width >= wide.bitwidth else builder.trunc(arguments[2], word)
        spread = ir.Constant(many, ir.Undefined)
        for lane in range(LANES):
            spread = builder.insert_element(spread, bound, ir.Constant(ir.IntType(32), lane))
        finite = builder.icmp_unsigned("<", magnitudes, spread)
        kept = builder.select(finite, magnitudes, ir.Constant(many, [0] * LANES))
        name = f"llvm.vector.reduce.umax.v{LANES}i{word.width}"
        function = get_or_insert_function(builder.module, ir.FunctionType(word, [many]), name)
        largest = builder.call(function, [kept])
        return largest if word.width >= wide.bitwidth else builder.zext(largest, context.get_value_type(wide))

    return infinity(source, types.uintp, infinity), generate
