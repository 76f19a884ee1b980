"""Whole runs of SGD in exact fractions: no float is added anywhere, and no other optimizer steps beside it.

Rates, decays and formats are such that float32 holds every intermediate result, so that there is one right
answer.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import pytest
import torch
from torch import nn

from lowprec import Cast, reference
from lowprec.optim import LowPrecision

WEIGHT, MASTER, GRADIENT, BUFFER = 0, 1, 2, 3
REMAINDER, COMPENSATION = 61, 62
"""Roles within a stream."""

SEED, RATE, SIZE = 11, Fraction(1, 4), 5
CASTS = {
    "weight": Cast("fixed8f6", "stochastic"),
    "gradient": Cast("fixed8f6", "stochastic", random_bits=7),
    "state": Cast("fixed8f5", "stochastic"),
}
WITH = {
    "weights": CASTS,
    "to nearest": {role: Cast(cast.format) for role, cast in CASTS.items()},
    "a master": {**CASTS, "master": Cast("fixed14f10", "stochastic")},
    "compensation": {**CASTS, "weight": Cast("e4m3fn", "stochastic"), "compensation": "kahan"},
    "a scale": {**CASTS, "gradient_scale": 0.5},
}
SGD = {
    "plain": {},
    "momentum": {"momentum": 0.5, "dampening": 0.5},
    "nesterov": {"momentum": 0.5, "nesterov": True, "weight_decay": 0.25},
    "maximize": {"momentum": 0.25, "weight_decay": 0.25, "maximize": True},
}


@dataclass
class Element:
    """One weight, and all that is kept of it."""

    number: int
    index: int
    weight: Fraction
    casts: dict
    settings: dict
    step: int = 0
    master: Fraction | None = None
    buffer: Fraction | None = None
    lost: Fraction = field(default_factory=Fraction)

    def __post_init__(self):
        if "master" in self.casts:
            self.master = self.q(self.weight, "master", MASTER)
        self.weight = self.q(self.weight, "weight", WEIGHT)

    def q(self, x, name, role):
        """Rounded by the definition."""
        cast, word = self.casts[name], None
        if cast.rounding.is_stochastic:
            stream = (self.step << 32) | (self.number << 6) | role
            word = reference.random_word(SEED, stream, self.index)
        options = {"rounding": cast.rounding, "random_bits": cast.random_bits, "word": word}
        return Fraction(reference.quantize_scalar(float(x), cast.format, **options))

    def advance(self, grad):
        """A step of SGD as its documentation has it; the gradient that it stepped on."""
        self.step += 1
        grad = rounded = self.q(grad * Fraction(self.casts.get("gradient_scale", 1)), "gradient", GRADIENT)
        p = self.weight if self.master is None else self.master
        decay, momentum, dampening = (
            Fraction(self.settings.get(name, 0)) for name in ("weight_decay", "momentum", "dampening")
        )
        grad = (-grad if self.settings.get("maximize") else grad) + decay * p
        if momentum:
            moved = grad if self.buffer is None else momentum * self.buffer + (1 - dampening) * grad
            grad = grad + momentum * moved if self.settings.get("nesterov") else moved
            self.buffer = self.q(moved, "state", BUFFER)
        p -= RATE * grad
        if "compensation" in self.casts:
            lost = self.q(self.lost + (p - self.weight), "weight", COMPENSATION)
            weight = self.q(self.weight + lost, "weight", WEIGHT)
            self.lost = self.q(lost + (self.weight - weight), "weight", REMAINDER)
            self.weight = weight
            return rounded
        if self.master is not None:
            self.master = self.q(p, "master", MASTER)
        self.weight = self.q(p, "weight", WEIGHT)
        return rounded


def numbers(step):
    """Thirty-seconds between -1/2 and 1/2, a row for each parameter."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randint(-16, 17, (SIZE,), generator=generator) / 32 for _ in range(2)]


def fractions(x):
    return [Fraction(value) for value in x.tolist()]


@pytest.mark.parametrize("casts", WITH.values(), ids=WITH)
@pytest.mark.parametrize("settings", SGD.values(), ids=SGD)
def test_a_hundred_steps(settings, casts):
    parameters = [nn.Parameter(x) for x in numbers(0)]
    rows = [
        [Element(n, i, value, casts, settings) for i, value in enumerate(fractions(p.detach()))]
        for n, p in enumerate(parameters)
    ]
    inner = torch.optim.SGD(parameters, lr=float(RATE), **settings)
    optimizer = LowPrecision(inner, seed=SEED, **casts)
    seen = set()
    for step in range(1, 101):
        gradients = numbers(step)
        for p, grad in zip(parameters, gradients, strict=True):
            p.grad = grad.clone()
        optimizer.step()
        for p, row, grad in zip(parameters, rows, gradients, strict=True):
            stepped = [element.advance(x) for element, x in zip(row, fractions(grad), strict=True)]
            assert fractions(p.grad) == stepped
            assert fractions(p.detach()) == [element.weight for element in row], step
            if "momentum" in settings:
                assert fractions(inner.state[p]["momentum_buffer"]) == [e.buffer for e in row], step
            if "master" in casts:
                assert fractions(optimizer.master_weights[p]) == [e.master for e in row], step
            if "compensation" in casts:
                assert fractions(optimizer.compensations[p]) == [e.lost for e in row], step
            seen.update(p.tolist())
    assert len(seen) > 40, "the weights have moved about"
