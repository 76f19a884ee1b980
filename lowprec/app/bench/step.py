"""A training step of a small CNN with every role in low precision, beside the same step in float32."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lowprec.app.bench import floors
from lowprec.app.bench.figure import Limit, Probe
from lowprec.app.bench.measure import Effort, in_turns, microseconds_per_call
from lowprec.cast import Cast
from lowprec.convert import prepare
from lowprec.ops.observation import observe
from lowprec.ops.quantize import make_spec
from lowprec.record import record
from lowprec.scheme import Scheme

STEP, RECORD = "training step", "record"
RECORDED, UNRECORDED = "on", "off"
_CHANNELS = ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1))
"""Output channels and stride of each convolution."""


def scheme() -> Scheme:
    """Inputs, errors and everything that the optimizer keeps: e5m2, stochastically.

    Returns:
        The scheme. Products read the stored weights, which are rounded already.

    Example:
        >>> scheme().master.describe()
        'e5m2 stochastic'
    """
    cast = Cast("e5m2", "stochastic")
    return Scheme(input=cast, error=cast, stored_weight=cast, gradient=cast, state=cast, master=cast)


def network() -> nn.Sequential:
    """Six convolutions with batch normalization and ReLU, average pooling, a linear layer.

    Returns:
        The float32 network, with the same weights each time.

    Example:
        >>> network()(torch.ones(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        before = 3
        for channels, stride in _CHANNELS:
            conv = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def stepping(batch: int, *, low: bool, recorded: bool = False) -> Callable[[], Tensor]:
    """A training step, ready to be repeated.

    Args:
        batch: How many images.
        low: Whether to follow the scheme.
        recorded: Whether ``lowprec.record`` counts each step; only with the scheme.

    Returns:
        The step; it returns its loss.

    Example:
        >>> float(stepping(2, low=False)()) > 0
        True
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (batch,), generator=generator)
    model = network()
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if low:
        model, optimizer = prepare(model, optimizer, scheme(), seed=0)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def counted() -> Tensor:
        with record(model, optimizer):
            return step()

    return counted if recorded else step


def probes(effort: Effort) -> Iterator[Probe]:
    """A training step in low precision, and what it costs to record it.

    Args:
        effort: How much to measure.

    Returns:
        The probes.

    Example:
        >>> from lowprec.app.bench.measure import FULL
        >>> [str(probe.limit) for probe in probes(FULL)]
        ['≤ 1.35', '≤ 1.3', '≤ 1']
    """
    row = f"small CNN, batch {effort.batch}, every role e5m2 stochastic"
    limit = Limit(floors.STEP, at_least=False)
    yield Probe(STEP, row, "", "of float32", lambda: _ratio(effort), limit)
    limit = Limit(floors.RECORD, at_least=False)
    yield Probe(RECORD, row, RECORDED, "of the step", lambda: _recorded_ratio(effort), limit)
    limit = Limit(floors.LOOK, at_least=False)
    yield Probe(RECORD, "a cast", UNRECORDED, "µs", lambda: _look(effort), limit)


def _ratio(effort: Effort) -> float:
    """Low precision over float32, step by step in turns."""
    low, plain = stepping(effort.batch, low=True), stepping(effort.batch, low=False)
    return in_turns(low, plain, effort.repeats)


def _recorded_ratio(effort: Effort) -> float:
    """A step that is recorded over one that is not, in turns."""
    on, off = (stepping(effort.batch, low=True, recorded=recorded) for recorded in (True, False))
    return in_turns(on, off, effort.repeats)


def _look(effort: Effort) -> float:
    """Microseconds to find that nobody looks on."""
    x, spec = torch.ones(1), make_spec("e5m2", "nearest_even", None)
    return microseconds_per_call(
        lambda: observe("input", 0, x, x, None, spec, 0), effort.calls, effort.repeats
    )
