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
# # How do I add a number format of my own, and know that it is right?
#
# A format is a frozen dataclass that lists the value of each code. Everything else follows: rounding in all
# modes, codes, kernels, layers, optimizers. `check_format` proves them right, and strategies for hypothesis
# look for what a formula of your own gets wrong.

# %%
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from matplotlib import pyplot as plt

import lowprec
from lowprec.app import data, models
from lowprec.testing import check_format, strategies

# %% [markdown]
# ## The format
#
# Triangular numbers n (n + 1) / 2 under a sign: steps grow by one from value to value, so it is fine near
# zero and coarse toward one.


# %%
@dataclass(frozen=True)
class Triangular(lowprec.formats.TabledFormat):
    width: int

    def code_values(self):
        half = [n * (n + 1) / 2 ** (2 * self.width - 2) for n in range(2 ** (self.width - 1))]
        return [*half, *(-value for value in half)]  # a sign in front, hence a -0

    def __str__(self):
        return f"triangular{self.width}"


# %%
print(Triangular(4).values())
x = torch.tensor([0.1, 0.5, -0.02, 7.0])
print(lowprec.quantize(x, Triangular(4)))
print(lowprec.encode(x, "triangular4"))

# %%
lowprec.explore.number_line([Triangular(4), "e2m1", "fixed4f3"])
plt.show()

# %% [markdown]
# ## Is it right?
#
# `check_format` works every result out again in exact fractions: values, all rounding modes, codes, kernels
# for all carriers, memory layouts, threads, noise.

# %%
print(str(check_format(Triangular(4))).splitlines()[0])

# %% [markdown]
# ## The formula one would write
#
# The n of a value is (sqrt(8 s + 1) - 1) / 2, s being x in units of the smallest step. So round that n?


# %%
def by_formula(x, width=4):
    scale = 2.0 ** (2 * width - 3)
    n = torch.round((torch.sqrt(8 * x.abs() * scale + 1) - 1) / 2)
    n = n.clamp(max=2 ** (width - 1) - 1)
    return torch.copysign(n * (n + 1) / 2 / scale, x)


@settings(deadline=None, derandomize=True, database=None)
@given(strategies.tensors(Triangular(4)))
def is_nearest(x):
    assert not ((x - by_formula(x)).abs() > (x - lowprec.quantize(x, "triangular4")).abs()).any()


# %%
try:
    is_nearest()
except AssertionError as error:
    counterexample = error
print(counterexample.__notes__[0])

# %% [markdown]
# Hypothesis has found a number that the formula rounds to a value farther away than another: half way
# between two n is not half way between their values.

# %%
x = torch.tensor([0.764])
print("by formula:", by_formula(x).item(), "  nearest:", lowprec.quantize(x, "triangular4").item())

# %% [markdown]
# ## Does a network learn in it?
#
# Wherever a format is taken, so is this one: here six bits of it for the weights of all products of a
# perceptron on Fashion-MNIST.

# %%
images = data.load(train_size=2000)


def train(scheme, epochs=4, batch=50):
    torch.manual_seed(0)
    model = models.mlp() if scheme is None else lowprec.convert(models.mlp(), scheme)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        run_epoch(model, optimizer, batch)
    with torch.no_grad():
        return (model(images.test_images).argmax(1) == images.test_labels).float().mean().item()


# %%
def run_epoch(model, optimizer, batch):
    for x, y in zip(images.train_images.split(batch), images.train_labels.split(batch), strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


reached = {"float32": train(None), "triangular6": train(lowprec.Scheme(weight=Triangular(6)))}
print({name: f"{100 * share:.1f} %" for name, share in reached.items()})

# %% [markdown]
# ## The claim
#
# The format is proven, the plausible formula is wrong where it rounds past the middle, and a network learns
# in six bits of it as in float32 (within three points of accuracy).

# %%
x = torch.linspace(-1, 1, 10001)
nearest = (x - lowprec.quantize(x, "triangular4")).abs()
assert ((x - by_formula(x)).abs() > nearest).any()
assert not ((x - by_formula(x)).abs() < nearest).any()
assert reached["triangular6"] > reached["float32"] - 0.03

# %% [markdown]
# **What to read next.** `6_block_formats`: values over a scale for each group.
