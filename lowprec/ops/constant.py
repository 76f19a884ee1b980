"""Functions that torch.compile runs while it compiles."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def constant(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have torch.compile run a function once and keep what it returned.

    This is torch.compiler.assume_constant_result, which would import the whole compiler, a second of
    work, to set one mark.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
