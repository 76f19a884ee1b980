"""Bad, special and empty operands of every product, and sums in binary32 beside plain loops and torch's."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product as every
from typing import Any

import numpy as np
import pytest
import torch
from model.functional_products import PRODUCTS, assert_equal, draw
from torch import Tensor

from lowprec import Arithmetic, Scheme, functional
from lowprec.ops.products import make_sums

WIDE = Scheme(arithmetic="binary32")
CASTS = Scheme(input="e4m3fn", weight="e4m3fn")
every_product = pytest.mark.parametrize("name", PRODUCTS)
Term = tuple[tuple[int, ...], tuple[int, ...]]
"""Where the factors of one product lie in the operands."""


def outcome(
    function: Callable[..., Tensor], operands: list[Tensor], error: Tensor | None = None
) -> list[Tensor]:
    """The result and all gradients."""
    leaves = [t.detach().clone().requires_grad_() for t in operands]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y) if error is None else error)]


def terms(name: str, place: tuple[int, ...], x: Tensor, weight: Tensor) -> Iterator[Term]:
    """The products of one element of a result, in their order; for convolutions of stride 2 in 2 groups."""
    if name == "linear":
        yield from (((place[0], k), (place[1], k)) for k in range(x.shape[1]))
        return
    if name in ("matmul", "bmm"):
        batch = place[:1] if weight.dim() == 3 else ()
        yield from (((*place[:2], k), (*batch, k, place[2])) for k in range(x.shape[2]))
        return
    n, o, *at = place
    taps = list(every(*map(range, weight.shape[2:])))
    if not name.startswith("conv_transpose"):
        group = o // (weight.shape[0] // 2)
        for c, tap in every(range(weight.shape[1]), taps):
            source = tuple(2 * p + t for p, t in zip(at, tap, strict=True))
            yield (n, group * weight.shape[1] + c, *source), (o, c, *tap)
        return
    group, depth = o // weight.shape[1], weight.shape[0] // 2
    for c, tap in every(range(depth), reversed(taps)):
        source = tuple((p - t) // 2 for p, t in zip(at, tap, strict=True))
        fits = all((p - t) % 2 == 0 for p, t in zip(at, tap, strict=True))
        if fits and all(0 <= q < size for q, size in zip(source, x.shape[2:], strict=True)):
            yield (n, group * depth + c, *source), (group * depth + c, o % weight.shape[1], *tap)


def looped(name: str, shape: tuple[int, ...], operands: list[Tensor]) -> Tensor:
    """A plain loop in float32, which rounds every product and every sum."""
    x, weight, *rest = (t.numpy() for t in operands)
    out = np.zeros(shape, np.float32)
    for place in np.ndindex(shape):
        total = np.float32(0)
        for left, right in terms(name, place, operands[0], operands[1]):
            total = np.float32(total + np.float32(x[left] * weight[right]))
        if rest:
            total = np.float32(total + rest[0][place[-1] if name == "linear" else place[1]])
        out[place] = total
    return torch.from_numpy(out)


def shaped(name: str) -> tuple[dict[str, Any], list[Tensor]]:
    """Options that make a convolution a hard one, and operands that fit them."""
    operands = draw(name, *[torch.float32] * 3)
    if not name.startswith("conv"):
        return {}, operands
    weight, bias = operands[1], operands[2]
    if name.startswith("conv_transpose"):
        return {"stride": 2, "groups": 2}, [operands[0], weight[:, :3].contiguous(), bias.repeat(2)[:6]]
    return {"stride": 2, "groups": 2}, [operands[0], weight[:4, :2].contiguous(), bias[:4]]


@every_product
def test_in_binary32_it_is_a_plain_loop(name: str) -> None:
    """With rounded products of any operands; fused where products are exact, as those of twelve bits are."""
    options, operands = shaped(name)
    own = PRODUCTS[name].mine
    arithmetic = Arithmetic("binary32", multiply="binary32")
    got = own(*operands, **options, scheme=Scheme(arithmetic=arithmetic))
    assert torch.equal(got, looped(name, tuple(got.shape), operands))
    short = [t.bfloat16().float() for t in operands]
    got = own(*short, **options, scheme=WIDE)
    assert torch.equal(got, looped(name, tuple(got.shape), short))


@every_product
def test_results_and_gradients_are_within_a_bound_of_torchs(name: str) -> None:
    """Both are off by at most gamma_k S, S the sum of the k magnitudes that are added and u = 2^-24.

    Each term passes through at most k roundings, of its product and of sums, in whatever order and fused or
    not; hence the factor (1 + u)^k - 1 <= k u / (1 - k u) = gamma_k (Higham, Accuracy and Stability of
    Numerical Algorithms, 3.1). S and k are the same products of magnitudes, and of ones. One more than k
    covers the rounding of S itself, of 2^-53 in each of its sums.
    """
    options, operands = shaped(name)
    own, plain = (partial(f, **options) for f in PRODUCTS[name][:2])
    error = torch.randn(plain(*operands).shape, generator=torch.Generator().manual_seed(3))
    got = outcome(partial(own, scheme=WIDE), operands, error)
    want = outcome(plain, operands, error)
    sizes = outcome(plain, [t.double().abs() for t in operands], error.double().abs())
    counts = outcome(plain, [torch.ones_like(t).double() for t in operands])
    for a, b, size, count in zip(got, want, sizes, counts, strict=True):
        steps = (count + 1) * 2.0**-24
        assert ((a.double() - b.double()).abs() <= 2 * steps / (1 - steps) * size).all()
        assert not torch.equal(a, torch.zeros_like(a))


@every_product
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf])
def test_special_values_are_torchs(name: str, special: float) -> None:
    """NaN, and infinities with both signs, of the input, where no padding multiplies them by zero."""
    operands = [t.mul(4).round().add(0.5) for t in draw(name, *[torch.float32] * 3)]
    operands[0].view(-1)[0], operands[0].view(-1)[-1] = special, -special
    got = outcome(partial(PRODUCTS[name].mine, scheme=WIDE), operands)
    want = outcome(PRODUCTS[name].plain, operands)
    assert not got[0].isfinite().all()
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a.nan_to_num(7, 8, 9), b.nan_to_num(7, 8, 9))


@every_product
@pytest.mark.parametrize("scheme", [CASTS, WIDE], ids=["casts", "sums"])
def test_an_empty_batch_is_torchs(name: str, scheme: Scheme) -> None:
    """Also its gradients, which are zeros."""
    operands = draw(name, *[torch.float32] * 3)
    operands[0] = operands[0][:0]
    if name == "bmm":
        operands[1] = operands[1][:0]
    got = outcome(partial(PRODUCTS[name].mine, scheme=scheme), operands)
    assert_equal(got, outcome(PRODUCTS[name].plain, operands))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("linear", [(3, 0), (5, 0), (5,)]), ("linear", [(2, 3, 0), (5, 0)]),
        ("linear", [(2, 0, 4), (5, 4), (5,)]),
        ("matmul", [(2, 3, 0), (0, 5)]), ("matmul", [(0,), (0,)]), ("bmm", [(2, 3, 0), (2, 0, 5)]),
    ],
)  # fmt: skip
def test_nothing_sums_to_zero(name: str, shapes: list[tuple[int, ...]]) -> None:
    """And then the bias is added; gradients are empty or zero."""
    operands = [torch.ones(shape) for shape in shapes]
    for scheme in (CASTS, WIDE):
        got = outcome(partial(PRODUCTS[name].mine, scheme=scheme), operands)
        assert_equal(got, outcome(PRODUCTS[name].plain, operands))
        assert not got[0].signbit().any()


def test_a_convolution_without_channels_is_its_bias() -> None:
    """Where torch gives no channels, or refuses."""
    x, bias = torch.ones(2, 0, 5), torch.arange(4.0)
    assert torch.equal(
        functional.conv1d(x, torch.ones(4, 0, 2), bias, scheme=WIDE), bias[:, None].expand(2, 4, 4)
    )
    y = functional.conv_transpose1d(x, torch.ones(0, 4, 2), bias, scheme=WIDE)
    assert torch.equal(y, bias[:, None].expand(2, 4, 6))


def ones(*shape: int) -> Tensor:
    """A tensor of this shape."""
    return torch.ones(shape)


linear, conv1d, conv_transpose1d = functional.linear, functional.conv1d, functional.conv_transpose1d
T, V = TypeError, ValueError
CONV, BACK = (ones(2, 4, 5), ones(6, 4, 2)), (ones(2, 4, 5), ones(4, 6, 2))


@pytest.mark.parametrize("scheme", [CASTS, WIDE], ids=["casts", "sums"])
@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (partial(linear, [1.0], ones(1, 1)), T, "`input` must be a tensor of numbers, got <class 'list'>"),
        (partial(linear, ones(1, 1), 3), T, "`weight` must be a tensor of numbers"),
        (partial(linear, ones(1, 1), ones(1, 1), [1.0]), T, "`bias` must be a tensor or None"),
        (partial(linear, ones(), ones(1, 1)), V, "`input` must have at least one dimension, got"),
        (partial(linear, ones(2, 3), ones(3)), V, "`weight` must have two dimensions, outputs and"),
        (partial(linear, ones(2, 3), ones(1, 4, 3)), V, "`weight` must have two dimensions, outputs and"),
        (partial(linear, ones(2, 3).int(), ones(4, 3)), T, "`input` must be float32, bfloat16, float16"),
        (partial(linear, ones(2, 3), ones(4, 3).int()), T, "`weight` must have the dtype of the input"),
        (partial(linear, ones(2, 3), ones(4, 3).to_sparse()), T, "`weight` must be a strided tensor"),
        (partial(linear, ones(2, 3), ones(4, 3), ones(4).double()), T, "`bias` must have the dtype of the"),
        (partial(functional.matmul, ones(2, 2), ones(2, 2).half()), T, "`other` must have the dtype of"),
        (partial(functional.bmm, ones(2, 3, 3), ones(2, 4, 3)), V, "`mat2` must have 3 rows, as many as"),
        (partial(functional.matmul, ones(2, 2, 3), ones(3, 3, 4)),
         V, "`other` must have batch dimensions that broadcast"),
        (partial(conv1d, ones(5), CONV[1]), V, r"`input` must have 3 dimensions, or 2 without a batch"),
        (partial(conv1d, [1.0], CONV[1]), T, "`input` must be a tensor of numbers, got <class 'list'>"),
        (partial(conv1d, CONV[0], ones(6, 4, 0)), V, "`weight` must have at least one element in its w"),
        (partial(conv1d, *CONV, stride=0), V, "`stride` must be at least 1 in each dimension, got 0"),
        (partial(conv1d, *CONV, dilation=(0,)), V, r"`dilation` must be at least 1 in each .*got \(0,\)"),
        (partial(conv1d, *CONV, padding=-1), V, "`padding` must be at least 0 in each dimension, got -1"),
        (partial(conv1d, *CONV, stride=(1, 2)), T, "`stride` must be an integer or a sequence of 1, got"),
        (partial(conv1d, *CONV, stride=1.5), T, "`stride` must be an integer or a sequence of 1, got 1.5"),
        (partial(conv1d, *CONV, groups=0), V, "`groups` must be at least 1, which is one group, got 0"),
        (partial(conv_transpose1d, *BACK, output_padding=-1), V, "`output_padding` must be at least 0 in"),
        (partial(conv_transpose1d, *BACK, padding=(1, 1)), T, "`padding` must be an integer or a sequence"),
        (partial(conv_transpose1d, *BACK, groups=-2), V, "`groups` must be at least 1, which is one gr"),
    ],
)  # fmt: skip
def test_what_has_no_product_is_refused(
    call: Callable[..., Tensor], kind: type[Exception], message: str, scheme: Scheme
) -> None:
    """In words of its own, with or without an arithmetic."""
    with pytest.raises(kind, match=message):
        call(scheme=scheme)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(linear, ones(2, 3), ones(4, 5)), "`weight` must have 3 columns, as the input has, got"),
        (partial(linear, ones(2, 3), ones(4, 3), ones(1)), r"`bias` must have the shape \(4,\), got \(1,\)"),
        (
            partial(linear, ones(2, 3), ones(4, 3), ones(2, 4)),
            r"`bias` must have the shape \(4,\), got \(2, 4\)",
        ),
        (partial(conv1d, *CONV, ones(4)), r"`bias` must have the shape \(6,\), got \(4,\)"),
        (
            partial(conv1d, *CONV, groups=2),
            r"`weight` must have 4 input channels in 2 groups, got \(6, 4, 2\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Callable[..., Tensor], message: str) -> None:
    """By torch where its own product follows, but for a bias that torch stretches."""
    with pytest.raises(ValueError, match=message):
        call(scheme=WIDE)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 5, 4), (5, 4)], ids=str)
def test_the_operator_reads_no_memory_that_is_not_its_operands(shape: tuple[int, ...]) -> None:
    """Sizes are compared before anything is read, and where only shapes are known."""
    key = make_sums(Arithmetic("binary32")).key
    for device in ("cpu", "meta"):
        a, b = torch.ones(2, 3, 5, device=device), torch.ones(shape, device=device)
        message = r"`b` must have as many matrices as `a`, \(2, 3, 5\), with as many rows as those have"
        with pytest.raises(ValueError, match=message):
            torch.ops.lowprec.product(a, b, None, None, key)
