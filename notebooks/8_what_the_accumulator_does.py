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
# # What does the accumulator do?
#
# A matrix product adds up thousands of small products, and hardware would like to do that in few bits. What
# is lost is not what rounding the operands loses: it depends on how many numbers are added, and in which
# order. `lowprec.Arithmetic` says how sums are rounded, one by one, and every step is exact to the bit.

# %%
import torch
from matplotlib import pyplot as plt

import lowprec
from lowprec import Arithmetic, Scheme, drawing
from lowprec.app import data, models
from lowprec.table import Table

torch.set_num_threads(1)  # the products are small

# %% [markdown]
# ## Adding ones
#
# Three thousand ones, in three accumulators. Where half of the distance to the next value is 1, adding 1
# changes nothing any more: 2048 is 2^11, and binary16 has 11 bits of precision; bfloat16 has 8, e4m3fn 4.


# %%
def times(a, b, arithmetic):
    seed = 0 if arithmetic.is_stochastic else None
    return lowprec.functional.matmul(a, b, scheme=Scheme(arithmetic=arithmetic), seed=seed)


ones = torch.ones(1, 3000)
stops = {name: times(ones, ones.T, Arithmetic(name)).item() for name in ("binary16", "bfloat16", "e4m3fn")}
print(stops)

# %% [markdown]
# Four ways out, all in bfloat16: add in chunks of 64, whose sums are then added; add in pairs, and pairs of
# pairs; compensate for what the last addition has lost (Kahan); round at random, so that nothing is lost on
# average.

# %%
ways = {
    "in order": Arithmetic("bfloat16"),
    "stochastic": Arithmetic("bfloat16", rounding="stochastic"),
    "chunks of 64": Arithmetic("bfloat16", chunk=64),
    "pairwise": Arithmetic("bfloat16", order="pairwise"),
    "Kahan": Arithmetic("bfloat16", compensation="kahan"),
}
sums = {name: times(ones, ones.T, arithmetic).item() for name, arithmetic in ways.items()}
print(sums)

# %% [markdown]
# The same for fewer ones: row by row, the product with a triangle of ones has their sums.

# %%
triangle = torch.ones(3000, 3000).tril()[::25]
ax = drawing.axes_of(None)
ax.plot(triangle.sum(1), triangle.sum(1), color="black", label="exact")
for number, name in enumerate(("in order", "stochastic", "chunks of 64")):
    color, marker, dashes = drawing.style(number)
    ax.plot(triangle.sum(1), times(triangle, ones.T, ways[name]), dashes, color=color, label=name)
ax.set(xlabel="ones that are added", ylabel="sum, in bfloat16")
ax.legend(frameon=False)
drawing.plain(ax)
plt.show()

# %% [markdown]
# ## How errors grow
#
# Sums of k products of random positive numbers. One rounding is off by at most u = 2^-8. In order, a term
# is rounded k times, in pairs log2(k) times, in chunks as often as a chunk is long and as there are chunks;
# and a compensated sum is off by little more than 2u, however long it is.


# %%
def error(arithmetic, count, columns=32):
    generator = torch.Generator().manual_seed(count)
    a = lowprec.quantize(torch.rand(1, count, generator=generator), "bfloat16")
    b = lowprec.quantize(torch.rand(count, columns, generator=generator), "bfloat16")
    exact = a.double() @ b.double()
    return ((times(a, b, arithmetic) - exact).abs() / exact).mean().item()


counts = [2**e for e in range(4, 17)]
errors = {name: [error(arithmetic, k) for k in counts] for name, arithmetic in ways.items()}

# %%
ax = drawing.axes_of(None, height=3.6)
for number, (name, found) in enumerate(errors.items()):
    color, marker, dashes = drawing.style(number)
    ax.loglog(counts, found, dashes, color=color, marker=marker, markersize=4, label=name, base=2)
ax.axhline(2**-8, color="black", linewidth=0.8)
ax.text(1.01, 2**-8, "u", va="center", transform=ax.get_yaxis_transform())
ax.set(xlabel="products that are added", ylabel="relative error, mean of 32", ylim=(2**-12, 2))
ax.legend(frameon=False, ncols=2)
drawing.plain(ax)
plt.show()

# %% [markdown]
# In order, a sum stops growing somewhere, and its error goes to 1. Chunks put that off, until the sum of
# the chunks stops in its turn. Rounded at random it is off by some percent, however many are added. In
# pairs and compensated the error stays about u; of the latter until k u^2 counts, which is 1 at 2^16.
#
# ## What a network makes of it
#
# A perceptron that was trained in float32, tested with operands in e4m3fn and narrow sums. Its products add
# up to 784 numbers of either sign, which is kinder than ones of one sign.

# %%
images = data.load(train_size=2000)
torch.manual_seed(0)
model = models.mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for _ in range(3):
    for x, y in zip(images.train_images.split(50), images.train_labels.split(50), strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


# %%
def accuracy(**sums):
    scheme = Scheme(input="e4m3fn", weight="e4m3fn", **sums)
    lowprec.convert(model, scheme)
    with torch.no_grad():
        right = model(images.test_images[:1000]).argmax(1) == images.test_labels[:1000]
    lowprec.revert(model)
    return 100 * right.double().mean().item()


exact = accuracy()

# %%
options = {"in order": {}, "chunks of 64": {"chunk": 64}, "stochastic": {"rounding": "stochastic"}}
rows = []
for bits in (1, 2, 3, 4, 6, 8):
    name = f"e6m{bits}ieee"
    reached = [accuracy(arithmetic=Arithmetic(name, **way)) for way in options.values()]
    rows.append((name, *reached))
digits = dict.fromkeys(options, ".1f")
Table(("accumulator", *options), rows, "Accuracy in %", f"With float32 sums: {exact:.1f}.", digits)

# %% [markdown]
# Training is harder: gradients of weights are sums over all rows of a batch, and all places of an image.
# `python benchmarks/accumulator.py` trains a network for each width, and draws what it reaches; the scheme
# `"fp8-acc12"` trains like float32 in sums of 12 bits.
#
# ## The claim
#
# Sums of ones stop where one is half of a last place, and none of the four ways out stops there. Errors
# grow with the length in order, and hardly in pairs or compensated. With eight mantissa bits the network
# is as good as with float32 sums, and chunks need fewer bits.

# %%
assert stops == {"binary16": 2048, "bfloat16": 256, "e4m3fn": 16}
assert sums.pop("in order") == 256
assert all(abs(total - 3000) < 300 for total in sums.values())
assert errors["in order"][-1] > 0.9
assert max(errors["pairwise"] + errors["Kahan"]) < 3 * 2**-8
by_name = {name: values for name, *values in rows}
assert all(abs(value - exact) < 1.5 for value in by_name["e6m8ieee"])
assert by_name["e6m2ieee"][1] > by_name["e6m2ieee"][0]

# %% [markdown]
# **What to read next.** `3_stochastic_rounding`, for the same effect in the weights between two steps.
