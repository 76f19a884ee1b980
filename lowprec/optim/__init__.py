"""Optimizers that keep weights, gradients and state in low precision."""

from lowprec.optim.low_precision import LowPrecision as LowPrecision
