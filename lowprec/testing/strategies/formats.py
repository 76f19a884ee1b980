"""Strategies of formats, one for each family, and of granularities."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from lowprec.errors import value_error
from lowprec.formats import (
    P3109,
    BlockFloatingPoint,
    Codebook,
    FixedPoint,
    FloatingPoint,
    Logarithmic,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
    Posit,
    Scaled,
)
from lowprec.formats.granularity import Granularity
from lowprec.modes import Overflow, ScaleRule, Specials

_ELEMENTS = ("e2m1", "e4m3fn", "e5m2<saturate>", "e5m2", "e3m0fn<bias7>", "e2m3<saturate_all>",
             "fixed8f6<symmetric>", "binary8p3se", "fixed5f-9<symmetric>")  # fmt: skip


def formats(family: str | Sequence[str] | None = None) -> st.SearchStrategy[Any]:
    """Formats of any family, with any of their options.

    Args:
        family: The name of a family, or several: ``"floating"``, ``"p3109"``, ``"fixed"``, ``"block"``,
            ``"scaled"``, ``"codebook"``, ``"posit"``, ``"logarithmic"``, ``"unbounded"`` (fixed point without
            ends). None for all.

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


@st.composite
def _fixed(draw: st.DrawFn) -> FixedPoint:
    """Signed, symmetric and unsigned words."""
    kind = draw(st.sampled_from(["signed", "unsigned", "symmetric"]))
    word_bits = draw(st.integers(1, 31) if kind == "unsigned" else st.integers(2, 32))
    fraction_bits = draw(st.integers(-992, 1074))
    wraps = draw(st.booleans()) and kind != "symmetric"  # drawn in any case, so that none is simpler
    return FixedPoint(
        word_bits,
        fraction_bits,
        signed=kind != "unsigned",
        symmetric=kind == "symmetric",
        overflow=Overflow.WRAP if wraps else Overflow.SATURATE,
    )


def _unbounded() -> st.SearchStrategy[FixedPoint]:
    """Multiples of a step."""
    fractions = st.integers(0, 1074) | st.integers(-1023, -1)
    return st.builds(FixedPoint, st.none(), fractions, overflow=st.just(Overflow.UNBOUNDED))


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


@st.composite
def _p3109(draw: st.DrawFn) -> P3109:
    """Any format of P3109 that float64 holds, most with the standard's bias."""
    bits, signed = draw(st.integers(3, 16)), not draw(st.booleans())
    return P3109(
        bits,
        draw(st.integers(max(1, bits - signed - 10), bits - signed)),
        signed=signed,
        extended=draw(st.booleans()),
        bias=draw(st.none() | st.integers(1024, 1050)),
        overflow=draw(st.sampled_from([None, Overflow.SATURATE, Overflow.SATURATE_ALL, Overflow.INFINITY])),
    )


def _posit() -> st.SearchStrategy[Posit]:
    """Posits."""
    return st.builds(Posit, st.integers(2, 32), st.integers(0, 5))


@st.composite
def _logarithmic(draw: st.DrawFn) -> Logarithmic:
    """Logarithmic numbers of at most 16 bits."""
    integer_bits = draw(st.integers(1, 9))
    fraction_bits = draw(st.integers(max(0, 2 - integer_bits), min(11, 15 - integer_bits)))
    return Logarithmic(integer_bits, fraction_bits)


# A family of formats has its strategy here, and its definition in ``definition_of``.
_FAMILIES: dict[str, Any] = {
    "floating": _floating,
    "p3109": _p3109,
    "fixed": _fixed,
    "block": _block,
    "scaled": _scaled,
    "codebook": _codebook,
    "posit": _posit,
    "logarithmic": _logarithmic,
    "unbounded": _unbounded,
}
