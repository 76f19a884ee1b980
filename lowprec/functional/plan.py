"""What a scheme means for one product: specs for every operand, worked out once."""

import math
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

from lowprec.arithmetic import Arithmetic, CarrierArithmetic
from lowprec.cast import Cast, Operands
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint, GroupedFormat, Scaled
from lowprec.functional.groups import Reading, Sizes, common_size, has_two_levels
from lowprec.ops.constant import constant
from lowprec.ops.products import Sums, arithmetic_of, make_sums
from lowprec.ops.quantize import Spec, make_spec, seed_tensor
from lowprec.scheme import Scheme, scheme_of


class Axes(NamedTuple):
    """The axis that a product sums over, in each of its operands."""

    input: int
    weight: int
    grad_input_error: int
    grad_input_weight: int
    grad_weight_error: int
    grad_weight_input: int


LINEAR_AXES = Axes(-1, -1, -1, 0, 0, 0)


MATMUL_AXES = Axes(-1, -2, -1, -1, -2, -2)


def conv_axes(dimensions: int) -> Axes:
    """Channels forward and for the gradient of the input; the batch for that of the weight."""
    channels, batch = -dimensions - 1, -dimensions - 2
    return Axes(channels, channels, channels, batch, batch, batch)


def conv_transpose_axes(dimensions: int) -> Axes:
    """Input channels forward, output channels for the gradient of the input, then the batch."""
    channels, batch = -dimensions - 1, -dimensions - 2
    return Axes(channels, batch, channels, channels, batch, batch)


class Arithmetics(NamedTuple):
    """How sums of a product and of its two backward products are rounded; None leaves one to torch."""

    forward: Sums | None
    grad_input: Sums | None
    grad_weight: Sums | None


class Plan(NamedTuple):
    """Specs of all operands of a product and of its two backward products; None leaves one alone.

    ``split`` says that a backward product reads an operand otherwise than the forward does.
    """

    input: Spec | None
    weight: Spec | None
    output: Spec | None
    grad_input_error: Spec | None
    grad_input_weight: Spec | None
    grad_weight_error: Spec | None
    grad_weight_input: Spec | None
    clips: tuple[bool, bool, bool]
    arithmetics: Arithmetics | None
    split: bool
    axes: Axes
    blocks: Sizes | None = None
    """The groups whose products are summed apart; None where no product does that."""

    @property
    def is_stochastic(self) -> bool:
        """Whether any operand or sum needs noise."""
        specs = (*self, *(self.arithmetics or ()))
        return any(isinstance(spec, Spec | Sums) and spec.is_stochastic for spec in specs)

    @property
    def rounds_weight_stochastically(self) -> bool:
        """Whether a reading of the weight needs noise."""
        readings = (self.weight, self.grad_input_weight)
        return any(spec is not None and spec.is_stochastic for spec in readings)


@lru_cache(maxsize=4096)
def make_plan(scheme: Scheme, axes: Axes, *, training: bool) -> Plan:
    """The plan of a scheme for a product with these axes."""
    own = scheme.grad_input or Operands()
    other = scheme.grad_weight or Operands()
    scale = math.frexp(scheme.loss_scale)[1] - 1

    def spec(cast: Cast | None, axis: int, shift: int = 0) -> Spec | None:
        """One cast along one axis, its exponents moved by a loss scale."""
        if cast is None:
            return None
        mode = cast.mode(training=training)
        bits = cast.random_bits if mode.takes_random_bits else None
        return make_spec(_shifted(_along(cast.format, axis), shift), mode, bits)

    plan = Plan(
        input=spec(scheme.input, axes.input),
        weight=spec(scheme.weight, axes.weight),
        output=spec(scheme.output, axes.grad_input_error),
        grad_input_error=spec(own.error or scheme.error, axes.grad_input_error, scale),
        grad_input_weight=spec(own.weight or scheme.weight, axes.grad_input_weight),
        grad_weight_error=spec(other.error or scheme.error, axes.grad_weight_error, scale),
        grad_weight_input=spec(other.input or scheme.input, axes.grad_weight_input),
        clips=(_clips(scheme.input), _clips(scheme.weight), _clips(scheme.output)),
        arithmetics=None,
        split=False,
        axes=axes,
    )
    plan = plan._replace(arithmetics=_arithmetics(plan, scheme, scale))
    blocks = _blocks(plan, scale)
    split = (
        blocks is not None
        or plan.grad_input_error != plan.grad_weight_error
        or plan.grad_input_weight != plan.weight
        or plan.grad_weight_input != plan.input
    )
    return plan._replace(split=split, blocks=blocks)


_IN_BLOCKS = (LINEAR_AXES, MATMUL_AXES, conv_axes(1), conv_axes(2), conv_axes(3))


@constant
def _in_blocks(key: str) -> bool:
    """Whether a chunk of an arithmetic is one group of the operands."""
    return arithmetic_of(key).in_blocks


def _blocks(plan: Plan, scale: int) -> Sizes | None:
    """The sizes of the blocks of the three products; what cannot be computed in blocks is refused."""
    in_blocks = [sums is not None and _in_blocks(sums.key) for sums in plan.arithmetics or ()]
    if not any(in_blocks):
        return None
    axes = plan.axes
    if axes not in _IN_BLOCKS:
        must = "have chunks that are no blocks in such a layer"
        raise value_error("arithmetic", must, "chunk 'block'", "Blocks of its operands are not built.")
    pairs = (
        (Reading("input", plan.input, axes.input), Reading("weight", plan.weight, axes.weight)),
        (Reading("error", plan.grad_input_error, axes.grad_input_error),
         Reading("weight", plan.grad_input_weight, axes.grad_input_weight)),
        (Reading("error", plan.grad_weight_error, axes.grad_weight_error),
         Reading("input", plan.grad_weight_input, axes.grad_weight_input)),
    )  # fmt: skip
    dimensions = max(2, -min(axes))
    errors = [pair[0].spec for pair, own in zip(pairs[1:], in_blocks[1:], strict=True) if own]
    if scale != 0 and any(map(has_two_levels, errors)):
        must = "be 1 where errors have two levels of scales in blocks"
        remedy = "The scale of the tensor does what a loss scale does."
        raise value_error("loss_scale", must, 2.0**scale, remedy)
    return Sizes(
        *(common_size(*pair, dimensions) if own else None for pair, own in zip(pairs, in_blocks, strict=True))
    )


def _arithmetics(plan: Plan, scheme: Scheme, scale: int) -> Arithmetics | None:
    """The arithmetics of the three products; the two backward ones see errors moved by a loss scale."""

    def sums(
        arithmetic: Arithmetic | CarrierArithmetic | None, shift: int, *operands: Spec | None
    ) -> Sums | None:
        """One of them, of operands that these casts have made."""
        formats = tuple(spec.format for spec in operands if spec is not None)
        known = formats if len(formats) == len(operands) else ()
        return make_sums(arithmetic, shift, known) if isinstance(arithmetic, Arithmetic) else None

    own, other = (o.arithmetic if o else None for o in (scheme.grad_input, scheme.grad_weight))
    three = Arithmetics(
        sums(scheme.arithmetic, 0, plan.input, plan.weight),
        sums(own or scheme.arithmetic, scale, plan.grad_input_error, plan.grad_input_weight),
        sums(other or scheme.arithmetic, scale, plan.grad_weight_error, plan.grad_weight_input),
    )
    return three if any(three) else None


def _clips(cast: Cast | None) -> bool:
    """Whether a cast gives no gradient where it overflows."""
    return cast is not None and cast.clip_gradient


def _along(format: object, axis: int) -> object:
    """The format with a granularity along the contraction set to an axis."""
    return format.along(axis) if isinstance(format, GroupedFormat) else format


def _shifted(format: object, exponent: int) -> object:
    """The format that rounds x as ``format`` rounds x times 2**exponent; groups adapt by themselves."""
    if exponent == 0 or (isinstance(format, GroupedFormat) and _adapts(format)):
        return format
    if isinstance(format, FloatingPoint | FixedPoint):
        return format.shifted(exponent)
    raise value_error("loss_scale", "be 1 for this error format", str(format))


def _adapts(format: GroupedFormat) -> bool:
    """Whether groups, or groups of groups, follow the numbers over the whole range of float32."""
    if isinstance(format, Scaled) and format.levels:
        return format.levels[-1].exponent_bits >= 8
    return format.lowest_group_exponent is None or format.lowest_group_exponent <= -126


def plan_and_seed(
    x: Tensor, scheme: Scheme | str, axes: Axes, *, training: bool, seed: int | Tensor | None
) -> tuple[Plan, Tensor | None]:
    """The plan of one call, and its seed if the plan draws noise."""
    plans = [make_plan(scheme_of(scheme), axes, training=mode) for mode in (False, True)]
    if seed is not None and not any(plan.is_stochastic for plan in plans):
        raise value_error("seed", "be None where nothing in the scheme is stochastic", seed)
    plan = plans[training]
    return plan, seed_tensor(x, seed) if plan.is_stochastic else None
