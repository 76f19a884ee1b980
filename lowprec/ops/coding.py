"""The torch operators of codes, in the namespace ``torch.ops.lowprec``; see library.py for the others.

``encode(x, seed, format, rounding, random_bits)``
    codes of the values that quantize gives for the same arguments.
``encode_block(…)``
    the same for block formats: codes, and the scale of each group.
``decode(codes, scales, format, dtype)``
    values; ``scales`` for block formats only.

What only the data or shapes can show is checked here, so that a compiled graph checks it too; other
arguments are checked where users call.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.formats import BlockFloatingPoint, FloatingPoint, Format, GroupedFormat, Scaled, resolve
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.formats.carriers import Carrier
from lowprec.kernels import dispatch
from lowprec.ops.library import CARRIERS

_library = torch.library.Library("lowprec", "FRAGMENT")
_QUANTIZATION = "Tensor x, Tensor? seed, str format, str rounding, int random_bits"
_library.define(f"encode({_QUANTIZATION}) -> Tensor")
_library.define(f"encode_block({_QUANTIZATION}) -> (Tensor, Tensor)")
_library.define("decode(Tensor codes, Tensor? scales, str format, ScalarType dtype) -> Tensor")

_CODES = {8: torch.uint8, 16: torch.uint16, 32: torch.uint32, 64: torch.uint64}
_NAN_SCALE = 0xFF
"""The code of a scale that is NaN."""
_PATTERNS = {2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


def code_dtype(format: Format) -> torch.dtype:
    """The narrowest unsigned dtype that holds a code."""
    return next(dtype for width, dtype in _CODES.items() if format.bits <= width)


def _encode(x: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int) -> Tensor:
    """The CPU kernel of encode."""
    x, parsed = x.contiguous(), resolve(format)
    values = torch.ops.lowprec.quantize_plain(x, seed, format, rounding, random_bits)
    if not parsed.has_nan:
        _refuse_nan(values, format)
    codes = torch.empty(x.shape, dtype=code_dtype(parsed))
    dispatch.encode(values.data_ptr(), codes.data_ptr(), CARRIERS[x.dtype], _name(codes), x.numel(), format)
    return codes


def _encode_block(
    x: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int
) -> tuple[Tensor, Tensor]:
    """The CPU kernel of encode_block."""
    x, parsed = x.contiguous(), resolve(format)
    if not parsed.has_nan:
        _refuse_nan(x, format)
    codes, scales = _parts(x, format)
    dispatch.encode_block(
        x.data_ptr(), codes.data_ptr(), scales.data_ptr(), CARRIERS[x.dtype], _name(codes), x.shape,
        format, rounding, random_bits=random_bits,
        seed=0 if seed is None else seed.item(),  # type: ignore[arg-type]  # int64
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return codes, scales


def _decode(codes: Tensor, scales: Tensor | None, format: str, dtype: torch.dtype) -> Tensor:
    """The CPU kernel of decode."""
    codes, parsed = codes.contiguous(), resolve(format)
    out = torch.empty(codes.shape, dtype=dtype)
    source, target, carrier, name = codes.data_ptr(), out.data_ptr(), CARRIERS[dtype], _name(codes)
    element = parsed.element if isinstance(parsed, Scaled) else parsed
    if isinstance(element, FloatingPoint) and codes.numel():
        largest = int(codes.numpy().max())
        if largest >> parsed.bits:
            raise value_error("codes", f"lie below 2^{parsed.bits} for {format}", largest)
    if isinstance(parsed, Scaled):
        known = _check_grid(scales, parsed, codes.shape).detach().contiguous()
        dispatch.decode_block(source, target, known.view(-1).numpy(), carrier, name, codes.shape, format)
        if (known == _NAN_SCALE).any():
            out[_spread(known == _NAN_SCALE, parsed, codes.shape)] = torch.nan
        return out
    if isinstance(parsed, BlockFloatingPoint):
        patterns = _checked_scales(scales, parsed, codes.shape)
        dispatch.decode_block(source, target, patterns, carrier, name, codes.shape, format)
        return out
    dispatch.encode(source, target, carrier, name, codes.numel(), format, decode=True)
    return out


_library.impl("encode", _encode, "CPU")
_library.impl("encode_block", _encode_block, "CPU")
_library.impl("decode", _decode, "CPU")


@torch.library.register_fake("lowprec::encode", lib=_library)
def _(x: Tensor, seed: Tensor | None, format: str, *_: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=code_dtype(resolve(format)))


@torch.library.register_fake("lowprec::encode_block", lib=_library)
def _(x: Tensor, seed: Tensor | None, format: str, *_: Any) -> tuple[Tensor, Tensor]:
    return _parts(x, format)


@torch.library.register_fake("lowprec::decode", lib=_library)
def _(codes: Tensor, scales: Tensor | None, format: str, dtype: torch.dtype) -> Tensor:
    parsed = resolve(format)
    if isinstance(parsed, GroupedFormat):
        _check_grid(scales, parsed, codes.shape)
    return codes.new_empty(codes.shape, dtype=dtype)


def _refuse_nan(x: Tensor, format: str) -> None:
    """Refuse NaN where it would be lost."""
    if x.isnan().any():
        must = f"hold nothing that becomes NaN: {format} has no code for it"
        raise value_error("x", must, float("nan"), "Replace it first.")


def _name(codes: Tensor) -> str:
    """The dtype of codes as NumPy writes it."""
    return str(codes.dtype).removeprefix("torch.")


def _parts(x: Tensor, format: str) -> tuple[Tensor, Tensor]:
    """Room for the codes and the scales of a block format."""
    parsed = resolve(format)
    codes = x.new_empty(x.shape, dtype=code_dtype(parsed))
    scale = torch.uint8 if isinstance(parsed, Scaled) else x.dtype
    return codes, x.new_empty(_grid(parsed, x.shape), dtype=scale)


def _grid(format: Any, shape: torch.Size) -> tuple[int, ...]:
    """How many groups of a block format there are along each dimension."""
    tiles = format.granularity.tiles(tuple(shape))
    return tuple(-(-size // tile) if size else 0 for size, tile in zip(shape, tiles, strict=True))


def _check_grid(scales: Tensor | None, format: GroupedFormat, shape: torch.Size) -> Tensor:
    """Refuse scales that are not one for each group."""
    if scales is None:
        raise value_error("scales", f"be given for {format}", scales)
    grid = _grid(format, shape)
    if tuple(scales.shape) != grid:
        raise value_error("scales", f"have shape {grid}, one for each group", tuple(scales.shape))
    return scales


def _spread(of_groups: Tensor, format: GroupedFormat, shape: torch.Size) -> Tensor:
    """What is known of groups, for each of their elements."""
    tiles = format.granularity.tiles(tuple(shape))
    for axis, (tile, size) in enumerate(zip(tiles, shape, strict=True)):
        of_groups = of_groups.repeat_interleave(tile, axis).narrow(axis, 0, size)
    return of_groups


def _checked_scales(scales: Tensor | None, format: BlockFloatingPoint, shape: torch.Size) -> Any:
    """The patterns of scales that fit the codes and that the format has."""
    flat = _check_grid(scales, format, shape).detach().contiguous().view(-1)
    carrier = RANGES[CARRIERS[flat.dtype]]
    exponents = _exponents(format, carrier)
    array = flat.view(_PATTERNS[flat.element_size()]).numpy()
    powers = np.array([_power(exponent, carrier) for exponent in exponents], array.dtype)
    wrong = powers[np.searchsorted(powers, array).clip(max=powers.size - 1)] != array
    if wrong.any():
        must = f"be powers of two from 2^{exponents[0]} to 2^{exponents[-1]} for {format}"
        raise value_error("scales", must, flat[int(wrong.argmax())].item())
    return array


def _exponents(format: BlockFloatingPoint, carrier: Carrier) -> range:
    """The exponents that a group can have."""
    lowest, highest = format.lowest_block_exponent, format.highest_block_exponent
    least = carrier.lowest_exponent + format.word_bits - 2
    return range(
        least if lowest is None else max(lowest, least),
        1 + (carrier.highest_exponent if highest is None else min(highest, carrier.highest_exponent)),
    )


def _power(exponent: int, carrier: Carrier) -> int:
    """The pattern of a power of two, without arithmetic that could flush a small one to zero."""
    field = exponent + carrier.highest_exponent
    return field << (carrier.precision - 1) if field > 0 else 1 << (exponent - carrier.lowest_exponent)
