"""Codebooks over scales: kernels equal the definition."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from oracle import assert_same, expected, expected_overflow, spread, tensor_of

import lowprec
from lowprec import reference
from lowprec.formats import Codebook, parse
from lowprec.formats.codebook import NORMAL_FLOAT
from lowprec.formats.format import floor_log2
from lowprec.modes import Rounding

DETERMINISTIC = [str(mode) for mode in Rounding if not mode.is_stochastic]
GROUPS = "float32,group8,amax"
NAMES = {
    "nf4": "nf4",
    "fp4": "fp4",
    "binary": f"scaled<binary,{GROUPS}>",
    "ternary": f"scaled<ternary,{GROUPS}>",
    "uneven": f"scaled<codebook<-0.3125,0,0.125,7>,{GROUPS}>",
    "along the first axis": "scaled<normalfloat4,float32,group4@0,amax>",
    "e4m3fn scales": "scaled<normalfloat4,e4m3fn,group8,amax>",
    "two levels": "scaled<codebook<-1,-0.25,0,0.5,1>,scaled<e4m3fn,float32,amax>,group8,amax>",
    "floor": "scaled<normalfloat4,float32,group8>",
    "ceil": "scaled<normalfloat4,float32,group8,ceil>",
    "rceil": "scaled<ternary,bfloat16,group8,rceil>",
    "mse": "scaled<normalfloat4,float32,group8,mse>",
}
CARRIERS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def inputs(dtype: torch.dtype) -> torch.Tensor:
    """Groups of every magnitude, specials among them; quotients at boundaries, and next to them."""
    x = spread(24, 64, dtype=torch.float32)
    entries = np.array(NORMAL_FLOAT)
    targets = np.concatenate([entries, (entries[1:] + entries[:-1]) / 2]).astype(np.float32)
    near = np.concatenate(
        [np.nextafter(targets, np.float32(9)), np.nextafter(targets, np.float32(-9)), targets]
    )
    rows = np.ones((16, 64), np.float32)
    rows[:, 1:] = np.resize(near, (16, 63))
    scales = np.float32([1, 3, 0.1, 1e-3, 1e30, 1e-30, 2.0**-120, 1e-38, 1e-44, 1, 7, 1 / 3, 5, 2, 1e5, 0])
    exact = tensor_of(rows * scales[:, None], torch.float32)
    return torch.cat([x, exact]).to(dtype)


def allowed(name: str, dtype: torch.dtype) -> bool:
    """Whether a carrier holds the format."""
    return (
        parse(name).missing_in(lowprec.formats.carriers.CARRIERS[str(dtype).removeprefix("torch.")]) is None
    )


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_equal_to_the_definition(name):
    for dtype in CARRIERS:
        if not allowed(name, dtype):
            continue
        x = inputs(dtype)
        for rounding in DETERMINISTIC if dtype == torch.float32 else ("nearest_even", "up"):
            assert_same(lowprec.quantize(x, name, rounding=rounding), expected(x, name, rounding))


@pytest.mark.parametrize("name", [NAMES[key] for key in ("nf4", "binary", "two levels", "uneven")])
def test_codes_and_where_overflow_fires(name):
    x = inputs(torch.float32)
    layer = lowprec.Quantizer(name, clip_gradient=True)
    leaf = x.clone().requires_grad_()
    layer(leaf).sum().backward()
    assert torch.equal(leaf.grad == 0, expected_overflow(x, name))
    x = x[~x.isnan().any(dim=1)]
    codes, scales = lowprec.encode(x, name)
    wanted, _ = reference.encode(x.numpy(), name)
    assert_same(codes, torch.from_numpy(wanted))
    assert_same(lowprec.decode(codes, name, scales=scales), lowprec.quantize(x, name))


def test_scales_that_are_given():
    x = torch.tensor([[0.3, -0.9, 0.04, 2.0]])
    scale = torch.tensor([[2.0]])
    got = lowprec.quantize(x, f"scaled<ternary,{GROUPS}>", scale=scale)
    assert_same(got, torch.tensor([[0.0, 0.0, 0.0, 2.0]]))


def test_flushing_subnormals_changes_nothing():
    x = inputs(torch.float32)
    for name in (NAMES["nf4"], NAMES["binary"], NAMES["ternary"]):
        plain = lowprec.quantize(x, name)
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor does not flush")
        try:
            flushed = lowprec.quantize(x, name)
        finally:
            torch.set_flush_denormal(False)
        assert_same(flushed, plain)


def hidden_sides() -> list[tuple[list[float], list[float]]]:
    """Codebooks, and a group with an element whose quotient lies below a midpoint, by less than 2^-54 of it.

    The midpoint is the quotient rounded up to 52 bits, as half of a number of 24 bits and a small one.
    """
    random, found = np.random.default_rng(1), []
    while len(found) < 6:
        scale, x = (int(n) for n in random.integers(1 << 23, 1 << 24, 2))
        quotient = Fraction(x, 4 * scale)  # between 1/8 and 1/2
        unit = Fraction(2) ** (floor_log2(quotient) - 51)
        middle = -(-quotient // unit) * unit
        if not 0 < middle - quotient < unit / 8:
            continue
        top = 2 * (middle // (unit * 2**28)) * unit * 2**28
        rest = 2 * middle - top
        if 0 < rest < unit * 2**25:  # so that it has 24 bits
            found.append(([float(rest), float(top), 1.0, 0.0], [float(scale), x / 4]))
    return found


def test_a_boundary_of_many_bits_is_not_left_to_the_hardware_s_rounding():
    for entries, group in hidden_sides():
        name = f"scaled<{Codebook(entries)},float32,amax>"
        x = torch.tensor(group)
        got = lowprec.quantize(x, name, rounding="nearest_away")
        assert_same(got, expected(x, name, "nearest_away"))
        assert got[1] < x[1] / 2  # it went down


def test_noise_is_refused():
    with pytest.raises(
        ValueError, match="`rounding` must be deterministic for nf4 in float32, got 'stochastic'"
    ):
        lowprec.quantize(torch.zeros(64), "nf4", rounding="stochastic", seed=1)
