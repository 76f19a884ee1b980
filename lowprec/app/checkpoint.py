"""Checkpoints that prove themselves.

A checkpoint is a line that names the kind, the SHA-256 of what follows, and what ``torch.save``
wrote. PyTorch does not check the sums inside its own files, so a flipped bit would pass unseen.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from lowprec.errors import sentence, value_error
from lowprec.files import write as write

_MAGIC = b"lowprec checkpoint 1\n"
_REMEDY = "Train anew, with --out."


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in the place of the one before.

    Args:
        path: The file.
        state: Tensors, numbers, strings and containers of them.

    Raises:
        OSError: If it cannot be written; the checkpoint before it is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
        >>> save(path, {"step": 3})
        >>> load(path)
        {'step': 3}
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write(path, _MAGIC + hashlib.sha256(payload).digest() + payload)


def load(path: Path, name: str = "--resume") -> dict[str, Any]:
    """Read a checkpoint, without running any code that it may contain.

    Args:
        path: The file.
        name: What the user gave it by, for errors.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged or something else; the file is left as it is.

    Example:
        >>> load(Path("nowhere.pt"))
        Traceback (most recent call last):
        FileNotFoundError: `--resume` must have a checkpoint, got 'nowhere.pt'. Train anew, with --out.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        message = sentence(name, "have a checkpoint", str(path), _REMEDY)
        raise FileNotFoundError(message) from None
    if not content.startswith(_MAGIC):
        raise value_error(name, "have a checkpoint of this version of lowprec", str(path), _REMEDY)
    digest_end = len(_MAGIC) + hashlib.sha256().digest_size
    payload = content[digest_end:]
    if hashlib.sha256(payload).digest() != content[len(_MAGIC) : digest_end]:
        must = "have an undamaged checkpoint (its SHA-256 differs)"
        raise value_error(name, must, str(path), f"Nothing was changed. {_REMEDY}")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
    return state
