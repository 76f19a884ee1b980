"""Which of torch's functions are which of lowprec.functional's, and which cannot be simulated.

Functions are told by their names, which torch.matmul and Tensor.matmul have in common.
"""

from collections.abc import Callable
from typing import Any, TypedDict

from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from lowprec import functional
from lowprec.errors import value_error
from lowprec.functional.multi_head import multi_head_attention_forward
from lowprec.scheme import Scheme
from lowprec.simulating.einsum import einsum


class Options(TypedDict):
    """What every function gets."""

    scheme: Scheme
    training: bool


def name_of(func: Any) -> str:
    """A function's name; an operator has it with its namespace, if that is not torch's own."""
    if isinstance(func, OpOverload):
        return str(func._schema.name).removeprefix("aten::")
    if isinstance(func, OpOverloadPacket):
        return str(func._qualified_op_name).removeprefix("aten::")
    return str(getattr(func, "__name__", ""))


def _matmul(options: Options, input: Tensor, other: Tensor, *, out: None = None) -> Tensor:
    """Of vectors, matrices and batches of them."""
    return functional.matmul(input, other, **options)


def _reversed_matmul(options: Options, input: Tensor, other: Tensor) -> Tensor:
    """The operator as its right operand has it."""
    return functional.matmul(other, input, **options)


def _mm(options: Options, input: Tensor, mat2: Tensor, *, out: None = None) -> Tensor:
    """Of two matrices."""
    return _product(options, input, mat2, 2, 2)


def _bmm(options: Options, input: Tensor, mat2: Tensor, *, out: None = None) -> Tensor:
    """Of batches of matrices."""
    return functional.bmm(input, mat2, **options)


def _mv(options: Options, input: Tensor, vec: Tensor, *, out: None = None) -> Tensor:
    """Of a matrix and a vector."""
    return _product(options, input, vec, 2, 1)


def _dot(options: Options, input: Tensor, tensor: Tensor, *, out: None = None) -> Tensor:
    """Of two vectors."""
    return _product(options, input, tensor, 1, 1)


def _product(options: Options, left: Tensor, right: Tensor, rows: int, columns: int) -> Tensor:
    """A product of operands that must have so many dimensions."""
    for x, dimensions in ((left, rows), (right, columns)):
        if x.dim() != dimensions:
            raise value_error("input", f"have an operand of {dimensions} dimensions", tuple(x.shape))
    return functional.matmul(left, right, **options)


def _added(input: Tensor, y: Tensor, beta: float, alpha: float) -> Tensor:
    """``beta * input + alpha * y``, of the carrier; nothing of the input where beta is 0, as torch has it."""
    y = y if alpha == 1 else alpha * y
    if beta == 0:
        return y
    added = input.to(y.dtype)
    return (added if beta == 1 else beta * added) + y


def _addmm(
    options: Options,
    input: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: None = None,
) -> Tensor:
    """A product of matrices and what is added; a vector that is added as it is, is a bias."""
    if beta == alpha == 1 and mat2.dim() == 2 and tuple(input.shape) == (mat2.shape[1],):
        return functional.linear(mat1, mat2.t(), input, **options)
    return _added(input, _product(options, mat1, mat2, 2, 2), beta, alpha)


def _addmv(
    options: Options,
    input: Tensor,
    mat: Tensor,
    vec: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: None = None,
) -> Tensor:
    """A product of a matrix and a vector, and what is added."""
    return _added(input, _product(options, mat, vec, 2, 1), beta, alpha)


def _baddbmm(
    options: Options,
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: None = None,
) -> Tensor:
    """Products of batches of matrices, and what is added."""
    return _added(input, functional.bmm(batch1, batch2, **options), beta, alpha)


def _addbmm(
    options: Options,
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: None = None,
) -> Tensor:
    """One product, whose sums go on over the batch, and what is added."""
    rows = batch1.transpose(0, 1).flatten(1)
    return _added(input, _product(options, rows, batch2.flatten(0, 1), 2, 2), beta, alpha)


def _alike(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with torch's own signature."""
    return lambda options, *args, **kwargs: function(*args, **kwargs, **options)


def _multi_head(options: Options, *args: Any, **kwargs: Any) -> Any:
    """The function has a ``training`` of its own, for dropout."""
    return multi_head_attention_forward(
        *args, **kwargs, scheme=options["scheme"], casts_train=options["training"]
    )


SIMULATED: dict[str, Callable[..., Any]] = {
    **{
        name: _alike(getattr(functional, name))
        for name in (
            "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
            "conv_transpose3d", "scaled_dot_product_attention",
        )
    },
    **dict.fromkeys(("matmul", "linalg_matmul", "__matmul__"), _matmul),
    "__rmatmul__": _reversed_matmul,
    "mm": _mm,
    "bmm": _bmm,
    "mv": _mv,
    "dot": _dot,
    "addmm": _addmm,
    "addmv": _addmv,
    "baddbmm": _baddbmm,
    "addbmm": _addbmm,
    "einsum": einsum,
    "multi_head_attention_forward": _multi_head,
}  # fmt: skip
"""For the name of each function of torch what simulates it, given options and torch's arguments."""

IN_PLACE = frozenset({"addmm_", "addmv_", "baddbmm_", "addbmm_", "_addmm_activation_"})
"""Products that are added to what is there."""

WEIGHTED = frozenset({"embedding_bag"})
"""Sums that are products only where they have weights."""

_TWO = "Multiply two at a time with torch.matmul or torch.einsum."
_ATTENTION = "Use torch.nn.functional.scaled_dot_product_attention."
_CELLS = "Write its steps with torch.nn.functional.linear."
_OTHER = "Write it with torch.matmul, or leave it out of the block."

UNREACHED: dict[str, str] = {
    **{
        f"{prefix}{name}{ending}": _CELLS
        for prefix in ("", "quantized_")
        for name in ("rnn_tanh", "rnn_relu", "lstm", "gru")
        for ending in ("", "_cell")
    },
    **dict.fromkeys(("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "miopen_rnn", "_cudnn_rnn"), _CELLS),
    **dict.fromkeys(("bilinear", "_trilinear", "tensordot", "inner"), _TWO),
    **dict.fromkeys(("chain_matmul", "linalg_multi_dot"), _TWO),
    **dict.fromkeys(("vdot", "linalg_vecdot"), "Use torch.dot."),
    **dict.fromkeys(
        (
            "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "flex_attention",
            "_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable",
        ),
        _ATTENTION,
    ),
    **dict.fromkeys(
        (
            "cdist", "_euclidean_dist", "matrix_power", "linalg_matrix_power", "matrix_exp",
            "linalg_matrix_exp", "cov", "corrcoef", "pinverse", "linalg_pinv", "affine_grid",
            "affine_grid_generator", "conv_tbc", "convolution", "_convolution", "convolution_overrideable",
            "mkldnn_convolution", "cudnn_convolution", "cudnn_convolution_transpose",
            "cudnn_convolution_relu", "cudnn_convolution_add_relu",
            "miopen_convolution", "miopen_convolution_transpose", "miopen_depthwise_convolution",
            "miopen_convolution_relu", "miopen_convolution_add_relu", "mkldnn_linear", "linear_cross_entropy",
            "_addmm_activation", "_int_mm", "_scaled_mm", "scaled_mm", "_grouped_mm", "grouped_mm",
            "_scaled_grouped_mm", "scaled_grouped_mm", "smm", "spmm", "dsmm", "hsmm", "saddmm",
            "sspaddmm", "hspmm", "_sparse_mm", "_sparse_addmm", "embedding_bag",
            "sparse_sampled_addmm", "fbgemm_linear_fp16_weight", "fbgemm_linear_fp16_weight_fp32_activation",
            "fbgemm_linear_int8_weight", "fbgemm_linear_int8_weight_fp32_activation",
        ),
        _OTHER,
    ),
}  # fmt: skip
"""For the name of each function of torch with products that nothing here simulates what to do instead."""
