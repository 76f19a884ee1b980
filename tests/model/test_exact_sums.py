"""Layers and functions whose sums are exact until they are rounded once."""

import pytest
import torch
from torch import Tensor

import lowprec
from lowprec import Arithmetic, Operands, Scheme, functional
from lowprec.reference import product

EXACT = Arithmetic("exact")
FORWARD = 16
"""The first stream of a forward product."""


def defined(a: Tensor, b: Tensor, arithmetic: Arithmetic, bias: Tensor | None = None, **noise: int) -> Tensor:
    """A product of two matrices by the definition."""
    row = None if bias is None else bias.numpy()
    return torch.from_numpy(product(a[None].numpy(), b[None].numpy(), arithmetic, bias=row, **noise)[0])


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Ordinary numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_linear_and_its_gradients_may_have_exact_sums() -> None:
    """The bias is part of the sum; a loss scale moves the error and not the range of the carrier."""
    scheme = Scheme(error="e5m2", arithmetic="exact", loss_scale=64)
    x, weight, bias = draw(6, 9).requires_grad_(), draw(5, 9, seed=1).requires_grad_(), draw(5, seed=2)
    y = functional.linear(x, weight, bias, scheme=scheme)
    error = draw(6, 5, seed=3)
    dx, dw = torch.autograd.grad(y, (x, weight), error)
    own, read = x.detach(), weight.detach()
    seen = lowprec.quantize(error * 64, "e5m2") / 64
    assert torch.equal(y.detach(), defined(own, read.T, EXACT, bias))
    assert torch.equal(dx, defined(seen, read, EXACT))
    assert torch.equal(dw, defined(seen.T, own, EXACT))


def test_a_stochastic_sum_takes_one_word_of_its_element() -> None:
    """Of the product's first stream, by position; in chunks, that of each chunk's first product."""
    x, weight = draw(3, 9), draw(5, 9, seed=1)
    for drawn, dtype in (
        (Arithmetic("exact", rounding="stochastic"), torch.float64),
        (Arithmetic("exact", rounding="stochastic", chunk=5, chunk_accumulate="binary32"), torch.float32),
    ):
        own, read = x.to(dtype), weight.to(dtype)
        y = functional.linear(own / 3, read, scheme=Scheme(arithmetic=drawn), seed=5)
        assert torch.equal(y, defined(own / 3, read.T, drawn, seed=5, stream=FORWARD))


@pytest.mark.slow
def test_the_result_is_rounded_to_its_own_dtype() -> None:
    """Once: to bfloat16 as in a chunk that holds all."""
    x, weight = draw(4, 9).bfloat16(), draw(3, 9, seed=1).bfloat16()
    y = functional.linear(x, weight, scheme=Scheme(arithmetic="exact"))
    once = Arithmetic("exact", chunk=9, chunk_accumulate="bfloat16")
    assert torch.equal(y.float(), defined(x.float(), weight.float().T, once))
    assert y.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(functional.linear(x.float(), weight.float(), scheme=Scheme(arithmetic="exact")), y)


def test_a_convolution_is_that_of_binary64_where_it_is_exact() -> None:
    """Factors of 12 bits within 8 binades: what torch sums in float64 is exact, and rounded once after it."""
    x, weight, bias = (torch.round(draw(*s) * 256) / 256 for s in ((2, 4, 7, 6), (6, 2, 3, 3), (6,)))
    options = {"padding": 1, "stride": 2, "groups": 2}
    y = functional.conv2d(x, weight, bias, **options, scheme=Scheme(arithmetic="exact"))
    wide = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), **options)
    assert torch.equal(y, wide.float())


def test_products_that_are_not_contiguous_broadcast() -> None:
    """Batches, transposed operands, empty sums."""
    a, b = draw(2, 1, 9, 4).mT, draw(9, 3, seed=1)
    y = functional.matmul(a, b, scheme=Scheme(arithmetic="exact"))
    for n in range(2):
        assert torch.equal(y[n, 0], defined(a[n, 0].contiguous(), b, EXACT))
    empty = functional.matmul(draw(3, 0), draw(0, 2), scheme=Scheme(arithmetic="exact"))
    assert torch.equal(empty, torch.zeros(3, 2))


def test_a_converted_model_tells_of_its_exact_sums(tmp_path) -> None:
    """In its description, in an audit, in a file."""
    other = Arithmetic("exact", rounding="stochastic", chunk=4, chunk_accumulate="binary32")
    scheme = Scheme(input="e4m3fn", arithmetic="exact", grad_weight=Operands(arithmetic=other))
    (tmp_path / "scheme.toml").write_text(scheme.to_toml(), encoding="utf-8")
    assert Scheme.from_toml(tmp_path / "scheme.toml") == scheme
    assert 'arithmetic = "exact"' in scheme.to_toml()
    net = lowprec.convert(torch.nn.Sequential(torch.nn.Linear(9, 5, bias=False)), scheme)
    assert "arithmetic exact nearest_even, fused, at once" in str(lowprec.describe(net))
    x = draw(6, 9)
    audit = lowprec.audit(net, x)
    assert audit.products[0].how.endswith("sum exact nearest_even, fused, at once")
