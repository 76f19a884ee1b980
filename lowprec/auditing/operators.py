"""What kind of work each of torch's operators does."""

from typing import Any

import torch
from torch import Tensor

CAST, PRODUCT, UNKNOWN = "cast", "product", "unknown"

_MOVES = frozenset({
    "clone", "copy_", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "zeros",
    "zeros_like", "new_zeros", "zero_", "ones", "ones_like", "new_ones", "full", "full_like", "new_full",
    "fill", "fill_", "scalar_tensor", "arange", "lift_fresh", "cat", "stack", "index", "index_select",
    "gather", "embedding", "slice_backward", "select_backward", "as_strided_", "constant_pad_nd", "roll",
    "flip", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "repeat", "tril", "triu", "_unsafe_view", "_reshape_copy",
    "_reshape_alias", "scatter", "index_put_", "index_put", "index_copy", "masked_select",
    "masked_scatter", "set_", "resize_", "unfold", "diagonal_backward", "slice_scatter", "select_scatter",
    "contiguous", "sort", "topk", "_local_scalar_dense", "eye", "linspace", "unsafe_split", "unsafe_chunk",
    "split_with_sizes",
})  # fmt: skip
"""Operators that put numbers elsewhere, or write constants."""

_COPIES = frozenset({
    "clone", "copy_", "_to_copy", "constant_pad_nd", "roll", "flip", "repeat", "_unsafe_view",
    "_reshape_copy", "index_select", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d",
})  # fmt: skip
"""Operators whose results are numbers of their first operand, or zeros: what was rounded stays so."""

_WORDS = (
    ("softmax", "softmax"), ("norm", "normalization"), ("pool", "pooling"), ("loss", "loss"),
    ("dropout", "elementwise"), ("_thnn_fused", "elementwise"),
    ("embedding_dense_backward", "reduction"), ("index_add", "reduction"), ("scatter_add", "reduction"),
    ("cumsum", "reduction"), ("cumprod", "reduction"),
)  # fmt: skip
"""Parts of names, and the kinds that they tell."""
_VECTOR_NORMS = ("norm", "linalg_vector_norm", "_foreach_norm")


def arguments_of(operator: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by the names of the operator's schema."""
    named = zip((argument.name for argument in operator._schema.arguments), args, strict=False)
    return {**dict(named), **(kwargs or {})}


def name_of(operator: Any) -> str:
    """An operator's name; outside of torch's own namespace with the namespace."""
    name = operator._schema.name if hasattr(operator, "_schema") else f"torch.{operator.name()}"
    return str(name).removeprefix("aten::")


def readable(name: str) -> str:
    """An operator's name without what torch needs to tell its own apart; a backward's is its forward's."""
    name = name.strip("_").removesuffix("_data").removesuffix("_backward")
    return name.removeprefix("native_").removesuffix("_with_indices").removesuffix("_legit")


def kind_of(operator: Any, name: str, results: list[Tensor]) -> str | None:
    """What an operator does to numbers that are no integers; None if it only moves them."""
    if name.startswith("lowprec::"):
        return CAST if name.startswith(("lowprec::quantize", "lowprec::decode")) else None
    if name.startswith("prim"):
        return None
    if "::" in name or not hasattr(operator, "_schema"):
        return UNKNOWN
    if not any(result.is_floating_point() or result.is_complex() for result in results):
        return None
    if name == "_to_copy":
        return "conversion"
    if name in _MOVES or _is_view(operator):
        return None
    return _kind_by_name(operator, name)


def _kind_by_name(operator: Any, name: str) -> str | None:
    """The kind of an operator that computes."""
    if torch.Tag.reduction in operator.tags or name in _VECTOR_NORMS:
        return "reduction"
    drawn = torch.Tag.nondeterministic_seeded in operator.tags
    for word, kind in _WORDS:
        if word in name and not (drawn and word == "norm"):  # normal_ draws
            return kind
    if torch.Tag.pointwise in operator.tags:
        return "elementwise"
    return None if drawn else "other"


def _is_view(operator: Any) -> bool:
    """Whether the result is memory of an operand."""
    aliases = [r.alias_info for r in operator._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def keeps_values(name: str) -> bool:
    """Whether what an operator gives was among what it got."""
    return name in _COPIES


def cast_of(arguments: dict[str, Any]) -> str:
    """How a cast is called: its format, and its rounding where that is not to nearest even."""
    rounding = arguments.get("rounding", "nearest_even")
    return str(arguments["format"]) + ("" if rounding == "nearest_even" else f" {rounding}")
