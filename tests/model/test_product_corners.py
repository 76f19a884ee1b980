"""Where parts meet: blocks without scales, single matrices, loss scales past a carrier, sums of nothing."""

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

import lowprec
from lowprec import Arithmetic, Scheme, reference
from lowprec.functional import conv2d, linear, matmul, scaled_dot_product_attention
from lowprec.ops import products
from lowprec.ops.products import make_sums

BLOCKS = Arithmetic("bfloat16", chunk="block", chunk_accumulate="binary32")


def test_blocks_of_operands_without_scales_are_refused() -> None:
    """By functions, and by the operator, whose kernel would read scales that are not there."""
    x = torch.ones(2, 3)
    for call in (lowprec.sum, lowprec.mean):
        with pytest.raises(ValueError, match="`arithmetic` must be one whose chunks are no blocks"):
            call(x, BLOCKS)
    with pytest.raises(ValueError, match="`arithmetic` must be one whose chunks are no blocks"):
        lowprec.matmul(x, x.T, BLOCKS)
    with pytest.raises(ValueError, match="have chunks of so many products where operands have no groups"):
        torch.ops.lowprec.product(x[None], x.T[None], None, None, make_sums(BLOCKS).key)


def test_the_gradient_of_a_single_matrix_is_one_sum_over_all_batches() -> None:
    """As that of a weight: 40 ones stop at 16 in e4m3fn, whichever operand the matrix is."""
    scheme = Scheme(arithmetic="e4m3fn")
    x, weight = torch.ones(4, 10, 2), torch.ones(2, 3, requires_grad=True)
    matmul(x, weight, scheme=scheme).sum().backward()
    of_linear = torch.ones(3, 2, requires_grad=True)
    linear(x, of_linear, scheme=scheme).sum().backward()
    assert weight.grad is not None
    assert of_linear.grad is not None
    assert (weight.grad == 16).all()
    assert torch.equal(weight.grad, of_linear.grad.T)
    left, right = torch.ones(5, 10, requires_grad=True), torch.ones(20, 10, 2)
    matmul(left, right, scheme=scheme).sum().backward()
    assert left.grad is not None
    assert (left.grad == 16).all()
    drawn = Scheme(arithmetic=Arithmetic("e4m3fn", rounding="stochastic"))
    seeds = torch.tensor(7)
    one, other = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    matmul(x, one, scheme=drawn, seed=seeds).sum().backward()
    matmul(x.reshape(40, 2), other, scheme=drawn, seed=seeds).sum().backward()
    assert torch.equal(one.grad, other.grad)


@pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:.*should not be instantiated:DeprecationWarning")
def test_functions_with_an_arithmetic_compile_as_one_graph() -> None:
    """What a plan asks of an arithmetic is not traced."""
    scheme = Scheme(arithmetic="bfloat16")
    x, y = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    for function in (
        lambda: linear(x, y[0], scheme=scheme),
        lambda: matmul(x, y.mT, scheme=scheme),
        lambda: scaled_dot_product_attention(x, y, y, scheme=scheme),
    ):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        assert torch.equal(compiled(), function())


@pytest.mark.parametrize("accumulate", ["binary32", "exact"])
@pytest.mark.parametrize("scale", [1024.0, 0.5])
def test_a_loss_scale_may_move_sums_past_the_carrier(accumulate: str, scale: float) -> None:
    """They are those of errors times the scale; dividing it away rounds once, to the carrier."""
    arithmetic = Arithmetic(accumulate)
    generator = torch.Generator().manual_seed(2)
    x, weight, error = (torch.randn(*s, generator=generator) for s in ((4, 6), (3, 6), (4, 3)))
    error = error * 2.0**-120
    x.requires_grad_(True)
    linear(x, weight, scheme=Scheme(arithmetic=arithmetic, loss_scale=scale)).backward(error)
    scaled = error.double().numpy()[None] * scale
    if accumulate == "exact":  # whose one rounding is the carrier's own
        expected = reference.product(error.numpy()[None], weight.numpy()[None], arithmetic)[0]
    else:
        moved = reference.product(scaled, weight.double().numpy()[None], arithmetic)[0]
        expected = (moved / scale).astype(np.float32)
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_sums_and_means_may_be_exact() -> None:
    """Rounded once, to the dtype."""
    x = torch.tensor([[3e38, 3e38, 1.0, -3e38, -3e38]])
    assert lowprec.sum(x, "exact").item() == 1.0
    assert lowprec.mean(x, "exact").item() == torch.tensor(0.2).item()
    assert lowprec.sum(torch.ones(3, 2).bfloat16(), Arithmetic("exact", rounding="down")).item() == 6.0


@pytest.mark.parametrize("rounding", ["nearest_even", "down"])
def test_nothing_wraps_to_zero(rounding: str) -> None:
    """An empty sum is +0, also where sums of integers would be taken modulo their width."""
    arithmetic = Arithmetic("fixed8f0<wrap>", rounding=rounding)
    y = lowprec.matmul(torch.ones(2, 0), torch.ones(0, 3), arithmetic)
    assert y.shape == (2, 3)
    assert torch.equal(torch.signbit(y), torch.zeros(2, 3, dtype=torch.bool))
    assert not y.any()


def test_products_with_sparse_matrices_and_weighted_bags_do_not_slip_by() -> None:
    """Bags without weights are sums of rows, which nothing multiplies."""
    rows, bags = torch.ones(2, 3), torch.tensor([[0, 1]])
    with lowprec.simulate(Scheme(arithmetic="e4m3fn")):
        with pytest.raises(ValueError, match="`_sparse_mm` must be left out"):
            torch.sparse.mm(torch.ones(1, 20).to_sparse(), torch.ones(20, 1))
        with pytest.raises(ValueError, match="`embedding_bag` must be left out"):
            torch.nn.functional.embedding_bag(bags, rows, per_sample_weights=torch.ones(1, 2), mode="sum")
        assert (torch.nn.functional.embedding_bag(bags, rows, mode="sum") == 2).all()


@pytest.mark.parametrize(
    ("x", "format", "rounding"),
    [(3.3853775517647076e36, "fixed8f0<wrap>", "nearest_even"),
     (1.7226428841967718e36, "fixed24f0<wrap>", "nearest_odd")],
)  # fmt: skip
def test_wrapped_roots_know_the_bit_below_their_unit(x: float, format: str, rounding: str) -> None:
    """Of the root of a large number, whose integer part takes 61 bits."""
    given = np.array([x], np.float32)
    expected = reference.elementary("sqrt", [given], format, rounding=rounding)
    assert lowprec.sqrt(given, format, rounding=rounding).tolist() == expected.tolist()


def test_what_lies_on_another_device_is_refused() -> None:
    """Kernels read memory of one device by its address."""
    x, key = torch.ones(1, 2, 2), make_sums(Arithmetic("fixed8f4")).key
    for name, others in {
        "b": (x.to("meta"), None, None),
        "bias": (x, x[0, 0].to("meta"), None),
        "seed": (x, None, torch.empty(1, dtype=torch.int64, device="meta")),
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must be on the device of `a`, cpu, got 'meta'"):
            products._product(x, *others, key)
    meta = x.to("meta")
    products._count(meta, meta, None, make_sums(Arithmetic("fixed8f4")), 0, "")  # counts nothing of nothing


def test_nothing_on_the_way_to_a_kernel_reads_numbers() -> None:
    """Which would wait for a device: tensors that have none go through forward and backward."""
    arithmetic = Arithmetic("bfloat16", rounding="stochastic")
    scheme = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", arithmetic=arithmetic, loss_scale=2.0**20)
    with FakeTensorMode():

        def some(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, requires_grad=True)

        x, seed = some(2, 4, 8, 16), torch.zeros(1, dtype=torch.int64)
        for y in (
            linear(some(4, 16), some(5, 16), some(5), scheme=scheme),
            linear(some(4, 16), some(5, 16), some(5), scheme=scheme, seed=3),
            matmul(some(2, 4, 16), some(16, 3), scheme=scheme, seed=seed),
            conv2d(some(2, 4, 9, 9), some(3, 4, 3, 3), some(3), scheme=scheme),
            scaled_dot_product_attention(x, x, x, scheme=scheme),
            lowprec.matmul(some(2, 4, 16), some(2, 16, 3), arithmetic),
            lowprec.sum(some(2, 4, 16), arithmetic, dim=1),
        ):
            y.sum().backward()
