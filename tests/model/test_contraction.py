"""Linear products whose three operands pairs are rounded apart: groups along each contraction."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from model.plain_products import (
    ERROR,
    GRAD_INPUT_WEIGHT,
    GRAD_WEIGHT_ERROR,
    GRAD_WEIGHT_INPUT,
    GROUPED,
    INPUT,
    WEIGHT,
    assert_same,
    operands,
    product_and_gradients,
    rounded,
)

import lowprec
from lowprec import SCHEMES, BlockFloatingPoint, Cast, Operands, PerGroup, Scheme
from lowprec.functional import linear

SHAPES = {"vector": (7,), "matrix": (6, 7), "batches": (2, 3, 7), "four": (2, 1, 3, 7)}


def groups(x, size):
    """Four-bit block floating point along the last axis."""
    return rounded(x, Cast(BlockFloatingPoint(4, PerGroup(size))))


def column_groups(x, size):
    """The same along the first axis, by way of the transpose."""
    return groups(x.t().contiguous(), size).t().contiguous()


@pytest.mark.parametrize("size", [1, 3, 32, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_operand_is_grouped_along_its_own_contraction(shape, size):
    x, weight, bias = operands(SHAPES[shape], (5, 7))
    error = operands((*x.shape[:-1], 5), (1, 1), seed=1)[0]
    format = BlockFloatingPoint(4, PerGroup(size, "contraction"))
    scheme = Scheme(input=format, weight=format, error=format, loss_scale=4)
    got = product_and_gradients(lambda *leaves: linear(*leaves, scheme=scheme), x, weight, bias, error)
    rows, errors = x.reshape(-1, 7), error.reshape(-1, 5)
    y = F.linear(groups(rows, size), groups(weight, size), bias)
    grad_x = groups(errors, size) @ column_groups(weight, size)  # over the outputs
    grad_weight = column_groups(errors, size).t() @ column_groups(rows, size)  # over all rows
    grad_bias = groups(errors, size).sum(0)
    want = (y.view(error.shape), grad_x.view(x.shape), grad_weight, grad_bias)
    assert_same(got, want)


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("shape", SHAPES)
def test_named_schemes_group_each_operand_along_its_own_contraction(shape, name):
    x, weight, bias = operands(SHAPES[shape], (5, 7))
    error = operands((*x.shape[:-1], 5), (1, 1), seed=1)[0]
    scheme, seed = SCHEMES[name], 7 if name.endswith("-sr") else None

    def along(t, cast, axis, stream):
        return rounded(t, Cast(cast.format.along(axis), cast.rounding), seed or 0, stream)

    got = product_and_gradients(
        lambda *leaves: linear(*leaves, scheme=scheme, seed=seed), x, weight, bias, error
    )
    rows, errors = x.reshape(-1, 7), error.reshape(-1, 5)
    y = F.linear(along(rows, scheme.input, -1, INPUT), along(weight, scheme.weight, -1, WEIGHT), bias)
    own = along(errors, scheme.error, -1, ERROR)
    grad_x = own @ along(weight, scheme.weight, 0, GRAD_INPUT_WEIGHT)
    other = along(errors, scheme.error, 0, GRAD_WEIGHT_ERROR)
    grad_weight = other.t() @ along(rows, scheme.input, 0, GRAD_WEIGHT_INPUT)
    want = (y.view(error.shape), grad_x.view(x.shape), grad_weight, own.sum(0))
    assert_same(got, want)


def test_a_training_step_casts_weight_and_input_twice():
    model = lowprec.convert(torch.nn.Sequential(torch.nn.Linear(64, 8)), "mxfp8")
    x = torch.randn(4, 64, requires_grad=True)
    with lowprec.record(model) as recording:
        model(x).sum().backward()
    counts = {role: counters.count for role, counters in recording.by_role().items()}
    assert counts == {"input": 2 * 4 * 64, "weight": 2 * 8 * 64, "error": 2 * 4 * 8}


@pytest.mark.parametrize(
    ("casts", "noise"),
    [(("e4m3fn", "e5m2", "bfp8"), "nearest_even"), (("fixed8f4", "e3m2ieee", "bfp4"), "stochastic")],
)
def test_every_combination_of_operand_overrides(casts, noise):
    """Noise is equal exactly where an operand is read the same way, and else of another stream."""
    first, second, third = (Cast(format, noise) for format in casts)
    x, weight, bias = operands((6, 7), (5, 7))
    error = operands((6, 5), (1, 1), seed=1)[0]
    choices = [None, first, second]
    for w, e, i, d in itertools.product(choices, repeat=4):
        scheme = Scheme(
            input=first, weight=second, error=third,
            grad_input=Operands(weight=w, error=e), grad_weight=Operands(input=i, error=d),
        )  # fmt: skip
        seed = 3 if noise == "stochastic" else None
        got = product_and_gradients(
            lambda *leaves, s=scheme, n=seed: linear(*leaves, scheme=s, seed=n),
            x, weight, bias, error,
        )  # fmt: skip
        own_error, other_error = e or third, d or third
        errors = (
            rounded(error, own_error, 3, ERROR),
            rounded(error, other_error, 3, ERROR if other_error == own_error else GRAD_WEIGHT_ERROR),
        )
        again = rounded(x, i or first, 3, INPUT if i in (None, first) else GRAD_WEIGHT_INPUT)
        read = rounded(weight, w or second, 3, WEIGHT if w in (None, second) else GRAD_INPUT_WEIGHT)
        y = F.linear(rounded(x, first, 3, INPUT), rounded(weight, second, 3, WEIGHT), bias)
        assert_same(got, (y, errors[0] @ read, errors[1].t() @ again, errors[0].sum(0)))


def test_gradients_that_nobody_wants_are_not_computed():
    format = BlockFloatingPoint(4, PerGroup(2, "contraction"))
    scheme = Scheme(input=format, weight=format, error=format)
    x, weight, bias = operands((6, 7), (5, 7))
    whole = [t.clone().requires_grad_() for t in (x, weight, bias)]
    want = torch.autograd.grad(linear(*whole, scheme=scheme).sum(), whole)
    for number in range(3):
        leaves = [x, weight, bias]
        leaves[number] = leaves[number].clone().requires_grad_()
        got = torch.autograd.grad(linear(*leaves, scheme=scheme).sum(), leaves[number])
        assert torch.equal(got[0], want[number])


def test_split_products_under_autocast():
    format = BlockFloatingPoint(4, PerGroup(2, "contraction"))
    scheme = Scheme(input=format, weight=format, error=format)
    leaves = [t.requires_grad_() for t in operands((6, 7), (5, 7))]
    error = operands((6, 5), (1, 1), seed=1)[0].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = linear(*leaves, scheme=scheme)
    got = torch.autograd.grad(y, leaves, error)
    x, weight, _ = (leaf.detach() for leaf in leaves)
    want = [
        groups(error, 2) @ column_groups(weight, 2).bfloat16(),
        column_groups(error, 2).t() @ column_groups(x, 2).bfloat16(),
        groups(error, 2).sum(0),
    ]
    for a, b in zip(got, want, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b.float())


def test_contraction_means_nothing_outside_a_product():
    with pytest.raises(ValueError, match="`axis` must be an integer outside a product"):
        rounded(torch.ones(4), Cast(BlockFloatingPoint(4, PerGroup(2, "contraction"))))
