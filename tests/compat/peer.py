"""QPyTorch itself, where it is installed: the extra ``bench`` has it, and it compiles C++ when imported."""

import importlib
import importlib.util
import warnings
from functools import cache
from types import ModuleType

import pytest

import lowprec.compat.qtorch as ours

NEEDS_QPYTORCH = "QPyTorch is not installed; the extra bench has it"
HERE = "lowprec.compat.qtorch"


@cache
def qpytorch() -> ModuleType:
    """The package with its parts imported; a test that asks for it is skipped where there is none."""
    if importlib.util.find_spec("qtorch") is None:
        pytest.skip(NEEDS_QPYTORCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about compilers and setuptools
        for part in ("qtorch.quant", "qtorch.optim", "qtorch.auto_low"):
            importlib.import_module(part)
        return importlib.import_module("qtorch")


def packages() -> list:
    """Ours, and QPyTorch where it is installed, for parametrized tests."""
    return [pytest.param(lambda: ours, id="ours"), pytest.param(qpytorch, id="QPyTorch")]
