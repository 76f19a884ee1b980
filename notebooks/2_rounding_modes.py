# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which of its two neighbors does a number go to?
#
# A number that is no value of a format lies between two that are. A rounding mode chooses one: the nearer
# one, with a rule for ties; always the one in some direction; or either, at random. What depends on the
# choice?

# %%
import torch
from matplotlib import pyplot as plt

import lowprec
from lowprec import explore

# %% [markdown]
# ## Every mode as a staircase
#
# What comes out (up) of what goes in (across), for the values of `e2m1` next to zero. Random modes are
# shown by their mean.

# %%
explore.staircase("e2m1")
plt.show()

# %% [markdown]
# ## Ties
#
# Half way between two values the six nearest modes differ, and only there.

# %%
ties = torch.tensor([0.25, 0.75, 1.25, 2.5, -0.25, -0.75])
print(f"{'':14}", *(f"{x:6g}" for x in ties))
for name in ("even", "odd", "away", "zero", "up", "down"):
    rounded = lowprec.quantize(ties, "e2m1", rounding=f"nearest_{name}")
    print(f"nearest_{name:6}", *(f"{x:6g}" for x in rounded))

# %% [markdown]
# ## Bias and noise
#
# Directed modes move the mean. Stochastic rounding does not, at the price of a larger error on each number:
# if all places between two neighbors are as likely, its mean square is twice that of rounding to nearest.

# %%
x = torch.rand(1 << 20, generator=torch.Generator().manual_seed(0))
steps = {}
for rounding in ("nearest_even", "toward_zero", "up", "to_odd", "stochastic"):
    seed = 0 if rounding == "stochastic" else None
    error = 16 * (lowprec.quantize(x, "fixed8f4", rounding=rounding, seed=seed) - x).double()
    steps[rounding] = error.mean().item(), error.square().mean().sqrt().item()
    print(f"{rounding:13} mean {steps[rounding][0]:+.4f}, root mean square {steps[rounding][1]:.4f} steps")

# %%
explore.stochastic("e2m1")
plt.show()

# %% [markdown]
# ## Rounding twice
#
# A number rounded to seven bits and then to four is not always what it would be if rounded to four at once:
# the first rounding may make a tie. Rounding to odd the first time avoids that, and this is why hardware
# has it.

# %%
wide = lowprec.FloatingPoint(5, 6)
x = torch.linspace(0.5, 8.0, 1 << 20)
once = lowprec.quantize(x, "e4m3fn")
wrong = {}
for first in ("nearest_even", "to_odd"):
    twice = lowprec.quantize(lowprec.quantize(x, wide, rounding=first), "e4m3fn")
    wrong[first] = (twice != once).sum().item()
print("differ from rounding once:", wrong)

# %% [markdown]
# ## The claim
#
# Stochastic rounding has no bias and twice the mean square error of rounding to nearest; of a step, 1/6 and
# 1/12. Rounding twice goes wrong under nearest and never where the first rounding is to odd.

# %%
assert abs(steps["stochastic"][0]) < 5 * (1 / 6 / 2**20) ** 0.5  # five standard errors
assert abs(steps["stochastic"][1] ** 2 - 1 / 6) < 0.001
assert abs(steps["nearest_even"][1] ** 2 - 1 / 12) < 0.001
assert abs(steps["toward_zero"][0] + 1 / 2) < 0.01
assert wrong["nearest_even"] > 0 == wrong["to_odd"]

# %% [markdown]
# **What to read next.** `3_stochastic_rounding`: why a small bias stops a network, and noise does not.
