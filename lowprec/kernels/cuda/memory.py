"""Memory of the device by its address, inside kernels; in the simulator, memory of the host.

``load``, ``store``, ``raise_to`` and ``add_to`` take an address, an index and a type; ``largest_of``
compares threads. ``constant_at``, ``fused``, ``times`` and ``tuple_setitem`` take the place of those that
decisions call. ``root`` is the square root that is rounded as IEEE 754 says.
"""

from typing import Any

from numba.core import config

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether kernels run as Python functions, as NUMBA_ENABLE_CUDASIM=1 asks of Numba."""

if SIMULATED:
    from lowprec.kernels.cuda import host as _own
else:
    from lowprec.kernels.cuda import instructions as _own  # type: ignore[no-redef]

load: Any = _own.load
store: Any = _own.store
raise_to: Any = _own.raise_to
add_to: Any = _own.add_to
largest_of: Any = _own.largest_of
root: Any = _own.root
_NAMES = "constant_at", "fused", "times", "tuple_setitem"
INSTRUCTIONS: dict[str, Any] = {name: getattr(_own, name) for name in _NAMES}
"""What takes the place of the CPU's own in decisions."""
