"""The kernels as verification calls them: all of it goes through these two functions."""

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import lowprec
from lowprec.app.verify.setting import Setting
from lowprec.formats import Format
from lowprec.kernels import dispatch

Bits = npt.NDArray[np.uint32]


def quantize(x: Tensor, format: Format, setting: Setting, *, seed: int | None = None) -> Tensor:
    """What a kernel makes of a tensor.

    Args:
        x: Of any carrier, contiguous.
        format: The target format.
        setting: The mode; if stochastic, with the word of every element.
        seed: In the place of that word, for the words that follow from a seed.

    Returns:
        Values of the format.

    Example:
        >>> from lowprec.formats import parse
        >>> from lowprec.modes import Rounding
        >>> quantize(torch.tensor([0.3]), parse("e2m1"), Setting(Rounding.DOWN))
        tensor([0.])
    """
    if setting.word is None or seed is not None:
        return lowprec.quantize(
            x, format, rounding=setting.rounding, random_bits=setting.random_bits, seed=seed
        )
    out = torch.empty_like(x)
    dispatch.quantize(
        x.data_ptr(), out.data_ptr(), str(x.dtype).removeprefix("torch."), tuple(x.shape), x.stride(),
        out.stride(), format, setting.rounding, random_bits=setting.random_bits or 32, word=setting.word,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return out


def quantize_bits(x: Bits, out: Bits, format: Format, setting: Setting) -> None:
    """Quantize binary32 patterns on the calling thread, which others may do at the same time.

    Args:
        x: The patterns.
        out: Where those of the results go.
        format: The target format.
        setting: The mode; if stochastic, with the word of every element.

    Example:
        >>> from lowprec.formats import parse
        >>> from lowprec.modes import Rounding
        >>> x, out = np.float32([0.3]).view(np.uint32), np.empty(1, np.uint32)
        >>> quantize_bits(x, out, parse("e2m1"), Setting(Rounding.UP))
        >>> float(out.view(np.float32)[0])
        0.5
    """
    dispatch.quantize(
        x.ctypes.data, out.ctypes.data, "float32", x.shape, (1,), (1,), format, setting.rounding,
        random_bits=setting.random_bits or 32, word=-1 if setting.word is None else setting.word, threads=1,
    )  # fmt: skip


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Have torch, and so the kernels, use so many threads.

    Args:
        count: At least 1.

    Example:
        >>> with threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def flushed() -> Iterator[bool]:
    """Have the processor flush subnormal numbers to zero on this thread, if it can.

    Example:
        >>> with flushed() as possible:
        ...     isinstance(possible, bool)
        True
    """
    possible = torch.set_flush_denormal(True)
    try:
        yield possible
    finally:
        torch.set_flush_denormal(False)
