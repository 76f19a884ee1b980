"""One test for each kind of mistake that other simulators make, by the letters of ``peer_cases.py``.

The state of optimizers, j, is in ``tests/optim``.
"""

import numpy as np
import pytest
import torch
from comparison import words_like
from decisions import decided
from hard_formats import ELEMENTWISE, MX
from hard_inputs import hard_values
from oracle import SEED, STOCHASTIC, assert_same, tensor_of, with_word, words_for
from peer_cases import CLASSES, PEER_CASES, PeerCase
from torch import Tensor

import lowprec
from lowprec import FixedPoint, FloatingPoint, reference
from lowprec.formats import NAMED, BlockFloatingPoint, parse
from lowprec.modes import Rounding


def check(case: PeerCase) -> None:
    """Run a case, with its word or with noise of several seeds."""
    x, want = torch.from_numpy(case.input), torch.from_numpy(case.want)
    if case.word is not None:
        got = with_word(x, case.format, case.rounding, case.word, case.random_bits or 32)
        assert_same(got, want)
        return
    for seed in (0, 1, -1) if Rounding(case.rounding).is_stochastic else (None,):
        assert_same(lowprec.quantize(x, case.format, rounding=case.rounding, seed=seed), want)


def cases(letter: str) -> pytest.MarkDecorator:
    """A test for every case of a class."""
    chosen = [case for case in PEER_CASES if case.name.startswith(f"{letter} ")]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


def test_every_case_belongs_to_a_class() -> None:
    assert {case.name.partition(" ")[0] for case in PEER_CASES} == set(CLASSES)


@cases("a")
def test_a_the_exponent_by_a_logarithm(case: PeerCase) -> None:
    check(case)


@cases("b")
def test_b_ties_by_additions(case: PeerCase) -> None:
    check(case)


@cases("c")
def test_c_subnormals_by_shifting(case: PeerCase) -> None:
    check(case)


@cases("d")
def test_d_special_values(case: PeerCase) -> None:
    check(case)


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name in NAMED and parse(name).bits <= 8])
def test_d_codes_that_do_not_come_back(name: str) -> None:
    """Through values: decoding a code, and quantizing and encoding what it says, gives the code."""
    codes = torch.arange(1 << parse(name).bits, dtype=torch.uint8)
    values = lowprec.decode(codes, name)
    want = reference.decode(codes.numpy(), name)
    assert_same(values, torch.from_numpy(want))
    numbers = ~values.isnan()
    assert torch.equal(lowprec.encode(values[numbers], name), codes[numbers])


@pytest.mark.parametrize("name", MX)
def test_d_codes_of_groups_that_do_not_come_back(name: str) -> None:
    """The same beside the largest value, which sets the scale."""
    format = parse(name)
    every = torch.arange(1 << format.bits, dtype=torch.uint8)
    largest = torch.full_like(every, reference.code_of(format.max, format.in_group(0)))
    codes = torch.stack([every, largest], 1)
    scales = lowprec.encode(torch.full(codes.shape, format.max), name)[1]
    values = lowprec.decode(codes, name, scales=scales)
    first = values[:, 0]
    known = (first.abs() <= format.max) | first.isinf()  # no NaN, nor what a symmetric element leaves out
    assert known.sum() >= len(every) - 6
    back, of_groups = lowprec.encode(values[known], name)
    assert torch.equal(back, codes[known])
    assert_same(of_groups, scales[known])


@cases("e")
def test_e_overflow_before_rounding(case: PeerCase) -> None:
    check(case)


@pytest.mark.parametrize("rounding", ["nearest_even", "up", "stochastic_nearest"])
@pytest.mark.parametrize("format", ["e4m3fn", "e3m2<nosubnormals>", "fixed8f4<wrap>"])
def test_f_two_devices_that_differ(format: str, rounding: str) -> None:
    """All devices share one source of every decision; here Python runs it, and the compiler's code."""
    x = hard_values(parse(format))
    x = x[:: x.size // 100]
    word = 0xC0FFEE00
    want, _ = decided(x, "float32", parse(format), Rounding(rounding), np.full(x.shape, word, np.uint32))
    assert_same(with_word(torch.from_numpy(x), format, rounding, word), torch.from_numpy(want))


class TestGNoise:
    """Private, shared or unrepeatable noise."""

    X = torch.full((5000,), 1.03)

    def rounded(self, **options: object) -> Tensor:
        """The tensor under stochastic rounding."""
        return lowprec.quantize(self.X, "e4m3fn", rounding=STOCHASTIC, **options)

    def test_torch_manual_seed_repeats_it(self) -> None:
        torch.manual_seed(3)
        first, second = self.rounded(), self.rounded()
        torch.manual_seed(3)
        assert_same(self.rounded(), first)
        assert_same(self.rounded(), second)
        assert not torch.equal(first, second)

    def test_a_generator_is_honored(self) -> None:
        first = self.rounded(generator=torch.Generator().manual_seed(3))
        assert_same(self.rounded(generator=torch.Generator().manual_seed(3)), first)
        assert not torch.equal(self.rounded(generator=torch.Generator().manual_seed(4)), first)

    def test_a_seed_says_which_words(self) -> None:
        words = words_for(tuple(self.X.shape))
        want = reference.quantize(self.X.numpy(), "e4m3fn", rounding=STOCHASTIC, words=words)
        assert_same(self.rounded(seed=SEED), torch.from_numpy(want))


@pytest.mark.slow
def test_h_sizes_in_thirty_two_bits() -> None:
    """2^31 + 1000 elements of bfloat16, in place: 4 GiB."""
    size = 2**31 + 1000
    x = torch.full((size,), 1.03125, dtype=torch.bfloat16)  # a quarter of the way from 1 to 1.125
    x[-1] = 500.0
    got = lowprec.quantize(x, "e4m3fn", rounding=STOCHASTIC, seed=SEED, out=x)
    assert got[-1] == 448
    for first in (0, 2**30 - 50, 2**31 - 50, size - 101):
        words = reference.random_words(SEED, 0, (100,), offset=first)
        numbers = np.full(100, 1.03125, np.float32)
        want = reference.quantize(numbers, "e4m3fn", rounding=STOCHASTIC, words=words, carrier="bfloat16")
        assert_same(got[first : first + 100], tensor_of(want, torch.bfloat16))
    went_up = sum(int((part > 1).sum()) for part in got[:-1].split(1 << 26))
    assert abs(went_up - (size - 1) / 4) < 6 * (size * 3 / 16) ** 0.5


@cases("i")
def test_i_rounded_twice(case: PeerCase) -> None:
    check(case)


@cases("k")
def test_k_an_ignored_option(case: PeerCase) -> None:
    check(case)


@pytest.mark.parametrize(
    ("one", "other", "x"),
    [
        (FloatingPoint(4, 3), FloatingPoint(4, 3, bias=6), 300.0),
        (FloatingPoint(4, 3), FloatingPoint(4, 3, subnormals=False), 0.01),
        (FloatingPoint(4, 3), FloatingPoint(4, 3, specials="fn"), 300.0),
        (FloatingPoint(4, 3, specials="fn"), FloatingPoint(4, 3, specials="finite"), 500.0),
        (FloatingPoint(4, 3, specials="finite"), FloatingPoint(4, 3, specials="fnuz"), 400.0),
        (FloatingPoint(4, 3), FloatingPoint(4, 3, overflow="saturate"), 300.0),
        (FloatingPoint(4, 3, overflow="saturate"), FloatingPoint(4, 3, overflow="saturate_all"), np.inf),
        (FixedPoint(8, 4), FixedPoint(8, 4, signed=False), -1.0),
        (FixedPoint(8, 4), FixedPoint(8, 4, symmetric=True), -9.0),
        (FixedPoint(8, 4), FixedPoint(8, 4, overflow="wrap"), 9.0),
        (FixedPoint(8, 4), FixedPoint(None, 4, overflow="unbounded"), 9.0),
        (BlockFloatingPoint(4), BlockFloatingPoint(4, exponent_bits=3), 100.0),
    ],
    ids=str,
)
def test_k_every_option_of_a_format_has_an_effect(one: object, other: object, x: float) -> None:
    tensor = torch.tensor([x])
    assert lowprec.quantize(tensor, one).item() != lowprec.quantize(tensor, other).item()


def test_k_every_mode_is_another() -> None:
    """No two modes agree on values of both signs; the stochastic ones with few bits of any word."""
    x = np.arange(-200, 200, dtype=np.float32) / 64
    words = words_like(x)
    results = {decided(x, "float32", parse("e5m2"), mode, words, 2)[0].tobytes() for mode in Rounding}
    assert len(results) == len(Rounding)
