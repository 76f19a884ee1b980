"""Scaled formats by the reference against what numpy, ml_dtypes and gfloat make of the same numbers."""

import importlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from comparison import assert_same_bits

from lowprec import reference
from lowprec.formats import parse


@pytest.fixture
def ml_dtypes() -> ModuleType:
    return pytest.importorskip("ml_dtypes", reason="an oracle; extra `test`")


@pytest.fixture
def gfloat() -> ModuleType:
    return pytest.importorskip("gfloat", reason="an oracle; extra `test`")


def groups_of_16(seed: int = 5) -> npt.NDArray[np.float32]:
    """Groups of all sizes of magnitude, finite."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((64, 16)) * np.exp2(generator.uniform(-7, 7, (64, 1)))
    x[5] = 0
    return x.astype(np.float32)


class TestMlDtypes:
    """In float64 no quotient of a float32 number by a scale is rounded onto a tie or past one.

    Both have few bits: the quotient is a tie, or differs from it by far more than 2^-53 of it.
    """

    def cast(self, x: npt.NDArray[np.float64], dtype: type, top: float) -> npt.NDArray[np.float64]:
        """A saturating cast."""
        return np.clip(x, -top, top).astype(dtype).astype(np.float64)

    def test_nvfp4(self, ml_dtypes: ModuleType) -> None:
        x = groups_of_16()
        tops = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
        outer = np.float64(np.abs(x).max() / np.float32(2688))
        inner = np.maximum(self.cast(tops / (6 * outer), ml_dtypes.float8_e4m3fn, 448), 2.0**-9)
        elements = self.cast(x / (inner * outer), ml_dtypes.float4_e2m1fn, 6)
        assert_same_bits(reference.quantize(x, "nvfp4"), (elements * (inner * outer)).astype(np.float32))
        assert_same_bits(reference.scales(x, "nvfp4")[0], inner)
        assert_same_bits(reference.scales(x, "nvfp4")[1], [[outer]])
        codes = reference.encode(x, "nvfp4")[0]
        cast = np.clip(x / (inner * outer), -6, 6).astype(ml_dtypes.float4_e2m1fn)
        np.testing.assert_array_equal(codes, cast.view(np.uint8))

    @pytest.mark.parametrize(
        ("element", "theirs"),
        [("e4m3fn", "float8_e4m3fn"), ("e3m2", "float6_e3m2fn"), ("e2m3", "float6_e2m3fn"),
         ("e4m3fnuz", "float8_e4m3fnuz"), ("e2m1", "float4_e2m1fn")],
    )  # fmt: skip
    @pytest.mark.parametrize("scale", ["float32", "bfloat16", "float16", "e5m2", "e4m3fn"])
    def test_over_every_scale(self, element: str, theirs: str, scale: str, ml_dtypes: ModuleType) -> None:
        x = groups_of_16(6)
        top, level = parse(element).max, getattr(ml_dtypes, f"float8_{scale}", None)
        kind = level or (ml_dtypes.bfloat16 if scale == "bfloat16" else np.dtype(scale))
        limits = ml_dtypes.finfo(kind)
        wanted = np.abs(x).max(axis=1, keepdims=True).astype(np.float64) / top
        scales = self.cast(wanted, kind, float(limits.max))
        scales = np.maximum(scales, float(limits.smallest_subnormal))
        got = self.cast(x / scales, getattr(ml_dtypes, theirs), top) * scales
        format = f"scaled<{element},{scale},group16,amax>"
        assert_same_bits(reference.scales(x, format), scales)
        assert_same_bits(reference.quantize(x, format), got.astype(np.float32))


class TestNumpy:
    @pytest.mark.parametrize(
        ("rounding", "function"),
        [("toward_zero", np.trunc), ("up", np.ceil), ("down", np.floor), ("nearest_even", np.rint)],
    )
    @pytest.mark.parametrize(("format", "top"), [("int8", 127), ("int4", 7)])
    def test_integers(self, format: str, top: int, rounding: str, function: Callable) -> None:
        x = groups_of_16(7)
        scale = np.float64(np.abs(x).max() / np.float32(top))
        elements = np.clip(function(x / scale), -top, top)
        assert_same_bits(reference.scales(x, format), [[scale]])
        got = reference.quantize(x, format, rounding=rounding)
        assert_same_bits(got, (elements * scale + 0.0).astype(np.float32))

    def test_zero_points(self) -> None:
        x = groups_of_16(8)
        low, high = float(x.min()), float(x.max())
        scale = float(np.float32((high - low) / 255))
        zero = np.rint(-low / scale)
        codes = np.clip(np.rint(x / scale), -zero, 255 - zero) + zero
        got, (scales, zeros) = reference.encode(x, "uint8")
        assert (scales.tolist(), zeros.tolist()) == ([[scale]], [[zero]])
        np.testing.assert_array_equal(got, codes)


class TestGfloat:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [("nearest_even", "TiesToEven"), ("nearest_away", "TiesToAway"), ("toward_zero", "TowardZero"),
         ("up", "TowardPositive"), ("down", "TowardNegative")],
    )  # fmt: skip
    @pytest.mark.parametrize("element", ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1"])
    @pytest.mark.parametrize("scale", ["e8m0", "e4m3", "e5m2", "bfloat16"])
    def test_blocks(self, element: str, scale: str, ours: str, theirs: str, gfloat: ModuleType) -> None:
        """Its scales follow by the rule floor where they are e8m0; else it is told how they do."""
        info = importlib.import_module("gfloat.formats")
        etype = getattr(info, f"format_info_ocp_{element}")
        stype = (
            info.format_info_bfloat16 if scale == "bfloat16" else getattr(info, f"format_info_ocp_{scale}")
        )
        block = gfloat.BlockFormatInfo("block", etype, 16, stype)
        mode = gfloat.RoundMode[theirs]

        def amax(emax: float, values: npt.NDArray[np.floating]) -> float:
            """The quotient to nearest even, saturating, not zero."""
            quotient = float(np.abs(values).max()) / etype.max
            found = gfloat.round_float(stype, quotient, gfloat.RoundMode.TiesToEven, True)
            return max(found, stype.smallest)

        x = groups_of_16(9)[:24].astype(np.float64)
        how = gfloat.compute_scale_amax if scale == "e8m0" else amax
        want = [gfloat.quantize_block(block, group, how, mode) for group in x]
        name = {"e4m3": "e4m3fn", "e5m2": "e5m2<saturate>"}
        rule = "floor" if scale == "e8m0" else "amax"
        format = f"scaled<{name.get(element, element)},{name.get(scale, scale).split('<')[0]},group16,{rule}>"
        assert_same_bits(reference.quantize(x, format, rounding=ours), np.array(want))
