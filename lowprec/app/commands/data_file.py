"""Tensors from a file, for commands that look at somebody's numbers."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from lowprec.errors import value_error

SAMPLE = 2**16
"""Standard normal numbers, with the seed 0, where no file is given."""
_SUFFIXES = ".npy, .npz, .safetensors"


def read(path: str | None, tensors: list[str] | None) -> Any:
    """The tensors of a file by name, or a sample of the standard normal distribution.

    Args:
        path: A file of NumPy or safetensors; None for the sample.
        tensors: The names of those that are wanted; None for all.

    Returns:
        A tensor, an array, or a mapping from names to such.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is another file, is damaged, or lacks a tensor.

    Example:
        >>> len(read(None, None)) == SAMPLE
        True
    """
    if path is None:
        if tensors:
            raise value_error("--tensor", "be left out without --data", tensors)
        return torch.randn(SAMPLE, generator=torch.Generator().manual_seed(0))
    found = _read(Path(path))
    if not tensors:
        return found
    if not isinstance(found, dict):
        raise value_error("--tensor", "be left out for a file of one array", tensors)
    if missing := [name for name in tensors if name not in found]:
        some = ", ".join(list(found)[:5])
        raise value_error("--tensor", f"name a tensor of the file, which has {some}", missing[0])
    return {name: found[name] for name in tensors}


def _read(path: Path) -> Any:
    """What a file holds."""
    from safetensors import SafetensorError

    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES.split(", "):
        raise value_error("--data", f"be a file of {_SUFFIXES}", str(path))
    if not path.is_file():
        raise value_error("--data", "be an existing file", str(path))
    try:
        if suffix == ".safetensors":
            return _safetensors(path)
        with path.open("rb") as file:  # NumPy leaves one open that it cannot read
            found = np.load(file, allow_pickle=False)
            return found if suffix == ".npy" else dict(found)
    except (ValueError, EOFError, KeyError, BadZipFile, SafetensorError) as error:
        # NumPy takes what it does not know for a pickle, and gives advice on how to run code out of it
        reason = "it holds no plain arrays" if "pickle" in str(error) else error
        raise value_error("--data", f"be a whole file of its kind ({reason})", str(path)) from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; the values of a packed one."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    from lowprec.storage import load_packed

    with safe_open(path, framework="pt") as file:
        is_packed = "lowprec" in (file.metadata() or {})
    return load_packed(path) if is_packed else load_file(path)
