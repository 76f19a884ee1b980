"""Compiled kernels equal the reference bit for bit: formats, modes, carriers, overflow flags.

``test_decisions.py`` runs every decision uncompiled; here a part of them, and all in the exhaustive
tests, run as users run them. Numba compiles for each carrier and mode apart, which takes longer than
to run, so the quick tests spread modes over carriers and formats. The exhaustive tests compile about a
thousand kernels, 20 MB each until they come from the disk: run them once carrier by carrier, as with
``-k float64``, where memory is short.
"""

from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hard_formats import ENDED, FORMATS, GROUPS
from hard_inputs import all_bfloat16, all_float16, anchor, hard_values
from oracle import SEED, assert_same, expected, expected_overflow, holders, tensor_of, with_word
from torch import Tensor

import lowprec
from lowprec import reference
from lowprec.formats import NAMED, parse
from lowprec.modes import Rounding

Floats = npt.NDArray[np.floating]

MODES = [(str(mode), None) for mode in Rounding] + [
    (str(mode), bits) for mode in Rounding if mode.takes_random_bits for bits in (7, 1)
]
WORDS = (0, 1, 2**31 - 1, 2**31, 0x9E3779B9, 2**32 - 1)
SPREAD = {
    torch.float32: ["e4m3fn", "e5m2<saturate>", "fixed8f4", "ufixed8f4<wrap>", "e8m3fn<bias140>",
                    "fixed8f130", "fixedf4<unbounded>"],
    torch.bfloat16: ["e5m2", "e4m3fnuz", "fixed8f7", "fixed8f4<wrap>", "e8m2fn<bias131>"],
    torch.float16: ["e4m3fn", "e3m2<nosubnormals>", "fixed11f4<wrap>", "fixed3f24"],
    torch.float64: ["binary32", "binary64<nosubnormals>", "fixed32f16", "ufixed32f40",
                    "e11m30ieee<bias1044>"],
}  # fmt: skip
"""For every carrier a format of each kind of kernel: where its unit lies, what its magnitudes end as."""


def in_groups(x: Floats, format: str, *, anchored: bool) -> list[Floats]:
    """``x`` as arrays whose groups hold neighbors in x, and, anchored, what gives each the exponent 0."""
    size, arranged = GROUPS[format]
    width = size - anchored
    rows = np.pad(x, (0, -x.size % (8 * width)), mode="wrap").reshape(-1, width)
    if anchored:
        ends = np.full((len(rows), 1), anchor(parse(format)), x.dtype)
        rows = np.concatenate([rows, ends], axis=1)
    return arranged(rows)


def hard_tensors(format: str, dtype: torch.dtype, count: int = 1 << 20) -> list[Tensor]:
    """About ``count`` hard values of a format in a carrier."""
    x = hard_values(parse(format), str(dtype).removeprefix("torch."))
    x = x[:: max(x.size // count, 1)]
    parts = in_groups(x, format, anchored=True) if format in GROUPS else [x]
    return [tensor_of(part, dtype) for part in parts]


def check(
    x: Tensor, format: str, rounding: str, random_bits: int | None = None, *, flags: bool = True
) -> None:
    """Compare the value and the flag of every element with the reference."""
    seed = SEED if Rounding(rounding).is_stochastic else None
    got = lowprec.quantize(x, format, rounding=rounding, random_bits=random_bits, seed=seed)
    assert_same(got, expected(x, format, rounding, random_bits))
    if flags:
        words = None if seed is None else torch.tensor([seed - 2**64])
        fired = torch.ops.lowprec.overflowed(x, words, format, rounding, random_bits or 32)
        assert_same(fired, expected_overflow(x, format, rounding, random_bits))


def check_with_words(x: Tensor, format: str, rounding: str, random_bits: int = 32) -> None:
    """The same with one word for all elements, for words of every kind."""
    array = x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy()
    options = {"rounding": rounding, "carrier": str(x.dtype).removeprefix("torch.")}
    if Rounding(rounding).takes_random_bits:
        options["random_bits"] = random_bits
    for word in WORDS:
        words = np.full(array.shape, word, np.uint32)
        want = reference.quantize(array, format, words=words, **options)
        assert_same(with_word(x, format, rounding, word, random_bits), tensor_of(want, x.dtype))


def spread() -> list[tuple[str, torch.dtype, str]]:
    """Every kind of kernel once, each with another mode."""
    kinds = [(format, dtype) for dtype, formats in SPREAD.items() for format in formats]
    modes = list(Rounding)  # every fourth, so that neighbors differ in kind
    return [(*kind, str(modes[4 * turn % len(modes)])) for turn, kind in enumerate(kinds)]


def test_every_named_format_is_here_and_each_has_a_carrier() -> None:
    by_quotients = {name for name in NAMED if getattr(parse(name), "levels", ())}  # ops/test_scaled_exact.py
    assert set(NAMED) - by_quotients - {*ENDED} <= set(FORMATS)  # ops/test_listed.py
    assert all(holders(format) for format in FORMATS)
    assert all(set(formats) <= set(FORMATS) for formats in SPREAD.values())
    assert all(dtype in holders(format) for format, dtype, _ in spread())
    assert len({mode for _, _, mode in spread()}) == len(Rounding)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("format", ["e4m3fn", "e5m2"])
def test_every_mode(format: str, rounding: str) -> None:
    for x in hard_tensors(format, torch.float32, 300):
        check(x, format, rounding, flags=format == "e5m2" and rounding in ("nearest_odd", "up"))


@pytest.mark.parametrize(("format", "dtype", "rounding"), spread(), ids=str)
def test_every_kind_of_kernel(format: str, dtype: torch.dtype, rounding: str) -> None:
    for x in hard_tensors(format, dtype, 400):
        check(x, format, rounding, flags=False)


@pytest.mark.parametrize("format", GROUPS)
def test_every_way_to_form_groups(format: str) -> None:
    for x in islice(hard_tensors(format, torch.float32, 300), 4):
        check(x, format, "nearest_even", flags=format == "bfp8<exponent8>")


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [(torch.bfloat16, "down"), (torch.float16, "nearest_up"), (torch.float64, "stochastic_midpoint")],
    ids=str,
)
def test_groups_in_every_carrier(dtype: torch.dtype, rounding: str) -> None:
    for format in ("bfp8<group32>", "bfp5<exponent3>", "bfp8<channel1>", "bfp6<block2x3>"):
        for x in islice(hard_tensors(format, dtype, 200), 4):
            check(x, format, rounding, flags=False)


@pytest.mark.parametrize("rounding", ["stochastic", "stochastic_nearest"])
def test_chosen_words(rounding: str) -> None:
    for random_bits in (32, 7, 1):
        for x in hard_tensors("e5m2", torch.float32, 200):
            check_with_words(x, "e5m2", rounding, random_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("rounding", "random_bits"), MODES)
@pytest.mark.parametrize(("format", "dtype"), [(f, d) for f in FORMATS for d in holders(f)], ids=str)
def test_all_hard_values(format: str, dtype: torch.dtype, rounding: str, random_bits: int | None) -> None:
    for x in hard_tensors(format, dtype):  # test_decisions.py has all flags
        check(x, format, rounding, random_bits, flags=False)
        if Rounding(rounding).is_stochastic and random_bits != 1 and x.numel() < 3000:
            check_with_words(x.contiguous(), format, rounding, random_bits or 32)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("rounding", "random_bits"), MODES)
@pytest.mark.parametrize("format", NAMED)
@pytest.mark.parametrize("numbers", [all_bfloat16, all_float16])
def test_all_numbers_of_sixteen_bits(
    numbers: object, format: str, rounding: str, random_bits: int | None
) -> None:
    x = numbers()
    other = torch.float16 if x.dtype == np.float32 else torch.bfloat16
    dtypes = [dtype for dtype in holders(format) if dtype != other]
    if format in GROUPS:  # whose least step is the carrier's
        for part in in_groups(x, format, anchored=False):
            for dtype in dtypes:
                check(tensor_of(part, dtype), format, rounding, random_bits)
        return
    want = expected(tensor_of(x, torch.float64), format, rounding, random_bits)
    fired = expected_overflow(tensor_of(x, torch.float64), format, rounding, random_bits)
    seed = SEED if Rounding(rounding).is_stochastic else None
    words = None if seed is None else torch.tensor([seed - 2**64])
    for dtype in dtypes:
        tensor = tensor_of(x, dtype)
        got = lowprec.quantize(tensor, format, rounding=rounding, random_bits=random_bits, seed=seed)
        assert_same(got, want.to(dtype))
        flags = torch.ops.lowprec.overflowed(tensor, words, format, rounding, random_bits or 32)
        assert_same(flags, fired)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("format", ["binary16", "bfloat16", "fixed16f8", "binary16<nosubnormals>"])
def test_the_neighbors_of_all_sixteen_bit_codes(format: str, rounding: str) -> None:
    """hard_values has those of every narrower code."""
    values = parse(format).values().astype(np.float32)
    around = [np.nextafter(values, np.float32(end)) for end in (-np.inf, np.inf)]
    check(torch.from_numpy(np.concatenate([values, *around])), format, rounding)
