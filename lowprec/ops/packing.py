"""Codes without the gaps between them: the public pack and unpack, and their torch operators.

``pack(codes, bits)``
    bytes.
``unpack(packed, bits, shape)``
    codes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats.format import check_integer
from lowprec.kernels import packing
from lowprec.ops.codes import _check_place

WIDEST = 16
"""The most bits that are packed."""

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define("pack(Tensor codes, int bits) -> Tensor")
_library.define("unpack(Tensor packed, int bits, SymInt[] shape) -> Tensor")


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes one after the other without gaps, as files and hardware keep them.

    The bits are those of a little-endian number: the first code is in the lowest bits of the first
    byte, and a code may go on in the next byte. What is left of the last byte is zero. What codes mean
    does not matter: those of NaN and infinities are codes like any other.

    Args:
        codes: Unsigned integers below ``2**bits``, of any shape and strides, in row-major order: uint8
            for up to 8 bits, uint16 for more, as encode gives them.
        bits: Width of a code, 1 to 16.

    Returns:
        ``ceil(codes.numel() * bits / 8)`` bytes: a uint8 tensor of one dimension.

    Raises:
        TypeError: If codes are no tensor or have another dtype, or bits is no integer.
        ValueError: If bits lies outside 1 to 16, or a code does not fit. On a CUDA device that is waited
            for.

    Example:
        >>> codes = torch.tensor([1, 2, 15], dtype=torch.uint8)
        >>> pack(codes, 4)
        tensor([33, 15], dtype=torch.uint8)
        >>> unpack(pack(codes, 4), 4, 3)
        tensor([ 1,  2, 15], dtype=torch.uint8)
    """
    check_integer("bits", bits, 1, WIDEST)
    _check(codes, "codes", _code_dtype(bits), f" for {bits} bits")
    packed: Tensor = torch.ops.lowprec.pack(codes, bits)
    return packed


def unpack(packed: Tensor, bits: int, shape: int | Sequence[int]) -> Tensor:
    """The codes that pack was given.

    Args:
        packed: uint8, of one dimension.
        bits: Width of a code, 1 to 16.
        shape: Of the codes, or how many there are.

    Returns:
        Codes of that shape, in uint8 for up to 8 bits, in uint16 for more.

    Raises:
        TypeError: If packed is no uint8 tensor, or bits or shape are no integers.
        ValueError: If bits lies outside 1 to 16, a size is negative, the bytes are too few or too many
            for the shape, or the last byte does not end in zeros. On a CUDA device that is waited for.

    Example:
        >>> unpack(torch.tensor([33, 15], dtype=torch.uint8), 4, (3, 1)).tolist()
        [[1], [2], [15]]
    """
    check_integer("bits", bits, 1, WIDEST)
    _check(packed, "packed", torch.uint8, "")
    codes: Tensor = torch.ops.lowprec.unpack(packed, bits, _sizes(shape))
    return codes


def packed_size(count: int, bits: int) -> int:
    """The bytes of so many packed codes."""
    return (count * bits + 7) // 8


def _code_dtype(bits: int) -> torch.dtype:
    """What encode gives for that width."""
    return torch.uint8 if bits <= 8 else torch.uint16


def _check(given: Tensor, name: str, dtype: torch.dtype, condition: str) -> None:
    """Refuse what is no tensor of that dtype in this memory."""
    _check_place(name, given)
    if given.dtype != dtype:
        raise type_error(name, f"be a tensor of {dtype}{condition}", given.dtype)


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple of sizes."""
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int | torch.SymInt):
            raise type_error("shape", "be an integer or a sequence of integers", shape)
        if size < 0:
            raise value_error("shape", "hold sizes of at least 0", shape)
    return sizes


def _check_length(packed: Tensor, bits: int, count: int) -> None:
    """Refuse what is not the bytes of so many codes."""
    wanted = packed_size(count, bits)
    if packed.dim() != 1 or packed.numel() != wanted:
        must = f"have {wanted} bytes in one dimension, for {count} codes of {bits} bits"
        raise value_error("packed", must, tuple(packed.shape))


def _pack(codes: Tensor, bits: int) -> Tensor:
    """The kernel of pack."""
    codes = codes.contiguous()
    packed = codes.new_empty(packed_size(codes.numel(), bits), dtype=torch.uint8)
    if not _pack_into(codes, packed, bits):
        raise value_error("codes", f"lie below 2^{bits}", int(codes.to(torch.int32).max()))
    return packed


def _pack_into(codes: Tensor, packed: Tensor, bits: int) -> bool:
    """Call the kernel of the tensors' device; whether every code fits."""
    if codes.is_cuda:
        from lowprec.ops.cuda.packing import pack

        return pack(codes, packed, bits)
    threads = torch.get_num_threads()
    return packing.pack(codes.data_ptr(), packed.data_ptr(), bits, codes.numel(), threads)


def _unpack(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """The kernel of unpack."""
    count = math.prod(shape)
    _check_length(packed, bits, count)
    packed = packed.contiguous()
    if (used := count * bits % 8) and int(packed[-1]) >> used:
        must = f"have a last byte whose upper {8 - used} bits are zero, as they belong to no code"
        raise value_error("packed", must, f"{int(packed[-1]):08b}")
    codes = packed.new_empty(tuple(shape), dtype=_code_dtype(bits))
    if packed.is_cuda:
        from lowprec.ops.cuda.packing import unpack

        unpack(packed, codes, bits)
        return codes
    packing.unpack(packed.data_ptr(), codes.data_ptr(), bits, count, torch.get_num_threads())
    return codes


for _device in ("CPU", "CUDA"):
    _library.impl("pack", _pack, _device)
    _library.impl("unpack", _unpack, _device)


@torch.library.register_fake("lowprec::pack", lib=_library)
def _(codes: Tensor, bits: int) -> Tensor:
    return codes.new_empty((packed_size(codes.numel(), bits),), dtype=torch.uint8)


@torch.library.register_fake("lowprec::unpack", lib=_library)
def _(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    _check_length(packed, bits, math.prod(shape))
    return packed.new_empty(tuple(shape), dtype=_code_dtype(bits))
