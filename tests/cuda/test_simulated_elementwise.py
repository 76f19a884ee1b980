"""The CUDA twins of elementwise kernels, run by Numba's simulator: the CPU's bits."""

import pytest
import torch
from hard_inputs import hard_values
from simulator import GRIDS, STRIDED, in_carrier, queue, same_bits, simulated

from lowprec import Rounding
from lowprec.formats import resolve
from lowprec.kernels.cpu import FLAGS, VALUES

pytestmark = simulated

# Every place of a unit and every ending, lists of both kinds, posits.
FORMATS = (
    "e4m3fn", "e5m2<saturate>", "e4m3fn<bias22>", "e8m3fn<bias140>", "bfloat16<nosubnormals>", "e8m0ieee",
    "binary8p4ue", "fixed8f4", "fixed8f4<wrap>", "posit8", "log4f3", "ternary",
)  # fmt: skip
DRAWN = [str(mode) for mode in Rounding if mode.is_stochastic]
SPEC = tuple[str, str, int]


def twin(x, spec: SPEC, kind=VALUES, grid=None, *, out=None, seed=7, stream=0, offset=0, strides=None):
    """What the CUDA twin makes of a tensor."""
    from lowprec.kernels.cuda import elementwise

    if out is None:
        out = torch.empty_like(x, dtype=torch.bool if kind == FLAGS else x.dtype)
    noise, carrier = torch.tensor([seed]), str(x.dtype).removeprefix("torch.")
    elementwise.quantize(
        queue(grid), x.data_ptr(), out.data_ptr(), carrier, tuple(x.shape), x.stride(), out.stride(), *spec,
        kind, (noise.data_ptr(), stream, -1), offset, strides,
    )  # fmt: skip
    return out


def of_cpu(x, spec: SPEC, kind=VALUES, *, seed=7, stream=0, offset=0, strides=None):
    """What the CPU kernel makes of it."""
    operator = torch.ops.lowprec.overflowed if kind == FLAGS else torch.ops.lowprec.quantize
    return operator(x, torch.tensor([seed]), *spec, stream, offset, strides)


def check(x, spec: SPEC, kind=VALUES, grid=None, **options) -> None:
    """Both agree."""
    assert same_bits(twin(x, spec, kind, grid, **options), of_cpu(x, spec, kind, **options))


EVERY = [(format, str(mode)) for format in FORMATS for mode in Rounding]
CHOSEN = [  # every family in every mode, its other formats in every third: kernels take long to compile
    case
    for turn, case in enumerate(EVERY)
    if case[0] in ("e4m3fn", "fixed8f4", "posit8", "log4f3") or (turn // 15 + turn) % 3 == 0
]
REST = [pytest.param(*case, marks=pytest.mark.exhaustive) for case in EVERY if case not in CHOSEN]


@pytest.mark.parametrize(("format", "rounding"), [*CHOSEN, *REST])
def test_every_family_and_mode_gives_the_bits_of_the_cpu(format: str, rounding: str) -> None:
    values = hard_values(resolve(format))
    x = torch.from_numpy(values[:: max(1, values.size // 300)].copy())
    check(x, (format, rounding, 32))
    check(x, (format, rounding, 32), FLAGS)


@pytest.mark.parametrize("carrier", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic", "to_odd"])
@pytest.mark.parametrize("format", ["e4m3fn", "fixed8f4", "posit5", "log4f3"])
def test_every_carrier(carrier: torch.dtype, rounding: str, format: str) -> None:
    parsed = resolve(format)
    check(in_carrier(parsed, carrier, 200), (format, rounding, 32))


@pytest.mark.parametrize("bits", [1, 7, 31])
@pytest.mark.parametrize("rounding", [mode for mode in DRAWN if mode != "stochastic_equal"])
@pytest.mark.parametrize("format", ["e4m3fn", "fixed8f4", "posit8"])
def test_fewer_random_bits(format: str, rounding: str, bits: int) -> None:
    check(torch.randn(100, generator=torch.Generator().manual_seed(bits)), (format, rounding, bits))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("size", [0, 1, 31, 255, 1023, 1025, 4097])
def test_no_result_depends_on_size_or_grid(size: int, rounding: str, grid) -> None:
    x = torch.randn(size, generator=torch.Generator().manual_seed(size))
    check(x, ("e4m3fn", rounding, 32), grid=grid)


@pytest.mark.parametrize("grid", [None, (3, (5, 2))])
@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("name", STRIDED)
def test_strides(name: str, rounding: str, grid) -> None:
    x = STRIDED[name](torch.randn(18, 20, generator=torch.Generator().manual_seed(3)))
    check(x, ("e4m3fn", rounding, 32), grid=grid)


def test_in_place_and_into_other_strides() -> None:
    x = torch.randn(9, 70, generator=torch.Generator().manual_seed(4))
    spec = "e4m3fn", "stochastic", 32
    want, columns, own = of_cpu(x, spec), torch.empty(70, 9).t(), x.clone()
    assert same_bits(twin(x, spec, out=columns), want)
    assert same_bits(twin(own, spec, out=own), want)


@pytest.mark.parametrize("grid", [None, (3, (5, 2))])  # a thread with several elements of a run
@pytest.mark.parametrize("offset", [1, 255, 1000, 2**40 + 700])
@pytest.mark.parametrize("strides", [None, (90, 1), (1, 40)])
def test_a_shard_draws_the_words_of_its_whole(offset: int, strides, grid) -> None:
    x = torch.randn(30, 50, generator=torch.Generator().manual_seed(5))
    check(x, ("e4m3fn", "stochastic", 32), grid=grid, offset=offset, strides=strides)


@pytest.mark.parametrize(("seed", "stream"), [(-1, 3), (2**63 - 1, -1), (-(2**63), 2**40)])
def test_seeds_and_streams_count_in_full(seed: int, stream: int) -> None:
    check(torch.randn(300), ("e4m3fn", "stochastic", 32), seed=seed, stream=stream)


@pytest.mark.parametrize("carrier", [torch.float32, torch.float64])
@pytest.mark.parametrize("format", ["e4m3fn", "binary8p4ue", "fixed8f4", "posit8", "log4f3"])
def test_codes_both_ways(format: str, carrier: torch.dtype) -> None:
    from lowprec.kernels.cuda import elementwise

    name, parsed = str(carrier).removeprefix("torch."), resolve(format)
    element = getattr(parsed, "table", None)
    codes = torch.arange(element.codes_listed if element else 1 << parsed.bits, dtype=torch.uint8)
    values = torch.empty(codes.numel(), dtype=carrier)
    again = torch.empty_like(codes)
    for grid in GRIDS:
        size = codes.numel()
        elementwise.encode(
            queue(grid), codes.data_ptr(), values.data_ptr(), name, "uint8", size, format, decode=True
        )
        assert same_bits(values, torch.ops.lowprec.decode(codes, [], format, carrier))
        elementwise.encode(queue(grid), values.data_ptr(), again.data_ptr(), name, "uint8", size, format)
        finite = ~values.isnan()
        assert torch.equal(
            again[finite], torch.ops.lowprec.encode(values[finite], None, format, "nearest_even", 32)
        )


TWINS = {
    "quantizing": lambda _: check(torch.linspace(-3, 3, 100), ("e4m3fn", "stochastic", 32)),
    "encoding": lambda _: test_codes_both_ways("e4m3fn", torch.float32),
}
"""A case of each function of elementwise.py that makes a kernel."""
