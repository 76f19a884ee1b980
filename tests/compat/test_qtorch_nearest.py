"""Rounding to nearest equals plain float64 computations bit for bit, and so does QPyTorch with its sums."""

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from compat.peer import qpytorch
from compat.plain_numbers import (
    bfloat16_values,
    hard_floats,
    largest_of_block,
    nearest_block,
    nearest_fixed,
    nearest_float,
    random_floats,
)

from lowprec.compat.qtorch import BlockFloatingPoint, FixedPoint, FloatingPoint
from lowprec.compat.qtorch.quant import block_quantize, fixed_point_quantize, float_quantize, quantizer

FLOATS = [(exp, man) for exp in range(1, 9) for man in (1, 2, 3, 7, 10, 14, 15, 22, 23)]
FIXED = [
    (8, 6, True, False),
    (8, 6, True, True),
    (8, 6, False, False),
    (8, 6, False, True),
    (2, 1, True, True),
    (4, 4, True, False),
    (12, 12, True, False),
    (16, 2, True, True),
    (25, 10, True, False),
    (26, 10, True, False),
    (32, 16, True, True),
    (40, 20, True, False),
    (1, 1, True, False),
    (1, 1, True, True),
]
BLOCKS = [
    ((-1,), -1),
    ((-1,), 0),
    ((64, -1), 0),
    ((64, -1), 1),
    ((16, 8, -1), 1),
    ((16, 8, -1), 2),
    ((512, -1), -1),
]
WORDS = [2, 3, 4, 8, 12, 16, 21, 22]


def assert_explained(theirs, plain, x):
    """QPyTorch's values are these; NaN and the sign of zero are among the listed differences."""
    theirs = np.asarray(theirs)
    same = (theirs == plain.astype(np.float32)) | np.isnan(x)
    assert same.all(), f"{(~same).sum()} differ, first {x[~same][0]}: {theirs[~same][0]}, {plain[~same][0]}"


def float_inputs(exp, man):
    """All bfloat16 values, any float32; of few values the grid, its ties, and the neighbors of both."""
    parts = [bfloat16_values(), random_floats()]
    if man <= 7:
        grid = FloatingPoint(exp, man).native.values()
        parts.append(hard_floats(np.append(grid[grid >= 0], 2.0 ** min(127, 2 ** (exp - 1) + 1))))
    return torch.cat(parts)


@pytest.mark.parametrize(("exp", "man"), FLOATS)
def test_float_nearest(exp, man):
    x = float_inputs(exp, man)
    plain = nearest_float(x.double().numpy(), exp, man)
    assert_same_bits(float_quantize(x, exp, man, "nearest").numpy(), plain.astype(np.float32))


@pytest.mark.parametrize(("exp", "man"), [case for case in FLOATS if case[1] < 23])
def test_float_nearest_is_qpytorchs(exp, man):
    theirs = qpytorch().quant.float_quantize
    x = float_inputs(exp, man)
    values = x.double().numpy()
    plain = nearest_float(values, exp, man, in_float32=True)
    assert_explained(theirs(x, exp, man, "nearest"), plain, values)


def fixed_inputs(wl, fl):
    """All bfloat16 values, any float32, values around zero and both ends, ties, and the neighbors of all."""
    steps = np.arange(0.0, 40.0)
    end = 2.0 ** (wl - 1)
    around_the_end = end + np.arange(-8.0, 8.0)
    return torch.cat(
        [
            bfloat16_values(),
            random_floats(),
            hard_floats(np.unique(np.append(steps, around_the_end)) * 2.0**-fl),
        ]
    )


@pytest.mark.parametrize("case", FIXED)
def test_fixed_nearest(case):
    x = fixed_inputs(*case[:2])
    plain = nearest_fixed(x.double().numpy(), *case)
    assert_same_bits(fixed_point_quantize(x, *case, "nearest").numpy(), plain.astype(np.float32))


@pytest.mark.parametrize("case", FIXED)
def test_fixed_nearest_is_qpytorchs(case):
    theirs = qpytorch().quant.fixed_point_quantize
    x = fixed_inputs(*case[:2])
    values = x.double().numpy()
    plain = nearest_fixed(values, *case, in_float32=True)
    assert_explained(theirs(x, *case, "nearest"), plain, values)


def block_inputs(shape):
    """The finite bfloat16 values below 2**100 in random order, one block of zeros, and a block's ties."""
    x = bfloat16_values()
    x = x[x.abs() < 2.0**100]
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))][: 2**15].clone()
    x[: 2**9] *= x[: 2**9].abs() < 2.0**-60  # blocks of small values only
    x[2**9 : 2**10] = 0.0
    ties = hard_floats(np.arange(0.0, 64.0) / 32)
    return torch.cat([x[len(ties) :], ties]).reshape(shape)


@pytest.mark.parametrize("wl", WORDS)
@pytest.mark.parametrize(("shape", "dim"), BLOCKS)
def test_block_nearest(shape, dim, wl):
    x = block_inputs(shape)
    plain = nearest_block(x.double().numpy(), wl, dim)
    assert_same_bits(block_quantize(x, wl, dim, "nearest").numpy(), plain.astype(np.float32))


@pytest.mark.parametrize("wl", WORDS)
@pytest.mark.parametrize(("shape", "dim"), BLOCKS)
def test_block_nearest_is_qpytorchs(shape, dim, wl):
    theirs = qpytorch().quant.block_quantize
    x = block_inputs(shape)
    values = x.double().numpy()
    plain = nearest_block(values, wl, dim, in_float32=True)
    normal = np.broadcast_to(largest_of_block(values, dim) >= 2.0**-126, values.shape)  # others are listed
    assert_explained(theirs(x, wl, dim, "nearest").numpy()[normal], plain[normal], values[normal])


@pytest.mark.parametrize("wl", [2, 4, 8])
def test_blocks_of_every_exponent(wl):
    exponents = torch.arange(-120, 120).double()
    x = (torch.linspace(-1.99, 1.99, 401).double() * 2.0 ** exponents[:, None]).float()
    plain = nearest_block(x.double().numpy(), wl, 0)
    assert_same_bits(block_quantize(x, wl, 0, "nearest").numpy(), plain.astype(np.float32))


def test_a_negative_dimension_but_the_first_counts_from_the_end():
    x = block_inputs((16, 8, -1))
    for dim in (-2, -3):
        assert torch.equal(block_quantize(x, 8, dim, "nearest"), block_quantize(x, 8, dim + 3, "nearest"))


@pytest.mark.parametrize(
    ("number", "function"),
    [
        (FixedPoint(8, 6), lambda x: fixed_point_quantize(x, 8, 6, rounding="nearest")),
        (FixedPoint(8, 6, symmetric=True), lambda x: fixed_point_quantize(x, 8, 6, True, True, "nearest")),
        (FixedPoint(8, 6, clamp=False), lambda x: fixed_point_quantize(x, 8, 6, False, False, "nearest")),
        (FixedPoint(32, 16), lambda x: fixed_point_quantize(x, 32, 16, rounding="nearest")),
        (FloatingPoint(5, 2), lambda x: float_quantize(x, 5, 2, "nearest")),
        (FloatingPoint(8, 7), lambda x: float_quantize(x, 8, 7, "nearest")),
        (BlockFloatingPoint(8), lambda x: block_quantize(x, 8, rounding="nearest")),
        (BlockFloatingPoint(4, 0), lambda x: block_quantize(x, 4, 0, "nearest")),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_a_quantizer_rounds_forward_and_backward_as_the_function_does(number, function):
    x = bfloat16_values()[::7].clone().requires_grad_()
    g = bfloat16_values().flip(0)[::7]
    y = quantizer(number, number, "nearest", "nearest")(x)
    (gradient,) = torch.autograd.grad(y, x, g)
    assert_same_bits(y.detach().numpy(), function(x).numpy())
    assert_same_bits(gradient.numpy(), function(g).numpy())
    assert not function(x).requires_grad


def test_other_dtypes_are_rounded_too():
    x = torch.linspace(-3, 3, 101)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        ours = float_quantize(x.to(dtype), 4, 3, "nearest")
        assert ours.dtype == dtype
        assert torch.equal(ours.float(), float_quantize(x.to(dtype).float(), 4, 3, "nearest"))
