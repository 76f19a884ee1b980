"""The operator of matrix products in an arithmetic, ``torch.ops.lowprec.product``.

``product(a, b, bias, seed, arithmetic, stream)``
    the products of two batches of matrices, (batch, i, k) and (batch, k, j), and a bias of (j,) or None;
    an arithmetic travels as the string that ``key_of`` makes. It has no gradient of its own: the two
    backward products are other products, in arithmetics of their own.
"""

import json
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lowprec.arithmetic import Arithmetic
from lowprec.kernels.multiply import multiply
from lowprec.kernels.operands import Operand
from lowprec.ops.library import CARRIERS

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define(
    "product(Tensor a, Tensor b, Tensor? bias, Tensor? seed, str arithmetic, int stream=0) -> Tensor"
)


def key_of(arithmetic: Arithmetic) -> str:
    """An arithmetic as a string, which a compiled graph holds as a constant."""
    return json.dumps(arithmetic.to_value())


@lru_cache(maxsize=1024)
def arithmetic_of(key: str) -> Arithmetic:
    """The arithmetic of a key."""
    return Arithmetic.from_value(json.loads(key))


def _operand(x: Tensor) -> Operand:
    """A batch of matrices as kernels take it."""
    batch, rows, columns = x.shape
    strides = x.stride()
    return Operand(x.data_ptr(), CARRIERS[x.dtype], (batch, rows, columns), (strides[0], strides[1], strides[2]))


def _product(
    a: Tensor, b: Tensor, bias: Tensor | None, seed: Tensor | None, arithmetic: str, stream: int = 0
) -> Tensor:
    """The CPU kernel."""
    own = arithmetic_of(arithmetic)
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    multiply(
        _operand(a), _operand(b), out.data_ptr(), CARRIERS[out.dtype], own,
        bias=None if bias is None else _operand(bias.expand(1, 1, -1)),
        seed=0 if seed is None or not own.is_stochastic else int(seed),
        stream=stream,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return out


_library.impl("product", _product, "CPU")


@torch.library.register_fake("lowprec::product", lib=_library)
def _(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])
