"""MultiheadAttention, and what keeps torch's fused inference of transformers from passing it by."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lowprec.functional.attention import AttentionPlan, attention_plan
from lowprec.functional.multi_head import (
    Asked,
    Inside,
    Products,
    multi_head,
    planned_attention,
    planned_projection,
    same_where_same,
)
from lowprec.functional.plan import LINEAR_AXES
from lowprec.nn.layers import TWINS, Linear, Simulated, become_twin
from lowprec.ops.observation import owner_of
from lowprec.scheme import Scheme


class OutProjection(Linear, NonDynamicallyQuantizableLinear):
    """The last projection of MultiheadAttention, a layer of its own."""


class MultiheadAttention(Simulated, torch.nn.MultiheadAttention):
    """``torch.nn.MultiheadAttention`` with its projections and both products of attention simulated.

    Projections are as ``Linear``, attention as ``lowprec.functional.scaled_dot_product_attention``: a query
    that may attend to nothing gives zeros or, where the weights are asked for, NaN, as in torch's layer. What
    torch computes by one product, such as all projections of a query that is key and value, too, is one here.
    The fused inference of torch is never used, and nested tensors are refused. ``out_proj`` is a layer of its
    own, which is called, so that its hooks run, and which may be left out by its name.

    Args:
        *args: As torch.nn.MultiheadAttention.
        scheme: A scheme or its name.
        **kwargs: As torch.nn.MultiheadAttention.

    Example:
        >>> layer = MultiheadAttention(8, 2, scheme="bfp8")
        >>> x = torch.ones(5, 3, 8)
        >>> [y.shape for y in layer(x, x, x)]
        [torch.Size([5, 3, 8]), torch.Size([3, 5, 5])]
    """

    _axes = LINEAR_AXES
    _attention_plans: tuple[AttentionPlan, AttentionPlan]

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)
        self.out_proj.__class__ = OutProjection
        self.out_proj.adopt(scheme)  # type: ignore[operator]

    @classmethod
    def from_torch(cls, layer: torch.nn.Module, scheme: Scheme | str) -> Self:
        """As every layer's, with an ``out_proj`` that is simulated, too."""
        made = super().from_torch(layer, scheme)
        made.out_proj = OutProjection.from_torch(made.out_proj, scheme)
        return made

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        """Refuse a scheme that there is no plan for, of the projections or of attention."""
        super().check(scheme)
        for training in (False, True):
            attention_plan(scheme, training=training)

    def adopt(self, scheme: Scheme | str) -> None:
        """Take up a scheme."""
        super().adopt(scheme)
        self._attention_plans = (
            attention_plan(self.scheme, training=False),
            attention_plan(self.scheme, training=True),
        )

    def disown(self) -> None:
        """Remove what adopt added."""
        super().disown()
        del self._attention_plans

    @property
    def shared_weight(self) -> Tensor | None:
        """Of the parameters, the one whose other readers have the same noise."""
        return self.q_proj_weight if self.in_proj_weight is None else self.in_proj_weight

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """What torch's TransformerEncoderLayer asks before it passes its parts by."""
        return "scheme" not in self.__dict__ and self.__dict__["_qkv_same_embed_dim"]

    @_qkv_same_embed_dim.setter
    def _qkv_same_embed_dim(self, value: bool) -> None:
        """Keep torch's own answer, for the day on which the layer is torch's again."""
        self.__dict__["_qkv_same_embed_dim"] = value

    def _reset_parameters(self) -> None:
        """As torch's, to its own answer."""
        scheme = self.__dict__.pop("scheme", None)
        super()._reset_parameters()
        if scheme is not None:
            self.scheme = scheme

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,  # noqa: FBT002  # as torch's
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: FBT002  # as torch's
        is_causal: bool = False,  # noqa: FBT002  # as torch's
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights where they are asked for."""
        swapped = self.batch_first and query.dim() == 3 and not query.is_nested
        if swapped:
            query, key, value = same_where_same(lambda x: x.transpose(1, 0), query, key, value)
        plan, owner = self._plans[self.training], owner_of(self)
        seed, weight_seed = self._seeds(query, plan)
        products = Products(
            planned_projection(plan, seed, weight_seed, owner),
            planned_attention(
                self._attention_plans[self.training], seed, self.dropout if self.training else 0.0, owner
            ),
            self.out_proj,
        )
        inside = Inside(
            self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight,
        )  # fmt: skip
        asked = Asked(key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
        y, weights = multi_head(query, key, value, inside, asked, products)
        return y.transpose(1, 0) if swapped else y, weights


class TransformerEncoderLayer(torch.nn.TransformerEncoderLayer):
    """Torch's, some of whose parts are simulated: calls them, and never torch's fused operator."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,  # noqa: FBT002  # as torch's
    ) -> Tensor:
        """Attention and two linear layers, with what stands between."""
        masks = (src_mask, src_key_padding_mask)
        if self.norm_first:
            x = src + self._sa_block(self.norm1(src), *masks, is_causal=is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(src + self._sa_block(src, *masks, is_causal=is_causal))
        return self.norm2(x + self._ff_block(x))


class TransformerEncoder(torch.nn.TransformerEncoder):
    """Torch's, some of whose parts are simulated: never makes nested tensors, which these do not read."""

    @property
    def use_nested_tensor(self) -> bool:
        """Whether torch may make them."""
        return False

    @use_nested_tensor.setter
    def use_nested_tensor(self, value: bool) -> None:
        """Keep torch's own answer."""
        self.__dict__["use_nested_tensor"] = value


OPENED: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.TransformerEncoderLayer: TransformerEncoderLayer,
    torch.nn.TransformerEncoder: TransformerEncoder,
}
"""Each torch container that may pass its parts by, and the one that calls them."""


def open_containers(model: torch.nn.Module) -> None:
    """Have what holds simulated layers call them; torch's own classes would read their parameters instead."""
    for part in list(model.modules()):
        if isinstance(part, Simulated) or not any(isinstance(inner, Simulated) for inner in part.modules()):
            continue
        if type(part) is torch.nn.MultiheadAttention:
            become_twin(part, Scheme())
        elif type(part) in OPENED:
            part.__class__ = OPENED[type(part)]


TWINS[torch.nn.MultiheadAttention] = MultiheadAttention
TWINS[NonDynamicallyQuantizableLinear] = OutProjection
