"""Layers and functions whose products have an arithmetic: forward, both backward products, compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lowprec
from lowprec import Arithmetic, Operands, Scheme, functional
from lowprec.ops.products import make_sums
from lowprec.reference import product

E6M9 = Arithmetic("e6m9ieee", chunk=16)
DRAWN = Arithmetic("bfloat16", rounding="stochastic", multiply="e4m3fn")
OTHER = Arithmetic("e4m3fn")
FORWARD, GRAD_INPUT, GRAD_WEIGHT = 16, 24, 32
"""The first streams of the three products."""


def defined(a: Tensor, b: Tensor, arithmetic: Arithmetic, bias: Tensor | None = None, **noise: int) -> Tensor:
    """A product of two matrices by the definition."""
    row = None if bias is None else bias.numpy()
    return torch.from_numpy(product(a[None].numpy(), b[None].numpy(), arithmetic, bias=row, **noise)[0])


def gradients(function: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
    """The result, and the gradients for an error that is the same for each function."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    y = function(*leaves)
    error = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, error), error]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Ordinary numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_linear_and_its_gradients_are_three_products() -> None:
    """Each in its arithmetic, from the rounded operands, with its own noise."""
    scheme = Scheme(
        input="e4m3fn", weight="e4m3fn", error="e5m2",
        arithmetic=DRAWN, grad_input=Operands(arithmetic=E6M9), grad_weight=Operands(arithmetic=DRAWN),
    )  # fmt: skip
    x, weight, bias = draw(6, 9), draw(5, 9, seed=1), draw(5, seed=2)
    y, dx, dw, db, error = gradients(lambda *t: functional.linear(*t, scheme=scheme, seed=3), x, weight, bias)
    own, read = lowprec.quantize(x, "e4m3fn"), lowprec.quantize(weight, "e4m3fn")
    seen = lowprec.quantize(error, "e5m2")
    assert torch.equal(y, defined(own, read.T, DRAWN, bias, seed=3, stream=FORWARD))
    assert torch.equal(dx, defined(seen, read, E6M9))
    assert torch.equal(dw, defined(seen.T, own, DRAWN, seed=3, stream=GRAD_WEIGHT))
    assert torch.equal(db, seen.sum(0))


def test_an_arithmetic_of_one_product_leaves_the_others_to_torch() -> None:
    """By the word carrier, or by naming it for a backward product only."""
    x, weight = draw(6, 9), draw(5, 9, seed=1)
    plain = gradients(torch.nn.functional.linear, x, weight)
    for scheme, simulated in (
        (Scheme(arithmetic=OTHER, grad_input=Operands(arithmetic="carrier"),
                grad_weight=Operands(arithmetic="carrier")), (True, False, False)),
        (Scheme(grad_weight=Operands(arithmetic=OTHER)), (False, False, True)),
        (Scheme(grad_input=Operands(arithmetic=OTHER, weight="e5m2")), (False, True, False)),
    ):  # fmt: skip
        mine = gradients(lambda *t, scheme=scheme: functional.linear(*t, scheme=scheme), x, weight)
        for got, want, differs in zip(mine[:3], plain[:3], simulated, strict=True):
            assert torch.equal(got, want) != differs


def test_loss_scale_moves_the_arithmetic_of_backward_products() -> None:
    """As if the loss had been multiplied, and its gradients divided."""
    scheme = Scheme(error="e5m2", arithmetic=OTHER, loss_scale=64)
    x, weight = draw(6, 9), draw(5, 9, seed=1)
    y, dx, dw, error = gradients(lambda *t: functional.linear(*t, scheme=scheme), x, weight)
    seen = lowprec.quantize(error * 64, "e5m2")
    assert torch.equal(y, defined(x, weight.T, OTHER))
    assert torch.equal(dx, defined(seen, weight, OTHER) / 64)
    assert torch.equal(dw, defined(seen.T, x, OTHER) / 64)


CONVOLUTIONS: list[tuple[int, dict[str, Any]]] = [
    (1, {"stride": 2, "padding": 1}),
    (2, {"stride": (2, 1), "padding": (0, 3), "dilation": 2, "groups": 2}),
    (2, {"padding": "same", "stride": 1}),
    (3, {"padding": 2}),
    (1, {"groups": 4, "stride": 3}),
]


@pytest.mark.parametrize(("dimensions", "options"), CONVOLUTIONS, ids=str)
def test_convolutions_in_binary32_are_torchs_but_for_the_order_of_sums(
    dimensions: int, options: dict[str, Any]
) -> None:
    """Small integers, whose sums are exact in any order: then nothing is left to differ."""
    groups = options.get("groups", 1)
    shape, window = (2, 4, *(7, 6, 5)[:dimensions]), (3, 3, 1)[:dimensions]
    x, weight, bias = (draw(*s).mul(4).round() for s in (shape, (8, 4 // groups, *window), (8,)))
    mine = getattr(functional, f"conv{dimensions}d")
    theirs = getattr(torch.nn.functional, f"conv{dimensions}d")
    scheme = Scheme(arithmetic="binary32", error="fixed8f0")

    def rounded(*operands: Tensor) -> Tensor:
        """torch's, with the error of the scheme."""
        y = theirs(*operands, **options)
        y.register_hook(lambda error: lowprec.quantize(error, "fixed8f0"))
        return y

    got = gradients(lambda *t: mine(*t, **options, scheme=scheme), x, weight, bias)
    want = gradients(rounded, x, weight, bias)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert torch.equal(a, b)


def test_a_convolution_is_a_product_with_windows() -> None:
    """Positions are those of the result; the products of one element go by channel and window."""
    x, weight, bias = draw(2, 4, 5, 6), draw(6, 2, 3, 2, seed=1), draw(6, seed=2)
    scheme = Scheme(arithmetic=DRAWN)
    y = functional.conv2d(x, weight, bias, padding=1, groups=2, scheme=scheme, seed=5)
    windows = torch.nn.functional.unfold(x, (3, 2), padding=1).reshape(4, 12, -1)
    kernels = weight.reshape(2, 3, 12).repeat(2, 1, 1)
    exact = Arithmetic(DRAWN.accumulate, rounding="stochastic", multiply=DRAWN.multiply)
    want = product(kernels.numpy(), windows.numpy(), exact, seed=5, stream=FORWARD)
    biased = torch.from_numpy(want).reshape(y.shape)
    low = lowprec.quantize(biased + bias.view(1, 6, 1, 1), "bfloat16", rounding="toward_zero")
    away = lowprec.quantize(biased + bias.view(1, 6, 1, 1), "bfloat16", rounding="away")
    assert ((y == low) | (y == away)).all()
    alone = functional.conv2d(x, weight, None, padding=1, groups=2, scheme=scheme, seed=5)
    assert torch.equal(alone, biased)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((7,), (7,)),
        ((3, 7), (7,)),
        ((7,), (2, 7, 4)),
        ((2, 3, 7), (7, 4)),
        ((2, 1, 3, 7), (5, 7, 4)),
        ((3, 0), (0, 2)),
    ],
    ids=str,
)
def test_matmul_broadcasts_as_torch_does(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Shapes, results and gradients on integers."""
    a, b = draw(*left).mul(4).round(), draw(*right, seed=1).mul(4).round()
    scheme = Scheme(arithmetic="binary32", error="fixed8f2")

    def rounded(*operands: Tensor) -> Tensor:
        """torch's, with the error of the scheme."""
        y = torch.matmul(*operands)
        y.register_hook(lambda error: lowprec.quantize(error, "fixed8f2"))
        return y

    got = gradients(lambda *t: functional.matmul(*t, scheme=scheme), a, b)
    want = gradients(rounded, a, b)
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        assert torch.equal(x, y)


def test_operands_of_matmul_are_rounded_along_the_contraction() -> None:
    """Groups run along k in both."""
    a, b = draw(3, 64), draw(64, 4, seed=1)
    y = functional.matmul(a, b, scheme="mxfp8")
    own = lowprec.quantize(a, "mxfp8_e4m3")
    other = lowprec.quantize(b.T.contiguous(), "mxfp8_e4m3").T
    assert torch.equal(y, own @ other)


def test_what_has_no_product_is_refused() -> None:
    """In this package's words."""
    scheme = Scheme(arithmetic=OTHER)
    with pytest.raises(
        ValueError, match="`other` must have 3 rows, as many as the first operand has columns, got"
    ):
        functional.matmul(torch.ones(2, 3), torch.ones(4, 3), scheme=scheme)
    with pytest.raises(TypeError, match="`input` must be a tensor"):
        functional.matmul([1.0], torch.ones(1), scheme=scheme)
    with pytest.raises(ValueError, match="have a dimension"):
        functional.matmul(torch.ones(()), torch.ones(1), scheme=scheme)
    with pytest.raises(ValueError, match="have three dimensions"):
        functional.bmm(torch.ones(2, 3), torch.ones(3, 3), scheme=scheme)
    with pytest.raises(ValueError, match="have 2 matrices"):
        functional.bmm(torch.ones(2, 3, 3), torch.ones(1, 3, 3), scheme=scheme)
    with pytest.raises(ValueError, match="have 3 input channels"):
        functional.conv1d(torch.ones(1, 3, 5), torch.ones(2, 2, 1), scheme=scheme)
    with pytest.raises(ValueError, match="be at least as large as the window"):
        functional.conv1d(torch.ones(1, 2, 2), torch.ones(2, 2, 3), scheme=scheme)
    with pytest.raises(ValueError, match="exact in the carrier float16"):
        functional.linear(
            torch.ones(2, 2).half(), torch.ones(2, 2).half(), scheme=Scheme(arithmetic="bfloat16")
        )
    with pytest.raises(ValueError, match="`seed` must be None"):
        functional.matmul(torch.ones(2), torch.ones(2), scheme=scheme, seed=1)
    with pytest.raises(ValueError, match="have exact products in float64"):
        functional.matmul(draw(9).double().exp(), draw(9).double().exp(), scheme=scheme)


def test_there_is_no_second_derivative() -> None:
    """An error, not a wrong one."""
    x, weight = draw(2, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_()
    y = functional.linear(x, weight, scheme=Scheme(arithmetic=OTHER))
    with pytest.raises(RuntimeError, match="have an arithmetic"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_gradients_are_near_torchs() -> None:
    """To nearest in m bits, a sum of k terms is off by at most k 2^-m times the sum of their magnitudes.

    Each of k steps is off by at most 2^-m of a partial sum, which all other steps' errors are part of: the
    factor (1 + 2^-m)^k - 1, below 1.1 k 2^-m here.
    """
    x, weight = draw(6, 40), draw(5, 40, seed=1)
    scheme = Scheme(arithmetic="bfloat16")
    got = gradients(lambda *t: functional.linear(*t, scheme=scheme), x, weight)
    want = gradients(torch.nn.functional.linear, x, weight)
    error = got[-1].abs()
    magnitudes = (x.abs() @ weight.abs().T, error @ weight.abs(), error.T @ x.abs())
    for a, b, size, count in zip(got, want, magnitudes, (40, 5, 6), strict=False):
        assert ((a - b).abs() <= 1.1 * count * 2.0**-8 * size).all()


def test_the_operator_passes_opcheck() -> None:
    """With and without a bias, batches, broadcasts and noise."""
    bias, seed = draw(4), torch.tensor([3])
    a, b = draw(2, 3, 5), draw(1, 5, 4).expand(2, 5, 4)
    for sums, words in ((make_sums(OTHER), None), (make_sums(DRAWN), seed)):
        torch.library.opcheck(torch.ops.lowprec.product, (a, b, bias, words, sums.key, 16))
        torch.library.opcheck(torch.ops.lowprec.product, (a, b, None, words, sums.key))


def model() -> torch.nn.Module:
    """A convolution and a layer behind it."""
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), torch.nn.ReLU(), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Linear(4 * 16, 3))


@pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:.*should not be instantiated:DeprecationWarning")
def test_a_converted_model_trains_and_compiles_to_the_same_bits() -> None:
    """Under fullgraph, forward and backward."""
    scheme = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", arithmetic=DRAWN, loss_scale=16)
    net = lowprec.convert(model(), scheme)
    assert "arithmetic bfloat16 stochastic" in str(lowprec.describe(net))
    x = draw(3, 2, 4, 4)

    def step(function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The output and all gradients."""
        torch.manual_seed(7)
        y = function(x)
        y.square().sum().backward()
        found = [y.detach(), *(p.grad.clone() for p in net.parameters())]
        net.zero_grad()
        return found

    eager = step(net)
    torch.compiler.reset()
    compiled = step(torch.compile(net, fullgraph=True, backend="aot_eager"))
    for a, b in zip(eager, compiled, strict=True):
        assert torch.equal(a, b)


@pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["plain", "autocast"])
def test_functions_compile_as_one_graph(dtype: torch.dtype | None) -> None:
    """Also where the scheme is one of the caller's, and under autocast."""
    scale = 4 if dtype is None else 1  # moved by 1/4, not all of bfloat16 is exact in bfloat16
    scheme = Scheme(input="e4m3fn", error="e5m2", arithmetic=DRAWN, loss_scale=scale)
    x, weight, kernel = draw(3, 2, 4), draw(2, 2, 2, seed=1), draw(2, 4, 1, seed=2)

    def function(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """Four kinds of products one after the other."""
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            y = functional.conv1d(x, weight, padding=1, scheme=scheme, seed=1)
            y = functional.conv_transpose1d(y, kernel, stride=2, scheme=scheme, seed=2)
            y = functional.matmul(y, y.mT.detach(), scheme=scheme, seed=3)
            return functional.linear(y, y[0].detach(), scheme=scheme, seed=4).float()

    torch.compiler.reset()
    run = torch.compile(function, fullgraph=True, backend="aot_eager")
    for a, b in zip(gradients(run, x, weight, kernel), gradients(function, x, weight, kernel), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_layers_pad_in_every_mode(dimensions: int, mode: str) -> None:
    """In an arithmetic, with casts or without: what is padded is what was rounded."""
    options = {"padding": 1, "padding_mode": mode, "stride": 2, "groups": 2}
    kind = f"Conv{dimensions}d"
    layer = getattr(torch.nn, kind)(4, 2, 3, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(p.mul(20).round())
    x = draw(2, 4, *(5, 4, 3)[:dimensions]).mul(4).round()
    rounded = lowprec.quantize(x, "e2m3"), lowprec.quantize(layer.weight.detach(), "e2m3")
    for casts in ({}, {"input": "e2m3", "weight": "e2m3"}):
        mine = getattr(lowprec.nn, kind).from_torch(layer, Scheme(arithmetic="binary32", **casts))

        def run(of: torch.nn.Module, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            """A layer on parameters that are given."""
            return torch.func.functional_call(of, {"weight": weight, "bias": bias}, x)

        weight, bias = layer.weight.detach(), layer.bias.detach()
        got = gradients(lambda *t, mine=mine, run=run: run(mine, *t), x, weight, bias)
        read = (x, weight) if not casts else rounded
        want = gradients(lambda *t, run=run: run(layer, *t), *read, bias)
        assert torch.equal(got[0], want[0])
        for a, b in zip(got[1:], want[1:], strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_autocast_brings_operands_to_its_dtype() -> None:
    """Which must hold the sums' format."""
    x, weight = draw(4, 9), draw(3, 9, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        y = functional.linear(x, weight, scheme=Scheme(arithmetic=OTHER))
        with pytest.raises(ValueError, match="`dtype` must hold the format binary32 of the scheme"):
            functional.linear(x, weight, scheme=Scheme(arithmetic="binary32"))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y.float(), defined(x.bfloat16().float(), weight.bfloat16().float().T, OTHER))


def test_carriers_hold_the_result() -> None:
    """Bfloat16 and float16 are widened, float64 is taken as it is."""
    x, weight = draw(4, 9).bfloat16(), draw(3, 9, seed=1).bfloat16()
    want = defined(x.float(), weight.float().T, OTHER)
    for dtype in (torch.bfloat16, torch.float64):
        y = functional.linear(x.to(dtype), weight.to(dtype), scheme=Scheme(arithmetic=OTHER))
        assert y.dtype == dtype
        assert np.array_equal(y.double().numpy(), want.double().numpy())
