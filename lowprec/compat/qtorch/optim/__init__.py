"""QPyTorch's optimizer wrapper."""

from lowprec.compat.qtorch.optim.low import OptimLP as OptimLP

__all__ = ["OptimLP"]
