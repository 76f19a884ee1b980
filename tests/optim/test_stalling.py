"""Known results: what rounding does to updates that are smaller than a step of the grid."""

import pytest
import torch
from torch import nn

from lowprec import Cast
from lowprec.optim import LowPrecision

STEP = 2.0**-7
"""The grid of fixed8f7."""


def descend(steps=400, lr=1e-3, **casts):
    """A thousand weights at 0.5, pulled to 0 by a constant gradient."""
    p = nn.Parameter(torch.full((1000,), 0.5))
    optimizer = LowPrecision(torch.optim.SGD([p], lr=lr), seed=0, **casts)
    for _ in range(steps):
        p.grad = torch.ones(1000)
        optimizer.step()
    return p.detach()


def test_nearest_rounding_stalls_where_an_update_is_below_half_a_step():
    assert torch.equal(descend(lr=0.499 * STEP, weight="fixed8f7"), torch.full((1000,), 0.5))
    assert torch.equal(descend(64, lr=0.501 * STEP, weight="fixed8f7"), torch.zeros(1000))


def test_toward_zero_moves_a_whole_step_every_time():
    moved = descend(32, lr=0.001 * STEP, weight=Cast("fixed8f7", "toward_zero"))
    assert torch.equal(moved, torch.full((1000,), 0.5 - 32 * STEP))


@pytest.mark.statistical
def test_stochastic_rounding_moves_as_far_as_exact_arithmetic_on_the_mean():
    moved = descend(weight=Cast("fixed8f7", "stochastic"))
    exact = 0.5 - 400 * 1e-3
    # each step adds a variance of STEP² · f · (1 - f), f = lr / STEP
    fraction = 1e-3 / STEP
    deviation = STEP * (400 * fraction * (1 - fraction)) ** 0.5
    assert abs(moved.mean().item() - exact) < 5 * deviation / 1000**0.5
    assert 0.8 * deviation < moved.std().item() < 1.2 * deviation
    assert ((moved / STEP) % 1 == 0).all()


def test_a_wide_master_moves_every_weight_alike():
    moved = descend(weight="fixed8f7", master="binary32")
    assert (moved == moved[0]).all()
    assert abs(moved[0].item() - 0.1) <= STEP / 2 + 1e-6
    stalled = descend(weight="fixed8f7", master="fixed8f7")
    assert torch.equal(stalled, torch.full((1000,), 0.5))
