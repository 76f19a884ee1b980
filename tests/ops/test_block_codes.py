"""encode and decode of block formats: mantissas, scales, groups of every shape, every error."""

import pytest
import torch
from oracle import SEED, STOCHASTIC, as_array, assert_same, reference_options, scales_of, spread
from torch import Tensor

import lowprec
from lowprec import decode, encode, reference
from lowprec.formats import Scaled, parse
from lowprec.modes import Rounding

NAN, INFINITY = float("nan"), float("inf")

GROUPS = [  # format, shape of x, shape of the scales
    ("bfp8", (), ()),
    ("bfp8", (7, 5), (1, 1)),
    ("bfp8<group32>", (3, 70), (3, 3)),
    ("bfp8<group>", (3, 70), (3, 1)),
    ("bfp4<group4@0>", (10, 3, 2), (3, 3, 2)),
    ("bfp8<channel0>", (6, 2, 9), (6, 1, 1)),
    ("bfp8<channel0&-1>", (6, 2, 9), (6, 1, 9)),
    ("bfp8<block16x16>", (2, 33, 17), (2, 3, 2)),
    ("bfp6<block3>", (4, 8), (4, 3)),
    ("bfp8<group5,exponent3>", (9, 11), (9, 3)),
    ("scaled<e4m3fn,e8m0>", (), ()),
    ("mxfp8_e5m2", (3, 70), (3, 3)),
    ("mxint8", (2, 3, 32), (2, 3, 1)),
    ("scaled<e2m1,e8m0,group4@0>", (10, 3, 2), (3, 3, 2)),
    ("scaled<e3m2,e8m0,block16x16>", (2, 33, 17), (2, 3, 2)),
]


def finite(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values of every magnitude, infinities among them, but no NaN."""
    return spread(*shape).nan_to_num(nan=0.5, posinf=INFINITY, neginf=-INFINITY).to(dtype)


def seed_for(rounding: str) -> int | None:
    """The seed, where the mode uses one."""
    return SEED if Rounding(rounding).is_stochastic else None


def check(x: Tensor, format: str, rounding: str = "nearest_even", random_bits: int | None = None) -> Tensor:
    """Codes and scales equal the definition, and decode undoes encode; the scales."""
    noise = {"rounding": rounding, "random_bits": random_bits, "seed": seed_for(rounding)}
    codes, scales = encode(x, format, **noise)
    options = reference_options(x, rounding, random_bits)
    want, want_scales = reference.encode(as_array(x), format, **options)
    assert torch.equal(codes, torch.from_numpy(want))
    assert scales.dtype == (torch.float8_e8m0fnu if isinstance(parse(format), Scaled) else x.dtype)
    assert_same(scales, scales_of(want_scales, scales.dtype))
    assert_same(decode(codes, format, dtype=x.dtype, scales=scales), lowprec.quantize(x, format, **noise))
    return scales


@pytest.mark.parametrize(("format", "shape", "groups"), GROUPS)
def test_groups_of_every_shape(format: str, shape: tuple[int, ...], groups: tuple[int, ...]) -> None:
    assert check(finite(*shape), format).shape == groups


@pytest.mark.parametrize("random_bits", [None, 3])
def test_equal_seeds_give_the_codes_of_quantize(random_bits: int | None) -> None:
    check(finite(9, 70), "bfp4<group32>", STOCHASTIC, random_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_mode_and_carrier(dtype: torch.dtype, rounding: str) -> None:
    for format, shape, groups in GROUPS:
        assert check(finite(*shape, dtype=dtype), format, rounding).shape == groups
    for format in ("bfp2", "bfp9<group4>"):
        check(finite(20, 30, dtype=dtype), format, rounding)


@pytest.mark.parametrize(
    ("format", "dtype"), [("bfp2", torch.uint8), ("bfp8", torch.uint8), ("bfp9", torch.uint16),
                          ("bfp16", torch.uint16), ("bfp17", torch.uint32), ("bfp25", torch.uint32)],
)  # fmt: skip
def test_the_width_of_codes(format: str, dtype: torch.dtype) -> None:
    x = finite(40, 5).nan_to_num(0.0, 1.0, -1.0)
    codes, scales = encode(x, format)
    assert codes.dtype == dtype
    assert_same(decode(codes, format, scales=scales), lowprec.quantize(x, format))


class TestScales:
    def test_are_two_to_the_exponent_of_the_largest_finite_magnitude(self) -> None:
        x = torch.tensor([[1.99, 0.1], [-4.0, INFINITY], [0.0, -0.3], [-3e38, 3e38]])
        _, scales = encode(x, "bfp8<channel0>")
        assert scales.tolist() == [[1.0], [4.0], [0.25], [2.0**127]]

    def test_a_group_without_a_finite_magnitude_has_the_least(self) -> None:
        x = torch.tensor([[0.0, -0.0], [INFINITY, 0.0]])
        codes, scales = encode(x, "bfp8<channel0>")
        assert scales.tolist() == [[2.0**-143]] * 2  # the step is the carrier's least value
        assert codes.tolist() == [[0, 0], [127, 0]]
        assert encode(x, "bfp8<channel0,exponent3>")[1].tolist() == [[2.0**-3]] * 2

    def test_are_clamped_to_the_exponent_that_is_stored(self) -> None:
        x = torch.tensor([[100.0, 1.0], [0.01, 0.02]])
        codes, scales = encode(x, "bfp8<channel0,exponent3>")
        assert scales.tolist() == [[16.0], [0.125]]
        assert codes.tolist() == [[127, 4], [5, 10]]

    def test_stay_as_they_are_for_any_strides(self) -> None:
        x = finite(12, 40)
        codes, scales = encode(x.T, "bfp8<group8>")
        want = encode(x.T.contiguous(), "bfp8<group8>")
        assert torch.equal(codes, want[0])
        assert_same(scales, want[1])
        values = decode(codes, "bfp8<group8>", scales=scales)
        assert_same(decode(codes.T, "bfp8<group8@0>", scales=scales.T).T, values)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_every_scale_that_a_format_has(self, dtype: torch.dtype) -> None:
        carrier = {torch.float32: (-149, 127), torch.bfloat16: (-133, 127)}[dtype]
        exponents = torch.arange(carrier[0] + 2, carrier[1] + 1)  # the step of bfp4 lies two below
        scales = torch.exp2(exponents.double()).to(dtype)[:, None]
        codes = torch.arange(1, 16).to(torch.uint8)[None].repeat(len(scales), 1)
        codes[codes == 8] = 0  # the code that no value has
        values = decode(codes, "bfp4<channel0>", scales=scales)
        want = reference.decode(codes.numpy(), "bfp4<channel0>", scales=as_array(scales))
        assert_same(values, torch.from_numpy(want).to(dtype))

    def test_meta_tensors_show_shapes_and_dtypes(self) -> None:
        codes, scales = encode(torch.empty(3, 40, device="meta", dtype=torch.float16), "bfp9<group16>")
        assert (codes.shape, codes.dtype, codes.device.type) == ((3, 40), torch.uint16, "meta")
        assert (scales.shape, scales.dtype, scales.device.type) == ((3, 3), torch.float16, "meta")
        values = decode(codes, "bfp9<group16>", scales=scales)
        assert (values.shape, values.dtype, values.device.type) == ((3, 40), torch.float16, "meta")
        with pytest.raises(ValueError, match=r"`scales` must have shape \(3, 3\), one for each group"):
            decode(codes, "bfp9<group16>", scales=scales[:2])


def test_gradients_end_here() -> None:
    x = finite(9).requires_grad_()
    codes, scales = encode(x, "bfp8")
    assert not codes.requires_grad
    assert not scales.requires_grad
    leaf = scales.clone().requires_grad_()
    assert not decode(codes, "bfp8", scales=leaf).requires_grad


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 5)])
@pytest.mark.parametrize(
    "format", ["bfp8", "bfp8<group2>", "bfp8<channel0>", "bfp8<block2>", "bfp8<group@0>"]
)
def test_no_element(format: str, shape: tuple[int, ...]) -> None:
    codes, scales = encode(torch.empty(shape), format)
    assert codes.shape == shape
    want = reference.encode(torch.empty(shape).numpy(), format)[1]
    assert scales.shape == want.shape
    assert decode(codes, format, scales=scales).shape == shape


def test_threads_change_no_bit() -> None:
    x = finite(40, 4001)
    before = torch.get_num_threads()
    try:
        for format in ("bfp8", "bfp8<group32>"):
            results = []
            for count in (1, 3):
                torch.set_num_threads(count)
                results.append(encode(x, format, rounding=STOCHASTIC, seed=SEED))
            assert torch.equal(results[0][0], results[1][0])
            assert_same(results[0][1], results[1][1])
    finally:
        torch.set_num_threads(before)


def test_a_nan_has_no_code() -> None:
    for format in ("bfp8", "bfp8<group2>"):
        with pytest.raises(ValueError, match=f"`x` must hold nothing that becomes NaN: {format} has no"):
            encode(torch.tensor([1.0, NAN]), format)


def test_the_axes_of_a_format_must_be_there() -> None:
    with pytest.raises(ValueError, match="`axis` must lie within the 1 dimensions"):
        encode(torch.ones(3), "bfp8<channel1>")
    with pytest.raises(ValueError, match="`shape` must have no more sizes than the 1 dimensions"):
        encode(torch.ones(3), "bfp8<block2x2>")


class Elsewhere(Tensor):
    """A tensor that says that it lies on another device."""

    is_cpu = is_cuda = is_meta = False
    device = torch.device("mps:0")


CODES, ONES = torch.zeros(4, dtype=torch.uint8), torch.ones(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scales": None}, ValueError, "`scales` must be given for bfp8<group2>, got None"),
        ({"scales": [1.0, 1.0]}, TypeError, "`scales` must be a tensor, got <class 'list'>"),
        ({"scales": ONES.as_subclass(Elsewhere)}, ValueError, "`scales` must be on the CPU or a CUDA device"),
        ({"scales": ONES.int()}, TypeError, "`scales` must be one of torch.float32, .* got torch.int32"),
        ({"scales": torch.ones(4)}, ValueError, r"`scales` must have shape \(2,\), one for each .*, got \(4"),
        ({"scales": torch.ones(1, 2)}, ValueError, r"`scales` must have shape \(2,\), .* got \(1, 2\)"),
        ({"dtype": torch.float64}, ValueError, "`dtype` must be None or the dtype of scales, got"),
        ({"scales": ONES.bfloat16(), "format": "bfp16<group2>", "codes": CODES.to(torch.uint16)}, ValueError,
         "`format` must be exact in the carrier bfloat16"),
        ({"codes": CODES.to(torch.uint16)}, TypeError, "`codes` must be torch.uint8 for bfp8<group2>"),
    ],
)  # fmt: skip
def test_what_decode_refuses(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        decode(**{"codes": CODES, "format": "bfp8<group2>", "scales": ONES, **arguments})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("format", "scale"),
    [("bfp4<channel0>", scale) for scale in (3.0, 0.0, -0.0, -1.0, INFINITY, NAN)]
    + [("bfp4<channel0,exponent3>", scale) for scale in (32.0, 0.0625)],
)
def test_a_scale_that_no_group_has_is_an_error(format: str, scale: float, dtype: torch.dtype) -> None:
    scales = torch.tensor([[1.0], [scale]], dtype=dtype)
    with pytest.raises(
        ValueError, match=rf"`scales` must be powers of two from .* for {format}, got {scale}"
    ):
        decode(CODES[:2, None], format, scales=scales)


def test_a_scale_whose_step_the_carrier_lacks_is_an_error() -> None:
    message = r"`scales` must be powers of two from 2\^-143 to 2\^127 for bfp8, got 5.6"
    with pytest.raises(ValueError, match=message):
        decode(CODES, "bfp8", scales=torch.tensor([2.0**-147]))
