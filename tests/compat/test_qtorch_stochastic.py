"""Stochastic rounding: the exact probabilities, QPyTorch's too, from torch's generator and no other."""

import numpy as np
import pytest
import torch
from compat.peer import packages, qpytorch

import lowprec
import lowprec.compat.qtorch as ours

DRAWS = 2**16
CASES = {
    "FixedPoint(8, 6)": (2.0**-6, lambda q, x: q.quant.fixed_point_quantize(x, 8, 6)),
    "FixedPoint(8, 6) unclamped": (2.0**-6, lambda q, x: q.quant.fixed_point_quantize(x, 8, 6, False)),
    "FixedPoint(32, 6)": (2.0**-6, lambda q, x: q.quant.fixed_point_quantize(x, 32, 6)),
    "FloatingPoint(5, 2)": (2.0**-3, lambda q, x: q.quant.float_quantize(x, 5, 2)),
    "FloatingPoint(8, 7)": (2.0**-8, lambda q, x: q.quant.float_quantize(x, 8, 7)),
    "FloatingPoint(2, 5), subnormal": (2.0**-5, lambda q, x: q.quant.float_quantize(x, 2, 5)),
    "BlockFloatingPoint(8)": (2.0**-7, lambda q, x: q.quant.block_quantize(x, 8)),
    "BlockFloatingPoint(4, 1)": (2.0**-3, lambda q, x: q.quant.block_quantize(x, 4, 1)),
}
"""The step between 0.5 and 1, the least exponent of FloatingPoint(2, 5) being 0, and a call."""


def points(step):
    """Values from 0.5 to the last step below 1, which blocks lack, and their mirror images."""
    fractions = np.array([2.0**-9, 0.125, 0.25, 1 / 3, 0.5, 0.625, 0.9, 1 - 2.0**-9])
    values = (0.5 + step * (np.arange(8) % round(0.5 / step - 1) + fractions)).astype(np.float32)
    return np.concatenate([values, -values])


def chi_square(q, case):
    """How far the counts of the upper neighbor are from those of exact probabilities."""
    step, call = CASES[case]
    x = points(step)
    y = call(q, torch.from_numpy(x).repeat(DRAWS, 1)).numpy().astype(np.float64)
    below = np.floor(x / np.float64(step)) * step
    assert ((y == below) | (y == below + step)).all()
    probability = (x - below) / step
    count = (y > below).sum(axis=0)
    return (((count - DRAWS * probability) ** 2) / (DRAWS * probability * (1 - probability))).sum(), len(x)


@pytest.mark.statistical
@pytest.mark.parametrize("package", packages())
@pytest.mark.parametrize("case", CASES)
def test_the_upper_neighbor_has_the_probability_of_the_distance(case, package):
    torch.manual_seed(0)
    distance, degrees = chi_square(package(), case)
    # The mean of chi-square is its degrees of freedom, its variance twice that; QPyTorch has no seed, so
    # nine deviations, which it exceeds once in more than a million runs.
    assert distance < degrees + 9 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("case", CASES)
def test_one_seed_gives_the_same_bits_and_another_gives_others(case):
    step, call = CASES[case]
    x = torch.from_numpy(points(step)).repeat(16, 1)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append((call(ours, x), call(ours, x)))
    first, again, other = results
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_the_noise_is_that_of_lowprec_quantize():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for number, mine in (
        (ours.FixedPoint(8, 6), lambda: ours.quant.fixed_point_quantize(x, 8, 6)),
        (ours.FloatingPoint(5, 2), lambda: ours.quant.float_quantize(x, 5, 2)),
        (ours.BlockFloatingPoint(8), lambda: ours.quant.block_quantize(x, 8)),
    ):
        torch.manual_seed(3)
        got = mine()
        torch.manual_seed(3)
        assert torch.equal(got, lowprec.quantize(x, number.native, rounding="stochastic"))
        torch.manual_seed(3)
        assert torch.equal(got, ours.quant.quantizer(number)(x))


def test_values_of_the_format_never_move():
    for exp, man in ((4, 3), (5, 2), (8, 1)):
        x = torch.from_numpy(ours.FloatingPoint(exp, man).native.values()).float().repeat(256)
        assert torch.equal(ours.quant.float_quantize(x, exp, man), x)
    x = torch.arange(-(2.0**24), 2.0**24, 4097.0)  # far from zero, where a float32 sum loses the noise
    assert torch.equal(ours.quant.fixed_point_quantize(x * 2, 28, 1, False), x * 2)
    x = torch.arange(-127.0, 128.0).repeat(64) / 64
    assert torch.equal(ours.quant.block_quantize(x, 8), x)


def test_a_value_past_the_end_saturates_whatever_the_noise():
    x = torch.full((4096,), 1e6)
    assert (ours.quant.float_quantize(x, 5, 2) == 114688).all()
    assert (ours.quant.fixed_point_quantize(-x, 8, 6) == -2).all()
    assert (ours.quant.fixed_point_quantize(-x, 8, 6, symmetric=True) == -2 + 2.0**-6).all()
    near = torch.full((4096,), 1.999)  # between the largest value and where the next would be
    assert (ours.quant.fixed_point_quantize(near, 8, 6) == 2 - 2.0**-6).all()
    assert (ours.quant.block_quantize(near, 4) == 1.75).all()


def test_the_backward_has_noise_of_its_own_from_the_same_seed():
    x = torch.full((4096,), 0.3, requires_grad=True)
    rounding = ours.quant.quantizer(ours.FixedPoint(8, 2), ours.FixedPoint(8, 2))
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        y = rounding(x)
        (gradient,) = torch.autograd.grad(y, x, torch.full_like(x, 0.3))
        runs.append((y.detach(), gradient))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(*runs[0])


def test_qpytorch_has_the_same_two_neighbors_at_a_seam():
    """Between 1 and 1.25, where steps double."""
    x = torch.full((DRAWS,), 1.0625)
    torch.manual_seed(0)
    for package in (ours, qpytorch()):
        y = package.quant.float_quantize(x, 5, 2)
        assert set(y.tolist()) == {1.0, 1.25}
        assert abs((y > 1).double().mean().item() - 0.25) < 6 * (0.25 * 0.75 / DRAWS) ** 0.5
