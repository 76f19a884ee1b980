"""What a bug report should tell about the machine and the versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version


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
        "lowprec": version_of("lowprec"),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "torch": torch.__version__,
        "numba": version_of("numba"),
        "numpy": version_of("numpy"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        **dispatch.info(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "not available",
    }


def version_of(package: str) -> str:
    """The installed version of a package, also where it runs from its sources.

    Args:
        package: Its name.

    Returns:
        The version, or that there is none.

    Example:
        >>> version_of("no-such-package")
        'not installed'
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


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
