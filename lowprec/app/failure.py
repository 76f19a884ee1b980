"""How a command ends when its user made a mistake."""

from collections.abc import Mapping
from typing import NoReturn

import typer


def fail(error: Exception, options: Mapping[str, str] | None = None) -> NoReturn:
    """Say in one sentence what was wrong, and exit with 2.

    Args:
        error: What the package raised.
        options: What arguments of the package are called on the command line.

    Raises:
        typer.Exit: Always.

    Example:
        >>> fail(ValueError("`--seeds` must be at least 1, got 0."))  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        typer.Exit: 2
    """
    message = str(error)
    for argument, option in (options or {}).items():
        if message.startswith(f"`{argument}` must"):
            message = message.replace(argument, option, 1)
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(2) from None
