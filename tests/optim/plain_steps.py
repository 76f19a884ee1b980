"""The documented steps around torch's own optimizer, written out, with roundings in exact fractions.

Only the inner step is torch's, which says what it is. Nothing here is shared with what it checks.
"""

import numpy as np
import torch
from torch import nn

from lowprec import Cast, reference

WEIGHT, MASTER, GRADIENT, STATE = range(4)
REMAINDER, COMPENSATION, EDIT = 61, 62, 63
"""Roles within a stream."""

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def same(x, y):
    """Equal bits."""
    integers = INTEGERS[x.element_size()]
    return x.dtype == y.dtype and torch.equal(x.detach().view(integers), y.detach().view(integers))


def exact(x, cast, stream, seed):
    """``x`` under a cast, by the definition."""
    cast = cast if isinstance(cast, Cast) else Cast(cast)
    options = {"rounding": cast.rounding, "random_bits": cast.random_bits}
    values = np.atleast_1d(x.detach().to(torch.float32 if x.dtype == torch.bfloat16 else x.dtype).numpy())
    if cast.rounding.is_stochastic:
        options["words"] = reference.random_words(seed, stream, values.shape)
    if x.dtype == torch.bfloat16:
        options["carrier"] = "bfloat16"
    y = reference.quantize(values, cast.format, **options)
    return torch.from_numpy(y).reshape(x.shape).to(x.dtype)


class Plain:
    """One parameter after another; ``casts`` are those of each, or one for all."""

    def __init__(
        self, make, start, *, casts, gradient_scale=1.0, compensated=False, seed, counters=(), **inner
    ):
        self.casts = casts if isinstance(casts, list) else [casts] * len(start)
        self.scale, self.seed, self.steps = gradient_scale, seed, 0
        self.counters = {"step", *counters}
        self.p = [nn.Parameter(x.clone()) for x in start]
        self.inner = make(self.p, **inner)
        self.master = [None] * len(start)
        for n, p in enumerate(self.p):
            self.round_states(n)
            self.round_weight(n, p.detach().clone())
        self.lost = [torch.zeros_like(x) if compensated else None for x in start]

    def q(self, x, n, role, cast):
        """Rounded with the noise of this step, parameter and role."""
        return x.clone() if cast is None else exact(x, cast, (self.steps << 32) | (n << 6) | role, self.seed)

    def put(self, n, x):
        """Write to a parameter."""
        with torch.no_grad():
            self.p[n].copy_(x)

    def round_states(self, n):
        """States in the order of their names, counters among them."""
        cast = self.casts[n].get("state")
        for index, (name, value) in enumerate(sorted(self.inner.state[self.p[n]].items())):
            chosen = cast.get(name) if isinstance(cast, dict) else cast
            if name not in self.counters and isinstance(value, torch.Tensor) and chosen is not None:
                value.copy_(self.q(value, n, STATE + index, chosen))

    def round_weight(self, n, p):
        """Master, then weight."""
        if self.casts[n].get("master") is not None:
            self.master[n] = self.q(p, n, MASTER, self.casts[n]["master"])
        self.put(n, self.q(p, n, WEIGHT, self.casts[n].get("weight")))

    def add_to_weight(self, n, before, p):
        """Kahan's sum, in the arithmetic of NumPy."""
        w, c, u = (x.numpy() for x in (before, self.lost[n], p - before))
        cast = self.casts[n]["weight"]
        c = self.q(torch.from_numpy(np.asarray(c + u)), n, COMPENSATION, cast)
        new = self.q(torch.from_numpy(np.asarray(w + c.numpy())), n, WEIGHT, cast)
        c = torch.from_numpy(np.asarray(c.numpy() + (w - new.numpy())))
        self.lost[n] = self.q(c, n, REMAINDER, cast)
        self.put(n, new)

    def step(self, gradients):
        """One step; None is no gradient."""
        self.steps += 1
        before = [p.detach().clone() for p in self.p]
        for n, (p, grad) in enumerate(zip(self.p, gradients, strict=True)):
            p.grad = None
            if grad is not None:
                p.grad = self.q(grad * self.scale, n, GRADIENT, self.casts[n].get("gradient"))
                if self.master[n] is not None:
                    self.put(n, self.master[n])
        self.inner.step()
        for n, grad in enumerate(gradients):
            if grad is None:
                continue
            self.round_states(n)
            after = self.p[n].detach().clone()
            if self.lost[n] is not None:
                self.add_to_weight(n, before[n], after)
            else:
                self.round_weight(n, after)

    def assert_equal(self, optimizer):
        """The same bits in weights, gradients, states, masters and compensations."""
        parameters = [p for _, p in optimizer.numbered_parameters()]
        for n, (p, want) in enumerate(zip(parameters, self.p, strict=True)):
            assert same(p, want), (self.steps, n)
            assert p.grad is want.grad is None or same(p.grad, want.grad), (self.steps, n)
            states, wanted = optimizer.state.get(p, {}), self.inner.state.get(want, {})
            assert states.keys() == wanted.keys()
            for name, value in wanted.items():
                tensors = isinstance(value, torch.Tensor)
                assert same(states[name], value) if tensors else states[name] == value, (self.steps, name)
            for kept, wants in (
                (optimizer.master_weights, self.master),
                (optimizer.compensations, self.lost),
            ):
                assert (p in kept) == (wants[n] is not None)
                assert wants[n] is None or same(kept[p], wants[n]), (self.steps, n)


def tensors(shapes, seed, *, scale=1.0, dtype=torch.float32):
    """Normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]
