"""The operators as torch sees them: opcheck, autograd, functorch, meta tensors."""

import pytest
import torch
from oracle import ROUNDINGS, SEED, STOCHASTIC, assert_same, expected, expected_overflow, spread
from torch import Tensor
from torch.autograd import forward_ad
from torch.library import opcheck

import lowprec

FORMATS = ["e4m3fn", "fixed8f4", "bfp8", "bfp8<group4>", "bfp8<channel0>"]
OPERATORS = torch.ops.lowprec


def arguments(format: str, rounding: str) -> tuple[Tensor | None, str, str, int]:
    """Seed, format, mode and bits as the operators take them."""
    return torch.tensor([9]) if rounding == STOCHASTIC else None, format, rounding, 32


@pytest.mark.parametrize("rounding", ["nearest_even", STOCHASTIC])
@pytest.mark.parametrize("format", FORMATS)
def test_opcheck(format: str, rounding: str) -> None:
    options = arguments(format, rounding)
    for x in (spread(6, 8).nan_to_num(0.0, 1.0, -1.0), spread(4, 3, 2, dtype=torch.bfloat16)):
        opcheck(OPERATORS.quantize.default, (x.clone().requires_grad_(), *options))
        opcheck(OPERATORS.overflowed.default, (x, *options))
        opcheck(OPERATORS.quantize_out.default, (x, *options), {"out": torch.empty_like(x)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_opcheck_of_the_other_carriers(dtype: torch.dtype) -> None:
    x = spread(6, 8, dtype=dtype).nan_to_num(0.0, 1.0, -1.0)
    opcheck(OPERATORS.quantize.default, (x.clone().requires_grad_(), *arguments("e4m3fn", STOCHASTIC)))


@pytest.mark.parametrize("rounding", ["nearest_even", STOCHASTIC])
def test_opcheck_of_the_operator_without_a_gradient(rounding: str) -> None:
    x = spread(6, 8).nan_to_num(0.0, 1.0, -1.0).T
    opcheck(OPERATORS.quantize_plain.default, (x, *arguments("e4m3fn", rounding), 1, 5, (1, 8)))


@pytest.mark.parametrize("rounding", ["nearest_even", STOCHASTIC])
def test_opcheck_of_codes(rounding: str) -> None:
    x = spread(6, 8).nan_to_num(0.0, 1.0, -1.0)
    opcheck(OPERATORS.encode.default, (x.T, *arguments("e4m3fn", rounding)))
    opcheck(OPERATORS.encode_groups.default, (x.T, [], *arguments("bfp8<group4>", rounding)))
    codes, scales = OPERATORS.encode_groups(x.T, [], *arguments("bfp8<group4>", rounding))
    opcheck(OPERATORS.decode.default, (codes.T, [scales.T], "bfp8<group4@0>", torch.float32))
    opcheck(OPERATORS.decode.default, (codes % 64, [], "e4m3fn", torch.float64))


def test_opcheck_of_strides_and_index_maps() -> None:
    x = spread(6, 8).nan_to_num(0.0, 1.0, -1.0).T
    options = (*arguments("e4m3fn", STOCHASTIC), 1, 5, (1, 8))
    opcheck(OPERATORS.quantize.default, (x.detach().requires_grad_(), *options))
    opcheck(OPERATORS.overflowed.default, (x, *options))
    opcheck(OPERATORS.quantize_out.default, (x, *options), {"out": torch.empty(8, 6)})


def test_opcheck_of_draw_seed() -> None:
    # Eager and traced calls draw one after the other, and so cannot agree: only their shapes do.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(OPERATORS.draw_seed.default, (spread(3),), test_utils=checks)
    tags = OPERATORS.draw_seed.default.tags
    assert torch.Tag.nondeterministic_seeded in tags
    for name in ("quantize", "quantize_plain", "quantize_out", "overflowed", "encode", "encode_groups"):
        assert torch.Tag.nondeterministic_seeded not in getattr(OPERATORS, name).default.tags


class TestGradient:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("format", FORMATS)
    def test_is_the_identity_on_every_element(self, format: str, rounding: str, dtype: torch.dtype) -> None:
        """Also where x is NaN, infinite or past the range, and whatever the error is."""
        x = spread(40, 30, dtype=dtype).requires_grad_()
        y = lowprec.quantize(x, format, rounding=rounding)
        error = spread(40, 30, dtype=dtype, seed=2)
        y.backward(error)
        assert_same(x.grad, error)

    def test_no_gradient_where_none_is_wanted(self) -> None:
        assert not lowprec.quantize(spread(3), "e4m3fn").requires_grad
        with torch.no_grad():
            assert not lowprec.quantize(spread(3).requires_grad_(), "e4m3fn").requires_grad

    def test_twice(self) -> None:
        x = torch.tensor([0.3, 500.0, -2.2], requires_grad=True)
        y = lowprec.quantize(x, "e4m3fn")
        (first,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        assert_same(first, 3 * y**2)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert_same(second, 6 * y)

    def test_a_batch_of_vectors(self) -> None:
        x = spread(5).nan_to_num(0.0, 1.0, -1.0).requires_grad_()
        y = lowprec.quantize(x, "e4m3fn")
        (rows,) = torch.autograd.grad(y, x, torch.eye(5), is_grads_batched=True)
        assert_same(rows, torch.eye(5))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch itself, in forward mode
class TestFunctorch:
    @pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero"])
    @pytest.mark.parametrize("dim", [0, 1, 2])
    @pytest.mark.parametrize("format", FORMATS)
    def test_vmap_is_a_loop(self, format: str, dim: int, rounding: str) -> None:
        x = spread(5, 6, 8)

        def function(example: Tensor) -> Tensor:
            return lowprec.quantize(example, format, rounding=rounding)

        want = torch.stack([function(example) for example in x.unbind(dim)])
        assert_same(torch.vmap(function, in_dims=dim)(x), want)

    def test_vmap_of_vmap(self) -> None:
        x = spread(3, 4, 8)
        for format in ("e4m3fn", "bfp8"):
            function = torch.vmap(torch.vmap(lambda v, f=format: lowprec.quantize(v, f)))
            want = [[lowprec.quantize(vector, format) for vector in row] for row in x]
            assert_same(function(x), torch.stack([torch.stack(row) for row in want]))

    @pytest.mark.parametrize("rounding", [STOCHASTIC, "stochastic_equal"])
    def test_vmap_of_stochastic_is_refused(self, rounding: str) -> None:
        function = torch.vmap(lambda x: lowprec.quantize(x, "e4m3fn", rounding=rounding, seed=1))
        with pytest.raises(ValueError, match="`rounding` must be deterministic under"):
            function(spread(4, 5))

    @pytest.mark.parametrize("format", ["e4m3fn", "bfp8"])
    def test_torch_func_sees_the_identity(self, format: str) -> None:
        x = spread(3, 4).nan_to_num(0.0, 1.0, -1.0)

        def loss(x: Tensor) -> Tensor:
            return (lowprec.quantize(x, format) ** 2).sum()

        want = 2 * lowprec.quantize(x, format)
        assert_same(torch.func.grad(loss)(x), want)
        assert_same(torch.func.vmap(torch.func.grad(loss))(x), 2 * lowprec.quantize(x, "bfp8<channel0>")
                    if format == "bfp8" else want)  # fmt: skip
        value, tangent = torch.func.jvp(lambda x: lowprec.quantize(x, format), (x,), (want,))
        assert_same(value, lowprec.quantize(x, format))
        assert_same(tangent, want)
        assert_same(torch.func.jacfwd(lambda x: lowprec.quantize(x, format))(x[0]), torch.eye(4))

    @pytest.mark.parametrize("leaf", [False, True])
    def test_forward_mode_sees_the_identity(self, leaf: bool) -> None:
        x = spread(30).requires_grad_(leaf)
        with forward_ad.dual_level():
            y = lowprec.quantize(forward_ad.make_dual(x, torch.arange(30.0)), "e4m3fn")
            assert_same(forward_ad.unpack_dual(y).tangent.detach(), torch.arange(30.0))


class TestMeta:
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_shapes_and_strides(self, rounding: str, dtype: torch.dtype) -> None:
        x = torch.empty(3, 4, 5, dtype=dtype, device="meta").permute(2, 0, 1)
        y = lowprec.quantize(x, "e5m2", rounding=rounding)
        assert (y.device.type, y.dtype, y.shape) == ("meta", dtype, x.shape)
        assert y.stride() == torch.empty_like(x).stride()
        seed = torch.ops.lowprec.draw_seed(x)
        assert (seed.device.type, seed.dtype, seed.shape) == ("meta", torch.int64, (1,))
        flags = OPERATORS.overflowed(x, seed, "e5m2", rounding, 32)
        assert (flags.device.type, flags.dtype, flags.shape) == ("meta", torch.bool, x.shape)

    def test_out(self) -> None:
        out = torch.empty(3, device="meta")
        assert lowprec.quantize(torch.empty(3, device="meta"), "e5m2", out=out) is out


@pytest.mark.parametrize("stream", [0, 1, 12345678901])
def test_the_stream_selects_the_words(stream: int) -> None:
    x = spread(300)
    options = (torch.tensor([SEED - 2**64]), "fixed8f4", STOCHASTIC, 32, stream)
    assert_same(OPERATORS.quantize(x, *options), expected(x, "fixed8f4", STOCHASTIC, stream=stream))
    want = expected_overflow(x, "fixed8f4", STOCHASTIC, stream=stream)
    assert_same(OPERATORS.overflowed(x, *options), want)
    out = torch.empty(300)
    assert OPERATORS.quantize_out(x, *options, out=out) is None
    assert_same(out, expected(x, "fixed8f4", STOCHASTIC, stream=stream))
