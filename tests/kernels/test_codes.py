"""Codes by the kernels equal those of the reference: every format and carrier, and back."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from comparison import assert_same_bits
from decisions import decoded, encoded
from hard_formats import ELEMENTWISE, GROUPS
from hard_inputs import hard_values
from oracle import SEED, as_array, assert_same, expected, holders, scales_of, spread, tensor_of, words_for

import lowprec
from lowprec import reference
from lowprec.formats import FixedPoint, FloatingPoint, parse
from lowprec.formats.carriers import CARRIERS

PAIRS = [
    (format, carrier.name)
    for format in ELEMENTWISE
    for carrier in CARRIERS.values()
    if "unbounded" not in format and parse(format).missing_in(carrier) is None
]


def values_of(format: FloatingPoint | FixedPoint, carrier: str, count: int) -> npt.NDArray[np.floating]:
    """About so many values of a format, both zeros, and what it has of infinities and NaN."""
    x = hard_values(format, carrier)
    if not format.has_nan:
        x = x[np.isfinite(x)]
    x = np.concatenate([x[:: 1 + x.size // count], -x[:1] * 0])
    return reference.quantize(x, format, carrier=carrier)


def some_codes(format: FloatingPoint | FixedPoint, count: int) -> list[int]:
    """About so many codes, the ends of every range among them."""
    size = 1 << format.bits
    if size <= count:
        return list(range(size))
    near = [0, size // 2, size - 1]
    if isinstance(format, FloatingPoint):
        near += [format.largest_code, 1 << format.mantissa_bits, size // 2 + format.largest_code]
    steps = range(0, size, size // count | 1)
    return sorted({*steps, *(code + step for code in near for step in (-2, -1, 0, 1, 2)
                             if 0 <= code + step < size)})  # fmt: skip


def check_uncompiled(format: str, carrier: str, count: int) -> None:
    """Compare codes and values of the uncompiled decisions with the reference."""
    parsed = parse(format)
    x = values_of(parsed, carrier, count)
    assert encoded(x, carrier, parsed) == [reference.code_of(value, parsed) for value in x.tolist()]
    codes = some_codes(parsed, count)
    assert_same_bits(decoded(codes, carrier, parsed), [reference.value_of(code, parsed) for code in codes])


@pytest.mark.parametrize(("format", "carrier"), PAIRS)
def test_uncompiled_decisions(format: str, carrier: str) -> None:
    check_uncompiled(format, carrier, 40)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("format", "carrier"), PAIRS)
def test_all_codes_of_sixteen_bits_uncompiled(format: str, carrier: str) -> None:
    check_uncompiled(format, carrier, 1 << 16)


def check(format: str, dtype: torch.dtype) -> None:
    """Compare lowprec.encode and lowprec.decode with the reference."""
    parsed, carrier = parse(format), str(dtype).removeprefix("torch.")
    x = values_of(parsed, carrier, 300)
    codes = lowprec.encode(tensor_of(x, dtype), format)
    want = reference.encode(x, format, carrier=carrier)
    assert codes.dtype == getattr(torch, str(want.dtype))
    np.testing.assert_array_equal(codes.numpy(), want)
    numbers = np.array(some_codes(parsed, 1 << 12), want.dtype)
    values = lowprec.decode(torch.from_numpy(numbers), format, dtype=dtype)
    wide = np.float32 if carrier == "bfloat16" else carrier
    assert_same(values, tensor_of(reference.decode(numbers, format, dtype=wide), dtype))


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        ("e4m3fn", torch.float32), ("e3m2<nosubnormals>", torch.float32), ("e5m2fnuz", torch.float32),
        ("e8m0ieee<bias149>", torch.float32), ("binary16", torch.float32), ("binary32", torch.float32),
        ("fixed8f4", torch.float32), ("ufixed8f4<wrap>", torch.float32), ("fixed8f149<wrap>", torch.float32),
        ("e5m2", torch.bfloat16), ("fixed11f4<wrap>", torch.float16), ("binary64", torch.float64),
        ("fixed32f16", torch.float64),
    ],
    ids=str,
)  # fmt: skip
def test_compiled(format: str, dtype: torch.dtype) -> None:
    check(format, dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("format", [format for format in ELEMENTWISE if "unbounded" not in format])
def test_compiled_in_every_carrier(format: str) -> None:
    for dtype in holders(format):
        check(format, dtype)


@pytest.mark.parametrize(
    ("format", "dtype"),
    [(format, torch.float32) for format in GROUPS]
    + [
        pytest.param("bfp8<group32>", dtype, marks=pytest.mark.exhaustive)
        for dtype in (torch.bfloat16, torch.float16, torch.float64)
    ],
    ids=str,
)
def test_groups(format: str, dtype: torch.dtype) -> None:
    x = spread(5, 6, 64)
    x[0, :3] *= 2.0**-140  # steps at the end of the carrier's range
    x = x.nan_to_num(nan=1.0).to(dtype)
    codes, scales = lowprec.encode(x, format)
    carrier = str(dtype).removeprefix("torch.")
    want, of_groups = reference.encode(as_array(x), format, carrier=carrier)
    np.testing.assert_array_equal(codes.numpy(), want)
    assert_same(scales, scales_of(of_groups, scales.dtype))
    assert_same(lowprec.decode(codes, format, dtype=dtype, scales=scales), expected(x, format))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0, 3), (1, 1)])
@pytest.mark.parametrize("format", ["bfp8", "bfp8<group>", "e4m3fn"])
def test_shapes_without_elements_or_dimensions(format: str, shape: tuple[int, ...]) -> None:
    if shape == () and format == "bfp8<group>":
        pytest.skip("no axis to form groups along")
    x = torch.ones(shape)
    got = lowprec.encode(x, format)
    want = reference.encode(x.numpy(), format)
    if format == "e4m3fn":
        assert got.shape == shape
        assert_same(lowprec.decode(got, format), x)
        return
    assert got[0].shape == shape
    assert got[1].shape == want[1].shape
    assert_same(lowprec.decode(got[0], format, scales=got[1]), x)


@pytest.mark.parametrize(
    ("format", "rounding"), [("e4m3fn", "stochastic_nearest"), ("bfp8<group32>", "stochastic")]
)
def test_equal_seeds_give_the_codes_of_equal_values(format: str, rounding: str) -> None:
    x = spread(3, 700).nan_to_num(nan=1.0)
    got = lowprec.encode(x, format, rounding=rounding, seed=SEED)
    want = reference.encode(x.numpy(), format, rounding=rounding, words=words_for(tuple(x.shape)))
    codes, scales = got if isinstance(got, tuple) else (got, None)
    np.testing.assert_array_equal(codes.numpy(), want[0] if isinstance(want, tuple) else want)
    values = lowprec.quantize(x, format, rounding=rounding, seed=SEED)
    assert_same(lowprec.decode(codes, format, scales=scales), values)
