"""Known results: what rounding does to updates that are smaller than a step of the grid."""

import pytest
import torch
from torch import nn

from lowprec import Cast
from lowprec.optim import LowPrecision

STEP = 2.0**-7
"""The grid of fixed8f7."""


def descend(steps=400, lr=1e-3, make=torch.optim.SGD, **casts):
    """A thousand weights at 0.5, pulled to 0 by a constant gradient."""
    p = nn.Parameter(torch.full((1000,), 0.5))
    optimizer = LowPrecision(make([p], lr=lr), seed=0, **casts)
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


def test_a_compensated_sum_loses_no_update():
    """Half a step of bfloat16 is 2^-9 at the start, and no smaller than 2^-11 on the way."""
    small = 2.0**-13
    assert torch.equal(descend(1024, lr=small, weight="bfloat16"), torch.full((1000,), 0.5))
    moved = descend(1024, lr=small, weight="bfloat16", compensation="kahan")
    assert torch.equal(moved, torch.full((1000,), 0.5 - 1024 * small))
    master = descend(1024, lr=small, weight="bfloat16", master="binary32")
    assert torch.equal(master, moved)


def test_on_a_grid_of_fixed_steps_nothing_finer_can_be_kept():
    stalled = descend(64, lr=0.25 * STEP, weight="fixed8f7", compensation="kahan")
    assert torch.equal(stalled, torch.full((1000,), 0.5))


def adam(p, lr):
    return torch.optim.Adam(p, lr=lr, betas=(0.9, 0.9))


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("casts", "moves"),
    [
        ({"weight": "bfloat16"}, False),
        ({"weight": Cast("bfloat16", "stochastic")}, True),
        ({"weight": "bfloat16", "compensation": "kahan"}, True),
        ({"weight": Cast("bfloat16", "stochastic"), "compensation": "kahan"}, True),
        ({"weight": "bfloat16", "master": "binary32"}, True),
    ],
)
def test_adam_at_a_small_learning_rate(casts, moves):
    """Its steps on a constant gradient are all of the learning rate."""
    small = 2.0**-12
    moved = descend(512, lr=small, make=adam, **casts)
    if moves:
        assert abs(moved.mean().item() - (0.5 - 512 * small)) < 0.001
    else:
        assert torch.equal(moved, torch.full((1000,), 0.5))


def test_a_second_moment_in_a_narrow_format_stalls_under_nearest_alone():
    """Below 1/4 e4m3fn has steps of 1/64; at 15/64 a hundredth of the rest is less than half of one."""
    ends = {}
    for rounding in ("nearest_even", "stochastic"):
        p = nn.Parameter(torch.zeros(1000))
        inner = torch.optim.RMSprop([p], lr=0.0, alpha=0.99)
        state = Cast("e4m3fn", rounding)
        optimizer = LowPrecision(inner, state={"square_avg": state}, seed=0)
        p.grad = torch.ones(1000)
        for _ in range(600):
            optimizer.step()
        ends[rounding] = inner.state[p]["square_avg"].mean().item()
    assert ends["nearest_even"] == 15 / 64
    assert abs(ends["stochastic"] - 1.0) < 0.05
