"""Tensors and the reference: what a quantization must give, and whether it gave it, bit by bit."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from comparison import assert_same_bits
from torch import Tensor

from lowprec import reference
from lowprec.formats import FormatLike

STOCHASTIC = "stochastic"
ROUNDINGS = ("nearest_even", "toward_zero", STOCHASTIC)
SEED = 0x9E3779B97F4A7C15


@lru_cache(maxsize=4)
def _row_of_words(seed: int, stream: int, size: int) -> npt.NDArray[np.uint32]:
    """The words of the elements from 0 on."""
    return reference.random_words(seed, stream, (size,))


def words_for(shape: tuple[int, ...], seed: int = SEED, stream: int = 0) -> npt.NDArray[np.uint32]:
    """The words of a whole tensor; those of a few thousand elements are remembered."""
    size = int(np.prod(shape))
    remembered = _row_of_words(seed, stream, -(-size // 4096) * 4096)
    return remembered[:size].reshape(shape)


def reference_options(
    x: Tensor, rounding: str, random_bits: int | None = None, seed: int = SEED, stream: int = 0
) -> dict[str, object]:
    """The arguments of the reference besides x and the format."""
    noise = {}
    if rounding == STOCHASTIC:
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
    wanted = reference.quantize(x.detach().float().numpy(), format, **options)
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
    return torch.from_numpy(reference.overflowed(x.detach().float().numpy(), format, **options))


def assert_same(got: Tensor, want: Tensor) -> None:
    """Equal dtype, shape and bits; all NaN are one, and -0 is not 0."""
    assert got.dtype == want.dtype
    if got.dtype.is_floating_point:
        assert_same_bits(got.detach().float().numpy(), want.detach().float().numpy())
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
