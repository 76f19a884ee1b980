"""Which groups of its operands a product sums over, where its chunks are those."""

from typing import NamedTuple

from lowprec.errors import value_error
from lowprec.formats import GroupedFormat, PerTensor, Scaled, resolve
from lowprec.ops.quantize import Spec

WHOLE = 0
"""In place of a size: one group along all of the contraction."""
_ENDLESS = 1 << 40


class Sizes(NamedTuple):
    """Elements of a group along the contraction of each product; None where its chunks are no groups."""

    forward: int | None
    grad_input: int | None
    grad_weight: int | None


class Reading(NamedTuple):
    """What a product reads: the operand's role, its cast, and the axis that is summed over."""

    role: str
    spec: Spec | None
    axis: int


def common_size(left: Reading, right: Reading, dimensions: int) -> int:
    """The size of the groups that two operands have along the contraction.

    Raises:
        ValueError: If an operand has no groups that scales belong to, or the two have other sizes.
    """
    found = [_size(reading, dimensions) for reading in (left, right)]
    if None in found or found[0] != found[1]:
        sizes = [{None: "none", WHOLE: "one for all of it"}.get(size, str(size)) for size in found]
        casts = [f"{r.role} {r.spec.format if r.spec else 'not cast'}" for r in (left, right)]
        must = "read groups of one size along the contraction where its chunk is 'block'"
        example = "Cast both to one such as 'scaled<e4m3fn,e8m0,group32@contraction>'."
        raise value_error("arithmetic", must, ", ".join(sizes), f"That is {', '.join(casts)}. {example}")
    return found[0] or WHOLE


def _size(reading: Reading, dimensions: int) -> int | None:
    """The size of an operand's groups; None where there are none along the contraction."""
    format = None if reading.spec is None else resolve(reading.spec.format)
    if not isinstance(format, GroupedFormat):
        return None
    if isinstance(format, Scaled):
        if format.zero_point:
            remedy = "Choose a symmetric element, as int8 has."
            raise value_error("arithmetic", "read no zero points in blocks", str(format), remedy)
        if isinstance(format.scale, Scaled) and format.scale.granularity != PerTensor():
            must = "read scales that have one for the whole tensor, if any"
            raise value_error("arithmetic", must, str(format), "Nvfp4 is such a format.")
    tile = format.granularity.tiles((_ENDLESS,) * dimensions)[reading.axis]
    return WHOLE if tile == _ENDLESS else tile if tile > 1 else None


def has_two_levels(spec: Spec | None) -> bool:
    """Whether the scales of a format have scales."""
    format = None if spec is None else resolve(spec.format)
    return isinstance(format, Scaled) and isinstance(format.scale, Scaled)
