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
# # Why does stochastic rounding train where rounding to nearest stalls?
#
# A weight that is stored in few bits lies on a grid. An update smaller than half a step of that grid is
# lost when the weight is rounded to the nearest value, each time, however often it comes. Stochastic
# rounding goes up with a probability in proportion to what would be lost, so nothing is lost on average.
# Here is what that does to one number, and then to a network.

# %%
import torch
from matplotlib import pyplot as plt
from torch import nn

import lowprec
from lowprec.app import data, models

torch.manual_seed(0)

# %% [markdown]
# ## One number
#
# Add 0.001 two thousand times, and keep the sum in bfloat16. A seed of its own for each step makes the
# noise of each step independent, and of 200 copies, too: a random word belongs to a seed and an element.


# %%
def path(rounding, steps=2000, copies=200):
    sums, sums_so_far = torch.zeros(copies), []
    for step in range(steps):
        seed = step if rounding == "stochastic" else None
        sums = lowprec.quantize(sums + 0.001, "bfloat16", rounding=rounding, seed=seed)
        sums_so_far.append(sums)
    return torch.stack(sums_so_far)


paths = {rounding: path(rounding) for rounding in ("nearest_even", "stochastic")}

# %%
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.plot(paths["stochastic"][:, :20], color="#0072B2", alpha=0.25, linewidth=0.8)
ax.plot(paths["stochastic"].mean(1), color="#0072B2", label="stochastic: 20 copies, and the mean of 200")
ax.plot(paths["nearest_even"][:, 0], color="#D55E00", linestyle="--", label="nearest")
ax.plot([0, 2000], [0, 2], color="black", linestyle=":", label="exact")
ax.set(xlabel="additions of 0.001", ylabel="sum, in bfloat16")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Rounding to nearest stops at 0.5, where the next value of bfloat16 is 0.0039 away and half of that is more
# than 0.001. (Below, between 0.25 and 0.5, it even went twice too fast: every 0.001 was rounded up to
# 0.00195.) Single copies under stochastic rounding wander, their mean stays exact.

# %%
print("nearest:", paths["nearest_even"][-1, 0].item())
print("stochastic, mean of 200:", round(paths["stochastic"][-1].mean().item(), 3))
assert paths["nearest_even"][-1, 0] == 0.5

# %% [markdown]
# ## A network
#
# A perceptron on Fashion-MNIST whose weights are stored in 8-bit fixed point, in steps of 1/128. Nothing
# else is rounded. `lowprec.optim.SGD` is torch's SGD that keeps its weights in a format.

# %%
images = data.load(train_size=2000)


def accuracy(model):
    with torch.no_grad():
        right = model(images.test_images).argmax(1) == images.test_labels
    return 100 * right.float().mean().item()


# %%
def train(rounding, epochs=8, batch=50):
    torch.manual_seed(0)
    model = models.mlp()
    weight = None if rounding is None else lowprec.Cast("fixed8f7", rounding)
    optimizer = lowprec.optim.SGD(model.parameters(), lr=0.02, weight=weight, seed=0)
    curve = [accuracy(model)]
    for _ in range(epochs):
        run_epoch(model, optimizer, batch)
        curve.append(accuracy(model))
    return curve


# %%
def run_epoch(model, optimizer, batch):
    for x, y in zip(images.train_images.split(batch), images.train_labels.split(batch), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


curves = {"float32": train(None), "nearest": train("nearest_even"), "stochastic": train("stochastic")}

# %%
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, curve), style in zip(curves.items(), ("k-o", "--^", "-.s"), strict=True):
    ax.plot(curve, style, label=name)
ax.set(xlabel="epoch", ylabel="test accuracy in %", ylim=(0, 100))
ax.legend(frameon=False, title="stored weights, fixed8f7")
plt.show()

# %% [markdown]
# Most updates, the learning rate times a gradient, are far smaller than 1/256. Rounded to nearest they
# change nothing.

# %%
print({name: f"{curve[-1]:.1f} %" for name, curve in curves.items()})

# %% [markdown]
# ## The claim
#
# The mean under stochastic rounding is the exact sum (within five standard errors), and the network learns
# as in float32 under stochastic rounding, and not under nearest.

# %%
final = paths["stochastic"][-1]
assert abs(final.mean() - 2.0) < 5 * final.std() / len(final) ** 0.5
assert curves["stochastic"][-1] > curves["float32"][-1] - 5
assert curves["nearest"][-1] < curves["stochastic"][-1] - 20

# %% [markdown]
# **What to read next.** `4_train_in_low_precision` rounds everything else, too: activations, errors,
# gradients.
