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
# # What values does a number format have?
#
# Eight bits give at most 256 values. Formats differ in where these lie: in equal steps, in equal ratios, or
# closer together where most numbers are. Everything here follows from that.

# %%
import torch
from matplotlib import pyplot as plt

import lowprec
from lowprec import explore

# %% [markdown]
# ## All of them
#
# `e2m1` is the element of the 4-bit formats MXFP4 and NVFP4: one sign bit, two exponent bits, one mantissa
# bit.

# %%
explore.table("e2m1")

# %%
explore.number_line(["e2m1", "fixed4f1", "posit4", "log2f1", "nf4"], limits=(-8, 8))
plt.show()

# %% [markdown]
# ## How far is it to the next one?
#
# In fixed point, always as far. In floating point, twice as far from each power of two on, and below the
# smallest normal value, among the subnormals, always as far again. Posits are finest around 1.

# %%
eight_bits = ["fixed8f4", "e4m3fn", "e5m2", "posit8", "log4f3"]
explore.spacing(eight_bits)
plt.show()

# %%
explore.relative_error(eight_bits)
plt.show()

# %% [markdown]
# ## Two formats called E4M3
#
# `e4m3fn` gives up infinities and all but one NaN for values up to 448; `e4m3ieee` keeps them, and ends at
# 240.

# %%
for name in ("e4m3fn", "e4m3ieee"):
    known, count = lowprec.finfo(name), len(lowprec.formats.parse(name).values())
    print(f"{name:9} max {known.max:g}, infinity {known.has_infinity}, {count} values")

# %%
print(lowprec.quantize(torch.tensor([300.0, 1e6]), "e4m3fn"))
print(lowprec.quantize(torch.tensor([300.0, 1e6]), "e4m3ieee"))

# %% [markdown]
# ## The claim
#
# Rounded to nearest, a floating-point format with m mantissa bits is off by at most 2^-(m + 1) of a normal
# number, a fixed-point format by at most half a step; here on a million numbers across the whole range.

# %%
x = torch.logspace(-6, 8.8, 1_000_000, base=2, dtype=torch.float64)  # from smallest normal to nearly 448
relative = ((lowprec.quantize(x, "e4m3fn") - x) / x).abs().max().item()
absolute = (lowprec.quantize(x[x < 7.9], "fixed8f4") - x[x < 7.9]).abs().max().item()
print(relative, "of 2^-4;", absolute, "of half of 1/16")

# %%
assert relative <= 2.0**-4
assert absolute <= 2.0**-5
assert len(lowprec.formats.parse("e4m3fn").values()) == 253  # 256 codes less two NaN and one of two zeros
assert (lowprec.finfo("e4m3fn").max, lowprec.finfo("e4m3ieee").max) == (448, 240)

# %% [markdown]
# **What to read next.** `2_rounding_modes`: which neighbor a number between two values goes to.
