"""The public scales: what dynamic scaling takes."""

from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike
from lowprec.ops import scaling
from lowprec.ops.quantize import check_tensor, constant_spec


def scales(x: Tensor, format: FormatLike) -> Any:
    """The scales that ``quantize(x, format)`` multiplies elements by, one for each group.

    They follow from each group's finite elements; a group without one that is not zero has the least
    scale of the format. ``quantize(x, format, scale=scales(x, format))`` is ``quantize(x, format)``.

    Args:
        x: Real values, as for quantize.
        format: A scaled format or its name.

    Returns:
        A tensor with as many dimensions as x, of the dtype that stands for the scale's format
        (torch.float8_e8m0fnu, torch.float8_e4m3fn, torch.float32, …). Where scales have scales, a
        pair: those of the groups, and their own. With zero points a pair, too: scales and, in int32,
        the integers that stand for zero.

    Raises:
        TypeError: If x is no tensor of a carrier's dtype.
        ValueError: If the format is not a scaled one, or the carrier cannot hold it.

    Example:
        >>> scales(torch.tensor([3.0, -12.0, 0.1, 0.2]), "scaled<e2m1,e8m0,group2>").float()
        tensor([2.0000, 0.0312])
        >>> scales(torch.tensor([254.0, -1.0]), "int8")
        tensor([2.])

    Reference:
        OCP Microscaling Formats (MX) 1.0, 6.3.
    """
    if not isinstance(x, Tensor):
        raise type_error("x", "be a tensor", type(x), "Wrap it with torch.tensor.")
    check_tensor(x)
    spec = constant_spec(format, "nearest_even", None, x.dtype)
    if not scaling.level_count(spec.format)[0]:
        raise value_error("format", "be a scaled format", spec.format, "Others have no scales.")
    return scaling.as_scales(torch.ops.lowprec.scales(x.detach(), spec.format))
