"""Wrapper: a torch optimizer around another one, whose groups, state and defaults it shows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error


class Wrapper(torch.optim.Optimizer, ABC):
    """An optimizer without groups and state of its own, as torch's loops, schedulers and scalers expect it.

    A subclass says what a step is, and what is saved.
    """

    _step_supports_amp_scaling = True  # a GradScaler then calls step also where it is to be skipped

    skipped_steps: int
    """How many steps a GradScaler has skipped because of an infinity or a NaN."""

    def __init__(self, optimizer: torch.optim.Optimizer, name: str = "optimizer") -> None:
        """Refuse what cannot be wrapped; ``name`` is the argument's."""
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise type_error(name, "be a torch optimizer", type(optimizer))
        if isinstance(optimizer, torch.optim.LBFGS | Wrapper):
            must, remedy = "step once on each gradient, and not be wrapped yet", "Wrap an SGD or an AdamW."
            raise type_error(name, must, type(optimizer), remedy)
        if isinstance(optimizer, torch.optim.SparseAdam):
            remedy = "Use a layer without sparse gradients."
            raise type_error(name, "take dense gradients", type(optimizer), remedy)
        for group in optimizer.param_groups:
            check_group(name, group)
        self.optimizer = optimizer
        self.skipped_steps = 0
        super().__setstate__({})  # hooks and the profiled step, without groups of our own

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's parameter groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        """Schedulers and the base class may assign."""
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The inner optimizer's state."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        """The base class may assign."""
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimizer's defaults."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        """The base class may assign."""
        self.optimizer.defaults = defaults

    def numbered_parameters(self, first: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Every parameter from a number on; numbers count through all groups."""
        number = 0
        for group in self.param_groups:
            for p in group["params"]:
                if number >= first:
                    yield number, p
                number += 1

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT002  # as torch has it
        """Clear all gradients."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's state_dict and our own entries.

        Returns:
            Tensors and plain values only, so that it loads under ``weights_only=True``. Saving,
            loading and stepping gives the same bits as stepping.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self._saved()
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state; the weights themselves are the model's to load.

        Raises:
            ValueError: If it is not from such an optimizer with the same formats, groups and scale.
        """
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state)
            state = state if changed is None else changed
        self._load(state)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    @abstractmethod
    def _saved(self) -> dict[str, Any]:
        """What state_dict returns."""

    @abstractmethod
    def _load(self, state_dict: dict[str, Any]) -> None:
        """Take up what _saved has returned."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Reevaluates the model and returns the loss; called once, with gradients recorded.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: If a gradient is sparse; nothing has changed then.
            ValueError: If a cast names a state that the optimizer has not, once all parameters have
                stepped; or if a GradScaler steps with a closure.
        """
        loss, found = None, getattr(self, "found_inf", None)  # which a GradScaler sets for the call
        if closure is not None:
            if found is not None:
                raise value_error("closure", "be None under a GradScaler", closure)
            with torch.enable_grad():
                loss = closure()
        if found is not None and bool(found):
            self.skipped_steps += 1
            return loss
        touched = [(number, p) for number, p in self.numbered_parameters() if p.grad is not None]
        self._check_gradients(touched)
        with torch.no_grad():
            _separate_gradients(touched)
            self._update(touched)
        return loss

    def _check_gradients(self, touched: list[tuple[int, Tensor]]) -> None:
        """Refuse sparse gradients."""
        for _, p in touched:
            if p.grad is not None and p.grad.layout != torch.strided:
                raise type_error("grad", "be dense", p.grad.layout, "Use a layer without sparse gradients.")

    @abstractmethod
    def _update(self, touched: list[tuple[int, Tensor]]) -> None:
        """One step of the numbered parameters that have a gradient."""

    def _unscale(self, grad: Tensor) -> None:
        """Take a GradScaler's scale from a gradient with the bits of its own ``unscale_``."""
        if (scale := getattr(self, "grad_scale", None)) is not None:  # none after unscale_
            grad.mul_(scale.double().reciprocal().float().to(grad.device))


def check_group(name: str, group: Any) -> None:
    """Refuse a group through whose steps gradients are to flow."""
    if isinstance(group, Mapping) and group.get("differentiable"):
        raise value_error(name, "not be differentiable", True, "Roundings have no derivative.")


def _separate_gradients(touched: list[tuple[int, Tensor]]) -> None:
    """Give gradients memory of their own that can be written to, where they have none."""
    known: set[int] = set()
    for _, p in touched:
        grad = p.grad
        if grad is None or grad.layout != torch.strided:
            continue
        repeated = any(step == 0 and size > 1 for step, size in zip(grad.stride(), grad.shape, strict=True))
        if grad.is_neg() or repeated or (grad.data_ptr() in known and grad.numel() > 0):
            p.grad = grad.resolve_neg().clone(memory_format=torch.contiguous_format)
        known.add(grad.data_ptr())
