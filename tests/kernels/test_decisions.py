"""The decisions, before any compiler sees them, equal the reference: every format, mode and carrier."""

from collections import Counter
from functools import lru_cache
from types import FunctionType

import numpy as np
import numpy.typing as npt
import pytest
from comparison import assert_same_bits
from decisions import decided
from hard_formats import ELEMENTWISE, FORMATS, GROUPS
from hard_inputs import anchor, hard_values, tipping_number

from lowprec import reference
from lowprec.formats import FixedPoint, FloatingPoint, GroupedFormat, PerTensor, parse
from lowprec.formats.carriers import CARRIERS
from lowprec.kernels.numbers import MODES
from lowprec.kernels.scalar import ABOVE, PLAIN
from lowprec.kernels.specialize import DECISIONS, compiled_with, specialized
from lowprec.modes import Rounding

ALL_ONES = 2**32 - 1
STOCHASTIC = [mode for mode in Rounding if mode.is_stochastic]
ONE_GROUP = [name for name in GROUPS if parse(name).granularity == PerTensor()]
PAIRS = [
    (format, carrier.name)
    for format in [*ELEMENTWISE, *ONE_GROUP]
    for carrier in CARRIERS.values()
    if parse(format).missing_in(carrier) is None
]


def check(
    x: npt.NDArray[np.floating],
    carrier: str,
    format: FloatingPoint | FixedPoint | GroupedFormat,
    rounding: Rounding,
    words: npt.NDArray[np.uint32] | None = None,
    random_bits: int = 32,
) -> None:
    """Compare value and flag of every element with the reference."""
    got, fired = decided(
        x, carrier, format, rounding, np.zeros(x.shape, np.uint32) if words is None else words, random_bits
    )
    noise = {} if words is None else {"words": words}
    if rounding.takes_random_bits:
        noise["random_bits"] = random_bits
    options = {"rounding": rounding, "carrier": carrier, **noise}
    assert_same_bits(got, reference.quantize(x, format, **options))
    np.testing.assert_array_equal(fired, reference.overflowed(x, format, **options))


@lru_cache(maxsize=2)
def _hard_values(format: str, carrier: str) -> npt.NDArray[np.floating]:
    """Those of a format, remembered for the next mode."""
    return hard_values(parse(format), carrier)


def inputs(format: str, carrier: str, count: int, turn: int) -> npt.NDArray[np.floating]:
    """About ``count`` hard values; every turn other ones. With groups, also the anchor of one."""
    x = _hard_values(format, carrier)
    stride = max(x.size // count, 1)
    x = x[turn % stride :: stride]
    return x if format in ELEMENTWISE else np.append(x, x.dtype.type(anchor(parse(format))))


@pytest.mark.parametrize(("format", "carrier"), PAIRS)
def test_every_format_mode_and_carrier(format: str, carrier: str) -> None:
    parsed = parse(format)
    for turn, rounding in enumerate(Rounding):
        x = inputs(format, carrier, 8, 5 * turn)
        if not rounding.is_stochastic:
            check(x, carrier, parsed, rounding)
            continue
        words = np.resize(np.uint32([0, ALL_ONES, 1 << 31, (1 << 31) - 1, 0x9E3779B9, 1]), x.shape)
        for random_bits in (32, 7) if rounding.takes_random_bits else (32,):
            check(x, carrier, parsed, rounding, words, random_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("format", "carrier"), PAIRS)
def test_many_more_values(format: str, carrier: str) -> None:
    parsed = parse(format)
    for rounding in Rounding:
        x = inputs(format, carrier, 700, 0)
        words = np.resize(np.uint32([0, ALL_ONES, 1 << 31, (1 << 31) - 1, 0x9E3779B9]), x.shape)
        check(x, carrier, parsed, rounding, words if rounding.is_stochastic else None)


@pytest.mark.parametrize("rounding", STOCHASTIC)
@pytest.mark.parametrize(
    "format", ["e4m3fn", "e3m2<nosubnormals>", "fixed8f4", "bfloat16<bias133>", "binary16"]
)
@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_at_the_word_that_tips_the_balance(carrier: str, format: str, rounding: Rounding) -> None:
    parsed = parse(format)
    values = inputs(format, carrier, 40, 3)
    values = values[np.isfinite(values)]
    for random_bits in (32, 31, 8, 2, 1) if rounding.takes_random_bits else (32,):
        x, words = [], []
        for value in values:
            first = tipping_number(float(value), parsed, rounding, random_bits)
            below = (1 << (32 - random_bits)) - 1  # bits that are not looked at
            for number in (first - 1, first):
                if 0 <= number < 1 << random_bits:
                    x += [value, value]
                    words += [number << (32 - random_bits), (number << (32 - random_bits)) + below]
        check(np.array(x, carrier), carrier, parsed, rounding, np.array(words, np.uint32), random_bits)


def test_the_formats_are_called_by_their_names() -> None:
    assert {str(parse(name)) for name in FORMATS} == set(FORMATS)
    assert len(set(FORMATS)) == len(FORMATS)


def test_no_two_decisions_have_one_name() -> None:
    """They share one namespace, in which the later one would stand for both."""
    names = Counter(
        name
        for module in DECISIONS
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__
    )
    assert names["quantize_bits"] == 1
    assert [name for name, count in names.items() if count > 1] == []


def test_loops_share_the_decisions_that_do_not_differ() -> None:
    up, down, wide = (
        specialized(carrier, MODES[Rounding(mode)], ABOVE, PLAIN)
        for carrier, mode in (("float32", "up"), ("float32", "down"), ("float64", "up"))
    )
    assert up["low_bits"] is down["low_bits"]
    assert up["low_bits"] is not wide["low_bits"]
    for name in ("increment", "round_magnitude", "quantize_bits"):  # the mode is only the first one's
        assert up[name] is not down[name]


def test_equal_constants_of_different_types_differ() -> None:
    def one():
        return ONE  # noqa: F821

    def made(**names):
        return compiled_with(one, names, plain)

    def plain(function):
        return function

    narrow, wide = made(ONE=np.uint32(1)), made(ONE=np.uint64(1))
    assert (type(narrow()), type(wide())) == (np.uint32, np.uint64)
    assert made(ONE=np.uint32(1), other=0) is narrow  # which looks up no other
