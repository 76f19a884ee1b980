"""functional.conv1d, conv2d and conv3d, and the layers' padding, bit for bit."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from model.plain_products import (
    GRAD_WEIGHT_ERROR,
    GRAD_WEIGHT_INPUT,
    INPUT,
    WHOLE,
    assert_same,
    operands,
    plain_product,
    product_and_gradients,
    rounded,
)

from lowprec import SCHEMES, BlockFloatingPoint, Cast, Operands, PerChannel, PerGroup, Scheme
from lowprec import functional as simulated_functions
from lowprec import nn as simulated_layers

PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SIMULATED = {
    1: simulated_functions.conv1d,
    2: simulated_functions.conv2d,
    3: simulated_functions.conv3d,
}
OPTIONS = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4, "padding": "same"},
    "valid": {"padding": "valid"},
    "same": {"padding": "same", "dilation": 2},
}


def operands_of(dimensions, *, kernel=3, groups=1, batch=(2,), seed=0):
    """Operands of a convolution of 4 channels to 4, of size 6 along each dimension."""
    return operands((*batch, 4, *(6,) * dimensions), (4, 4 // groups, *(kernel,) * dimensions), seed)


def same_padding(x, weight, bias, dilation=1, groups=1, mode="constant"):
    """What padding="same" means: (kernel - 1) · dilation more elements, the odd one at the end."""
    ends = []
    for size in reversed(weight.shape[2:]):
        total = dilation * (size - 1)
        ends += [total // 2, total - total // 2]
    padded = F.pad(x, ends, mode)
    return PLAIN[weight.dim() - 2](padded, weight, bias, dilation=dilation, groups=groups)


def check(plain, simulated, x, weight, bias, scheme, seed):
    """Forward and gradients equal those of rounded operands."""
    error = operands(tuple(plain(x, weight, bias).shape), (1, 1), seed=1)[0].to(x.dtype)
    got = product_and_gradients(simulated, x, weight, bias, error)
    assert_same(got, plain_product(plain, x, weight, bias, error, scheme, seed))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_named_scheme_is_the_product_of_rounded_operands(name, dimensions):
    scheme = SCHEMES[name]
    seed = 7 if name.endswith("-sr") else None
    plain = partial(PLAIN[dimensions], padding=1)
    simulated = partial(SIMULATED[dimensions], padding=1, scheme=scheme, seed=seed)
    x, weight, bias = operands_of(dimensions)
    check(plain, simulated, x, weight, bias, scheme, seed)
    check(plain, simulated, x, weight, None, scheme, seed)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_options_are_those_of_torch(option, dimensions):
    options = OPTIONS[option]
    groups = options.get("groups", 1)
    x, weight, bias = operands_of(dimensions, groups=groups)
    plain = partial(PLAIN[dimensions], **options)
    if options.get("padding") == "same":  # the sum is torch's own for explicit padding
        plain = partial(same_padding, dilation=options.get("dilation", 1), groups=groups)
        whole = PLAIN[dimensions](x, weight, bias, **options)
        assert torch.allclose(plain(x, weight, bias), whole)
    simulated = partial(SIMULATED[dimensions], scheme="bfp8-sr", seed=3, **options)
    check(plain, simulated, x, weight, bias, SCHEMES["bfp8-sr"], 3)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_same_padding_of_odd_and_even_kernels(kernel):
    x, weight, bias = operands_of(2, kernel=kernel)
    simulated = partial(SIMULATED[2], padding="same", scheme="fp8-hybrid")
    assert simulated(x, weight, bias).shape[2:] == x.shape[2:]
    check(same_padding, simulated, x, weight, bias, SCHEMES["fp8-hybrid"], None)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_an_input_without_a_batch(dimensions):
    x, weight, bias = operands_of(dimensions, batch=())
    simulated = partial(SIMULATED[dimensions], scheme="bfp8")
    check(PLAIN[dimensions], simulated, x, weight, bias, SCHEMES["bfp8"], None)


@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_padding_modes_of_layers_pad_the_rounded_input(dimensions, mode, padding):
    layer = getattr(simulated_layers, f"Conv{dimensions}d")(
        4, 4, 3, padding=padding, padding_mode=mode, scheme="bfp8"
    )
    x, weight, bias = operands_of(dimensions)

    def simulated(*operands):
        parameters = dict(zip(("weight", "bias"), operands[1:], strict=True))
        return torch.func.functional_call(layer, parameters, operands[0])

    plain = partial(same_padding, mode="constant" if mode == "zeros" else mode)
    check(plain, simulated, x, weight, bias, SCHEMES["bfp8"], None)


def test_channels_last_gives_the_same_bits_and_keeps_its_strides():
    x, weight, bias = operands_of(2)
    want = SIMULATED[2](x, weight, bias, scheme="bfp8-sr", seed=1)
    last = x.to(memory_format=torch.channels_last)
    got = SIMULATED[2](last, weight, bias, scheme="bfp8-sr", seed=1)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(got, want, rtol=1e-5)  # torch adds in another order
    rounding = Scheme(input=Cast("bfp8", "stochastic"))
    eye = torch.eye(4)[:, :, None, None]
    got = SIMULATED[2](last, eye, scheme=rounding, seed=1)
    assert torch.equal(got, SIMULATED[2](x, eye, scheme=rounding, seed=1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_carriers(dtype):
    operands = [t.to(dtype) for t in operands_of(2)]
    check(F.conv2d, partial(SIMULATED[2], scheme="bfp8"), *operands, SCHEMES["bfp8"], None)


def test_autocast():
    x, weight, bias = operands_of(2)
    with torch.autocast("cpu", torch.bfloat16):
        got = SIMULATED[2](x, weight, bias, scheme="fp8-hybrid")
    cast = Cast("e4m3fn<saturate_all>")
    want = F.conv2d(rounded(x, cast).bfloat16(), rounded(weight, cast).bfloat16(), bias.bfloat16())
    assert torch.equal(got, want)


def along(x, bits, size, axis):
    """Groups of ``size`` along an axis, by moving that axis last."""
    cast = Cast(BlockFloatingPoint(bits, PerGroup(size)))
    return rounded(x.movedim(axis, -1).contiguous(), cast).movedim(-1, axis).contiguous()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_groups_along_the_contraction_of_each_product(dimensions, groups):
    x, weight, bias = operands_of(dimensions, groups=groups, batch=(5,))
    conv = partial(PLAIN[dimensions], groups=groups, padding=1)
    error = operands(tuple(conv(x, weight).shape), (1, 1), seed=1)[0]
    format = BlockFloatingPoint(4, PerGroup(3, "contraction"))
    scheme = Scheme(input=format, weight=format, error=format, loss_scale=8)
    simulated = partial(SIMULATED[dimensions], groups=groups, padding=1, scheme=scheme)
    own = [along(x, 4, 3, 1), along(weight, 4, 3, 1)]
    y, *_ = product_and_gradients(conv, *own, bias, error)
    errors = [along(error, 4, 3, 1), along(error, 4, 3, 0)]
    read = along(weight, 4, 3, 0)
    _, grad_x, _, grad_bias = product_and_gradients(conv, own[0], read, bias, errors[0])
    _, _, grad_weight, _ = product_and_gradients(conv, along(x, 4, 3, 0), read, bias, errors[1])
    got = product_and_gradients(simulated, x, weight, bias, error)
    assert_same(got, (y, grad_x, grad_weight, grad_bias))
    assert not torch.equal(errors[0], errors[1])


def test_operand_overrides_with_noise():
    noisy = Cast("e5m2", "stochastic")
    scheme = Scheme(
        input=Cast("e4m3fn", "stochastic"), weight="bfp8", error="e5m2",
        grad_weight=Operands(input=noisy, error=noisy),
    )  # fmt: skip
    x, weight, bias = operands_of(2)
    error = operands((2, 4, 4, 4), (1, 1), seed=1)[0]
    own, read = rounded(x, scheme.input, 4, INPUT), rounded(weight, scheme.weight)
    y, grad_x, _, grad_bias = product_and_gradients(F.conv2d, own, read, bias, rounded(error, scheme.error))
    _, _, grad_weight, _ = product_and_gradients(
        F.conv2d,
        rounded(x, noisy, 4, GRAD_WEIGHT_INPUT),
        read,
        bias,
        rounded(error, noisy, 4, GRAD_WEIGHT_ERROR),
    )
    got = product_and_gradients(partial(SIMULATED[2], scheme=scheme, seed=4), x, weight, bias, error)
    assert_same(got, (y, grad_x, grad_weight, grad_bias))


def test_an_operand_read_again_in_the_same_way_has_the_same_noise():
    # only the error differs between the backward products, so input and weight are as in the forward
    noisy = Cast("bfp8", "stochastic")
    scheme = Scheme(input=noisy, weight=noisy, grad_input=Operands(error="e5m2"))
    x, weight, _ = operands_of(2)
    error = operands((2, 4, 4, 4), (1, 1), seed=1)[0]
    split = product_and_gradients(partial(SIMULATED[2], scheme=scheme, seed=4), x, weight, None, error)
    base = Scheme(input=noisy, weight=noisy)
    y, _, grad_weight, _ = plain_product(F.conv2d, x, weight, None, error, base, 4)
    _, grad_x, *_ = plain_product(F.conv2d, x, weight, None, rounded(error, Cast("e5m2")), base, 4)
    assert_same(split, (y, grad_x, grad_weight, None))


def test_channels_of_the_weight_may_have_their_own_exponents():
    scheme = Scheme(weight=BlockFloatingPoint(4, PerChannel(0)))
    x, weight, bias = operands_of(2)
    check(F.conv2d, partial(SIMULATED[2], scheme=scheme), x, weight, bias, scheme, None)


X, W = torch.ones(1, 4, 6, 6), torch.ones(4, 4, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SIMULATED[1](X, W, scheme="bfp8"), r"`weight` must have 3 dimensions, got \(4, 4, 3"),
        (lambda: SIMULATED[2](X, W, padding="full", scheme="bfp8"), "`padding` must be a number, 'same'"),
        (lambda: SIMULATED[2](X, W, stride=2, padding="same", scheme="bfp8"), "not be 'same' for a st"),
        (lambda: SIMULATED[2](X, W, scheme="bfp8", seed=1), "`seed` must be None where nothing"),
    ],
)
def test_what_cannot_be_honored_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
