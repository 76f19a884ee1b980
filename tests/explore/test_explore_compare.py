"""Comparing formats: every number against fractions; what is left out; every error."""

import math
from collections import Counter
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch
from explore_families import OWN

from lowprec import explore, reference, storage
from lowprec.formats import GroupedFormat, TabledFormat, resolve

GENERATOR = torch.Generator().manual_seed(5)
VALUES = torch.randn(6, 32, generator=GENERATOR) * 2.0
VALUES[0, :4] = torch.tensor([0.0, 1e-6, 30.0, -2.5])


def by_fractions(x: np.ndarray, format) -> dict:
    """What a format does to finite values, in exact arithmetic."""
    known = resolve(format)
    y = reference.quantize(x, known)
    pairs = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    over = reference.overflowed(x, known).ravel()
    noise, signal = sum((a - b) ** 2 for a, b in pairs), sum(a * a for a, _ in pairs)
    regular = [(a, b) for (a, b), o in zip(pairs, over, strict=True) if a and b and not o]
    codes = reference.encode(x, known)
    counts = Counter((codes[0] if isinstance(codes, tuple) else codes).ravel().tolist())
    element = known.element if hasattr(known, "element") else known
    number = element.table.codes_listed if isinstance(element, TabledFormat) else 2**known.bits
    rms = math.sqrt(signal / len(pairs))
    return {
        "SQNR (dB)": 10 * math.log10(signal / noise) if noise else math.inf,
        "max rel. error": float(max((abs(b - a) / abs(a) for a, b in regular), default=0)),
        "bias": float(sum(b - a for a, b in pairs) / len(pairs)) / rms,
        "underflow": sum(1 for a, b in pairs if a and not b) / len(pairs),
        "overflow": int(over.sum()) / len(pairs),
        "entropy": -sum(n / len(pairs) * math.log2(n / len(pairs)) for n in counts.values()),
        "codes used": len(counts) / number,
    }


@pytest.mark.parametrize(
    "format",
    ["e4m3fn", "e2m1", "fixed6f3", "fixed6f3<wrap>", "posit8", "ternary", "mxfp4", "nf4", "bfp5", OWN],
    ids=str,
)
def test_every_number_is_the_exact_one(format):
    row = next(iter(explore.compare(format, VALUES)))
    for column, expected in by_fractions(VALUES.numpy(), format).items():
        assert row[column] == pytest.approx(expected, rel=1e-12, abs=1e-13), column


@pytest.mark.parametrize(
    ("format", "shape", "bits"),
    [
        ("e4m3fn", (3, 5), 8),
        ("tf32", (3, 5), 19),
        ("mxfp4", (2, 40), 4 + 8 * 4 / 80),  # two groups in each row, the second one ragged
        ("nvfp4", (2, 40), 4 + (8 * 6 + 32) / 80),
        ("int8", (2, 40), 8 + 32 / 80),
        ("uint8", (2, 40), 8 + (32 + 8) / 80),
        ("bfp8<group8,exponent4>", (2, 40), 8 + 4 * 10 / 80),
        ("bfp8", (2, 40), 8 + 8 / 80),
        ("fixedf4<unbounded>", (2, 40), None),
    ],
)
def test_bits_count_the_scales(format, shape, bits):
    assert explore.compare(format, torch.ones(shape))["bits"] == (bits,)


@pytest.mark.parametrize("format", ["mxfp4", "nvfp4", "int8", "e4m3fn"])
def test_bits_are_those_of_files(format):
    x = torch.ones(64, 64)
    whole = storage.nbytes({"x": x}, format) * 8
    assert explore.compare(format, x)["bits"][0] * x.numel() == whole
    assert isinstance(resolve(format), GroupedFormat) == (whole > x.numel() * resolve(format).bits)


def test_nan_and_infinities_are_counted_apart():
    nan, inf = math.nan, math.inf
    clean = torch.tensor([[1.0, 0.3, -7.0, 2.0]])
    dirty = torch.tensor([[1.0, nan, 0.3, inf, -7.0, 2.0, -inf]])
    for format in ("e4m3fn", "e2m1", "scaled<e2m1,e8m0>"):
        expected, found = (explore.compare(format, x) for x in (clean, dirty))
        assert expected.rows[0][2:] == found.rows[0][2:]
        assert found.caption.startswith("4 values, rounded nearest_even; 3 NaN or infinities are left out")
    assert "left out" not in expected.caption


def test_an_overflow_to_infinity_is_no_finite_error():
    row = next(iter(explore.compare("e5m2", torch.tensor([1e6, 1.0, 1.1]))))
    assert row["SQNR (dB)"] == -math.inf
    assert row["overflow"] == pytest.approx(1 / 3)
    assert row["max rel. error"] == pytest.approx(0.1 / 1.1, rel=1e-6)


def test_errors_without_end_in_both_directions_have_no_mean():
    assert math.isnan(explore.compare("e5m2", torch.tensor([1e6, -1e6, 1.0]))["bias"][0])
    assert explore.compare("e5m2", torch.tensor([1e6, 1.0]))["bias"] == (math.inf,)


def test_exact_values_have_no_error():
    row = next(iter(explore.compare("e2m1", torch.tensor([0.5, -6.0, 0.0]))))
    assert (row["SQNR (dB)"], row["bias"], row["max rel. error"]) == (math.inf, 0.0, 0.0)
    zeros = next(iter(explore.compare("binary", torch.zeros(4))))
    assert (zeros["SQNR (dB)"], zeros["bias"], zeros["max rel. error"]) == (-math.inf, None, None)
    assert next(iter(explore.compare("fixed8f0", torch.zeros(4))))["SQNR (dB)"] == math.inf
    assert math.copysign(1.0, zeros["entropy"]) == 1.0  # prints as 0.00


def test_sums_do_not_leave_float64():
    x = torch.tensor([1.1e300, -1.3e300, 1.7e300], dtype=torch.float64)
    scaled = x * 2.0**-900
    formats = ["scaled<e2m1,e8m0>", "bfp4"]
    for one, other in zip(explore.compare("bfp4", x), explore.compare("bfp4", scaled), strict=True):
        assert one == other
    assert math.isfinite(explore.compare(formats[1], x)["SQNR (dB)"][0])


def test_random_words_follow_the_seed_and_the_global_state_is_left_alone():
    state = torch.random.get_rng_state()
    options = {"rounding": "stochastic", "random_bits": 8}
    default = explore.compare("e2m1", VALUES, **options)
    assert default == explore.compare("e2m1", VALUES, seed=0, **options)
    assert default != explore.compare("e2m1", VALUES, seed=1, **options)
    assert torch.equal(torch.random.get_rng_state(), state)
    y = reference.quantize(
        VALUES.numpy(), "e2m1", words=reference.random_words(0, 0, (6, 32)), **options
    )  # fmt: skip
    noise = np.square(y.astype(float) - VALUES.double().numpy()).sum()
    signal = np.square(VALUES.double().numpy()).sum()
    assert default["SQNR (dB)"][0] == pytest.approx(10 * math.log10(signal / noise), rel=1e-12)


class TestSeveralTensors:
    STATE: ClassVar = {
        "a": VALUES[:2],
        "b": VALUES[2:].half(),
        "steps": torch.tensor(3),
        "none": torch.ones(0),
    }

    def test_a_row_is_over_all_of_them(self):
        both = torch.cat([VALUES[:2], VALUES[2:].half().float()])
        one, other = explore.compare("e4m3fn", self.STATE), explore.compare("e4m3fn", both)
        for left, right in zip(one.rows[0][1:], other.rows[0][1:], strict=True):
            assert left == pytest.approx(right, rel=1e-12)
        assert one.caption == (
            "192 values of 2 tensors, rounded nearest_even; 2 integer or empty tensors are left out."
        )
        dirty = {"a": torch.tensor([1.0, math.inf]), "n": np.arange(3)}
        assert explore.compare("e2m1", dirty).caption == (
            "1 values, rounded nearest_even; 1 NaN or infinities are left out; "
            "1 integer or empty tensor is left out."
        )
        assert explore.search(dirty, 2, families=["fixed"]).caption.endswith(
            " formats that were measured; 1 integer or empty tensor is left out."
        )

    def test_or_one_of_each(self):
        found = explore.compare(["e4m3fn", "e2m1"], self.STATE, by_tensor=True)
        assert found["format"] == ("e4m3fn", "e4m3fn", "e2m1", "e2m1")
        assert found["tensor"] == ("a", "b", "a", "b")
        alone = explore.compare("e2m1", VALUES[:2])
        assert found.rows[2][2:] == alone.rows[0][1:]

    def test_each_has_scales_of_its_own(self):
        small, large = torch.ones(4), torch.full((4,), 1024.0)
        assert explore.compare("bfp4", {"s": small, "l": large})["SQNR (dB)"] == (math.inf,)
        assert explore.compare("bfp4", torch.cat([small, large]))["SQNR (dB)"][0] < math.inf


def test_the_best_has_the_largest_sqnr_then_the_fewest_bits():
    x = torch.tensor([1.0, 1.5, 100.0])
    assert str(explore.compare(["e2m1", "bfloat16", "binary16", "e5m3ieee"], x).best) == "bfloat16"
    assert str(explore.compare(["binary32", "bfloat16"], torch.ones(3)).best) == "bfloat16"
    assert str(explore.compare(["fixedf0<unbounded>", "fixed8f0"], torch.ones(3)).best) == "fixed8f0"


def test_arrays_dtypes_and_shapes():
    array = np.asfortranarray(VALUES.numpy())
    expected = explore.compare(torch.float8_e4m3fn, VALUES)
    for data in (array, array.astype(">f4"), VALUES.T.contiguous().T, VALUES.clone().requires_grad_()):
        assert explore.compare("e4m3fn", data) == expected
    assert len(explore.compare(["e2m1", "e2m1", torch.float16], torch.tensor(0.3))) == 2
    frozen = VALUES.numpy().copy()
    frozen.flags.writeable = False
    assert explore.compare("e4m3fn", frozen) == expected


@pytest.mark.parametrize(
    ("formats", "data", "options", "error", "message"),
    [
        ([], VALUES, {}, ValueError, r"`formats` must name at least one format, got \[\]"),
        (3, VALUES, {}, TypeError, "`formats` must be formats, names or torch dtypes, got 3"),
        ("e2m1", [1.0], {}, TypeError, r"`data` must be a tensor or an array, .* Wrap it with torch\.tensor"),
        ("e2m1", torch.ones(3).int(), {}, TypeError, "`data` must be float32, bfloat16, float16 or float64"),
        ("e2m1", np.ones(3, int), {}, TypeError, "`data` must be one of float32, float16, float64, got"),
        ("e2m1", np.ma.ones(3), {}, TypeError, r"`data` must be a plain array, .*x\.filled\(0\)"),
        ("e2m1", {"a": 3.0}, {}, TypeError, r"`data\['a'\]` must be a tensor or an array"),
        ("e2m1", {"n": torch.tensor(3)}, {}, ValueError, "`data` must hold a tensor of floating-point"),
        ("e2m1", torch.ones(0), {}, ValueError, r"`data` must have at least one element, got \(0,\)"),
        ("e2m1", torch.ones(2).cfloat(), {}, TypeError, "`data` must be float32, .* got torch.complex64"),
        ("e2m1", torch.ones(2).to_sparse(), {}, TypeError, r"`data` must be a strided tensor, .* data\.to_d"),
        ("e2m1", {"a": torch.ones(2).cfloat()}, {}, TypeError, r"`data\['a'\]` must be float32, .* got torc"),
        ("mxfp4", torch.tensor(1.0), {}, ValueError, r"`data` must have a dimension for each .*, got \(\)"),
        ("bfp8<channel1>", {"a": VALUES[0]}, {}, ValueError, r"`data\['a'\]` must have a dimension for each"),
        ("nvfp4", torch.tensor(1.0), {}, ValueError, r"`data` must have a dimension for each that nvfp4 has"),
        ("e2m1", {"n": torch.ones(0)}, {}, ValueError, "floating-point values that has elements, got"),
        ("e2m1", torch.tensor([math.nan]), {}, ValueError, r"`data` must hold a finite value, got \(1,\)"),
        ("binary32", torch.ones(3).half(), {}, ValueError, "`format` must be exact in the carrier float16"),
        ("e2m1", VALUES, {"seed": 1}, ValueError, "`seed` must be None where rounding is 'nearest_even'"),
        ("e2m1", VALUES, {"random_bits": 1}, ValueError, "`random_bits` must be None where rounding is"),
        ("e2m1", VALUES, {"rounding": "stochastic", "seed": 0.5}, TypeError, "`seed` must be an integer"),
        ("e2m1", VALUES, {"rounding": "stochastic", "seed": 2**64}, ValueError, "`seed` must lie between"),
        ("e2m1", VALUES, {"rounding": "best"}, ValueError, "`rounding` must be a known name, got 'best'"),
        ("e2m1", VALUES, {"by_tensor": True}, ValueError, "`by_tensor` must be False for a single tensor"),
        ("e2m1", VALUES, {"by_tensor": 1}, TypeError, "`by_tensor` must be True or False, got 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(formats, data, options, error, message):
    with pytest.raises(error, match=message):
        explore.compare(formats, data, **options)
