"""What docs/from_qpytorch.md says is so: its calls agree, its differences are as stated, all of it runs."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import assert_same_bits
from compat.peer import packages
from compat.qtorch_cases import CASES
from torch import nn

import lowprec
import lowprec.compat.qtorch as ours
from lowprec import Cast, Scheme
from lowprec.compat.qtorch import auto_low, optim, quant
from lowprec.optim import AdamW, LowPrecision

PAGE = Path(__file__).parents[2] / "docs" / "from_qpytorch.md"


def table(first_header):
    """The rows of the table whose first column has that header, as lists of cells without their backticks."""
    text = PAGE.read_text(encoding="utf-8")
    start = text.index(f"| {first_header} |")
    lines = text[start : text.index("\n\n", start) if "\n\n" in text[start:] else None].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]
    assert rows
    return rows


def code(cell):
    """What stands in backticks."""
    return re.fullmatch("`(.+)`", cell).group(1)


CALLS = [(code(there), code(here)) for there, here in table("`lowprec.compat.qtorch`")]
DIFFERENCES = {code(name): (code(theirs), code(mine)) for name, _, theirs, mine in table("Case")}
ELSEWHERE = [(package, code(there), code(here)) for package, there, here in table("Package")]


def namespace():
    """What the page's expressions are about; fresh each time, weights on the grid of fixed8f6."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(lowprec.quantize(p.detach(), "fixed8f6"))
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    names = {"copy": copy, "torch": torch, "lowprec": lowprec, "model": model, "inner": inner}
    for module in (ours, quant, auto_low, optim):
        names |= {name: getattr(module, name) for name in module.__all__}
    names |= {"Cast": Cast, "Scheme": Scheme, "LowPrecision": LowPrecision, "AdamW": AdamW}
    names["x"] = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    definitions = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in definitions:
        exec(compile(block, "<page>", "exec"), names)
    return names


def outputs(function, shape):
    """What a module gives, and the gradient of its input, seeded."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    torch.manual_seed(3)
    y = function(x)
    parameters = list(function.parameters()) if isinstance(function, nn.Module) else []
    gradients = torch.autograd.grad(y, [x, *parameters], torch.linspace(-2, 2, y.numel()).reshape(y.shape))
    return [y.detach(), *gradients]


def trained(model, optimizer):
    """The weights after ten steps, and their momenta."""
    for step in range(10):
        x = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(step))
        model.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [*model.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())]


def meaning(expression):
    """What an expression does, as tensors to be compared, or a format."""
    names = namespace()
    torch.manual_seed(0)
    value = eval(expression, names)
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.optim.Optimizer):
        return trained(names["model"], value)
    if value is None or (isinstance(value, nn.Sequential) and len(value) == 4):
        return outputs(names["model"] if value is None else value, (3, 1, 4, 4))
    if callable(value):
        return outputs(value, (4, 64))
    return getattr(value, "native", value)


@pytest.mark.parametrize(("there", "here"), CALLS, ids=[there for there, _ in CALLS])
def test_both_spellings_give_the_same_bits(there, here):
    theirs, mine = meaning(there), meaning(here)
    if not isinstance(mine, list):
        assert theirs == mine
        return
    assert len(theirs) == len(mine)
    for got, want in zip(theirs, mine, strict=True):
        assert_same_bits(got.detach().numpy(), want.detach().numpy())


def test_every_public_name_has_its_native_spelling():
    calls = " ".join(there for there, _ in CALLS)
    public = [name for module in (ours, quant, auto_low, optim) for name in module.__all__]
    assert [name for name in public if f"{name}(" not in calls] == []


def shown(function, package):
    """The repr of what a case gives, or the exception that it raises."""
    try:
        return repr(function(package))
    except Exception as error:  # whichever it is, the table names it
        return f"raises {type(error).__name__}"


def test_the_table_has_a_row_for_each_case():
    assert list(DIFFERENCES) == list(CASES)
    assert [name for name, (theirs, mine) in DIFFERENCES.items() if theirs == mine] == []


@pytest.mark.parametrize("package", packages())
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_as_stated(name, package):
    q = package()
    stated = DIFFERENCES[name][q is ours]
    assert shown(CASES[name], q) == stated


@pytest.mark.parametrize(("package", "there", "here"), ELSEWHERE, ids=[f"{p}: {t}" for p, t, _ in ELSEWHERE])
def test_what_is_spelled_for_those_from_elsewhere_runs(package, there, here):
    names = namespace()
    value = eval(here, names)
    assert value is not None
    if package == "pychop":
        pychop = pytest.importorskip("pychop", reason="the extra bench has it")
        x = names["x"]
        theirs = eval(there, {"pychop": pychop, "x": x})
        assert np.array_equal(np.asarray(theirs), value.numpy())
