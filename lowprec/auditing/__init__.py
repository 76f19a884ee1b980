"""audit: which products and elementwise operations of a model are simulated, and which are not."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._pytree import tree_map

from lowprec.auditing.report import Audit as Audit
from lowprec.auditing.report import AuditRow as AuditRow
from lowprec.auditing.watching import Watch
from lowprec.errors import type_error, value_error
from lowprec.restoring import same_model, same_random_state


def audit(
    model: torch.nn.Module, *inputs: Any, loss: Callable[[Any], Tensor] | None = None, **kwargs: Any
) -> Audit:
    """Run one forward and one backward, and tell what was simulated and what was not.

    Every operator that torch runs is seen, in layers, in user code and in torch's fast paths, forward and
    backward. A product is **simulated** if a cast has rounded an operand of it or an arithmetic its sum,
    **in carrier precision** if nothing has, and **out of reach** if ``convert`` could not simulate it
    (recurrent layers; attention that a function computes, which only ``lowprec.simulate`` reaches). How its
    sum is rounded is told beside the casts. Weights that the optimizer keeps in a format count as rounded
    only where a product casts them again.

    Multiply-adds are counted from shapes, zeros of padding included. The model, its gradients and buffers,
    the inputs and the global random state are left as they were; hooks run. The values, NaN included, have
    no influence.

    Args:
        model: Any module, converted or not, in the mode (``train()`` or ``eval()``) to be audited.
        *inputs: For its forward. Tensors are copied, and need gradients as these do.
        loss: What backward starts from, a function of the output with one number as its result; None for
            the sum of all floating-point tensors in the output.
        **kwargs: For its forward.

    Returns:
        An Audit, which has rows for each layer and operation, shares of the multiply-adds, and tables.

    Raises:
        TypeError: If ``model`` is no module, ``loss`` no function or its result no tensor.
        ValueError: If the model is compiled, has parameters without shapes, or the loss has more than one
            element.

    Example:
        >>> import lowprec
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> model = lowprec.convert(model, lowprec.Scheme(input="e4m3fn", rules=[lowprec.Rule(":last")]))
        >>> print(audit(model, torch.ones(5, 4)).summary())
        210 multiply-adds: 57.1 % simulated, 42.9 % carrier precision, 0 % out of reach.
        Carrier precision: matrix product in 2 (42.9 %).
    """
    _check(model, loss)
    watch = Watch(model)
    copies: dict[int, Tensor] = {}
    inputs, kwargs = tree_map(lambda value: _copied(value, copies), (inputs, kwargs))
    with (
        same_model(model),
        same_random_state(),
        _without_parameter_hooks(model),
        _eager(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        with watch.watching():
            output = model(*inputs, **kwargs)
            total = None if loss is None else _checked(loss(output))
        if total is None:
            total = _sum(output)
        has_backward = total is not None and total.requires_grad
        if has_backward:
            with watch.watching():
                total.backward()  # type: ignore[union-attr]
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        torch.clear_autocast_cache()  # which holds casts of the audit's own graph
    rows = tuple(
        AuditRow(
            *call,
            calls=calls,
            multiply_adds=amount if call.kind == "product" else 0,
            elements=0 if call.kind == "product" else amount,
        )
        for call, (calls, amount) in watch.counts.items()
    )
    return Audit(rows, has_backward)


def _check(model: Any, loss: Any) -> None:
    """Refuse what cannot be audited."""
    if not isinstance(model, torch.nn.Module):
        raise type_error("model", "be a torch.nn.Module", type(model))
    if loss is not None and not callable(loss):
        raise type_error("loss", "be a function of the model's output", loss)
    for name, layer in model.named_modules():
        if hasattr(layer, "_orig_mod") or layer._compiled_call_impl is not None:
            remedy = "Audit the original module, before torch.compile."
            raise value_error("model", "not be compiled", name or type(layer).__name__, remedy)
        if isinstance(layer, torch.jit.ScriptModule):
            remedy = "Audit the original module."
            raise value_error("model", "not be a script of TorchScript", name or type(layer).__name__, remedy)
    for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(parameter, UninitializedParameter | UninitializedBuffer):
            raise value_error("model", "know the shapes of its parameters", name, "Call it once before.")


def _copied(value: Any, copies: dict[int, Tensor]) -> Any:
    """A copy of a tensor, the same one each time."""
    if not isinstance(value, Tensor):
        return value
    if id(value) not in copies:
        with torch.inference_mode(mode=False):
            copies[id(value)] = value.detach().clone().requires_grad_(value.requires_grad)
    return copies[id(value)]


def _checked(total: Any) -> Tensor:
    """A loss that backward can start from."""
    if not isinstance(total, Tensor):
        raise type_error("loss", "return a tensor", type(total))
    if total.numel() != 1:
        raise value_error("loss", "return one number", tuple(total.shape), "Take its sum or mean.")
    return total.reshape(())


def _sum(output: Any) -> Tensor | None:
    """The sum of all floating-point tensors that need gradients; None if there are none."""
    found = [t for t in _tensors(output) if t.requires_grad and t.is_floating_point()]
    return torch.stack([t.sum().to(found[0].dtype) for t in found]).sum() if found else None


def _tensors(output: Any) -> Iterator[Tensor]:
    """Every tensor in an output, also in mappings, sequences and dataclasses."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple | set | frozenset):
        for part in output:
            yield from _tensors(part)
    elif is_dataclass(output) and not isinstance(output, type):
        yield from _tensors([getattr(output, field.name) for field in fields(output)])


def _eager() -> AbstractContextManager[Any]:
    """Have compiled functions within a model run uncompiled, if there can be any."""
    if "torch._dynamo" not in sys.modules:  # which takes seconds to import
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _without_parameter_hooks(model: torch.nn.Module) -> Iterator[None]:
    """Have no optimizer step where one is called when a gradient is there."""
    found = [p._post_accumulate_grad_hooks for p in model.parameters()]
    hooked = [(hooks, dict(hooks)) for hooks in found if hooks]
    for hooks, _ in hooked:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, kept in hooked:
            hooks.update(kept)
