"""Attention: both of its products simulated; softmax, scaling, mask and dropout are the carrier's.

All four operands are activations, so each is rounded as the scheme's input, and both gradients of a product
are gradients of inputs, so ``grad_input`` says how its error is rounded and how its sums are. What a scheme
says of weights has no part in it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from lowprec.cast import Operands
from lowprec.errors import type_error, value_error
from lowprec.functional.arguments import autocast_dtype
from lowprec.functional.bilinear import Gradients, MatmulProduct
from lowprec.functional.plan import MATMUL_AXES, Axes, Plan, make_plan
from lowprec.functional.products import check_plan, simulate
from lowprec.ops.products import Sums
from lowprec.ops.quantize import seed_tensor
from lowprec.scheme import Scheme, scheme_of

_SCORES_AXES = Axes(-1, -1, -1, -2, -2, -2)
_VALUES_AXES = MATMUL_AXES
_WIDENED = (torch.bfloat16, torch.float16)
"""Carriers whose attention torch computes in float32."""
_SEEDS = (
    0, 0x5851F42D4C957F2D, 0x14057B7EF767814F, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85, 0x61C8864680B583EB,
    0x27BB2EE687B0B0FD,
)  # fmt: skip
"""What makes seeds of one seed; any different numbers do."""


class _AttentionProduct(MatmulProduct):
    """A product of matrices with the heads in dimension -3, some of which may share one of the right operand.

    Args:
        roles: What the operands are called.
        transposed: Whether the right operand is read transposed, (*, j, k).
        grouped: Whether several consecutive heads of the left operand read one of the right.
    """

    def __init__(self, roles: tuple[str, str], *, transposed: bool, grouped: bool) -> None:
        self.roles, self.second = roles, roles[1]
        self._transposed, self._grouped = transposed, grouped

    def _operands(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Both as MatmulProduct takes them."""
        right = weight.mT if self._transposed else weight
        if not self._grouped:
            return x, right
        return self._split(x, weight), right.unsqueeze(-3)

    def _split(self, x: Tensor, weight: Tensor) -> Tensor:
        """Heads as groups and heads in each."""
        return x.unflatten(-3, (weight.shape[-3], -1)) if self._grouped else x

    def _left(self, y: Tensor) -> Tensor:
        """Of groups and heads in each the heads again."""
        return y.flatten(-4, -3) if self._grouped else y

    def _right(self, y: Tensor) -> Tensor:
        """The gradient of the right operand, of its own shape."""
        y = y.squeeze(-3) if self._grouped else y
        return y.mT if self._transposed else y

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch.matmul."""
        return self._left(super().product(*self._operands(x, weight), bias))

    def differentiated(self, x: Tensor, weight: Tensor, error: Tensor, wanted: Sequence[bool]) -> Gradients:
        """Two products of matrices."""
        split = self._split(error, weight)
        own, other, _ = super().differentiated(*self._operands(x, weight), split, wanted)
        return None if own is None else self._left(own), None if other is None else self._right(other), None

    def simulated(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over the columns of x."""
        return self._left(super().simulated(*self._operands(x, weight), bias, sums, seed))

    def simulated_input(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over the columns of the result."""
        operands, split = self._operands(x, weight), self._split(error, weight)
        return self._left(super().simulated_input(*operands, split, sums, seed))

    def simulated_weight(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over the rows of the result."""
        operands, split = self._operands(x, weight), self._split(error, weight)
        return self._right(super().simulated_weight(*operands, split, sums, seed))


_SCORES = [_AttentionProduct(("query", "key"), transposed=True, grouped=g) for g in (False, True)]
_VALUES = [_AttentionProduct(("attention", "value"), transposed=False, grouped=g) for g in (False, True)]


class AttentionPlan(NamedTuple):
    """The plans of the two products."""

    scores: Plan
    values: Plan


@lru_cache(maxsize=1024)
def attention_plan(scheme: Scheme, *, training: bool) -> AttentionPlan:
    """The plans of a scheme."""
    own = scheme.grad_input
    backward = Operands(error=own.error, arithmetic=own.arithmetic) if own else None
    read = scheme.for_layer({"weight": scheme.input, "grad_input": backward, "grad_weight": backward})
    return AttentionPlan(
        make_plan(read, _SCORES_AXES, training=training), make_plan(read, _VALUES_AXES, training=training)
    )


def other_seed(seed: Tensor | None, number: int) -> Tensor | None:
    """The seed of one of several products in a call: the first has the call's own."""
    return seed if seed is None or number == 0 else torch.bitwise_xor(seed, _SEEDS[number])


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    scheme: Scheme | str,
    training: bool = True,
    seed: int | Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` with both products simulated.

    ``dropout(softmax(scale * query @ key.T + mask)) @ value``, where query and key, then the weights of the
    attention and value are rounded as the scheme's input, and results as its output; backward, errors
    likewise. Scaling, mask, softmax and dropout are float32 (float64 for that carrier). A query that may
    attend to nothing gives zeros; NaN propagates; infinities and overflow follow each operand's format, then
    the arithmetic.

    Args:
        query: Float32, bfloat16, float16 or float64, shape ``(*, H, L, E)`` or ``(*, L, E)``.
        key: The same dtype, shape ``(*, H, S, E)``.
        value: The same dtype, shape ``(*, H, S, V)``.
        attn_mask: Boolean, true where a query may attend to a key, or float32 or of the query's dtype, to be
            added to the scaled scores; broadcasts to ``(*, H, L, S)``.
        dropout_p: Probability that a weight is dropped, whatever ``training`` is; torch draws the noise.
        is_causal: Let query i attend to keys up to i only.
        scale: Factor of the scores; None for ``1 / sqrt(E)``.
        enable_gqa: Let consecutive heads of the query share one of key and value.
        scheme: A scheme or its name; its weight, rules and optimizer roles have no say here.
        training: Use the casts' training modes rather than their ``eval_rounding``.
        seed: Seed of all noise of this call but dropout's; None to draw one.

    Returns:
        The attended values, shape ``(*, H, L, V)``.

    Raises:
        TypeError: If an operand is no tensor, or dtypes differ or are no carrier.
        ValueError: If shapes do not fit, a mask is given beside ``is_causal``, a carrier cannot hold a
            format, or a seed is given where nothing is stochastic.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[0.3, 1.0]]])
        >>> scaled_dot_product_attention(x, x, x, scheme="fp8-hybrid")
        tensor([[[0.3125, 1.0000]]])
    """
    scheme = scheme_of(scheme)
    plans = [attention_plan(scheme, training=mode) for mode in (False, True)]
    if seed is not None and not any(part.is_stochastic for plan in plans for part in plan):
        raise value_error("seed", "be None where nothing in the scheme is stochastic", seed)
    plan = plans[training]
    check_operands(query, key, value, grouped=enable_gqa)
    drawn = seed_tensor(query, seed) if any(part.is_stochastic for part in plan) else None
    return attend(
        query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, plan=plan, seed=drawn
    )[0]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    plan: AttentionPlan,
    seed: Tensor | None,
    owner: int = 0,
    as_backend: bool = True,
) -> tuple[Tensor, Tensor]:
    """The attended values and the weights.

    Torch's backend differs from its layer where that gives the weights, too: the layer computes in narrow
    carriers, and has NaN where a query may attend to nothing.
    """
    dtype = query.dtype
    widens = as_backend and dtype in _WIDENED
    if not 0.0 <= dropout_p <= 1.0:
        raise value_error("dropout_p", "lie between 0 and 1", dropout_p)
    if widens:
        for part in plan:
            check_plan(part, dtype)
        query, key, value = query.float(), key.float(), value.float()
    factor = scale if scale is not None else 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else math.inf
    grouped = enable_gqa and query.shape[-3] != key.shape[-3]
    scores = simulate(query, key, None, _SCORES[grouped], plan.scores, seed, seed, owner) * factor
    mask = _mask(attn_mask, scores, dtype, is_causal=is_causal)
    scores = scores if mask is None else scores + mask
    weights = _softmax(scores) if as_backend else torch.softmax(scores, -1)
    if dropout_p > 0.0:
        weights = torch.nn.functional.dropout(weights, dropout_p)
    grouped = enable_gqa and query.shape[-3] != value.shape[-3]
    own = other_seed(seed, 1)
    weights = weights.to(value.dtype)  # under autocast the softmax is wider than the products
    y = simulate(weights, value, None, _VALUES[grouped], plan.values, own, own, owner)
    return (y.to(dtype), weights.to(dtype)) if widens else (y, weights)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax over keys: zeros, with zeros for gradients, where every score is minus infinity."""
    empty = (scores == -math.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)


def _mask(mask: Tensor | None, scores: Tensor, dtype: torch.dtype, *, is_causal: bool) -> Tensor | None:
    """What is added to the scores; None for nothing."""
    if is_causal:
        if mask is not None:
            remedy = "Leave one of them out."
            raise value_error("attn_mask", "be None beside is_causal", tuple(mask.shape), remedy)
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None or mask.dtype in (dtype, torch.float32):
        return mask
    if mask.dtype != torch.bool:
        raise type_error("attn_mask", f"be boolean, float32 or {dtype}", mask.dtype)
    zeros = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device)
    return zeros.masked_fill(~mask, -math.inf)


def check_operands(query: Tensor, key: Tensor, value: Tensor, *, grouped: bool) -> None:
    """Refuse what has no attention."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if not isinstance(x, Tensor):
            raise type_error(name, "be a tensor", type(x))
        if x.is_nested:
            raise type_error(name, "be no nested tensor", "a nested tensor", "Pad it and pass a mask.")
        if x.dim() < 2 + grouped:
            raise value_error(name, f"have {2 + grouped} dimensions or more", tuple(x.shape))
        if x.dtype != query.dtype and autocast_dtype(x) is None:
            raise type_error(name, f"have the dtype of the query, {query.dtype}", x.dtype)
        if grouped and query.shape[-3] % x.shape[-3]:
            must = f"have a number of heads that divides the query's, {query.shape[-3]}"
            raise value_error(name, must, tuple(x.shape))
    if key.shape[-1] != query.shape[-1]:
        raise value_error("key", f"have {query.shape[-1]} features, as the query has", tuple(key.shape))
    if value.shape[-2] != key.shape[-2]:
        raise value_error("value", f"have {key.shape[-2]} rows, as the key has", tuple(value.shape))
