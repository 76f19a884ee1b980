"""The CUDA twins of the loops: the same decisions and random words, walked by a grid of threads.

Nothing of this is imported before a tensor on a CUDA device arrives. ``memory`` stands beside the CPU's
module of that name, ``twin`` beside ``cpu.jit``; every other module holds the twins of one kind of loop and
the calls of them. Decisions are those of ``specialize.specialized``, compiled by another compiler.
"""

import importlib.util

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError(
        "`numba-cuda` must be installed for tensors on CUDA devices. "
        'Install it with: pip install "lowprec[cuda]"'
    )
