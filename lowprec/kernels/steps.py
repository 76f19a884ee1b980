"""The arithmetic of optimizers on one element, operation by operation as torch's loops have it.

Each operation is rounded, but ``x + a * y`` once, by an instruction: ``fused``. Where a product is rounded
before something is added to it, it is ``times``, since compilers for CUDA devices make one rounding of what
is written as ``a * b + c``. These are plain functions, of which each loop has its own copies.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lowprec.kernels.fused import fused, times
from lowprec.kernels.specialize import inline, rebound

# The constants, all of the carrier: those of SGD, and those of Adam.
DECAY_RATE, KEPT, UNDAMPED, NEGATIVE_RATE = range(4)
SHRINK, FIRST_WEIGHT, SECOND_FACTOR, SECOND_WEIGHT, CORRECTION, EPSILON, STEP = range(1, 8)
CONSTANTS = 8

# What a copy holds constant.
NUMBER: Any = np.float32
DECAY = MAXIMIZE = MOMENTUM = BEGINS = NESTEROV = DECOUPLED = FAR = False


class Descent(NamedTuple):
    """What SGD holds constant."""

    decay: bool
    momentum: bool
    nesterov: bool
    maximize: bool
    begins: bool = False
    """Whether the momentum is not there yet."""

    @property
    def states(self) -> tuple[str, ...]:
        """Their names, in the order of the arguments."""
        return ("momentum_buffer",) if self.momentum else ()


class Moments(NamedTuple):
    """What Adam and AdamW hold constant."""

    decay: bool
    decoupled: bool
    amsgrad: bool
    maximize: bool
    far: bool
    """Whether the first moment moves by half of its way to the gradient, or more."""

    @property
    def states(self) -> tuple[str, ...]:
        """Their names, in the order of the arguments."""
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if self.amsgrad else 2]


def descended(gradient, weight, momentum, constants):
    """The weight and the momentum after a step of SGD."""
    way = -gradient if MAXIMIZE else gradient
    if DECAY:
        way = fused(weight, constants[DECAY_RATE], way)
    velocity = momentum
    if MOMENTUM:
        velocity = way if BEGINS else fused(way, constants[UNDAMPED], times(momentum, constants[KEPT]))
        way = fused(velocity, constants[KEPT], way) if NESTEROV else velocity
    return fused(way, constants[NEGATIVE_RATE], weight), velocity


def moved(gradient, weight, first, second, constants):
    """Of a step of Adam: the weight after its decay, and the first and the second moment."""
    way = -gradient if MAXIMIZE else gradient
    if DECAY and DECOUPLED:
        weight = times(weight, constants[SHRINK])
    if DECAY and not DECOUPLED:
        way = fused(weight, constants[DECAY_RATE], way)
    distance = NUMBER(way - first)
    if FAR:
        first = fused(distance, NUMBER(constants[FIRST_WEIGHT] - NUMBER(1)), way)
    else:
        first = fused(distance, constants[FIRST_WEIGHT], first)
    part = times(constants[SECOND_WEIGHT], way)
    return weight, first, fused(part, way, times(second, constants[SECOND_FACTOR]))


def largest_so_far(before, second):
    """The larger of two second moments; NaN if one is NaN."""
    return before if second <= before or before != before else second


def stepped(weight, first, root, constants):
    """The weight after a step of Adam, whose second moment, or the largest, has this root."""
    divisor = NUMBER(NUMBER(root / constants[CORRECTION]) + constants[EPSILON])
    return NUMBER(weight + NUMBER(times(constants[STEP], first) / divisor))


def steps_of(
    carrier: str, kind: Descent | Moments, compiler: Callable[..., Any] = inline,
    instructions: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The names of the functions above, each compiled for a carrier and options when it is first called.

    Args:
        carrier: The name of one, float32 or float64.
        kind: The options.
        compiler: What makes a function that loops call of a Python one.
        instructions: What takes the place of the CPU's own, by name.
    """
    names = {**globals(), **{name.upper(): value for name, value in kind._asdict().items()}}
    names |= {"NUMBER": np.dtype(carrier).type, "times": compiler(times), **(instructions or {})}
    return {f.__name__: compiler(rebound(f, names)) for f in (descended, moved, largest_so_far, stepped)}
