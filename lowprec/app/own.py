"""Formats of a user's own in the command line: a module is imported, and its formats are known by name."""

import importlib
import os
import sys
from pathlib import Path

from lowprec.errors import sentence, value_error
from lowprec.formats import TabledFormat, register

VARIABLE = "LOWPREC_WITH"
"""The environment variable by which interpreters that a command starts know the module, too."""


def register_formats(module: str) -> list[str]:
    """Import a module, from the current folder or an installed one, and register its formats.

    Args:
        module: As in an import statement.

    Returns:
        The names of the formats that stand in it: instances of subclasses of TabledFormat.

    Raises:
        ImportError: If the module cannot be imported.
        TypeError: If one of its formats cannot be hashed.
        ValueError: If there is no format in it, or the name of one means another.

    Example:
        >>> register_formats("math")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: `--with` must name a module in which a format stands, got 'math'. ...
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:
        remedy = f"It raised {type(error).__name__}: {error}."
        raise ImportError(sentence("--with", "be importable", module, remedy)) from error
    formats = [value for value in vars(found).values() if isinstance(value, TabledFormat)]
    if not formats:
        remedy = "Make one in it: MINE = MyFormat(…)."
        raise value_error("--with", "name a module in which a format stands", module, remedy)
    for format in formats:
        register(format)
    os.environ[VARIABLE] = module
    return [str(format) for format in formats]


def register_inherited() -> None:
    """Register what the command that started this interpreter has registered."""
    if module := os.environ.get(VARIABLE):
        register_formats(module)
