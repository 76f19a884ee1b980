"""From which magnitude on overflow fires, found by asking the kernels."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lowprec.formats import Format, resolve
from lowprec.kernels import cpu, elementwise
from lowprec.kernels.specialize import WIDTHS
from lowprec.modes import Rounding

_LEAST_WORD, _GREATEST_WORD = 0, 2**32 - 1
"""With these random words a magnitude is rounded away from zero as seldom, and as often, as there is."""


class Limits(NamedTuple):
    """Where overflow fires, for either sign: at so many patterns from a magnitude on."""

    positive: int
    positive_span: int
    negative: int
    negative_span: int


NEVER = Limits(0, 0, 0, 0)


@lru_cache(maxsize=256)
def limits_of(format: Format | str, rounding: str, random_bits: int, carrier: str) -> tuple[Limits, Limits]:
    """Where overflow fires whatever the noise, and where it may, in a format without groups."""
    words = (_LEAST_WORD, _GREATEST_WORD) if Rounding(rounding).is_stochastic else (-1,)
    found = [_limits(resolve(format), rounding, random_bits, carrier, word) for word in words]
    return found[0], found[-1]


def _limits(format: Format, rounding: str, random_bits: int, carrier: str, word: int) -> Limits:
    """The same for one random word; whether overflow fires is monotonic in the magnitude, but at infinity."""
    width = WIDTHS[carrier]
    infinity = (1 << width.place) - (1 << width.mantissa)

    def fires(pattern: int) -> bool:
        """Whether overflow fires at a pattern."""
        x, out = np.array([pattern], width.memory), np.zeros(1, np.uint8)
        elementwise.quantize(
            x.ctypes.data, out.ctypes.data, carrier, (1,), (1,), (1,), format, rounding, random_bits,
            cpu.FLAGS, (0, 0, word), 0, None, 1,
        )  # fmt: skip
        return bool(out[0])

    numbers: list[int] = []
    for sign in (0, 1 << width.place):
        low, high = 0, infinity  # the first that fires, if any is finite, lies from low on and before high
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if fires(sign | middle) else (middle + 1, high)
        numbers += [low, infinity - low + fires(sign | infinity)]
    return Limits(*numbers)
