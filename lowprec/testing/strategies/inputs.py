"""Strategies of modes, values, codes, and tensors of what rounding code gets wrong."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike, GroupedFormat, resolve
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding
from lowprec.testing import hard
from lowprec.testing.listed import definition_of

STRIDES = ("contiguous", "transposed", "stepped", "expanded")
"""The kinds of memory that ``tensors`` knows."""


def roundings(stochastic: bool | None = None) -> st.SearchStrategy[Rounding]:  # a filter
    """Rounding modes, nearest_even first.

    Args:
        stochastic: True for the modes that draw noise, False for the others, None for all.

    Returns:
        A strategy of modes.

    Example:
        >>> from hypothesis import find
        >>> str(find(roundings(stochastic=True), lambda mode: True))
        'stochastic'
    """
    return st.sampled_from([m for m in Rounding if stochastic is None or m.is_stochastic is stochastic])


def random_bits() -> st.SearchStrategy[int]:
    """How many random bits a stochastic mode looks at: 1 to 32.

    Returns:
        A strategy of integers.

    Example:
        >>> from hypothesis import find
        >>> find(random_bits(), lambda bits: bits > 4)
        5
    """
    return st.integers(1, 32)


def values(format: FormatLike) -> st.SearchStrategy[float]:
    """Finite values of a format, -0.0 among them where it is one.

    Of formats of more than 16 bits a part; of formats with groups the values over the scale 1.

    Args:
        format: A format, its name, or a torch dtype.

    Returns:
        A strategy of floats.

    Raises:
        TypeError: If the format is of no family that is known here.
        ValueError: If the name is unknown.

    Example:
        >>> from hypothesis import find
        >>> find(values("e4m3fn"), lambda value: value > 100)
        104.0
    """
    return st.sampled_from(_listed(resolve(format)))


def codes(format: FormatLike) -> st.SearchStrategy[int]:
    """Codes of a format, all that stand for something.

    Args:
        format: A format with codes, its name, or a torch dtype.

    Returns:
        A strategy of integers.

    Raises:
        TypeError: If the format is of no family that is known here.
        ValueError: If the name is unknown, or the format has no codes.

    Example:
        >>> from hypothesis import find
        >>> find(codes("ternary"), lambda code: code > 0)
        1
    """
    parsed = resolve(format)
    _ = parsed.bits  # refuses a format without codes
    return st.integers(0, definition_of(parsed).code_count - 1)


def hard_values(format: FormatLike, carrier: str = "float32") -> st.SearchStrategy[float]:
    """Inputs that rounding gets wrong, as ``lowprec.testing.hard_values`` lists them.

    Args:
        format: A format, its name, or a torch dtype.
        carrier: ``"float32"``, ``"float64"``, ``"float16"`` or ``"bfloat16"``.

    Returns:
        A strategy of floats, each a number of the carrier.

    Raises:
        TypeError: If the format is of no family that is known here.
        ValueError: If a name is unknown.

    Example:
        >>> from hypothesis import find
        >>> find(hard_values("e4m3fn"), lambda x: x > 1)
        1.0000001192092896
    """
    return st.sampled_from(_hard(resolve(format), carrier))


@st.composite
def tensors(
    draw: st.DrawFn,
    format: FormatLike,
    shapes: Any = None,
    strides: Sequence[str] = STRIDES,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Tensors of hard values in memory of all kinds.

    Args:
        draw: Given by hypothesis.
        format: A format, its name, or a torch dtype.
        shapes: A shape, or a strategy of shapes; None for up to three dimensions of 1 to 5, of which a format
            with groups has those that it needs.
        strides: Which kinds of memory: ``"contiguous"``, ``"transposed"`` (the axes in another order),
            ``"stepped"`` (every second element of larger memory), ``"expanded"`` (an axis without memory).
        dtype: The carrier; None for float32, or float64 where only that holds the format.

    Returns:
        A strategy of tensors.

    Raises:
        TypeError: If the dtype is no carrier.
        ValueError: If a name is unknown, or the carrier does not hold the format.

    Example:
        >>> from hypothesis import find
        >>> x = find(tensors("e4m3fn"), lambda x: not x.is_contiguous())
        >>> x.is_contiguous()
        False
    """
    for kind in strides:
        if kind not in STRIDES:
            raise value_error("strides", f"name some of {', '.join(STRIDES)}", kind)
    parsed = resolve(format)
    if dtype is None:
        dtype = torch.float32 if parsed.missing_in(CARRIERS["float32"]) is None else torch.float64
    carrier = str(dtype).removeprefix("torch.")
    if carrier not in _CARRIERS:
        raise type_error("dtype", f"be one of {', '.join(_CARRIERS)}", dtype)
    parsed.check_carrier(carrier)
    if shapes is None:
        ranks = [rank for rank in range(4) if _has_groups_in(parsed, rank)]
        shapes = st.sampled_from(ranks or [4]).flatmap(
            lambda rank: st.lists(st.integers(1, 5), min_size=rank, max_size=rank).map(tuple)
        )
    shape = draw(shapes) if isinstance(shapes, st.SearchStrategy) else tuple(shapes)
    size = math.prod(shape)
    elements = draw(st.lists(hard_values(format, carrier), min_size=size, max_size=size))
    x = torch.tensor(elements, dtype=torch.float64).to(dtype).reshape(shape)
    return _placed(x, draw(st.sampled_from(list(strides))), draw)


def _has_groups_in(format: Any, rank: int) -> bool:
    """Whether tensors of so many dimensions can be quantized to a format."""
    if not isinstance(format, GroupedFormat):
        return True
    try:
        format.granularity.tiles((1,) * rank)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=64)
def _listed(format: Any) -> list[float]:
    """Finite values, magnitudes ascending, -0.0 last."""
    definition = definition_of(format)
    if definition.ends is None:
        marks = hard.landmarks(definition)
        listed = {0.0, *(float(mark) for mark in marks if definition.is_value(mark))}
    elif format.bits <= 16:
        listed = {float(value) for value in definition.listed}
    else:
        listed = {
            value for value in map(definition.value_of, definition.some_codes()) if math.isfinite(value)
        }
    signed = [-0.0] if definition.signed_zero else []
    return sorted(listed, key=lambda value: (abs(value), value < 0)) + signed


@lru_cache(maxsize=64)
def _hard(format: Any, carrier: str) -> list[float]:
    """The hard values as a list."""
    floats: list[float] = hard.hard_values(format, carrier).tolist()
    return floats


_CARRIERS = ("float32", "float64", "bfloat16", "float16")


def _placed(x: Tensor, kind: str, draw: st.DrawFn) -> Tensor:
    """The same elements in other memory; those of an expanded axis all become the first along it."""
    if x.dim() == 0 or kind == "contiguous":
        return x
    if kind == "transposed":
        order = draw(st.permutations(range(x.dim())))
        back = [order.index(axis) for axis in range(x.dim())]
        return x.permute(order).contiguous().permute(back)
    axis = draw(st.integers(0, x.dim() - 1))
    if kind == "expanded":
        return x.narrow(axis, 0, 1).expand_as(x) if x.numel() else x
    wide = x.repeat_interleave(2, dim=axis)
    return wide[(slice(None),) * axis + (slice(None, None, 2),)]
