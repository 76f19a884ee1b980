"""OptimLP: QPyTorch's optimizer wrapper, which takes functions where lowprec.optim takes formats."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.optim.wrapper import Wrapper

Quantize = Callable[[Tensor], Tensor]

_KEY = "OptimLP"
_SCALARS = ("step", "mu_product", "eta", "mu")
"""States of torch's optimizers that are scalars, as a parameter without dimensions is."""


class OptimLP(Wrapper):
    """Round weights, gradients, momenta and an accumulating copy of the weights around an optimizer's step.

    One step: a closure is evaluated once; every gradient becomes ``grad_quant(grad_scaling * grad)``; weights
    become their accumulators, if any; the optimizer steps; accumulators become ``acc_quant`` of the weights,
    and weights ``weight_quant`` of these; states of a parameter's shape become ``momentum_quant`` of
    themselves, where there was a gradient. As in QPyTorch, nothing is rounded before the first step. Weights
    changed between two steps (loaded, averaged, pruned) become their accumulators. NaN, infinities and
    overflow are the functions' affair.

    Args:
        optim: A torch optimizer; not LBFGS, which steps several times in one.
        weight_quant: A function from tensor to tensor for weights; None to leave them.
        grad_scaling: A positive factor on gradients, also without ``grad_quant``.
        grad_quant: A function for gradients.
        momentum_quant: A function for the optimizer's states.
        acc_quant: A function for accumulators; None for no accumulators.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``grad_scaling`` is not positive and finite.

    Example:
        >>> from lowprec.compat.qtorch import FixedPoint
        >>> from lowprec.compat.qtorch.quant import quantizer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer = OptimLP(optimizer, weight_quant=quantizer(FixedPoint(8, 6)))
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        optim: torch.optim.Optimizer,
        weight_quant: Quantize | None = None,
        grad_scaling: float = 1.0,
        grad_quant: Quantize | None = None,
        momentum_quant: Quantize | None = None,
        acc_quant: Quantize | None = None,
    ) -> None:
        super().__init__(optim, "optim")
        if isinstance(grad_scaling, bool) or not isinstance(grad_scaling, int | float):
            raise type_error("grad_scaling", "be a number", grad_scaling)
        if not 0.0 < grad_scaling < float("inf"):
            raise value_error("grad_scaling", "be positive and finite", grad_scaling)
        functions = (weight_quant, grad_quant, momentum_quant, acc_quant)
        names = ("weight_quant", "grad_quant", "momentum_quant", "acc_quant")
        for name, function in zip(names, functions, strict=True):
            if function is not None and not callable(function):
                remedy = "Make one with quantizer(number)."
                raise type_error(name, "be a function from tensor to tensor, or None", function, remedy)
        self.grad_scaling = float(grad_scaling)
        self.weight_quant, self.grad_quant, self.momentum_quant, self.acc_quant = functions
        self._accumulators: list[Tensor] = []
        self._seen: list[Tensor] = []
        self._add_accumulators()

    @property
    def optim(self) -> torch.optim.Optimizer:
        """The optimizer inside."""
        return self.optimizer

    @property
    def weight_acc(self) -> dict[Tensor, Tensor]:
        """The accumulator of each parameter; empty without ``acc_quant``."""
        return {p: acc for p, acc, _ in self._accumulated()}

    def _parameters(self) -> list[Tensor]:
        """Every parameter, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def _accumulated(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Parameters with their accumulators and what they were after the last step."""
        if self.acc_quant is not None:
            yield from zip(self._parameters(), self._accumulators, self._seen, strict=True)

    @torch.no_grad()
    def _add_accumulators(self) -> None:
        """Copies of the parameters that have none, not rounded."""
        if self.acc_quant is not None:
            for p in self._parameters()[len(self._accumulators) :]:
                self._accumulators.append(p.detach().clone())
                self._seen.append(p.detach().clone())

    def _check_gradients(self, touched: list[tuple[int, Tensor]]) -> None:
        """Refuse sparse gradients where they are to be rounded."""
        for _, p in touched if self.grad_quant is not None else ():
            if p.grad is not None and p.grad.layout != torch.strided:
                remedy = "Use a layer without sparse gradients."
                raise type_error("grad", "be dense for grad_quant", p.grad.layout, remedy)

    def _update(self, touched: list[tuple[int, Tensor]]) -> None:
        """One step; parameters without a gradient are rounded, too, as in QPyTorch."""
        self._round_gradients()
        for p, acc, seen in self._accumulated():
            if not _same_bits(p, seen):  # somebody else has written to it
                acc.copy_(p)
            p.copy_(acc)
        self.optimizer.step()
        for p, acc, _ in self._accumulated():
            p.copy_(acc.copy_(_call(self.acc_quant, p)))
        if self.weight_quant is not None:
            for p in self._parameters():
                p.copy_(_call(self.weight_quant, p))
        for p, _, seen in self._accumulated():
            seen.copy_(p)
        self._round_momenta()

    def _round_gradients(self) -> None:
        """Scale and round the gradients there are."""
        for p in self._parameters():
            if p.grad is None:
                continue
            self._unscale(p.grad)
            if self.grad_scaling != 1.0:
                p.grad.mul_(self.grad_scaling)
            if self.grad_quant is not None:
                p.grad.copy_(_call(self.grad_quant, p.grad))

    def _round_momenta(self) -> None:
        """Round the floating-point states of a parameter's shape, where it has a gradient."""
        if self.momentum_quant is None:
            return
        for p in self._parameters():
            states = {} if p.grad is None else self.state.get(p, {})
            for name, value in states.items():
                shaped = isinstance(value, Tensor) and value.is_floating_point() and value.shape == p.shape
                if shaped and name not in _SCALARS:
                    value.copy_(_call(self.momentum_quant, value))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, and accumulators for them."""
        self.optimizer.add_param_group(param_group)
        self._add_accumulators()

    def _saved(self) -> dict[str, Any]:
        """The inner optimizer's state_dict, and the accumulators.

        The noise of stochastic functions comes from torch's generator, whose state is torch.get_rng_state().
        """
        kept = {"accumulators": list(self._accumulators), "seen": list(self._seen)}
        return {**self.optimizer.state_dict(), _KEY: kept}

    def _load(self, state_dict: dict[str, Any]) -> None:
        """From an OptimLP, or without ``acc_quant`` from its inner optimizer."""
        state_dict = dict(state_dict)
        own = state_dict.pop(_KEY, {"accumulators": [], "seen": []})
        if not isinstance(own, Mapping) or set(own) != {"accumulators", "seen"}:
            raise value_error(_KEY, "hold accumulators and seen", own)
        wanted = [acc.shape for acc in self._accumulators]
        for kept in own.values():
            if [value.shape for value in kept] != wanted:
                remedy = "Only an OptimLP with acc_quant saves them." if wanted else "Give acc_quant."
                shapes = [tuple(value.shape) for value in kept]
                must = f"hold accumulators of the shapes {[tuple(shape) for shape in wanted]}"
                raise value_error("state_dict", must, shapes, remedy)
        self.optimizer.load_state_dict(state_dict)
        for mine, saved in ((self._accumulators, own["accumulators"]), (self._seen, own["seen"])):
            for value, kept in zip(mine, saved, strict=True):
                value.copy_(kept)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the hooks that torch rebuilds."""
        names = [
            "optimizer",
            "skipped_steps",
            "grad_scaling",
            "weight_quant",
            "grad_quant",
            "momentum_quant",
            "acc_quant",
        ]
        return {name: self.__dict__[name] for name in (*names, "_accumulators", "_seen")}

    def __repr__(self) -> str:
        """The functions and the inner optimizer."""
        names = ["weight_quant", "grad_quant", "momentum_quant", "acc_quant"]
        given = [name for name in names if getattr(self, name) is not None]
        return f"OptimLP({', '.join(given)})\n{self.optimizer!r}"


def _call(function: Quantize | None, x: Tensor) -> Tensor:
    """What a function makes of a tensor, or the tensor where there is none."""
    return x if function is None else function(x.detach())


def _same_bits(x: Tensor, y: Tensor) -> bool:
    """Whether two floating-point tensors are the same; a NaN equals itself."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return torch.equal(x.view(integers), y.view(integers))
