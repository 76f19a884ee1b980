"""What is checked: the kernels and the reference, each as a function from numbers to numbers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lowprec import ops, reference
from lowprec.formats import Format
from lowprec.kernels import dispatch
from lowprec.modes import Rounding
from lowprec.testing.decide import Noise
from lowprec.testing.hard import Floats

Run = Callable[[Floats, Rounding, Noise], Floats]


class Subject(NamedTuple):
    """Something that quantizes."""

    name: str
    carrier: str
    run: Run
    """The noise is that of every element."""


def reference_of(format: Format, carrier: str) -> Subject:
    """The reference in a carrier."""

    def run(x: Floats, rounding: Rounding, noise: Noise) -> Floats:
        """By exact fractions."""
        options = {}
        if rounding.is_stochastic:
            options["words"] = np.full(x.shape, noise.word, np.uint32)
        bits = noise.random_bits if rounding.takes_random_bits else None
        return reference.quantize(x, format, rounding=rounding, random_bits=bits, carrier=carrier, **options)

    return Subject("reference", carrier, run)


def kernels_of(format: Format, carrier: str) -> Subject:
    """The compiled kernels in a carrier."""

    def run(x: Floats, rounding: Rounding, noise: Noise) -> Floats:
        """Through the public function, or with a word of our choice."""
        tensor = tensor_of(x, carrier)
        if not rounding.is_stochastic:
            return array_of(ops.quantize(tensor, format, rounding=rounding))
        return array_of(with_word(tensor, str(format), rounding, noise))

    return Subject("kernels", carrier, run)


def with_word(x: Tensor, format: str, rounding: Rounding, noise: Noise) -> Tensor:
    """What the kernel makes of a contiguous tensor whose elements all have one random word."""
    out = torch.empty_like(x)
    dispatch.quantize(
        x.data_ptr(), out.data_ptr(), str(x.dtype).removeprefix("torch."), tuple(x.shape), x.stride(),
        out.stride(), format, str(rounding), random_bits=noise.random_bits, word=noise.word,
    )  # fmt: skip
    return out


def tensor_of(x: Floats, carrier: str) -> Tensor:
    """Numbers of a carrier as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, carrier))


def array_of(x: Tensor) -> Floats:
    """A tensor as an array; bfloat16 is widened."""
    x = x.detach()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
