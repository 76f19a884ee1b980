"""simulate: a block in which torch's own products, in any code, are simulated."""

import sys
from collections.abc import Callable
from functools import cache, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from threading import local
from types import FrameType
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._pytree import tree_leaves

from lowprec.errors import type_error, value_error
from lowprec.scheme import Scheme, scheme_of
from lowprec.simulating.functions import IN_PLACE, SIMULATED, UNREACHED, WEIGHTED, Options, name_of

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_UNREACHED = ("error", "carrier")


class _Active(local):
    """The blocks that are open in a thread, the innermost last."""

    def __init__(self) -> None:
        self.blocks: list[Simulation] = []


_active = _Active()


def simulate(scheme: Scheme | str, *, training: bool = True, unreached: str = "error") -> "Simulation":
    """Simulate the products that torch computes in a block, in user code and in modules as torch has them.

    Reached are ``torch.nn.functional.linear``, the convolutions, transposed ones, too,
    ``scaled_dot_product_attention`` and ``multi_head_attention_forward``, and ``torch.matmul``, ``@``,
    ``mm``, ``bmm``, ``mv``, ``dot``, ``addmm``, ``addmv``, ``baddbmm``, ``addbmm``, and ``einsum`` of two
    operands. Each ends in ``lowprec.functional``: weights of linear products and convolutions are rounded as
    the scheme's weight, so is the second operand of products of matrices, and in attention none is. What
    ``addmm`` and its like add is added by the carrier, unless it is a bias: a vector that ``addmm`` adds
    unscaled. Torch's fused inference of attention and encoder layers is not used in the block.

    Backward products follow the scheme wherever ``backward`` is called; what the backward of a
    ``torch.autograd.Function`` of one's own multiplies is not reached. Noise comes from torch's generator,
    so that ``torch.manual_seed`` fixes it; a weight that is read twice is rounded twice. Layers of
    ``lowprec.nn`` and functions of ``lowprec.functional`` keep schemes of their own. Products of integers are
    left alone. The inner of two blocks wins. A block concerns the thread that opens it; in a generator, it
    is open for the caller, too, until the generator leaves it.

    Args:
        scheme: A scheme or its name; its optimizer roles have no say here, and rules, which name layers, are
            refused.
        training: Use the casts' training modes rather than their ``eval_rounding``.
        unreached: What to do with a product that cannot be simulated (recurrent layers, ``cdist``,
            ``bilinear`` and others, and what writes into ``out`` or in place): ``"error"``, or ``"carrier"``
            to have torch compute it.

    Returns:
        A context manager, which is a decorator of functions, too.

    Raises:
        TypeError: If a decorated function is a generator or a coroutine.
        ValueError: If the scheme has rules, ``unreached`` is neither word, or, within the block, a product is
            not reached.
        RuntimeError: Within the block, if a part of it is checkpointed, to be computed again in backward.

    Example:
        >>> layer, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[0.3]])
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> with simulate("fp8-hybrid"):
        ...     layer(x).item(), (x @ x).item()
        (0.3125, 0.09765625)
    """
    return Simulation(scheme, training=training, unreached=unreached)


class Simulation(TorchFunctionMode):
    """What ``simulate`` returns: a block, or a decorator of functions that are such blocks."""

    def __init__(self, scheme: Scheme | str, *, training: bool = True, unreached: str = "error") -> None:
        scheme = scheme_of(scheme)
        if scheme.rules:
            remedy = "Convert the model with lowprec.convert, or leave the rules out."
            raise value_error("scheme", "have no rules, which functions cannot follow", scheme.rules, remedy)
        if unreached not in _UNREACHED:
            raise value_error("unreached", f"be one of {', '.join(_UNREACHED)}", unreached)
        self.scheme, self.training, self.unreached = scheme, training, unreached
        self._options: Options = {"scheme": scheme, "training": training}

    def __enter__(self) -> Self:
        """Open the block."""
        compiles = "torch._dynamo" in sys.modules  # else nothing is compiled, and loading it takes seconds
        self._run = _uncompiled() if compiles else _simulated
        _active.blocks.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *_: object) -> None:
        """Close the block, also where another one was opened later and is open still, as by a generator."""
        last = len(_active.blocks) - 1 - _active.blocks[::-1].index(self)
        del _active.blocks[last]
        above = []
        while _get_current_function_mode_stack()[-1] is not self:
            above.append(_pop_mode())
        super().__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for mode in reversed(above):
            _push_mode(mode)

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """The function, whose calls are blocks."""
        if isgeneratorfunction(function) or iscoroutinefunction(function) or isasyncgenfunction(function):
            remedy = "Open the block inside of it."
            raise type_error("function", "be no generator and no coroutine", function, remedy)

        @wraps(function)
        def simulated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with self:
                return function(*args, **kwargs)

        return simulated

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Simulate a product, or have torch do what is none."""
        kwargs = kwargs or {}
        if not _active.blocks or _active.blocks[-1] is not self:
            return func(*args, **kwargs)
        name = name_of(func)
        is_ours = name in SIMULATED
        if not (is_ours or name in UNREACHED or name in IN_PLACE) or not _has_floats(args, kwargs):
            return func(*args, **kwargs)
        why = _why_unreached(name, args, kwargs)
        if why is None and name not in SIMULATED:
            return func(*args, **kwargs)
        if why is not None:
            if self.unreached == "carrier":
                return func(*args, **kwargs)
            remedy = f"{why} Pass unreached='carrier' to let torch compute it as it is."
            raise value_error(name, "be left out where products are simulated", "a call", remedy)
        return self._run(self._options, name, args, kwargs)


def _simulated(options: Options, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A product."""
    _check_computed_once()
    return SIMULATED[name](options, *args, **kwargs)


@cache
def _uncompiled() -> Callable[..., Any]:
    """The same, also within a function that torch compiles, whose graph breaks there."""
    reason = (
        "`simulate` must not be around a function that torch.compile makes one graph of. Call the original "
        "function, or lowprec.convert the model before torch.compile."
    )
    return torch.compiler.disable(_simulated, reason=reason)


def _has_floats(args: Any, kwargs: Any) -> bool:
    """Whether a call has operands that are no integers."""
    return any(isinstance(x, Tensor) and not _is_integer(x) for x in tree_leaves((args, kwargs)))


def _is_integer(x: Tensor) -> bool:
    """Whether a tensor holds integers or booleans."""
    return not (x.is_floating_point() or x.is_complex())


def _why_unreached(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What to do instead of a call that cannot be simulated; None if it can, or multiplies nothing."""
    leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if name in IN_PLACE:
        return f"Use {name.removesuffix('_')} and assign its result."
    if name in WEIGHTED and sum(x.is_floating_point() for x in leaves) < 2:
        return None
    if name in UNREACHED:
        return UNREACHED[name]
    if kwargs.get("out") is not None:
        return "Leave out= and assign the result."
    if any(x.layout != torch.strided for x in leaves):
        return "Call to_dense() on sparse operands."
    operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
    if name == "einsum" and len(operands) > 2:
        return "Write an equation of two operands at a time."
    return None


def _check_computed_once() -> None:
    """Refuse what torch.utils.checkpoint will compute again in a backward, where no block is open."""
    if (module := sys.modules.get("torch.utils.checkpoint")) is None:
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == module.__file__ and (
            torch.is_grad_enabled() or code.co_qualname == "CheckpointFunction.forward"
        ):
            raise RuntimeError(
                "`simulate` must not be around what torch.utils.checkpoint computes again in backward, which "
                "the block does not reach. Use lowprec.convert, or leave the checkpoint out."
            )
        frame = frame.f_back
