"""Watching a forward and a backward: every operator, in which layer, on what.

What was rounded is followed, not assumed: a product's operand counts as rounded if its memory is what a
cast has written, or a copy of it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from lowprec.auditing.operators import (
    CAST,
    PRODUCT,
    UNKNOWN,
    arguments_of,
    cast_of,
    keeps_values,
    kind_of,
    name_of,
    readable,
)
from lowprec.auditing.products import PRODUCTS, Product, convolution_gradients
from lowprec.convert import WITHOUT_TWIN
from lowprec.nn.attention import OPENED
from lowprec.nn.layers import TWINS, Simulated
from lowprec.ops.products import arithmetic_of
from lowprec.quantizer import Quantizer

SIMULATED, CARRIER, OUT_OF_REACH = "simulated", "carrier precision", "out of reach"
FORWARD, BACKWARD, RECOMPUTATION = "forward", "backward", "recomputation"


class Place(NamedTuple):
    """A layer that may run: its name within the model, and its class."""

    layer: str
    type: type


LOSS = Place("(loss)", type(None))


class Call(NamedTuple):
    """What calls have in common that are counted together."""

    layer: str
    operation: str
    phase: str
    kind: str
    status: str
    how: str
    dtype: str


# In which order the backward of a product computes the gradients of its operands, and their numbers
# among the node's inputs.
_GRADIENTS = {
    "MmBackward0": (("right", 1), ("left", 0)),
    "BmmBackward0": (("right", 1), ("left", 0)),
    "AddmmBackward0": (("left", 1), ("right", 2)),
    "AddmmActivationBackward0": (("left", 1), ("right", 2)),
    "BaddbmmBackward0": (("left", 1), ("right", 2)),
    "_SplitProductBackward": (("left", 0), ("right", 1)),
}
_WIDE = ("float32", "float64", "complex64", "complex128")
"""Dtypes of results that are also those of the sums before."""
_ROLES = {"left": "input", "right": "weight"}


class Watch(TorchDispatchMode):
    """Counts every operator that runs while it is entered.

    Autograd numbers its nodes one after the other, so a node belongs to the layer that was running when
    its number was due.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave torch._dynamo, which takes seconds to import, alone: nothing compiled is audited."""
        return False

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[Call, list[int]] = defaultdict(lambda: [0, 0])
        """Calls, and multiply-adds or elements."""
        self._places = {id(m): Place(name or "(model)", type(m)) for name, m in model.named_modules()}
        self._owners = {
            id(p): self._places[id(m)] for m in model.modules() for p in m.parameters(recurse=False)
        }
        self._running = [LOSS]
        self._marks: list[tuple[int, Place]] = [(0, LOSS)]
        self._depths: dict[int, int] = {}
        self._thread = get_ident()
        self._casts: dict[int, str] = {}
        self._operands: set[int] = set()
        self._held: dict[int, StorageWeakRef] = {}
        """Memory that is freed keeps its number as long as someone refers to it, if only weakly."""
        self._gradients_done: dict[tuple[int, int], int] = defaultdict(int)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch operators and layers."""
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: torch.nn.Module, *_: Any) -> None:
        """A layer begins."""
        if (place := self._places.get(id(module))) is not None:
            self._running.append(place)
            self._mark(place)

    def _leave(self, module: torch.nn.Module, *_: Any) -> None:
        """A layer ends."""
        if id(module) in self._places:
            self._running.pop()
            self._mark(self._where()[0])

    def _mark(self, place: Place, back: int = 0) -> None:
        """From now on, autograd's nodes belong to a place; each thread numbers its own nodes."""
        if self._marks[-1][1] != place and get_ident() == self._thread:
            number: int = torch._C._autograd._get_sequence_nr()  # it has no public name
            self._marks.append((number - back, place))

    def _where(self) -> tuple[Place, str]:
        """The layer that is at work, and whether it works forward, backward or once more."""
        task = torch._C._current_graph_task_id()
        if task == -1:
            return self._running[-1], FORWARD
        depth = self._depths.setdefault(task, len(self._running))
        if len(self._running) > depth:
            return self._running[-1], RECOMPUTATION
        node = torch._C._current_autograd_node()
        if node is None:
            return self._running[-1], BACKWARD
        again = depth == 1 and torch.is_grad_enabled()  # a checkpointed function, not within a layer
        return self._place_of(node), RECOMPUTATION if again else BACKWARD

    def _place_of(self, node: Any) -> Place:
        """The layer that made a node of autograd."""
        if "AccumulateGrad" in node.name():
            return self._owners.get(id(node.variable), LOSS)
        number = bisect_right(self._marks, node._sequence_nr(), key=lambda mark: mark[0]) - 1
        return self._marks[number][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and count it."""
        name = name_of(func)
        if name not in PRODUCTS and hasattr(func, "decompose"):
            with self:  # what is made of others is seen as these, also under inference_mode
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        results = [r for r in torch.utils._pytree.tree_leaves(result) if isinstance(r, Tensor)]
        arguments = arguments_of(func, args, kwargs) if hasattr(func, "_schema") else {}
        place, phase = self._where()
        if phase == RECOMPUTATION:
            self._mark(place, back=1)
        if name == "convolution_backward":
            for target, product in convolution_gradients(arguments):
                self._count_product(product, place, phase, results, target)
        elif name in PRODUCTS:
            product = PRODUCTS[name](arguments)
            self._count_product(product, place, phase, results, *self._target(place, phase))
        elif name == "lowprec::product":
            self._count_summed(arguments, place, phase)
        elif (kind := kind_of(func, name, results)) is not None:
            self._count_other(name, kind, arguments, place, phase, results)
        self._follow(func, name, arguments, results)
        return result

    def _target(self, place: Place, phase: str) -> tuple[str, ...]:
        """Of which operand a backward product is the gradient; empty if that cannot be told."""
        node = torch._C._current_autograd_node() if phase == BACKWARD else None
        if node is None or node.name() not in _GRADIENTS:
            return ()
        wanted = [role for role, i in _GRADIENTS[node.name()] if node.next_functions[i][0] is not None]
        key = torch._C._current_graph_task_id(), node._sequence_nr()
        number = self._gradients_done[key]
        self._gradients_done[key] += 1
        if number >= len(wanted):
            return ()
        of_layer = _is_layer(place.type) and node.name() not in ("BmmBackward0", "BaddbmmBackward0")
        return (_ROLES[wanted[number]] if of_layer else wanted[number],)

    def _count_product(
        self, product: Product, place: Place, phase: str, results: list[Tensor], target: str = ""
    ) -> None:
        """Count a product, with what its operands were rounded to."""
        operands = product.operands
        if len(operands) == 2 and target and operands[0][0] == "left":
            operands = self._backward_operands(operands, target)
        elif _is_layer(place.type) and product.operation != "batched matrix product":  # which is attention
            operands = tuple((_ROLES.get(role, role), x) for role, x in operands)
        if phase != BACKWARD:
            for _, x in operands:
                self._operands.add(self._hold(x))
        casts = {role: self._casts.get(_memory(x)) for role, x in operands}
        dtype = _dtype(next((r for r in results if r.is_floating_point()), results[0]))
        if any(casts.values()):
            status = SIMULATED
            how = ", ".join(f"{role} {cast or 'not cast'}" for role, cast in casts.items())
            how += f"; sum {dtype}" if dtype in _WIDE else f"; sum rounded to {dtype}"
        else:
            status, how = _unsimulated(product, place)
        operation = product.operation + (f", gradient of {target}" if target else "")
        self._count(Call(place.layer, operation, phase, PRODUCT, status, how, dtype), product.multiply_adds)

    def _count_summed(self, arguments: dict[str, Any], place: Place, phase: str) -> None:
        """Count a product whose sum is simulated, too."""
        a, b, roles = arguments["a"], arguments["b"], arguments["roles"].split()
        operands = sorted(zip(roles, (a, b), strict=True), key=lambda pair: pair[0])  # input before weight
        casts = [f"{role} {self._casts.get(_memory(x)) or 'not cast'}" for role, x in operands]
        how = ", ".join(casts) + f"; sum {arithmetic_of(arguments['arithmetic']).describe()}"
        operation = "convolution" if issubclass(place.type, _ConvNd) else "matrix product"
        if issubclass(place.type, _ConvTransposeNd):
            operation = f"transposed {operation}"
        if "error" in roles:
            operation += f", gradient of {_gradient_of(roles)}"
        self._count(
            Call(place.layer, operation, phase, PRODUCT, SIMULATED, how, _dtype(a)), a.numel() * b.shape[-1]
        )

    def _backward_operands(
        self, operands: tuple[tuple[str, Tensor], ...], target: str
    ) -> tuple[tuple[str, Tensor], ...]:
        """The operands by role: one was an operand of the forward, the other is the error."""
        (_, first), (_, second) = operands
        if _memory(first) in self._operands and _memory(second) not in self._operands:
            first, second = second, first
        other = {"input": "weight", "weight": "input", "left": "right", "right": "left"}[target]
        return ("error", first), (other, second)

    def _count_other(
        self, name: str, kind: str, arguments: dict[str, Any], place: Place, phase: str, results: list[Tensor]
    ) -> None:
        """Count what is no product."""
        if issubclass(place.type, Quantizer) and kind != CAST:
            return  # what it takes to find scales and gradients
        floats = [r for r in results if r.is_floating_point()] or results
        dtype = _dtype(floats[0]) if floats else ""
        if kind == CAST:
            call = Call(place.layer, f"cast to {cast_of(arguments)}", phase, kind, "", "", dtype)
        elif kind == UNKNOWN:
            how = "an operator whose work is not known"
            call = Call(place.layer, name, phase, kind, OUT_OF_REACH, how, dtype)
        else:
            operation = f"to {dtype}" if kind == "conversion" else readable(name)
            call = Call(place.layer, operation, phase, kind, CARRIER, dtype, dtype)
        read = [a for a in arguments.values() if isinstance(a, Tensor)]
        self._count(call, max((t.numel() for t in [*read, *results]), default=0))

    def _count(self, call: Call, amount: int) -> None:
        """Add one call."""
        count = self.counts[call]
        count[0] += 1
        count[1] += amount

    def _follow(self, func: Any, name: str, arguments: dict[str, Any], results: list[Tensor]) -> None:
        """Remember which memory holds rounded numbers, and which held operands of forward products."""
        if name.startswith(("lowprec::quantize", "lowprec::decode")):
            written = [arguments["out"]] if "out" in arguments else results
            for tensor in written:
                self._write(tensor, cast_of(arguments))
            return
        read = [a for a in arguments.values() if isinstance(a, Tensor)]
        shared = {_memory(t) for t in read} if not _mutates(func) else set()
        source = arguments.get("src", read[0] if read else None)
        kept = self._casts.get(_memory(source)) if keeps_values(name) and source is not None else None
        for tensor in results:
            if _memory(tensor) not in shared:
                self._write(tensor, kept)

    def _write(self, tensor: Tensor, cast: str | None) -> None:
        """New numbers are in a tensor's memory."""
        self._operands.discard(_memory(tensor))
        self._casts.pop(_memory(tensor), None)
        if cast is not None:
            self._casts[self._hold(tensor)] = cast

    def _hold(self, tensor: Tensor) -> int:
        """What tells a tensor's memory from others, now for good."""
        memory = _memory(tensor)
        if memory not in self._held:
            self._held[memory] = StorageWeakRef(tensor.untyped_storage())
        return memory


def _memory(x: Tensor) -> int:
    """What tells a tensor's memory from others as long as it lives."""
    return x.untyped_storage()._cdata


def _mutates(func: Any) -> bool:
    """Whether an operator writes into an operand."""
    return bool(func._schema.is_mutable) if hasattr(func, "_schema") else True


def _dtype(x: Tensor) -> str:
    """The name of a dtype."""
    return str(x.dtype).removeprefix("torch.")


def _is_layer(kind: type) -> bool:
    """Whether a module is one of the layers with an input and a weight."""
    return issubclass(kind, (*TWINS, Simulated))


def _gradient_of(roles: list[str]) -> str:
    """Which operand's gradient an error and another operand make."""
    pairs = (("left", "right"), ("query", "key"), ("attention", "value"), ("input", "weight"))
    pair = next(pair for pair in pairs if {*pair} & {*roles})
    return next(role for role in pair if role not in roles)


def _unsimulated(product: Product, place: Place) -> tuple[str, str]:
    """Whether the package could simulate a product, and by what."""
    if not product.operands:
        if place.type in (*TWINS, *OPENED):
            return CARRIER, "lowprec.convert can simulate it"
        if product.operation == "fused attention":
            return OUT_OF_REACH, "lowprec.convert cannot reach a function's call, lowprec.simulate can"
        return OUT_OF_REACH, "nothing here simulates it"
    if issubclass(place.type, Simulated):
        return CARRIER, "its scheme casts none of the operands"
    if place.type in TWINS:
        return CARRIER, "lowprec.convert can simulate it"
    if issubclass(place.type, WITHOUT_TWIN):
        return OUT_OF_REACH, f"nothing here simulates {place.type.__name__}"
    functions = {
        "convolution": "conv",
        "transposed convolution": "conv_transpose",
        "batched matrix product": "matmul",
    }
    function = functions.get(product.operation, "linear")
    return CARRIER, f"lowprec.functional.{function} can simulate it"
