"""Hypothesis strategies for formats, modes, and inputs that rounding code gets wrong.

All shrink toward few bits, few elements and plain values.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import (
    BlockFloatingPoint,
    Codebook,
    FixedPoint,
    FloatingPoint,
    FormatLike,
    Logarithmic,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
    Posit,
    Scaled,
    resolve,
)
from lowprec.formats.granularity import Granularity
from lowprec.modes import Overflow, Rounding, ScaleRule, Specials
from lowprec.testing import hard
from lowprec.testing.listed import definition_of

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        'lowprec.testing.strategies needs hypothesis. Install it with: pip install "lowprec[test]"'
    ) from error

_ELEMENTS = ("e2m1", "e4m3fn", "e5m2<saturate>", "e5m2", "e3m0fn<bias7>", "e2m3<saturate_all>",
             "fixed8f6<symmetric>", "fixed5f-9<symmetric>")  # fmt: skip
STRIDES = ("contiguous", "transposed", "stepped", "expanded")
"""The kinds of memory that ``tensors`` knows."""


def formats(family: str | Sequence[str] | None = None) -> st.SearchStrategy[Any]:
    """Formats of any family, with any of their options.

    Args:
        family: The name of a family, or several: ``"floating"``, ``"fixed"``, ``"unbounded"`` (fixed point
            without ends), ``"block"``, ``"scaled"``, ``"codebook"``, ``"posit"``, ``"logarithmic"``.
            None for all.

    Returns:
        A strategy of formats. Granularities are any, so that not every tensor has their axes.

    Raises:
        ValueError: If there is no such family.

    Example:
        >>> from hypothesis import find
        >>> str(find(formats("posit"), lambda format: format.bits >= 5))
        'posit5es0'
    """
    names = list(_FAMILIES) if family is None else [family] if isinstance(family, str) else list(family)
    for name in names:
        if name not in _FAMILIES:
            raise value_error("family", f"be one of {', '.join(_FAMILIES)}", name)
    return st.one_of([_FAMILIES[name]() for name in names])


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
    parsed = resolve(format)
    definition = definition_of(parsed)
    if parsed.has_infinity and definition.ends is None:
        listed = [float(mark) for mark in hard.landmarks(definition) if definition.is_value(mark)]
    elif parsed.bits <= 16:
        listed = [float(value) for value in definition.listed]
    else:
        found = map(definition.value_of, definition.some_codes())
        listed = [value for value in found if math.isfinite(value)]
    signed = [-0.0] if definition.signed_zero else []
    return st.sampled_from(sorted({*listed}, key=lambda value: (abs(value), value < 0)) + signed)


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
    return st.sampled_from(hard.hard_values(format, carrier).tolist())


@st.composite
def tensors(
    draw: st.DrawFn,
    format: FormatLike,
    shapes: Any = None,
    strides: Sequence[str] = STRIDES,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Tensors of hard values in memory of all kinds.

    Args:
        draw: Given by hypothesis.
        format: A format, its name, or a torch dtype.
        shapes: A shape, or a strategy of shapes; None for up to three dimensions of 1 to 5.
        strides: Which kinds of memory: ``"contiguous"``, ``"transposed"`` (the axes in another order),
            ``"stepped"`` (every second element of larger memory), ``"expanded"`` (an axis without memory).
        dtype: The carrier.

    Returns:
        A strategy of tensors.

    Raises:
        TypeError: If the dtype is no carrier.
        ValueError: If a name is unknown.

    Example:
        >>> from hypothesis import find
        >>> x = find(tensors("e4m3fn"), lambda x: not x.is_contiguous())
        >>> x.shape, x.isnan().any()
        (torch.Size([2]), tensor(False))
    """
    for kind in strides:
        if kind not in STRIDES:
            raise value_error("strides", f"name some of {', '.join(STRIDES)}", kind)
    carrier = str(dtype).removeprefix("torch.")
    if carrier not in _CARRIERS:
        raise type_error("dtype", f"be one of {', '.join(_CARRIERS)}", dtype)
    if shapes is None:
        shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)
    shape = draw(shapes) if isinstance(shapes, st.SearchStrategy) else tuple(shapes)
    size = math.prod(shape)
    elements = draw(st.lists(hard_values(format, carrier), min_size=size, max_size=size))
    x = torch.tensor(elements, dtype=torch.float64).to(dtype).reshape(shape)
    return _placed(x, draw(st.sampled_from(list(strides))), draw)


def granularities(shape: Sequence[int] | None = None) -> st.SearchStrategy[Granularity]:
    """Granularities, all of which a shape has the axes for.

    Args:
        shape: A shape; None for any granularity at all, ``"contraction"`` among the axes.

    Returns:
        A strategy of granularities, one scale for all first.

    Example:
        >>> from hypothesis import find
        >>> str(find(granularities((4, 6)), lambda granularity: granularity != PerTensor()))
        'group'
    """
    dims = 9 if shape is None else len(shape)
    if dims == 0:
        return st.builds(PerTensor)
    size = 99 if shape is None else max(1, *shape)
    axes = st.integers(-dims, dims - 1).map(lambda axis: -1 - axis if axis >= 0 else -1 - axis - dims)
    lists = st.lists(st.integers(0, dims - 1), min_size=1, unique=True).map(tuple)
    any_axis = axes | st.just("contraction") if shape is None else axes
    return st.one_of(
        st.builds(PerTensor),
        st.builds(PerGroup, st.none() | st.integers(1, size), any_axis),
        st.builds(PerChannel, axes | lists),
        st.builds(PerBlock, st.lists(st.integers(1, size), min_size=1, max_size=min(dims, 4)).map(tuple)),
    )


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


@st.composite
def _floating(draw: st.DrawFn) -> FloatingPoint:
    """Any floating-point format whose values are float64 numbers."""
    specials = draw(st.sampled_from(Specials))
    ieee, top_is_finite = specials is Specials.IEEE, specials in (Specials.FNUZ, Specials.FINITE)
    exponent_bits = draw(st.integers(1, 11))
    # The last normal values must lie below 2^1024, the first step must not lie below 2^-1074.
    lowest = 2**exponent_bits - 1024 - ieee
    least = 0 if exponent_bits > 1 or top_is_finite else 1
    mantissa_bits = draw(st.integers(least, min(52, 1075 - lowest)))
    bias = draw(st.none() | st.integers(lowest, 1075 - mantissa_bits))
    if exponent_bits == 11 and bias is None and specials in (Specials.FN, Specials.FINITE):
        bias = lowest
    overflow = draw(st.sampled_from([None, Overflow.SATURATE, Overflow.SATURATE_ALL, Overflow.INFINITY]))
    if overflow is Overflow.INFINITY and specials is Specials.FINITE:
        overflow = None
    only_subnormals = exponent_bits == 1 and ieee
    subnormals = only_subnormals or not draw(st.booleans())
    return FloatingPoint(
        exponent_bits,
        mantissa_bits,
        bias=bias,
        subnormals=subnormals,
        specials=specials,
        overflow=overflow,
    )


def _fixed() -> st.SearchStrategy[FixedPoint]:
    """Signed, symmetric and unsigned words."""
    fractions = st.integers(0, 1074) | st.integers(-992, -1)
    rules = st.sampled_from([Overflow.SATURATE, Overflow.WRAP])
    return (
        st.builds(FixedPoint, st.integers(2, 32), fractions, overflow=rules)
        | st.builds(FixedPoint, st.integers(2, 32), fractions, symmetric=st.just(True))
        | st.builds(FixedPoint, st.integers(1, 31), fractions, signed=st.just(False), overflow=rules)
    )


def _unbounded() -> st.SearchStrategy[FixedPoint]:
    """Multiples of a step."""
    return st.builds(FixedPoint, st.none(), st.integers(-1023, 1074), overflow=st.just(Overflow.UNBOUNDED))


def _block() -> st.SearchStrategy[BlockFloatingPoint]:
    """Block floating point."""
    exponents = st.none() | st.integers(2, 11)
    return st.builds(BlockFloatingPoint, st.integers(2, 25), granularities(), exponent_bits=exponents)


def _scaled() -> st.SearchStrategy[Scaled]:
    """Elements over powers of two, over numbers, over scales with scales, and with zero points."""
    elements, shared = st.sampled_from(_ELEMENTS), granularities()
    powers = [rule for rule in ScaleRule if rule is not ScaleRule.AMAX]
    numbers = st.sampled_from(["float32", "float16", "bfloat16", "e5m2", "e4m3fn"])
    inner = st.sampled_from(["binary16", "bfloat16", "e5m2", "e4m3fn"])
    amax = st.just("amax")
    outer = st.builds(Scaled, inner, st.just("float32"), shared, scale_rule=amax)
    return st.one_of(
        st.builds(Scaled, elements, granularity=shared, scale_rule=st.sampled_from(powers)),
        st.builds(Scaled, elements, numbers, shared, scale_rule=st.sampled_from(ScaleRule)),
        st.builds(Scaled, elements, outer, shared, scale_rule=amax),
        st.builds(
            Scaled,
            st.sampled_from(["ufixed4f0", "ufixed8f0"]),
            st.sampled_from(["float32", "bfloat16"]),
            shared,
            scale_rule=amax,
            zero_point=st.just(True),
        ),
    )


def _codebook() -> st.SearchStrategy[Codebook]:
    """Numbers with few digits, one of them positive."""
    entry = st.integers(-64, 64).map(lambda number: number / 4)
    lists = st.lists(entry, min_size=2, max_size=40, unique=True)
    return lists.filter(lambda entries: max(entries) > 0).map(Codebook)


def _posit() -> st.SearchStrategy[Posit]:
    """Posits."""
    return st.builds(Posit, st.integers(2, 32), st.integers(0, 5))


@st.composite
def _logarithmic(draw: st.DrawFn) -> Logarithmic:
    """Logarithmic numbers of at most 16 bits."""
    integer_bits = draw(st.integers(1, 10))
    fraction_bits = draw(st.integers(max(0, 2 - integer_bits), min(11, 15 - integer_bits)))
    return Logarithmic(integer_bits, fraction_bits)


# A family of formats has its strategy here, and its definition in definition_of.
_FAMILIES: dict[str, Any] = {
    "floating": _floating,
    "fixed": _fixed,
    "unbounded": _unbounded,
    "block": _block,
    "scaled": _scaled,
    "codebook": _codebook,
    "posit": _posit,
    "logarithmic": _logarithmic,
}
