"""Layers and functions in blocks: elements and scales of the operands' casts, forward and backward."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model.test_arithmetics import FORWARD, GRAD_INPUT, GRAD_WEIGHT, draw, gradients
from torch import Tensor

import lowprec
from lowprec import SCHEMES, Arithmetic, Cast, Operands, Scheme, functional
from lowprec.formats import Scaled, resolve
from lowprec.functional.plan import LINEAR_AXES, MATMUL_AXES, make_plan
from lowprec.ops.products import make_sums
from lowprec.reference import BlockScales, product
from lowprec.reference import quantize as defined_values
from lowprec.reference import scales as defined_scales

PLAIN = Arithmetic("binary32", chunk="block")
NARROW = Arithmetic("bfloat16", chunk="block", chunk_accumulate="binary32")
DRAWN = Arithmetic(
    "bfloat16", chunk="block", chunk_accumulate="binary32", rounding="stochastic", random_bits=20
)


def elements(x: Tensor, y: Tensor, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """By the definition: the elements of rows whose values are y, the scales of groups and of the tensor."""
    format = resolve(name)
    found = defined_scales(x.double().numpy(), format)
    groups, tensor = found if isinstance(found, tuple) else (found, np.ones(1))
    size = format.granularity.tiles(tuple(x.shape))[1]
    quotients = y.double().numpy() / (np.repeat(groups, size, 1)[:, : x.shape[1]] * tensor.item())
    nearest = defined_values(quotients, format.element, rounding="nearest_even")
    return nearest.astype(np.float32), groups, tensor.item()


def summed(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], name: str, arithmetic, **options):
    """left right^T by the definition, both before and after their cast, contraction last."""
    a, of_a, tensor_a = elements(*left, name)
    b, of_b, tensor_b = elements(*right, name)
    size = resolve(name).granularity.tiles((1, left[0].shape[1]))[1]
    scales = BlockScales(size, of_a[None], np.ascontiguousarray(of_b.T)[None], (tensor_a, tensor_b))
    b = np.ascontiguousarray(b.T)[None]
    return torch.from_numpy(product(a[None], b, arithmetic, scales=scales, **options)[0])


def rows(name: str) -> str:
    """A format whose groups run along rows."""
    return name.replace("@contraction", "")


FORMATS = [
    "scaled<e4m3fn,e8m0,group32@contraction>",
    "scaled<e2m1,scaled<e4m3fn,float32,amax>,group16@contraction,amax>",
    "scaled<e4m3fn,float32,group8@contraction,amax>",
]


@pytest.mark.parametrize(
    "name", [FORMATS[0], *(pytest.param(f, marks=pytest.mark.slow) for f in FORMATS[1:])]
)
def test_three_products_of_elements_and_scales(name: str) -> None:
    """Each along its own contraction, from the operands as they are before casts; incomplete last groups."""
    x, weight, bias = draw(18, 37), draw(35, 37, seed=1), draw(35, seed=2)
    scheme = Scheme(input=name, weight=name, error=name, arithmetic=PLAIN)
    y, dx, dw, db, error = gradients(lambda *t: functional.linear(*t, scheme=scheme), x, weight, bias)

    def cast(t: Tensor) -> tuple[Tensor, Tensor]:
        """Before and after, contraction last."""
        t = t.contiguous()
        return t, lowprec.quantize(t, rows(name))

    own = rows(name)
    assert torch.equal(y, summed(cast(x), cast(weight), own, PLAIN, bias=bias.numpy()))
    assert torch.equal(dx, summed(cast(error), cast(weight.t()), own, PLAIN))
    assert torch.equal(dw, summed(cast(error.t()), cast(x.t()), own, PLAIN))
    assert torch.equal(db, cast(error)[1].sum(0))


@pytest.mark.parametrize(
    "sums", [NARROW, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=lambda a: a.describe()
)
def test_casts_and_sums_may_be_stochastic(sums: Arithmetic) -> None:
    """Scales are those of the unrounded numbers, values those of the casts; sums have their own streams."""
    name = FORMATS[1]
    cast = Cast(name, "stochastic")
    scheme = Scheme(input=cast, weight=cast, error=cast, arithmetic=sums)
    x, weight, bias = draw(6, 37), draw(5, 37, seed=1), draw(5, seed=2)
    y, dx, dw, _, error = gradients(lambda *t: functional.linear(*t, scheme=scheme, seed=3), x, weight, bias)
    seed = torch.tensor([3])

    def noise(stream: int) -> dict[str, int]:
        """That of sums, if they draw any."""
        return {"seed": 3, "stream": stream} if sums.is_stochastic else {}

    def rounded(t: Tensor, stream: int, axis: int = 1) -> tuple[Tensor, Tensor]:
        """Before and after the cast in a stream, contraction last."""
        format = str(resolve(name).along(0 if axis == 0 else -1))
        after = torch.ops.lowprec.quantize(t, seed, format, "stochastic", 32, stream)
        return (t, after) if axis == 1 else (t.t().contiguous(), after.t().contiguous())

    own = rows(name)
    want = summed(rounded(x, 0), rounded(weight, 2), own, sums, bias=bias.numpy(), **noise(FORWARD))
    assert torch.equal(y, want)
    want = summed(rounded(error, 1), rounded(weight, 6, 0), own, sums, **noise(GRAD_INPUT))
    assert torch.equal(dx, want)
    want = summed(rounded(error, 4, 0), rounded(x, 5, 0), own, sums, **noise(GRAD_WEIGHT))
    assert torch.equal(dw, want)


def exact_operands(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Small integers, whose sums are exact in any order."""
    return [draw(*shape, seed=i).mul(3).round().clamp(-6, 6) for i, shape in enumerate(shapes)]


def in_blocks(scheme: Scheme) -> Scheme:
    """The same casts; sums in binary32, in blocks."""
    return replace(scheme, arithmetic=PLAIN)


EXACT = [
    "mxfp8",
    "scaled<fixed4f0<symmetric>,e8m0>",
    "bfp4<group16@contraction>",
    "scaled<fixed4f0<symmetric>,e8m0,group8@contraction>",
]


@pytest.mark.parametrize("name", [EXACT[0], *(pytest.param(f, marks=pytest.mark.slow) for f in EXACT[1:])])
def test_where_sums_are_exact_blocks_change_nothing(name: str) -> None:
    """Against torch's own products of the same rounded operands: linear, matmul, bmm, convolutions."""
    scheme = SCHEMES.get(name) or Scheme(input=name, weight=name, error=name)
    x, weight, bias, image, kernel, batch = exact_operands(
        (9, 37), (20, 37), (20,), (3, 20, 5, 6), (4, 20, 3, 2), (2, 3, 37)
    )
    column = weight.t().contiguous()
    functions = [
        (functional.linear, {}, (x, weight, bias)),
        (functional.matmul, {}, (batch, column)),
        (functional.matmul, {}, (x[0], column)),
        (functional.bmm, {}, (batch, column.expand(2, 37, 20))),
        (
            functional.conv2d,
            {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
            (image, kernel, bias[:4]),
        ),
        (functional.conv1d, {"padding": "same"}, (image[0, :, 0], kernel[..., 0], bias[:4])),
    ]
    if name != "mxfp8":  # groups of 8 or 16 of 16 channels, kept apart by the convolution
        functions.append((functional.conv1d, {"groups": 2}, (draw(3, 32, 7).sign(), draw(32, 16, 3).sign())))
    for function, options, operands in functions:
        results = []
        for own in (in_blocks(scheme), scheme):
            leaves = [t.clone().requires_grad_() for t in operands]
            y = function(*leaves, **options, scheme=own)
            (error,) = exact_operands(y.shape)
            results.append([y, *torch.autograd.grad(y, leaves, error)])
        for a, b in zip(*results, strict=True):
            assert a.shape == b.shape
            assert torch.equal(a, b), function


@pytest.mark.slow
def test_one_scale_for_all_of_the_contraction_is_one_block() -> None:
    """As integer hardware: sums of codes, times the scale of a row and of the tensor."""
    per_row = "scaled<fixed8f0<symmetric>,float32,channel0,amax>"
    sums = Arithmetic("fixed32f0<wrap>", chunk="block", chunk_accumulate="binary32")
    other = Operands(arithmetic="carrier")
    scheme = Scheme(input="int8", weight=per_row, arithmetic=sums, grad_input=other, grad_weight=other)
    x, weight = draw(4, 50), draw(3, 50, seed=1)
    of_x, of_rows = lowprec.scales(x, "int8").double(), lowprec.scales(weight, per_row).double()
    codes = (lowprec.quantize(x, "int8").double() / of_x).round().int()
    rows = (lowprec.quantize(weight, per_row).double() / of_rows.reshape(3, 1)).round().int()
    want = ((codes @ rows.t()).double() * of_x * of_rows.reshape(1, 3)).float()
    assert torch.equal(functional.linear(x, weight, scheme=scheme), want)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": None}, "got '32, none'. That is input mxfp8_e4m3, weight not cast. Cast both"),
        ({"input": "e4m3fn"}, "got 'none, 32'. That is input e4m3fn, weight mxfp8_e4m3."),
        ({"input": "scaled<e4m3fn,e8m0,group16@contraction>"}, "got '16, 32'"),
        ({"weight": "scaled<e4m3fn,e8m0,group32@0>"}, "got '32, none'"),
        ({"error": "int8"}, "got 'one for all of it, 32'. That is error int8, weight"),
        ({"input": "uint8"}, "`arithmetic` must read no zero points in blocks, got 'uint8'"),
        ({"input": "scaled<e2m1,scaled<e4m3fn,float32,channel0,amax>,group32@contraction,amax>"},
         "must read scales that have one for the whole tensor"),
    ],
)  # fmt: skip
def test_operands_without_common_groups_are_refused_by_convert(changes: dict, message: str) -> None:
    """Before a layer is touched; both operands are named."""
    scheme = replace(in_blocks(SCHEMES["mxfp8"]), **changes)
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 2))
    with pytest.raises(ValueError, match="`arithmetic` must read") as raised:
        lowprec.convert(net, scheme)
    assert message in str(raised.value)
    assert type(net[1]) is torch.nn.Linear


def test_what_is_not_built_in_blocks_is_refused() -> None:
    """In this package's words."""
    x, weight = draw(3, 40), draw(2, 40, seed=1)
    scheme = in_blocks(SCHEMES["nvfp4"])
    with pytest.raises(ValueError, match="`loss_scale` must be 1 where errors have two levels of scales"):
        functional.linear(x, weight, scheme=replace(scheme, loss_scale=8))
    clipped = replace(scheme, input=replace(scheme.input, clip_gradient=True))
    with pytest.raises(ValueError, match="or sums are made in blocks"):
        functional.linear(x, weight, scheme=clipped)
    with pytest.raises(ValueError, match="`groups` must be 1, or leave a multiple of 32 channels to each"):
        functional.conv1d(draw(1, 40, 3), draw(2, 20, 1), groups=2, scheme=in_blocks(SCHEMES["mxfp8"]))
    with pytest.raises(ValueError, match="have chunks that are no blocks in such a layer"):
        make_plan(scheme, MATMUL_AXES._replace(input=-3), training=True)
    other = Operands(arithmetic="carrier")
    scheme = Scheme(
        input="scaled<e4m3fn,float32,group8@1,amax>", weight="scaled<e4m3fn,float32,group8@contraction,amax>",
        grad_input=other, grad_weight=other, arithmetic=PLAIN,
    )  # fmt: skip
    with pytest.raises(ValueError, match="have groups of 8 along the contraction in these operands, got '40"):
        functional.matmul(draw(2, 3, 40), weight.t(), scheme=scheme)
    scales = [torch.full((1, 1, 1), 2.0**200, dtype=torch.float64)] * 4
    with pytest.raises(ValueError, match="have groups whose scales lie between"):
        torch.ops.lowprec.product(
            x[:1, None], x[:1, None].mT, None, None, make_sums(PLAIN).key, 16, 1, "", 0, ["", ""], scales
        )


def test_a_loss_scale_is_taken_by_the_scales_of_groups() -> None:
    """As if the loss had been multiplied, and its gradients divided; no sum inside a block notices."""
    sums = Arithmetic("e4m3fn", chunk="block", chunk_accumulate="e5m2")
    scheme = replace(SCHEMES["mxfp8"], arithmetic=sums)
    x, weight = draw(6, 40), draw(5, 40, seed=1)

    def scaled(factor: float, scale: float) -> list[Tensor]:
        """Gradients of a loss that is multiplied, or whose errors are."""
        own = replace(scheme, loss_scale=scale)
        return gradients(lambda *t: functional.linear(*t, scheme=own) * factor, x, weight)[1:3]

    for a, b in zip(scaled(64.0, 1.0), scaled(1.0, 64.0), strict=True):
        assert torch.equal(a / 64, b)


@pytest.mark.slow
def test_elements_are_read_from_what_autocast_rounds() -> None:
    """A carrier that rounds an element times its scales changes no element."""
    x, weight = draw(4, 37), draw(3, 37, seed=1)
    scheme = Scheme(input=FORMATS[1], weight=FORMATS[1], error=FORMATS[1], arithmetic=Arithmetic(
        "binary32", chunk="block", chunk_accumulate="bfloat16"))  # fmt: skip
    want = functional.linear(x, weight, scheme=scheme)
    with torch.autocast("cpu", torch.bfloat16):
        got = functional.linear(x, weight, scheme=scheme)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got.float(), want)


def test_the_operators_pass_opcheck() -> None:
    """Scales along either axis, and the product with and without a bias."""
    a, b = draw(1, 3, 40), draw(1, 40, 4)
    for x, name, axis in (
        (a[0], "nvfp4", -1),
        (b[0], "scaled<e4m3fn,e8m0,group32@0>", -2),
    ):
        torch.library.opcheck(torch.ops.lowprec.block_scales, (x, name, axis))
    scales = [torch.ones(1, 3, 3), torch.ones(1, 3, 4), torch.ones(1), torch.ones(1)]
    scales = [scale.double() for scale in scales]
    arguments = a, b, draw(4), None, make_sums(PLAIN).key, 16, 1, "", 16, ["", ""], scales
    torch.library.opcheck(torch.ops.lowprec.product, arguments)


@pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:.*should not be instantiated:DeprecationWarning")
def test_a_model_in_blocks_trains_compiles_and_says_so() -> None:
    """The same bits under fullgraph; describe and audit tell of blocks."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 16, 3)
    )
    net = lowprec.convert(net, replace(SCHEMES["nvfp4-sr"], arithmetic=NARROW))
    assert "arithmetic bfloat16 nearest_even, fused, sequential in blocks summed in binary32" in str(
        lowprec.describe(net)
    )
    x = draw(3, 2, 4, 4)
    told = {row.how for row in lowprec.audit(net, x).products}
    assert len(told) == 5  # three of one layer, two of the other, whose input needs no gradient
    assert all("in blocks" in how and "not cast" not in how for how in told)

    def step(function) -> list[Tensor]:
        """The output and all gradients."""
        torch.manual_seed(7)
        y = function(x)
        y.square().sum().backward()
        found = [y.detach(), *(p.grad.clone() for p in net.parameters())]
        net.zero_grad()
        return found

    eager = step(net)
    torch.compiler.reset()
    for a, b in zip(eager, step(torch.compile(net, fullgraph=True, backend="aot_eager")), strict=True):
        assert torch.equal(a, b)


def test_a_block_arithmetic_is_a_value() -> None:
    """Read back from TOML; its plan is split and holds sizes."""
    again = Arithmetic.from_value(NARROW.to_value())
    assert again == NARROW
    assert NARROW.to_value() == {"accumulate": "bfloat16", "chunk": "block", "chunk_accumulate": "binary32"}
    assert NARROW.shifted(3).accumulate == NARROW.accumulate
    scheme = in_blocks(SCHEMES["nvfp4"])
    assert Scheme.from_dict(scheme.to_dict()) == scheme
    plan = make_plan(scheme, LINEAR_AXES, training=True)
    assert plan.split
    assert plan.blocks == (16, 16, 16)
    assert isinstance(resolve(FORMATS[0]), Scaled)
    for options, message in (
        ({"chunk": "group"}, "`chunk` must be a number or 'block'"),
        ({"chunk": "block", "chunk_accumulate": "fixed16f4<wrap>"}, "not wrap where scales multiply sums"),
        ({"chunk": "block", "chunk_accumulate": "e10m5ieee"}, r"between 2\*\*-400 and 2\*\*400 where chunk"),
    ):
        with pytest.raises(ValueError, match=message):
            Arithmetic("bfloat16", **options)
