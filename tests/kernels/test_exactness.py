"""Every kernel equals the reference bit for bit: formats, modes, carriers, overflow flags."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hard_inputs import all_bfloat16, hard_values
from oracle import (
    ROUNDINGS,
    SEED,
    STOCHASTIC,
    assert_same,
    expected,
    expected_overflow,
)
from peer_cases import PEER_CASES, PeerCase
from torch import Tensor

import lowprec
from lowprec.formats import NAMED, parse
from lowprec.formats.carriers import CARRIERS

MODES = [(rounding, None) for rounding in ROUNDINGS] + [(STOCHASTIC, 7), (STOCHASTIC, 1)]
ELEMENTWISE = [
    "e4m3fn", "e5m2", "e4m3ieee", "binary16", "bfloat16", "binary32", "fixed8f7", "fixed8f4",
    "fixed16f8", "fixed16f8<symmetric>", "e5m2<saturate>", "e4m3fn<infinity>",
    "e4m3fn<saturate_all>", "e5m2<saturate_all>", "e5m0ieee", "e8m7ieee<bias133>",
    "e8m3fn<bias140>", "e8m0fn<bias140>", "e1m2fn", "e2m1<fn>", "fixed4f-100", "fixed8f130",
    "fixed25f0", "fixed2f149", "e8m0ieee",
]  # fmt: skip
GROUPS = {  # how many elements make a group, and how rows of that many become a tensor
    "bfp8": (256, list),
    "bfp4": (256, list),
    "bfp2": (256, list),
    "bfp25": (256, list),
    "bfp8<group32>": (32, lambda rows: [rows]),
    "bfp4<group16>": (16, lambda rows: [rows]),
    "bfp8<channel0>": (256, lambda rows: [rows]),
    "bfp8<channel1>": (256, lambda rows: [rows.T]),
    "bfp6<group3@0>": (3, lambda rows: [rows.T]),
    "bfp8<channel0&2>": (64, lambda rows: [rows.reshape(-1, 8, 64).transpose(0, 2, 1)]),
}
FORMATS = [*ELEMENTWISE, *GROUPS]


def in_groups(x: npt.NDArray[np.float32], format: str, *, anchored: bool) -> list[Tensor]:
    """``x`` as tensors whose groups hold neighbors in x, and, anchored, a 1 that sets E to 0."""
    size, arranged = GROUPS[format]
    width = size - anchored
    rows = np.pad(x, (0, -x.size % (8 * width)), mode="wrap").reshape(-1, width)
    if anchored:
        rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
    return [torch.from_numpy(np.ascontiguousarray(part)) for part in arranged(rows)]


def inputs_of(format: str, stride: int = 1) -> list[Tensor]:
    """Every ``stride``-th bfloat16 number, and hard values (some of very many), for the format."""
    numbers, hard = all_bfloat16()[len(format) % stride :: stride], hard_values(parse(format))
    hard = hard[:: max(hard.size // 1000, 1)] if stride > 1 else hard
    if format not in GROUPS:
        return [torch.from_numpy(numbers), torch.from_numpy(hard)]
    return [*in_groups(numbers, format, anchored=False), *in_groups(hard, format, anchored=True)]


def holders(format: str) -> list[torch.dtype]:
    """The carriers that hold a format."""
    fits = [c.name for c in CARRIERS.values() if parse(format).missing_in(c) is None]
    return [getattr(torch, name) for name in fits]


def check(x: Tensor, format: str, rounding: str, random_bits: int | None = None) -> None:
    """Compare the value and the flag of every element with the reference."""
    seed = SEED if rounding == STOCHASTIC else None
    got = lowprec.quantize(x, format, rounding=rounding, random_bits=random_bits, seed=seed)
    assert_same(got, expected(x, format, rounding, random_bits))
    words = None if seed is None else torch.tensor([seed - 2**64])
    fired = torch.ops.lowprec.overflowed(x, words, format, rounding, random_bits or 32)
    assert_same(fired, expected_overflow(x, format, rounding, random_bits))


def test_every_format_of_the_listing_is_here_and_each_has_a_carrier() -> None:
    assert set(NAMED) <= set(FORMATS)
    assert all(holders(format) for format in FORMATS)
    narrow = [format for format in FORMATS if torch.bfloat16 in holders(format)]
    assert {"bfloat16", "e5m2", "fixed8f4", "fixed8f130", "bfp8", "bfp4<group16>"} <= set(narrow)


@pytest.mark.parametrize(("rounding", "random_bits"), MODES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_part_of_bfloat16_and_of_the_hard_values(
    format: str, rounding: str, random_bits: int | None
) -> None:
    for x in inputs_of(format, stride=23):
        for carrier in holders(format):
            check(x.to(carrier), format, rounding, random_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("rounding", "random_bits"), MODES)
@pytest.mark.parametrize("format", FORMATS)
def test_all_of_bfloat16_and_all_hard_values(format: str, rounding: str, random_bits: int | None) -> None:
    for x in inputs_of(format):
        for carrier in holders(format):
            check(x.to(carrier), format, rounding, random_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("format", ["binary16", "bfloat16", "fixed16f8"])
def test_the_neighbors_of_all_sixteen_bit_codes(format: str, rounding: str) -> None:
    """hard_values has those of every narrower code."""
    values = parse(format).values().astype(np.float32)
    around = [np.nextafter(values, np.float32(end)) for end in (-np.inf, np.inf)]
    check(torch.from_numpy(np.concatenate([values, *around])), format, rounding)


@pytest.mark.parametrize("case", PEER_CASES, ids=lambda case: case.name)
def test_what_other_packages_get_wrong(case: PeerCase) -> None:
    for seed in (0, 1, -1) if case.rounding == STOCHASTIC else (None,):
        x = torch.from_numpy(case.input)
        got = lowprec.quantize(x, case.format, rounding=case.rounding, seed=seed)
        assert_same(got, torch.from_numpy(case.want))
