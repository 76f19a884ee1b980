"""Hypothesis strategies for every format that can be built, each of its options included."""

from hard_formats import MX
from hypothesis import strategies as st

from lowprec.formats import (
    P3109,
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    PerBlock,
    PerChannel,
    PerGroup,
    PerTensor,
    Scaled,
    parse,
)
from lowprec.modes import Overflow, ScaleRule, Specials


@st.composite
def floating_points(draw: st.DrawFn) -> FloatingPoint:
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
    subnormals = only_subnormals or draw(st.booleans())
    return FloatingPoint(
        exponent_bits,
        mantissa_bits,
        bias=bias,
        subnormals=subnormals,
        specials=specials,
        overflow=overflow,
    )


@st.composite
def p3109s(draw: st.DrawFn) -> P3109:
    """Any format of P3109 that float64 holds, most with the standard's bias."""
    bits, signed = draw(st.integers(3, 16)), draw(st.booleans())
    return P3109(
        bits,
        draw(st.integers(max(1, bits - signed - 10), bits - signed)),
        signed=signed,
        extended=draw(st.booleans()),
        bias=draw(st.none() | st.integers(1024, 1050)),
        overflow=draw(st.sampled_from([None, Overflow.SATURATE, Overflow.SATURATE_ALL, Overflow.INFINITY])),
    )


_fractions = st.integers(-992, 1074)
_rules = st.sampled_from([Overflow.SATURATE, Overflow.WRAP])
fixed_points = (
    st.builds(FixedPoint, st.integers(2, 32), _fractions, overflow=_rules)
    | st.builds(FixedPoint, st.integers(2, 32), _fractions, symmetric=st.just(True))
    | st.builds(FixedPoint, st.integers(1, 31), _fractions, signed=st.just(False), overflow=_rules)
)
unbounded = st.builds(FixedPoint, st.none(), st.integers(-1023, 1074), overflow=st.just(Overflow.UNBOUNDED))

_axes = st.integers(-9, 9)
granularities = (
    st.builds(PerTensor)
    | st.builds(PerChannel, _axes | st.lists(_axes, min_size=1, unique=True).map(tuple))
    | st.builds(PerGroup, st.none() | st.integers(1, 99), _axes | st.just("contraction"))
    | st.builds(PerBlock, st.lists(st.integers(1, 99), min_size=1, max_size=4).map(tuple))
)
blocks = st.builds(
    BlockFloatingPoint,
    st.integers(2, 25),
    granularities,
    exponent_bits=st.none() | st.integers(2, 11),
)

_elements = st.sampled_from(
    ["e2m1", "e4m3fn", "e5m2<saturate>", "e5m2", "e3m0fn<bias7>", "e2m3<saturate_all>", "fixed8f6<symmetric>",
     "binary8p3se", "fixed5f-9<symmetric>"]
)  # fmt: skip
_over_powers = st.builds(
    Scaled,
    _elements,
    granularity=granularities,
    scale_rule=st.sampled_from([rule for rule in ScaleRule if rule is not ScaleRule.AMAX]),
)
_over_numbers = st.builds(
    Scaled,
    _elements,
    st.sampled_from(["float32", "float16", "bfloat16", "e5m2", "e4m3fn"]),
    granularities,
    scale_rule=st.sampled_from(ScaleRule),
)
_over_scaled = st.builds(
    Scaled,
    _elements,
    st.builds(
        Scaled,
        st.sampled_from(["binary16", "bfloat16", "e5m2", "e4m3fn"]),
        st.just("float32"),
        granularities,
        scale_rule=st.just("amax"),
    ),
    granularities,
    scale_rule=st.just("amax"),
)
_affine = st.builds(
    Scaled,
    st.sampled_from(["ufixed8f0", "ufixed4f0"]),
    st.sampled_from(["float32", "bfloat16"]),
    granularities,
    scale_rule=st.just("amax"),
    zero_point=st.just(True),
)
scaled = _over_powers | _over_numbers | _over_scaled | _affine | st.sampled_from([parse(name) for name in MX])

bounded_formats = floating_points() | p3109s() | fixed_points | blocks | scaled
formats = bounded_formats | unbounded
