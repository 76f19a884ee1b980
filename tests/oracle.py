"""Tensors and the reference: what a quantization must give, and whether it gave it, bit by bit."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparison import assert_same_bits
from torch import Tensor

from lowprec import reference
from lowprec.formats import FormatLike, parse
from lowprec.formats.carriers import CARRIERS
from lowprec.kernels import cpu, dispatch
from lowprec.modes import Rounding

STOCHASTIC = "stochastic"
ROUNDINGS = ("nearest_even", "toward_zero", STOCHASTIC)
"""One mode of each kind, for tests of what does not depend on the mode."""
SEED = 0x9E3779B97F4A7C15


def holders(format: str) -> list[torch.dtype]:
    """The carriers that hold a format."""
    fits = [c.name for c in CARRIERS.values() if parse(format).missing_in(c) is None]
    return [getattr(torch, name) for name in fits]


@lru_cache(maxsize=4)
def _row_of_words(seed: int, stream: int, size: int) -> npt.NDArray[np.uint32]:
    """The words of the elements from 0 on."""
    return reference.random_words(seed, stream, (size,))


def words_for(shape: tuple[int, ...], seed: int = SEED, stream: int = 0) -> npt.NDArray[np.uint32]:
    """The words of a whole tensor; those of a few thousand elements are remembered."""
    size = int(np.prod(shape))
    remembered = _row_of_words(seed, stream, -(-size // 4096) * 4096)
    return remembered[:size].reshape(shape)


def as_array(x: Tensor) -> npt.NDArray[np.floating]:
    """The array that the reference takes: bfloat16 is widened."""
    x = x.detach()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def reference_options(
    x: Tensor, rounding: str, random_bits: int | None = None, seed: int = SEED, stream: int = 0
) -> dict[str, object]:
    """The arguments of the reference besides x and the format."""
    noise = {}
    if Rounding(rounding).is_stochastic:
        noise = {"random_bits": random_bits, "words": words_for(tuple(x.shape), seed, stream)}
    return {"rounding": rounding, "carrier": str(x.dtype).removeprefix("torch."), **noise}


def expected(
    x: Tensor,
    format: FormatLike,
    rounding: str = "nearest_even",
    random_bits: int | None = None,
    seed: int = SEED,
    stream: int = 0,
) -> Tensor:
    """What the reference makes of a tensor."""
    options = reference_options(x, rounding, random_bits, seed, stream)
    wanted = reference.quantize(as_array(x), format, **options)
    return torch.from_numpy(wanted).to(x.dtype)


def expected_overflow(
    x: Tensor,
    format: FormatLike,
    rounding: str = "nearest_even",
    random_bits: int | None = None,
    seed: int = SEED,
    stream: int = 0,
) -> Tensor:
    """Where overflow fires by the reference."""
    options = reference_options(x, rounding, random_bits, seed, stream)
    return torch.from_numpy(reference.overflowed(as_array(x), format, **options))


def tensor_of(x: npt.NDArray[np.floating], dtype: torch.dtype) -> Tensor:
    """An array as a tensor of a carrier that holds its numbers."""
    return torch.from_numpy(np.ascontiguousarray(x)).to(dtype)


def scales_of(scales: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
    """The scales of the reference as encode gives them."""
    return torch.from_numpy(scales).to(dtype)


def with_word(
    x: Tensor, format: str, rounding: str, word: int, random_bits: int = 32, kind: int = cpu.VALUES
) -> Tensor:
    """What the kernel makes of a contiguous tensor if every element has that random word."""
    out = torch.empty_like(x, dtype=torch.bool if kind == cpu.FLAGS else x.dtype)
    dispatch.quantize(
        x.data_ptr(), out.data_ptr(), str(x.dtype).removeprefix("torch."), tuple(x.shape), x.stride(),
        out.stride(), format, rounding, random_bits=random_bits, word=word, kind=kind,
    )  # fmt: skip
    return out


def assert_same(got: Tensor, want: Tensor) -> None:
    """Equal dtype, shape and bits; all NaN are one, and -0 is not 0."""
    assert got.dtype == want.dtype
    if got.dtype == torch.float8_e8m0fnu:  # which NumPy has not
        assert torch.equal(got.view(torch.uint8), want.view(torch.uint8))
    elif got.dtype.is_floating_point:
        assert_same_bits(as_array(got), as_array(want))
    else:
        assert got.shape == want.shape
        assert torch.equal(got, want), f"{(got != want).sum()} differ"


def spread(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    """Values of every magnitude that low-precision formats meet, some of them special."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x = x * torch.exp2(torch.randint(-14, 12, shape, generator=generator).float())
    specials = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-40])
    flat = x.view(-1)
    at = torch.arange(flat.numel())[7::97]
    flat[at] = specials[torch.arange(at.numel()) % specials.numel()]
    return x.to(dtype)
