"""Property tests of number formats: checks that need nothing else, and hypothesis strategies.

``strategies`` needs hypothesis (``pip install "lowprec[test]"``); it is imported when it is asked for.
"""

from importlib import import_module
from types import ModuleType

from lowprec.testing.failure import FormatError as FormatError
from lowprec.testing.failure import Report as Report
from lowprec.testing.formats import check_format as check_format
from lowprec.testing.hard import hard_values as hard_values
from lowprec.testing.modules import check_optimizer as check_optimizer
from lowprec.testing.modules import check_quantizer as check_quantizer


def __getattr__(name: str) -> ModuleType:
    """Import the strategies where they are first used."""
    if name == "strategies":
        return import_module("lowprec.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
