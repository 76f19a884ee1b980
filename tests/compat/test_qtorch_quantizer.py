"""quantizer and Quantizer: masks, hooks, words longer than float32's, tuples, copies, and refusals."""

import copy
import pickle

import pytest
import torch
from compat.peer import packages

from lowprec import record
from lowprec.compat.qtorch import BlockFloatingPoint, FixedPoint, FloatingPoint, Number
from lowprec.compat.qtorch.quant import (
    Quantizer,
    block_quantize,
    fixed_point_quantize,
    float_quantize,
    quantizer,
)

X = torch.tensor([-5.0, -2.0, -1.0, 0.3, 1.0, 1.99, 2.0, 7.0])


def forward_and_gradient(function, x, g):
    """What a function gives, and the gradient of its input."""
    x = x.clone().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y, x, g)
    return y.detach(), gradient


@pytest.mark.parametrize("package", packages())
@pytest.mark.parametrize("wl", [8, 32])
def test_clamped_positions_get_no_gradient(package, wl):
    q = package()
    number = q.FixedPoint(wl, wl - 2, symmetric=True)
    identity = q.FloatingPoint(8, 22)
    function = q.quant.quantizer(number, identity, "nearest", "nearest", clamping_grad_zero=True)
    y, gradient = forward_and_gradient(function, X, torch.ones_like(X))
    assert torch.equal(y, q.quant.fixed_point_quantize(X, wl, wl - 2, True, True, "nearest"))
    assert gradient.tolist() == ([0, 0, 1, 1, 1, 1, 0, 0] if wl == 8 else [0, 1, 1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("package", packages())
def test_gradients_are_hooked_then_rounded_then_masked(package):
    q = package()
    seen = []

    def double(gradient):
        seen.append(gradient.clone())
        return 2 * gradient

    function = q.quant.quantizer(
        q.FixedPoint(8, 6),
        q.BlockFloatingPoint(4),
        "nearest",
        "nearest",
        clamping_grad_zero=True,
        backward_hooks=[double, lambda gradient: gradient + 64],
    )
    g = torch.tensor([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    _, gradient = forward_and_gradient(function, X, g)
    # The masked 100 has its say in the exponent of the block, as the mask comes last.
    rounded = q.quant.block_quantize(2 * g + 64, 4, rounding="nearest")
    clamped = torch.tensor([True, False, False, False, False, False, True, True])
    assert torch.equal(gradient, rounded.masked_fill(clamped, 0.0))
    assert torch.equal(seen[0], g)


def test_an_error_of_a_long_word_is_clamped():
    number = FixedPoint(32, 30)
    for function in (
        quantizer(None, number, "nearest", "nearest"),
        quantizer(number, number, "nearest", "nearest"),
    ):
        _, gradient = forward_and_gradient(function, X, X)
        assert torch.equal(gradient, fixed_point_quantize(X, 32, 30, rounding="nearest"))
    y, gradient = forward_and_gradient(quantizer(number, forward_rounding="nearest"), X, X)
    assert torch.equal(y, fixed_point_quantize(X, 32, 30, rounding="nearest"))
    assert torch.equal(gradient, X)


def test_without_numbers_values_and_errors_pass():
    for function in (quantizer(), quantizer(clamping_grad_zero=True), Quantizer()):
        y, gradient = forward_and_gradient(function, X, 3 * X)
        assert torch.equal(y, X)
        assert torch.equal(gradient, 3 * X)


def test_a_nan_is_neither_clamped_nor_masked():
    x = torch.tensor([float("nan"), float("inf")])
    for wl in (8, 32):
        function = quantizer(FixedPoint(wl, 6), None, "nearest", clamping_grad_zero=True)
        y, gradient = forward_and_gradient(function, x, torch.ones(2))
        assert y[0].isnan()
        assert y[1] == 2.0 ** (wl - 7) - (2.0**-6 if wl == 8 else 0)
        assert gradient.tolist() == [1, 0]


def test_a_quantizer_rounds_the_tensors_of_a_tuple():
    values, indices = Quantizer(FixedPoint(8, 1), forward_rounding="nearest")((X, torch.arange(8)))
    assert torch.equal(values, fixed_point_quantize(X, 8, 1, rounding="nearest"))
    assert torch.equal(indices, torch.arange(8))


@pytest.mark.parametrize(
    "number", [FixedPoint(8, 6), FixedPoint(32, 6), FloatingPoint(5, 2), BlockFloatingPoint(8)]
)
def test_copies_and_pickles_round_alike(number):
    function = quantizer(number, number, backward_hooks=[torch.neg])
    layer = Quantizer(number, number)
    for original in (function, layer):
        for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            torch.manual_seed(0)
            want = forward_and_gradient(original, X, X)
            torch.manual_seed(0)
            got = forward_and_gradient(twin, X, X)
            assert torch.equal(got[0], want[0])
            assert torch.equal(got[1], want[1])
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == []


def test_a_function_is_no_part_of_the_layer_that_keeps_it_and_a_quantizer_can_be_recorded():
    layer = torch.nn.ReLU()
    layer.round = quantizer(FixedPoint(8, 6))
    assert list(layer.children()) == []
    assert repr(layer.round).startswith("quantizer: Quantizer(forward=fixed8f6 stochastic")
    model = torch.nn.Sequential(Quantizer(FixedPoint(8, 6), forward_rounding="nearest"))
    with record(model) as recording:
        model(X)
    assert recording.counters["0.quantize", "input"].saturated == 3


def test_numbers_are_values():
    assert FixedPoint(8, 6) == FixedPoint(8, 6, True, False)
    assert len({FloatingPoint(5, 2), FloatingPoint(5, 2), FloatingPoint(4, 3)}) == 2
    assert (FixedPoint(8, 6).wl, FloatingPoint(5, 2).man, BlockFloatingPoint(8).dim) == (8, 2, -1)
    assert str(BlockFloatingPoint(8, 0)) == "BlockFloatingPoint(wl=8, dim=0)"


def test_a_number_of_ones_own_must_say_what_it_is():
    class Mine(Number):
        pass

    with pytest.raises(NotImplementedError, match="Mine must define `native`"):
        quantizer(Mine(), forward_rounding="stochastic")
    with pytest.raises(NotImplementedError, match="Mine must define `nearest`"):
        quantizer(Mine(), forward_rounding="nearest")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FixedPoint(0, 4), ValueError, r"`wl` must be at least 1, got 0"),
        (lambda: FixedPoint(8.0, 4), TypeError, r"`wl` must be an integer, got 8.0"),
        (lambda: FixedPoint(8, True), TypeError, r"`fl` must be an integer, got True"),
        (lambda: FixedPoint(8, 4, clamp=1), TypeError, r"`clamp` must be True or False, got 1"),
        (lambda: FixedPoint(8, 4, symmetric="yes"), TypeError, r"`symmetric` must be True or False"),
        (lambda: FloatingPoint(9, 2), ValueError, r"`exp` must lie between 1 and 8, got 9"),
        (lambda: FloatingPoint(5, 24), ValueError, r"`man` must lie between 0 and 23, got 24"),
        (lambda: BlockFloatingPoint(1), ValueError, r"`wl` must lie between 2 and 25, got 1"),
        (lambda: BlockFloatingPoint(8, -2), ValueError, r"`dim` must be at least -1, got -2"),
        (lambda: block_quantize(X, 8, -3), ValueError, r"`dim` must be at least -1, got -3"),
        (
            lambda: float_quantize(X, 5, 2, "nearest_even"),
            ValueError,
            r"`rounding` must be 'stochastic' or 'near",
        ),
        (lambda: float_quantize([1.0], 5, 2), TypeError, r"`x` must be a tensor, got <class 'list'>"),
        (
            lambda: float_quantize(torch.tensor([1]), 5, 2),
            TypeError,
            r"`x` must be float32, .* got torch.int64",
        ),
        (lambda: quantizer("e4m3"), TypeError, r"`forward_number` must be a FixedPoint, .* got 'e4m3'"),
        (lambda: Quantizer(None, 8), TypeError, r"`backward_number` must be a FixedPoint, .* got 8"),
        (lambda: quantizer(forward_rounding="up"), ValueError, r"`forward_rounding` must be 'stochastic' or"),
        (
            lambda: quantizer(backward_rounding="up"),
            ValueError,
            r"`backward_rounding` must be 'stochastic' or",
        ),
        (lambda: quantizer(clamping_grad_zero=1), TypeError, r"`clamping_grad_zero` must be True or False"),
        (
            lambda: quantizer(FloatingPoint(5, 2), clamping_grad_zero=True),
            ValueError,
            r"`forward_number` must be a FixedPoint to zero clamped gradients",
        ),
        (
            lambda: quantizer(FixedPoint(8, 6, clamp=False), clamping_grad_zero=True),
            ValueError,
            r"`clamp` must be True to zero clamped gradients, got False",
        ),
        (lambda: quantizer(backward_hooks=[1]), TypeError, r"`backward_hooks` must hold functions, got 1"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
