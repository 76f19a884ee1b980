"""QPyTorch's names, signatures and numerics: a script runs with ``lowprec.compat.qtorch`` for ``qtorch``.

What QPyTorch 0.3.0 gets wrong is done right; ``docs/from_qpytorch.md`` lists each difference, and the native
spelling of each call.
"""

from lowprec.compat.qtorch import auto_low as auto_low
from lowprec.compat.qtorch import optim as optim
from lowprec.compat.qtorch import quant as quant
from lowprec.compat.qtorch.number import BlockFloatingPoint as BlockFloatingPoint
from lowprec.compat.qtorch.number import FixedPoint as FixedPoint
from lowprec.compat.qtorch.number import FloatingPoint as FloatingPoint
from lowprec.compat.qtorch.number import Number as Number

__all__ = ["BlockFloatingPoint", "FixedPoint", "FloatingPoint"]
