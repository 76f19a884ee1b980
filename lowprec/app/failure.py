"""How a command ends when its user made a mistake."""

from typing import NoReturn

import typer


def fail(error: Exception) -> NoReturn:
    """Say in one sentence what was wrong, and exit with 2.

    Args:
        error: What the package raised.

    Raises:
        typer.Exit: Always.

    Example:
        >>> fail(ValueError("`--seeds` must be at least 1, got 0."))  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        typer.Exit: 2
    """
    typer.echo(f"Error: {error}", err=True)
    raise typer.Exit(2) from None
