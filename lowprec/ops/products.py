"""The operator of matrix products in an arithmetic, ``torch.ops.lowprec.product``.

``product(a, b, bias, seed, arithmetic, stream, bias_step)``
    the products of two batches of matrices, (batch, i, k) and (batch, k, j), and a bias or None: to
    element n of the result its element n // bias_step is added, counted on from the beginning again. An
    arithmetic travels as the string that ``make_sums`` makes. Where chunks are blocks, what blocks.py says
    of them goes with it: their size, formats of elements and scales; a and b are values, elements times
    scales. There is no gradient: the two backward products are other products, in arithmetics of their own.
"""

import json
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec.arithmetic import Arithmetic, format_of
from lowprec.errors import value_error
from lowprec.formats import FixedPoint
from lowprec.kernels.dispatch import count_overflows, multiply
from lowprec.kernels.operands import Operand
from lowprec.ops.blocks import Blocks, over_scales
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.constant import constant
from lowprec.ops.observation import observe_product, product_owner

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define(
    "product(Tensor a, Tensor b, Tensor? bias, Tensor? seed, str arithmetic, int stream=0, "
    "int bias_step=1, str roles='', int size=0, str[]? elements=None, Tensor[]? scales=None, "
    "str[]? formats=None) -> Tensor"
)


class Sums(NamedTuple):
    """An arithmetic as the operator takes it."""

    key: str
    is_stochastic: bool
    unmoved: str = ""
    """The arithmetic as it was before a loss scale moved it."""
    formats: tuple[str, ...] = ()
    """Of which the operands are known to be values, each of one of them; nothing for what is not known."""


def make_sums(arithmetic: Arithmetic, shift: int = 0, formats: tuple[str, ...] = ()) -> Sums:
    """An arithmetic, moved by 2**shift, as a string, which a compiled graph holds as a constant."""
    return Sums(_key(arithmetic, shift), arithmetic.is_stochastic, _key(arithmetic, 0), formats)


@constant
def _key(arithmetic: Arithmetic, shift: int) -> str:
    """The string."""
    return json.dumps(arithmetic.shifted(shift).to_value())


@constant
def check_result(sums: Sums, dtype: torch.dtype) -> None:
    """Refuse a carrier that does not hold what the last sum gives."""
    arithmetic_of(sums.unmoved or sums.key).final.check_carrier(CARRIERS[dtype])


@constant
def _is_held(key: str, dtype: torch.dtype) -> bool:
    """Whether a carrier holds the last sum of an arithmetic that a loss scale may have moved."""
    return _held(key, dtype)


@lru_cache(maxsize=1024)
def _held(key: str, dtype: torch.dtype) -> bool:
    """The same, looked up: of the two, torch.compile would see through this one."""
    try:
        arithmetic_of(key).final.check_carrier(CARRIERS[dtype])
    except ValueError:
        return False
    return True


@constant
def _format_of(dtype: torch.dtype) -> str:
    """The format whose values are a dtype's."""
    return str(format_of(CARRIERS[dtype]))


def product(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    sums: Sums,
    stream: int,
    bias_step: int = 1,
    roles: str = "",
    blocks: Blocks | None = None,
) -> Tensor:
    """The operator; the seed is dropped where no rounding needs it, and ``roles`` are for who looks on.

    What a loss scale has moved out of the carrier's range is computed in float64, and rounded to the carrier
    once: as a gradient is when its loss scale is divided away.
    """
    if a.dtype != torch.float64 and not _is_held(sums.key, a.dtype):
        wide = None if bias is None else bias.double()
        own = sums._replace(formats=sums.formats or (_format_of(a.dtype),))
        y = product(a.double(), b.double(), wide, seed, own, stream, bias_step, roles, blocks)
        return y.to(a.dtype)
    words = seed if sums.is_stochastic else None
    known, of_blocks = list(sums.formats) or None, blocks or (0, None, None)
    y = torch.ops.lowprec.product(a, b, bias, words, sums.key, stream, bias_step, roles, *of_blocks, known)
    if not torch.compiler.is_compiling() and product_owner():
        _count(a, b, words, sums, stream, roles)
    return y


def _count(a: Tensor, b: Tensor, seed: Tensor | None, sums: Sums, stream: int, roles: str) -> None:
    """Tell who looks on how many sums overflow in fixed point, which nothing in their result shows."""
    own = arithmetic_of(sums.key)
    fixed = any(isinstance(format, FixedPoint) for format in (own.accumulate, own.chunk_accumulate))
    if a.is_meta or not fixed:
        return  # counting sums takes many times as long as adding them
    if a.is_cuda:
        from lowprec.ops.cuda.counting import count_overflows as count_there

        found = count_there(a, b, own, seed, stream)
    else:
        number, threads = 0 if seed is None else int(seed), torch.get_num_threads()
        found = count_overflows(
            operand_of(a), operand_of(b), own, seed=number, stream=stream, threads=threads
        )
    if found is not None:
        observe_product(roles, *found)


@lru_cache(maxsize=1024)
def arithmetic_of(key: str) -> Arithmetic:
    """The arithmetic of a key."""
    return Arithmetic.from_value(json.loads(key))


def _check(a: Tensor, b: Tensor, arithmetic: str, elements: object, scales: object) -> None:
    """Refuse what has no product: kernels read memory by these sizes, and scales where there are blocks."""
    if arithmetic_of(arithmetic).in_blocks and (elements is None or scales is None):
        must = "have chunks of so many products where operands have no groups with scales"
        remedy = "Cast both in the scheme of lowprec.functional.matmul."
        raise value_error("arithmetic", must, "chunk 'block'", remedy)
    if a.dim() != 3 or b.dim() != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        must = f"have as many matrices as `a`, {tuple(a.shape)}, with as many rows as those have columns"
        raise value_error("b", must, tuple(b.shape))


def operand_of(x: Tensor) -> Operand:
    """A batch of matrices as kernels take it."""
    batch, rows, columns = x.shape
    strides = x.stride()
    return Operand(
        x.data_ptr(), CARRIERS[x.dtype], (batch, rows, columns), (strides[0], strides[1], strides[2])
    )


def _product(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    arithmetic: str,
    stream: int = 0,
    bias_step: int = 1,
    roles: str = "",
    size: int = 0,
    elements: list[str] | None = None,
    scales: list[Tensor] | None = None,
    formats: list[str] | None = None,
) -> Tensor:
    """The kernel of the tensors' device."""
    _check(a, b, arithmetic, elements, scales)
    for name, other in (("b", b), ("bias", bias), ("seed", seed)):
        if other is not None and other.device != a.device:
            remedy = f"Use {name}.to({str(a.device)!r})."
            raise value_error(name, f"be on the device of `a`, {a.device}", str(other.device), remedy)
    own = arithmetic_of(arithmetic)
    if a.is_cuda:
        from lowprec.ops.cuda import products

        blocks = None if elements is None or scales is None else Blocks(size, elements, scales)
        return products.product(a, b, bias, seed, own, stream, bias_step, formats, blocks)
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    left, right, of_blocks = operand_of(a), operand_of(b), None
    if elements is not None and scales is not None:
        held, of_blocks = over_scales(left, right, Blocks(size, elements, scales))
        left, right = map(operand_of, held)
    multiply(
        left, right, out.data_ptr(), CARRIERS[out.dtype], own,
        bias=None if bias is None else operand_of(bias.expand(1, 1, -1)),
        bias_step=bias_step,
        seed=0 if seed is None or not own.is_stochastic else int(seed),
        stream=stream,
        threads=torch.get_num_threads(),
        scales=of_blocks,
    )  # fmt: skip
    return out


for _device in ("CPU", "CUDA"):
    _library.impl("product", _product, _device)


@torch.library.register_fake("lowprec::product", lib=_library)
def _(
    a: Tensor, b: Tensor, bias: Tensor | None, seed: Tensor | None, arithmetic: str, stream: int = 0,
    bias_step: int = 1, roles: str = "", size: int = 0, elements: Any = None, scales: Any = None,
    formats: Any = None,
) -> Tensor:  # fmt: skip
    _check(a, b, arithmetic, elements, scales)
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])
