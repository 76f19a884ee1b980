"""On a CUDA device: the CPU's bits, torch's streams, graphs and compiler. Skipped where there is none."""

import dataclasses
import importlib.util

import pytest
import torch
from simulator import SIMULATED, STRIDED, in_carrier, same_bits

import lowprec
from lowprec import Cast, Rounding, Scheme, quantize
from lowprec.formats import GroupedFormat, resolve
from lowprec.formats.names import NAMED
from lowprec.kernels import overflows
from lowprec.observers import MeanSquaredError, MinMax, Percentile
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.products import operand_of

_MISSING = [
    *(["a CUDA device"] if not torch.cuda.is_available() else []),
    *(["the extra `cuda`"] if importlib.util.find_spec("numba_cuda") is None else []),
    *(["NUMBA_ENABLE_CUDASIM unset"] if SIMULATED else []),
]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(_MISSING), reason=f"needs {' and '.join(_MISSING)}"),
]
FURTHER = ("fixed8f4", "fixed8f4<wrap>", "e5m2<saturate>", "e8m3fn<bias140>", "posit8", "log4f3", "ternary")
TRIED = (
    "scaled<e2m1,e8m0,group32,mse>",
    "scaled<fixed4f0<symmetric>,e4m3fn,channel1,mse>",
    "scaled<e5m2,e8m0,mse>",
)
FORMATS = sorted({*NAMED, *FURTHER, *TRIED, "bfp8<group32>", "bfp8<channel0>"})
STOCHASTIC = "stochastic"


def drawn(*shape: int, seed: int = 3) -> torch.Tensor:
    """Normally distributed values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check(x: torch.Tensor, format: str, rounding: str = STOCHASTIC, bits: int = 32, *rest) -> None:
    """Values and flags on the device are those of the CPU."""
    there, seed = x.cuda(), torch.tensor([7])
    for operator in (torch.ops.lowprec.quantize, torch.ops.lowprec.overflowed):
        want = operator(x, seed, format, rounding, bits, *rest)
        got = operator(there, seed.cuda(), format, rounding, bits, *rest)
        assert got.stride() == want.stride()
        assert same_bits(got.cpu(), want), (format, rounding, x.dtype)


def holds(format: str, carrier: torch.dtype, rounding: str = "nearest_even") -> bool:
    """Whether a carrier can hold a format, and a mode follow it."""
    try:
        quantize(torch.zeros(0, 0, dtype=carrier), format, rounding=rounding)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("carrier", list(CARRIERS), ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_the_whole_catalogue_gives_the_bits_of_the_cpu(format: str, carrier: torch.dtype) -> None:
    parsed = resolve(format)
    if not holds(format, carrier):
        pytest.skip(f"{carrier} cannot hold {format}")
    x = in_carrier(parsed, carrier, 20000)
    if isinstance(parsed, GroupedFormat):  # some have groups in two dimensions
        x = x[: x.numel() // 40 * 40].reshape(40, -1)
    modes = list(Rounding)
    shown = modes if carrier == torch.float32 else modes[FORMATS.index(format) % 4 :: 4]
    for rounding in shown:
        if holds(format, carrier, rounding):
            check(x, format, rounding)
    for bits in (1, 7, 31):
        check(x[:2000], format, STOCHASTIC, bits)


@pytest.mark.parametrize("size", [0, 1, 31, 255, 1023, 1025, 4097, (1 << 20) + 3])
def test_every_size(size: int) -> None:
    for format in ("e4m3fn", "bfp8<group32>"):
        for rounding in ("nearest_even", STOCHASTIC):
            check(drawn(size), format, rounding)


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("format", ["e4m3fn", "bfp8<group4@0>"])
def test_every_stride(format: str, name: str) -> None:
    x = STRIDED[name](drawn(18, 20))
    if isinstance(resolve(format), GroupedFormat) and x.dim() == 0:
        pytest.skip("a number has no groups")
    check(x, format)
    check(x, format, "nearest_even")


@pytest.mark.parametrize("rounding", ["nearest_even", STOCHASTIC])
def test_more_elements_than_32_bits_count(rounding: str) -> None:
    size = (1 << 31) + 1000
    if torch.cuda.mem_get_info()[0] < 5 * size:
        pytest.skip("needs 11 GB of the device's memory")
    x = torch.zeros(size, dtype=torch.bfloat16, device="cuda")
    ends = [(0, 5000), ((1 << 31) - 2000, size), (1 << 30, (1 << 30) + 3000)]
    for begin, end in ends:
        x[begin:end] = drawn(end - begin).bfloat16().cuda()
    quantize(x, "e4m3fn", rounding=rounding, seed=9 if rounding == STOCHASTIC else None, out=x)
    for begin, end in ends:
        part = drawn(end - begin).bfloat16()
        spec = torch.tensor([9]), "e4m3fn", rounding, 32, 0, begin
        assert same_bits(x[begin:end].cpu(), torch.ops.lowprec.quantize(part, *spec))


def test_a_shard_draws_the_words_of_its_whole() -> None:
    for offset in (1, 255, 2**40 + 700):
        for strides in (None, (90, 1), (1, 40)):
            check(drawn(30, 50), "e4m3fn", STOCHASTIC, 32, 0, offset, strides)


def test_work_is_put_on_the_current_stream() -> None:
    x, want = torch.zeros(100_000, device="cuda"), quantize(drawn(100_000), "e4m3fn")
    source = drawn(100_000).pin_memory()
    quantize(x, "e4m3fn")  # compiled, and loaded
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # what does not wait for the copy reads zeros
        x.copy_(source, non_blocking=True)
        got = quantize(x, "e4m3fn")
    stream.synchronize()
    assert same_bits(got.cpu(), want)


def test_a_call_does_not_wait_for_the_device() -> None:
    x, seed = drawn(1000).cuda(), torch.tensor([5], device="cuda")
    quantize(x, "e4m3fn", rounding=STOCHASTIC, seed=seed)
    quantize(x, TRIED[0])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # torch's own functions that wait raise
    try:
        torch.cuda._sleep(2_000_000_000)
        mark = torch.cuda.Event()
        quantize(x, "e4m3fn", rounding=STOCHASTIC, seed=seed)
        quantize(x, "e4m3fn", rounding=STOCHASTIC)
        quantize(x, TRIED[0])
        mark.record()
        assert not mark.query()  # neither did ours
    finally:
        torch.cuda.set_sync_debug_mode("default")


def captured(work) -> torch.cuda.CUDAGraph:
    """A graph of some work, which is run once before."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def test_a_graph_reads_its_seed_anew_at_each_replay() -> None:
    x, seed, out = drawn(5000).cuda(), torch.zeros(1, dtype=torch.int64, device="cuda"), torch.empty(5000)
    out = out.cuda()
    graph = captured(lambda: quantize(x, "e4m3fn", rounding=STOCHASTIC, seed=seed, out=out))
    for value in (1, 2, 2**40):
        seed.fill_(value)
        graph.replay()
        assert same_bits(out.cpu(), quantize(x.cpu(), "e4m3fn", rounding=STOCHASTIC, seed=value))


def test_a_graph_that_draws_its_seed_has_fresh_noise_at_each_replay() -> None:
    x, out = torch.full((5000,), 1.03125, device="cuda"), torch.empty(5000, device="cuda")
    graph = captured(lambda: quantize(x, "e4m3fn", rounding=STOCHASTIC, out=out))
    found = []
    for _ in range(3):
        graph.replay()
        found.append(out.clone())
    assert not any(torch.equal(found[one], found[other]) for one, other in ((0, 1), (1, 2), (0, 2)))


def test_a_graph_holds_a_layer_that_is_read_twice() -> None:
    layer = torch.nn.Linear(8, 8, bias=False, device="cuda")
    model = lowprec.convert(torch.nn.Sequential(layer, layer), Scheme(weight=Cast("fixed8f3", STOCHASTIC)))
    x, found = torch.eye(8, device="cuda"), []

    def work() -> None:
        found[:] = [model(x)]

    with torch.no_grad():
        graph = captured(work)
    results = []
    for _ in range(2):
        graph.replay()
        results.append(found[0].clone())
    assert not same_bits(*results)


def test_a_graph_of_a_format_that_lists_its_values_holds_no_copy_of_its_table() -> None:
    x, out = drawn(5000).cuda(), torch.empty(5000, device="cuda")
    graph = captured(lambda: quantize(x, "log4f3", out=out))
    graph.replay()
    assert same_bits(out.cpu(), quantize(x.cpu(), "log4f3"))


def test_manual_seed_repeats() -> None:
    x = drawn(1000).cuda()
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        found.append(quantize(x, "e4m3fn", rounding=STOCHASTIC))
    generator = torch.Generator("cuda").manual_seed(4)
    found.append(quantize(x, "e4m3fn", rounding=STOCHASTIC, generator=generator))
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


def test_two_devices() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    x = drawn(5000)
    for format in ("e4m3fn", "log4f3"):
        want = quantize(x, format, rounding=STOCHASTIC, seed=5)
        for place in ("cuda:1", "cuda:0"):  # neither is made the current one
            got = quantize(x.to(place), format, rounding=STOCHASTIC, seed=5)
            assert got.device == torch.device(place)
            assert same_bits(got.cpu(), want)
    with pytest.raises(ValueError, match="`seed` must be a tensor of one element on cuda:1"):
        quantize(x.to("cuda:1"), "e4m3fn", rounding=STOCHASTIC, seed=torch.tensor([5], device="cuda:0"))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch.compile needs triton")
def test_compiled_bits_are_eager_bits() -> None:
    def work(x: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
        return quantize(x * 2, "e4m3fn", rounding=STOCHASTIC, seed=seed) + 1

    x, seed = drawn(3000).cuda(), torch.tensor([11], device="cuda")
    assert same_bits(torch.compile(work, fullgraph=True)(x, seed), work(x, seed))


def test_gradients_are_those_of_the_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        x = (drawn(1000) * 300).to(device).requires_grad_()
        quantizer = lowprec.Quantizer("e4m3fn", error="e5m2", clip_gradient=True)
        quantizer(x).backward(drawn(1000, seed=4).to(device))
        found.append(x.grad.cpu())
    assert same_bits(*found)


@pytest.mark.parametrize("carrier", [torch.float32, torch.float64])
@pytest.mark.parametrize("format", ["int8", "uint8", "nvfp4", "scaled<e4m3fn,float32,channel0,amax>"])
def test_observers_see_what_they_see_on_the_cpu(format: str, carrier: torch.dtype) -> None:
    for observer in (MinMax(), Percentile(99), MeanSquaredError(20)):
        found = []
        for device in ("cpu", "cuda"):
            layer = lowprec.Quantizer(format, observer=observer)
            y = layer(drawn(64, 250).to(carrier).to(device))
            found.append((y.cpu(), layer.observed.statistic.cpu()))
        assert all(same_bits(*pair) for pair in zip(*found, strict=True))


def test_products_of_float64_operands_are_those_of_the_cpu_or_an_error() -> None:
    scheme = lowprec.Scheme(arithmetic=lowprec.Arithmetic("e5m20ieee", rounding=STOCHASTIC))
    found = []
    for device in ("cpu", "cuda"):
        x, weight = (drawn(40, 50, seed=seed).double().to(device).requires_grad_() for seed in (3, 4))
        bias = (drawn(40, seed=5).double() / 3).to(device)
        y = lowprec.functional.linear(x, weight, bias, scheme=scheme, seed=8)
        y.backward(drawn(40, 40, seed=6).double().to(device))
        found.append([y.detach().cpu(), x.grad.cpu(), weight.grad.cpu()])
    assert all(same_bits(*pair) for pair in zip(*found, strict=True))
    with pytest.raises(ValueError, match="`input` must be values of e8m25ieee where products or sums"):
        lowprec.functional.linear(x / 3, weight, scheme=scheme, seed=8)


@pytest.mark.parametrize("order", ["sequential", "pairwise"])
def test_overflows_of_sums_are_counted_as_on_the_cpu(order: str) -> None:
    arithmetic = lowprec.Arithmetic("fixed9f6<wrap>", order=order)
    found = []
    for device in ("cpu", "cuda"):
        layer = torch.nn.Linear(24, 5, bias=False)
        with torch.no_grad():
            layer.weight.copy_(drawn(5, 24))
        scheme = lowprec.Scheme(input="fixed8f3", weight="fixed8f3", error="fixed8f3", arithmetic=arithmetic)
        model = lowprec.convert(torch.nn.Sequential(layer), scheme).to(device)
        with lowprec.record(model) as recording:
            model(drawn(7, 24, seed=4).to(device).requires_grad_()).sum().backward()
        found.append({key: count for key, count in recording.counters.items() if key[1].endswith("sums")})
    assert found[0] == found[1]
    assert len(found[0]) == 3
    assert all(count.saturation > 0 for count in found[0].values())
    from lowprec.ops.cuda.counting import count_overflows

    a, b, own = drawn(2, 70, 90), drawn(2, 90, 60), dataclasses.replace(arithmetic, rounding=STOCHASTIC)
    want = overflows.count(operand_of(a), operand_of(b), own, seed=7, stream=3)
    assert count_overflows(a.cuda(), b.cuda(), own, torch.tensor([7], device="cuda"), 3) == want


@pytest.mark.parametrize("casts", [
    {"weight": lowprec.Cast("e4m3fn", rounding=STOCHASTIC)},
    {"weight": "bfloat16", "gradient": "e5m2", "state": "e4m3fn"},
    {"weight": "e4m3fn", "master": "binary32"},
])  # fmt: skip
def test_an_optimizer_takes_the_steps_of_the_cpu(casts) -> None:
    found = []
    for device in ("cpu", "cuda"):
        p = torch.nn.Parameter(drawn(40, 50).to(device))
        inner = torch.optim.SGD([p], lr=0.25, momentum=0.5)  # powers of two: each step rounds once anywhere
        optimizer = lowprec.optim.LowPrecision(inner, **casts, seed=6)
        for turn in range(3):
            p.grad = drawn(40, 50, seed=turn).to(device)
            optimizer.step()
        found.append(p.detach().cpu())
    assert same_bits(*found)


@pytest.mark.parametrize("format", ["e4m3fn", "fixed8f4", "posit8", "log4f3"])
def test_codes_both_ways(format: str) -> None:
    x = in_carrier(resolve(format), torch.float32, 3000)
    x = x[~quantize(x, format).isnan()]
    codes = lowprec.encode(x.cuda(), format, rounding=STOCHASTIC, seed=3)
    assert torch.equal(codes.cpu(), lowprec.encode(x, format, rounding=STOCHASTIC, seed=3))
    assert same_bits(lowprec.decode(codes, format).cpu(), lowprec.decode(codes.cpu(), format))


@pytest.mark.parametrize("carrier", list(CARRIERS), ids=str)
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "sqrt", "fma"])
def test_single_operations(operation: str, carrier: torch.dtype) -> None:
    x = in_carrier(resolve("e5m2"), carrier, 3000)
    count = {"sqrt": 1, "fma": 3}.get(operation, 2)
    given = [x, x.flip(0), x.roll(700)][:count]
    for format in ("e4m3fn", "posit8", "normalfloat4", "fixed8f4<wrap>", "binary32"):
        for rounding in Rounding:
            source = {"seed": 5} if rounding.is_stochastic else {}
            try:
                want = getattr(lowprec, operation)(*given, format=format, rounding=rounding, **source)
            except ValueError:  # a format without room for so many random bits
                continue
            there = [y.cuda() for y in given]
            got = getattr(lowprec, operation)(*there, format=format, rounding=rounding, **source)
            assert same_bits(got.cpu(), want), (format, rounding)


def test_means() -> None:
    x = drawn(40, 50)
    for arithmetic in ("bfloat16", "e4m3fn"):
        got, want = lowprec.mean(x.cuda(), arithmetic, dim=1), lowprec.mean(x, arithmetic, dim=1)
        assert same_bits(got.cpu(), want)


def test_wrapped_results_that_are_not_known_are_refused() -> None:
    x, y = torch.tensor([2.0**62], dtype=torch.float64), torch.tensor([0.75], dtype=torch.float64)
    with pytest.raises(ValueError, match="`format` must wrap only numbers whose integer part takes fewer"):
        lowprec.add(x.cuda(), y.cuda(), format="fixed8f2<wrap>")


def test_a_seed_elsewhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="`seed` must be a tensor of one element on cuda:0"):
        quantize(torch.ones(3, device="cuda"), "e4m3fn", rounding=STOCHASTIC, seed=torch.tensor([1]))
