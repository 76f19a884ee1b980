"""What a bug report should tell about the machine and the versions."""

import os
import platform
from importlib.metadata import version

import lowprec


def described() -> dict[str, str]:
    """Versions, processor, threads, kernels and CUDA.

    Returns:
        A short text for each name, in the order in which to show them.

    Example:
        >>> "torch" in described()
        True
    """
    import torch

    from lowprec.kernels import dispatch

    return {
        **versions(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        **dispatch.info(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "not available",
    }


def versions() -> dict[str, str]:
    """What the bits of a training run may depend on, besides its settings.

    Returns:
        A short text for each name, in the order in which to show them.

    Example:
        >>> list(versions())
        ['lowprec', 'python', 'torch', 'numba', 'numpy', 'system', 'processor']
    """
    import torch

    return {
        "lowprec": lowprec.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "torch": str(torch.__version__),  # a class of its own, which checkpoints refuse
        "numba": version("numba"),
        "numpy": version("numpy"),
        "system": platform.platform(),
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's name as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  only on Linux
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
