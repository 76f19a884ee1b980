"""encode and decode of formats without groups: every code, every carrier, every mode, every error."""

from functools import lru_cache

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hard_formats import ELEMENTWISE
from hard_inputs import hard_values
from oracle import (
    ROUNDINGS,
    SEED,
    STOCHASTIC,
    assert_same,
    holders,
    spread,
    tensor_of,
)
from torch import Tensor

import lowprec
from lowprec import decode, encode, reference
from lowprec.formats import Format, parse
from lowprec.modes import Rounding

CODES = {8: torch.uint8, 16: torch.uint16, 32: torch.uint32, 64: torch.uint64}
NAN = float("nan")


def code_dtype(format: str) -> torch.dtype:
    """The narrowest unsigned integers that hold the codes."""
    return next(dtype for width, dtype in CODES.items() if width >= parse(format).bits)


def has_codes(format: str) -> bool:
    """Whether codes have a width."""
    return "unbounded" not in format


# The symmetric ones leave out a code, of which a test below tells.
NARROW = [f for f in ELEMENTWISE if has_codes(f) and parse(f).bits <= 16 and "symmetric" not in f]
ONCE = [  # every format with one of its carriers
    (format, holders(format)[turn % len(holders(format))]) for turn, format in enumerate(NARROW)
]
EVERYWHERE = [(format, dtype) for format in ELEMENTWISE if has_codes(format) for dtype in holders(format)]


@lru_cache(maxsize=2)
def values_of_all_codes(format: str) -> npt.NDArray[np.float64]:
    """What every code means by the definition."""
    return reference.decode(np.arange(1 << parse(format).bits), format, dtype=np.float64)


def check_every_code(format: str, dtype: torch.dtype) -> None:
    """Every code means what the definition says, and comes back."""
    bits = parse(format).bits
    codes = torch.arange(1 << bits).to(code_dtype(format))
    values = decode(codes, format, dtype=dtype)
    assert_same(values, torch.from_numpy(values_of_all_codes(format)).to(dtype))
    want = codes.int()  # but one code for all NaN, and none for subnormals that are zeros
    if parse(format).has_nan:
        want[values.isnan()] = reference.code_of(NAN, parse(format))
    want[values == 0] &= 1 << (bits - 1) if parse(format).has_signed_zero else 0
    if "saturate_all" in format:
        want[values.isinf()] -= 1  # the largest value
    back = encode(values, format)
    assert back.dtype == codes.dtype
    assert torch.equal(back.int(), want)


@pytest.mark.parametrize(("format", "dtype"), ONCE, ids=str)
def test_every_code_goes_there_and_back(format: str, dtype: torch.dtype) -> None:
    check_every_code(format, dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("format", "dtype"), [pair for pair in EVERYWHERE if pair[0] in NARROW], ids=str)
def test_every_code_goes_there_and_back_in_every_carrier(format: str, dtype: torch.dtype) -> None:
    check_every_code(format, dtype)


def test_the_code_that_a_symmetric_format_leaves_out() -> None:
    codes = torch.tensor([128, 129], dtype=torch.uint8)
    values = decode(codes, "fixed8f4<symmetric>")
    assert values.tolist() == [-8.0, -7.9375]
    assert encode(values, "fixed8f4<symmetric>").tolist() == [129, 129]


def inputs(format: str, dtype: torch.dtype, count: int) -> Tensor:
    """About ``count`` hard values, without NaN where it would have no code."""
    x = hard_values(parse(format), str(dtype).removeprefix("torch."))
    if not parse(format).has_nan:
        x = x[np.isfinite(x)]
    return tensor_of(x[:: max(x.size // count, 1)], dtype)


def check_round_trip(x: Tensor, format: str, rounding: str, random_bits: int | None = None) -> None:
    """decode undoes encode: the values are those of quantize."""
    noise = {"random_bits": random_bits, "seed": SEED} if Rounding(rounding).is_stochastic else {}
    codes = encode(x, format, rounding=rounding, **noise)
    assert codes.dtype == code_dtype(format)
    values = decode(codes, format, dtype=x.dtype)
    assert_same(values, lowprec.quantize(x, format, rounding=rounding, **noise))


@pytest.mark.parametrize("rounding", Rounding)
def test_every_mode(rounding: str) -> None:
    for format in ("e4m3fn", "e5m2"):
        for random_bits in (None, 5) if Rounding(rounding).takes_random_bits else (None,):
            check_round_trip(inputs(format, torch.float32, 300), format, rounding, random_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("format", "dtype"), EVERYWHERE, ids=str)
def test_every_mode_and_carrier(format: str, dtype: torch.dtype) -> None:
    for rounding in Rounding:
        check_round_trip(inputs(format, dtype, 3000), format, rounding)


PEERS = {
    "binary16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "e5m2": ml_dtypes.float8_e5m2,
    "e5m2fnuz<infinity>": ml_dtypes.float8_e5m2fnuz,
    "e4m3fn<infinity>": ml_dtypes.float8_e4m3fn,
    "e4m3fnuz<infinity>": ml_dtypes.float8_e4m3fnuz,
    "e4m3fnuz<infinity,bias11>": ml_dtypes.float8_e4m3b11fnuz,
    "e4m3ieee": ml_dtypes.float8_e4m3,
    "e3m4": ml_dtypes.float8_e3m4,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("format", PEERS)
def test_codes_are_the_bits_of_ml_dtypes(format: str) -> None:
    peer, dtype = PEERS[format], code_dtype(format)
    codes = torch.arange(1 << parse(format).bits).to(dtype)
    with np.errstate(invalid="ignore"):  # float16's signaling NaN
        meant = codes.numpy().view(peer).astype(np.float32)
    assert_same(decode(codes, format), torch.from_numpy(meant))
    x = inputs(format, torch.float32, 4000)
    with np.errstate(over="ignore"):
        cast = x.numpy().astype(peer).view(codes.numpy().dtype)
    # The sign and the payload of a NaN are its own there, and ours are one code.
    kept = ~decode(torch.from_numpy(cast), format).isnan()
    assert torch.equal(encode(x, format)[kept].int(), torch.from_numpy(cast.astype(np.int32))[kept])
    assert decode(encode(x, format), format)[~kept].isnan().all()


def test_the_codes_of_torch_float8() -> None:
    x = spread(3000)
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        x = x.clamp(-400, 400)  # torch's casts of the rest are not the format's rule
        codes = encode(x, dtype)
        assert torch.equal(codes[~x.isnan()], x.to(dtype).view(torch.uint8)[~x.isnan()])
        assert_same(decode(codes, dtype), x.to(dtype).float())


class TestNoise:
    def test_equal_seeds_give_the_codes_of_quantize(self) -> None:
        x = spread(3000)
        for seed in (0, -1, 2**64 - 1, torch.tensor([77])):
            codes = encode(x, "e5m2", rounding=STOCHASTIC, seed=seed)
            assert_same(decode(codes, "e5m2"), lowprec.quantize(x, "e5m2", rounding=STOCHASTIC, seed=seed))
        assert not torch.equal(codes, encode(x, "e5m2", rounding=STOCHASTIC, seed=78))

    def test_seeds_are_drawn_as_in_quantize(self) -> None:
        x = spread(3000)
        for source in (None, torch.Generator()):
            manual = torch.manual_seed if source is None else source.manual_seed
            manual(5)
            values = [lowprec.quantize(x, "e5m2", rounding=STOCHASTIC, generator=source) for _ in range(2)]
            manual(5)
            codes = [encode(x, "e5m2", rounding=STOCHASTIC, generator=source) for _ in range(2)]
            assert not torch.equal(*codes)
            for one, other in zip(codes, values, strict=True):
                assert_same(decode(one, "e5m2"), other)


class TestTensors:
    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x.T,
            lambda x: x[::2, 1::3],
            lambda x: x[:1].expand(12, 15),
            lambda x: x.view(3, 4, 5, 3).to(memory_format=torch.channels_last),
            lambda x: x[3, 4],
            lambda x: x[:0],
            lambda x: x[:, :0],
        ],
        ids=["transposed", "steps", "expanded", "channels_last", "no dimension", "empty", "no columns"],
    )
    def test_any_strides(self, view) -> None:
        for rounding in ROUNDINGS:
            x = view(spread(12, 15))
            noise = {"seed": 3} if rounding == STOCHASTIC else {}
            codes = encode(x, "e4m3fn", rounding=rounding, **noise)
            assert codes.shape == x.shape
            plain = x.clone(memory_format=torch.contiguous_format)
            assert torch.equal(codes, encode(plain, "e4m3fn", rounding=rounding, **noise))
            values = lowprec.quantize(plain, "e4m3fn", rounding=rounding, **noise)
            assert_same(decode(codes, "e4m3fn"), values)

    def test_codes_of_any_strides(self) -> None:
        codes = torch.arange(240, dtype=torch.uint8).view(12, 20)
        values = decode(codes, "e5m2")
        for view in (lambda c: c.T, lambda c: c[::2, 1::3], lambda c: c[:1].expand(5, 20)):
            assert_same(decode(view(codes), "e5m2"), view(values))

    def test_gradients_end_here(self) -> None:
        x = spread(9).requires_grad_()
        codes = encode(x, "e4m3fn")
        assert not codes.requires_grad
        assert torch.equal(codes, encode(torch.nn.Parameter(x.detach()), "e4m3fn"))
        assert_same(x.detach(), spread(9))

    def test_meta_tensors_show_shapes_and_dtypes(self) -> None:
        codes = encode(torch.empty(3, 4, device="meta").T, "binary16", rounding=STOCHASTIC)
        assert (codes.shape, codes.dtype, codes.device.type) == ((4, 3), torch.uint16, "meta")
        values = decode(codes, "binary16", dtype=torch.float64)
        assert (values.shape, values.dtype, values.device.type) == ((4, 3), torch.float64, "meta")

    @pytest.mark.parametrize("format", ["binary64", "e11m30ieee<bias1044>"])
    def test_codes_of_up_to_64_bits(self, format: str) -> None:
        x = inputs(format, torch.float64, 2000)
        codes = encode(x, format)
        assert codes.dtype == torch.uint64
        assert_same(decode(codes, format, dtype=torch.float64), lowprec.quantize(x, format))
        if format == "binary64":
            assert torch.equal(codes[~x.isnan()], x.view(torch.uint64)[~x.isnan()])

    def test_bits_above_the_width_of_a_fixed_point_code_do_not_count(self) -> None:
        codes = torch.arange(2048).to(torch.uint16)
        wide = torch.tensor([2048 * 31], dtype=torch.int32) + codes.int()
        assert_same(decode(wide.to(torch.uint16), "fixed11f4"), decode(codes, "fixed11f4"))


@pytest.mark.parametrize("format", ["fixed8f4", "ufixed8f8", "e2m1", "e3m2<nosubnormals>", "e3m0ieee"])
def test_a_nan_without_a_code_is_an_error(format: str) -> None:
    with pytest.raises(ValueError, match=f"`x` must hold nothing that becomes NaN: {format} has no code"):
        encode(torch.tensor([1.0, NAN]), format)
    assert encode(torch.tensor([1.0, float("inf")]), format).shape == (2,)


def test_an_infinity_that_wraps_to_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="`x` must hold nothing that becomes NaN: fixed8f4<wrap>"):
        encode(torch.tensor([1.0, float("inf")]), "fixed8f4<wrap>")


class Elsewhere(Tensor):
    """A tensor that says that it lies on another device."""

    is_cpu = is_cuda = is_meta = False
    device = torch.device("mps:0")


X = torch.ones(4)
BYTES = torch.zeros(4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [0.3]}, TypeError, "`x` must be a tensor, got <class 'list'>"),
        ({"x": X.int()}, TypeError, "`x` must be float32, .* got torch.int32"),
        ({"x": X.to_sparse()}, TypeError, "`x` must be a strided tensor"),
        ({"format": "e4m3"}, ValueError, "`format` must say which e4m3"),
        ({"format": 8}, TypeError, "`format` must be a format, a name or a torch dtype, got 8"),
        ({"format": "fixedf4<unbounded>"}, ValueError, "`format` must have codes of a certain width"),
        ({"format": "binary64"}, ValueError, "`format` must be exact in the carrier float32"),
        ({"rounding": "upward"}, ValueError, "`rounding` must be a known name, got 'upward'"),
        ({"rounding": STOCHASTIC, "random_bits": 0}, ValueError, "`random_bits` must lie between 1 and 32"),
        ({"random_bits": 4}, ValueError, "`random_bits` must be None where rounding is 'nearest_even'"),
        ({"seed": 4}, ValueError, "`seed` must be None where rounding is 'nearest_even'"),
        ({"generator": torch.Generator()}, ValueError, "`generator` must be None where rounding is"),
        ({"rounding": STOCHASTIC, "seed": 1.5}, TypeError, "`seed` must be an integer or an int64 tensor"),
        ({"rounding": STOCHASTIC, "seed": 1, "generator": torch.Generator()}, ValueError,
         "`seed` must be None where a generator is given"),
    ],
)  # fmt: skip
def test_what_encode_refuses(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        encode(**{"x": X, "format": "e4m3fn", **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"codes": [3]}, TypeError, "`codes` must be a tensor, got <class 'list'>"),
        ({"codes": BYTES.int()}, TypeError, "`codes` must be torch.uint8 for e4m3fn, got torch.int32"),
        ({"format": "binary16"}, TypeError, "`codes` must be torch.uint16 for binary16, got torch.uint8"),
        ({"codes": BYTES.as_subclass(Elsewhere)}, ValueError, "`codes` must be on the CPU or a CUDA device"),
        ({"format": "e4m3fnn"}, ValueError, "`format` must be a known name"),
        ({"format": "fixedf4<unbounded>"}, ValueError, "`format` must have codes of a certain width"),
        ({"format": "e5m2", "dtype": torch.int32}, TypeError, "`dtype` must be one of torch.float32, .*"),
        ({"dtype": "float32"}, TypeError, "`dtype` must be one of torch.float32, .* got 'float32'"),
        ({"format": "fixed8f127", "dtype": torch.float16}, ValueError, "exact in the carrier float16"),
        ({"codes": BYTES + 16, "format": "e2m1"}, ValueError, r"`codes` must lie below 2\^4 .*, got 16"),
        ({"codes": torch.tensor([2**63], dtype=torch.uint64), "format": "e11m30ieee<bias1044>",
          "dtype": torch.float64}, ValueError, r"`codes` must lie below 2\^42 .* got 9223372036854775808"),
        ({"scales": torch.ones(1)}, ValueError,
          r"`scales` must be None for e4m3fn, got \(1,\). Only formats with groups"),
    ],
)  # fmt: skip
def test_what_decode_refuses(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        decode(**{"codes": BYTES, "format": "e4m3fn", **arguments})


class Other(Format):
    """A user's own format."""

    bits = max = min = smallest_normal = smallest_subnormal = eps = 0
    has_infinity = has_nan = has_signed_zero = False
    magnitudes = missing_in = _on_grid = None


def test_a_format_of_another_family_has_no_codes() -> None:
    for call in (lambda: encode(X, Other()), lambda: decode(BYTES, Other())):
        with pytest.raises(TypeError, match=r"`format` must be of a family of lowprec\.formats, got"):
            call()
