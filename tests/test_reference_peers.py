"""The reference against what other packages make of every code, midpoint, neighbor and special value."""

from collections.abc import Callable
from itertools import product
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from comparison import assert_same_bits, words_like
from hard_inputs import all_bfloat16, all_float16, hard_values

from lowprec import reference
from lowprec.formats import FloatingPoint, parse

Floats = npt.NDArray[np.floating]
INPUTS = [
    pytest.param("bfloat16", marks=pytest.mark.exhaustive),
    pytest.param("float16", marks=pytest.mark.exhaustive),
    "hard",
]
STRIDE = 13
"""Which of the codes of 16 bits are looked at."""

ML_DTYPES = {
    "bfloat16": "bfloat16",
    "e5m2": "float8_e5m2",
    "e4m3ieee": "float8_e4m3",
    "e3m4": "float8_e3m4",
    "e4m3fn<infinity>": "float8_e4m3fn",
    "e4m3fnuz<infinity>": "float8_e4m3fnuz",
    "e5m2fnuz<infinity>": "float8_e5m2fnuz",
    "e4m3fnuz<infinity,bias11>": "float8_e4m3b11fnuz",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
}
"""Our name of each dtype; in those that have NaN but no infinity what overflows becomes NaN."""
TORCH_DTYPES = {
    "binary16": torch.float16,
    "bfloat16": torch.bfloat16,
    "binary32": torch.float32,
    "e5m2": torch.float8_e5m2,
}
TORCH_FINITE = {
    "e4m3fn": torch.float8_e4m3fn,
    "e4m3fnuz": torch.float8_e4m3fnuz,
    "e5m2fnuz": torch.float8_e5m2fnuz,
}
"""Without infinities torch goes its own ways past the range, and only there."""


def inputs(format: str, which: str) -> Floats:
    """All numbers of 16 bits, or hard values of a format in float32, as float32."""
    if which == "bfloat16":
        return all_bfloat16()
    if which == "float16":
        return all_float16().astype(np.float32)
    return hard_values(parse(format))


@pytest.fixture
def ml_dtypes() -> ModuleType:
    return pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")


@pytest.fixture
def gfloat() -> ModuleType:
    return pytest.importorskip("gfloat", reason="an oracle; extra `test`")


class TestMlDtypes:
    @pytest.mark.parametrize("which", INPUTS)
    @pytest.mark.parametrize("name", ML_DTYPES)
    def test_nearest_even_is_its_cast(self, name: str, which: str, ml_dtypes: ModuleType) -> None:
        x = inputs(name, which)
        if not parse(name).has_nan:
            x = x[~np.isnan(x)]
        with np.errstate(all="ignore"):
            want = x.astype(getattr(ml_dtypes, ML_DTYPES[name])).astype(np.float32)
        assert_same_bits(reference.quantize(x, name), want)

    @pytest.mark.parametrize("which", INPUTS)
    @pytest.mark.parametrize("name", ["e4m3fn", "e4m3fnuz", "e5m2fnuz"])
    def test_saturation_differs_only_past_the_range(
        self, name: str, which: str, ml_dtypes: ModuleType
    ) -> None:
        x = inputs(name, which)
        with np.errstate(all="ignore"):
            cast = x.astype(getattr(ml_dtypes, f"float8_{name}")).astype(np.float32)
        past = np.isnan(cast) & ~np.isnan(x)
        want = np.where(past, np.copysign(np.float32(parse(name).max), x), cast)
        assert_same_bits(reference.quantize(x, name), want)
        np.testing.assert_array_equal(reference.overflowed(x, name), past)

    @pytest.mark.parametrize("name", ML_DTYPES)
    def test_codes_are_its_patterns(self, name: str, ml_dtypes: ModuleType) -> None:
        bits = parse(name).bits
        codes = np.arange(0, 1 << bits, STRIDE ** (bits > 8), dtype=np.uint8 if bits <= 8 else np.uint16)
        want = codes.view(getattr(ml_dtypes, ML_DTYPES[name])).astype(np.float32)
        assert_same_bits(reference.decode(codes, name), want)
        numbers = ~np.isnan(want)  # of several patterns of NaN ours is one
        np.testing.assert_array_equal(reference.encode(want[numbers], name), codes[numbers])


class TestTorch:
    @pytest.mark.parametrize("which", INPUTS)
    @pytest.mark.parametrize("name", TORCH_DTYPES)
    def test_nearest_even_is_its_cast(self, name: str, which: str) -> None:
        x = inputs(name, which)
        want = torch.from_numpy(x).to(TORCH_DTYPES[name]).float().numpy()
        assert_same_bits(reference.quantize(x, name), want)

    @pytest.mark.parametrize("which", INPUTS)
    @pytest.mark.parametrize("name", TORCH_FINITE)
    def test_within_the_range_nearest_even_is_its_cast(self, name: str, which: str) -> None:
        x = inputs(name, which)
        within = ~reference.overflowed(x, name)
        want = torch.from_numpy(x).to(TORCH_FINITE[name]).float().numpy()
        assert_same_bits(reference.quantize(x, name)[within], want[within])

    @pytest.mark.parametrize("name", [*TORCH_DTYPES, *TORCH_FINITE])
    def test_codes_are_its_patterns(self, name: str) -> None:
        dtype = (TORCH_DTYPES | TORCH_FINITE)[name]
        if name == "binary32":
            values = hard_values(parse(name))
            values = values[~np.isnan(values)]
            codes = values.view(np.uint32)
        else:
            wide = parse(name).bits > 8
            codes = np.arange(0, 1 << parse(name).bits, STRIDE**wide, dtype=np.uint16 if wide else np.uint8)
            signed = codes.view(f"i{codes.itemsize}")
            values = torch.from_numpy(signed).view(dtype).float().numpy()
        assert_same_bits(reference.decode(codes, name), values)
        np.testing.assert_array_equal(
            reference.encode(values[~np.isnan(values)], name), codes[~np.isnan(values)]
        )


class TestNumpy:
    def test_float64_to_binary32_and_binary16_is_its_cast(self) -> None:
        floats = np.concatenate([hard_values(parse("binary16")), all_bfloat16()[::17]])
        with np.errstate(all="ignore"):
            floats = floats.astype(np.float64)
            near = [np.nextafter(floats, end) for end in (-np.inf, np.inf)]
            x = np.concatenate([floats, *near, floats * (1 + 2.0**-24)])
        x = np.concatenate([x, [1e300, -1e300, 2.0**-150, 3 * 2.0**-150]])
        for name, dtype in (("binary32", np.float32), ("binary16", np.float16)):
            with np.errstate(all="ignore"):
                want = x.astype(dtype).astype(np.float64)
            assert_same_bits(reference.quantize(x, name), want)

    @pytest.mark.parametrize(
        "name", ["fixed16f8", "fixed8f-3", "fixed25f0", "ufixed8f8", "fixedf4<unbounded>"]
    )
    def test_fixed_point_is_a_scaled_rint_and_a_clip(self, name: str) -> None:
        format = parse(name)
        x = hard_values(format, "float64")
        x = x[np.isinf(x) | (np.abs(x) < 1e300)]
        scaled = np.rint(x * 2.0**format.fraction_bits) * 2.0**-format.fraction_bits
        want = np.clip(scaled, format.min, format.max) + 0.0
        assert_same_bits(reference.quantize(x, name), want)

    @pytest.mark.parametrize(
        ("rounding", "function"),
        [("toward_zero", np.trunc), ("up", np.ceil), ("down", np.floor), ("nearest_even", np.rint)],
    )
    def test_wrapping_is_the_remainder(self, rounding: str, function: Callable[[Floats], Floats]) -> None:
        x = hard_values(parse("fixed8f0<wrap>"), "float64")
        x = x[np.isfinite(x)]
        signed = (function(x) % 256 + 128) % 256 - 128
        assert_same_bits(reference.quantize(x, "fixed8f0<wrap>", rounding=rounding), signed + 0.0)
        unsigned = function(x) % 256
        assert_same_bits(reference.quantize(x, "ufixed8f0<wrap>", rounding=rounding), unsigned + 0.0)


SMALL_FORMATS = [
    FloatingPoint(exponent_bits, mantissa_bits, specials=specials, overflow=overflow, bias=bias)
    for exponent_bits, mantissa_bits, bias in [
        (1, 1, None), (1, 3, 2), (2, 0, None), (2, 1, 3), (3, 2, None), (3, 0, -4), (4, 3, 11),
    ]
    for specials, overflow in product(
        ("ieee", "fn", "fnuz", "finite"), ("infinity", "saturate", "saturate_all")
    )
    if (specials, overflow) != ("finite", "infinity")
]  # fmt: skip
GFLOAT_FORMATS = [
    format
    for format in dict.fromkeys(SMALL_FORMATS)
    if not format.has_infinity or (format.overflow != "saturate" and format.exponent_bits > 1)
]
"""gfloat saturates finite values and infinities alike, and wants a normal value in each format."""


def gfloat_info(gfloat: ModuleType, format: FloatingPoint) -> object:
    """A floating-point format in the terms of gfloat."""
    ieee = format.specials == "ieee"
    nans = {"ieee": 2**format.mantissa_bits - 1, "fn": 1, "fnuz": 0, "finite": 0}
    return gfloat.types.FormatInfo(
        str(format),
        format.bits,
        format.mantissa_bits + 1,
        bias=format.bias,
        is_signed=True,
        domain=gfloat.types.Domain.Extended if ieee else gfloat.types.Domain.Finite,
        has_nz=format.has_signed_zero,
        num_high_nans=nans[format.specials],
        has_subnormals=True,
        is_twos_complement=False,
    )


class TestGfloat:
    @pytest.fixture(params=GFLOAT_FORMATS, ids=str)
    def format(self, request: pytest.FixtureRequest) -> FloatingPoint:
        return request.param

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("nearest_even", "TiesToEven"),
            ("nearest_away", "TiesToAway"),
            ("toward_zero", "TowardZero"),
            ("up", "TowardPositive"),
            ("down", "TowardNegative"),
        ],
    )
    def test_deterministic(self, format: FloatingPoint, ours: str, theirs: str, gfloat: ModuleType) -> None:
        x, info = self.inputs(format), gfloat_info(gfloat, format)
        mode, saturate = gfloat.RoundMode[theirs], format.overflow != "infinity"
        want = [gfloat.round_float(info, value, mode, saturate) for value in x.tolist()]
        assert_same_bits(reference.quantize(x, format, rounding=ours), want)

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("stochastic", "StochasticFastest"),
            ("stochastic_midpoint", "StochasticFast"),
            ("stochastic_nearest", "Stochastic"),
        ],
    )
    def test_stochastic(self, format: FloatingPoint, ours: str, theirs: str, gfloat: ModuleType) -> None:
        """gfloat is given the bits that we take from the top of a word."""
        x, info = self.inputs(format), gfloat_info(gfloat, format)
        mode, saturate = gfloat.RoundMode[theirs], format.overflow != "infinity"
        for bits in (1, 3, 8):
            words = words_like(x, bits)
            numbers = (words >> (32 - bits)).tolist()
            want = [
                gfloat.round_float(info, value, mode, saturate, number, bits)
                for value, number in zip(x.tolist(), numbers, strict=True)
            ]
            got = reference.quantize(x, format, rounding=ours, random_bits=bits, words=words)
            assert_same_bits(got, want)

    def test_codes(self, format: FloatingPoint, gfloat: ModuleType) -> None:
        info = gfloat_info(gfloat, format)
        for code in range(1 << format.bits):
            want = gfloat.decode_float(info, code).fval
            got = reference.value_of(code, format)
            assert_same_bits(np.float64(got), want)
            assert np.isnan(want) or reference.code_of(want, format) == code

    @staticmethod
    def inputs(format: FloatingPoint) -> Floats:
        """Hard values; where a format has no NaN gfloat refuses one."""
        x = hard_values(format)
        return x if format.has_nan else x[~np.isnan(x)]
