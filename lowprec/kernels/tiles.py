"""Random words of many counters at a time, as instructions on vectors of a size that processors have.

Of a product of the words of philox.py both halves are needed: so every number here is 64 bits wide, and its
upper half may hold anything, as products take the lower halves of their factors. That spares what brings
words together and apart between rounds; after the last, those of two vectors make one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from lowprec.kernels.memory import widen
from lowprec.kernels.philox import LANES, MULTIPLIERS, ROUNDS, WEYL, inline

RUN = 16
"""Counters whose words make one vector of each of the four."""
RUNS = 2
"""Those drawn at a time. A round waits for the one before it: meanwhile a processor does another run's."""

_WORD, _NUMBER = ir.IntType(32), ir.IntType(64)
_WORDS, _NUMBERS = ir.VectorType(_WORD, RUN), ir.VectorType(_NUMBER, RUN // 2)


def _drawing(rows: int) -> Any:
    """What draws the words of RUNS runs of counters, the four words of a counter into so many rows."""

    @intrinsic
    def draw(context, first, step, skip, seed, stream, target, place, apart, beyond):
        """Counter i of run r is ``first + i * step + r * skip``, all with one upper half.

        The complement of its word w goes to ``place + w % rows * apart + i * (4 // rows) + w // rows +
        r * beyond``. It is the complement because rounding asks tail + word >= 2^32: as tail > ~word that
        vectorizes only if the complement comes from memory (LLVM makes an add-with-overflow of the rest).
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            """Those of one row, in turns."""
            widen(builder)
            place, apart, beyond = arguments[6:]
            data = make_array(signature.args[5])(context, builder, arguments[5]).data
            for run, words in enumerate(_words(builder, *arguments[:5])):
                lines = [[word] for word in words]
                while (half := len(lines) // 2) >= rows:
                    lines = [_in_turns(builder, lines[i], lines[i + half]) for i in range(half)]
                for row, line in enumerate(lines):
                    for number, vector in enumerate(line):
                        offset = builder.add(builder.mul(apart, _NUMBER(row)), _NUMBER(number * RUN))
                        offset = builder.add(offset, builder.mul(beyond, _NUMBER(run)))
                        pointer = builder.gep(data, [builder.add(place, offset)])
                        builder.store(vector, builder.bitcast(pointer, _WORDS.as_pointer()), align=4)
            return context.get_dummy_value()

        number = types.int64
        return types.void(*[number] * 5, target, *[number] * 3), generate

    return draw


draw_into_one, draw_into_two, draw_into_four = (_drawing(rows) for rows in (1, 2, 4))


@inline
def fill_tile(ceilings, seed, stream, tile):
    """The complements of the random words of one tile, element ``tile * TILE`` first."""
    first = np.int64(tile) * LANES  # counters stay within one upper half
    for lane in range(0, LANES, RUN * RUNS):
        draw_into_four(first + lane, 1, RUN, np.int64(seed), np.int64(stream), ceilings, lane, LANES, RUN)


def _words(builder: Any, first: Any, step: Any, skip: Any, seed: Any, stream: Any) -> list[list[Any]]:
    """The complements of the four words of the counters of each run."""

    def each(operation: Any, *numbers: Any) -> Any:
        """An operation on the numbers of all vectors of counters, or once on those that all share."""
        if not any(isinstance(x, list) for x in numbers):
            return operation(*numbers)
        vectors = [
            x if isinstance(x, list) else [_spread(builder, x, _NUMBERS)] * (2 * RUNS) for x in numbers
        ]
        return [operation(*x) for x in zip(*vectors, strict=True)]

    def product(multiplier: int, x: Any) -> Any:
        """Of the lower half."""
        return builder.mul(builder.and_(x, _like(x, 0xFFFFFFFF)), _like(x, multiplier))

    def mixed(product: Any, x: Any, key: Any) -> Any:
        """The upper half and a lower one."""
        return builder.xor(builder.xor(builder.lshr(product, _like(product, 32)), x), key)

    places = builder.mul(_spread(builder, step, _NUMBERS), _NUMBERS(list(range(RUN // 2))))
    c0: Any = []
    for vector in range(2 * RUNS):
        run, half = divmod(vector, 2)
        start = builder.add(builder.mul(skip, _NUMBER(run)), builder.mul(step, _NUMBER(half * RUN // 2)))
        c0.append(builder.add(_spread(builder, builder.add(first, start), _NUMBERS), places))
    c1, c2, c3 = builder.lshr(first, _NUMBER(32)), stream, builder.lshr(stream, _NUMBER(32))
    # With its sign: had the key no upper half, LLVM would leave out that products are of lower halves, which
    # it forgets from one block to another, and take those of 64 bits.
    keys = [seed, builder.ashr(seed, _NUMBER(32))]
    for number in range(ROUNDS):
        product_0, product_1 = (
            each(partial(product, by), x) for by, x in zip(MULTIPLIERS, (c0, c2), strict=True)
        )
        if number < ROUNDS - 1:
            c0, c2 = each(mixed, product_1, c1, keys[0]), each(mixed, product_0, c3, keys[1])
            c1, c3 = product_1, product_0
            keys = [builder.add(key, _NUMBER(by)) for key, by in zip(keys, WEYL, strict=True)]
    # The last is the same for the halves of two vectors together.
    found: list[list[Any]] = [[] for _ in range(RUNS)]
    for last, x, key in ((product_1, c1, keys[0]), (product_0, c3, keys[1])):
        key = _spread(builder, builder.trunc(key, _WORD), _WORDS)
        for run, words in enumerate(found):
            pair = slice(2 * run, 2 * run + 2)
            upper, lower = (_halves(builder, last[pair], half) for half in (1, 0))
            other = _halves(builder, x[pair], 0)
            words += [builder.not_(builder.xor(builder.xor(upper, other), key)), builder.not_(lower)]
    return found


def _halves(builder: Any, pair: Sequence[Any], upper: int) -> Any:
    """The upper or lower halves of the numbers of two vectors."""
    places = _WORDS([2 * i + upper for i in range(RUN)])
    return builder.shuffle_vector(*(builder.bitcast(x, _WORDS) for x in pair), places)


def _in_turns(builder: Any, one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """The words of two rows, one of each after the other."""
    sides = [_WORDS([first + i // 2 + i % 2 * RUN for i in range(RUN)]) for first in (0, RUN // 2)]
    return [builder.shuffle_vector(x, y, side) for x, y in zip(one, other, strict=True) for side in sides]


def _like(x: Any, number: int) -> Any:
    """A constant of another's type."""
    return x.type([number] * x.type.count if isinstance(x.type, ir.VectorType) else number)


def _spread(builder: Any, x: Any, kind: Any) -> Any:
    """A vector of equal numbers."""
    undefined = kind(ir.Undefined)
    one = builder.insert_element(undefined, x, _WORD(0))
    return builder.shuffle_vector(one, undefined, ir.VectorType(_WORD, kind.count)([0] * kind.count))
