"""Files that a command writes when its work is done."""

from pathlib import Path

from lowprec.errors import value_error


def check_writable(path: Path, option: str) -> None:
    """Refuse a file that could not be written after minutes of work.

    Args:
        path: The file.
        option: How it was given.

    Raises:
        ValueError: If it is a folder, or cannot be written.

    Example:
        >>> check_writable(Path(), "--csv")
        Traceback (most recent call last):
        ValueError: `--csv` must be a file, got '.'.
    """
    if path.is_dir():
        raise value_error(option, "be a file", str(path))
    try:
        trial = path.with_name(path.name + ".tmp")
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise value_error(option, f"be a file that can be written ({error.strerror})", str(path)) from None
