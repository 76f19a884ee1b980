"""functional.linear equals torch's product of separately rounded operands, bit for bit."""

import pytest
import torch
import torch.nn.functional as F
from model.plain_products import (
    ERROR,
    INPUT,
    WEIGHT,
    WHOLE,
    assert_same,
    operands,
    plain_product,
    product_and_gradients,
    rounded,
)

from lowprec import SCHEMES, BlockFloatingPoint, Cast, FloatingPoint, Operands, PerChannel, Scheme
from lowprec.functional import linear

SHAPES = {"vector": (5,), "matrix": (6, 5), "batches": (2, 3, 5), "no rows": (0, 5)}


def simulated(x, weight, bias, error, scheme, seed=0, **options):
    """The output and the gradients of lowprec's product for an error."""

    noisy = scheme in ("bfp8-sr", "fixed8-sr") or "stochastic" in str(scheme)
    seed = seed if noisy else None

    def function(*leaves):
        return linear(*leaves, scheme=scheme, seed=seed, **options)

    return product_and_gradients(function, x, weight, bias, error)


def plain(x, weight, bias):
    """torch's product on a matrix of rows."""
    return F.linear(x.reshape(-1, x.shape[-1]), weight, bias).reshape(*x.shape[:-1], len(weight))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", WHOLE)
def test_every_named_scheme_is_the_product_of_rounded_operands(name, shape, training):
    x, weight, bias = operands(SHAPES[shape], (4, 5))
    error = operands((*x.shape[:-1], 4), (1, 1), seed=1)[0]
    scheme = SCHEMES[name]
    for b in (bias, None):
        got = simulated(x, weight, b, error, scheme, 7, training=training)
        want = plain_product(plain, x, weight, b, error, scheme, 7, training=training)
        assert_same(got, want)
    if x.numel() and name != "bf16":
        assert not torch.equal(got[0], F.linear(x, weight)), "the scheme has done something"


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        (torch.bfloat16, ["fp8-hybrid", "bfp8-sr", "fixed8"]),
        (torch.float16, ["bfp8-sr", "fixed8"]),
        (torch.float64, ["fp8-hybrid", "bfp8-sr", "fixed8"]),
    ],
)
def test_other_carriers(dtype, names):
    x, weight, bias = (t.to(dtype) for t in operands((6, 5), (4, 5)))
    error = operands((6, 4), (1, 1), seed=1)[0].to(dtype)
    for name in names:
        got = simulated(x, weight, bias, error, SCHEMES[name])
        assert got[0].dtype == dtype
        assert_same(got, plain_product(plain, x, weight, bias, error, SCHEMES[name]))


def test_without_any_cast_it_is_torch():
    x, weight, bias = operands((6, 5), (4, 5))
    error = torch.ones(6, 4)
    want = product_and_gradients(F.linear, x, weight, bias, error)
    assert_same(simulated(x, weight, bias, error, Scheme()), want)


def test_output_cast_and_channels_of_a_matrix_of_rows():
    # groups speak of the matrix of rows, so that no other cast changes what PerChannel(0) means
    rows = BlockFloatingPoint(4, PerChannel(0))
    x, weight, _ = operands((2, 3, 5), (4, 5))
    error = operands((2, 3, 4), (1, 1), seed=1)[0]
    scheme = Scheme(input=rows, weight=rows, error="e5m2", output="e4m3fn")
    got = simulated(x, weight, None, error, scheme)
    flat = plain_product(F.linear, x.view(6, 5), weight, None, error.view(6, 4), scheme)
    want = (flat[0].view(2, 3, 4), flat[1].view(2, 3, 5), *flat[2:])
    assert_same(got, want)
    split = Scheme(**{**vars(scheme), "grad_weight": Operands(input="e5m2")})
    assert_same(simulated(x, weight, None, error, split)[:2], want[:2])


@pytest.mark.parametrize(
    "format", ["bfp8<exponent4>", "scaled<e2m1,e4m3fn,group16,amax>", "scaled<fixed4f0<symmetric>,float16>"]
)
def test_loss_scale_is_refused_where_scales_have_a_narrow_range(format):
    x, weight, _ = operands((6, 16), (4, 16))
    linear(x, weight, scheme=Scheme(error=format))
    with pytest.raises(ValueError, match=r"`loss_scale` must be 1 for this error format, got"):
        linear(x, weight, scheme=Scheme(error=format, loss_scale=64))


@pytest.mark.parametrize("format", ["bfp8<group8>", "mxfp4", "nvfp4", "int8", "uint8"])
def test_groups_follow_a_loss_scale(format):
    x, weight, bias = operands((6, 16), (4, 16))
    error = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    got = simulated(x, weight, bias, error, Scheme(error=format, loss_scale=64))
    assert_same(got, simulated(x, weight, bias, error, Scheme(error=format)))
    assert_same(got, plain_product(plain, x, weight, bias, error, Scheme(error=format, loss_scale=64)))


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**-3, 1.0, 64.0, 2.0**16])
@pytest.mark.parametrize("format", ["e5m2", "e4m3fn<saturate_all>", "fixed8f7", "bfp8"])
@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "stochastic"])
def test_loss_scale_rounds_the_scaled_error(scale, format, rounding):
    x, weight, bias = operands((9, 5), (4, 5))
    error = operands((9, 4), (1, 1), seed=1)[0]
    scheme = Scheme(error=Cast(format, rounding), loss_scale=scale)
    want = plain_product(plain, x, weight, bias, error, scheme, seed=3)
    assert_same(simulated(x, weight, bias, error, scheme, seed=3), want)


def bfloat16_like(error, scale, overflow):
    """Q(scale · error) / scale in float64, which no operand here leaves."""
    scaled = error.double() * scale
    exponent = torch.frexp(scaled).exponent - 1
    unit = torch.ldexp(torch.ones_like(scaled), exponent.clamp(min=-126) - 7)
    value = (scaled / unit).round() * unit
    largest = (2 - 2**-7) * 2.0**127
    limit = largest if overflow == "saturate" else float("inf")
    return (torch.where(value.abs() > largest, value.sign() * limit, value) / scale).float()


@pytest.mark.parametrize("overflow", ["infinity", "saturate"])
@pytest.mark.parametrize("exponent", [16, 1, -16, -100])
def test_loss_scale_at_the_ends_of_the_carrier(exponent, overflow):
    patterns = torch.arange(0, 0x7F80, 3, dtype=torch.int32) << 16
    error = torch.cat([patterns + low for low in (0, 1, 0x7FFF, 0x8000, 0x8001)]).view(torch.float32)
    error = torch.cat([error, -error])[:, None]
    scale = 2.0**exponent
    scheme = Scheme(error=FloatingPoint(8, 7, overflow=overflow), loss_scale=scale)
    want = bfloat16_like(error, scale, overflow)
    if exponent < 0:  # the largest values of the scaled format lie past the carrier's end
        with pytest.raises(ValueError, match="`format` must be exact in the carrier float32"):
            simulated(torch.ones(1, 1), torch.ones(1, 1), None, error[:1], scheme)
        return
    x = torch.ones(len(error), 1, requires_grad=True)
    y = linear(x, torch.ones(1, 1), scheme=scheme)
    assert torch.equal(torch.autograd.grad(y, x, error)[0], want)


def test_clip_gradient_gives_none_where_overflow_fired():
    x = torch.tensor([[447.0, 464.0, 465.0, -1e9, float("inf"), 1.0]])
    weight = torch.tensor([[0.5, 2.0, 1000.0, 3.0, 1.0, -465.0]])
    inside = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 1.0]])
    clip = Cast("e4m3fn", clip_gradient=True)
    error = torch.tensor([[3.0]])
    _, *gradients, _ = simulated(x, weight, None, error, Scheme(input=clip, weight=clip))
    own, read = rounded(x, clip), rounded(weight, clip)
    assert torch.equal(gradients[0], 3 * read * inside)
    assert torch.equal(gradients[1], 3 * own * torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0, 0.0]]))
    straight = simulated(x, weight, None, error, Scheme(input="e4m3fn"))
    assert torch.equal(straight[1], 3 * weight)


def test_clip_gradient_of_the_output_comes_before_the_error_cast():
    scheme = Scheme(output=Cast("e4m3fn", clip_gradient=True), error="fixed8f4")
    x = torch.tensor([[1.0], [500.0]])
    _, gradient, *_ = simulated(x, torch.ones(1, 1), None, torch.full((2, 1), 0.3), scheme)
    assert gradient.tolist() == [[0.3125], [0.0]]


def test_equal_seeds_give_equal_bits_and_manual_seed_repeats():
    x, weight, bias = operands((6, 5), (4, 5))
    error = torch.randn(6, 4)
    results = [simulated(x, weight, bias, error, "bfp8-sr", seed) for seed in (1, 1, 2)]
    assert_same(results[0], results[1])
    assert not torch.equal(results[0][0], results[2][0])
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn += [simulated(x, weight, bias, error, "bfp8-sr", None) for _ in range(2)]
    assert_same(drawn[0], drawn[2])
    assert_same(drawn[1], drawn[3])
    assert not torch.equal(drawn[0][0], drawn[1][0])


def test_roles_do_not_share_noise():
    x = torch.full((64, 64), 0.3)
    cast = Cast("fixed8f2", "stochastic")
    seen = [rounded(x, cast, 9, stream) for stream in (INPUT, ERROR, WEIGHT)]
    eye = torch.eye(64)
    got_input = linear(x, eye, scheme=Scheme(input=cast), seed=9)
    got_weight = linear(eye, x, scheme=Scheme(weight=cast), seed=9).t()
    leaf = eye.clone().requires_grad_()
    y = linear(leaf, eye, scheme=Scheme(error=cast), seed=9)
    got_error = torch.autograd.grad(y, leaf, x)[0]
    for got, want in zip((got_input, got_error, got_weight), seen, strict=True):
        assert torch.equal(got, want)
    agreement = [(a == b).double().mean() for a, b in zip(seen, [*seen[1:], seen[0]], strict=True)]
    assert max(agreement) < 0.75  # equal noise would agree everywhere, independent noise on 0.68


def test_seed_is_not_touched_by_schemes_without_noise():
    before = torch.get_rng_state()
    simulated(*operands((6, 5), (4, 5)), torch.ones(6, 4), "bfp8")
    simulated(*operands((6, 5), (4, 5)), torch.ones(6, 4), "bfp8-sr", None, training=True)
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    simulated(*operands((6, 5), (4, 5)), torch.ones(6, 4), "bfp8", None)
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_is_never_hidden():
    x = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    for name in SCHEMES:
        y = linear(x, torch.ones(3, 2), scheme=name)
        assert y[0].isnan().all()
        assert y[1].isfinite().all()


@pytest.mark.parametrize("name", ["bf16", "fp8-hybrid", "bfp8", "fixed8-sr"])
def test_autocast_is_exact_where_bfloat16_holds_the_operands(name):
    x, weight, bias = operands((6, 5), (4, 5))
    error = operands((6, 4), (1, 1), seed=1)[0].bfloat16()
    scheme = SCHEMES[name]
    with torch.autocast("cpu", torch.bfloat16):
        got = simulated(x, weight, bias, error, scheme, seed=2)
    narrow = [rounded(x, scheme.input, 2, INPUT), rounded(weight, scheme.weight, 2, WEIGHT)]
    scale = scheme.loss_scale
    own_error = rounded(error * scale, scheme.error, 2, ERROR) / scale
    y, *gradients = product_and_gradients(
        F.linear, narrow[0].bfloat16(), narrow[1].bfloat16(), bias.bfloat16(), own_error
    )
    want = (rounded(y, scheme.output), *(g.float() for g in gradients))
    assert_same(got, want)


def test_autocast_to_float16():
    x, weight, bias = operands((6, 5), (4, 5))
    cast = Cast("e4m3fn")
    with torch.autocast("cpu", torch.float16):
        got = linear(x, weight, bias, scheme=Scheme(input=cast, weight=cast))
    want = F.linear(rounded(x, cast).half(), rounded(weight, cast).half(), bias.half())
    assert got.dtype == torch.float16
    assert torch.equal(got, want)


def test_autocast_runs_layers_one_after_another():
    # the second layer sees a bfloat16 input and a float32 weight
    x, weight, _ = operands((6, 5), (5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        first = linear(x, weight, scheme="fp8-hybrid")
        second = linear(first, weight, scheme="fp8-hybrid")
    cast = SCHEMES["fp8-hybrid"].input
    want = F.linear(rounded(first, cast), rounded(weight, cast).bfloat16())
    assert torch.equal(second, want)


def test_double_backward_goes_through_the_straight_path():
    x, weight, _ = operands((3, 4), (2, 4))
    leaves = [t.requires_grad_() for t in (x, weight)]
    y = linear(*leaves, scheme="bfp8")
    (first,) = torch.autograd.grad(y.square().sum(), leaves[0], create_graph=True)
    own, read = (rounded(t, Cast("bfp8")).detach().requires_grad_() for t in leaves)
    z = F.linear(own, read)
    error = rounded((2 * z).detach(), Cast("bfp8"))
    assert torch.equal(first, error @ read)
    (second,) = torch.autograd.grad(first.sum(), leaves[1])
    # d/dw of sum(error @ w): error as a constant and through error = 2 · x · w, both straight through
    ones = torch.ones_like(x)
    want = error.t() @ ones + 2 * (ones @ read.t()).t() @ own
    assert torch.allclose(second, want, rtol=1e-5)


def test_double_backward_of_a_split_product_is_refused():
    x, weight, _ = operands((3, 4), (2, 4))
    x.requires_grad_()
    y = linear(x, weight, scheme=Scheme(input="e4m3fn", grad_weight=Operands(input="e5m2")))
    with pytest.raises(RuntimeError, match="`create_graph` must be False where the backward products"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


X, W = torch.ones(2, 3), torch.ones(4, 3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: linear(X, W.bfloat16(), scheme="bfp8"), TypeError, "`weight` must have the dtype of"),
        (lambda: linear(X, W, W[:, 0].bfloat16(), scheme="bfp8"), TypeError, "`bias` must have the dt"),
        (lambda: linear(X.int(), W, scheme="bfp8"), TypeError, "`input` must be float32, bfloat16"),
        (lambda: linear(X, W, scheme="bfp9"), ValueError, "`scheme` must be one of bf16"),
        (lambda: linear(X.bfloat16(), W.bfloat16(), scheme=Scheme(input="binary16")), ValueError,
         "`format` must be exact in the carrier bfloat16.*float32"),
        (lambda: linear(X, W, scheme="bfp8-sr", seed=1.5), TypeError, "`seed` must be an integer"),
        (lambda: linear(X, W, scheme=Scheme(input=Cast("bfp8", clip_gradient=True), weight="bfp8",
         grad_weight=Operands(input="bfp4"))), ValueError,
         "`clip_gradient` must be False where the backward products read other"),
        (lambda: linear(X, W, scheme="bfp8", seed=3), ValueError, "`seed` must be None where"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_an_error(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize(
    ("dtype", "scheme", "message"),
    [
        (torch.bfloat16, Scheme(input="binary16"), "`dtype` must hold the format binary16 of the scheme"),
        (
            torch.bfloat16,
            Scheme(error="binary16"),
            r"got torch.bfloat16. Pass dtype=torch.float16 to torch.au",
        ),
        (torch.float16, Scheme(weight="bfloat16"), "`dtype` must hold the format bfloat16 of the scheme"),
        (torch.float16, SCHEMES["fp8-hybrid"], r"hold the format e5m2.*bias25.*got torch.float16.*bfloat16"),
    ],
)
def test_autocast_to_what_cannot_hold_the_formats_is_an_error(dtype, scheme, message):
    with torch.autocast("cpu", dtype), pytest.raises(ValueError, match=message):
        linear(X, W, scheme=scheme)


def test_an_operand_that_autocast_does_not_bring_to_its_dtype_is_an_error():
    with torch.autocast("cpu"), pytest.raises(ValueError, match=r"`dtype` must be a carrier under.*int32"):
        linear(X, W.int(), scheme="bfp8")
