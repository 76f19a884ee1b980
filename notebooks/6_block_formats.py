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
# # What do block formats buy: MX, NVFP4, and scales of other sizes?
#
# Four bits have sixteen codes. If all numbers of a tensor share one scale, a few large ones leave most
# codes to themselves. Block formats give each group of 16 or 32 numbers a scale of its own, at the price of
# a fraction of a bit for each number. How much better is that, and does the way a scale is chosen matter?

# %%
import torch
from matplotlib import pyplot as plt

import lowprec
from lowprec import explore

# %% [markdown]
# ## Numbers with outliers
#
# Activations of language models have a few channels that are far larger than the rest. Here: normal
# numbers, one channel in 128 of them 20 times as large.

# %%
x = torch.randn(512, 1024, generator=torch.Generator().manual_seed(0))
x[:, ::128] *= 20
compared = explore.compare(["int4", "mxfp4", "nf4", "nvfp4", "mxfp8_e4m3"], x)
compared

# %% [markdown]
# Four-bit integers over one scale turn nearly everything into zero. `mxfp4` has a power of two for each 32
# numbers, `nvfp4` an 8-bit floating-point number for each 16.

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", sharey=True)
for ax, name in zip(axes, ("int4", "mxfp4"), strict=True):
    explore.histogram(x, name, ax=ax)
plt.show()

# %% [markdown]
# ## The size of a group
#
# Of the same elements, `e2m1`, over scales `e8m0`. Smaller groups are better, and cost more bits.

# %%
sizes = (8, 16, 32, 64, 128, 256, 1024)
formats = [f"scaled<e2m1,e8m0,group{size}>" for size in sizes]
by_size = explore.compare(formats, x)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(by_size["bits"], by_size["SQNR (dB)"], "o-", color="#0072B2")
for size, bits, sqnr in zip(sizes, by_size["bits"], by_size["SQNR (dB)"], strict=True):
    ax.annotate(f"{size}", (bits, sqnr), textcoords="offset points", xytext=(6, -10))
ax.set(xlabel="bits for each number, scales included", ylabel="SQNR in dB")
plt.show()

# %% [markdown]
# ## The rule for a scale
#
# By the rule of OCP's text, `floor`, the largest number of a group lies between 4 and 8 elements' units,
# and the largest element is 6: what lies above saturates. `rceil` takes the next power of two where that
# happens, so nothing saturates, and steps are coarser. Powers of two are coarse themselves; `nvfp4` has
# finer ones.

# %%
rules = {rule: f"scaled<e2m1,e8m0,group32,{rule}>" for rule in ("floor", "rceil", "even", "mse")}
by_rule = explore.compare(list(rules.values()), x)
by_rule

# %% [markdown]
# What saturates is biased, and stochastic rounding, which is there to remove bias, cannot help: the mean
# over many seeds of a number that saturates stays where it is.

# %%
group = torch.full((1, 32), 0.3)
group[0, 0] = 7.5
seeds = range(400)
for rule in ("floor", "rceil"):
    rounded = [lowprec.quantize(group, rules[rule], rounding="stochastic", seed=seed) for seed in seeds]
    mean = torch.stack(rounded).mean(0)[0]
    print(f"{rule:6} 7.5 becomes {mean[0]:.2f} and 0.3 becomes {mean[1:].mean():.3f} on average")

# %% [markdown]
# ## The claim
#
# On numbers with outliers groups of 32 are worth more than 6 dB, a bit's worth, over one scale for all;
# smaller groups are always better here; `nvfp4` is the best of the 4-bit formats; and `floor` saturates
# while `rceil` does not.

# %%
sqnr = dict(zip(compared["format"], compared["SQNR (dB)"], strict=True))
overflow = dict(zip(rules, by_rule["overflow"], strict=True))
assert sqnr["mxfp4"] > sqnr["int4"] + 6
assert max(sqnr, key=sqnr.get) == "mxfp8_e4m3"
assert sqnr["nvfp4"] == sorted(sqnr.values())[-2]
assert list(by_size["SQNR (dB)"]) == sorted(by_size["SQNR (dB)"], reverse=True)
assert overflow["floor"] > 0 == overflow["rceil"]

# %% [markdown]
# **What to read next.** `4_train_in_low_precision` trains in such formats.
