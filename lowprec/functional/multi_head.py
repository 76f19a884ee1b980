"""Attention with several heads between projections, as torch.nn.functional has it.

The steps are torch's, in torch's order: one product for what is projected together, masks that are added,
and attention that differs in small ways where its weights are wanted.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from lowprec.errors import type_error, value_error
from lowprec.functional.attention import AttentionPlan, attend, attention_plan, other_seed
from lowprec.functional.layers import planned_linear
from lowprec.functional.plan import LINEAR_AXES, Plan, make_plan
from lowprec.ops.quantize import seed_tensor
from lowprec.scheme import Scheme

ATTENTION, OUT = 3, 4
"""Numbers of products in a call, after those of projections."""


class Project(Protocol):
    """The linear products of a call, which are numbered."""

    def __call__(self, x: Tensor, weight: Any, bias: Tensor | None, number: int, /) -> Tensor:
        """One of them."""


class Attend(Protocol):
    """The attention of a call, of heads (N, H, L, E), with what is added to the scores."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, /, *, is_causal: bool, as_backend: bool
    ) -> tuple[Tensor, Tensor]:
        """The attended values and the weights."""


class Products(NamedTuple):
    """What computes the products of a call."""

    project: Project
    attend: Attend
    out: Callable[[Tensor], Tensor]
    """The last projection."""


class Inside(NamedTuple):
    """What a layer holds besides the last projection, by torch's names."""

    num_heads: int
    in_proj_weight: Tensor | None
    in_proj_bias: Tensor | None
    bias_k: Tensor | None
    bias_v: Tensor | None
    add_zero_attn: bool
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None


class Asked(NamedTuple):
    """What a call asks for, by torch's names."""

    key_padding_mask: Tensor | None
    need_weights: bool
    attn_mask: Tensor | None
    average_attn_weights: bool
    is_causal: bool


def multi_head(
    query: Tensor, key: Tensor, value: Tensor, inside: Inside, asked: Asked, products: Products
) -> tuple[Tensor, Tensor | None]:
    """The output and, if asked for, the weights; sequences come first, then the batch, if there is one."""
    _check(query, key, value, inside, asked)
    is_batched, padding = query.dim() == 3, asked.key_padding_mask
    if not is_batched:
        query, key, value = same_where_same(lambda x: x.unsqueeze(1), query, key, value)
        padding = None if padding is None else padding.unsqueeze(0)
    (length, batch, embedded), heads = query.shape, inside.num_heads
    padding, mask, is_causal = _masks(padding, asked, query.dtype)
    q, k, v = _projected(query, key, value, inside, products.project)
    if inside.bias_k is not None and inside.bias_v is not None:
        k = torch.cat([k, inside.bias_k.repeat(1, batch, 1)])
        v = torch.cat([v, inside.bias_v.repeat(1, batch, 1)])
        mask, padding = _longer(mask), _longer(padding)
    if inside.add_zero_attn:
        k, v = (torch.cat([x, x.new_zeros(1, batch, embedded)]) for x in (k, v))
        mask, padding = _longer(mask), _longer(padding)
    if mask is not None and mask.dim() == 3:
        mask = mask.view(batch, heads, *mask.shape[1:])
    if padding is not None:
        padding = padding.view(batch, 1, 1, k.shape[0])
        mask = padding if mask is None else mask + padding
    size = embedded // heads
    q, k, v = (x.reshape(x.shape[0], batch * heads, size).transpose(0, 1) for x in (q, k, v))
    q, k, v = (x.view(batch, heads, x.shape[1], size) for x in (q, k, v))
    y, weights = products.attend(q, k, v, mask, is_causal=is_causal, as_backend=not asked.need_weights)
    y = products.out(y.permute(2, 0, 1, 3).reshape(length * batch, embedded))
    y = y.view(length, batch, y.shape[1])
    y = y if is_batched else y.squeeze(1)
    if not asked.need_weights:
        return y, None
    weights = weights.mean(1) if asked.average_attn_weights else weights
    return y, weights if is_batched else weights.squeeze(0)


def same_where_same(
    change: Callable[[Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """All three changed; what was one tensor is one again, which decides what is projected together."""
    own = change(query)
    read = own if key is query else change(key)
    return own, read, own if value is query else read if value is key else change(value)


def _longer(mask: Tensor | None) -> Tensor | None:
    """A mask for one key more, which any query may attend to."""
    return None if mask is None else pad(mask, (0, 1))


def _masks(
    padding: Tensor | None, asked: Asked, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None, bool]:
    """Both masks as what is added, and whether attention is to make a causal one by itself."""
    if asked.is_causal and padding is None and not asked.need_weights:
        return None, None, True
    return (
        _added(padding, dtype, "key_padding_mask"),
        _added(asked.attn_mask, dtype, "attn_mask"),
        False,
    )


def _added(mask: Tensor | None, dtype: torch.dtype, name: str) -> Tensor | None:
    """Minus infinity where a boolean mask is true."""
    if mask is None or mask.is_floating_point():
        return mask
    if mask.dtype != torch.bool:
        raise type_error(name, "be boolean or floating-point", mask.dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)


def _projected(
    query: Tensor, key: Tensor, value: Tensor, inside: Inside, project: Project
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value in the space of the heads; equal ones by one product, where weights are packed."""
    bias, packed, embedded = inside.in_proj_bias, inside.in_proj_weight, query.shape[-1]
    if packed is not None and key is value:
        parts = [slice(None)] if query is key else [slice(embedded), slice(embedded, None)]
        inputs = [query] if query is key else [query, key]
        y = [
            project(x, packed[part], None if bias is None else bias[part], number)
            for number, (x, part) in enumerate(zip(inputs, parts, strict=True))
        ]
        q, k, v = (third for product in y for third in product.split(embedded, -1))
        return q, k, v
    weights = (inside.q_proj_weight, inside.k_proj_weight, inside.v_proj_weight)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    given = zip((query, key, value), weights if packed is None else packed.chunk(3), biases, strict=True)
    q, k, v = (project(x, weight, b, number) for number, (x, weight, b) in enumerate(given))
    return q, k, v


def _check(query: Tensor, key: Tensor, value: Tensor, inside: Inside, asked: Asked) -> None:
    """Refuse shapes that do not fit."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.is_nested:
            raise type_error(name, "be padded", "a nested tensor", "Pad it and pass key_padding_mask.")
        if x.dim() not in (2, 3):
            raise value_error(name, "have two dimensions, or three with a batch", tuple(x.shape))
        if x.dim() != query.dim() or x.shape[1:-1] != query.shape[1:-1]:
            raise value_error(
                name, f"have the batch of the query, {tuple(query.shape[1:-1])}", tuple(x.shape)
            )
    if key.shape[0] != value.shape[0]:
        raise value_error("value", f"have {key.shape[0]} rows, as many as the key", tuple(value.shape))
    if query.shape[-1] % inside.num_heads:
        raise value_error("query", f"have features for {inside.num_heads} heads", tuple(query.shape))
    batch, sizes = tuple(query.shape[1:-1]), (query.shape[0], key.shape[0])
    padding, mask = asked.key_padding_mask, asked.attn_mask
    if padding is not None and tuple(padding.shape) != (*batch, sizes[1]):
        raise value_error("key_padding_mask", f"have the shape {(*batch, sizes[1])}", tuple(padding.shape))
    shapes = (sizes, (math.prod(batch) * inside.num_heads, *sizes))
    if mask is not None and tuple(mask.shape) not in shapes:
        raise value_error("attn_mask", f"have the shape {shapes[0]} or {shapes[1]}", tuple(mask.shape))
    if asked.is_causal and mask is None:
        remedy = "Pass torch.nn.Transformer.generate_square_subsequent_mask(length)."
        raise value_error("attn_mask", "be the causal mask where is_causal is set", mask, remedy)


def planned_projection(
    plan: Plan, seed: Tensor | None, weight_seed: Tensor | None, owner: int = 0
) -> Project:
    """The linear products of a call under a plan, each with noise of its own."""

    def project(x: Tensor, weight: Tensor, bias: Tensor | None, number: int) -> Tensor:
        """One of them."""
        seeds = other_seed(seed, number), other_seed(weight_seed, number)
        return planned_linear(x, weight, bias, plan, *seeds, owner)

    return project


def planned_attention(plan: AttentionPlan, seed: Tensor | None, dropout_p: float, owner: int = 0) -> Attend:
    """The attention of a call under a plan."""

    def attended(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, is_causal: bool, as_backend: bool
    ) -> tuple[Tensor, Tensor]:
        """With noise of its own."""
        return attend(
            q, k, v, mask, dropout_p, is_causal,
            plan=plan, seed=other_seed(seed, ATTENTION), owner=owner, as_backend=as_backend,
        )  # fmt: skip

    return attended


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    scheme: Scheme,
    casts_train: bool,
) -> tuple[Tensor, Tensor | None]:
    """torch.nn.functional's, with a scheme; ``training`` is for dropout, ``casts_train`` for casts."""
    if static_k is not None or static_v is not None:
        remedy = "Call scaled_dot_product_attention with them."
        raise value_error("static_k", "be None, and static_v likewise", "a tensor", remedy)
    if query.shape[-1] != embed_dim_to_check:
        raise value_error("query", f"have {embed_dim_to_check} features", tuple(query.shape))
    plan = make_plan(scheme, LINEAR_AXES, training=casts_train)
    seed = seed_tensor(query) if plan.is_stochastic else None
    project = planned_projection(plan, seed, seed)
    products = Products(
        project,
        planned_attention(attention_plan(scheme, training=casts_train), seed, dropout_p if training else 0.0),
        lambda x: project(x, out_proj_weight, out_proj_bias, OUT),
    )
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else (None,) * 3
    packed = None if use_separate_proj_weight else in_proj_weight
    inside = Inside(num_heads, packed, in_proj_bias, bias_k, bias_v, add_zero_attn, *separate)
    asked = Asked(key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
    return multi_head(query, key, value, inside, asked, products)
