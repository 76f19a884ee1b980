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
# # Where does a run break, and what was not simulated at all?
#
# The loss is NaN. By then every layer is NaN, and where it began is long past. `lowprec.record` watches
# every rounding of a model, layer by layer, role by role, step by step.

# %%
import torch
from matplotlib import pyplot as plt

import lowprec
from lowprec.app import data, models

images = data.load(train_size=2000)

# %% [markdown]
# ## A run that breaks
#
# Products read 8-bit floating point with infinities: inputs and weights `e4m3ieee`, which ends at 240,
# errors `e5m2`. And something is wrong in one place.

# %%
scheme = lowprec.Scheme(input="e4m3ieee", weight="e4m3ieee", error="e5m2", loss_scale=1024)


def batch_of(number, size=50, *, careless):
    part = slice(number * size, (number + 1) * size)
    x, y = images.train_images[part], images.train_labels[part]
    if careless and number == 20:
        x = 255 * (0.353 * x + 0.286)  # the pixels as they are in the file, not standardized
    return x, y


# %%
def train(*, careless, steps=40):
    torch.manual_seed(0)
    model = models.cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model, optimizer = lowprec.prepare(model, optimizer, scheme, seed=0)
    with lowprec.record(model, optimizer) as recording:
        losses = [step(model, optimizer, *batch_of(n, careless=careless)) for n in range(steps)]
    return recording, losses


# %%
def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


recording, losses = train(careless=True)
print("losses:", [round(loss, 2) for loss in losses[::8]])

# %% [markdown]
# ## Where it broke
#
# All that the losses tell is that they are NaN. The record names step, role and layer.

# %%
print(recording.first_break())
recording.heat_map("nan")
plt.show()

# %% [markdown]
# It is the input of the first layer: no learning rate and no loss scale is to blame, but the data. The
# exponents of what was read there show how: 2^7 is 128, where standardized pixels end at 2^1.

# %%
recording.exponents(role="input", layer="0")

# %% [markdown]
# ## The remedy

# %%
mended, losses_after = train(careless=False)
print("losses:", [round(loss, 2) for loss in losses_after[::8]], mended.first_break())
mended.table()

# %% [markdown]
# How much rounding adds to what products read, in decibel: little, everywhere.

# %%
mended.heat_map("sqnr")
plt.show()

# %% [markdown]
# ## What was not simulated
#
# `lowprec.audit` runs one forward and backward and lists every product and every elementwise operation:
# simulated, in the carrier's precision, or out of reach.

# %%
model = lowprec.convert(models.resnet20(), scheme)
audit = lowprec.audit(model, images.train_images[:2])
print(str(audit)[:1200])

# %% [markdown]
# ## The claim
#
# The record names the step, the layer and the role in which a run broke, though all layers are NaN
# afterwards. With that mended, nothing breaks, and the loss falls.

# %%
first = recording.first_break()
assert (first.first_step, first.layer, first.role, first.what) == (20, "0", "input", "infinity")
assert torch.tensor(losses[21:]).isnan().all()
assert mended.first_break() is None
assert losses_after[-1] < losses_after[0] / 2

# %% [markdown]
# **What to read next.** `2_rounding_modes` and `6_block_formats`, for other remedies.
