"""The products of lowprec.functional beside torch's: a row for each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec import functional


class Pair(NamedTuple):
    """A function here and torch's, and the shapes of operands."""

    mine: Callable[..., Tensor]
    plain: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]


def named(name: str, plain: Any, *shapes: tuple[int, ...]) -> Pair:
    """A function of one name in both packages."""
    return Pair(getattr(functional, name), getattr(plain, name), shapes)


NN = torch.nn.functional
PRODUCTS = {
    "linear": named("linear", NN, (3, 4), (5, 4), (5,)),
    "matmul": named("matmul", torch, (2, 3, 4), (4, 5)),
    "bmm": named("bmm", torch, (2, 3, 4), (2, 4, 5)),
    **{f"conv{d}d": named(f"conv{d}d", NN, (2, 4, *(3,) * d), (5, 4, *(2,) * d), (5,)) for d in (1, 2, 3)},
    **{
        f"conv_transpose{d}d": named(f"conv_transpose{d}d", NN, (2, 4, *(3,) * d), (4, 5, *(2,) * d), (5,))
        for d in (1, 2, 3)
    },
}


def draw(name: str, *dtypes: torch.dtype) -> list[Tensor]:
    """Operands in these dtypes."""
    generator = torch.Generator().manual_seed(0)
    shapes = PRODUCTS[name].shapes
    return [torch.randn(s, generator=generator).to(d) for s, d in zip(shapes, dtypes, strict=False)]


def assert_equal(got: list[Tensor], want: list[Tensor]) -> None:
    """Equal dtypes, shapes and numbers."""
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
