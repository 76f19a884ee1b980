"""Optimizers that keep weights, gradients and state in low precision, and averages of weights."""

from lowprec.optim.algorithms import SGD as SGD
from lowprec.optim.algorithms import AdamW as AdamW
from lowprec.optim.averaging import Averaging as Averaging
from lowprec.optim.low_precision import LowPrecision as LowPrecision
