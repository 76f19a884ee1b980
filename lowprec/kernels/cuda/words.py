"""philox.py for kernels of the device, and for Python functions in the simulator."""

from typing import Any

from numba.core.registry import CPUDispatcher

from lowprec.kernels import philox
from lowprec.kernels.cuda.twin import device
from lowprec.kernels.specialize import rebound


def _copies() -> dict[str, Any]:
    """All functions of philox.py, which call each other."""
    names = dict(vars(philox))
    for name, function in vars(philox).items():
        if isinstance(function, CPUDispatcher):
            names[name] = device(rebound(function.py_func, names))
    return names


_names = _copies()
words_of, word_at = _names["words_of"], _names["word_at"]
