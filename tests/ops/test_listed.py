"""Codebooks, logarithmic numbers, posits and a format of one's own: kernels equal the definition.

Deterministic modes of listed formats share one compiled loop for each carrier, so all of them run here.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hard_inputs import hard_values
from oracle import SEED, assert_same, expected, expected_overflow, holders, tensor_of, with_word

import lowprec
from lowprec import reference
from lowprec.formats import Codebook, Posit, TabledFormat, parse, register
from lowprec.kernels import cpu
from lowprec.kernels.leading import index_of
from lowprec.kernels.specialize import WIDTHS
from lowprec.kernels.tables import LISTED, MOST_ROOMS, SEARCHED
from lowprec.kernels.tabulate import tabulate
from lowprec.modes import Rounding

DETERMINISTIC = [str(mode) for mode in Rounding if not mode.is_stochastic]
RANDOM = np.random.default_rng(3)


@dataclass(frozen=True)
class Signed(TabledFormat):
    """A format with everything: both zeros, both infinities, NaN, an uneven list, codes in no order."""

    overflow = "saturate_all"

    def code_values(self) -> list[float]:
        """Eleven codes."""
        inf, nan = float("inf"), float("nan")
        return [nan, 4.0, -0.0, 0.0, -inf, 0.25, -1.5, inf, 1.0, nan, -0.25]

    def __str__(self) -> str:
        """A name."""
        return "signed-for-tests"


@dataclass(frozen=True)
class Keeping(Signed):
    """The same, where infinities stay and ties go to other values."""

    overflow = "saturate"

    def is_even(self, index: int) -> bool:
        """Pairs."""
        return index // 2 % 2 == 0

    def boundaries(self) -> list:
        """A third of the way."""
        exact = self.table.exact
        return [(2 * low + high) / 3 for low, high in pairwise(exact)]

    def __str__(self) -> str:
        """A name."""
        return "keeping-for-tests"


register(Signed())
register(Keeping())

CROWDED = Codebook([0.0, *(1 + k * 2.0**-23 for k in range(40)), 3.0, -2.0])
MANY = Codebook(sorted({float(v) for v in RANDOM.standard_normal(5000).astype(np.float32)}))
FORMATS = [
    "binary", "ternary", "codebook<0,0.25,-3>", "codebook<-3,0.5>", "codebook<1,2,4>", "codebook<-2,-1,3>",
    str(CROWDED), "codebook<1.401298464324817e-45,7.346839692639297e-40,-2.802596928649634e-45>",
    "log4f3", "log3f0", "log2f4",
    "signed-for-tests", "keeping-for-tests",
]  # fmt: skip
POSITS = ["posit2", "posit3es0", "posit6es3", "posit8", "posit8es0", "posit16", "posit28", "posit32"]


def short(name: str) -> str:
    """An identifier for pytest."""
    return name[:40]


def inputs(name: str, dtype: torch.dtype, count: int = 600) -> torch.Tensor:
    """About so many hard values, specials among them."""
    x = hard_values(parse(name), str(dtype).removeprefix("torch."))
    kept = x[:: max(x.size // count, 1)]
    specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30], x.dtype)
    return tensor_of(np.concatenate([kept, specials]), dtype)


def cases(names: list[str]) -> list:
    """Formats, each in the carriers that hold it."""
    pairs = [(name, dtype) for name in names for dtype in holders(name)]
    return [pytest.param(name, dtype, id=f"{short(name)}-{dtype}") for name, dtype in pairs]


@pytest.mark.parametrize(("name", "dtype"), cases(FORMATS))
def test_every_deterministic_mode_is_the_definition(name, dtype):
    x = inputs(name, dtype)
    for rounding in DETERMINISTIC:
        assert_same(lowprec.quantize(x, name, rounding=rounding), expected(x, name, rounding))


@pytest.mark.parametrize("rounding", [str(mode) for mode in Rounding if mode.is_stochastic])
@pytest.mark.parametrize("name", [*FORMATS, "posit6es3", "posit8", "posit16"], ids=short)
def test_every_stochastic_mode_is_the_definition(name, rounding):
    x = inputs(name, torch.float32, 200)
    mode = Rounding(rounding)
    for bits in (32, 3, 1) if mode.takes_random_bits else (32,):
        for word in (0, 2**31 - 1, 2**31, 0x9E3779B9, 2**32 - 1):
            words = np.full(x.shape, word, np.uint32)
            wanted = reference.quantize(
                x.numpy(), name, rounding=rounding, words=words,
                random_bits=bits if mode.takes_random_bits else None,
            )  # fmt: skip
            assert_same(with_word(x, name, rounding, word, bits), torch.from_numpy(wanted))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["codebook<0,0.25,-3>", "log2f4", "posit8es0", "binary"])
def test_noise_in_other_carriers(name, dtype):
    x = inputs(name, dtype, 200)
    for word in (0, 2**31, 0x9E3779B9, 2**32 - 1):
        words = np.full(x.shape, word, np.uint32)
        carrier = str(dtype).removeprefix("torch.")
        array = x.float().numpy() if dtype == torch.bfloat16 else x.numpy()
        wanted = reference.quantize(array, name, rounding="stochastic", words=words, carrier=carrier)
        assert_same(with_word(x, name, "stochastic", word), torch.from_numpy(wanted).to(dtype))


def test_all_random_words_of_eight_bits():
    x = torch.linspace(-4, 5, 97)
    for name in ("codebook<0,0.25,-3>", "binary", "posit6es3"):
        outcomes = torch.stack([with_word(x, name, "stochastic", n << 24, 8) for n in range(256)])
        wanted = [
            reference.quantize(
                x.numpy(), name, rounding="stochastic", random_bits=8,
                words=np.full(x.shape, n << 24, np.uint32),
            )
            for n in range(256)
        ]  # fmt: skip
        assert_same(outcomes, torch.from_numpy(np.stack(wanted)))


@pytest.mark.parametrize(("name", "dtype"), cases(POSITS))
def test_posits_are_the_definition(name, dtype):
    x = inputs(name, dtype, 400)
    for rounding in ("nearest_even", "toward_zero", "up"):
        assert_same(lowprec.quantize(x, name, rounding=rounding), expected(x, name, rounding))


@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_every_mode_of_a_posit_is_the_definition(rounding):
    for name in ("posit6es3", "posit8", "posit16"):
        x = inputs(name, torch.float32)
        assert_same(lowprec.quantize(x, name, rounding=rounding), expected(x, name, rounding))


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "up", "down", "stochastic"])
def test_where_overflow_fires(rounding):
    for name in (*FORMATS, "posit8"):
        x = inputs(name, torch.float32, 200)
        got = with_word(x, name, rounding, 0x9E3779B9, kind=cpu.FLAGS)
        assert_same(got, expected_overflow(x, name, rounding))


@pytest.mark.parametrize("name", [*FORMATS, *POSITS], ids=short)
def test_codes_are_those_of_the_definition_and_decode_to_their_values(name):
    for dtype in holders(name):
        x = inputs(name, dtype, 300)
        x = x if parse(name).has_nan else x[~x.isnan()]
        codes = lowprec.encode(x, name)
        carrier = str(dtype).removeprefix("torch.")
        wanted = reference.encode(
            x.float().numpy() if dtype == torch.bfloat16 else x.numpy(), name, carrier=carrier
        )
        assert_same(codes, torch.from_numpy(wanted))
        assert_same(lowprec.decode(codes, name, dtype=dtype), lowprec.quantize(x, name))


@pytest.mark.parametrize("name", ["posit8", "log4f3", "signed-for-tests", "codebook<0,0.25,-3>", "posit16"])
def test_every_code_has_the_value_of_the_definition(name):
    format = parse(name)
    count = format.table.codes_listed if isinstance(format, TabledFormat) else 1 << format.bits
    codes = np.arange(count).astype(np.uint8 if format.bits <= 8 else np.uint16)
    got = lowprec.decode(torch.from_numpy(codes), name)
    assert_same(got, torch.from_numpy(reference.decode(codes, name)))


def test_a_code_that_stands_for_nothing_is_refused():
    with pytest.raises(ValueError, match="`codes` must lie below 3 for ternary, got 3"):
        lowprec.decode(torch.tensor([0, 3], dtype=torch.uint8), "ternary")
    with pytest.raises(ValueError, match=r"`codes` must lie below 2\^6 for posit6es3, got 64"):
        lowprec.decode(torch.tensor([64], dtype=torch.uint8), "posit6es3")


def test_nan_has_no_code_in_a_codebook():
    with pytest.raises(ValueError, match="ternary has no code for it"):
        lowprec.encode(torch.tensor([float("nan")]), "ternary")


def test_noise_that_float64_does_not_decide_is_refused():
    wide = Codebook([0.1, 0.2, 1e-20])
    x = torch.zeros(2, dtype=torch.float64)
    assert_same(lowprec.quantize(x, wide), torch.full((2,), 1e-20, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"`rounding` must be deterministic for codebook<0.1,0.2,1e-20> in"):
        lowprec.quantize(x, wide, rounding="stochastic", seed=1)
    x = torch.tensor([0.15, 0.1, 0.3, -1.0], dtype=torch.float64)  # a coin needs no distance
    assert_same(
        lowprec.quantize(x, wide, rounding="stochastic_equal", seed=SEED),
        expected(x, str(wide), "stochastic_equal"),
    )
    with pytest.raises(ValueError, match="`format` must be exact in the carrier float32"):
        lowprec.quantize(x.float(), wide)
    long = Codebook([0.7 * 3.0**-k for k in range(40)])
    with pytest.raises(ValueError, match=r"for codebook<0\.7,.{40,50}… in float64"):
        lowprec.quantize(x, long, rounding="stochastic", seed=1)


def test_flushing_subnormals_changes_nothing():
    for name in (
        "codebook<1.401298464324817e-45,7.346839692639297e-40,-2.802596928649634e-45>",
        "codebook<0,0.25,-3>",
        "binary",
        "posit8",
    ):
        x = inputs(name, torch.float32, 300)
        for rounding in ("nearest_even", "stochastic"):
            plain = with_word(x, name, rounding, 0x9E3779B9)
            if not torch.set_flush_denormal(True):
                pytest.skip("this processor does not flush")
            try:
                flushed = with_word(x, name, rounding, 0x9E3779B9)
            finally:
                torch.set_flush_denormal(False)
            assert_same(flushed, plain)


class TestTables:
    """Where the search for a threshold begins."""

    @pytest.mark.parametrize("carrier", ["float32", "bfloat16"])
    def test_every_depth_is_met(self, carrier):
        depths = {
            tabulate(parse(name), Rounding.NEAREST_EVEN, 32, carrier)[1]
            for name in FORMATS
            if parse(name).missing_in(lowprec.formats.carriers.CARRIERS[carrier]) is None
        }
        assert min(depths) == LISTED + 1
        assert all(depth <= LISTED + MOST_ROOMS or depth > SEARCHED for depth in depths)

    def test_many_values_are_searched(self):
        _, depth = tabulate(MANY, Rounding.NEAREST_EVEN, 32, "float32")
        assert depth > LISTED + 1
        x = torch.from_numpy(RANDOM.standard_normal(4000).astype(np.float32))
        assert_same(lowprec.quantize(x, MANY), expected(x, MANY))
        assert_same(lowprec.quantize(x, MANY, rounding="to_odd"), expected(x, MANY, "to_odd"))

    def test_crowds_beyond_any_room_are_searched(self):
        ulps = Codebook(
            [float(v) for v in (np.arange(1 << 15, dtype=np.uint32) + 0x3F800000).view(np.float32)]
        )
        thin = Codebook([*ulps.entries[:2000], 2.0**100, 2.0**-100])
        _, depth = tabulate(thin, Rounding.NEAREST_EVEN, 32, "float32")
        assert depth > SEARCHED
        x = tensor_of(hard_values(thin)[::7], torch.float32)
        assert_same(lowprec.quantize(x, thin), expected(x, thin))

    @pytest.mark.parametrize("carrier", ["float32", "float64", "bfloat16"])
    def test_a_lookup_counts_what_a_magnitude_reaches(self, carrier):
        bits = WIDTHS[carrier].place
        for size in (0, 1, 5, 300):
            high = np.unique(RANDOM.integers(1, 1 << (bits - 3), size, dtype=np.uint64))
            low = np.unique(RANDOM.integers(1, 1 << (bits - 3), size // 2, dtype=np.uint64))
            index = index_of([high, low], carrier)
            places = index.aligned([np.arange(high.size + 1), np.arange(low.size + 1)], np.int64)
            assert places.size >= high.size + low.size + 2
            assert {*range(high.size + 1)} <= {*places.tolist()}


def test_threads_and_strides_change_no_bit():
    x = torch.randn(700, 300)
    for name in ("posit8", "log4f3"):
        for rounding in ("nearest_even", "stochastic"):
            noise = {"seed": 5} if rounding == "stochastic" else {}
            want = lowprec.quantize(x, name, rounding=rounding, **noise)
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                assert_same(lowprec.quantize(x, name, rounding=rounding, **noise), want)
            finally:
                torch.set_num_threads(before)
            turned = x.t().contiguous().t()
            assert_same(lowprec.quantize(turned, name, rounding=rounding, **noise).contiguous(), want)


def test_a_posit_with_all_its_values_is_a_codebook_but_for_its_boundaries():
    book = Codebook(Posit(8).values())
    x = torch.from_numpy(RANDOM.standard_normal(3000).astype(np.float32) * 30)
    for rounding in ("toward_zero", "up", "away"):
        got = lowprec.quantize(x, "posit8", rounding=rounding)
        assert_same(got, lowprec.quantize(x, book, rounding=rounding))
