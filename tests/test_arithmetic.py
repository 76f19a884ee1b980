"""Arithmetic as a value: what it accepts, what it refuses, how it travels."""

import pickle

import numpy as np
import pytest

from lowprec import Arithmetic, Operands, Rule, Scheme
from lowprec.arithmetic import CarrierArithmetic
from lowprec.formats import FixedPoint, FloatingPoint
from lowprec.reference import product

SAMPLES = [
    Arithmetic("e4m3fn"),
    Arithmetic(FloatingPoint(6, 9), chunk=64),
    Arithmetic("bfloat16", multiply="e4m3fn", multiply_rounding="stochastic", random_bits=7),
    Arithmetic("fixed16f8<wrap>", rounding="toward_zero", order="pairwise"),
    Arithmetic("binary16", compensation="kahan", chunk=8, chunk_accumulate="binary32"),
    Arithmetic("binary32", rounding="stochastic", random_bits=27, multiply="binary32"),
    Arithmetic("exact"),
    Arithmetic("exact", rounding="stochastic", multiply="e5m2", chunk=8, chunk_accumulate="binary32"),
]


@pytest.mark.parametrize("arithmetic", SAMPLES, ids=lambda a: a.describe())
def test_an_arithmetic_is_a_value(arithmetic: Arithmetic) -> None:
    """Hashable, picklable, and read back from plain values and TOML."""
    again = Arithmetic.from_value(arithmetic.to_value())
    assert again == arithmetic
    assert hash(again) == hash(arithmetic)
    assert pickle.loads(pickle.dumps(arithmetic)) == arithmetic
    scheme = Scheme(
        arithmetic=arithmetic,
        grad_input=Operands(arithmetic="carrier"),
        grad_weight=Operands(arithmetic=arithmetic, error="e5m2"),
        rules=[Rule(":first", {"arithmetic": None}), Rule(":last", {"arithmetic": "binary32"})],
    )
    assert Scheme.from_dict(scheme.to_dict()) == scheme


def test_a_scheme_with_arithmetics_is_read_from_toml(tmp_path) -> None:
    """The named parts as inline tables."""
    scheme = Scheme(input="e4m3fn", arithmetic=SAMPLES[2], grad_input=Operands(arithmetic="carrier"))
    (tmp_path / "scheme.toml").write_text(scheme.to_toml(), encoding="utf-8")
    assert Scheme.from_toml(tmp_path / "scheme.toml") == scheme
    assert 'multiply_rounding = "stochastic"' in scheme.to_toml()


def test_a_name_stands_for_plain_sums() -> None:
    """A format is an arithmetic that rounds each sum to it; None means as accumulate."""
    assert Scheme(arithmetic="e4m3fn").arithmetic == Arithmetic("e4m3fn")
    assert Operands(arithmetic="carrier").arithmetic == CarrierArithmetic()
    assert Arithmetic("e4m3fn", multiply="e5m2", rounding="up").multiply_rounding == "up"
    assert Arithmetic("e4m3fn", chunk=4).chunk_accumulate == Arithmetic("e4m3fn").accumulate
    assert Arithmetic("e4m3fn").to_value() == "e4m3fn"
    assert (
        Arithmetic("e4m3fn", chunk=4).final == Arithmetic("e4m3fn", chunk=4, chunk_accumulate="e4m3fn").final
    )


def test_shifting_moves_every_format() -> None:
    """A product of numbers 2^3 times as large is 2^3 times as large, wherever it is rounded."""
    arithmetic = Arithmetic("e4m3fn", multiply="e5m2", chunk=3, chunk_accumulate="fixed12f4")
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((1, 3, 11), (1, 11, 2)))
    assert (product(a * 8, b, arithmetic) == product(a, b, arithmetic.shifted(3)) * 8).all()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("bfp8",), {}, "`accumulate` must be floating or fixed point"),
        (("e4m3fm",), {}, "an Arithmetic has as its `accumulate`: "),
        (("e4m3fn",), {"chunk": 8, "chunk_accumulate": 3.0}, "an Arithmetic has as its `chunk_accumulate`: "),
        (("e4m3fn",), {"multiply": "nf4"}, "`multiply` must be floating or fixed point"),
        (("fixed",), {}, "got 'fixed'"),
        (("binary64",), {}, "`accumulate` must have values between"),
        (("exact",), {"chunk": 4}, "be the format that exact sums of chunks are added in"),
        (("e4m3fn",), {"chunk": 4, "chunk_accumulate": "exact"}, "that exact sums of chunks are added in"),
        (("exact",), {"order": "pairwise"}, "be 'sequential', the default, where sums are exact"),
        (("exact",), {"compensation": "kahan"}, "be None where sums are exact"),
        (
            ("exact",),
            {"chunk": "block", "chunk_accumulate": "e4m3fn"},
            "be a number where sums are exact, not",
        ),
        (
            ("e4m3fn",),
            {"chunk": "block", "chunk_accumulate": "binary32", "rounding": "stochastic"},
            "have at most 19 significant bits under stochastic rounding of blocks",
        ),
        ((FixedPoint(None, 4, overflow="unbounded"),), {}, "`accumulate` must be bounded"),
        (("e4m3fn",), {"multiply_rounding": "up"}, "be None where products are exact"),
        (("e4m3fn",), {"chunk_accumulate": "e5m2"}, "be None without chunks"),
        (("e4m3fn",), {"chunk": 0}, "`chunk` must lie between 1"),
        (("e4m3fn",), {"order": "random"}, "`order` must be one of 'sequential', 'pairwise'"),
        (("e4m3fn",), {"compensation": "neumaier"}, "`compensation` must be one of None, 'kahan'"),
        (("e4m3fn",), {"compensation": "kahan", "order": "pairwise"}, "be None in pairwise sums"),
        (("e4m3fn",), {"random_bits": 3}, "`random_bits` must be None"),
        (("e4m3fn",), {"rounding": "sideways"}, "`rounding` must be a known name"),
        (
            ("binary32",),
            {"chunk": 2, "chunk_accumulate": "fixed24f10<wrap>"},
            "be given sums of chunks below",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: tuple, options: dict, message: str) -> None:
    """By the argument's name, with a remedy."""
    with pytest.raises((ValueError, TypeError), match=message):
        Arithmetic(*arguments, **options)


def test_plain_values_are_checked() -> None:
    """Unknown keys, a missing format."""
    with pytest.raises(ValueError, match="have no keys but"):
        Arithmetic.from_value({"accumulate": "e4m3fn", "width": 4}, "arithmetic")
    with pytest.raises(ValueError, match="name the format `accumulate`"):
        Arithmetic.from_value({"chunk": 4}, "arithmetic")
    with pytest.raises(ValueError, match=r"grad_input.arithmetic"):
        Scheme.from_dict({"grad_input": {"arithmetic": {"chunk": 4}}})


def test_the_definition_refuses_what_has_no_product() -> None:
    """Shapes, dtypes, carriers and seeds."""
    a, b = np.ones((1, 2, 3), np.float32), np.ones((1, 3, 4), np.float32)
    plain, drawn = Arithmetic("e4m3fn"), Arithmetic("e4m3fn", rounding="stochastic")
    with pytest.raises(TypeError, match="have the dtype of `a`"):
        product(a, b.astype(np.float64), plain)
    with pytest.raises(ValueError, match=r"`b` must have the shape \(1, 3"):
        product(a, a, plain)
    with pytest.raises(ValueError, match=r"`bias` must have the shape \(4,\)"):
        product(a, b, plain, bias=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="`seed` must be None unless a sum or product is stochastic, got 1"):
        product(a, b, plain, seed=1)
    with pytest.raises(
        ValueError, match="`seed` must be an integer where a sum or product is stochastic, got None"
    ):
        product(a, b, drawn)
    with pytest.raises(ValueError, match="be exact in the carrier float16"):
        product(a.astype(np.float16), b.astype(np.float16), Arithmetic("bfloat16"))


def test_the_definition_of_pairs_and_compensation() -> None:
    """By hand: ((0 1)(2 3)) 4 in pairs; a lone product rounded; what Kahan's sum keeps."""
    a = np.float32([[[1, 2.0**-8, 2.0**-8, 2.0**-8, 2.0**-7]]])
    ones = np.ones((1, 5, 1), np.float32)
    pairs = Arithmetic("bfloat16", order="pairwise")
    assert product(a, ones, Arithmetic("bfloat16")).item() == 1 + 2.0**-7  # three ties to 1, and the last
    assert product(a, ones, pairs).item() == 1 + 2.0**-6  # 1, then 2^-7, then 2^-7
    assert product(a[..., :1] * np.float32(1.003), ones[:, :1], pairs).item() == 1.0
    for arithmetic, negative in ((pairs, True), (Arithmetic("bfloat16"), False)):  # alone, and +0 - 0
        lone = product(np.float32([[[-0.0]]]), ones[:, :1], arithmetic)
        assert np.signbit(lone.item()) == negative
    kahan = Arithmetic("bfloat16", compensation="kahan")
    assert product(a[..., :4], ones[:, :4], Arithmetic("bfloat16")).item() == 1.0
    assert product(a[..., :4], ones[:, :4], kahan).item() == 1.015625  # 3 * 2^-8 to even
