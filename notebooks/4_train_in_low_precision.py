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
# # How do I train my own network in low precision?
#
# With one line: `lowprec.prepare(model, optimizer, scheme)`. The loop stays as it is. A scheme says what is
# rounded where: inputs, weights and errors as products read them, and weights, gradients and states as the
# optimizer keeps them.

# %%
import torch
from matplotlib import pyplot as plt
from torch import nn

import lowprec
from lowprec.app import data, models

images = data.load(train_size=4000)

# %% [markdown]
# ## Three schemes
#
# A named one, 8-bit floating point; one of our own, which rounds all that products read to the 4 bits of
# MXFP4, and stochastically what the backward reads; and 8-bit fixed point without stochastic rounding, to
# see something fail.

# %%
own = lowprec.Scheme(
    input="mxfp4",
    weight="mxfp4",
    error=lowprec.Cast("scaled<e2m1,e8m0,group32@contraction,rceil>", "stochastic"),
    rules=[lowprec.Rule(":first"), lowprec.Rule(":last")],  # these two stay in float32
)
schemes = {"float32": None, "fp8-hybrid": "fp8-hybrid", "own, 4 bits": own, "fixed8": "fixed8"}


# %%
def accuracy(model):
    model.eval()
    with torch.no_grad():
        right = model(images.test_images).argmax(1) == images.test_labels
    model.train()
    return 100 * right.float().mean().item()


# %%
def make(scheme):
    torch.manual_seed(0)  # the same initial weights for all
    model = models.cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9 if scheme != "fixed8" else 0.0)
    if scheme is not None:
        model, optimizer = lowprec.prepare(model, optimizer, scheme, seed=0)  # the one line
    return model, optimizer


# %%
def train(scheme, epochs=3, batch=64):
    model, optimizer = make(scheme)
    losses = []
    for _ in range(epochs):
        for x, y in zip(images.train_images.split(batch), images.train_labels.split(batch), strict=True):
            losses.append(step(model, optimizer, x, y))
    return model, losses


# %%
def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


runs = {name: train(scheme) for name, scheme in schemes.items()}

# %% [markdown]
# ## What happened

# %%
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, (_, losses)), style in zip(runs.items(), ("k-", "--", "-.", ":"), strict=True):
    ax.plot(torch.tensor(losses).unfold(0, 10, 5).mean(1), style, label=name)
ax.set(xlabel="step / 5", ylabel="training loss, mean of 10 steps", ylim=(0, 2.5))
ax.legend(frameon=False)
plt.show()

# %%
reached = {name: accuracy(model) for name, (model, _) in runs.items()}
print({name: f"{value:.1f} %" for name, value in reached.items()})

# %% [markdown]
# `describe` tells what is simulated in each layer. What stays in float32 here are the two layers that the
# rules leave alone.

# %%
print(lowprec.describe(runs["own, 4 bits"][0]))

# %% [markdown]
# After training, `revert` makes plain torch layers of them again; the weights are the trained ones.

# %%
model = lowprec.revert(runs["fp8-hybrid"][0])
print(type(model[0]), f"{accuracy(model):.1f} %")

# %% [markdown]
# ## The claim
#
# In 8-bit floating point the network learns as in float32 (within three points of accuracy), in 4 bits
# nearly so, and in fixed point with rounding to nearest not at all.

# %%
assert reached["fp8-hybrid"] > reached["float32"] - 3
assert reached["own, 4 bits"] > reached["float32"] - 8
assert reached["fixed8"] < 30

# %% [markdown]
# **What to read next.** `3_stochastic_rounding` on why fixed point fails, `7_where_a_run_breaks` on how to
# find it out.
