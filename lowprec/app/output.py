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


def check_outputs(csv: Path | None, png: Path | None) -> None:
    """Refuse files of ``--csv`` and ``--png`` before the work that is to fill them.

    Args:
        csv: A table's; None for none.
        png: A picture's; None for none.

    Raises:
        ValueError: If one could not be written, or the picture's ends in something else than .png.

    Example:
        >>> check_outputs(None, Path("picture.jpg"))
        Traceback (most recent call last):
        ValueError: `--png` must be a file that ends in .png, got 'picture.jpg'.
    """
    for path, option in ((csv, "--csv"), (png, "--png")):
        if path is not None:
            check_writable(path, option)
    if png is not None and png.suffix.lower() != ".png":
        raise value_error("--png", "be a file that ends in .png", str(png))
