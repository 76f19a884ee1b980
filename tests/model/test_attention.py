"""scaled_dot_product_attention: torch's own where nothing is rounded, and its two products where it is."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import lowprec
from lowprec import Arithmetic, BlockFloatingPoint, Cast, Operands, PerGroup, Scheme, functional
from lowprec.functional import scaled_dot_product_attention as attention
from lowprec.functional.attention import other_seed
from lowprec.reference import product

E4M3 = Arithmetic("e4m3fn")
E5M2 = Arithmetic("e5m2")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Ordinary numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def results(function: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
    """The result and the gradients, for one error and one noise of dropout."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, draw(*y.shape, seed=9, dtype=y.dtype))]


def torch_attention(*operands: Tensor, **options: Any) -> Tensor:
    """As torch's math backend computes it."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.nn.functional.scaled_dot_product_attention(*operands, **options)


MASK = draw(5, 7, seed=3) > 0
MASK[2] = False  # a query without any key
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "boolean mask": {"attn_mask": MASK},
    "float mask": {"attn_mask": draw(2, 1, 5, 7, seed=4)},
    "causal": {"is_causal": True},
    "dropout": {"dropout_p": 0.25},
    "shared heads": {"enable_gqa": True},
    "scale": {"scale": 0.0625},
    "negative scale": {"scale": -0.0625},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIONS)
def test_without_casts_it_is_torchs_math_backend_to_the_bit(name: str, dtype: torch.dtype) -> None:
    """torch multiplies both operands by the root of the scale, here a power of two, which rounds nothing."""
    query, key, value = draw(2, 4, 5, 16), draw(2, 4, 7, 16, seed=1), draw(2, 4, 7, 3, seed=2)
    options = OPTIONS[name]
    if name == "shared heads":
        key, value = key[:, :2].contiguous(), value[:, :1].contiguous()
    if name == "float mask":
        options = {"attn_mask": options["attn_mask"].to(dtype)}
    operands = [x.to(dtype) for x in (query, key, value)]
    mine = results(lambda *t: attention(*t, scheme=Scheme(), **options), *operands)
    for got, want in zip(mine, results(lambda *t: torch_attention(*t, **options), *operands), strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)
        assert got.isfinite().all()


def test_with_another_scale_it_is_within_a_bound_of_torchs() -> None:
    """The scale is applied to the scores, and its root, by torch, to both operands.

    With u = 2**-24, E features and S keys, and A the greatest of scale * sum |q| |k|, either score is off by
    at most (E + 4) u A: E roundings in the sum, those of the factors and of what they multiply. Softmax adds,
    to its relative error, 2 u A for the subtraction of the maximum, S + 5 roundings of exp, sum and quotient;
    the last product S more. Twice that for two results, and twice for terms of higher order.
    """
    query, key, value = draw(2, 4, 5, 24), draw(2, 4, 7, 24, seed=1), draw(2, 4, 7, 3, seed=2)
    a = float((query.abs() @ key.abs().mT).max()) / math.sqrt(24)
    relative = 2 * (2 * (24 + 4) * a + 2 * a + 7 + 5 + 7) * 2.0**-24
    difference = attention(query, key, value, scheme=Scheme()) - torch_attention(query, key, value)
    assert 0 < difference.abs().max() <= 2 * relative * value.abs().max()


def test_operands_errors_and_outputs_are_rounded_as_activations() -> None:
    """In each of the six products; a scheme's weight has no say."""
    scheme = Scheme(
        input="e4m3fn", weight="e2m1", error="e5m2", output="bfloat16",
        grad_input=Operands(error="e3m0ieee", weight="e2m1"), grad_weight=Operands(input="e2m1"),
    )  # fmt: skip
    query, key, value = draw(2, 5, 6), draw(2, 7, 6, seed=1), draw(2, 7, 3, seed=2)
    y, dq, dk, dv = results(lambda *t: attention(*t, scheme=scheme), query, key, value)
    q, k, v = (lowprec.quantize(x, "e4m3fn") for x in (query, key, value))
    scores = (lowprec.quantize(q @ k.mT, "bfloat16") * (1 / math.sqrt(6))).requires_grad_()
    weights = scores.softmax(-1)
    p = lowprec.quantize(weights.detach(), "e4m3fn")
    assert torch.equal(y, lowprec.quantize(p @ v, "bfloat16"))
    error = lowprec.quantize(draw(*y.shape, seed=9), "e3m0ieee")
    assert torch.equal(dv, p.mT @ error)
    (own,) = torch.autograd.grad(weights, scores, error @ v.mT)
    error = lowprec.quantize(own * (1 / math.sqrt(6)), "e3m0ieee")
    assert torch.equal(dq, error @ k)
    assert torch.equal(dk, (error.mT @ q))
    assert torch.equal(attention(query, key, value, scheme=Scheme(weight="e2m1")),
                       attention(query, key, value, scheme=Scheme()))  # fmt: skip


def defined(a: Tensor, b: Tensor, arithmetic: Arithmetic) -> Tensor:
    """A product of batches of matrices by the definition."""
    left, right = (x.reshape(-1, *x.shape[-2:]).numpy() for x in (a, b))
    return torch.from_numpy(product(left, right, arithmetic)).reshape(*a.shape[:-1], b.shape[-1])


@pytest.mark.parametrize("shared", [False, True])
def test_groups_run_along_each_products_contraction_and_sums_are_rounded(shared: bool) -> None:
    """Six products, each with operands of its own, heads that share keys and values included."""
    grouped = BlockFloatingPoint(4, PerGroup(3, "contraction"))
    scheme = Scheme(input=grouped, error=grouped, arithmetic=E4M3, grad_input=Operands(arithmetic=E5M2))
    query, key, value = draw(2, 4, 5, 6), draw(2, 2, 7, 6, seed=1), draw(2, 2, 7, 3, seed=2)
    heads = 2
    if not shared:
        query, heads = query[:, :2], 1
    y, dq, dk, dv = results(lambda *t: attention(*t, scheme=scheme, enable_gqa=shared), query, key, value)

    def along(x: Tensor, axis: int) -> Tensor:
        return lowprec.quantize(x, BlockFloatingPoint(4, PerGroup(3, axis)))

    def each(x: Tensor) -> Tensor:
        return x.repeat_interleave(heads, 1)

    scores = (defined(along(query, -1), each(along(key, -1)).mT, E4M3) * (1 / math.sqrt(6))).requires_grad_()
    weights = scores.softmax(-1)
    assert torch.equal(y, defined(along(weights.detach(), -1), each(along(value, -2)), E4M3))
    error = draw(*y.shape, seed=9)
    own = defined(along(error, -1), each(along(value, -1)).mT, E5M2)
    sums = defined(along(weights.detach(), -2).mT, along(error, -2), E5M2)
    assert torch.equal(dv, sums.unflatten(1, (2, heads)).sum(2))
    (own,) = torch.autograd.grad(weights, scores, own)
    own = own * (1 / math.sqrt(6))
    assert torch.equal(dq, defined(along(own, -1), each(along(key, -2)), E5M2))
    sums = defined(along(own, -2).mT, along(query, -2), E5M2)
    assert torch.equal(dk, sums.unflatten(1, (2, heads)).sum(2))


def test_each_product_has_noise_of_its_own_and_a_shared_key_has_one() -> None:
    """The first has the seed of the call, the second one that is made of it."""
    scheme = Scheme(input=Cast("e4m3fn", "stochastic"), arithmetic="carrier")
    query, key, value = draw(4, 5, 6), draw(2, 7, 6, seed=1), draw(2, 7, 3, seed=2)
    y = attention(query, key, value, enable_gqa=True, scheme=scheme, seed=11)
    assert torch.equal(y, attention(query, key, value, enable_gqa=True, scheme=scheme, seed=11))
    second = int(other_seed(torch.tensor([11]), 1))  # type: ignore[arg-type]
    assert second != 11
    expected = functional.matmul(
        query, key.repeat_interleave(2, 0).mT, scheme=Scheme(input=scheme.input), seed=11
    )
    noisy = functional.linear(torch.eye(6), key.reshape(14, 6), scheme=Scheme(weight=scheme.input), seed=11)
    read = noisy.T.reshape(2, 7, 6).repeat_interleave(2, 0)
    scores = functional.matmul(query, read.mT, scheme=Scheme(input=scheme.input), seed=11)
    assert not torch.equal(scores, expected)
    weights = (scores * (1 / math.sqrt(6))).softmax(-1)
    noisy = functional.linear(
        torch.eye(3), value.reshape(14, 3), scheme=Scheme(weight=scheme.input), seed=second
    )
    read = noisy.T.reshape(2, 7, 3).repeat_interleave(2, 0)
    assert torch.equal(y, functional.matmul(weights, read, scheme=Scheme(input=scheme.input), seed=second))


def test_evaluation_and_the_generator_of_torch() -> None:
    """Training modes by default; a seed that is not given comes from torch."""
    scheme = Scheme(input=Cast("e4m3fn", "stochastic", eval_rounding="nearest_even"))
    x = draw(2, 5, 6)
    still = attention(x, x, x, scheme=scheme, training=False)
    assert torch.equal(still, attention(x, x, x, scheme=Scheme(input="e4m3fn")))
    torch.manual_seed(0)
    first, other = attention(x, x, x, scheme=scheme), attention(x, x, x, scheme=scheme)
    torch.manual_seed(0)
    assert torch.equal(first, attention(x, x, x, scheme=scheme))
    assert not torch.equal(first, other)


X = torch.ones(2, 4, 3, 2)
ERRORS: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "no tensor": (TypeError, "`query` must be a tensor", {"query": 3}),
    "vector": (ValueError, "`value` must have 2 dimensions or more", {"value": X[0, 0, 0]}),
    "no heads": (ValueError, "`value` must have 3 dimensions or more", {
        "value": X[0, 0], "enable_gqa": True}),
    "dtypes": (TypeError, "`key` must have the dtype of the query", {"key": X.double()}),
    "heads": (ValueError, "`key` must have a number of heads that divides the query's, 4", {
        "key": X[:, :3], "enable_gqa": True}),
    "features": (ValueError, "`key` must have 2 features, as the query has", {"key": X[..., :1]}),
    "rows": (ValueError, "`value` must have 3 rows, as the key has", {"value": X[..., :2, :]}),
    "two masks": (ValueError, "`attn_mask` must be None beside is_causal", {
        "attn_mask": torch.ones(3, 3), "is_causal": True}),
    "mask of integers": (TypeError, "`attn_mask` must be boolean, float32 or torch.float32", {
        "attn_mask": torch.ones(3, 3, dtype=torch.int64)}),
    "dropout": (ValueError, "`dropout_p` must lie between 0 and 1", {"dropout_p": 1.5}),
    "seed": (ValueError, "`seed` must be None where nothing in the scheme is stochastic", {"seed": 1}),
    "carrier": (ValueError, "`format` must be exact in the carrier bfloat16", {
        "query": X.bfloat16(), "key": X.bfloat16(), "value": X.bfloat16()}),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_has_no_attention_is_refused(name: str) -> None:
    kind, message, changes = ERRORS[name]
    scheme = Scheme(input="binary16") if name == "carrier" else Scheme(input="e4m3fn")
    with pytest.raises(kind, match=message):
        attention(**{"query": X, "key": X, "value": X, "scheme": scheme, **changes})


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([X[0], X[1]])
    with pytest.raises(TypeError, match=r"`query` must be no nested tensor.*Pad it and pass a mask"):
        attention(nested, nested, nested, scheme="bf16")


def test_no_keys_give_zeros_as_torchs_do() -> None:
    query, key = draw(2, 5, 16), draw(2, 0, 16)
    assert torch.equal(attention(query, key, key, scheme="fp8-hybrid"), torch.zeros(2, 5, 16))
    assert torch.equal(torch_attention(query, key, key), torch.zeros(2, 5, 16))
