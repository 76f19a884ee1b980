"""Noise, memory and threads: the words are those of seed and position, and nothing else changes a bit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowprec import ops, reference
from lowprec.kernels import dispatch
from lowprec.modes import Rounding
from lowprec.testing.comparison import equal_tensors
from lowprec.testing.decide import Noise
from lowprec.testing.failure import Check
from lowprec.testing.hard import Floats
from lowprec.testing.rounding import situation
from lowprec.testing.subjects import Subject, array_of, tensor_of

SEED = 0x9E3779B97F4A7C15
_MODES = (Rounding.NEAREST_EVEN, Rounding.STOCHASTIC)
_SHARED = 1 << 17
"""Elements that kernels share among threads."""


def check_noise(check: Check, subject: Subject, format: Any, x: Floats) -> None:
    """A seed gives every element the word of its position, that of the reference."""
    check = check.at(f"stochastic, seed {SEED:#x}, {subject.name} in {subject.carrier}")
    rounding = str(Rounding.STOCHASTIC)
    got = array_of(ops.quantize(tensor_of(x, subject.carrier), format, rounding=rounding, seed=SEED))
    words = reference.random_words(SEED, 0, x.shape)
    want = reference.quantize(x, format, rounding=rounding, words=words, carrier=subject.carrier)
    rows = zip(x.ravel().tolist(), got.ravel().tolist(), want.ravel().tolist(), strict=True)
    for at, (number, value, wanted) in enumerate(rows):
        word = f"{int(words.ravel()[at]):#010x}"
        check.equal("noise of seed and position", value, wanted, input=number, position=at, word=word)


def check_strides(check: Check, subject: Subject, format: Any, x: Floats, *, noise: bool) -> None:
    """Other strides, same bits, with and without noise."""
    rows = tensor_of(x, subject.carrier)
    for rounding in _MODES[: 1 + noise]:
        options: dict[str, Any] = {"seed": SEED} if rounding.is_stochastic else {}
        place = check.at(situation(subject, rounding, Noise()))
        for layout, view in layouts(rows):
            got = ops.quantize(view, format, rounding=rounding, **options)
            want = ops.quantize(view.contiguous(), format, rounding=rounding, **options)
            equal_tensors(
                place, "strides change no bit", view, got, want, strides=f"{layout} {view.stride()}"
            )


def check_threads(check: Check, subject: Subject, format: Any, x: Floats, *, noise: bool) -> None:
    """Any number of threads, same bits."""
    times = _SHARED // x.size + 1
    many = tensor_of(np.concatenate([x] * times), subject.carrier)
    for rounding in _MODES[: 1 + noise]:
        place = check.at(situation(subject, rounding, Noise()))
        got, want = (_with_threads(many, format, rounding, threads) for threads in (3, 1))
        equal_tensors(place, "threads change no bit", many, got, want, threads="3 against 1")


def layouts(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Views of the same shape with other strides."""
    backwards = tuple(reversed(range(x.dim())))
    yield "transposed", x.permute(backwards).contiguous().permute(backwards)
    stepped = x.new_zeros([2 * size + 1 for size in x.shape])[tuple(slice(1, None, 2) for _ in x.shape)]
    yield "stepped", stepped.copy_(x)
    yield "expanded", x[:1].expand_as(x)


def _with_threads(x: Tensor, format: Any, rounding: Rounding, threads: int) -> Tensor:
    """The kernel's result on so many threads."""
    out = torch.empty_like(x)
    dispatch.quantize(
        x.data_ptr(), out.data_ptr(), str(x.dtype).removeprefix("torch."), tuple(x.shape), x.stride(),
        out.stride(), str(format), str(rounding), seed=7, threads=threads,
    )  # fmt: skip
    return out
