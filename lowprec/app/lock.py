"""One process at a time on a run folder."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lowprec.errors import value_error

LOCK = ".lock"


def taken(folder: Path, option: str) -> BaseFileLock:
    """Lock a run folder until the lock is released, or the process ends in whatever way.

    Args:
        folder: The run folder; it exists. The lock file stays in it.
        option: The option that named it, for the error.

    Returns:
        The lock, held.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If another process, or another job of this one, holds it.

    Example:
        >>> import tempfile
        >>> lock = taken(Path(tempfile.mkdtemp()), "--resume")
        >>> lock.is_locked
        True
        >>> lock.release()
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise value_error(
            option, "name a folder whose job is not running", str(folder), "Wait for it, or stop it."
        ) from None
    return lock
