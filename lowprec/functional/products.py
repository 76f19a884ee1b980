"""Products with quantized operands: the only place where a product is simulated.

Each operand is rounded for the product that reads it, the carrier's own product follows, or one in an
arithmetic, and the error is rounded before the two backward products. Where these read an operand
otherwise than the forward does (another format, or groups along another axis), ``_SplitProduct`` runs
them explicitly.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.functional import blocks
from lowprec.functional.arguments import autocast_dtype
from lowprec.functional.bilinear import Product
from lowprec.functional.plan import Arithmetics, Plan
from lowprec.ops.constant import constant
from lowprec.ops.gradients import quantize_ruled, run
from lowprec.ops.observation import observe, owning
from lowprec.ops.products import Sums, arithmetic_of, check_result
from lowprec.ops.quantize import CARRIER_DTYPES, Spec, check_carrier, check_tensor, seed_tensor

# The streams of one layer call; 0 and 1 are forward and backward of any quantization. A layer passes
# a weight seed of its own, since the weight keeps its noise when the layer is read twice.
_INPUT, _ERROR, _WEIGHT, _OUTPUT = range(4)
_GRAD_WEIGHT_ERROR, _GRAD_WEIGHT_INPUT, _GRAD_INPUT_WEIGHT = range(4, 7)

_AUTOCAST = (torch.bfloat16, torch.float16)
"""The dtypes that torch.autocast brings operands to."""


class _SplitProduct(torch.autograd.Function):
    """A product whose backward products read operands rounded for them alone."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        seed: Tensor | None,
        weight_seed: Tensor | None,
        product: Product,
        plan: Plan,
        owner: int,
    ) -> Tensor:
        """The forward product; x and weight are kept unrounded for the other two."""
        weight_seed = seed if weight_seed is None else weight_seed
        ctx.save_for_backward(x, weight, seed, weight_seed)
        ctx.product, ctx.plan, ctx.owner = product, plan, owner
        own = _cast(x, plan.input, seed, _INPUT, product.roles[0], owner)
        read = _cast(weight, plan.weight, weight_seed, _WEIGHT, product.roles[1], owner)
        if plan.blocks is not None and plan.blocks.forward is not None:
            return blocks.forward(product, (x, own), (weight, read), bias, plan, seed)
        return owning(owner, lambda: product.forward(own, read, bias, plan.arithmetics, seed))

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        """Each backward product with its own operands."""
        _check_once(
            "read other operands than its forward", "Leave out grad_input and grad_weight of the scheme."
        )
        (error,) = errors
        x, weight, seed, weight_seed = ctx.saved_tensors
        dtype = error.dtype  # under autocast not that of x and weight, though it holds their values
        plan, product, owner = ctx.plan, ctx.product, ctx.owner
        wanted_x, wanted_weight, wanted_bias = ctx.needs_input_grad[:3]
        gradients: list[Tensor | None] = [None, None, None]
        # An operand read the same way as before keeps its noise, which makes it the same operand.
        if wanted_x or wanted_bias:
            own = _cast(error, plan.grad_input_error, seed, _ERROR, "error", owner)
            stream = _WEIGHT if plan.grad_input_weight == plan.weight else _GRAD_INPUT_WEIGHT
            read = _cast(weight, plan.grad_input_weight, weight_seed, stream, product.roles[1], owner)
            in_blocks = plan.blocks is not None and plan.blocks.grad_input is not None
            wanted = [wanted_x and not in_blocks, False, wanted_bias]
            gradients[0], _, gradients[2] = owning(
                owner,
                lambda: product.gradients(x.to(dtype), read.to(dtype), own, wanted, plan.arithmetics, seed),
            )
            if wanted_x and in_blocks:
                factors = (error, own), (weight, read.to(dtype))
                gradients[0] = blocks.input_gradient(product, *factors, x.shape, plan, seed)
        if wanted_weight:
            stream = _ERROR if plan.grad_weight_error == plan.grad_input_error else _GRAD_WEIGHT_ERROR
            own = _cast(error, plan.grad_weight_error, seed, stream, "error", owner)
            stream = _INPUT if plan.grad_weight_input == plan.input else _GRAD_WEIGHT_INPUT
            read = _cast(x, plan.grad_weight_input, seed, stream, product.roles[0], owner)
            if plan.blocks is not None and plan.blocks.grad_weight is not None:
                factors = (error, own), (x, read.to(dtype))
                gradients[1] = blocks.weight_gradient(product, *factors, weight.shape, plan, seed)
            else:
                gradients[1] = owning(
                    owner,
                    lambda: product.gradients(
                        read.to(dtype), weight.to(dtype), own, [False, True, False], plan.arithmetics, seed
                    ),
                )[1]
        return (*gradients, None, None, None, None, None)


class RoundedProduct(torch.autograd.Function):
    """A product of rounded operands in an arithmetic, and its gradients in theirs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        seed: Tensor | None,
        product: Product,
        arithmetics: Arithmetics,
        owner: int,
    ) -> Tensor:
        """The forward product."""
        ctx.save_for_backward(x, weight, seed)
        ctx.product, ctx.arithmetics, ctx.owner = product, arithmetics, owner
        return owning(owner, lambda: product.forward(x, weight, bias, arithmetics, seed))

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        """The backward products."""
        _check_once("have an arithmetic", "Leave out the arithmetic of the scheme.")
        (error,) = errors
        x, weight, seed = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        dtype = error.dtype
        gradients = owning(
            ctx.owner,
            lambda: ctx.product.gradients(
                x.to(dtype), weight.to(dtype), error, wanted, ctx.arithmetics, seed
            ),
        )
        return (*gradients, None, None, None, None)


def _check_once(why: str, remedy: str) -> None:
    """Refuse a second derivative."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            f"`create_graph` must be False where the backward products of a scheme {why}: "
            f"such a product has no second derivative. {remedy}"
        )


def _cast(x: Tensor, spec: Spec | None, seed: Tensor | None, stream: int, role: str, owner: int) -> Tensor:
    """Round one operand, with the straight-through gradient."""
    if spec is None:
        return x
    y = run(x, seed, spec, stream)
    observe(role, owner, x, y, seed, spec, stream)
    return y


def _cast_clipped(
    x: Tensor,
    spec: Spec | None,
    seed: Tensor | None,
    stream: int,
    role: str,
    owner: int,
    clip: bool,
) -> Tensor:
    """Round one operand, without gradient where it overflows if ``clip``."""
    if spec is None or not clip:
        return _cast(x, spec, seed, stream, role, owner)
    y = quantize_ruled(x, seed, spec, None, clip_gradient=True, stream=stream)
    observe(role, owner, x, y, seed, spec, stream)
    return y


def simulate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    product: Product,
    plan: Plan,
    seed: Tensor | None = None,
    weight_seed: Tensor | None = None,
    owner: int = 0,
    reshape: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """One product under a plan: operands rounded, the error rounded, the output rounded.

    ``reshape`` is applied to the rounded input (padding, for one) where the plan is not split.
    """
    _check_operands(x, weight, bias, plan, product.second)
    if plan.is_stochastic and seed is None:
        seed = seed_tensor(x)
    weight_seed = seed if weight_seed is None else weight_seed
    clip_input, clip_weight, clip_output = plan.clips
    if plan.split:
        if clip_input or clip_weight:
            raise value_error(
                "clip_gradient",
                "be False where the backward products read other operands, or sums are made in blocks",
                True,
            )
        y: Tensor = _SplitProduct.apply(
            x if reshape is None else reshape(x),
            weight,
            bias,
            seed,
            None if weight_seed is seed else weight_seed,  # no tensor twice, which torch.compile refuses
            product,
            plan,
            owner,
        )
    else:
        own = _cast_clipped(x, plan.input, seed, _INPUT, product.roles[0], owner, clip_input)
        read = _cast_clipped(weight, plan.weight, weight_seed, _WEIGHT, product.roles[1], owner, clip_weight)
        own = own if reshape is None else reshape(own)
        if plan.arithmetics is None:
            y = product.in_carrier(own, read, bias)
        else:
            y = RoundedProduct.apply(own, read, bias, seed, product, plan.arithmetics, owner)
        if plan.grad_input_error is not None:
            y = quantize_ruled(y, seed, None, plan.grad_input_error, owner=owner)
    return _cast_clipped(y, plan.output, seed, _OUTPUT, "output", owner, clip_output)


def _check_operands(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, second: str) -> None:
    """Refuse operands of different dtypes, and carriers or an autocast dtype that are too narrow."""
    check_tensor(x, "input")
    autocast = autocast_dtype(x)
    for name, operand in ((second, weight), ("bias", bias)):
        if operand is None:
            continue
        if not isinstance(operand, Tensor):
            raise type_error(name, "be a tensor or None", type(operand))
        if autocast is None or torch.float64 in (x.dtype, operand.dtype):  # which autocast leaves alone
            if operand.dtype != x.dtype:
                raise type_error(name, f"have the dtype of the input, {x.dtype}", operand.dtype)
        elif operand.dtype not in CARRIER_DTYPES:
            raise value_error("dtype", "be a carrier under torch.autocast", operand.dtype)
        check_tensor(operand, name)
    for fields in _fields(plan):
        _check_carrier(fields, x.dtype)
        if weight.dtype != x.dtype:
            _check_carrier(fields, weight.dtype)
        if autocast is not None and x.dtype != torch.float64:
            _check_autocast(fields, autocast)


_Fields = tuple[str, str, int] | tuple[str, bool]
"""Those of a Spec, or of Sums."""


def _fields(plan: Plan) -> list[_Fields]:
    """What a carrier must hold: a compiled function knows fields, and not always what has them."""
    found: list[_Fields] = []
    for held in (*plan, *(plan.arithmetics or ())):
        if isinstance(held, Spec):
            found.append((held.format, held.rounding, held.random_bits))
        elif isinstance(held, Sums):
            found.append((held.unmoved or held.key, held.is_stochastic))
    return found


def check_plan(plan: Plan, dtype: torch.dtype) -> None:
    """Refuse a carrier that is too narrow for a plan."""
    for fields in _fields(plan):
        _check_carrier(fields, dtype)


@constant
def _check_carrier(fields: _Fields, dtype: torch.dtype) -> None:
    """Refuse a carrier that does not hold what a cast or a last sum gives."""
    if len(fields) == len(Spec._fields):
        check_carrier(Spec(*fields), dtype)
    else:
        check_result(Sums(*fields), dtype)


@constant
def _check_autocast(fields: _Fields, dtype: torch.dtype) -> None:
    """Refuse an autocast dtype that does not, in a message that names both."""
    if _holds(fields, dtype):
        return
    name = fields[0] if len(fields) == len(Spec._fields) else str(arithmetic_of(fields[0]).final)
    others = [f"dtype={other}" for other in _AUTOCAST if _holds(fields, other)]
    remedy = "Leave the product out: with torch.autocast(device_type, enabled=False)."
    if others:
        remedy = f"Pass {others[0]} to torch.autocast, or leave the product out, with enabled=False."
    raise value_error("dtype", f"hold the format {name} of the scheme under torch.autocast", dtype, remedy)


def _holds(fields: _Fields, dtype: torch.dtype) -> bool:
    """Whether a carrier holds a format, and can follow its rounding."""
    try:
        _check_carrier(fields, dtype)
    except ValueError:
        return False
    return True
