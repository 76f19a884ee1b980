"""Files that are either whole or not there."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put a file in place so that a reader, or a crash, sees the old one or the new one.

    Args:
        path: The file; its folder exists.
        content: All of it.

    Raises:
        OSError: If it cannot be written, naming ``path``; the old file is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> write(path, b"whole")
        >>> path.read_bytes()
        b'whole'
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # and not a name that nobody gave
        del error.filename2
        raise
