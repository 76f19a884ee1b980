"""torch.compile and activation checkpointing: the bits of eager mode, the noise of the forward."""

import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from oracle import ROUNDINGS, SEED, STOCHASTIC, assert_same, spread
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import lowprec

# Of torch itself: Inductor's imports use torch.jit, and Dynamo instantiates autograd functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=pytest.mark.skipif(
            not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="needs a C++ compiler"
        ),
    ),
]


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    """Compile each test's functions anew."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def run(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result under a fixed seed of torch, and the gradient that a fixed error gives.

    All arithmetic of these tests is exact, so that a backend may order and contract it at will.
    """
    torch.manual_seed(11)
    x = x.detach().clone().requires_grad_()
    y = function(x)
    y.backward(torch.arange(y.numel()).remainder(17).sub(8).reshape(y.shape).to(y.dtype))
    assert x.grad is not None
    return y.detach(), x.grad


def assert_equal_runs(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> None:
    """Results and gradients agree."""
    for one, other in zip(got, want, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_quantize(backend: str) -> None:
    """All modes and families in one graph: with a seed, with a tensor for a seed, with drawn ones."""
    seeds = torch.tensor([77])
    formats = ("e4m3fn", lowprec.FixedPoint(16, 8), "bfp8<group16>")

    def function(x: Tensor) -> Tensor:
        results = [
            lowprec.quantize(x, format, rounding=rounding) for rounding in ROUNDINGS for format in formats
        ]
        noise = {"rounding": STOCHASTIC, "seed": SEED, "random_bits": 9}
        results.append(lowprec.quantize(x * 2, "binary16", **noise))
        results.append(lowprec.quantize(x, torch.bfloat16, rounding=STOCHASTIC, seed=seeds))
        narrow = x.to(torch.bfloat16)
        results.append(lowprec.quantize(narrow, "e5m2", rounding=STOCHASTIC).float())
        return torch.stack(results)

    x = spread(40, 33)
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    assert_equal_runs(run(compiled, x), run(function, x))
    torch.manual_seed(11)
    first, second = compiled(x), compiled(x)
    assert not torch.equal(first, second)  # noise is drawn in each call, not while compiling


@pytest.mark.parametrize("backend", BACKENDS)
def test_quantizer(backend: str) -> None:
    layers = torch.nn.Sequential(
        lowprec.Quantizer("e4m3fn", "e5m2", rounding=STOCHASTIC),
        lowprec.Quantizer("fixed8f4", "fixed8f7", clip_gradient=True, error_rounding=STOCHASTIC),
        lowprec.Quantizer("bfp4", gradient=lambda gradient, x, y: gradient * (x - y).abs()),
    )
    x = spread(40, 33).nan_to_num(0.0, 1.0, -1.0)
    compiled = torch.compile(layers, fullgraph=True, backend=backend)
    assert_equal_runs(run(compiled, x), run(layers, x))


def noisy(x: Tensor) -> Tensor:
    """A segment whose backward needs what was computed after noise."""
    y = lowprec.quantize(x / 2, "fixed8f4", rounding=STOCHASTIC)
    z = lowprec.quantize(y * y, "bfp4<group8>", rounding=STOCHASTIC)
    return z * y


def test_noisy_needs_its_noise_again() -> None:
    """Else the tests below could not fail: other noise gives another gradient."""
    x = spread(64, 32).nan_to_num(0.0, 1.0, -1.0).requires_grad_()
    gradients = [torch.autograd.grad(noisy(x).sum(), x)[0] for _ in range(2)]
    assert not torch.equal(*gradients)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_sees_the_noise_of_the_forward(reentrant: bool) -> None:
    x = spread(64, 32).nan_to_num(0.0, 1.0, -1.0)
    got = run(lambda x: checkpoint(noisy, x, use_reentrant=reentrant), x)
    assert_equal_runs(got, run(noisy, x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_checkpoint_sees_the_noise_of_the_forward(backend: str) -> None:
    def function(x: Tensor) -> Tensor:
        return checkpoint(noisy, x, use_reentrant=False)

    x = spread(64, 32).nan_to_num(0.0, 1.0, -1.0)
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    assert_equal_runs(run(compiled, x), run(noisy, x))


def test_a_checkpointed_quantizer_sees_the_noise_of_the_forward() -> None:
    layer = lowprec.Quantizer("e5m2", "e5m2", rounding=STOCHASTIC, clip_gradient=True)

    def segment(x: Tensor) -> Tensor:
        y = layer(x * 3000)
        return y * layer(y)

    x = spread(64, 32).nan_to_num(0.0, 1.0, -1.0)
    got = run(lambda x: checkpoint(segment, x, use_reentrant=False), x)
    assert_equal_runs(got, run(segment, x))


def test_another_shape_is_compiled_with_symbols() -> None:
    def function(x: Tensor) -> Tensor:
        return lowprec.quantize(x, "bfp8<channel0>", rounding=STOCHASTIC, seed=4)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((3, 5), (30, 7), (1, 900)):
        x = spread(*shape)
        assert_same(compiled(x), function(x))


def test_out_inside_a_graph() -> None:
    def function(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        lowprec.quantize(x, "e4m3fn", out=out)
        return out * 2

    x = spread(9, 8)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_same(compiled(x), function(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes(backend: str) -> None:
    def function(x: Tensor) -> list[Tensor]:
        seeds = {"rounding": STOCHASTIC, "seed": SEED}
        codes, scales = lowprec.encode(x, "bfp8<group4>", **seeds)
        plain = lowprec.encode(x, "fixed8f4", **seeds)
        values = lowprec.decode(codes, "bfp8<group4>", scales=scales)
        small, exponents = lowprec.encode(x, "mxfp4", **seeds)
        scaled = lowprec.decode(small, "mxfp4", scales=exponents)
        wide = lowprec.decode(plain, "fixed8f4", dtype=torch.float64)
        return [codes, scales, plain, values, small, exponents, scaled, wide]

    x = spread(40, 33).nan_to_num(0.5)
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for got, want in zip(compiled(x), function(x), strict=True):
        assert_same(got, want)
    with pytest.raises(ValueError, match="`x` must hold nothing that becomes NaN: bfp8<group4> has"):
        compiled(x * float("nan"))


def test_an_error_while_compiling_names_the_argument() -> None:
    compiled = torch.compile(lambda x: lowprec.quantize(x, "e4m3fnn"), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="`format` must be a known name, got 'e4m3fnn'"):
        compiled(spread(3))
