"""Compiled models give the bits of eager ones, with one compilation for training and one for eval."""

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import lowprec
from lowprec import BlockFloatingPoint, PerGroup, Scheme

CONTRACTION = BlockFloatingPoint(4, PerGroup(4, "contraction"))
pytestmark = pytest.mark.filterwarnings(  # PyTorch's compiler uses what PyTorch deprecates
    r"ignore:::torch\.", "ignore:<class 'torch.autograd.function.Function'> should not be instantiated"
)
SCHEMES = {
    "fp8-hybrid": "fp8-hybrid",
    "bfp8-sr": "bfp8-sr",
    "split": Scheme(input=CONTRACTION, weight=CONTRACTION, error=CONTRACTION),
}


@pytest.fixture(autouse=True)
def fresh_compiler():
    """No compilation of another test counts."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Network(nn.Module):
    """A convolution, one layer read twice, and a region that may be checkpointed."""

    def __init__(self, *, checkpointed=False):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.shared = nn.Linear(32, 32)
        self.head = nn.Linear(32, 3)
        self.checkpointed = checkpointed

    def region(self, x):
        return torch.relu(self.shared(torch.relu(self.shared(x))))

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(1)
        x = checkpoint(self.region, x, use_reentrant=False) if self.checkpointed else self.region(x)
        return self.head(x)


def train(scheme, *, compiled, steps, checkpointed=False, fullgraph=True):
    """Outputs and gradients of some steps from equal parameters, inputs and noise."""
    torch.manual_seed(0)
    model = Network(checkpointed=checkpointed)
    model, optimizer = lowprec.prepare(model, torch.optim.SGD(model.parameters(), 0.1), scheme, seed=1)
    run = torch.compile(model, fullgraph=fullgraph) if compiled else model
    seen = []
    for step in range(steps):
        x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        y = run(x)
        y.square().sum().backward()
        seen += [y.detach(), *(p.grad.clone() for p in model.parameters())]
        optimizer.step()
    model.eval()
    with torch.no_grad():
        seen.append(run(x))
    return seen


@pytest.mark.parametrize("name", SCHEMES)
def test_compiled_training_has_the_bits_of_eager_training(name):
    want = train(SCHEMES[name], compiled=False, steps=4)
    assert not counters["stats"]
    got = train(SCHEMES[name], compiled=True, steps=4)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)
    assert counters["stats"]["unique_graphs"] == 2, "one for training, one for eval"


@pytest.mark.parametrize(
    ("scheme", "fullgraph", "skip"),
    [("bfp8-sr", True, True), ("bfp8-sr", False, False), ("fixed8-sr", True, False)],
)
def test_compiled_checkpointing_sees_the_noise_of_the_forward(scheme, fullgraph, skip):
    # a layer remembers the noise of its weight, which PyTorch allows in a checkpointed region of a
    # full graph only under this option
    with torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=skip):
        want = train(scheme, compiled=False, steps=2)
        got = train(scheme, compiled=True, steps=2, checkpointed=True, fullgraph=fullgraph)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


def test_noise_of_a_compiled_layer_is_fresh_at_each_call():
    torch.manual_seed(0)
    layer = lowprec.nn.Linear(8, 8, scheme="bfp8-sr")
    compiled = torch.compile(layer, fullgraph=True)
    results = []
    for run in (compiled, layer):
        torch.manual_seed(1)
        results.append([run(torch.eye(8)) for _ in range(4)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert len({tuple(y.flatten().tolist()) for y in results[0]}) == 4
    assert counters["stats"]["unique_graphs"] == 1


def test_a_compiled_part_of_an_eager_model_reads_its_weight_once():
    torch.manual_seed(0)
    model = lowprec.convert(Network(), "bfp8-sr")
    x = torch.randn(5, 1, 4, 4)
    results = []
    for compiled in (False, True):
        if compiled:
            model.region = torch.compile(model.region, fullgraph=True, backend="aot_eager")
        torch.manual_seed(1)
        results.append([model(x) for _ in range(3)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("layer", [nn.Linear(2, 2), lowprec.Quantizer("e4m3fn")])
def test_recording_a_compiled_model_is_an_error(layer, fullgraph):
    model = nn.Sequential(layer)
    if isinstance(layer, nn.Linear):
        model = lowprec.convert(nn.Sequential(nn.Linear(2, 2)), "bfp8")
    compiled = torch.compile(model, fullgraph=fullgraph, backend="aot_eager")
    message = "`record` must watch a model that is not compiled"
    for _ in range(2):  # before it is compiled, and after
        with pytest.raises(RuntimeError, match=message), lowprec.record(model):
            compiled(torch.ones(1, 2))
        compiled(torch.ones(1, 2))
    with lowprec.record(model) as recording:
        model(torch.ones(1, 2))
    assert recording.by_role()["input"].count == 2
