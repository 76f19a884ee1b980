"""Whatever the strides of input and output: the bits of the contiguous tensor, in empty_like's strides."""

import itertools
import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import ROUNDINGS, SEED, STOCHASTIC, assert_same, expected, spread
from torch import Tensor

import lowprec

FORMATS = ["e4m3fn", "fixed8f4", "bfp8", "bfp8<group16>", "bfp4<group3@0>", "bfp8<channel0>",
           "bfp8<channel-1>", "bfp6<channel0&-1>", "bfp8<block3x16>"]  # fmt: skip
DTYPES = [torch.float32, torch.bfloat16]
RARE = "toward_zero", torch.bfloat16

LAYOUTS: dict[str, Callable[[Callable[..., Tensor]], Tensor]] = {
    "contiguous": lambda make: make(9, 70),
    "transposed": lambda make: make(70, 33).T,
    "permuted": lambda make: make(5, 6, 7, 8).permute(2, 0, 3, 1),
    "inner permuted": lambda make: make(4, 30, 40).transpose(1, 2),
    "channels_last": lambda make: make(3, 5, 8, 6).to(memory_format=torch.channels_last),
    "channels_last_3d": lambda make: make(2, 5, 3, 4, 6).to(memory_format=torch.channels_last_3d),
    "expanded rows": lambda make: make(1, 70).expand(9, 70),
    "expanded columns": lambda make: make(70, 1).expand(70, 9),
    "expanded inside": lambda make: make(4, 1, 30).expand(4, 6, 30),
    "every other": lambda make: make(4000)[::2],
    "steps in two dimensions": lambda make: make(40, 90)[1::3, 5::7],
    "columns of a wider one": lambda make: make(50, 90)[:, 7:77],
    "rows with a gap": lambda make: make(3, 40, 50)[:, 5:30, :],
    "strides that overlap": lambda make: make(120).as_strided((40, 30), (2, 1)),
    "size-one dimensions": lambda make: make(1, 40, 1, 20, 1).transpose(1, 3),
    "six dimensions": lambda make: make(2, 3, 4, 2, 3, 5).permute(5, 0, 3, 1, 4, 2),
    "a tile and a bit": lambda make: make(1025)[1:],
    "long columns": lambda make: make(2100, 3).T,
    "one element": lambda make: make(1, 1),
}
LAYOUT_NAMES = pytest.mark.parametrize("name", LAYOUTS)


def formats_of(x: Tensor) -> list[str]:
    """The formats that a tensor of so many dimensions can have."""
    return [format for format in FORMATS if x.dim() > 1 or not re.search("&|x", format)]


def seed_for(rounding: str) -> int | None:
    """The seed, where the mode uses one."""
    return SEED if rounding == STOCHASTIC else None


def flags(x: Tensor, format: str, rounding: str) -> Tensor:
    """Where overflow fires."""
    seed = torch.tensor([SEED - 2**64]) if rounding == STOCHASTIC else None
    return torch.ops.lowprec.overflowed(x, seed, format, rounding, 32)


def plain(x: Tensor) -> Tensor:
    """A contiguous copy."""
    return x.clone(memory_format=torch.contiguous_format)


@pytest.mark.parametrize(
    ("rounding", "dtype"),
    [
        # Loops walk memory alike in all modes that draw no words; these would be compiled for nothing else.
        pytest.param(mode, dtype, marks=pytest.mark.exhaustive if (mode, dtype) == RARE else ())
        for dtype in DTYPES
        for mode in ROUNDINGS
    ],
)
@LAYOUT_NAMES
def test_strides_change_no_bit(name: str, rounding: str, dtype: torch.dtype) -> None:
    x = LAYOUTS[name](partial(spread, dtype=dtype))
    seed = seed_for(rounding)
    for format in formats_of(x):
        got = lowprec.quantize(x, format, rounding=rounding, seed=seed)
        want = lowprec.quantize(plain(x), format, rounding=rounding, seed=seed)
        assert_same(got, want)
        assert got.stride() == torch.empty_like(x).stride()
        fired = flags(x, format, rounding)
        assert_same(fired, flags(plain(x), format, rounding))
        assert fired.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("format", FORMATS)
def test_a_permuted_tensor_equals_the_reference(format: str, rounding: str) -> None:
    x = spread(6, 17, 40).permute(1, 2, 0)
    got = lowprec.quantize(x, format, rounding=rounding, seed=seed_for(rounding))
    assert_same(got, expected(x, format, rounding))


@pytest.mark.parametrize("format", ["e4m3fn", "bfp8"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_no_dimension_and_no_element(rounding: str, format: str) -> None:
    seed = seed_for(rounding)
    for value in (0.3, -1e9, float("nan"), -0.0):
        x = torch.tensor(value)
        got = lowprec.quantize(x, format, rounding=rounding, seed=seed)
        assert_same(got, expected(x, format, rounding))
        assert_same(flags(x, format, rounding), flags(x.reshape(1), format, rounding)[0])
    for shape in ((0,), (3, 0), (0, 3), (2, 0, 5)):
        got = lowprec.quantize(torch.empty(shape), format, rounding=rounding, seed=seed)
        assert got.shape == shape
        assert flags(torch.empty(shape), format, rounding).shape == shape


@pytest.mark.parametrize("format", ["bfp8<group16>", "bfp8<channel1>", "bfp8<block2x2>"])
def test_no_element_in_blocks(format: str) -> None:
    for shape in ((3, 0), (0, 3), (2, 0, 5)):
        assert lowprec.quantize(torch.empty(shape), format).shape == shape


@pytest.mark.parametrize("rounding", ROUNDINGS)
@LAYOUT_NAMES
def test_out_of_any_strides(name: str, rounding: str) -> None:
    x, view = plain(LAYOUTS[name](spread)), LAYOUTS[name](spread)
    if "expanded" in name or "overlap" in name:  # no place for a result, but an input
        x, view = view, x
    seed = seed_for(rounding)
    for format in formats_of(view):
        want = lowprec.quantize(plain(x), format, rounding=rounding, seed=seed)
        view.fill_(7.0)
        strides = view.stride()
        got = lowprec.quantize(x, format, rounding=rounding, seed=seed, out=view)
        assert got is view
        assert view.stride() == strides
        assert_same(view, want)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", [n for n in LAYOUTS if "expanded" not in n and n != "strides that overlap"])
def test_in_place(name: str, rounding: str) -> None:
    for format in formats_of(LAYOUTS[name](spread)):
        x = LAYOUTS[name](spread)
        want = lowprec.quantize(plain(x), format, rounding=rounding, seed=seed_for(rounding))
        got = lowprec.quantize(x, format, rounding=rounding, seed=seed_for(rounding), out=x)
        assert got is x
        assert_same(x, want)


def test_memory_between_the_elements_is_left_alone() -> None:
    whole = spread(40, 60)
    before = whole.clone()
    part = whole[1::2, 3:50:4]
    want = lowprec.quantize(part, "e4m3fn")
    lowprec.quantize(part, "e4m3fn", out=part)
    before[1::2, 3:50:4] = want
    assert_same(whole, before)


@pytest.mark.parametrize("format", ["e4m3fn", "bfp8<group16>"])
def test_the_input_is_left_alone(format: str) -> None:
    x = spread(64, 33)
    before = x.clone()
    lowprec.quantize(x.T, format, rounding=STOCHASTIC, seed=1)
    assert_same(x, before)


SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=6).map(tuple)


@st.composite
def views(draw: st.DrawFn, shape: tuple[int, ...], *, expand: bool) -> Tensor:
    """A view of that shape: dimensions in any order in memory, with steps, some expanded."""
    order = draw(st.permutations(range(len(shape))))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=len(shape), max_size=len(shape)))
    expanded = [expand and draw(st.integers(0, 4)) == 0 for _ in shape]
    kept = [1 if e else size for size, e in zip(shape, expanded, strict=True)]
    memory = spread(*(kept[d] * steps[d] for d in order), seed=draw(st.integers(0, 99)))
    view = memory.permute(*(order.index(d) for d in range(len(shape))))
    view = view[tuple(slice(None, None, step) for step in steps)]
    return view.expand(shape)


@st.composite
def inputs_and_outputs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Two views of one shape."""
    shape = draw(SHAPES)
    return draw(views(shape, expand=True)), draw(views(shape, expand=False))


BLOCKS = ["group", "group2", "group5", "group3@0", "channel0", "channel-1", "tensor", "block3"]
PLANES = ["channel0&-1", "block1x2", "block3x2", "block2x4"]


@st.composite
def formats_for(draw: st.DrawFn, dimensions: int) -> str:
    """A format that a tensor of so many dimensions can have."""
    usable = BLOCKS + PLANES if dimensions > 1 else BLOCKS
    blocks = [f"bfp5<{granularity}>" for granularity in usable]
    axes = itertools.product(["bfp4<group2@{}>", "bfp4<channel{}>"], range(dimensions))
    return draw(st.sampled_from(["e5m2", "fixed8f4", *blocks, *(f.format(a) for f, a in axes)]))


@given(data=st.data(), rounding=st.sampled_from(ROUNDINGS))
def test_any_view_into_any_view(data: st.DataObject, rounding: str) -> None:
    x, out = data.draw(inputs_and_outputs())
    format = data.draw(formats_for(x.dim()))
    want = expected(x, format, rounding)
    assert_same(lowprec.quantize(x, format, rounding=rounding, seed=seed_for(rounding)), want)
    lowprec.quantize(x, format, rounding=rounding, seed=seed_for(rounding), out=out)
    assert_same(out, want)
