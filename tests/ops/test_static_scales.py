"""Scales that are given, and what is refused; that they are used exactly is for test_scaled_exact.py."""

import numpy as np
import pytest
import torch
from oracle import assert_same

import lowprec
from lowprec import PerGroup, Scaled, decode, encode, quantize, scales

X = torch.tensor([[3.0, -12.0, 0.1, 0.2], [1.0, 2.0, 4.0, 0.0]])
E8 = torch.float8_e8m0fnu
OVER_TENSOR = Scaled("e4m3fn", "float32", scale_rule="amax")


@pytest.mark.parametrize(
    ("format", "dtypes"),
    [
        ("mxfp4", [E8]),
        ("int8", [torch.float32]),
        ("scaled<e4m3fn,bfloat16,channel0,amax>", [torch.bfloat16]),
        ("scaled<e4m3fn,float16,channel0,amax>", [torch.float16]),
        ("scaled<e2m1,e4m3fn,group2,amax>", [torch.float8_e4m3fn]),
        ("scaled<e2m1,e5m2,group2,ceil>", [torch.float8_e5m2]),
        ("nvfp4", [torch.float8_e4m3fn, torch.float32]),
        ("uint8", [torch.float32, torch.int32]),
    ],
)
def test_what_scales_gives_is_taken_in_its_dtype_and_in_float32(format: str, dtypes: list) -> None:
    found = scales(X, format)
    levels = found if isinstance(found, tuple) else (found,)
    assert [level.dtype for level in levels] == dtypes
    want = quantize(X, format)
    assert_same(quantize(X, format, scale=found), want)
    wide = tuple(level if level.dtype == torch.int32 else level.float() for level in levels)
    given = wide if len(wide) > 1 else wide[0]
    assert_same(quantize(X, format, scale=given), want)
    codes, kept = encode(X, format, scale=given)
    assert_same(decode(codes, format, scales=kept), want)
    assert_same(decode(codes, format, scales=given), want)
    out = torch.empty_like(X)
    assert quantize(X, format, scale=given, out=out) is out
    assert_same(out, want)


def test_one_group_takes_a_scale_of_any_shape() -> None:
    assert_same(
        quantize(X, "int8", scale=torch.tensor(0.5)), quantize(X, "int8", scale=torch.full((1, 1), 0.5))
    )


def test_arrays() -> None:
    got = quantize(X.numpy(), "int8", scale=torch.tensor(0.5))
    assert isinstance(got, np.ndarray)
    assert_same(torch.from_numpy(got), quantize(X, "int8", scale=torch.tensor(0.5)))


def test_the_outer_scale_alone() -> None:
    inner, outer = scales(X, "nvfp4")
    assert_same(quantize(X, "nvfp4", scale=(None, outer)), quantize(X, "nvfp4"))
    doubled = quantize(X, "nvfp4", scale=(None, 2 * outer))
    found, _ = encode(X, "nvfp4", scale=(None, 2 * outer))[1]
    assert (found.float() <= inner.float()).all()
    assert_same(quantize(X, "nvfp4", scale=(found, 2 * outer)), doubled)


def test_the_gradient_is_the_identity() -> None:
    for format, scale in (("int8", torch.tensor(0.01)), ("nvfp4", (None, torch.tensor(0.01)))):
        x = X.clone().requires_grad_()
        y = quantize(x, format, scale=scale)
        (gradient,) = torch.autograd.grad(y, x, 3 * torch.ones_like(X))
        assert torch.equal(gradient, 3 * torch.ones_like(X))


@pytest.mark.parametrize("format", ["mxfp4", "nvfp4", "uint8", "scaled<e2m1,e8m0,group2,mse>"])
def test_compiled(format: str) -> None:
    def function(x: torch.Tensor) -> list[torch.Tensor]:
        found = scales(x, format)
        codes, kept = encode(x, format, scale=found)
        return [quantize(x, format), quantize(x, format, scale=found), decode(codes, format, scales=kept)]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for got, want in zip(compiled(X), function(X), strict=True):
        assert_same(got, want)


def test_tensors_without_elements() -> None:
    for shape in ((0, 4), (2, 0)):
        x = torch.empty(shape)
        for format in ("mxfp4", "nvfp4", "uint8", "scaled<e2m1,e8m0,group2,mse>"):
            found = scales(x, format)
            assert quantize(x, format, scale=found).shape == shape
            codes, kept = encode(x, format)
            assert decode(codes, format, scales=kept).shape == shape


ONE = torch.ones(1, 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quantize(X, "e4m3fn", scale=ONE), ValueError, "`scale` must be None for e4m3fn, got"),
        (lambda: quantize(X, "bfp8", scale=ONE), ValueError, "`scale` must be None for bfp8, got"),
        (lambda: quantize(X, "int8", scale=1.0), TypeError, "`scale` must be a tensor for int8, got"),
        (lambda: quantize(X, "int8", scale=(ONE,)), TypeError, "`scale` must be a tensor for int8, got"),
        (lambda: quantize(X, "nvfp4", scale=ONE), TypeError, "`scale` must be a pair of tensors for nvfp4"),
        (lambda: quantize(X, "nvfp4", scale=(None, None)), ValueError, "`scale` must be given for nvfp4"),
        (
            lambda: quantize(X, "uint8", scale=(None, ONE.int())),
            ValueError,
            "`scale` must be given for uint8",
        ),
        (
            lambda: quantize(X, "int8", scale=ONE.double()),
            TypeError,
            "`scale` must be torch.float32 or float32 for int8, got torch.float64",
        ),
        (
            lambda: quantize(X, "int8", scale=torch.ones(2, 1)),
            ValueError,
            r"`scale` must have shape \(1, 1\)",
        ),
        (lambda: quantize(X, "int8", scale=-ONE), ValueError, "`scale` must be positive and finite values"),
        (
            lambda: quantize(X, "int8", scale=0 * ONE),
            ValueError,
            "`scale` must be positive and finite values",
        ),
        (
            lambda: quantize(X, "int8", scale=ONE / 0),
            ValueError,
            "`scale` must be positive and finite values",
        ),
        (
            lambda: quantize(X, "int8", scale=ONE * torch.nan),
            ValueError,
            "must be positive and finite values",
        ),
        (
            lambda: quantize(X, "mxfp4", scale=torch.full((2, 1), 3.0)),
            ValueError,
            "must be positive and finite",
        ),
        (
            lambda: quantize(X, "mxfp4", scale=torch.full((2, 1), torch.nan).to(E8)),
            ValueError,
            "positive and",
        ),
        (
            lambda: quantize(X, "scaled<e2m1,e4m3fn,amax>", scale=ONE / 3),
            ValueError,
            "`scale` must be values of e4m3fn, got 0.333",
        ),
        (
            lambda: quantize(X, "uint8", scale=(ONE, 256 * ONE.int())),
            ValueError,
            "`scale` must have zero points from 0 to 255 for uint8, got 256",
        ),
        (
            lambda: quantize(X, "uint8", scale=(ONE, -ONE.int())),
            ValueError,
            "zero points from 0 to 255 .* got -1",
        ),
        (
            lambda: quantize(X, "int8", scale=ONE.clone().requires_grad_()),
            ValueError,
            "not require a gradient",
        ),
        (
            lambda: quantize(X, "int8", scale=ONE.to("meta").to("meta")),
            ValueError,
            "`scale` must be on cpu, got 'meta'",
        ),
        (lambda: encode(X, "e4m3fn", scale=ONE), ValueError, "`scale` must be None for e4m3fn"),
        (lambda: encode(X, "bfp8", scale=ONE), ValueError, "`scale` must be None for bfp8"),
        (lambda: scales(X, "bfp8"), ValueError, "`format` must be a scaled format, got 'bfp8'"),
        (lambda: scales(X.numpy(), "int8"), TypeError, "`x` must be a tensor"),
        (lambda: scales(X.int(), "int8"), TypeError, "`x` must be float32, bfloat16, float16 or float64"),
        (
            lambda: decode(encode(X, "nvfp4")[0], "nvfp4", scales=(None, ONE)),
            ValueError,
            "`scales` must be given",
        ),
        (
            lambda: decode(encode(X, "int8")[0], "int8", scales=-ONE),
            ValueError,
            "finite, or NaN values of the",
        ),
        (
            lambda: decode(encode(X, "int8")[0], "int8", scales=ONE, dtype=torch.int8),
            TypeError,
            "`dtype` must be",
        ),
    ],
)
def test_what_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Scaled("e2m1", 3), TypeError, "`format` must be a format, a name or a torch dtype"),
        (
            lambda: Scaled("e2m1", "tf32"),
            ValueError,
            "`scale` must be e8m0, float32, .* or a Scaled of one of",
        ),
        (
            lambda: Scaled("e2m1", "int8", scale_rule="amax"),
            ValueError,
            "`scale` must have elements and a scale",
        ),
        (
            lambda: Scaled("e2m1", Scaled("e4m3fn", "float32"), scale_rule="amax"),
            ValueError,
            "rule amax where",
        ),
        (
            lambda: Scaled("e2m1", "mxfp8_e4m3", scale_rule="amax"),
            ValueError,
            "must have elements and a scale",
        ),
        (
            lambda: Scaled("e2m1", OVER_TENSOR),
            ValueError,
            "`scale_rule` must be 'amax' where scales have scales",
        ),
        (lambda: Scaled("e2m1", scale_rule="amax"), ValueError, "must not be 'amax' where scales are powers"),
        (
            lambda: Scaled("ufixed8f0", "float32", zero_point=True),
            ValueError,
            "`scale_rule` must be 'amax', over",
        ),
        (
            lambda: Scaled("ufixed8f0", OVER_TENSOR, scale_rule="amax", zero_point=True),
            ValueError,
            "over one",
        ),
        (
            lambda: Scaled("fixed8f0", "float32", scale_rule="amax", zero_point=True),
            ValueError,
            "`element` must be an unsigned integer that saturates where zero_point is True",
        ),
        (
            lambda: Scaled("ufixed8f1", "float32", scale_rule="amax", zero_point=True),
            ValueError,
            "unsigned int",
        ),
        (lambda: Scaled("ufixed8f0", "float32", scale_rule="amax"), ValueError, "must be signed, symmetric"),
        (lambda: Scaled("e2m1", zero_point=1), TypeError, "`zero_point` must be True or False"),
        (lambda: Scaled("e5m16ieee", "float32"), ValueError, "must have at most 16 significant bits over"),
        (
            lambda: Scaled("e11m3ieee", "float32"),
            ValueError,
            "must have values that binary32 has over scales",
        ),
    ],
)
def test_formats_that_are_refused(build, error, message) -> None:
    with pytest.raises(error, match=message):
        build()


def test_formats_by_other_spellings() -> None:
    assert Scaled(torch.float8_e4m3fn, torch.float32, scale_rule="amax") == OVER_TENSOR
    assert Scaled("e2m1", torch.float8_e8m0fnu, PerGroup(32)) == lowprec.formats.parse("mxfp4")
    assert Scaled("e2m1", OVER_TENSOR, PerGroup(16), scale_rule="amax") == lowprec.formats.parse("nvfp4")
    assert Scaled("e2m1", "binary32").scale == "float32"
