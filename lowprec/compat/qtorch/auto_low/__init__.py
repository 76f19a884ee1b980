"""Rounding the outputs of a model's layers, and the errors that come back to them."""

from lowprec.compat.qtorch.auto_low.lowering import lower as lower
from lowprec.compat.qtorch.auto_low.lowering import sequential_lower as sequential_lower

__all__ = ["lower", "sequential_lower"]
