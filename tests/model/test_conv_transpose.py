"""Transposed convolutions and their layers: casts, arithmetic and both gradients, bit for bit."""

from functools import partial
from itertools import product as every

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model.plain_products import (
    ERROR,
    GRAD_INPUT_WEIGHT,
    GRAD_WEIGHT_ERROR,
    GRAD_WEIGHT_INPUT,
    GROUPED,
    INPUT,
    WEIGHT,
    WHOLE,
    assert_same,
    operands,
    plain_product,
    product_and_gradients,
    rounded,
)

import lowprec
from lowprec import (
    SCHEMES,
    Arithmetic,
    BlockFloatingPoint,
    Cast,
    PerGroup,
    Scheme,
    functional,
    nn,
    reference,
)

PLAIN = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
SIMULATED = {d: getattr(functional, f"conv_transpose{d}d") for d in (1, 2, 3)}
OPTIONS = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1, "output_padding": 1},
    "dilated": {"dilation": 2, "padding": 2, "output_padding": 1},
    "grouped": {"groups": 2, "stride": 3},
    "depthwise": {"groups": 4, "padding": 3},
}
SUMMED = Scheme(arithmetic="binary32")
DRAWN = Arithmetic("bfloat16", rounding="stochastic", multiply="e4m3fn")
FORWARD, OF_INPUT, OF_WEIGHT = 16, 24, 32
"""The first streams of the three products."""


def operands_of(dimensions, *, groups=1, outputs=8, batch=(2,)):
    """Operands of a transposed convolution of 4 channels, of size 5 along each dimension."""
    x, weight, _ = operands((*batch, 4, *(5,) * dimensions), (4, outputs // groups, *(3,) * dimensions))
    return x, weight, operands((1,), (outputs,))[1]


def check(simulated, plain, x, weight, bias, scheme, seed):
    """Forward and gradients equal those of rounded operands."""
    error = operands(tuple(plain(x, weight, bias).shape), (1, 1), seed=1)[0]
    got = product_and_gradients(simulated, x, weight, bias, error)
    assert_same(got, plain_product(plain, x, weight, bias, error, scheme, seed or 0))


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("fp8-hybrid", 2),
        *(pytest.param(name, d, marks=pytest.mark.exhaustive) for name in WHOLE for d in PLAIN),
    ],
)
def test_every_named_scheme_is_the_product_of_rounded_operands(name, dimensions):
    seed = 7 if name.endswith("-sr") else None
    simulated = partial(SIMULATED[dimensions], stride=2, scheme=name, seed=seed)
    x, weight, bias = operands_of(dimensions)
    for own in (bias, None):
        check(simulated, partial(PLAIN[dimensions], stride=2), x, weight, own, SCHEMES[name], seed)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_options_are_those_of_torch(option, dimensions):
    options = OPTIONS[option]
    x, weight, bias = operands_of(dimensions, groups=options.get("groups", 1))
    simulated = partial(SIMULATED[dimensions], scheme="fp8-hybrid", **options)
    check(simulated, partial(PLAIN[dimensions], **options), x, weight, bias, SCHEMES["fp8-hybrid"], None)


ALONG = Cast(BlockFloatingPoint(4, PerGroup(3, "contraction")))
BY_GROUPS = {"bfp4": Scheme(input=ALONG, weight=ALONG, error=ALONG), **{n: SCHEMES[n] for n in GROUPED}}


@pytest.mark.parametrize(
    "name", ["bfp4", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in GROUPED)]
)
def test_groups_run_along_the_contraction_of_each_product(name):
    """Channels of the input, of the result, and examples, in weights of shape (in, out, window)."""
    scheme = BY_GROUPS[name]
    seed = 7 if scheme.input.rounding == "stochastic" else None
    x, weight, bias = operands_of(2, outputs=40, batch=(3,))
    error = operands((3, 40, 7, 7), (1, 1), seed=1)[0]

    def along(t, cast, axis, stream):
        return rounded(t, Cast(cast.format.along(axis), cast.rounding), seed or 0, stream)

    simulated = partial(SIMULATED[2], scheme=scheme, seed=seed)
    own, read = along(x, scheme.input, 1, INPUT), along(weight, scheme.weight, 0, WEIGHT)
    y, *_ = product_and_gradients(PLAIN[2], own, read, bias, error)
    seen, met = along(error, scheme.error, 1, ERROR), along(error, scheme.error, 0, GRAD_WEIGHT_ERROR)
    read = along(weight, scheme.weight, 1, GRAD_INPUT_WEIGHT)
    _, grad_x, _, grad_bias = product_and_gradients(PLAIN[2], own, read, bias, seen)
    other = along(x, scheme.input, 0, GRAD_WEIGHT_INPUT)
    _, _, grad_weight, _ = product_and_gradients(PLAIN[2], other, read, bias, met)
    got = product_and_gradients(simulated, x, weight, bias, error)
    assert_same(got, (y, grad_x, grad_weight, grad_bias))
    assert not torch.equal(seen, met)


def source(place, tap, options, size):
    """Which input reaches a place of the result through an element of the window; None for none."""
    at = []
    for p, t, step, cut, far, n in zip(place, tap, *options, size, strict=True):
        q, left = divmod(p + cut - far * t, step)
        if left or not 0 <= q < n:
            return None
        at.append(q)
    return tuple(at)


def defined(x, weight, error, bias, groups, options, seed):
    """The three products by the definition, element by element."""
    n, size, window, places = x.shape[0], x.shape[2:], weight.shape[2:], error.shape[2:]
    ins, outs = x.shape[1] // groups, weight.shape[1]
    taps, at = list(every(*map(range, window))), list(every(*map(range, places)))
    inputs = list(every(*map(range, size)))
    reached = [[source(p, t, options, size) for p in at] for t in taps]
    x, error = x.numpy().reshape(n, groups, ins, *size), error.numpy().reshape(n, groups, outs, *places)
    kernels = weight.numpy().reshape(groups, ins, outs, len(taps))
    right = np.zeros((n, groups, ins, len(taps), len(at)), np.float32)
    back = np.zeros((n, groups, outs, len(taps), len(inputs)), np.float32)
    for t, p in every(range(len(taps)), range(len(at))):
        if (q := reached[t][p]) is not None:
            right[:, :, :, t, p] = x[(slice(None),) * 3 + q]
            back[:, :, :, t, inputs.index(q)] = error[(slice(None),) * 3 + at[p]]
    right = right[:, :, :, ::-1]  # by place of the input, which falls as that in the window rises
    left = np.broadcast_to(kernels.transpose(0, 2, 1, 3)[..., ::-1], (n, groups, outs, ins, len(taps)))
    sums = partial(reference.product, arithmetic=DRAWN, seed=seed)
    count = ins * len(taps)
    y = sums(
        left.reshape(n * groups, outs, count), right.reshape(n * groups, count, -1), stream=FORWARD
    ).reshape(n, groups * outs, *places)
    of_input = np.broadcast_to(kernels, (n, *kernels.shape)).reshape(n * groups, ins, -1)
    dx = sums(of_input, back.reshape(n * groups, -1, len(inputs)), stream=OF_INPUT)
    met = x.reshape(n, groups, ins, -1).transpose(1, 2, 0, 3).reshape(groups, ins, -1)
    errors = back.reshape(n, groups, outs * len(taps), -1).transpose(1, 0, 3, 2)
    dw = sums(met, errors.reshape(groups, met.shape[2], -1), stream=OF_WEIGHT)
    return y, dx.reshape(n, groups * ins, *size), dw.reshape(weight.shape)


CASES = [
    ((2,), (3,), (2,), (0,), (1,), (0,), 2),
    ((3, 2), (2, 2), (2, 1), (1, 0), (1, 2), (1, 1), 1),
    ((2, 1, 2), (1, 2, 2), (1, 2, 1), (0, 1, 0), (2, 1, 1), (1, 1, 0), 2),
]


@pytest.mark.parametrize(("size", "window", "stride", "padding", "dilation", "more", "groups"), CASES)
def test_the_three_products_and_their_noise_are_defined(
    size, window, stride, padding, dilation, more, groups
):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, *size, generator=generator)
    weight = torch.randn(4, 4 // groups, *window, generator=generator)
    options = {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation}
    simulated = partial(SIMULATED[len(size)], groups=groups, **options)
    error = torch.randn(simulated(x, weight, scheme=Scheme()).shape, generator=generator)
    scheme = Scheme(arithmetic=DRAWN)
    y, dx, dw, _ = product_and_gradients(
        lambda x, weight, _: simulated(x, weight, scheme=scheme, seed=5), x, weight, None, error
    )
    want = defined(x, weight, error, None, groups, (stride, padding, dilation), 5)
    assert_same((y, dx, dw), tuple(map(torch.from_numpy, want)))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_in_binary32_they_are_torchs_but_for_the_order_of_sums(dimensions, option):
    """Small integers, whose sums are exact in any order; the bias is added to the others' sum."""
    options = OPTIONS[option]
    x, weight, bias = (
        torch.randint(-9, 9, t.shape, generator=torch.Generator().manual_seed(k)).float()
        for k, t in enumerate(operands_of(dimensions, groups=options.get("groups", 1)))
    )
    plain = partial(PLAIN[dimensions], **options)
    simulated = partial(SIMULATED[dimensions], **options, scheme=Scheme(arithmetic="binary32"))
    error = torch.randint(-9, 9, plain(x, weight).shape, generator=torch.Generator().manual_seed(9)).float()
    got, want = (product_and_gradients(f, x, weight, bias, error) for f in (simulated, plain))
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)  # but for the sign of zero, which depends on the order


def test_an_input_without_a_batch_is_a_batch_of_one():
    for dimensions in (1, 2, 3):
        x, weight, bias = operands_of(dimensions)
        for scheme in ("fp8-hybrid", SUMMED):
            simulated = partial(SIMULATED[dimensions], stride=2, scheme=scheme)
            assert torch.equal(simulated(x[0], weight, bias), simulated(x[:1], weight, bias)[0])


def test_zeros_of_a_stride_are_multiplied():
    """So an infinite weight that meets one gives NaN, and -0 is lost in a sum that begins with +0."""
    x, weight = torch.ones(1, 1, 2), torch.tensor([[[torch.inf, 1.0]]])
    y = SIMULATED[1](x, weight, stride=2, scheme=Scheme(arithmetic="binary32"))
    assert y[0, 0].isnan().tolist() == [False, True, False, True]
    assert y[0, 0, ::2].tolist() == [torch.inf, torch.inf]
    y = SIMULATED[1](-torch.zeros(1, 1, 2), torch.ones(1, 1, 1), scheme=Scheme(arithmetic="binary32"))
    assert not y.signbit().any()


ROUNDED = {"input": "e4m3fn", "weight": "e4m3fn", "error": "e5m2"}
SPLIT = Scheme(**ROUNDED, grad_weight=lowprec.Operands(input="e5m2"))
"""Whose backward reads the input otherwise."""
X, W = torch.ones(1, 4, 6, 6), torch.ones(4, 2, 3, 3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: SIMULATED[1](X, W, scheme="bfp8"), ValueError, r"`weight` must have 3 dimensions, got \(4,"),
        (lambda: SIMULATED[2](X[0, 0], W, scheme="bfp8"), ValueError,
         r"`input` must have 4 dimensions, or 3 without a batch, got \(6, 6\)"),
        (lambda: SIMULATED[2]([1.0], W, scheme="bfp8"), TypeError, "`input` must be a tensor of numbers"),
        (lambda: SIMULATED[2](X[:, :3], W, scheme=SUMMED), ValueError,
         "`weight` must have 3 input channels, as the input has, in 1 groups"),
        (lambda: SIMULATED[2](X, W, groups=3, scheme=SUMMED), ValueError, "channels, as the input has, in 3"),
        (lambda: SIMULATED[2](X, W, output_padding=1, scheme=SUMMED), ValueError,
         r"`output_padding` must be less than the stride or the dilation, got \(1, 1\)"),
        (lambda: SIMULATED[2](X, W, output_padding=-1, scheme=SUMMED), ValueError, "got -1"),
        (lambda: SIMULATED[2](X, W, padding=4, scheme=SUMMED), ValueError,
         "`input` must be large enough that something is left within the padding"),
        (lambda: SIMULATED[2](X, W, torch.ones(4), scheme=SUMMED), ValueError,
         r"`bias` must have the shape \(2,\), got \(4,\)"),
        (lambda: SIMULATED[2](X, W, scheme=SUMMED, seed=1), ValueError, "`seed` must be None where nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_an_error(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("scheme", ["fp8-hybrid", SUMMED], ids=["fp8", "binary32"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_layer_gives_the_size_that_is_asked_for(dimensions, scheme):
    arguments = (4, 2, 3, 3, 1)
    layer = getattr(nn, f"ConvTranspose{dimensions}d")(*arguments, scheme=scheme)
    plain = lowprec.revert(getattr(nn, f"ConvTranspose{dimensions}d").from_torch(
        getattr(torch.nn, f"ConvTranspose{dimensions}d")(*arguments), scheme))  # fmt: skip
    x = operands_of(dimensions)[0]
    for size in (None, [13] * dimensions, [15, 14, 13][:dimensions], [2, 2, *[14] * dimensions]):
        y = layer(x, size)
        assert y.shape == plain(x, size).shape
        more = 0 if size is None else [n - 13 for n in size[-dimensions:]]
        want = SIMULATED[dimensions](x, layer.weight, layer.bias, 3, 1, more, scheme=scheme)
        assert torch.equal(y, want)
    with pytest.raises(ValueError, match="requested an output size"):
        layer(x, [99] * dimensions)
    with pytest.raises(ValueError, match=r"dimensions, or . without a batch"):
        layer(x[0, 0])


def decoder():
    """Two layers, of which the second needs the gradient of its input."""
    torch.manual_seed(0)
    first = torch.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)
    return torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.ConvTranspose2d(4, 2, 2))


@pytest.mark.parametrize("scheme", [None, Scheme(**ROUNDED), SPLIT], ids=["plain", "alike", "split"])
def test_an_audit_counts_a_transposed_convolution_as_torch_does(scheme):
    model = decoder() if scheme is None else lowprec.convert(decoder(), scheme)
    audit = lowprec.audit(model, torch.ones(2, 3, 4, 4))
    name = "transposed convolution"
    first, second = 2 * 16 * 3 * 4 * 9, 2 * 49 * 4 * 2 * 4
    assert {(r.layer, r.operation): r.multiply_adds for r in audit.products} == {
        ("0", name): first,
        ("0", f"{name}, gradient of weight"): first,
        ("2", name): second,
        ("2", f"{name}, gradient of input"): second,
        ("2", f"{name}, gradient of weight"): second,
    }
    assert audit.fractions["carrier precision" if scheme is None else "simulated"] == 1
    if scheme is None:
        assert {row.how for row in audit.products} == {"lowprec.convert can simulate it"}


def test_an_audit_tells_casts_and_sums():
    scheme = Scheme(**ROUNDED, arithmetic="binary32")
    audit = lowprec.audit(lowprec.convert(decoder(), scheme), torch.ones(2, 3, 4, 4))
    sums = "; sum binary32 nearest_even, fused, sequential"
    assert [(row.operation, row.how) for row in audit.products if row.layer == "2"] == [
        ("transposed convolution", f"input e4m3fn, weight e4m3fn{sums}"),
        ("transposed convolution, gradient of input", f"error e5m2, weight e4m3fn{sums}"),
        ("transposed convolution, gradient of weight", f"error e5m2, input e4m3fn{sums}"),
    ]


def test_products_in_user_code_are_named():
    class Own(torch.nn.Module):
        def forward(self, x):
            return F.conv_transpose1d(x, torch.ones(2, 1, 1))

    [row] = lowprec.audit(Own(), torch.ones(1, 2, 3)).products
    assert row.how == "lowprec.functional.conv_transpose can simulate it"


def test_whole_models_are_prepared_described_recorded_and_ranked():
    model = decoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = lowprec.prepare(model, optimizer, Scheme(**ROUNDED))
    assert [row.type for row in lowprec.describe(model).rows] == ["ConvTranspose2d"] * 2
    with lowprec.record(model) as recording:
        model(torch.ones(2, 3, 4, 4)).sum().backward()
    roles = recording.by_role()
    assert roles["input"].count == 2 * 3 * 16 + 2 * 4 * 49
    assert roles["weight"].count == sum(p.numel() for p in model.parameters() if p.dim() > 1)
    optimizer.step()
    lowprec.revert(model)
    assert type(model[0]) is torch.nn.ConvTranspose2d
    ranked = lowprec.sensitivity(model, lambda m: m(torch.ones(2, 3, 4, 4)).sum(), Scheme(**ROUNDED))
    assert [effect.layer for effect in ranked.effects] == ["0", "2"]
