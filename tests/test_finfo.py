"""finfo says of a format what torch.finfo and ml_dtypes.finfo say of its dtype, and never guesses."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
import torch

from lowprec import BlockFloatingPoint, FixedPoint, finfo, formats
from lowprec.formats import NAMED, parse

TORCH = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
         "float8_e5m2fnuz"]  # fmt: skip
ML_DTYPES = {
    "binary64": np.float64,
    "binary32": np.float32,
    "binary16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "e5m2": ml_dtypes.float8_e5m2,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e4m3fnuz<bias11>": ml_dtypes.float8_e4m3b11fnuz,
    "e4m3ieee": ml_dtypes.float8_e4m3,
    "e3m4": ml_dtypes.float8_e3m4,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}
LIMITS = ["bits", "max", "min", "eps", "smallest_normal", "tiny"]


@pytest.mark.parametrize("name", TORCH)
def test_what_torch_says(name: str) -> None:
    dtype = getattr(torch, name)
    for limit in LIMITS:
        if (name, limit) != ("float8_e5m2fnuz", "eps"):  # torch's 0.125 is not the step from 1 to 1.25
            assert getattr(finfo(dtype), limit) == getattr(torch.finfo(dtype), limit)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_what_ml_dtypes_says(name: str) -> None:
    theirs = ml_dtypes.finfo(ML_DTYPES[name])
    for limit in (*LIMITS, "smallest_subnormal"):
        assert getattr(finfo(name), limit) == float(getattr(theirs, limit))


@pytest.mark.parametrize(
    ("name", "infinity", "nan", "signed_zero"),
    [("e5m2", True, True, True), ("e4m3fn", False, True, True), ("e4m3fnuz", False, True, False),
     ("e2m1", False, False, True), ("e3m0ieee", True, False, True), ("fixed8f4", False, False, False),
     ("bfp8", False, False, False)],
)  # fmt: skip
def test_special_values(name: str, infinity: bool, nan: bool, signed_zero: bool) -> None:
    info = finfo(name)
    assert (info.has_infinity, info.has_nan, info.has_signed_zero) == (infinity, nan, signed_zero)


def test_fixed_point() -> None:
    info = finfo(FixedPoint(8, 4))
    assert (info.format, info.bits, info.max, info.min) == ("fixed8f4", 8, 7.9375, -8.0)
    assert info.eps == info.smallest_normal == info.smallest_subnormal == 0.0625
    assert finfo("ufixed8f8").min == 0


def test_a_group_of_block_floating_point_whose_largest_magnitude_lies_from_one_to_two() -> None:
    info = finfo(BlockFloatingPoint(8))
    assert (info.bits, info.max, info.min, info.eps) == (8, 127 / 64, -127 / 64, 1 / 64)


@pytest.mark.parametrize("name", NAMED)
def test_is_a_value(name: str) -> None:
    info = finfo(name)
    assert info == finfo(parse(name))
    assert hash(info) == hash(finfo(parse(name)))
    assert info.format == name
    assert pickle.loads(pickle.dumps(info)) == copy.deepcopy(info) == info
    assert repr(info).startswith(f"finfo(format='{name}', bits={info.bits}, max={info.max}")
    assert len({finfo(other) for other in NAMED}) == len(NAMED)
    with pytest.raises(AttributeError, match="cannot assign to field 'bits'"):
        info.bits = 3
    values = parse(name).values() if info.bits <= 16 else None
    if values is not None and "bfp" not in name:
        assert (values[-1], values[0]) == (info.max, info.min)
        assert values[values > 0][0] == info.smallest_subnormal


@pytest.mark.parametrize(
    ("format", "error", "message"),
    [
        (
            "fixedf4<unbounded>",
            ValueError,
            "`format` must be bounded to have codes, got 'fixedf4<unbounded>'",
        ),
        ("e4m3", ValueError, "`format` must say which e4m3"),
        (torch.int8, ValueError, "`format` must be one of torch.float8_e4m3fn"),
        (8, TypeError, "`format` must be a format, a name or a torch dtype, got 8"),
    ],
)
def test_what_is_refused(format, error, message) -> None:
    with pytest.raises(error, match=message):
        finfo(format)
    assert formats.finfo is finfo
