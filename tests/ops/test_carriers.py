"""float16 and float64 tensors and arrays wherever float32 ones are taken; every carrier in place."""

import numpy as np
import pytest
import torch
from oracle import (
    ROUNDINGS,
    SEED,
    STOCHASTIC,
    as_array,
    assert_same,
    expected,
    expected_overflow,
    reference_options,
    spread,
)
from torch import Tensor

import lowprec
from lowprec import Quantizer, reference
from lowprec.kernels.elementwise import SERIAL_BELOW
from lowprec.modes import Rounding

CARRIERS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NEW = [torch.float16, torch.float64]
FORMATS = ["e4m3fn", "fixed8f4", "bfp4<group8>"]


def seed_for(rounding: str) -> int | None:
    """The seed, where the mode uses one."""
    return SEED if Rounding(rounding).is_stochastic else None


@pytest.mark.parametrize("dtype", NEW)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rounding", ["nearest_even", STOCHASTIC])
def test_tensors_and_arrays(rounding: str, format: str, dtype: torch.dtype) -> None:
    x = spread(30, 40, dtype=dtype)
    want = expected(x, format, rounding)
    options = {"rounding": rounding, "seed": seed_for(rounding)}
    got = lowprec.quantize(x, format, **options)
    assert_same(got, want)
    assert_same(torch.from_numpy(lowprec.quantize(x.numpy(), format, **options)), want)
    out = torch.zeros(40, 30, dtype=dtype).T
    assert lowprec.quantize(x, format, **options, out=out) is out
    assert_same(out, want)
    array = x.numpy().copy()
    assert lowprec.quantize(array, format, **options, out=array) is array
    assert_same(torch.from_numpy(array), want)


def test_float64_is_rounded_from_its_own_bits() -> None:
    above_a_tie = 1.0625 + 2.0**-50  # which float32 does not tell from the tie
    x = torch.tensor([above_a_tie, -above_a_tie, 464 + 2.0**-40], dtype=torch.float64)
    assert lowprec.quantize(x, "e4m3fn<infinity>").tolist()[:2] == [1.125, -1.125]
    assert lowprec.quantize(x, "e4m3fn<infinity>")[2].isnan()
    assert lowprec.quantize(x.numpy(), "e4m3fn").tolist() == [1.125, -1.125, 448.0]


@pytest.mark.parametrize(
    ("dtype", "own"),
    [(torch.float16, "binary16"), (torch.float64, "binary64"), (torch.bfloat16, "bfloat16")],
)
def test_the_format_of_a_carrier_changes_nothing(dtype: torch.dtype, own: str) -> None:
    x = spread(900, dtype=dtype)
    for rounding in ROUNDINGS:
        assert_same(lowprec.quantize(x, own, rounding=rounding, seed=seed_for(rounding)), x)


@pytest.mark.parametrize("name", ["bfloat16", "binary32", "fixed16f8", "fixed8f25", "bfp16"])
def test_what_float16_cannot_hold(name: str) -> None:
    message = f"`format` must be exact in the carrier float16 .*got '{name}'. Pass a .*float32"
    with pytest.raises(ValueError, match=message):
        lowprec.quantize(torch.ones(1).half(), name)


@pytest.mark.parametrize("shape", [(33,), (7, 5001), (SERIAL_BELOW + 7,)], ids=str)
@pytest.mark.parametrize("dtype", CARRIERS)
def test_in_place_gives_the_same_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for format in FORMATS:
        for rounding in ("nearest_even", STOCHASTIC):
            x = spread(*shape, dtype=dtype)
            options = {"rounding": rounding, "seed": seed_for(rounding)}
            want = lowprec.quantize(x, format, **options)
            out = torch.empty_like(x)
            assert_same(lowprec.quantize(x, format, **options, out=out), want)
            assert_same(lowprec.quantize(x, format, **options, out=x), want)


class TestGradients:
    @pytest.mark.parametrize("dtype", NEW)
    def test_straight_through_once_and_twice(self, dtype: torch.dtype) -> None:
        x = torch.tensor([0.3, 500.0, -2.2], dtype=dtype, requires_grad=True)
        y = lowprec.quantize(x, "e4m3fn")
        (first,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        assert_same(first, 3 * y**2)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert_same(second, 6 * y)

    @pytest.mark.parametrize("dtype", NEW)
    @pytest.mark.parametrize("format", ["e4m3fn", "bfp4<group8>"])
    def test_a_quantizer_of_everything(self, format: str, dtype: torch.dtype) -> None:
        x, error = spread(30, 40, dtype=dtype).requires_grad_(), spread(30, 40, dtype=dtype, seed=2)
        layer = Quantizer(format, "e5m2", rounding=STOCHASTIC, clip_gradient=True)
        torch.manual_seed(21)
        seed = torch.ops.lowprec.draw_seed(x).item()
        torch.manual_seed(21)
        y = layer(x)
        y.backward(error)
        assert_same(y.detach(), expected(x, format, STOCHASTIC, seed=seed))
        fired = expected_overflow(x, format, STOCHASTIC, seed=seed)
        assert fired.any()
        clipped = torch.where(fired, torch.zeros((), dtype=dtype), error)
        assert_same(x.grad, expected(clipped, "e5m2", STOCHASTIC, seed=seed, stream=1))

    def test_nothing_is_recorded_where_nothing_is_wanted(self) -> None:
        x = spread(5).requires_grad_()
        with torch.no_grad():
            assert lowprec.quantize(x, "e4m3fn").grad_fn is None
        with torch.inference_mode():
            assert lowprec.quantize(x, "e4m3fn").is_inference()
        y = lowprec.quantize(x, "e4m3fn")
        assert y.requires_grad
        assert not y.is_leaf
        y.mul_(2)  # it is no view: what follows may change it
        y.sum().backward()
        assert_same(x.grad, torch.full((5,), 2.0))
        assert_same(x.detach(), spread(5))


@pytest.mark.parametrize("dtype", NEW)
def test_flags(dtype: torch.dtype) -> None:
    x = spread(3000, dtype=dtype)
    words = torch.tensor([SEED - 2**64])
    fired = torch.ops.lowprec.overflowed(x, words, "e4m3fn", STOCHASTIC, 32)
    want = reference.overflowed(as_array(x), "e4m3fn", **reference_options(x, STOCHASTIC))
    assert torch.equal(fired, torch.from_numpy(want))


@pytest.mark.slow
def test_more_elements_than_32_bits_count() -> None:
    """2^31 + 1000 elements in place; compared in chunks, each a shard of the whole."""
    count, chunk = 2**31 + 1000, 1 << 24
    base = spread(chunk, dtype=torch.bfloat16)

    def part(first: int) -> Tensor:
        return base[: min(chunk, count - first)]

    x = torch.empty(count, dtype=torch.bfloat16)  # 4.3 GB
    words = torch.tensor([SEED - 2**64])
    for rounding, format in (
        ("nearest_even", "e4m3fn"),
        (STOCHASTIC, "e4m3fn"),
        ("nearest_even", "bfp8<group32>"),
    ):
        for first in range(0, count, chunk):
            x[first : first + chunk] = part(first)
        lowprec.quantize(x, format, rounding=rounding, seed=seed_for(rounding), out=x)
        for first in range(0, count, chunk):
            want = torch.ops.lowprec.quantize(
                part(first), words if rounding == STOCHASTIC else None, format, rounding, 32, 0, first
            )
            assert torch.equal(x[first : first + chunk].view(torch.int16), want.view(torch.int16)), first


def test_an_output_that_is_negated_memory_is_refused() -> None:
    out = torch.tensor([1 + 1j]).conj().imag
    with pytest.raises(ValueError, match=r"`out` must not be a view of negated memory.*resolve_neg"):
        lowprec.quantize(torch.tensor([0.3]), "e4m3fn", out=out)


def test_a_mask_is_not_dropped() -> None:
    masked = np.ma.masked_invalid(np.float32([0.3, np.nan]))
    with pytest.raises(TypeError, match=r"`x` must be a plain array.*filled"):
        lowprec.quantize(masked, "e4m3fn")


def test_digits_are_those_of_ascii() -> None:
    with pytest.raises(ValueError, match="known name"):
        lowprec.formats.parse("fixed\N{ARABIC-INDIC DIGIT EIGHT}f6")
