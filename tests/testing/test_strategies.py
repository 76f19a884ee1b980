"""The strategies give what they say, for one's own formats too, and shrink to what is small."""

import inspect
import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

import lowprec
from lowprec import formats as f
from lowprec.modes import Rounding
from lowprec.testing import strategies

FAMILIES = {
    "floating": f.FloatingPoint,
    "p3109": f.P3109,
    "fixed": f.FixedPoint,
    "unbounded": f.FixedPoint,
    "block": f.BlockFloatingPoint,
    "scaled": f.Scaled,
    "codebook": f.Codebook,
    "posit": f.Posit,
    "logarithmic": f.Logarithmic,
}


@dataclass(frozen=True)
class Squares(f.TabledFormat):
    """A format of one's own: squares, -0 among them."""

    def code_values(self):
        half = [(k / 8) ** 2 for k in range(8)]
        return [*half, *(-value for value in half)]

    def __str__(self):
        return "squares-of-eighths"


FORMATS = ["e4m3fn", "fixed8f4", "bfp4<group16>", "mxfp4", "posit8", "log4f3", "ternary", Squares()]


def test_every_family_of_formats_has_a_strategy():
    classes = {value for value in vars(f).values() if isinstance(value, type) and issubclass(value, f.Format)}
    assert set(FAMILIES.values()) == {value for value in classes if not inspect.isabstract(value)}


@given(st.data())
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_that_family(family, data):
    format = data.draw(strategies.formats(family))
    assert isinstance(format, FAMILIES[family])
    assert isinstance(format, f.FixedPoint) is (family in ("fixed", "unbounded"))


def test_several_families():
    drawn = strategies.formats(["posit", "codebook"])
    assert isinstance(find(drawn, lambda format: isinstance(format, f.Posit)), f.Posit)
    assert isinstance(find(drawn, lambda format: isinstance(format, f.Codebook)), f.Codebook)
    with pytest.raises(ValueError, match=r"`family` must be one of floating, .*, got 'float'"):
        strategies.formats("float")


@pytest.mark.parametrize("stochastic", [None, True, False])
def test_roundings(stochastic):
    kept = [mode for mode in Rounding if stochastic is None or mode.is_stochastic is stochastic]
    for mode in Rounding:
        if mode in kept:
            assert find(strategies.roundings(stochastic), lambda drawn, mode=mode: drawn is mode) is mode
    assert find(strategies.roundings(stochastic), lambda mode: True) is kept[0]


@given(strategies.random_bits())
def test_random_bits(bits):
    assert 1 <= bits <= 32


@pytest.mark.parametrize("format", FORMATS, ids=str)
@given(data=st.data())
def test_values_and_codes_are_those_of_the_format(format, data):
    parsed = f.resolve(format)
    value = data.draw(strategies.values(format))
    assert parsed.contains(value)
    assert 0 <= data.draw(strategies.codes(format)) < 2**parsed.bits


@pytest.mark.parametrize("name", ["binary64", "posit32", "fixed32f16", "fixedf4<unbounded>"])
@given(data=st.data())
def test_values_of_wide_formats(name, data):
    assert f.parse(name).contains(data.draw(strategies.values(name)))


def test_an_unbounded_format_has_no_codes():
    with pytest.raises(ValueError, match="`format` must be bounded to have codes"):
        strategies.codes("fixedf4<unbounded>")


@pytest.mark.parametrize("carrier", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("format", ["e4m3fn", Squares()], ids=str)
def test_hard_values_hold_ties_ends_and_specials(format, carrier):
    drawn = lowprec.testing.hard_values(format, carrier).tolist()
    parsed = f.resolve(format)
    values = parsed.values().tolist()
    ties = [(low + high) / 2 for low, high in pairwise(values)]
    assert {*values, *ties, math.inf, -math.inf, parsed.smallest_subnormal / 2, 2 * parsed.max} <= {*drawn}
    assert math.isnan(drawn[-1])
    assert math.copysign(1, drawn[1]) < 0 and drawn[:2] == [0, 0]  # noqa: PT018
    assert any(math.isnan(x) for x in [find(strategies.hard_values(format, carrier), math.isnan)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@given(data=st.data())
@settings(max_examples=20)
def test_tensors_have_the_shape_the_dtype_and_the_memory_that_are_asked_for(dtype, data):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    kind = data.draw(st.sampled_from(strategies.STRIDES))
    x = data.draw(strategies.tensors("e4m3fn", shape, [kind], dtype))
    assert (tuple(x.shape), x.dtype) == (shape, dtype)
    assert kind != "contiguous" or x.is_contiguous()
    drawn = {*lowprec.testing.hard_values("e4m3fn", str(dtype)[6:]).tolist()} - {math.nan}
    assert {*x[~x.isnan()].tolist()} <= drawn


def test_every_kind_of_memory_is_drawn():
    by_kind = {
        "transposed": lambda x: x.dim() > 1 and x.stride()[0] < x.stride()[-1],
        "stepped": lambda x: x.numel() > 1 and 2 in x.stride(),
        "expanded": lambda x: x.numel() > 1 and 0 in x.stride(),
    }
    for kind, is_that in by_kind.items():
        x = find(strategies.tensors("ternary", (2, 3), [kind]), is_that)
        assert not x.is_contiguous()


def test_tensors_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match=r"`strides` must name some of contiguous, .*, got 'reversed'"):
        find(strategies.tensors("e4m3fn", strides=["reversed"]), lambda x: True)
    with pytest.raises(TypeError, match=r"`dtype` must be one of float32, .*, got torch.int8"):
        find(strategies.tensors("e4m3fn", dtype=torch.int8), lambda x: True)


@given(st.data())
def test_granularities_have_the_axes_of_the_shape(data):
    shape = data.draw(st.lists(st.integers(1, 5), max_size=4).map(tuple))
    granularity = data.draw(strategies.granularities(shape))
    assert len(granularity.tiles(shape)) == len(shape)


def test_all_shrinks_to_what_is_small():
    assert find(strategies.formats("floating"), lambda format: True).bits <= 3
    assert find(strategies.formats("fixed"), lambda format: True) == f.FixedPoint(2, 0)
    assert find(strategies.formats("fixed"), lambda format: format.bits > 6).bits == 7
    assert find(strategies.formats("block"), lambda format: True) == f.BlockFloatingPoint(2)
    assert find(strategies.formats("posit"), lambda format: True) == f.Posit(2, 0)
    assert find(strategies.formats("logarithmic"), lambda format: True).bits == 3
    assert len(find(strategies.formats("codebook"), lambda format: True).entries) == 2
    assert find(strategies.values("e4m3fn"), lambda value: value < 0) == -(2.0**-9)
    assert find(strategies.hard_values("e4m3fn"), lambda x: True) == 0
    assert find(strategies.tensors("e4m3fn"), lambda x: True).shape == ()
    x = find(strategies.tensors(Squares()), lambda x: bool(x.isinf().any()))
    assert (x.shape, x.is_contiguous()) == ((), True)
    assert find(strategies.granularities((3, 4)), lambda granularity: True) == f.PerTensor()


@given(strategies.tensors("e4m3fn"))
def test_a_property_in_a_line(x):
    once = lowprec.quantize(x, "e4m3fn")
    assert torch.equal(lowprec.quantize(once, "e4m3fn").nan_to_num(7), once.nan_to_num(7))


@pytest.mark.parametrize("name", ["nf4", "bfp8<group4>", "bfp8<block2x2>", "bfp8<channel2>", "posit32"])
def test_tensors_are_such_as_the_format_takes(name):
    @settings(max_examples=20, database=None)
    @given(strategies.tensors(name))
    def check(x):
        assert lowprec.quantize(x, name).shape == x.shape

    check()


def test_a_carrier_that_does_not_hold_the_format_is_refused():
    with pytest.raises(ValueError, match="`format` must be exact in the carrier float16"):
        find(strategies.tensors("posit16", dtype=torch.float16), lambda x: True)
