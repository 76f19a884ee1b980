"""Which operators of torch are products, of what, and how many multiply-adds each takes."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Arguments = Mapping[str, Any]
"""An operator's arguments, by the names of its schema."""


class Product(NamedTuple):
    """What a call of an operator multiplies."""

    operation: str
    multiply_adds: int
    operands: tuple[tuple[str, Tensor], ...] = ()
    """By role; empty where an operator holds several products, which nothing here could simulate."""


def _of_matrices(left: str, right: str) -> Callable[[Arguments], Product]:
    """Of matrices, or batches of them."""

    def product(a: Arguments) -> Product:
        name = "matrix product" if a[left].dim() < 3 else "batched matrix product"
        columns = a[right].shape[-1] if a[right].dim() > 1 else 1
        return Product(name, a[left].numel() * columns, (("left", a[left]), ("right", a[right])))

    return product


def _convolution(a: Arguments) -> Product:
    """Each weight meets each position of the output, or of the input where it is transposed."""
    x, weight = a["input"], a["weight"]
    padding, stride, dilation = a["padding"], a["stride"], a["dilation"]
    if a.get("transposed"):
        count = _positions(x) * weight.numel()
        return Product("transposed convolution", count, (("input", x), ("weight", weight)))
    sizes = [
        (n + 2 * _at(padding, i) - _at(dilation, i) * (k - 1) - 1) // _at(stride, i) + 1
        for i, (n, k) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True))
    ]
    count = x.shape[0] * math.prod(sizes) * weight.numel()
    return Product("convolution", count, (("input", x), ("weight", weight)))


def _at(values: Any, place: int) -> int:
    """A number for one dimension; one stands for all."""
    return int(values[place] if len(values) > 1 else values[0])


def _positions(x: Tensor) -> int:
    """Images times places in each."""
    return math.prod((x.shape[0], *x.shape[2:]))


def convolution_gradients(a: Arguments) -> list[tuple[str, Product]]:
    """The products that convolution_backward holds: what each is the gradient of, and itself."""
    error, x, weight = a["grad_output"], a["input"], a["weight"]
    transposed = a["transposed"]
    count = _positions(x if transposed else error) * weight.numel()
    name = "transposed convolution" if transposed else "convolution"
    pairs = (("input", ("weight", weight)), ("weight", ("input", x)))
    return [
        (target, Product(name, count, (("error", error), other)))
        for (target, other), wanted in zip(pairs, a["output_mask"][:2], strict=True)
        if wanted
    ]


def _attention(products: int) -> Callable[[Arguments], Product]:
    """Scores and their product with the values; backward computes the scores again and four gradients."""

    def product(a: Arguments) -> Product:
        query, key, value = a["query"], a["key"], a["value"]
        scores = query.numel() // query.shape[-1] * key.shape[-2]
        of_keys, of_values = (1, 1) if products == 2 else (3, 2)
        count = scores * (of_keys * query.shape[-1] + of_values * value.shape[-1])
        return Product("fused attention", count)

    return product


def _encoder_layer(a: Arguments) -> Product:
    """Projections, attention and two linear layers in one."""
    rows, length = a["src"].numel() // a["embed_dim"], a["src"].shape[-2]
    weights = ("qkv_weight", "proj_weight", "ffn_weight_1", "ffn_weight_2")
    count = rows * (sum(a[name].numel() for name in weights) + 2 * length * a["embed_dim"])
    return Product("fused encoder layer", count)


def _attention_layer(a: Arguments) -> Product:
    """Projections and attention in one."""
    rows, length = a["query"].numel() // a["embed_dim"], a["key"].shape[-2]
    count = rows * (a["qkv_weight"].numel() + a["proj_weight"].numel() + 2 * length * a["embed_dim"])
    return Product("fused attention", count)


def _recurrent(weights: tuple[str, ...], times: int) -> Callable[[Arguments], Product]:
    """Every step of every sequence meets every weight; backward twice."""

    def product(a: Arguments) -> Product:
        held = [a[name] for name in weights] or a["weight"]
        matrices = [weight for weight in held if weight.dim() == 2]
        steps = a["input"].numel() // a["input"].shape[-1]
        return Product("fused recurrent layer", times * steps * sum(m.numel() for m in matrices))

    return product


def _trilinear(a: Arguments) -> Product:
    """A term for every place in the space of all three factors."""
    shapes = []
    for number in (1, 2, 3):
        x = a[f"i{number}"]
        for dim in a[f"expand{number}"]:
            x = x.unsqueeze(dim)
        shapes.append(x.shape)
    return Product("bilinear product", math.prod(torch.broadcast_shapes(*shapes)))


PRODUCTS: dict[str, Callable[[Arguments], Product]] = {
    **dict.fromkeys(("mm", "bmm", "_int_mm", "_scaled_mm"), _of_matrices("self", "mat2")),
    **dict.fromkeys(("addmm", "addmm_", "_addmm_activation"), _of_matrices("mat1", "mat2")),
    **dict.fromkeys(("baddbmm", "baddbmm_", "addbmm", "addbmm_"), _of_matrices("batch1", "batch2")),
    "mv": _of_matrices("self", "vec"),
    **dict.fromkeys(("addmv", "addmv_"), _of_matrices("mat", "vec")),
    "dot": _of_matrices("self", "tensor"),
    "vdot": _of_matrices("self", "other"),
    **dict.fromkeys(("convolution", "_convolution"), _convolution),
    "_trilinear": _trilinear,
    **{
        f"_scaled_dot_product_{kind}{ending}": _attention(products)
        for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
        for ending, products in (("", 2), ("_backward", 5))
    },
    "_transformer_encoder_layer_fwd": _encoder_layer,
    "_native_multi_head_attention": _attention_layer,
    "mkldnn_rnn_layer": _recurrent(("weight0", "weight1"), 1),
    "mkldnn_rnn_layer_backward": _recurrent(("weight1", "weight2"), 2),
    "_cudnn_rnn": _recurrent((), 1),
    "_cudnn_rnn_backward": _recurrent((), 2),
}
"""For the name of each operator with products that torch runs as a whole, what it multiplies."""
