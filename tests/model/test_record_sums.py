"""A recording counts the sums inside products that overflow, layer by layer and product by product."""

import pytest
import torch
from torch import Tensor, nn

import lowprec
from lowprec import Operands, Scheme
from lowprec.ops.observation import product_observers
from lowprec.record.counters import Counters

WRAPS = "fixed9f6<wrap>"  # from -4 on, below 4, in steps of 1/64


def overflows(a: Tensor, b: Tensor) -> int:
    """How many of the sums of a product of multiples of 1/8 wrap, in integers of 1/64."""
    left, right = (a * 8).int().tolist(), (b * 8).int().T.tolist()
    found = 0
    for row in left:
        for column in right:
            total = 0
            for x, y in zip(row, column, strict=True):
                total += x * y
                found += not -256 <= total < 256
                total = (total + 256) % 512 - 256
    return found


def trained(scheme: Scheme) -> tuple[nn.Module, Tensor]:
    """A model of one layer, and an input."""
    torch.manual_seed(0)
    model = lowprec.convert(nn.Sequential(nn.Linear(24, 5, bias=False)), scheme)
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(5, 24))
    return model, torch.randn(7, 24, requires_grad=True)


@pytest.mark.parametrize("split", [False, True])
def test_sums_of_all_three_products_are_counted(split: bool) -> None:
    """Those of backward products, too, also where these read other operands; and nothing is changed."""
    scheme = Scheme(
        input="fixed8f3", weight="fixed8f3", error="fixed8f3", arithmetic=WRAPS,
        grad_weight=Operands(input="fixed7f3") if split else None,
    )  # fmt: skip
    model, x = trained(scheme)
    plain = model(x)
    error = torch.randn(7, 5)
    gradients = torch.autograd.grad(plain, [x, model[0].weight], error)
    with lowprec.record(model) as recording:
        y = model(x)
        found = torch.autograd.grad(y, [x, model[0].weight], error)
    assert torch.equal(y, plain)
    assert all(map(torch.equal, found, gradients))
    own, read, seen = (lowprec.quantize(t.detach(), "fixed8f3") for t in (x, model[0].weight, error))
    third = lowprec.quantize(x.detach(), "fixed7f3") if split else own
    for role, a, b in (
        ("output sums", own, read.T),
        ("grad_input sums", seen, read),
        ("grad_weight sums", seen.T, third),
    ):
        size = a.shape[0] * a.shape[1] * b.shape[1]
        assert recording.counters["0", role] == Counters(size, overflows(a, b), 0, 0)
        assert 0 < recording.counters["0", role].saturation < 1
    assert "output sums" in recording.table().to_csv()
    assert not product_observers


def test_products_of_nobody_and_compensated_ones_are_not_counted() -> None:
    """Nor those outside of a recording."""
    scheme = Scheme(input="fixed8f3", arithmetic={"accumulate": WRAPS, "compensation": "kahan"})
    model, x = trained(scheme)
    with lowprec.record(model) as recording:
        model(x)
        lowprec.functional.matmul(x.detach(), x.detach().T, scheme=Scheme(arithmetic=WRAPS))
    assert [role for _, role in recording.counters] == ["input"]
