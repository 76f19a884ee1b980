"""The record block: who is watched, and where a step ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from lowprec.errors import type_error, value_error
from lowprec.nn.layers import Simulated
from lowprec.ops.counting import count, count_update, scale_exponents
from lowprec.ops.observation import Observation, SeenProduct, observers, product_observers
from lowprec.optim import LowPrecision
from lowprec.quantizer import Quantizer
from lowprec.record.counters import NUMBERS
from lowprec.record.recording import Recording


class _Watch:
    """Counts what belongs to a model and an optimizer, in the steps that are to be recorded."""

    def __init__(self, names: dict[int, str], recording: Recording, every: int) -> None:
        self._names, self._recording, self._every = names, recording, every
        self._step, self._called, self._looks = 0, False, False

    def begin(self, step: int) -> None:
        """Look, or look away, from the beginning of a step on."""
        self._step = step
        if step % self._every == 0:
            self._recording.begin(step)
            if not self._looks:
                observers.append(self.see)
                product_observers.append(self.see_product)
                self._looks = True
        else:
            self.end()

    def end(self) -> None:
        """Look away."""
        if self._looks:
            observers.remove(self.see)
            product_observers.remove(self.see_product)
            self._looks = False

    def stepped(self, *_: Any) -> None:
        """The optimizer has made its step."""
        self.begin(self._step + 1)

    def called(self, *_: Any) -> None:
        """The model is called, by something else than a checkpoint within a backward."""
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:
            return
        if self._called:
            self.begin(self._step + 1)
        self._called = True

    def see(self, seen: Observation) -> None:
        """Count one quantization, if it is the model's or the optimizer's."""
        name = self._names.get(seen.owner)
        if name is None:
            return
        found = count(seen.x, seen.y, seen.seed, seen.spec, seen.stream, seen.scales)
        numbers = np.zeros(len(NUMBERS))
        numbers[: len(found) - 1] = found[:-1]
        if seen.before is not None:
            numbers[len(found) - 1 :] = count_update(seen.before, seen.x, seen.y)
        scales = scale_exponents(seen.x, seen.spec.format, seen.scales)
        self._recording.add((name, seen.role), numbers, found.exponents, scales)

    def see_product(self, seen: SeenProduct) -> None:
        """Count the sums of one product, if it is the model's: a role of its own, whose elements are sums."""
        name = self._names.get(seen.owner)
        if name is not None:
            numbers = np.zeros(len(NUMBERS))
            numbers[:2] = seen.sums, seen.overflowed
            self._recording.add((name, _sums_of(seen.roles)), numbers, {}, {})


_SUMS = {"input weight": "output sums", "error weight": "grad_input sums", "error input": "grad_weight sums"}
"""The role of the sums of a product, by what its operands are in alphabetical order."""


def _sums_of(roles: str) -> str:
    """The role of the sums of a product."""
    return _SUMS.get(" ".join(sorted(roles.split())), f"{roles} sums")


@contextmanager
def record(
    model: torch.nn.Module, optimizer: LowPrecision | None = None, *, every: int = 1
) -> Iterator[Recording]:
    """Count what every cast does while the block runs: saturation, underflow, NaN, noise, lost updates.

    Casts of the converted layers and Quantizers in ``model`` are counted by their names within it,
    and, if given, those of ``optimizer`` by the names of the parameters; others are not. What a
    checkpoint computes again is counted again. Outside a block nothing is counted and nothing is paid.

    Where layers have sums in fixed point, those inside a product have roles of their own, output sums,
    grad_input sums and grad_weight sums: how many there are, and how many of them overflowed, which of those
    that wrap nothing else tells. They are computed once more for that, which takes many times as long;
    compensated, exact and block sums are not counted.

    A step ends with each ``optimizer.step()``, or, without an optimizer, where the model is called again.
    Steps are numbered from 0. What was counted is kept for at most 256 moments: when there are more, each two
    neighbors become one. The optimizer's results are the same, but a step that is recorded is not made in one
    pass over memory.

    On CUDA devices what is recorded waits for the device at each cast. It is counted there, but of scales and
    of an optimizer's updates, which are copied to the host.

    Args:
        model: A converted model, not compiled.
        optimizer: The LowPrecision optimizer of its parameters.
        every: Record the first of so many steps; the others cost nothing.

    Yields:
        A Recording, which can be asked within the block and after it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``every`` is not positive, or there is nothing to record.
        RuntimeError: If the model runs compiled inside the block.

    Example:
        >>> from lowprec.convert import convert
        >>> model = convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), "fp8-hybrid")
        >>> with record(model) as recording:
        ...     _ = model(torch.tensor([[1000.0, 1.0]]))
        >>> recording.counters["0", "input"]
        Counters(count=2, saturated=1, underflowed=0, nan=0)
    """
    _check(model, optimizer, every)
    names = {id(layer): name or "(model)" for name, layer in model.named_modules()}
    order = []
    for name, layer in model.named_modules():
        order.append(name or "(model)")
        order += [f"{name}.{own}" if name else own for own, _ in layer.named_parameters(recurse=False)]
    if optimizer is not None:
        own = {id(p): name for name, p in model.named_parameters()}
        for number, p in optimizer.numbered_parameters():
            names[id(p)] = own.get(id(p), f"parameter {number}")
    recording = Recording(order)
    watch = _Watch(names, recording, every)
    if optimizer is None:
        hook = model.register_forward_pre_hook(watch.called)
    else:
        hook = optimizer.register_step_post_hook(watch.stepped)
    watch.begin(0)
    try:
        yield recording  # model and optimizer live as long as the block, and so do their ids
    finally:
        watch.end()
        hook.remove()


def _check(model: Any, optimizer: Any, every: Any) -> None:
    """Refuse what cannot be recorded."""
    if not isinstance(model, torch.nn.Module):
        raise type_error("model", "be a torch.nn.Module", type(model))
    if optimizer is not None and not isinstance(optimizer, LowPrecision):
        remedy = "Wrap it with lowprec.optim.LowPrecision, or convert it with the model by lowprec.prepare."
        raise type_error("optimizer", "be a LowPrecision optimizer or None", type(optimizer), remedy)
    if not isinstance(every, int) or isinstance(every, bool):
        raise type_error("every", "be an integer", every)
    if every < 1:
        raise value_error("every", "be at least 1", every)
    if optimizer is None and not any(isinstance(m, Simulated | Quantizer) for m in model.modules()):
        remedy = "Convert it first, as with lowprec.convert(model, scheme), or pass its optimizer."
        raise value_error("model", "have layers or Quantizers that round", type(model).__name__, remedy)
