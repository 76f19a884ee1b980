"""Under torch.autocast every product is torch's in its dtype, which must hold the formats; else one error."""

from collections.abc import Callable

import pytest
import torch
from model.functional_products import PRODUCTS, assert_equal, draw
from torch import Tensor

import lowprec
from lowprec import Arithmetic, Operands, Scheme

every_product = pytest.mark.parametrize("name", PRODUCTS)
NARROW = Arithmetic("e4m3fn")
SCHEMES = {
    "nothing": Scheme(),
    "casts": Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", output="e4m3fn"),
    "split": Scheme(input="e4m3fn", grad_weight=Operands(input="e5m2")),
    "sums": Scheme(arithmetic=NARROW),
    "split sums": Scheme(input="e4m3fn", arithmetic=NARROW, grad_weight=Operands(input="e5m2")),
}


def step(
    function: Callable[..., Tensor],
    operands: list[Tensor],
    dtype: torch.dtype | None,
    *,
    inside: bool = False,
) -> list[Tensor]:
    """Forward under autocast, and the backward outside of it, as torch advises, or inside."""
    leaves = [t.clone().requires_grad_() for t in operands]
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        y = function(*leaves)
        if inside:
            return [y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))]
    return [y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))]


QUICK = {
    "linear": SCHEMES,
    "conv_transpose1d": SCHEMES,
    **dict.fromkeys(("conv1d", "matmul", "bmm"), ("nothing",)),
}
GRID = [
    pytest.param(name, kind, marks=() if kind in QUICK.get(name, ()) else pytest.mark.exhaustive)
    for name in PRODUCTS
    for kind in SCHEMES
]
"""Torch is slow at many convolutions in bfloat16."""


@pytest.mark.parametrize(("name", "kind"), GRID)
def test_results_and_gradients_have_the_dtypes_of_torch(name: str, kind: str) -> None:
    """From operands of one dtype or of several; without a cast also the bits."""
    own, plain, _ = PRODUCTS[name]
    f32, b16, f64 = torch.float32, torch.bfloat16, torch.float64
    cases = [(f32, f32, f32), (b16, f32, f32), (f64, f64, f64)]
    for dtypes in cases if kind == "nothing" else cases[:2]:
        for inside in (False, True) if dtypes[0] == f32 else (False,):
            operands = draw(name, *dtypes)
            got = step(lambda *t: own(*t, scheme=SCHEMES[kind]), operands, b16, inside=inside)
            want = step(plain, operands, b16, inside=inside)
            assert [(t.dtype, t.shape) for t in got] == [(t.dtype, t.shape) for t in want]
            if kind == "nothing":
                assert_equal(got, want)


@every_product
@pytest.mark.parametrize("kind", ["casts", "split", "sums", "split sums"])
def test_it_is_the_product_of_operands_in_the_autocast_dtype(name: str, kind: str) -> None:
    """Whose formats bfloat16 holds, so that rounding before or after makes no difference to them."""
    own = PRODUCTS[name].mine
    scheme = SCHEMES[kind]
    operands = [lowprec.quantize(t, "e4m3fn") for t in draw(name, *[torch.float32] * 3)]
    got = step(lambda *t: own(*t, scheme=scheme), operands, torch.bfloat16)
    want = step(lambda *t: own(*t, scheme=scheme), [t.bfloat16() for t in operands], None)
    assert [t.dtype for t in got] == [torch.bfloat16] + [torch.float32] * len(operands)
    assert_equal([t.bfloat16() for t in got], want)


REFUSED = {
    "input": (Scheme(input="binary16"), "binary16", "Pass dtype=torch.float16 to torch.autocast"),
    "error": (Scheme(error="e6m9ieee"), "e6m9ieee", "Leave the product out: with torch.autocast"),
    "output": (Scheme(output="binary32"), "binary32", "Leave the product out"),
    "sums": (Scheme(arithmetic="binary16"), "binary16", "Pass dtype=torch.float16 to torch.autocast"),
    "sums of chunks": (
        Scheme(arithmetic=Arithmetic("e4m3fn", chunk=4, chunk_accumulate="binary32")), "binary32",
        "Leave the product out",
    ),
    "gradient": (Scheme(grad_weight=Operands(arithmetic="binary16")), "binary16", "Pass dtype=torch.float16"),
}  # fmt: skip


@every_product
@pytest.mark.parametrize("kind", REFUSED)
def test_a_dtype_that_does_not_hold_a_format_is_one_error(name: str, kind: str) -> None:
    """That names both and what to do, before anything is computed; elsewhere the scheme is fine."""
    scheme, format, remedy = REFUSED[kind]
    own, operands = PRODUCTS[name].mine, draw(name, *[torch.float32] * 3)
    with torch.autocast("cpu", torch.bfloat16):
        message = rf"`dtype` must hold the format {format} of the scheme .*got torch.bfloat16\. {remedy}"
        with pytest.raises(ValueError, match=message):
            own(*operands, scheme=scheme)


@every_product
def test_float64_is_left_alone_and_mixes_with_nothing(name: str) -> None:
    """As torch does; so a format that bfloat16 does not hold is no error."""
    own, operands = PRODUCTS[name].mine, draw(name, *[torch.float64] * 3)
    scheme = Scheme(arithmetic="binary32")
    simulated = lambda *t: own(*t, scheme=scheme)  # noqa: E731
    assert_equal(step(simulated, operands, torch.bfloat16), step(simulated, operands, None))
    second = "other" if len(operands) == 2 else "weight"
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(TypeError, match=f"`{second}` must have the dt"),
    ):
        own(operands[0], *(t.float() for t in operands[1:]), scheme=SCHEMES["sums"])


def test_layers_train_and_are_refused_alike() -> None:
    """Linear, Conv and ConvTranspose one after another, the second and third on bfloat16 inputs."""
    torch.manual_seed(0)
    layers = (
        torch.nn.ConvTranspose1d(2, 4, 2),
        torch.nn.Conv1d(4, 3, 2),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 2),
    )
    model, x = torch.nn.Sequential(*layers), torch.ones(3, 2, 4)
    model = lowprec.convert(model, Scheme(arithmetic=NARROW, error="e5m2"))
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in model.parameters())
    lowprec.convert(lowprec.revert(model), Scheme(arithmetic="binary16"))
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match="hold the format binary16 of"),
    ):
        model(x)
    run = torch.compile(model, fullgraph=True, backend="eager")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(Exception, match="hold the format binary16 of"):
        run(x)
