"""Where the extra ``cuda`` is not installed, its modules cannot be looked at for examples."""

import importlib.util

collect_ignore_glob = (
    [] if importlib.util.find_spec("numba_cuda") else ["lowprec/kernels/cuda/*", "lowprec/ops/cuda/*"]
)
