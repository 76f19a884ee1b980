"""Neither pass of a simulated model waits for its device, so a CUDA graph may hold them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from waiting import NeverWaits

import lowprec
from lowprec import Arithmetic, Cast, Scheme

GROUPED, NOISY = "scaled<e4m3fn,e8m0,group32@contraction>", Cast("e4m3fn", "stochastic")
NAMED = "fp8-hybrid", "fp8-acc12", "bfp8-sr", "fixed8-sr", "mxfp4-sr", "nvfp4-sr", "int8-sr"
OWN = {
    "noise everywhere": Scheme(input=NOISY, weight=NOISY, error=NOISY, output=NOISY, gradient=NOISY),
    "rounded sums": Scheme(
        input="e4m3fn", weight="e4m3fn", arithmetic=Arithmetic("bfloat16", rounding="stochastic", chunk=4)
    ),
    "exact sums": Scheme(input="e4m3fn", weight="e4m3fn", arithmetic=Arithmetic("exact")),
    "blocks": Scheme(
        input=GROUPED, weight=GROUPED, error=GROUPED, arithmetic=Arithmetic("e6m9ieee", chunk="block")
    ),
}


class Shared(nn.Module):
    """A layer that is read four times, twice in a part that the backward pass runs again."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(lambda x: self.linear(torch.relu(self.linear(x))), self.linear(x), use_reentrant=False)
        return self.linear(x)


class Every(nn.Module):
    """Every kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.ModuleList([nn.Conv1d(32, 32, 3, padding=1), nn.ConvTranspose1d(32, 32, 3, padding=1)])
        self.two = nn.ModuleList([nn.Conv2d(32, 32, 1), nn.ConvTranspose2d(32, 32, 1)])
        self.three = nn.ModuleList([nn.Conv3d(32, 32, 1), nn.ConvTranspose3d(32, 32, 1)])
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.shared = Shared()

    def forward(self, x: Tensor) -> Tensor:
        for spaces, layers in enumerate((self.one, self.two, self.three), 1):
            spread = x.mT.reshape(2, 32, *(1,) * (spaces - 1), -1)
            for layer in layers:
                spread = layer(layer(spread))
            x = spread.reshape(2, 32, -1).mT
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.shared(x)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", [*NAMED, *OWN])
def test_no_pass_of_a_model_waits(name: str, device: str) -> None:
    plain = Shared() if name == "blocks" else Every()  # in blocks of which other layers have no products
    model = lowprec.convert(plain, OWN.get(name, name)).to(device)
    x = torch.randn(2, 4, 32, device=device, requires_grad=True)
    with NeverWaits():
        for _ in range(2):
            model(x).square().sum().backward()
        model.eval()(x)
    assert x.grad is not None
    assert x.grad.device.type == device


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_neither_do_functions_and_single_casts(device: str) -> None:
    x = torch.randn(4, 32, device=device, requires_grad=True)
    seed = torch.ones(1, dtype=torch.int64, device=device)
    generator = torch.Generator("cpu")
    with NeverWaits():
        y = lowprec.quantize(x, "e4m3fn", rounding="stochastic", seed=seed)
        y = lowprec.quantize(y, "mxfp4", rounding="stochastic", seed=7)
        if device == "cpu":
            y = lowprec.quantize(y, "e4m3fn", rounding="stochastic", generator=generator)
        y = lowprec.Quantizer("nvfp4")(y)
        y = lowprec.functional.linear(y, x, scheme="bfp8-sr")
        y = lowprec.functional.matmul(y, x, scheme="bfp8-sr")
        y = lowprec.functional.scaled_dot_product_attention(*[y[None]] * 3, is_causal=True, scheme="mxfp8-sr")
        with lowprec.simulate("mxfp8-sr"):
            y = torch.nn.functional.linear(y, x) @ x
            y = torch.einsum("bij,kj->bik", y, x)
        y.square().sum().backward()
    assert x.grad is not None


WAITING: dict[str, Callable[[Tensor], object]] = {
    "a number": lambda x: x[0].item(),
    "a decision": lambda x: 1 if (x > 0).any() else 0,
    "places": lambda x: (x > 0).nonzero(),
    "a mask": lambda x: x[x > 0],
    "writing by a mask": lambda x: x.index_put_((x > 0,), x.sum()),
    "a comparison": lambda x: torch.equal(x, x),
    "data": lambda x: torch.tensor([1.0], device=x.device),
    "runs": lambda x: torch.repeat_interleave(x, torch.ones_like(x, dtype=torch.int64)),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_seen(name: str) -> None:
    x = torch.ones(3)
    WAITING[name](x)
    with NeverWaits(), pytest.raises(RuntimeError, match="waits for the device"):
        WAITING[name](x)


def test_a_copy_to_another_device_is_seen() -> None:
    x = torch.ones(3)
    with NeverWaits(), pytest.raises(RuntimeError, match="copies from one device to another"):
        x.to("meta")
