"""Scaled formats against gfloat's blocks: equal where both define the same, else it is told why not."""

import importlib
import math
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from comparison import assert_same_bits

import lowprec

MODES = {
    "nearest_even": "TiesToEven",
    "nearest_away": "TiesToAway",
    "toward_zero": "TowardZero",
    "up": "TowardPositive",
    "down": "TowardNegative",
}
PARTS = torch.tensor([1.0, -0.96875, 0.8125, -0.34375, 0.01, 0.0, -0.0])
FLOATING = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4")
MX = (*FLOATING, "mxint8")


@pytest.fixture
def gfloat() -> ModuleType:
    return pytest.importorskip("gfloat", reason="an oracle; extra `test`")


def info(name: str) -> Any:
    """gfloat's description of a format."""
    formats = importlib.import_module("gfloat.formats")
    return getattr(formats, f"format_info_{name if name != 'mxfp4' else 'mxfp4_e2m1'}")


def maxima(step: int = 1) -> torch.Tensor:
    """Groups with powers of two of float32 as their maximum, and the numbers next to these."""
    powers = torch.tensor([2.0**exponent for exponent in range(-149, 128, step)])
    tops = [torch.nextafter(powers, torch.zeros(())), powers, torch.nextafter(powers, powers * 2)]
    return torch.cat(tops)[:, None] * PARTS


def blocks(
    gfloat: ModuleType, x: npt.NDArray[Any], name: str, mode: str = "nearest_even"
) -> npt.NDArray[Any]:
    """What gfloat makes of each row."""
    rounding, kind = gfloat.RoundMode[MODES[mode]], info(name)
    return np.stack([gfloat.quantize_block(kind, row, gfloat.compute_scale_amax, rounding) for row in x])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FLOATING)
def test_maxima_around_powers_of_two(name: str, mode: str, gfloat: ModuleType) -> None:
    x = maxima(1 if mode == "nearest_even" else 17)
    got = lowprec.quantize(x, name, rounding=mode).double()
    assert_same_bits(got.numpy(), blocks(gfloat, x.double().numpy(), name, mode))


@pytest.mark.parametrize("mode", MODES)
def test_integers(mode: str, gfloat: ModuleType) -> None:
    """gfloat uses -2, the code that OCP MX 1.0, 5.3.4, allows to be left unused; here it is, for symmetry."""
    x = maxima(1 if mode == "nearest_even" else 17)
    x = torch.cat([x, -x])
    got = lowprec.quantize(x, "mxint8", rounding=mode).double().numpy()
    want = blocks(gfloat, x.double().numpy(), "mxint8", mode)
    scales = lowprec.scales(x, "mxint8").double().numpy()
    lowest = want == -2 * scales
    assert lowest.any() == (mode not in ("toward_zero", "up"))
    assert (got[lowest] == (-127 / 64 * scales).repeat(7, 1)[lowest]).all()
    assert_same_bits(got[~lowest], want[~lowest])


@pytest.mark.parametrize("name", MX)
def test_logarithms_in_the_type_of_the_input(name: str, gfloat: ModuleType) -> None:
    """The exponent of gfloat's scale is floor(log2(A)) in A's type: below powers of two it is one too large.

    OCP MX 1.0, 6.3, takes the largest power of two that is at most A.
    """
    for dtype, below in ((np.float32, 1 - 2.0**-24), (np.float64, 1 - 2.0**-53)):
        for exponent in (8, 16, 64, 126):
            top = 2.0**exponent * below
            x = np.array([[top, -0.3 * top, 0.01 * top]], dtype)
            got = lowprec.scales(torch.from_numpy(x), name).double()
            emax = math.frexp(lowprec.formats.parse(name).max)[1] - 1
            assert float(got) == 2.0 ** (exponent - 1 - emax)
            assert gfloat.compute_scale_amax(emax, x[0]) == 2 * float(got)


@pytest.mark.parametrize("name", FLOATING)
def test_codes(name: str, gfloat: ModuleType) -> None:
    """The scale comes first in gfloat's blocks."""
    x = maxima(9)
    codes, scales = lowprec.encode(x, name)
    kind = info(name)
    for row, own, scale in zip(x.double().numpy(), codes.tolist(), scales.flatten(), strict=True):
        power = float(scale.double())
        encoded = list(gfloat.encode_block(kind, power, row / power))
        assert encoded == [int(scale.view(torch.uint8)), *own]


@pytest.mark.parametrize("name", MX)
def test_every_code(name: str, gfloat: ModuleType) -> None:
    bits = lowprec.formats.parse(name).bits
    codes = torch.arange(2**bits, dtype=torch.uint8).view(-1, 4)
    for scale in (0, 1, 127, 200, 254, 255):
        scales = torch.full((len(codes), 1), scale, dtype=torch.uint8).view(torch.float8_e8m0fnu)
        got = lowprec.decode(codes, name, scales=scales, dtype=torch.float64)
        want = [list(gfloat.decode_block(info(name), [scale, *row])) for row in codes.tolist()]
        assert_same_bits(got.numpy(), np.array(want))


@pytest.mark.parametrize("name", MX)
def test_a_group_of_zeros_has_the_least_scale(name: str, gfloat: ModuleType) -> None:
    x = torch.tensor([[0.0, -0.0, 0.0]])
    assert gfloat.compute_scale_amax(0, x[0].numpy()) == float(lowprec.scales(x, name).double()) == 2.0**-127
    assert_same_bits(lowprec.quantize(x, name).double().numpy(), blocks(gfloat, x.double().numpy(), name))


@pytest.mark.parametrize("name", MX)
def test_specials(name: str, gfloat: ModuleType) -> None:
    """In gfloat an infinity takes the largest scale, and a NaN the whole block; here the others stay."""
    x = torch.tensor([[1.0, math.inf, -0.5]])
    want = blocks(gfloat, x.double().numpy(), name)[0]
    assert want[0] == want[2] == 0
    assert want[1] >= 2.0**127
    assert lowprec.quantize(x, name)[0, ::2].tolist() == [1.0, -0.5]
    x[0, 1] = math.nan
    if name in ("mxfp8_e4m3", "mxfp8_e5m2"):
        assert np.isnan(blocks(gfloat, x.double().numpy(), name)).all()
    else:
        with pytest.raises(ValueError, match="No NaN in format"):
            blocks(gfloat, x.double().numpy(), name)
    got = lowprec.quantize(x, name)
    assert got[0, ::2].tolist() == [1.0, -0.5]
    assert got[0, 1].isnan()
