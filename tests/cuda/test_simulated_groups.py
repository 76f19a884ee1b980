"""Formats with groups on CUDA devices, run by Numba's simulator: the CPU's bits."""

import math
from contextlib import nullcontext

import oracle
import pytest
import simulator
import torch
from scaled_cases import spread
from simulator import GRIDS, same_bits, simulated
from torch import Tensor
from waiting import NeverWaits

from lowprec import Rounding
from lowprec.formats import resolve
from lowprec.kernels.cpu import FLAGS, VALUES
from lowprec.ops import coding, scaling

pytestmark = simulated

SMALL = (3, (5, 2))
SEED = torch.tensor([-(2**62) + 7])
CARRIERS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# One format of each kind that kernels tell apart.
POWERS = ("bfp8<group32>", "mxfp4", "mxfp8_e5m2", "scaled<fixed8f6<symmetric>,e8m0,group5>")
QUOTIENTS = ("nvfp4", "scaled<fixed8f0<symmetric>,float32,group9,amax>", "uint8", "nf4")
NESTED = "scaled<e2m1,scaled<e5m2,bfloat16,channel0,amax>,group4,amax>"
# Scales that are found by trying, which are powers of two of either kind.
TRIED = ("scaled<e2m1,e8m0,group5,mse>", "scaled<fixed4f0<symmetric>,e4m3fn,channel1,mse>")
# Groups along every axis and in several dimensions, of all elements, and of one.
GRANULARITIES = ("group7", "group32", "channel0", "channel1", "block2x7", "group1", "group4@0")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """The operators' kernels, on a grid."""
    from lowprec.ops.cuda import groups, queue

    def on(grid, function: str, *arguments, **options):
        upload = simulator.queue().upload  # of tables, once in a process, which a device waits for
        own = {"grid": grid, "upload": upload}
        monkeypatch.setattr(groups, "queue_of", lambda x: queue.queue_of(x)._replace(**own))
        return getattr(groups, function)(*arguments, **options)

    return on


def check(run, x: Tensor, format: str, rounding: str = "nearest_even", kind: int = VALUES, **options) -> None:
    """Both give the same values, or flags."""
    grid, out = options.get("grid", SMALL), options.get("out")
    bits, given = options.get("bits", 32), options.get("given")
    words = options.get("stream", 0), options.get("offset", 0), options.get("strides")
    name = "quantize" if kind == VALUES else "overflowed"
    spec = format, rounding, bits
    if given is None:
        want = getattr(torch.ops.lowprec, name)(x, SEED, *spec, *words)
    else:
        want = getattr(torch.ops.lowprec, f"{name}_with")(x, given, SEED, *spec, *words)
    if out is None:
        out = torch.empty_like(x, dtype=torch.bool if kind == FLAGS else x.dtype)
    with NeverWaits() if given is None else nullcontext():
        run(grid, "quantize", x, out, SEED, *spec, *words, kind, given)
    assert same_bits(out, want)


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of several binades, a few of them not finite."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    x = torch.randn(shape, generator=generator)
    x *= torch.exp2(torch.randint(-6, 6, shape, generator=generator))
    flat = x.view(-1)
    flat[5::37], flat[11::53], flat[3::41] = math.nan, -math.inf, 0.0
    return x.to(dtype)


@pytest.mark.parametrize("rounding", [str(mode) for mode in Rounding])
@pytest.mark.parametrize("format", [*POWERS, *QUOTIENTS, TRIED[0]])
def test_every_family_and_mode_gives_what_is_defined(run, format: str, rounding: str) -> None:
    """The reference needs no kernels of the CPU, of which there are many."""
    if format == "nf4" and Rounding(rounding).is_stochastic:
        return
    x, seed = spread(torch.float32)[::2], torch.tensor([oracle.SEED - 2**64])
    for dtype, kind, expected in (
        (x.dtype, VALUES, oracle.expected),
        (torch.bool, FLAGS, oracle.expected_overflow),
    ):
        out = torch.empty_like(x, dtype=dtype)
        run(SMALL, "quantize", x, out, seed, format, rounding, 32, 0, 0, None, kind)
        oracle.assert_same(out, expected(x, format, rounding))


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("carrier", CARRIERS[1:])
@pytest.mark.parametrize("format", ["bfp8<group32>", "mxfp4", "nvfp4", "uint8"])
def test_every_carrier(run, format: str, carrier: torch.dtype, rounding: str) -> None:
    check(run, spread(carrier), format, rounding)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("format", ["bfp6<{}>", "scaled<e4m3fn,float32,{},amax>"])
def test_every_granularity(run, format: str, granularity: str) -> None:
    format = format.format(granularity)
    for x in (normal(5, 37), normal(9, 14).t(), normal(8, 45)[::2, ::3]):
        check(run, x, format)


STRIDED = {
    "channels last": lambda x: x.reshape(2, 3, 5, 8).to(memory_format=torch.channels_last),
    "permuted": lambda x: x.reshape(2, 3, 2, 4, 5).permute(4, 1, 3, 0, 2)[:, ::2],
    "overlapping": lambda x: x.reshape(-1)[:40].expand(5, -1),
    "0-d": lambda x: x.reshape(-1)[7],
}


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("format", ["bfp8<group3@1>", "mxfp4", "int8"])
@pytest.mark.parametrize("name", STRIDED)
def test_strides(run, name: str, format: str, rounding: str) -> None:
    x = STRIDED[name](normal(240))
    if x.dim() == 0 and format != "int8":
        format = "bfp8"
    check(run, x, format, rounding)


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [1, 31, 33, 130])
def test_no_result_depends_on_size_or_grid(run, size: int, grid, rounding: str) -> None:
    for format in ("bfp8<group32>", "mxfp4", "nvfp4", "int8"):
        check(run, normal(2, size), format, rounding, grid=grid)


@pytest.mark.parametrize("grid", [(2, (64, 1)), (3, (5, 2))])  # two warps in a row, and none
@pytest.mark.parametrize("format", ["bfp8", "bfp8<group5000>", "scaled<e4m3fn,float32,group600,amax>"])
def test_groups_longer_than_what_threads_take_at_a_time(run, format: str, grid) -> None:
    x = normal(10007)
    x[9000] = 1e6
    check(run, x, format, grid=grid)


SHARED = {
    "bfp8<group32>": (2, (20, 2)),
    "nvfp4": (3, (8, 3)),
    "scaled<e4m3fn,float32,group1,amax>": (2, (3, 1)),
    "mxfp8_e4m3": (1, (32, 1)),
    "bfp8<group128>": (2, (33, 1)),
    "bfp6<block2x16>": (1, (20, 1)),
}
"""Formats with groups of which quarters of a tile have many, and grids whose teams take one in few turns."""


@pytest.mark.parametrize("kind", [VALUES, FLAGS])
@pytest.mark.parametrize("format", SHARED)
def test_a_counter_serves_elements_of_four_groups(run, format: str, kind: int) -> None:
    long = normal(3, 1111)
    for x, offset in ((long, 0), (long[:, 7:], 640), (long[:, ::1].reshape(-1)[:2080], 2**32 * 1024 - 1024)):
        x = x if x.dim() == 2 else x[None]
        check(run, x, format, "stochastic", kind, offset=offset, stream=5, grid=SHARED[format])


@pytest.mark.skipif(not simulator.SIMULATED, reason="counts what the simulator calls")
def test_it_is_drawn_once(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowprec.kernels.cuda import groups

    drawn, words_of = [], groups.words_of

    def counted(seed, stream, n):
        drawn.append(int(n))
        return words_of(seed, stream, n)

    monkeypatch.setattr(groups, "words_of", counted)
    monkeypatch.setattr(groups, "ceiling_at", None)
    groups.rounding.cache_clear()
    check(run, normal(2, 2048), "mxfp4", "stochastic", grid=(1, (32, 1)))
    groups.rounding.cache_clear()
    assert sorted(drawn) == list(range(1024))


@pytest.mark.parametrize(("format", "size"), [("bfp8", 4300), ("bfp8<group1500>", 3003)])
def test_a_counter_serves_four_elements_of_a_long_group(run, format: str, size: int) -> None:
    check(run, normal(size), format, "stochastic", offset=1005, stream=5, grid=(2, (16, 1)))


def test_in_place_and_into_other_strides(run) -> None:
    x = normal(6, 64)
    for format in ("mxfp4", "int8"):
        columns, own = torch.empty(64, 6).t(), x.clone()
        check(run, x, format, "stochastic", out=columns)
        run(SMALL, "quantize", own, own, SEED, format, "stochastic", 32, 0, 0, None, VALUES)
        assert same_bits(own, columns.contiguous())


@pytest.mark.parametrize("bits", [1, 7])
@pytest.mark.parametrize("format", ["mxfp4", "nvfp4"])
def test_a_shard_draws_the_words_of_its_whole(run, format: str, bits: int) -> None:
    x = normal(3, 64)
    check(run, x, format, "stochastic", bits=bits, stream=-3, offset=2**40 + 700, strides=(90, 1))


@pytest.mark.parametrize("format", [*POWERS, *QUOTIENTS, *TRIED, "bfp4<group4,exponent4>", "bfp6<channel0>"])
def test_codes_and_scales_both_ways(run, format: str) -> None:
    parsed, x = resolve(format), spread(torch.float32).nan_to_num(1.0)
    want = torch.ops.lowprec.encode_groups(x, [], SEED, format, "nearest_even", 32)
    codes, *levels = coding._parts(x, format)
    run(SMALL, "encode", x, codes, levels, [], SEED, format, "nearest_even", 32, 0)
    assert all(same_bits(*pair) for pair in zip([codes, *levels], want, strict=True))
    values = torch.empty_like(x)
    run(SMALL, "decode", codes, values, levels, parsed)
    assert same_bits(values, torch.ops.lowprec.decode(codes, levels, format, x.dtype))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("format", [*TRIED, "mxfp4", "nvfp4", "uint8", NESTED])
def test_scales_alone(run, format: str, carrier: torch.dtype) -> None:
    x = spread(carrier).t()
    levels = scaling.room_for(x, resolve(format))
    run(SMALL, "make_scales", x, resolve(format), levels)
    want = torch.ops.lowprec.scales(x, format)
    assert all(same_bits(*pair) for pair in zip(levels, want, strict=True))


GIVEN = ("mxfp4", "nvfp4", "scaled<e4m3fn,bfloat16,group6,amax>", "uint8")


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("format", GIVEN)
def test_scales_that_are_given(run, format: str, wide: bool) -> None:
    x = normal(5, 37)
    levels = torch.ops.lowprec.scales(normal(5, 37) * 3, format)
    given = [level.float() if wide and level.dtype != torch.int32 else level for level in levels]
    check(run, x, format, given=given)
    check(run, x, format, "stochastic", FLAGS, given=given)
    if format == "nvfp4":
        check(run, x, format, given=[None, levels[1]])
    x, (codes, *room) = x.nan_to_num(1.0), coding._parts(x, format)
    want = torch.ops.lowprec.encode_groups(x, given, None, format, "nearest_even", 32)
    run(SMALL, "encode", x, codes, room, given, None, format, "nearest_even", 32, 0)
    assert all(same_bits(*pair) for pair in zip([codes, *room], want, strict=True))


@pytest.mark.parametrize("format", ["mxfp4", "nvfp4", "scaled<fixed8f0<symmetric>,float32,group6,amax>"])
def test_what_has_a_scale_that_is_no_number_is_none(run, format: str) -> None:
    codes, *levels = torch.ops.lowprec.encode_groups(torch.ones(3, 32), [], None, format, "nearest_even", 32)
    values = torch.empty(3, 32)
    for level in levels:
        level.view(-1)[-1] = math.nan
        run(SMALL, "decode", codes, values, levels, resolve(format))
        assert same_bits(values, torch.ops.lowprec.decode(codes, levels, format, torch.float32))
        assert values.isnan().any()


WRONG = {
    "zero": ("int8", [torch.tensor([0.0])], "positive and finite values of the scale"),
    "infinite": ("int8", [torch.tensor([math.inf])], "positive and finite values of the scale"),
    "none": ("mxfp4", [torch.full((1, 1), math.nan).to(torch.float8_e8m0fnu)], "positive and finite values"),
    "no power": ("mxfp4", [torch.full((1, 1), 3.0)], "positive and finite values of the scale"),
    "another format's": ("nvfp4", [torch.full((1, 2), 0.3), torch.ones(1, 1)], "values of e4m3fn"),
    "outside": ("uint8", [torch.ones(1), torch.tensor([256], dtype=torch.int32)], "points from 0 to 255"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_scale_is_refused_as_on_the_cpu(run, name: str) -> None:
    format, given, text = WRONG[name]
    x = torch.ones(1, 32)
    messages = []
    given = [level.reshape(1, 1) if level.numel() == 1 else level for level in given]
    for call in (
        lambda: torch.ops.lowprec.quantize_with(x, given, None, format, "nearest_even", 32),
        lambda: run(SMALL, "quantize", x, x.clone(), None, format, "nearest_even", 32, 0, 0, None, 0, given),
    ):
        with pytest.raises(ValueError, match=text) as refused:
            call()
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("scale", [3.0, -2.0, 0.0, math.inf, math.nan, 2.0**-14])
def test_what_is_no_exponent_is_refused_as_on_the_cpu(run, carrier: torch.dtype, scale: float) -> None:
    format = "bfp4<group4,exponent4>"
    codes, scales = torch.ones(4, dtype=torch.uint8), torch.tensor([scale], dtype=carrier)
    values = torch.empty(4, dtype=carrier)
    messages = []
    for call in (
        lambda: torch.ops.lowprec.decode(codes, [scales], format, carrier),
        lambda: run(SMALL, "decode", codes, values, [scales], resolve(format)),
    ):
        with pytest.raises(ValueError, match="powers of two from 2\\^-7 to 2\\^8") as refused:
            call()
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("format", "carrier"),
    [
        ("scaled<e2m1,e8m0,block2x7,mse>", torch.float32),
        ("scaled<e5m2,e8m0,mse>", torch.float64),
        ("scaled<normalfloat4,float32,group7,mse>", torch.float64),
        ("scaled<codebook<-1,-0.25,0.5,1>,e5m2,channel0,mse>", torch.bfloat16),
    ],
)
def test_scales_by_trying(run, format: str, carrier: torch.dtype) -> None:
    x = normal(5, 16, dtype=carrier).t()[::2]
    check(run, x, format, grid=None)
    check(run, x[:0], format)


def test_nothing_is_made_of_nothing(run) -> None:
    x, codes = torch.empty(0, 32), torch.empty(0, 32, dtype=torch.uint8)
    for format in ("mxfp4", "nvfp4", *TRIED):
        levels = scaling.room_for(x, resolve(format))
        run(SMALL, "quantize", x, x, None, format, "nearest_even", 32, 0, 0, None, VALUES)
        run(SMALL, "encode", x, codes, levels, [], None, format, "nearest_even", 32, 0)
        if format == "mxfp4":
            run(SMALL, "decode", codes, x, levels, resolve(format))


@pytest.mark.parametrize("format", ["e4m3fn", "mxfp4"])
def test_the_operator_finds_the_kernel_of_its_format(format: str) -> None:
    from lowprec.ops.cuda.values import quantize

    x = normal(3, 40)
    out = torch.empty_like(x)
    quantize(x, out, None, format, "nearest_even", 32, 0, 0, None, VALUES)
    assert same_bits(out, torch.ops.lowprec.quantize(x, None, format, "nearest_even", 32))


def test_codes_of_a_format_without_groups() -> None:
    from lowprec.ops.cuda.values import encode

    x, values = torch.tensor([1.0, -448.0, 0.3125]), torch.empty(3)
    codes = torch.empty(3, dtype=torch.uint8)
    walk = "float32", "uint8", 3, "e4m3fn"
    encode(x, x.data_ptr(), codes.data_ptr(), *walk, decode=False)
    assert torch.equal(codes, torch.ops.lowprec.encode(x, None, "e4m3fn", "nearest_even", 32))
    encode(x, codes.data_ptr(), values.data_ptr(), *walk, decode=True)
    assert torch.equal(values, x)
