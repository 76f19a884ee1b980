"""Formats of one's own by the reference: specials, other boundaries, names; every error."""

import copy
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from comparison import assert_same_bits

from lowprec import finfo, reference
from lowprec.formats import FixedPoint, TabledFormat, parse, register, resolve
from lowprec.modes import Rounding

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Own(TabledFormat):
    """Any list of values."""

    listed: tuple[float, ...]
    saturates: str = "saturate"
    infinity_is_nan: bool = False

    @property
    def overflow(self) -> str:
        return self.saturates

    def code_values(self) -> Sequence[float]:
        return self.listed


@dataclass(frozen=True)
class Greedy(TabledFormat):
    """Boundaries that are no midpoints, and ties that go to the values below 3."""

    def code_values(self) -> Sequence[float]:
        return [0, 1, 2, 4]

    def boundaries(self) -> Sequence[Fraction]:
        return [Fraction(1, 4), Fraction(5, 4), Fraction(9, 4)]

    def is_even(self, index: int) -> bool:
        return index < 3

    def __str__(self) -> str:
        return "greedy"


SPECIAL = Own((NAN, 1.5, -0.0, 0.0, INF, -INF, NAN, -7.0))


class TestSpecials:
    def test_codes(self) -> None:
        x = np.array([NAN, 1.5, -0.0, 0.0, INF, -INF, -7.0])
        assert reference.encode(x, SPECIAL).tolist() == [0, 1, 2, 3, 4, 5, 7]
        assert_same_bits(reference.decode(np.uint8(range(8)), SPECIAL, dtype="float64"), SPECIAL.listed)

    @pytest.mark.parametrize("mode", Rounding)
    def test_zeros_and_infinities(self, mode: Rounding) -> None:
        x = np.array([0.0, -0.0, INF, -INF, NAN, -0.01, 0.01])
        words = {"words": np.zeros(7, np.uint32)} if mode.is_stochastic else {}
        got = reference.quantize(x, SPECIAL, rounding=mode, **words)
        assert_same_bits(got[:5], [0.0, -0.0, INF, -INF, NAN])
        # Zero is the odd one of -7, 0 and 1.5.
        below = -7.0 if mode in ("away", "down") else -0.0
        above = 1.5 if mode in ("away", "up") else 0.0
        assert_same_bits(got[5:], [below, above])
        assert not reference.overflowed(x, SPECIAL, rounding=mode, **words).any()

    @pytest.mark.parametrize(
        ("format", "want"),
        [
            (SPECIAL, [INF, -INF]),
            (Own((0, 1, INF)), [INF, 0]),
            (Own((-2, 1, -INF, 0.5)), [1, -INF]),
            (Own((0, 1, INF, -INF), "saturate_all"), [1, 0]),
            (Own((0, 1, INF, -INF), infinity_is_nan=True), [NAN, NAN]),
            (Own((0, 1, -0.0)), [1, -0.0]),
            (Own((2, 3)), [3, 2]),
        ],
    )
    def test_infinite_inputs(self, format: Own, want: list[float]) -> None:
        x = np.array([INF, -INF])
        assert_same_bits(reference.quantize(x, format), want)
        assert reference.overflowed(x, format).tolist() == (~np.isinf(want)).tolist()

    def test_negative_numbers_that_become_zero(self) -> None:
        x = np.array([-0.1, -5.0, -0.0])
        assert_same_bits(reference.quantize(x, Own((0.0, -0.0, 1.0))), [-0.0, -0.0, -0.0])
        assert_same_bits(reference.quantize(x, Own((0.0, 1.0))), [0.0, 0.0, 0.0])

    def test_limits(self) -> None:
        info = finfo(SPECIAL)
        assert (info.bits, info.max, info.min, info.eps, info.tiny) == (3, 1.5, -7, 1.5, 1.5)
        assert info.has_infinity
        assert info.has_nan
        assert info.has_signed_zero
        assert SPECIAL.values().tolist() == [-7, 0, 1.5]
        assert [SPECIAL.contains(x) for x in (-7, -0.0, 0, 1.5, 1, INF)] == [True] * 4 + [False] * 2


class TestBoundaries:
    @pytest.mark.parametrize(
        ("mode", "want"),
        [
            ("nearest_even", [0, 0, 1, 1, 2, 2, 4]),
            ("nearest_odd", [0, 1, 1, 2, 2, 4, 4]),
            ("nearest_away", [0, 1, 1, 2, 2, 4, 4]),
            ("nearest_down", [0, 0, 1, 1, 2, 2, 4]),
            ("to_odd", [1, 1, 1, 2, 4, 4, 4]),
            ("down", [0, 0, 0, 1, 2, 2, 2]),
        ],
    )
    def test_nearest_modes_turn_at_them(self, mode: str, want: list[float]) -> None:
        x = np.array([0.2, 0.25, 0.3, 1.25, 2.2, 2.25, 2.3])
        assert reference.quantize(x, Greedy(), rounding=mode).tolist() == want

    def test_stochastic_modes_go_by_value(self) -> None:
        words = np.uint32([1, 2, 3]) << np.uint32(30)
        got = reference.quantize(np.full(3, 3.0), Greedy(), rounding="stochastic", random_bits=2, words=words)
        assert got.tolist() == [2, 4, 4]


class TestNames:
    def test_a_name_is_known_from_the_first_use_on(self) -> None:
        format = Own((0.0, 17.0))
        with pytest.raises(ValueError, match="must be a known name"):
            parse(str(format))
        assert resolve(format) is format
        assert parse(str(format)) == format
        assert reference.quantize(np.array([9.0]), str(format)).tolist() == [17]

    def test_register(self) -> None:
        register(Greedy())
        register(Greedy())  # the same again
        assert parse("greedy") == Greedy()
        assert pickle.loads(pickle.dumps(Greedy())) == copy.deepcopy(Greedy()) == Greedy()

    def test_what_is_refused(self) -> None:
        @dataclass(frozen=True)
        class Thief(TabledFormat):
            name: str
            top: float = 1.0

            def code_values(self) -> Sequence[float]:
                return [0, self.top]

            def __str__(self) -> str:
                return self.name

        with pytest.raises(TypeError, match=r"`format` must be a TabledFormat, got <class .*FixedPoint"):
            register(FixedPoint(8, 4))
        with pytest.raises(TypeError, match=r"`format` must be hashable, got .* Make its class a frozen"):
            register(Thief(["no string"]))
        register(Thief("thief"))
        remedy = "Give it a __str__ that says what sets it apart"
        with pytest.raises(ValueError, match=f"a name that no other format has, got 'thief'. {remedy}"):
            register(Thief("thief", 2.0))
        for name in ("e4m3fn", "posit8", "binary", "codebook<1,2>"):
            with pytest.raises(
                ValueError, match=f"`format` must have a name that means nothing yet, got '{name}"
            ):
                register(Thief(name))


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (Own((1.0,)), "`code_values` must hold 2 to 65536 values, got 1"),
        (Own((1.0, 2.0, 1.0)), "`code_values` must hold each value once, got 1.0"),
        (Own((1.0, 0.0, -0.0, -0.0)), "`code_values` must hold each value once, got -0.0"),
        (Own((1.0, INF, INF)), "`code_values` must hold each value once, got inf"),
        (Own((1.0, -INF, -INF)), "`code_values` must hold each value once, got -inf"),
        (Own((1.0, -0.0)), "`code_values` must hold zero where they hold -0.0, got -0.0"),
        (Own((NAN, INF)), r"`code_values` must hold a positive finite value, got \(\)"),
        (Own((-1.0, -2.0)), r"`code_values` must hold a positive finite value, got \(-1.0,\)"),
        (Own((0.0, 1e-300)), r"`code_values` must have magnitudes between 2\^-\d+ and 2\^\d+, got 1e-300"),
        (Own((0.0, 1.0), "infinity"), "`overflow` must be 'saturate' or 'saturate_all', got 'infinity'"),
    ],
)
def test_lists_that_are_no_format(format: Own, message: str) -> None:
    for use in (register, finfo, lambda f: reference.quantize(np.ones(1), f), lambda f: f.values()):
        with pytest.raises(ValueError, match=message):
            use(format)


def test_a_list_has_to_be_given() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TabledFormat()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (("a", 1.0), "`code_values` must hold real numbers, got 'a'"),
        ((1j, 1.0), "`code_values` must hold real numbers, got 1j"),
        (None, "`code_values` must give a sequence of numbers, got None"),
        ("01", "`code_values` must give a sequence of numbers, got '01'"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(listed, message):
    with pytest.raises(TypeError, match=message):
        _ = Own(listed).max
